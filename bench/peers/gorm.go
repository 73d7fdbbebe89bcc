package peers

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"reflect"
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"
	"gorm.io/gorm/schema"
)

// gormRow is a model whose fields have the type of a serializer of GORM: it is
// encrypted on its way to the database and decrypted on its way back.
type gormRow struct {
	ID    string
	Name  string `gorm:"serializer:peers"`
	Email string `gorm:"serializer:peers"`
	Phone string `gorm:"serializer:peers"`
	IBAN  string `gorm:"serializer:peers"`
	Note  string `gorm:"serializer:peers"`
}

// tinkSerializer is what users of GORM write for such fields: AEAD of Tink, bound
// to the column and the row's key.
type tinkSerializer struct{ aead tink.AEAD }

func (s tinkSerializer) binding(ctx context.Context, field *schema.Field, row reflect.Value) []byte {
	id, _ := field.Schema.PrioritizedPrimaryField.ValueOf(ctx, row)
	text, _ := id.(string)
	return []byte(text + "/" + field.DBName)
}

func (s tinkSerializer) Value(ctx context.Context, field *schema.Field, row reflect.Value, value any) (any, error) {
	text, ok := value.(string)
	if !ok {
		return nil, errType
	}
	return s.aead.Encrypt([]byte(text), s.binding(ctx, field, row))
}

func (s tinkSerializer) Scan(ctx context.Context, field *schema.Field, row reflect.Value, value any) error {
	sealed, ok := value.([]byte)
	if !ok {
		return errType
	}
	text, err := s.aead.Decrypt(sealed, s.binding(ctx, field, row))
	if err != nil {
		return err
	}
	field.ReflectValueOf(ctx, row).SetString(string(text))
	return nil
}

// gormAdapter runs the serializer as GORM does when it builds a statement and
// when it scans a row: through Field.ValueOf, and a value of the field's pool
// given to Field.Set.
type gormAdapter struct {
	noKMS

	fields [5]*schema.Field
	ids    []string
}

func newGORM(context.Context) (Adapter, error) {
	aead, err := newTinkPrimitive()
	if err != nil {
		return nil, err
	}
	schema.RegisterSerializer("peers", tinkSerializer{aead})
	model, err := schema.Parse(&gormRow{}, &sync.Map{}, schema.NamingStrategy{})
	if err != nil {
		return nil, err
	}
	a := &gormAdapter{ids: subjectIDs()}
	for i, name := range [5]string{"Name", "Email", "Phone", "IBAN", "Note"} {
		a.fields[i] = model.LookUpField(name)
	}
	return a, nil
}

func (a *gormAdapter) Seal(ctx context.Context, subject int, in *Record, out *Stored) error {
	row := gormRow{a.ids[subject], in.Name, in.Email, in.Phone, in.IBAN, in.Note}
	model := reflect.ValueOf(&row).Elem()
	for i, field := range a.fields {
		value, _ := field.ValueOf(ctx, model)
		valuer, ok := value.(driver.Valuer)
		if !ok {
			return errType
		}
		stored, err := valuer.Value()
		if err != nil {
			return err
		}
		if out.Columns[i], ok = stored.([]byte); !ok {
			return errType
		}
	}
	return nil
}

func (a *gormAdapter) Open(ctx context.Context, subject int, in *Stored, out *Record) error {
	row := gormRow{ID: a.ids[subject]}
	model := reflect.ValueOf(&row).Elem()
	for i, field := range a.fields {
		value := field.NewValuePool.Get()
		scanner, ok := value.(sql.Scanner)
		if !ok {
			return errType
		}
		if err := scanner.Scan(in.Columns[i]); err != nil {
			return err
		}
		if err := field.Set(ctx, model, value); err != nil {
			return err
		}
		field.NewValuePool.Put(value)
	}
	*out = Record{row.Name, row.Email, row.Phone, row.IBAN, row.Note}
	return nil
}
