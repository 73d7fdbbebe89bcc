package lethe

import (
	"crypto/subtle"
	"reflect"
	"time"
	"unsafe"
)

// plainPlan is a plaintext column that a migration leaves beside a Secret. Only
// rows of a type that has one pay for the reflection here.
type plainPlan struct {
	path  path
	at    place
	label string
	field int          // in plan.fields
	typ   reflect.Type // *T or sql.Null[T]
	value reflect.Type // T, the Secret's
}

// column returns the column of a row; only of a row whose Secret is there.
func (c *plainPlan) column(row unsafe.Pointer) reflect.Value {
	return reflect.NewAt(c.typ, c.at.in(row)).Elem()
}

func (c *plainPlan) isNull(row unsafe.Pointer) bool {
	v := c.column(row)
	if c.typ.Kind() == reflect.Pointer {
		return v.IsNil()
	}
	return !v.Field(1).Bool()
}

// load returns the column as a Secret that was set with Of, or nil for NULL.
func (c *plainPlan) load(row unsafe.Pointer) *state {
	if c.isNull(row) {
		return nil
	}
	v := c.column(row)
	if c.typ.Kind() == reflect.Pointer {
		v = v.Elem()
	} else {
		v = v.Field(0)
	}
	st := &state{status: StatusPlain}
	var b []byte
	st.codec, b, st.err = encodeReflect(v)
	st.value = hideBytes(b)
	return st
}

// null is what the column holds for NULL.
func (c *plainPlan) null() reflect.Value { return reflect.Zero(c.typ) }

// made returns what the column holds for an encoded value.
func (c *plainPlan) made(codec uint8, b []byte) (reflect.Value, error) {
	v := reflect.New(c.value)
	if err := decodeReflect(v.Elem(), codec, b); err != nil {
		return reflect.Value{}, err
	}
	if c.typ.Kind() == reflect.Pointer {
		return v.Convert(c.typ), nil
	}
	out := reflect.New(c.typ).Elem()
	out.Field(0).Set(v.Elem())
	out.Field(1).SetBool(true)
	return out, nil
}

// sameValue reports whether two states hold one value. Times are compared as
// instants, to the microsecond: databases move them to other zones, and round them.
func sameValue(a, b *state) bool {
	if a.codec != b.codec {
		return false
	}
	if a.codec == codecTime {
		t, ok := parseTime(a.value.bytes())
		u, also := parseTime(b.value.bytes())
		return ok && also && t.Sub(u).Abs() < time.Microsecond
	}
	return subtle.ConstantTimeCompare(a.value.bytes(), b.value.bytes()) == 1
}
