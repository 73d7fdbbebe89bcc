package lethe

import (
	"encoding/json"
	"reflect"
	"strconv"
)

// write appends a document as encoding/json would write its shadow, member for
// member. Sealed bytes and the simple kinds, which is nearly everything, are
// written here; other clear fields go through encoding/json one by one.
func (s *shadow) write(dst []byte, doc reflect.Value, members []member, header []byte) ([]byte, error) {
	start := len(dst)
	dst, err := s.writeMembers(dst, doc, members)
	if err != nil {
		return nil, err
	}
	dst = append(dst, `,"`+keysMember+`":`...)
	dst = appendSealed(dst, header)
	dst[start] = '{'
	return append(dst, '}'), nil
}

// writeMembers writes a comma before each.
func (s *shadow) writeMembers(dst []byte, src reflect.Value, members []member) ([]byte, error) {
	for i := range s.fields {
		f := &s.fields[i]
		v, ok := f.from.find(src)
		if !ok {
			continue
		}
		var err error
		switch {
		case f.sealed >= 0:
			dst = f.writeSealed(dst, &members[f.sealed])
		case f.nested != nil:
			dst, err = f.writeNested(dst, v, members)
		case f.simple:
			dst = f.writeSimple(dst, v)
		default:
			dst, err = f.writeAlone(dst, v)
		}
		if err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func (f *shadowField) begin(dst []byte) []byte { return append(append(dst, ','), f.member...) }

func (f *shadowField) writeSealed(dst []byte, m *member) []byte {
	switch {
	case m.null:
		return append(f.begin(dst), "null"...)
	case m.sealed == nil:
		return dst
	}
	return appendSealed(f.begin(dst), m.sealed)
}

func (f *shadowField) writeNested(dst []byte, v reflect.Value, members []member) ([]byte, error) {
	if v.Kind() == reflect.Pointer {
		switch {
		case !v.IsNil():
			v = v.Elem()
		case f.omits:
			return dst, nil
		default:
			return append(f.begin(dst), "null"...), nil
		}
	} else if f.omits && f.nested.isZero(v, members) {
		return dst, nil
	}
	dst = f.begin(dst)
	start := len(dst)
	dst, err := f.nested.writeMembers(dst, v, members)
	if err != nil {
		return nil, err
	}
	if len(dst) == start {
		dst = append(dst, '{')
	}
	dst[start] = '{'
	return append(dst, '}'), nil
}

// isZero reports whether nothing of a struct is sealed, and all that is clear is zero.
func (s *shadow) isZero(src reflect.Value, members []member) bool {
	for i := range s.fields {
		f := &s.fields[i]
		v, ok := f.from.find(src)
		switch {
		case !ok:
		case f.sealed >= 0:
			if m := &members[f.sealed]; m.null || m.sealed != nil {
				return false
			}
		case f.nested != nil && v.Kind() != reflect.Pointer:
			if !f.nested.isZero(v, members) {
				return false
			}
		case !v.IsZero():
			return false
		}
	}
	return true
}

// isSimple reports whether encoding/json writes values of t by their kind alone,
// and without choices: a float has several spellings.
func isSimple(t reflect.Type) bool {
	for _, t := range []reflect.Type{t, reflect.PointerTo(t)} {
		if t.Implements(jsonMarshaler) || t.Implements(jsonUnmarshaler) || t.Implements(textMarshal) || t.Implements(textUnmarshal) {
			return false
		}
	}
	switch t.Kind() {
	case reflect.String:
		return t != reflect.TypeFor[json.Number]()
	case reflect.Bool,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	default:
		return false
	}
}

func (f *shadowField) writeSimple(dst []byte, v reflect.Value) []byte {
	if f.omits && v.IsZero() {
		return dst
	}
	dst = f.begin(dst)
	switch {
	case v.Kind() == reflect.String:
		return appendText(dst, v.String())
	case v.Kind() == reflect.Bool:
		return strconv.AppendBool(dst, v.Bool())
	case v.CanInt():
		return strconv.AppendInt(dst, v.Int(), 10)
	}
	return strconv.AppendUint(dst, v.Uint(), 10)
}

// appendText appends a JSON string.
func appendText(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) //nolint:errchkjson // a string always encodes
			return append(dst, text...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

// memberOf is a member's name as encoding/json writes it, with a colon.
func memberOf(name string) []byte { return append(appendText(nil, name), ':') }

// writeAlone lets encoding/json write a clear field, as the only one of a struct.
func (f *shadowField) writeAlone(dst []byte, v reflect.Value) ([]byte, error) {
	one := reflect.New(f.alone)
	one.Elem().Field(0).Set(v)
	text, err := json.Marshal(one.Interface())
	if err != nil {
		return nil, err
	}
	if text = text[1 : len(text)-1]; len(text) == 0 { // without the braces
		return dst, nil
	}
	return append(append(dst, ','), text...), nil
}
