package lethe

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"unicode/utf8"
)

// read decodes a document in the form that Marshal writes, white space and the
// order of its members apart: every member known, by its exact name, and there
// once at most. What encoding/json makes of that is beyond doubt, so the result
// is the same, but sooner. Anything else, wrong or only unusual, is not ok: the
// row and the members are then undefined, and encoding/json decides.
func (s *shadow) read(data []byte, doc reflect.Value, members []member) (header []byte, ok bool) {
	r := reader{rest: skipSpace(data), members: members, room: make([]byte, 0, base64url.DecodedLen(len(data)))}
	if !r.object(s, doc, true) || len(skipSpace(r.rest)) > 0 {
		return nil, false
	}
	return r.header, true
}

type reader struct {
	rest    []byte
	members []member
	header  []byte
	room    []byte // for all sealed bytes
}

// take takes a byte and the white space behind it.
func (r *reader) take(c byte) bool {
	if len(r.rest) == 0 || r.rest[0] != c {
		return false
	}
	r.rest = skipSpace(r.rest[1:])
	return true
}

// object reads into dst, which is zero.
func (r *reader) object(s *shadow, dst reflect.Value, outer bool) bool {
	if !r.take('{') {
		return false
	}
	if r.take('}') {
		return true
	}
	var few [32]bool
	seen := few[:]
	if len(s.fields) > len(seen) {
		seen = make([]bool, len(s.fields))
	}
	for next := 0; ; next++ {
		name, ok := r.text()
		if !ok || !r.take(':') {
			return false
		}
		switch at, known := s.find(next, name); {
		case known && !seen[at]:
			seen[at], next = true, at+1
			ok = r.field(&s.fields[at], dst)
		case outer && string(name) == keysMember && r.header == nil:
			r.header, ok = r.sealed(isHeader)
		default:
			return false
		}
		if !ok {
			return false
		}
		r.rest = skipSpace(r.rest)
		if !r.take(',') {
			return r.take('}')
		}
	}
}

// find returns the field of a name, which mostly is the one after the last.
func (s *shadow) find(next int, name []byte) (int, bool) {
	if next < len(s.fields) && s.fields[next].name == string(name) {
		return next, true
	}
	at, ok := s.names[string(name)]
	return at, ok
}

// text takes a string that stands for itself: UTF-8 without escapes.
func (r *reader) text() ([]byte, bool) {
	if len(r.rest) == 0 || r.rest[0] != '"' {
		return nil, false
	}
	end := bytes.IndexByte(r.rest[1:], '"') + 1
	if end == 0 {
		return nil, false
	}
	text, ascii := r.rest[1:end], true
	for _, c := range text {
		if c < ' ' || c == '\\' {
			return nil, false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if !ascii && !utf8.Valid(text) {
		return nil, false
	}
	r.rest = skipSpace(r.rest[end+1:])
	return text, true
}

func (r *reader) null() bool {
	rest, ok := bytes.CutPrefix(r.rest, []byte("null"))
	if ok {
		r.rest = rest
	}
	return ok
}

func (r *reader) sealed(is check) ([]byte, bool) {
	text, rest, ok := cutSealed(r.rest)
	if !ok {
		return nil, false
	}
	r.rest = rest
	start := len(r.room)
	room, err := base64url.AppendDecode(r.room, text)
	b := room[start:len(room):len(room)]
	if err != nil || !is(b) || base64url.EncodedLen(len(b)) != len(text) { // longer: with line breaks, which decode to nothing
		return nil, false
	}
	r.room = room
	return b, true
}

func (r *reader) field(f *shadowField, dst reflect.Value) bool {
	v, ok := f.from.find(dst)
	switch {
	case !ok:
		return false
	case f.sealed >= 0:
		m := &r.members[f.sealed]
		if m.null = r.null(); !m.null {
			m.sealed, ok = r.sealed(isCell)
		}
		return ok
	case f.nested != nil:
		if v.Kind() == reflect.Pointer {
			if r.null() {
				return true
			}
			v.Set(reflect.New(v.Type().Elem()))
			v = v.Elem()
		}
		return r.object(f.nested, v, false)
	case f.simple && v.Kind() == reflect.String:
		if text, ok := r.text(); ok {
			v.SetString(string(text))
			return true
		}
	}
	value, ok := r.value()
	if !ok || f.quoted {
		return false
	}
	if f.simple && setSimple(v, value) {
		return true
	}
	return json.Unmarshal(value, v.Addr().Interface()) == nil
}

// value takes a value, of whose grammar it only knows where it ends.
func (r *reader) value() ([]byte, bool) {
	depth, quoted := 0, false
	for i := 0; i < len(r.rest); i++ {
		switch c := r.rest[i]; {
		case quoted:
			switch c {
			case '\\':
				i++
			case '"':
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			depth--
		case depth == 0 && (c == ',' || c == '}'):
			value := r.rest[:i]
			r.rest = r.rest[i:]
			return value, true
		}
	}
	return nil, false
}

// setSimple sets a bool or an integer that is written the one way it can be.
func setSimple(v reflect.Value, text []byte) bool {
	text = bytes.TrimRight(text, " \t\r\n")
	switch {
	case v.Kind() == reflect.Bool && (string(text) == "true" || string(text) == "false"):
		v.SetBool(text[0] == 't')
		return true
	case v.CanInt():
		n, err := strconv.ParseInt(string(text), 10, v.Type().Bits())
		if err != nil || strconv.FormatInt(n, 10) != string(text) {
			return false
		}
		v.SetInt(n)
		return true
	case v.CanUint():
		n, err := strconv.ParseUint(string(text), 10, v.Type().Bits())
		if err != nil || strconv.FormatUint(n, 10) != string(text) {
			return false
		}
		v.SetUint(n)
		return true
	}
	return false
}
