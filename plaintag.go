package lethe

import (
	"reflect"
	"strings"
)

// plainTag is a plain field tagged plain=, whose Secret may stand before or after it.
type plainTag struct {
	plainPlan
	of string
}

// isPlainTag tells the role plain= from a name with options.
func isPlainTag(tag string) bool {
	o := splitTag(tag)[0]
	return o.key == "plain" && o.hasValue
}

func (p *planner) plainField(t reflect.Type, at path, tag, prefix, label string) {
	opts := splitTag(tag)
	if len(opts) > 1 || opts[0].value == "" {
		p.failf(label, "write plain=FIELD, the name of a Secret, and nothing else")
		return
	}
	if p.document {
		p.failf(label, "a document has no plaintext columns: plain= does nothing in it")
		return
	}
	p.plainTags = append(p.plainTags, plainTag{plainPlan{path: at, at: placeOf(p.typ, at), label: label, typ: t, value: nullable(t)}, prefix + opts[0].value})
}

// nullable returns the T of a *T or a sql.Null[T], or nil.
func nullable(t reflect.Type) reflect.Type {
	switch {
	case t.Kind() == reflect.Pointer:
		return t.Elem()
	case isSQLNull(t):
		return t.Field(0).Type
	}
	return nil
}

// isSQLNull goes by the name, since database/sql is not imported otherwise.
func isSQLNull(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.PkgPath() == "database/sql" && strings.HasPrefix(t.Name(), "Null[")
}

// takePlains gives every plaintext column to its Secret.
func (p *planner) takePlains() {
	for _, c := range p.plainTags {
		i, ok := p.names[c.of]
		if !ok || i >= len(p.fields) {
			p.failf(c.label, "plain=%s names no Secret", c.of)
			continue
		}
		f := &p.fields[i]
		c.field = i
		switch {
		case c.value == nil:
			p.failf(c.label, "a plaintext column must be able to hold NULL, and %s cannot: use *%s or sql.Null[%s]", c.typ, f.typ, f.typ)
			continue
		case c.value != f.typ:
			p.failf(c.label, "%s is not the type of %q: use *%s or sql.Null[%s]", c.typ, c.of, f.typ, f.typ)
			continue
		case p.plainOf(i) != nil:
			p.failf(c.label, "%q has a plaintext column already", c.of)
			continue
		case !c.reachable(f.path):
			p.failf(c.label, "the plaintext column lies behind a pointer: put it beside %s, its Secret", f.label)
			continue
		}
		p.plains = append(p.plains, c.plainPlan)
	}
}

// reachable reports whether the column is there whenever the field at path is.
func (c *plainPlan) reachable(field path) bool {
	last := -1
	for i, step := range c.path {
		if step < 0 {
			last = i
		}
	}
	if last >= len(field) {
		return false
	}
	for i := range last + 1 {
		if c.path[i] != field[i] {
			return false
		}
	}
	return true
}

// plainOf returns the plaintext column of a field, or nil.
func (p *plan) plainOf(field int) *plainPlan {
	for i := range p.plains {
		if p.plains[i].field == field {
			return &p.plains[i]
		}
	}
	return nil
}
