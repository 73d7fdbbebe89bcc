package peers

import (
	"context"
	"encoding/json"

	"gocloud.dev/secrets"
	"gocloud.dev/secrets/localsecrets"
)

// goCloud encrypts the record as one JSON text. With a keeper of a cloud each
// call is one of its KMS, which is what is counted; the local one is a NaCl
// secretbox. A keeper takes no associated data.
type goCloud struct {
	keeper *secrets.Keeper
	calls  int64
}

func newGoCloud(context.Context) (Adapter, error) {
	return &goCloud{keeper: localsecrets.NewKeeper([32]byte(randomBytes(32)))}, nil
}

func (a *goCloud) KMSCalls() int64 { return a.calls }
func (a *goCloud) Close()          { _ = a.keeper.Close() }

func (a *goCloud) Seal(ctx context.Context, _ int, in *Record, out *Stored) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	a.calls++
	out.Columns[0], err = a.keeper.Encrypt(ctx, text)
	return err
}

func (a *goCloud) Open(ctx context.Context, _ int, in *Stored, out *Record) error {
	a.calls++
	text, err := a.keeper.Decrypt(ctx, in.Columns[0])
	if err != nil {
		return err
	}
	return json.Unmarshal(text, out)
}

// goCloudField encrypts each field alone.
type goCloudField struct{ goCloud }

func newGoCloudField(context.Context) (Adapter, error) {
	return &goCloudField{goCloud{keeper: localsecrets.NewKeeper([32]byte(randomBytes(32)))}}, nil
}

func (a *goCloudField) Seal(ctx context.Context, _ int, in *Record, out *Stored) (err error) {
	for i, v := range in.fields() {
		a.calls++
		if out.Columns[i], err = a.keeper.Encrypt(ctx, []byte(*v)); err != nil {
			return err
		}
	}
	return nil
}

func (a *goCloudField) Open(ctx context.Context, _ int, in *Stored, out *Record) error {
	for i, v := range out.fields() {
		a.calls++
		text, err := a.keeper.Decrypt(ctx, in.Columns[i])
		if err != nil {
			return err
		}
		*v = string(text)
	}
	return nil
}
