package peers

import (
	"context"

	gormcrypto "github.com/pkasila/gorm-crypto"
	"github.com/pkasila/gorm-crypto/algorithms"
	"github.com/pkasila/gorm-crypto/serialization"
)

// gormCrypto encrypts each field alone, as JSON, with a key the package holds for
// the whole process.
type gormCrypto struct{ noKMS }

func newGORMCrypto(context.Context) (Adapter, error) {
	algorithm, err := algorithms.NewAES256GCM(randomBytes(32))
	if err != nil {
		return nil, err
	}
	gormcrypto.Init(algorithm, serialization.NewJSON())
	return gormCrypto{}, nil
}

func (gormCrypto) Seal(_ context.Context, _ int, in *Record, out *Stored) error {
	for i, v := range in.fields() {
		stored, err := gormcrypto.EncryptedValue{Raw: *v}.Value()
		if err != nil {
			return err
		}
		var ok bool
		if out.Columns[i], ok = stored.([]byte); !ok {
			return errType
		}
	}
	return nil
}

func (gormCrypto) Open(_ context.Context, _ int, in *Stored, out *Record) error {
	for i, v := range out.fields() {
		var value gormcrypto.EncryptedValue
		if err := value.Scan(in.Columns[i]); err != nil {
			return err
		}
		text, ok := value.Raw.(string)
		if !ok {
			return errType
		}
		*v = text
	}
	return nil
}
