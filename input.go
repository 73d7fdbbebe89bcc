package lethe

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"reflect"
)

// Input is a field of an API request: it decodes plaintext from JSON or text,
// never shows or encodes it, and hands it on as a Secret. A sealed value is
// refused with ErrSealed (in its JSON form; its text form looks like any other text).
type Input[T any] struct {
	_      [0]func()
	secret Secret[T]
}

// Secret returns what was decoded: Plain, NULL for JSON null, Unset if nothing was.
func (in Input[T]) Secret() Secret[T] { return in.secret }

// IsZero reports whether nothing was decoded.
func (in Input[T]) IsZero() bool { return in.secret.IsZero() }

// String returns "[input]".
func (in Input[T]) String() string { return "[input]" }

// GoString returns "[input]".
func (in Input[T]) GoString() string { return "[input]" }

// Format writes "[input]", for every verb.
func (in Input[T]) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[input]") }

// LogValue returns "[input]".
func (in Input[T]) LogValue() slog.Value { return slog.StringValue("[input]") }

// MarshalJSON fails with ErrNotSealed.
func (in Input[T]) MarshalJSON() ([]byte, error) { return nil, errInputEncoded() }

// MarshalText fails with ErrNotSealed.
func (in Input[T]) MarshalText() ([]byte, error) { return nil, errInputEncoded() }

func errInputEncoded() error {
	return fmt.Errorf("%w: an Input is only decoded; put Input.Secret into a row and Seal it", ErrNotSealed)
}

// UnmarshalJSON decodes a T; the error for one that does not fit carries nothing of it.
func (in *Input[T]) UnmarshalJSON(data []byte) error {
	if _, null, err := parseJSON(data, isCell); null {
		in.secret = Null[T]()
		return nil
	} else if err == nil {
		return fmt.Errorf("%w: an input must be plaintext", ErrSealed)
	}
	var v T
	if !quietly(func() error { return json.Unmarshal(data, &v) }) {
		return fmt.Errorf("lethe: the input is not a JSON %T", v)
	}
	in.secret = Of(v)
	return nil
}

// UnmarshalText decodes a T from a form field, a query or XML: text as it is,
// other types as JSON writes them, with or without its quotes.
func (in *Input[T]) UnmarshalText(text []byte) error {
	var v T
	if !decodeText(reflect.ValueOf(&v).Elem(), text) {
		return fmt.Errorf("lethe: the input is not a %T", v)
	}
	in.secret = Of(v)
	return nil
}

func decodeText(v reflect.Value, text []byte) bool {
	u, takesText := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr())
	_, takesJSON := reflect.TypeAssert[json.Unmarshaler](v.Addr())
	isString := v.Kind() == reflect.String
	switch {
	case takesText:
		return quietly(func() error { return u.UnmarshalText(bytes.Clone(text)) })
	case isString && !takesJSON:
		v.SetString(string(text))
		return true
	case codecOf(v.Type()) == codecBytes && !isString && !takesJSON:
		v.SetBytes(append([]byte{}, text...))
		return true
	}
	// To encoding/json null fits everything, and "x" is x.
	if !isString && string(bytes.TrimSpace(text)) != "null" && quietly(func() error { return json.Unmarshal(text, v.Addr().Interface()) }) {
		return true
	}
	v.SetZero()
	quoted, err := json.Marshal(string(text))
	return err == nil && quietly(func() error { return json.Unmarshal(quoted, v.Addr().Interface()) })
}

// quietly runs a user's unmarshaler, whose errors and panics may hold the value.
func quietly(decode func() error) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return decode() == nil
}
