package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v3"

	"github.com/lethe-go/lethe"
)

// Table describes a table of the application to a program that does not know the
// struct its rows are read into.
type Table struct {
	Name    string   // in the file
	SQL     string   // of the table, perhaps with a schema: "shop.customers"
	Key     []string // columns of the primary key, in order
	Columns []Column
	line    int
}

// Column is one column of a Table that sealing has to do with.
type Column struct {
	Name  string // in SQL
	Type  string // one of Types
	Lethe string // the tag, as on a struct's field
	line  int
}

// PlainOf are the stable names of the fields that have a plaintext column.
func (t Table) PlainOf() []string {
	var out []string
	for _, c := range t.Columns {
		if name, ok := strings.CutPrefix(c.Lethe, "plain="); ok && c.IsPlain() {
			out = append(out, name)
		}
	}
	return out
}

// Binary is a value that was sealed from a type with encoding.BinaryMarshaler, as
// its bytes.
type Binary []byte

// MarshalBinary implements encoding.BinaryMarshaler.
func (b Binary) MarshalBinary() ([]byte, error) { return b, nil }

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (b *Binary) UnmarshalBinary(data []byte) error {
	*b = slices.Clone(data)
	return nil
}

// Text is a value that was sealed from a type with encoding.TextMarshaler, as its text.
type Text string

// MarshalText implements encoding.TextMarshaler.
func (t Text) MarshalText() ([]byte, error) { return []byte(t), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Text) UnmarshalText(text []byte) error {
	*t = Text(text)
	return nil
}

// columnTypes are the types a column may have, and the fields they become.
func columnTypes() map[string]reflect.Type {
	types := map[string]reflect.Type{
		"keys":          reflect.TypeFor[lethe.Keys](),
		"index":         reflect.TypeFor[lethe.BlindIndex](),
		"string":        reflect.TypeFor[string](),
		"int":           reflect.TypeFor[int64](),
		"bytes":         reflect.TypeFor[[]byte](),
		"secret string": reflect.TypeFor[lethe.Secret[string]](),
		"secret bytes":  reflect.TypeFor[lethe.Secret[[]byte]](),
		"secret int":    reflect.TypeFor[lethe.Secret[int64]](),
		"secret uint":   reflect.TypeFor[lethe.Secret[uint64]](),
		"secret float":  reflect.TypeFor[lethe.Secret[float64]](),
		"secret bool":   reflect.TypeFor[lethe.Secret[bool]](),
		"secret time":   reflect.TypeFor[lethe.Secret[time.Time]](),
		"secret binary": reflect.TypeFor[lethe.Secret[Binary]](),
		"secret text":   reflect.TypeFor[lethe.Secret[Text]](),
		"secret json":   reflect.TypeFor[lethe.Secret[json.RawMessage]](),
	}
	for name, t := range map[string]reflect.Type{
		"string": reflect.TypeFor[*string](), "bytes": reflect.TypeFor[*[]byte](), "int": reflect.TypeFor[*int64](), "uint": reflect.TypeFor[*uint64](),
		"float": reflect.TypeFor[*float64](), "bool": reflect.TypeFor[*bool](), "time": reflect.TypeFor[*time.Time](),
		"binary": reflect.TypeFor[*Binary](), "text": reflect.TypeFor[*Text](), "json": reflect.TypeFor[*json.RawMessage](),
	} {
		types[plainType+name] = t
	}
	return types
}

// plainType begins the types of plaintext columns that a migration leaves.
const plainType = "plain "

// IsPlain reports whether the column holds plaintext that a migration moves to the
// sealed column, or back.
func (c Column) IsPlain() bool { return strings.HasPrefix(c.Type, plainType) }

