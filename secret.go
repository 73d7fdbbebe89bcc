package lethe

import (
	"bytes"
	"crypto/subtle"
	"database/sql/driver"
	"fmt"
	"io"
	"log/slog"
	"reflect"
)

// Secret is a field that is sealed before it leaves the process.
//
// Set it with [Of] or [Null]; [Sealer.Seal] seals it, [Sealer.Open] opens it and
// Reveal hands out the value. Printing it in any way shows "[sealed]" or
// "[forgotten]". Its codecs move ciphertext only: they fail with ErrNotSealed for
// a value that was not sealed, and refuse to decode plaintext (see [Input]).
//
// T is a string, []byte, bool, integer, float, time.Time or a type based on one;
// a type with encoding.BinaryMarshaler or TextMarshaler and their opposites; or,
// with the tag option json, anything encoding/json round-trips.
//
// The zero Secret is Unset: on a new row Seal makes it NULL; on a loaded row it
// means the column was not selected, and its codecs fail, so that a full save
// cannot wipe the column. Secrets do not compare with ==; use Equal.
type Secret[T any] struct {
	_ [0]func()
	s *state
}

// Of returns a Secret holding v. Byte slices are copied. A value that cannot be
// encoded is reported by Seal and Reveal.
func Of[T any](v T) Secret[T] {
	s := &state{status: StatusPlain}
	if text, ok := any(&v).(*string); ok {
		s.codec, s.value = codecBytes, hideString(*text)
		return Secret[T]{s: s}
	}
	var b []byte
	s.codec, b, s.err = encodeValue(&v)
	s.value = hideBytes(b)
	return Secret[T]{s: s}
}

// Null returns a Secret that is NULL.
func Null[T any]() Secret[T] { return Secret[T]{s: nullGiven} }

// Status returns where the Secret stands.
func (s Secret[T]) Status() Status { return s.s.statusOf() }

// IsZero reports whether the Secret is Unset; encoding/json's omitzero asks it.
func (s Secret[T]) IsZero() bool { return s.s == nil }

// Reveal returns the value of a Secret that is Plain or Open. Otherwise the
// error is ErrNull, ErrSealed (open the row first), ErrDenied, ErrSuspended (the
// field is Denied then too), ErrForgotten, the reason a field Failed, or
// ErrNotSealed for one that is Unset.
func (s Secret[T]) Reveal() (T, error) {
	var zero T
	if err := s.s.readable(); err != nil {
		return zero, err
	}
	return decodeValue[T](s.s.codec, s.s.value.bytes())
}

func (s *state) readable() error {
	switch s.statusOf() {
	case StatusPlain:
		return s.err
	case StatusOpen:
		return nil
	case StatusNull:
		return ErrNull
	case StatusSealed:
		return fmt.Errorf("%w: Open the row before Reveal", ErrSealed)
	case StatusDenied:
		if s.err != nil {
			return s.err
		}
		return ErrDenied
	case StatusForgotten:
		return ErrForgotten
	case StatusFailed:
		return s.err
	case StatusUnset:
	}
	return fmt.Errorf("%w: the field was never set, or its column was not selected", ErrNotSealed)
}

// Masked returns the value through the mask its tag declares ("full" if none, or
// before the row was ever sealed). It is "" for NULL, and "[sealed]",
// "[denied]" or "[forgotten]" where there is nothing to mask.
func (s Secret[T]) Masked() string {
	switch s.s.statusOf() {
	case StatusPlain, StatusOpen:
		if s.s.err != nil {
			return "[sealed]"
		}
		return s.s.mask.apply(s.s.codec, s.s.value.bytes())
	case StatusNull:
		return ""
	case StatusDenied:
		if s.s.mask == noMask {
			return "[denied]"
		}
		return string(s.s.value.bytes())
	case StatusForgotten:
		return "[forgotten]"
	case StatusUnset, StatusSealed, StatusFailed:
	}
	return "[sealed]"
}

// Equal reports whether both are NULL, both Unset, both readable (Plain or Open)
// with the same value, compared in constant time, or both hold the same ciphertext.
func (s Secret[T]) Equal(other Secret[T]) bool {
	a, b := s.s, other.s
	if a == b {
		return true
	}
	if a == nil || b == nil {
		return false
	}
	if a.status == StatusNull || b.status == StatusNull {
		return a.status == b.status
	}
	if a.readable() == nil && b.readable() == nil {
		return a.codec == b.codec && subtle.ConstantTimeCompare(a.value.bytes(), b.value.bytes()) == 1
	}
	return len(a.sealed) > 0 && bytes.Equal(a.sealed, b.sealed)
}

// String returns "[sealed]" or "[forgotten]".
func (s Secret[T]) String() string { return s.s.redacted() }

// GoString returns what String does.
func (s Secret[T]) GoString() string { return s.s.redacted() }

