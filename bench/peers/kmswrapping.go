package peers

import (
	"context"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/v2/aead"
	"github.com/hashicorp/go-kms-wrapping/v2/extras/structwrapping"
)

// wrappedRow has the ciphertexts as bytes, which is what a row stores.
type wrappedRow struct {
	Name    string `wrapping:"pt,name"`
	NameCT  []byte `wrapping:"ct,name"`
	Email   string `wrapping:"pt,email"`
	EmailCT []byte `wrapping:"ct,email"`
	Phone   string `wrapping:"pt,phone"`
	PhoneCT []byte `wrapping:"ct,phone"`
	IBAN    string `wrapping:"pt,iban"`
	IBANCT  []byte `wrapping:"ct,iban"`
	Note    string `wrapping:"pt,note"`
	NoteCT  []byte `wrapping:"ct,note"`
}

// countingWrapper counts what a wrapper of a cloud would ask its KMS.
type countingWrapper struct {
	*aead.Wrapper

	calls int64
}

func (w *countingWrapper) Encrypt(ctx context.Context, plaintext []byte, options ...wrapping.Option) (*wrapping.BlobInfo, error) {
	w.calls++
	return w.Wrapper.Encrypt(ctx, plaintext, options...)
}

func (w *countingWrapper) Decrypt(ctx context.Context, blob *wrapping.BlobInfo, options ...wrapping.Option) ([]byte, error) {
	w.calls++
	return w.Wrapper.Decrypt(ctx, blob, options...)
}

type structWrapping struct {
	wrapper countingWrapper
	ids     []string
}

func newStructWrapping(ctx context.Context) (Adapter, error) {
	a := &structWrapping{wrapper: countingWrapper{Wrapper: aead.NewWrapper()}, ids: subjectIDs()}
	if _, err := a.wrapper.SetConfig(ctx, aead.WithAeadType(wrapping.AeadTypeAesGcm), aead.WithKey(randomBytes(32)), wrapping.WithKeyId("peers")); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *structWrapping) KMSCalls() int64 { return a.wrapper.calls }
func (a *structWrapping) Close()          {}

func (a *structWrapping) Seal(ctx context.Context, subject int, in *Record, out *Stored) error {
	row := wrappedRow{Name: in.Name, Email: in.Email, Phone: in.Phone, IBAN: in.IBAN, Note: in.Note}
	if err := structwrapping.WrapStruct(ctx, &a.wrapper, &row, wrapping.WithAad([]byte(a.ids[subject]))); err != nil {
		return err
	}
	out.Columns = [6][]byte{row.NameCT, row.EmailCT, row.PhoneCT, row.IBANCT, row.NoteCT}
	return nil
}

func (a *structWrapping) Open(ctx context.Context, subject int, in *Stored, out *Record) error {
	row := wrappedRow{NameCT: in.Columns[0], EmailCT: in.Columns[1], PhoneCT: in.Columns[2], IBANCT: in.Columns[3], NoteCT: in.Columns[4]}
	if err := structwrapping.UnwrapStruct(ctx, &a.wrapper, &row, wrapping.WithAad([]byte(a.ids[subject]))); err != nil {
		return err
	}
	*out = Record{row.Name, row.Email, row.Phone, row.IBAN, row.Note}
	return nil
}