// Types are the types a column may have, in alphabetical order.
func Types() []string {
	var out []string
	for name := range columnTypes() {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Type builds the struct type that a row of the table is read into: a field for
// each column, with the tags `db` and `lethe`, but for plaintext columns. It says
// nothing on whether the lethe tags are right; whoever seals and opens with it does.
func (t Table) Type() (reflect.Type, error) { return t.structType(false) }

// MigrationType is Type with the plaintext columns.
func (t Table) MigrationType() (reflect.Type, error) { return t.structType(true) }

func (t Table) structType(plain bool) (reflect.Type, error) {
	types := columnTypes()
	fields := make([]reflect.StructField, 0, len(t.Columns))
	seen := map[string]string{}
	for _, c := range t.Columns {
		typ, ok := types[c.Type]
		if !ok {
			return nil, fmt.Errorf("column %s has the type %q; there are %s", c.Name, c.Type, strings.Join(Types(), ", "))
		}
		if !plainName.MatchString(c.Name) {
			return nil, fmt.Errorf("column %q is no plain SQL name: letters, digits and _ only", c.Name)
		}
		name := fieldName(c.Name)
		if other, ok := seen[name]; ok {
			return nil, fmt.Errorf("columns %s and %s differ in case or underscores only", other, c.Name)
		}
		seen[name] = c.Name
		if c.IsPlain() && !plain {
			continue
		}
		tag := `db:"` + c.Name + `"`
		if c.Lethe != "" {
			tag += ` lethe:` + fmt.Sprintf("%q", c.Lethe)
		}
		fields = append(fields, reflect.StructField{Name: name, Type: typ, Tag: reflect.StructTag(tag)})
	}
	return reflect.StructOf(fields), nil
}

var (
	plainName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,126}$`)
	dottedName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,126}(\.[A-Za-z_][A-Za-z0-9_]{0,126})?$`)
)

// fieldName makes an exported Go name of a column's: sealed_keys becomes SealedKeys.
func fieldName(column string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(column, "_") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	name := b.String()
	if name == "" || name[0] < 'A' {
		return "X" + name
	}
	return name
}

// tables reads the mapping of tables.
func (r *reader) tables(n *yaml.Node) {
	r.members(n, "tables", func(name string, k, v *yaml.Node) {
		t := Table{Name: name, SQL: name, line: k.Line}
		failed := len(r.errs)
		r.members(v, "table "+name, func(key string, k, v *yaml.Node) {
			switch key {
			case "table":
				t.SQL = r.text(v, "table")
			case "key":
				if v.Kind != yaml.SequenceNode {
					t.Key = []string{r.text(v, "key")}
					return
				}
				if !r.parts(v) {
					return
				}
				for _, item := range v.Content {
					t.Key = append(t.Key, r.text(resolve(item), "key"))
				}
			case "columns":
				r.columns(&t, v)
			default:
				r.failf(k, "%q is no key of a table; there are columns, key, table", key)
			}
		})
		if len(r.errs) == failed {
			r.check(k, t)
		}
		r.c.Tables = append(r.c.Tables, t)
	})
}

func (r *reader) columns(t *Table, n *yaml.Node) {
	r.members(n, "columns", func(name string, k, v *yaml.Node) {
		c := Column{Name: name, line: k.Line}
		r.members(v, "column "+name, func(key string, k, v *yaml.Node) {
			switch key {
			case "type":
				c.Type = r.text(v, "type")
			case "lethe":
				c.Lethe = r.text(v, "lethe")
			default:
				r.failf(k, "%q is no key of a column; there are lethe, type", key)
			}
		})
		t.Columns = append(t.Columns, c)
	})
}

// check finds what is missing or does not fit within one table.
func (r *reader) check(k *yaml.Node, t Table) {
	if !dottedName.MatchString(t.SQL) {
		r.failf(k, "table %s: %q is no plain SQL name, with a schema before it or without", t.Name, t.SQL)
	}
	if len(t.Key) == 0 {
		r.failf(k, "table %s has no key: name the columns of its primary key", t.Name)
	}
	types := columnTypes()
	names := map[string]bool{}
	for _, c := range t.Columns {
		names[c.Name] = true
		if _, ok := types[c.Type]; !ok {
			r.errs = append(r.errs, fmt.Errorf("%s:%d: column %s has the type %q; there are %s", r.name, c.line, c.Name, c.Type, strings.Join(Types(), ", ")))
			return
		}
	}
	for _, key := range t.Key {
		if !names[key] {
			r.failf(k, "table %s: the key column %s is not among the columns", t.Name, key)
		}
	}
	if _, err := t.MigrationType(); err != nil {
		r.failf(k, "table %s: %w", t.Name, err)
	}
}

// text is a scalar's text.
func (r *reader) text(n *yaml.Node, what string) string {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		r.failf(n, "%s is to be one value", what)
		return ""
	}
	return n.Value
}
