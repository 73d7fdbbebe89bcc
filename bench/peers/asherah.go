package peers

import (
	"context"
	"encoding/json"
	"sync/atomic"

	"github.com/godaddy/asherah/go/appencryption"
	"github.com/godaddy/asherah/go/appencryption/pkg/crypto/aead"
	"github.com/godaddy/asherah/go/appencryption/pkg/kms"
	"github.com/godaddy/asherah/go/appencryption/pkg/persistence"
)

// countingKMS counts the calls of Asherah to its KMS.
type countingKMS struct {
	*kms.StaticKMS

	calls atomic.Int64
}

func (k *countingKMS) EncryptKey(ctx context.Context, key []byte) ([]byte, error) {
	k.calls.Add(1)
	return k.StaticKMS.EncryptKey(ctx, key)
}

func (k *countingKMS) DecryptKey(ctx context.Context, key []byte) ([]byte, error) {
	k.calls.Add(1)
	return k.StaticKMS.DecryptKey(ctx, key)
}

// asherah encrypts the record as one JSON text in a session of its subject, whose
// key is one of the intermediate keys; what is stored is the data row record as
// JSON, as its documentation stores it.
type asherah struct {
	kms     *countingKMS
	factory *appencryption.SessionFactory
	ids     []string
}

func newAsherah(ctx context.Context) (Adapter, error) {
	crypto := aead.NewAES256GCM()
	static, err := kms.NewStatic(string(randomBytes(32)), crypto)
	if err != nil {
		return nil, err
	}
	policy := appencryption.NewCryptoPolicy(
		appencryption.WithSessionCache(), appencryption.WithSessionCacheMaxSize(2*Subjects),
		appencryption.WithSharedIntermediateKeyCache(2*Subjects))
	a := &asherah{kms: &countingKMS{StaticKMS: static}, ids: subjectIDs()}
	a.factory = appencryption.NewSessionFactory(&appencryption.Config{Policy: policy, Product: "lethe", Service: "peers"},
		persistence.NewMemoryMetastore(), a.kms, crypto)
	var stored Stored
	for i := range a.ids {
		if err := a.Seal(ctx, i, &Sample, &stored); err != nil {
			a.Close()
			return nil, err
		}
	}
	return a, nil
}

func (a *asherah) KMSCalls() int64 { return a.kms.calls.Load() }

func (a *asherah) Close() {
	_ = a.factory.Close()
	a.kms.Close()
}

func (a *asherah) Seal(ctx context.Context, subject int, in *Record, out *Stored) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	session, err := a.factory.GetSession(a.ids[subject])
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }()
	record, err := session.Encrypt(ctx, text)
	if err != nil {
		return err
	}
	out.Columns[0], err = json.Marshal(record)
	return err
}

func (a *asherah) Open(ctx context.Context, subject int, in *Stored, out *Record) error {
	var record appencryption.DataRowRecord
	if err := json.Unmarshal(in.Columns[0], &record); err != nil {
		return err
	}
	session, err := a.factory.GetSession(a.ids[subject])
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }()
	text, err := session.Decrypt(ctx, record)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, out)
}
