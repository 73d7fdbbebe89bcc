package envelope

import (
	"encoding/hex"
	"errors"
)

var errIDText = errors.New("envelope: an identifier is lower-case hexadecimal of its full length")

// decodeID fills id from lower-case hexadecimal, which has one form only.
func decodeID(id, text []byte) error {
	b, err := hex.AppendDecode(nil, text)
	if err != nil || len(b) != len(id) || string(hex.AppendEncode(nil, b)) != string(text) {
		return errIDText
	}
	copy(id, b)
	return nil
}

// MarshalText implements encoding.TextMarshaler: 32 lower-case hexadecimal digits.
func (id StoreID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It takes what MarshalText wrote only.
func (id *StoreID) UnmarshalText(text []byte) error { return decodeID(id[:], text) }

// MarshalText implements encoding.TextMarshaler: 24 lower-case hexadecimal digits.
func (id KeyID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It takes what MarshalText wrote only.
func (id *KeyID) UnmarshalText(text []byte) error { return decodeID(id[:], text) }