// Format writes what String returns, for every verb.
func (s Secret[T]) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.s.redacted()) }

// LogValue returns what String does.
func (s Secret[T]) LogValue() slog.Value { return slog.StringValue(s.s.redacted()) }

// ciphertext returns the bytes to store; null for NULL.
func (s *state) ciphertext() (sealed []byte, null bool, err error) {
	switch {
	case s == nil:
		return nil, false, fmt.Errorf("%w: the field is unset; Seal a new row, or select the column before you save the whole row", ErrNotSealed)
	case s.status == StatusNull:
		return nil, true, nil
	case s.status == StatusPlain:
		return nil, false, fmt.Errorf("%w: call Seal before you write the row", ErrNotSealed)
	case s.fromPlain():
		return nil, false, fmt.Errorf("%w: the value is in the plaintext column; Seal the row, or write its other columns alone", ErrNotSealed)
	}
	return s.sealed, false, nil
}

func sealedState(b []byte) *state {
	return &state{status: StatusSealed, sealed: bytes.Clone(b)}
}

// Value implements driver.Valuer: the ciphertext as []byte, nil for NULL, or ErrNotSealed.
func (s Secret[T]) Value() (driver.Value, error) { return sqlValue(s.s.ciphertext()) }

// Scan implements sql.Scanner for binary columns and for text columns in base64url.
func (s *Secret[T]) Scan(src any) error {
	b, null, err := scanSealed(src, isCell)
	return s.take(b, null, err)
}

func (s *Secret[T]) take(b []byte, null bool, err error) error {
	if err != nil {
		return err
	}
	s.s = nullState
	if !null {
		s.s = sealedState(b)
	}
	return nil
}

// MarshalText implements encoding.TextMarshaler: base64url, "" for NULL, or ErrNotSealed.
func (s Secret[T]) MarshalText() ([]byte, error) { return textForm(s.s.ciphertext()) }

// UnmarshalText implements encoding.TextUnmarshaler. It refuses plaintext with ErrNotSealed.
func (s *Secret[T]) UnmarshalText(text []byte) error {
	b, null, err := parseText(text, isCell)
	return s.take(b, null, err)
}

// MarshalBinary implements encoding.BinaryMarshaler: the ciphertext, nothing for NULL, or ErrNotSealed.
func (s Secret[T]) MarshalBinary() ([]byte, error) {
	b, _, err := s.s.ciphertext()
	return bytes.Clone(b), err
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. It refuses plaintext with ErrNotSealed.
func (s *Secret[T]) UnmarshalBinary(data []byte) error {
	b, null, err := parseBinary(data, isCell)
	return s.take(b, null, err)
}

// MarshalJSON implements json.Marshaler: {"$lethe":"…"}, null for NULL, or ErrNotSealed.
func (s Secret[T]) MarshalJSON() ([]byte, error) { return jsonForm(s.s.ciphertext()) }

// UnmarshalJSON implements json.Unmarshaler. It refuses plaintext with ErrNotSealed.
func (s *Secret[T]) UnmarshalJSON(data []byte) error {
	b, null, err := parseJSON(data, isCell)
	return s.take(b, null, err)
}

// secret is what a plan needs of a *Secret of any type.
type secret interface {
	valueType() reflect.Type
	encode(v any) (codec uint8, b []byte, err error)
}

func (s *Secret[T]) valueType() reflect.Type { return reflect.TypeFor[T]() }

// encode encodes v as a T: v is a T, or text where T is text or parses it.
func (s *Secret[T]) encode(v any) (uint8, []byte, error) {
	if t, ok := v.(T); ok {
		return encodeValue(&t)
	}
	want, got := reflect.TypeFor[T](), reflect.TypeOf(v)
	if got == nil || !isText(got) {
		return 0, nil, fmt.Errorf("lethe: a %s field cannot hold a %T", want, v)
	}
	codec := codecOf(want)
	switch {
	case want.Kind() == reflect.String, codec == codecBytes && got.ConvertibleTo(want):
		t, _ := reflect.TypeAssert[T](reflect.ValueOf(v).Convert(want))
		return encodeValue(&t)
	case codec == codecText && got.ConvertibleTo(bytesType):
		var t T
		text, _ := reflect.TypeAssert[[]byte](reflect.ValueOf(v).Convert(bytesType))
		if !decodeText(reflect.ValueOf(&t).Elem(), text) {
			return 0, nil, fmt.Errorf("lethe: the text is not a %s", want)
		}
		return encodeValue(&t)
	}
	return 0, nil, fmt.Errorf("lethe: a %s field cannot hold a %T", want, v)
}

var bytesType = reflect.TypeFor[[]byte]()

func isText(t reflect.Type) bool {
	return t.Kind() == reflect.String || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}
