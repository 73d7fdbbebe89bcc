package lethe

import (
	"bytes"
	"database/sql/driver"
	"fmt"
	"io"
	"log/slog"
)

// Keys is a row's wrapped data keys: 110 bytes, and 107 more for every further
// group or purpose. Store it beside the row (BLOB, BYTEA, or text), and write it
// back together with the fields whenever Seal, Rewrap or Reseal ran. To change
// one column, write only that column and guard the UPDATE with the Keys it was
// sealed under: … WHERE id = $1 AND sealed_keys = $2.
//
// The zero Keys is that of a new row; its codecs fail with ErrNotSealed. That of a
// row that Unseal took out of sealing is NULL.
type Keys struct {
	_ [0]func()
	b []byte // never written to; empty and not nil: NULL, by Unseal
}

// IsZero reports whether the row was never sealed, or its Keys were not selected.
func (k Keys) IsZero() bool { return len(k.b) == 0 }

// Equal reports whether both hold the same bytes.
func (k Keys) Equal(other Keys) bool { return bytes.Equal(k.b, other.b) }

// Bytes returns a copy of the header (envelope/FORMAT.md).
func (k Keys) Bytes() []byte { return bytes.Clone(k.b) }

// String returns "[keys]".
func (k Keys) String() string { return "[keys]" }

// GoString returns "[keys]".
func (k Keys) GoString() string { return "[keys]" }

// Format writes "[keys]", for every verb.
func (k Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[keys]") }

// LogValue returns "[keys]".
func (k Keys) LogValue() slog.Value { return slog.StringValue("[keys]") }

func (k Keys) stored() ([]byte, bool, error) {
	if len(k.b) == 0 && k.b != nil {
		return nil, true, nil
	}
	if len(k.b) == 0 {
		return nil, false, fmt.Errorf("%w: the row has no keys; Seal it before you write it", ErrNotSealed)
	}
	return k.b, false, nil
}

func (k *Keys) take(b []byte, null bool, err error) error {
	if err != nil {
		return err
	}
	k.b = nil
	if !null {
		k.b = bytes.Clone(b)
	}
	return nil
}

// Value implements driver.Valuer: the header as []byte, or ErrNotSealed.
func (k Keys) Value() (driver.Value, error) { return sqlValue(k.stored()) }

// Scan implements sql.Scanner. NULL gives the zero Keys.
func (k *Keys) Scan(src any) error { return k.take(scanSealed(src, isHeader)) }

// MarshalText implements encoding.TextMarshaler: base64url, or ErrNotSealed.
func (k Keys) MarshalText() ([]byte, error) { return textForm(k.stored()) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Keys) UnmarshalText(text []byte) error { return k.take(parseText(text, isHeader)) }

// MarshalBinary implements encoding.BinaryMarshaler: the header, or ErrNotSealed.
func (k Keys) MarshalBinary() ([]byte, error) {
	b, _, err := k.stored()
	return bytes.Clone(b), err
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (k *Keys) UnmarshalBinary(data []byte) error { return k.take(parseBinary(data, isHeader)) }

// MarshalJSON implements json.Marshaler: {"$lethe":"…"}, or ErrNotSealed.
func (k Keys) MarshalJSON() ([]byte, error) { return jsonForm(k.stored()) }

// UnmarshalJSON implements json.Unmarshaler.
func (k *Keys) UnmarshalJSON(data []byte) error { return k.take(parseJSON(data, isHeader)) }
