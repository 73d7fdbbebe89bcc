package peers

import (
	"context"
	"encoding/json"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// tinkAdapter encrypts the record as one JSON text, bound to its subject.
type tinkAdapter struct {
	calls func() int64
	aead  tink.AEAD
	ids   []string
}

func newTinkPrimitive() (tink.AEAD, error) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	return aead.New(h)
}

func newTinkAEAD(context.Context) (Adapter, error) {
	primitive, err := newTinkPrimitive()
	if err != nil {
		return nil, err
	}
	return &tinkAdapter{func() int64 { return 0 }, primitive, subjectIDs()}, nil
}

func newTinkEnvelope(context.Context) (Adapter, error) {
	key, err := newKEK()
	if err != nil {
		return nil, err
	}
	return &tinkAdapter{key.KMSCalls, aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), key), subjectIDs()}, nil
}

func (a *tinkAdapter) KMSCalls() int64 { return a.calls() }
func (a *tinkAdapter) Close()          {}

func (a *tinkAdapter) Seal(_ context.Context, subject int, in *Record, out *Stored) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	out.Columns[0], err = a.aead.Encrypt(text, []byte(a.ids[subject]))
	return err
}

func (a *tinkAdapter) Open(_ context.Context, subject int, in *Stored, out *Record) error {
	text, err := a.aead.Decrypt(in.Columns[0], []byte(a.ids[subject]))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, out)
}

// tinkField encrypts each field alone, bound to its subject and column.
type tinkField struct{ tinkAdapter }

var columns = [5]string{"name", "email", "phone", "iban", "note"}

func newTinkEnvelopeField(ctx context.Context) (Adapter, error) {
	a, err := newTinkEnvelope(ctx)
	if err != nil {
		return nil, err
	}
	return &tinkField{*a.(*tinkAdapter)}, nil //nolint:forcetypeassert // made one line above
}

func (a *tinkField) Seal(_ context.Context, subject int, in *Record, out *Stored) (err error) {
	for i, v := range in.fields() {
		if out.Columns[i], err = a.aead.Encrypt([]byte(*v), []byte(a.ids[subject]+"/"+columns[i])); err != nil {
			return err
		}
	}
	return nil
}

func (a *tinkField) Open(_ context.Context, subject int, in *Stored, out *Record) error {
	for i, v := range out.fields() {
		text, err := a.aead.Decrypt(in.Columns[i], []byte(a.ids[subject]+"/"+columns[i]))
		if err != nil {
			return err
		}
		*v = string(text)
	}
	return nil
}
