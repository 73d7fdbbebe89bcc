package lethe

import (
	"encoding"
	"encoding/hex"
	"fmt"
	"reflect"
	"strconv"
	"unsafe"
)

// identity reads a subject or row id: strings as they are, integers in decimal,
// 16-byte arrays as a lower-case UUID, other types by MarshalText. The zero
// value is "", which no subject or row may have.
func identity(v reflect.Value) (string, error) {
	t := v.Type()
	if t.Implements(textMarshal) {
		if v.IsZero() {
			return "", nil
		}
		m, _ := reflect.TypeAssert[encoding.TextMarshaler](v)
		text, err := m.MarshalText()
		if err != nil {
			return "", fmt.Errorf("%w: MarshalText of %s failed", ErrNoSubject, t)
		}
		return string(text), nil
	}
	switch {
	case v.IsZero():
		return "", nil
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10), nil
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10), nil
	case v.Kind() == reflect.Array:
		var b [16]byte
		for i := range b {
			b[i] = byte(v.Index(i).Uint())
		}
		h := hex.EncodeToString(b[:])
		return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:], nil
	}
	return v.String(), nil
}

// read returns the identity a row of type t has for r; "" behind a nil pointer.
func (r *rolePlan) read(t reflect.Type, row unsafe.Pointer) (string, error) {
	if r.text != nil {
		if text := r.text.text(row); text != nil {
			return *text, nil
		}
		return "", nil
	}
	v, ok := r.path.find(reflect.NewAt(t, row).Elem())
	if !ok {
		return "", nil
	}
	return identity(v)
}
