package lethe

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
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
	if json.Unmarshal(data, &v) != nil {
		return fmt.Errorf("lethe: the input is not a JSON %T", v)
	}
	in.secret = Of(v)
	return nil
}

// UnmarshalText decodes a T from a form field, a query or XML.
func (in *Input[T]) UnmarshalText(text []byte) error {
	var v T
	switch p := any(&v).(type) {
	case *string:
		*p = string(text)
	case *[]byte:
		*p = append([]byte{}, text...)
	default:
		quoted, err := json.Marshal(string(text))
		if err != nil || json.Unmarshal(text, &v) != nil && json.Unmarshal(quoted, &v) != nil {
			return fmt.Errorf("lethe: the input is not a %T", v)
		}
	}
	in.secret = Of(v)
	return nil
}
