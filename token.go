package lethe

import (
	"bytes"
	"crypto/subtle"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"reflect"
)

// Token is a string whose column holds a token in its place, made by the
// tokenizer that its tag names:
//
//	Card    lethe.Token `lethe:"card,token=pan,mask=last4"`
//	CardKey int64       `lethe:"version=card"`
//
// [Options].Tokenizers has the tokenizer. [Sealer.Seal] makes the token of a value
// set with [TokenOf] and [Sealer.Open] turns it back; Reveal, Masked, Status and
// all printing are those of a Secret. The plain field tagged version=, an int64,
// int32, int or uint32, has the version of the key beside the token; every
// tokenizer but a random one needs it.
//
// A token is bound to the record's subject, the record and the field, unless its
// tokenizer makes tokens to be joined on. It is not bound to the row. Rewrap leaves
// tokens alone; Reseal makes those of opened fields anew under the newest key.
//
// Reseal, or sealing another value, makes a new token. A random one made before
// stays in its store, and turns back, until it expires or Random.Delete ends it.
//
// The codecs move the token. Unlike a Secret's they cannot tell a token from
// plaintext: Scan and UnmarshalText take any text for a token. Take input in an
// Input field and set the Token with TokenOf. In JSON a Token is {"$token":"…"},
// and nothing else is taken for one.
type Token struct{ tokenSecret }

type tokenSecret = Secret[string]

var tokenType = reflect.TypeFor[Token]()

// TokenOf returns a Token to be made of v, which must not be empty.
func TokenOf(v string) Token { return Token{Of(v)} }

// NullToken returns a Token that is NULL.
func NullToken() Token { return Token{Null[string]()} }

// Token returns the token itself, "" for NULL, or ErrNotSealed.
func (t Token) Token() (string, error) {
	b, _, err := t.s.ciphertext()
	return string(b), err
}

// Equal is Secret.Equal: equal values where both are readable, or equal tokens.
func (t Token) Equal(other Token) bool {
	if t.s != nil && other.s != nil && (t.s.readable() != nil || other.s.readable() != nil) && len(t.s.sealed) > 0 {
		return subtle.ConstantTimeCompare(t.s.sealed, other.s.sealed) == 1
	}
	return t.tokenSecret.Equal(other.tokenSecret)
}

// Value implements driver.Valuer: the token as a string, nil for NULL, or ErrNotSealed.
func (t Token) Value() (driver.Value, error) {
	b, null, err := t.s.ciphertext()
	if err != nil || null {
		return nil, err
	}
	return string(b), nil
}

// Scan implements sql.Scanner for text columns.
func (t *Token) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		t.s = nullState
		return nil
	case []byte:
		return t.take(v)
	case string:
		return t.take([]byte(v))
	}
	return fmt.Errorf("lethe: cannot scan a %T: the column of a Token must hold text", src)
}

func (t *Token) take(token []byte) error {
	if len(token) == 0 {
		return fmt.Errorf("%w: an empty text is no token; NULL is no value", ErrNotSealed)
	}
	t.s = sealedState(token)
	return nil
}

// MarshalText implements encoding.TextMarshaler: the token, "" for NULL, or ErrNotSealed.
func (t Token) MarshalText() ([]byte, error) { return t.MarshalBinary() }

// UnmarshalText implements encoding.TextUnmarshaler. It takes any text for a token.
func (t *Token) UnmarshalText(text []byte) error { return t.UnmarshalBinary(text) }

// MarshalBinary implements encoding.BinaryMarshaler: as MarshalText.
func (t Token) MarshalBinary() ([]byte, error) {
	b, _, err := t.s.ciphertext()
	return bytes.Clone(b), err
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler: as UnmarshalText.
func (t *Token) UnmarshalBinary(data []byte) error {
	if len(data) == 0 {
		t.s = nullState
		return nil
	}
	return t.take(data)
}

const tokenMember = "$token"

// MarshalJSON implements json.Marshaler: {"$token":"…"}, null for NULL, or ErrNotSealed.
func (t Token) MarshalJSON() ([]byte, error) {
	b, null, err := t.s.ciphertext()
	if err != nil {
		return nil, err
	}
	if null {
		return []byte("null"), nil
	}
	return json.Marshal(map[string]string{tokenMember: string(b)})
}

// UnmarshalJSON implements json.Unmarshaler. It refuses plaintext with ErrNotSealed.
func (t *Token) UnmarshalJSON(data []byte) error {
	if string(bytes.Trim(data, " \t\r\n")) == "null" {
		t.s = nullState
		return nil
	}
	text, err := parseMember(data, tokenMember)
	if err != nil {
		return err
	}
	return t.take([]byte(text))
}
