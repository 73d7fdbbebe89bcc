package lethe

import (
	"bytes"
	"database/sql/driver"
	"encoding"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// sealedMember is the only member of the JSON object that holds sealed bytes.
const sealedMember = "$lethe"

var base64url = base64.RawURLEncoding.Strict()

// Text makes a Secret, Keys or BlindIndex a parameter for a text column: its
// base64url form, or NULL. Scan reads text and binary columns alike.
func Text(v encoding.TextMarshaler) driver.Valuer { return textValuer{v} }

type textValuer struct{ v encoding.TextMarshaler }

func (t textValuer) Value() (driver.Value, error) {
	b, err := t.v.MarshalText()
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return string(b), nil
}

// check tells stored bytes of one of our types from anything else. None of them
// starts with a byte that can start their text form.
type check func(b []byte) bool

func isCell(b []byte) bool   { return len(b) >= 1+12+16 && b[0]>>4 == 1 }
func isHeader(b []byte) bool { return len(b) >= 110 && b[0] == 1 }
func isIndex(b []byte) bool  { return len(b) >= 3 && len(b) <= 34 && b[0] < ' ' }

var errPlaintext = fmt.Errorf("%w: the stored value is not a sealed one, or of a newer format; take plaintext input in an Input field and seal it", ErrNotSealed)

func sqlValue(b []byte, null bool, err error) (driver.Value, error) {
	if err != nil || null {
		return nil, err
	}
	return bytes.Clone(b), nil
}

func textForm(b []byte, null bool, err error) ([]byte, error) {
	if err != nil || null {
		return nil, err
	}
	return base64url.AppendEncode(nil, b), nil
}

func jsonForm(b []byte, null bool, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	if null {
		return []byte("null"), nil
	}
	return appendSealed(make([]byte, 0, sealedLen(b)), b), nil
}

func sealedLen(b []byte) int { return len(sealedMember) + 7 + base64url.EncodedLen(len(b)) }

func appendSealed(dst, b []byte) []byte {
	dst = append(dst, `{"`+sealedMember+`":"`...)
	dst = base64url.AppendEncode(dst, b)
	return append(dst, `"}`...)
}

func scanSealed(src any, ok check) (b []byte, null bool, err error) {
	switch v := src.(type) {
	case nil:
		return nil, true, nil
	case []byte:
		if ok(v) {
			return v, false, nil
		}
		return parseText(v, ok)
	case string:
		if ok([]byte(v)) {
			return []byte(v), false, nil
		}
		return parseText([]byte(v), ok)
	}
	return nil, false, fmt.Errorf("lethe: cannot scan a %T: the column must hold bytes or text", src)
}

func parseBinary(b []byte, ok check) ([]byte, bool, error) {
	if len(b) == 0 {
		return nil, true, nil
	}
	if !ok(b) {
		return nil, false, errPlaintext
	}
	return b, false, nil
}

func parseText(text []byte, ok check) ([]byte, bool, error) {
	if len(text) == 0 {
		return nil, true, nil
	}
	if rest, is := bytes.CutPrefix(text, []byte(`\x`)); is { // how PostgreSQL writes bytes into text
		if b, err := hex.AppendDecode(nil, rest); err == nil && ok(b) {
			return b, false, nil
		}
	}
	return parseBase64(text, ok)
}

func parseBase64(text []byte, ok check) ([]byte, bool, error) {
	b, err := base64url.AppendDecode(nil, text) // skips line breaks, strict or not
	if err != nil || !ok(b) || bytes.IndexByte(text, '\r') >= 0 || bytes.IndexByte(text, '\n') >= 0 {
		return nil, false, errPlaintext
	}
	return b, false, nil
}

func parseJSON(data []byte, ok check) ([]byte, bool, error) {
	data = bytes.Trim(data, " \t\r\n")
	switch {
	case string(data) == "null":
		return nil, true, nil
	case len(data) == 0 || data[0] != '{':
		return nil, false, errPlaintext
	case bytes.IndexByte(data, '\\') >= 0:
		text, err := parseMember(data, sealedMember)
		if err != nil {
			return nil, false, err
		}
		return parseBase64([]byte(text), ok)
	}
	text, rest, is := cutSealed(data)
	if !is || len(rest) > 0 {
		return nil, false, errPlaintext
	}
	return parseBase64(text, ok)
}

// cutSealed takes {"$lethe":"text"} off the front of JSON, where nothing in it
// is escaped. The text is not checked.
func cutSealed(data []byte) (text, rest []byte, is bool) {
	rest = data
	for _, want := range [...]string{"{", `"` + sealedMember + `"`, ":", `"`} {
		if rest, is = bytes.CutPrefix(rest, []byte(want)); !is {
			return nil, data, false
		}
		if want != `"` {
			rest = skipSpace(rest)
		}
	}
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return nil, data, false
	}
	text, rest = rest[:end], skipSpace(rest[end+1:])
	if len(rest) == 0 || rest[0] != '}' {
		return nil, data, false
	}
	return text, rest[1:], true
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\t' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// parseMember reads a JSON object that has a string as its only member: by
// tokens, since Unmarshal would take a member that is named twice.
func parseMember(data []byte, member string) (text string, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	for i, want := range []json.Token{json.Delim('{'), member, nil, json.Delim('}')} {
		got, err := dec.Token()
		if s, is := got.(string); i == 2 && is && s != "" {
			text = s
		} else if err != nil || i == 2 || got != want {
			return "", errPlaintext
		}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return "", errPlaintext
	}
	return text, nil
}
