package lethe

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unsafe"

	"github.com/lethe-go/lethe/tokenize"
)

// tokenPlan is what a fieldPlan of a Token has besides.
type tokenPlan struct {
	tokenizer tokenize.Tokenizer
	bound     []byte // the associated data
	version   place  // of the key's version; nil: none
	path      path   // of the same
	label     string // of the same
	kind      reflect.Kind
}

// versionTag is a plain field tagged version=.
type versionTag struct {
	of, label string
	at        place
	path      path
	kind      reflect.Kind
}

// isVersionTag tells the role version= from a name with options.
func isVersionTag(tag string) bool {
	o := splitTag(tag)[0]
	return o.key == "version" && o.hasValue
}

func (p *planner) tokenField(at path, tag string, tagged bool, prefix, label string) {
	if !tagged {
		p.failf(label, "Token needs a tag with a stable name and its tokenizer: `lethe:\"card,token=pan\"`")
		return
	}
	ft, err := parseFieldTag(tag, "group", "mask", "token")
	switch {
	case err != nil:
		p.failf(label, "%v", err)
		return
	case ft.token == "":
		p.failf(label, "Token needs token= with the name of its tokenizer")
		return
	case p.document:
		p.failf(label, "a document cannot have a Token")
		return
	}
	p.name(prefix+ft.name, len(p.fields), label)
	p.tokens = append(p.tokens, len(p.fields))
	p.fields = append(p.fields, fieldPlan{
		path: at, at: placeOf(p.typ, at), label: label, name: prefix + ft.name, mask: masks[ft.mask],
		codec: codecBytes, typ: reflect.TypeFor[string](), tag: ft, token: &tokenPlan{},
	})
}

func (p *planner) versionField(t reflect.Type, at path, tag, prefix, label string) {
	opts := splitTag(tag)
	switch t.Kind() {
	case reflect.Int64, reflect.Int32, reflect.Int, reflect.Uint32:
	default:
		p.failf(label, "%s cannot hold the version of a key: use int64", t)
		return
	}
	if len(opts) > 1 || opts[0].value == "" {
		p.failf(label, "write version=FIELD, the name of a Token, and nothing else")
		return
	}
	p.versions = append(p.versions, versionTag{prefix + opts[0].value, label, placeOf(p.typ, at), at, t.Kind()})
}

// takeVersions gives every version field to its Token.
func (p *planner) takeVersions() {
	for _, v := range p.versions {
		i, ok := p.names[v.of]
		if !ok || i >= len(p.fields) || p.fields[i].token == nil {
			p.failf(v.label, "version=%s names no Token", v.of)
			continue
		}
		token := p.fields[i].token
		if token.version != nil {
			p.failf(v.label, "%q has a version field already", v.of)
			continue
		}
		token.version, token.kind, token.path, token.label = v.at, v.kind, v.path, v.label
	}
}

// bindTokenizers finds the tokenizer of every Token.
func (p *plan) bindTokenizers(all map[string]tokenize.Tokenizer) error {
	var errs []error
	failf := func(f *fieldPlan, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{f.label}, args...)...))
	}
	for _, i := range p.tokens {
		f := &p.fields[i]
		t := all[f.tag.token]
		if t == nil {
			failf(f, "token=%s: Options.Tokenizers has no such tokenizer", f.tag.token)
			continue
		}
		var d tokenize.Description
		if t, ok := t.(tokenize.Describer); ok {
			d = t.Describe()
		}
		switch {
		case d.OneWay:
			failf(f, "token=%s makes one-way pseudonyms, which Open cannot turn back: keep them in a plain field", f.tag.token)
		case d.Versioned && f.token.version == nil:
			failf(f, "the tokens of token=%s need the version of their key beside them: add a field int64 `lethe:\"version=%s\"`", f.tag.token, f.name[strings.LastIndexByte(f.name, '.')+1:])
		}
		f.token.tokenizer, f.tag.purpose = t, d.Purpose
		if !d.Joinable {
			f.token.bound = fmt.Appendf(nil, "lethe/1/token %d:%s%d:%s", len(p.record), p.record, len(f.name), f.name)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("lethe: the tags of %s are wrong:\n%w", p.typ, errors.Join(errs...))
	}
	return nil
}

// setVersion writes the version of a row's key, which fits every kind.
func (t *tokenPlan) setVersion(row unsafe.Pointer, version uint32) {
	if t.version == nil {
		return
	}
	switch at := t.version.in(row); {
	case at == nil:
	case t.kind == reflect.Int64:
		*(*int64)(at) = int64(version)
	case t.kind == reflect.Int:
		*(*int)(at) = int(version)
	case t.kind == reflect.Int32:
		*(*int32)(at) = int32(version)
	default:
		*(*uint32)(at) = version
	}
}

// readVersion reads it; what is no version is one that no key has.
func (t *tokenPlan) readVersion(row unsafe.Pointer) uint32 {
	if t.version == nil {
		return 0
	}
	n := int64(0)
	switch at := t.version.in(row); {
	case at == nil:
	case t.kind == reflect.Int64:
		n = *(*int64)(at)
	case t.kind == reflect.Int:
		n = int64(*(*int)(at))
	case t.kind == reflect.Int32:
		n = int64(*(*int32)(at))
	default:
		n = int64(*(*uint32)(at))
	}
	if n < 0 || n > 1<<32-1 {
		return 1<<32 - 1
	}
	return uint32(n)
}
