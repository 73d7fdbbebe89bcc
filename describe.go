package lethe

import (
	"reflect"
	"slices"
	"strings"
)

// Description says what the tags of a row type say: which fields are sealed, whose
// they are and where they are stored. It holds no data and no keys.
type Description struct {
	Record string // stable name
	Type   string // Go name, with its package's
	Fields []FieldDescription
}

// Role is what a tagged field is for.
type Role string

// The roles of fields.
const (
	RoleKeys    Role = "keys"    // the row's wrapped data keys
	RoleSecret  Role = "secret"  // a sealed value; in a document, a plain field that Marshal seals
	RoleIndex   Role = "index"   // a blind index over a Secret
	RoleToken   Role = "token"   // a token in the place of a value
	RoleVersion Role = "version" // the key version of a token
	RoleSubject Role = "subject" // whose data it is
	RoleID      Role = "id"      // the row's identity, and no subject
	RolePlain   Role = "plain"   // the plaintext column of a Secret, while a Migration lasts
)

// FieldDescription is one tagged field. What does not apply to its role is zero.
type FieldDescription struct {
	GoName  string // from the row on, with dots: Home.Street
	Name    string // stable name; none of a subject, id, version or plain
	Column  string // from the tag db, up to its first comma; "" if it has none
	Role    Role
	Kind    string // of the subject whose data it is, or which it names
	Group   string
	Purpose string
	Mask    string
	Of      string // stable name of the field that an index, a version or a plain belongs to
	Norm    string // normaliser of an index
	Bits    int    // of an index
	Token   string // name of the tokenizer
	RowID   bool   // a subject or id that identifies the row, and is bound to its Keys
	Value   string // Go type of the value that is sealed, or of the plain field
	Index   []int  // where the field is, as in reflect.StructField; pointers may lie on the way
}

// Describe says what the tags of T say.
func (s *Sealer[T]) Describe() Description { return s.describe() }

// Describe says what the tags of the row type say.
func (r *Rows) Describe() Description { return r.describe() }

// describe lists the fields in the order of the struct.
func (s *core) describe() Description {
	p := s.plan
	d := Description{Record: p.record, Type: p.typ.String()}
	add := func(at path, f FieldDescription) {
		field := p.structField(at)
		f.GoName, f.Index, f.Column = p.goName(at), at.index(), column(field.Tag)
		if f.Value == "" {
			f.Value = field.Type.String()
		}
		d.Fields = append(d.Fields, f)
	}
	if p.keys != nil { // a document has none
		add(p.keys, FieldDescription{Name: p.record, Role: RoleKeys})
	}
	for i := range p.fields {
		f := &p.fields[i]
		out := FieldDescription{
			Name: f.name, Role: RoleSecret, Group: f.tag.group, Purpose: f.tag.purpose, Mask: f.tag.mask,
			Kind: p.subjects[p.scopes[f.scope].subject].kind, Value: f.typ.String(),
		}
		if f.token != nil {
			out.Role, out.Token = RoleToken, f.tag.token
		}
		add(f.path, out)
		if f.token != nil && f.token.path != nil {
			add(f.token.path, FieldDescription{Role: RoleVersion, Of: f.name})
		}
	}
	for i := range p.indexes {
		x := &p.indexes[i]
		of := &p.fields[x.of]
		add(x.path, FieldDescription{
			Name: x.name, Role: RoleIndex, Of: of.name, Norm: x.normName, Bits: x.bits, Group: of.tag.group, Purpose: of.tag.purpose,
			Kind: p.subjects[p.scopes[of.scope].subject].kind, Value: of.typ.String(),
		})
	}
	for i := range p.plains {
		c := &p.plains[i]
		of := &p.fields[c.field]
		add(c.path, FieldDescription{
			Role: RolePlain, Of: of.name, Group: of.tag.group, Purpose: of.tag.purpose, Kind: p.subjects[p.scopes[of.scope].subject].kind,
		})
	}
	for i := range p.subjects {
		r := &p.subjects[i]
		add(r.path, FieldDescription{Role: RoleSubject, Kind: r.kind, Group: r.group, RowID: p.id != nil && slices.Equal(p.id.path, r.path)})
	}
	if p.id != nil && !slices.ContainsFunc(p.subjects, func(r rolePlan) bool { return slices.Equal(r.path, p.id.path) }) {
		add(p.id.path, FieldDescription{Role: RoleID, RowID: true})
	}
	slices.SortFunc(d.Fields, func(a, b FieldDescription) int { return slices.Compare(a.Index, b.Index) })
	return d
}

// structField returns the field that a path leads to.
func (p *plan) structField(at path) (f reflect.StructField) {
	t := p.typ
	for _, i := range at.index() {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		f = t.Field(i)
		t = f.Type
	}
	return f
}

func (p *plan) goName(at path) string {
	index := at.index()
	names := make([]string, len(index))
	for i := range index {
		names[i] = p.structField(path(index[:i+1])).Name
	}
	return strings.Join(names, ".")
}

// index returns the path as reflect writes it.
func (p path) index() []int {
	out := slices.Clone(p)
	for i := range out {
		if out[i] < 0 {
			out[i] = ^out[i]
		}
	}
	return out
}

// column returns the column name of a db tag.
func column(tag reflect.StructTag) string {
	name, _, _ := strings.Cut(tag.Get("db"), ",")
	if name == "-" {
		return ""
	}
	return name
}
