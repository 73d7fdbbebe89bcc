package lethe

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// shadow is a struct type that encoding/json treats like a document's, except
// that every sealed field is a json.RawMessage. The outermost has the document's
// Keys as its last field.
type shadow struct {
	typ    reflect.Type
	fields []shadowField
	names  map[string]int               // of the fields' JSON names
	omits  []func(v reflect.Value) bool // per field of the plan: is the value to be left out; nil: never
}

type shadowField struct {
	from   path    // in the document, from the nesting struct on
	sealed int     // in plan.fields, or -1
	nested *shadow // a struct with sealed fields
	name   string  // in JSON
	member []byte  // the name as encoding/json writes it, and a colon

	omits  bool         // nested: left out when nil or, by value, zero; simple: when empty
	simple bool         // clear, written and read without encoding/json
	quoted bool         // clear, with the option string
	alone  reflect.Type // clear: a struct of this field only, for encoding/json
}

var (
	rawType         = reflect.TypeFor[json.RawMessage]()
	jsonMarshaler   = reflect.TypeFor[json.Marshaler]()
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
)

// shadowOf builds the shadow of a document, reporting what cannot be encoded.
func (p *planner) shadowOf() {
	at := map[string]int{}
	for i := range p.fields {
		at[fmt.Sprint(p.fields[i].path)] = i
	}
	omits := make([]func(reflect.Value) bool, len(p.fields))
	b := shadowBuilder{planner: p, at: at, omits: omits}
	if reflect.PointerTo(p.typ).Implements(jsonMarshaler) {
		p.failf(p.typ.Name(), "has a MarshalJSON of its own, which Marshal would bypass")
		return
	}
	p.shadow = b.build(p.typ, nil, true, p.typ.Name())
	if p.shadow != nil {
		p.shadow.omits = omits
	}
}

type shadowBuilder struct {
	*planner
	at    map[string]int
	omits []func(reflect.Value) bool
}

func (b *shadowBuilder) build(t reflect.Type, base path, outer bool, label string) *shadow {
	s := &shadow{names: map[string]int{}}
	var fields []reflect.StructField
	names := map[string]bool{}
	if outer {
		names[keysMember] = true
	}
	b.collect(s, t, base, nil, names, &fields, label)
	if outer {
		fields = append(fields, reflect.StructField{Name: "Keys", Type: keysType, Tag: reflect.StructTag(`json:"` + keysMember + `"`)})
	}
	s.typ = reflect.StructOf(fields)
	return s
}

// collect appends the fields of t; base leads from the document to the struct
// being shadowed, inner from there to t (through embedded structs).
func (b *shadowBuilder) collect(s *shadow, t reflect.Type, base, inner path, names map[string]bool, fields *[]reflect.StructField, label string) {
	for i := range t.NumField() {
		f := t.Field(i)
		here := label + "." + f.Name
		name, opts, tagged := jsonName(f)
		sub := append(slices.Clone(inner), i)
		full := append(slices.Clone(base), sub...)
		sealed, isSealed := b.at[fmt.Sprint(full)]
		switch {
		case f.Type == documentType, !f.IsExported() && !f.Anonymous:
			continue
		case f.Anonymous && !tagged && f.Type.Kind() == reflect.Struct && !isSealed:
			b.collect(s, f.Type, base, sub, names, fields, here)
			continue
		case f.Anonymous && !tagged && f.Type.Kind() == reflect.Pointer && f.Type.Elem().Kind() == reflect.Struct:
			b.failf(here, "a document embeds structs by value, not by pointer")
			continue
		case !f.IsExported():
			if b.needs(full) {
				b.failf(here, "encoding/json cannot decode into an embedded struct that has a JSON name and is not exported: export it, or remove the name")
			}
			continue
		case name == "-" && opts == "":
			if b.needs(full) {
				b.failf(here, "the tag json:\"-\" would lose a sealed field, or whose it is")
			}
			continue
		}
		if names[name] {
			b.failf(here, "the JSON name %q is taken already", name)
			continue
		}
		names[name] = true
		field := shadowField{from: sub, sealed: -1, name: name, member: memberOf(name)}
		typ := f.Type
		switch {
		case isSealed:
			field.sealed, typ = sealed, rawType
			b.omits[sealed] = omitRule(opts)
		case mentionsTag(structOf(f.Type), nil):
			at := slices.Clone(full)
			if f.Type.Kind() == reflect.Pointer {
				at[len(at)-1] = ^at[len(at)-1]
			}
			if b.holdsSealed(at) {
				if reflect.PointerTo(structOf(f.Type)).Implements(jsonMarshaler) {
					b.failf(here, "%s has a MarshalJSON of its own, which Marshal would bypass", structOf(f.Type))
				}
				field.nested = b.build(structOf(f.Type), at, false, here)
				typ = field.nested.typ
				if f.Type.Kind() == reflect.Pointer {
					typ = reflect.PointerTo(typ)
				}
				field.omits = hasOption(opts, "omitzero") || hasOption(opts, "omitempty") && f.Type.Kind() == reflect.Pointer
			}
		}
		in := reflect.StructField{
			Name: fmt.Sprintf("F%d", len(*fields)), Type: typ,
			Tag: reflect.StructTag(`json:"` + name + opts + `"`),
		}
		if field.sealed < 0 && field.nested == nil {
			field.quoted = hasOption(opts, "string")
			field.omits = hasOption(opts, "omitempty")
			field.simple = !field.quoted && !hasOption(opts, "omitzero") && isSimple(f.Type)
			field.alone = reflect.StructOf([]reflect.StructField{in})
		}
		s.names[name] = len(s.fields)
		*fields, s.fields = append(*fields, in), append(s.fields, field)
	}
}

