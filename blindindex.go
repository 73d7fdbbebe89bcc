package lethe

import (
	"bytes"
	"database/sql/driver"
	"fmt"
	"io"
	"log/slog"
)

// BlindIndex finds rows by the value of a sealed field without reading it: a
// keyed hash of the normalised value, cut to the declared bits (8 to 256, 32 by
// default) and preceded by the version of its key (2 bytes). Seal computes it;
// [Sealer.Query] gives the values to search for.
//
// Rows with equal values have equal indexes, which whoever reads the table can
// see; fewer bits make unequal values collide too, which hides more and makes
// [Query.Match] drop more. It is NULL when the field is.
type BlindIndex struct {
	_    [0]func()
	b    []byte // never written to
	null bool
}

// IsZero reports whether the index was never computed, or its column not selected.
func (x BlindIndex) IsZero() bool { return len(x.b) == 0 && !x.null }

// Equal reports whether both hold the same value.
func (x BlindIndex) Equal(other BlindIndex) bool {
	return x.null == other.null && bytes.Equal(x.b, other.b)
}

// Bytes returns a copy of the stored value; nil for NULL.
func (x BlindIndex) Bytes() []byte { return bytes.Clone(x.b) }

// String returns "[index]".
func (x BlindIndex) String() string { return "[index]" }

// GoString returns "[index]".
func (x BlindIndex) GoString() string { return "[index]" }

// Format writes "[index]", for every verb.
func (x BlindIndex) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[index]") }

// LogValue returns "[index]".
func (x BlindIndex) LogValue() slog.Value { return slog.StringValue("[index]") }

func (x BlindIndex) stored() ([]byte, bool, error) {
	if x.IsZero() {
		return nil, false, fmt.Errorf("%w: the blind index was not computed; Seal a new row, or select the column before you save the whole row", ErrNotSealed)
	}
	return x.b, x.null, nil
}

func (x *BlindIndex) take(b []byte, null bool, err error) error {
	if err != nil {
		return err
	}
	x.b, x.null = bytes.Clone(b), null
	if null {
		x.b = nil
	}
	return nil
}

// Value implements driver.Valuer: the index as []byte, nil for NULL, or ErrNotSealed.
func (x BlindIndex) Value() (driver.Value, error) { return sqlValue(x.stored()) }

// Scan implements sql.Scanner. Text columns hold base64url.
func (x *BlindIndex) Scan(src any) error { return x.take(scanSealed(src, isIndex)) }

// MarshalText implements encoding.TextMarshaler: base64url, "" for NULL, or ErrNotSealed.
func (x BlindIndex) MarshalText() ([]byte, error) { return textForm(x.stored()) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (x *BlindIndex) UnmarshalText(text []byte) error { return x.take(parseText(text, isIndex)) }

// MarshalBinary implements encoding.BinaryMarshaler: the index, nothing for NULL, or ErrNotSealed.
func (x BlindIndex) MarshalBinary() ([]byte, error) {
	b, _, err := x.stored()
	return bytes.Clone(b), err
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (x *BlindIndex) UnmarshalBinary(data []byte) error { return x.take(parseBinary(data, isIndex)) }

// MarshalJSON implements json.Marshaler: {"$lethe":"…"}, null for NULL, or ErrNotSealed.
func (x BlindIndex) MarshalJSON() ([]byte, error) { return jsonForm(x.stored()) }

// UnmarshalJSON implements json.Unmarshaler.
func (x *BlindIndex) UnmarshalJSON(data []byte) error { return x.take(parseJSON(data, isIndex)) }