// holdsSealed reports whether a sealed field lies below a path.
func (b *shadowBuilder) holdsSealed(at path) bool {
	return slices.ContainsFunc(b.fields, func(f fieldPlan) bool {
		return len(f.path) > len(at) && slices.Equal(f.path[:len(at)], at)
	})
}

// needs reports whether a sealed field, a subject or the row id is at or below a field.
func (b *shadowBuilder) needs(field path) bool {
	through := slices.Clone(field)
	through[len(through)-1] = ^through[len(through)-1]
	below := func(p path) bool {
		return len(p) >= len(field) && (slices.Equal(p[:len(field)], field) || slices.Equal(p[:len(field)], through))
	}
	return slices.ContainsFunc(b.fields, func(f fieldPlan) bool { return below(f.path) }) ||
		slices.ContainsFunc(b.subjects, func(r rolePlan) bool { return below(r.path) }) ||
		b.id != nil && below(b.id.path)
}

func structOf(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// jsonName splits the json tag as encoding/json does; opts starts with a comma.
func jsonName(f reflect.StructField) (name, opts string, tagged bool) {
	tag := f.Tag.Get("json")
	name, rest, has := strings.Cut(tag, ",")
	if has {
		opts = "," + rest
	}
	valid := name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	if !valid {
		return f.Name, opts, false
	}
	return name, opts, true
}

func hasOption(opts, option string) bool { return slices.Contains(strings.Split(opts, ","), option) }

// omitRule tells which values the options omitempty and omitzero leave out; nil for none.
func omitRule(opts string) func(reflect.Value) bool {
	empty, zero := hasOption(opts, "omitempty"), hasOption(opts, "omitzero")
	if !empty && !zero {
		return nil
	}
	return func(v reflect.Value) bool {
		if zero {
			if z, ok := reflect.TypeAssert[interface{ IsZero() bool }](v); ok && (v.Kind() != reflect.Pointer || !v.IsNil()) {
				return z.IsZero()
			}
			if v.IsZero() {
				return true
			}
		}
		if !empty {
			return false
		}
		switch v.Kind() {
		case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
			return v.Len() == 0
		case reflect.Struct:
			return false
		default:
			return v.IsZero()
		}
	}
}

// drain copies the clear fields back and takes the sealed ones out.
func (s *shadow) drain(src, dst reflect.Value, raws []json.RawMessage) {
	for i := range s.fields {
		f := &s.fields[i]
		to, ok := f.from.find(dst)
		if !ok {
			continue
		}
		from := src.Field(i)
		switch {
		case f.sealed >= 0:
			raws[f.sealed] = from.Bytes()
		case f.nested == nil:
			to.Set(from)
		case from.Kind() != reflect.Pointer:
			f.nested.drain(from, to, raws)
		case !from.IsNil():
			to.Set(reflect.New(to.Type().Elem()))
			f.nested.drain(from.Elem(), to.Elem(), raws)
		}
	}
}
