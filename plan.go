package lethe

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/lethe-go/lethe/envelope"
)

// path leads from a row to a field; a negative entry means "through the pointer
// of field ^entry".
type path []int

// find returns the field, or false if a pointer on the way is nil.
func (p path) find(v reflect.Value) (reflect.Value, bool) {
	if len(p) == 1 && p[0] >= 0 {
		return v.Field(p[0]), true
	}
	for _, i := range p {
		if i >= 0 {
			v = v.Field(i)
			continue
		}
		v = v.Field(^i)
		if v.IsNil() {
			return reflect.Value{}, false
		}
		v = v.Elem()
	}
	return v, true
}

type (
	// plan is what the tags of a row type say.
	plan struct {
		typ      reflect.Type
		document bool // plain fields are sealed by Marshal; there are no Secrets
		record   string
		keys     path
		keysAt   place
		id       *rolePlan
		subjects []rolePlan
		scopes   []scopePlan
		fields   []fieldPlan
		indexes  []indexPlan
		names    map[string]int // of fields and, from 1<<16, of indexes
		shadow   *shadow        // of a document
		allowed  []Decision     // Allow per field
		pointers bool           // a sealed field lies behind a pointer
		rereads  atomic.Bool    // a row that Marshal wrote was read back
		tokens   []int          // the fields that are Tokens
		plains   []plainPlan    // the plaintext columns that a migration leaves
	}
	rolePlan struct {
		path  path
		label string // Go name, for errors
		kind  string
		group string
		text  place // of a string without MarshalText, which is read as it is; else nil
	}
	scopePlan struct {
		group, purpose string
		subject        int // in plan.subjects
	}
	fieldPlan struct {
		path  path
		at    place
		label string
		name  string
		scope int
		mask  maskID
		codec uint8
		typ   reflect.Type
		tag   fieldTag
		token *tokenPlan // of a Token
	}
	indexPlan struct {
		path     path
		at       place
		label    string
		name     string
		of       int // in plan.fields
		norm     normaliser
		normName string
		bits     int
		tag      fieldTag
	}
)

var (
	keysType     = reflect.TypeFor[Keys]()
	indexType    = reflect.TypeFor[BlindIndex]()
	documentType = reflect.TypeFor[Document]()
	secretIface  = reflect.TypeFor[secret]()
	stateType    = reflect.TypeFor[*state]()
)

// isSecret reports whether t is a Secret itself. A struct that embeds one has its
// methods, and is not laid out like one.
func isSecret(t reflect.Type) bool {
	return secretShaped(t) && reflect.PointerTo(t).Implements(secretIface)
}

// secretShaped also takes a type defined as a Secret, which has none of its methods.
func secretShaped(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.NumField() == 2 && t.Field(1).Type == stateType
}

func isOurs(t reflect.Type) bool {
	return t == keysType || t == indexType || t == tokenType || isSecret(t)
}

// planner collects the fields of a type, and every mistake in its tags.
type planner struct {
	plan
	keysSeen  int
	documents int
	errs      []error
	active    map[reflect.Type]bool // types on the way down, to stop cycles
	versions  []versionTag
	plainTags []plainTag
}

func (p *planner) failf(label, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s: "+format, append([]any{label}, args...)...))
}

func newPlan(t reflect.Type) (*plan, error) {
	if t == nil || t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("lethe: For needs a struct type, not %v", t)
	}
	p := &planner{active: map[reflect.Type]bool{}}
	p.typ, p.names = t, map[string]int{}
	for field := range t.Fields() {
		if field.Type == documentType {
			p.document = true
		}
	}
	p.walk(t, nil, "", t.Name())
	p.finish()
	if len(p.errs) > 0 {
		return nil, fmt.Errorf("lethe: the tags of %s are wrong:\n%w", typeName(t), errors.Join(p.errs...))
	}
	p.allowed = slices.Repeat([]Decision{Allow}, len(p.fields))
	return &p.plan, nil
}

func (p *planner) walk(t reflect.Type, at path, prefix, label string) {
	if p.active[t] {
		p.failf(label, "the type contains itself")
		return
	}
	p.active[t] = true
	defer delete(p.active, t)
	for i := range t.NumField() {
		f := t.Field(i)
		p.field(f, append(slices.Clone(at), i), prefix, label+"."+f.Name)
	}
}

func (p *planner) field(f reflect.StructField, at path, prefix, label string) {
	tag, tagged := f.Tag.Lookup("lethe")
	if f.Type == documentType {
		p.marker(f, tag, label, len(at))
		return
	}
	if !f.IsExported() && (!f.Anonymous || !embeddable(f.Type)) {
		if tagged || isOurs(f.Type) {
			p.failf(label, "the field is not exported, so it cannot be sealed: export it")
		} else if where := hidesSecret(f.Type, nil); where != "" {
			p.failf(label, "the field is not exported and holds %s: export it", where)
		}
		return
	}
	switch {
	case f.Type == keysType:
		p.keysField(at, tag, tagged, label)
	case f.Type == indexType:
		p.indexField(at, tag, tagged, prefix, label)
	case f.Type == tokenType:
		p.tokenField(at, tag, tagged, prefix, label)
	case tagged && isVersionTag(tag):
		p.versionField(f.Type, at, tag, prefix, label)
	case tagged && isPlainTag(tag):
		p.plainField(f.Type, at, tag, prefix, label)
	case isSecret(f.Type):
		p.secretField(f.Type, at, tag, tagged, prefix, label)
	case secretShaped(f.Type):
		p.failf(label, "%s is defined as a lethe.Secret and has none of its methods, so it is never sealed: use lethe.Secret itself", f.Type)
	case tagged && isRoleTag(tag):
		p.roleField(f.Type, at, tag, label)
	default:
		p.otherField(f, at, tag, tagged, prefix, label)
	}
}

func embeddable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct // through an unexported embedded pointer nothing can be set
}

func (p *planner) marker(f reflect.StructField, tag, label string, depth int) {
	t, err := parseFieldTag(tag)
	switch {
	case err != nil:
		p.failf(label, "%v; write _ lethe.Document `lethe:\"record_name\"`", err)
	case depth != 1 || f.Name != "_":
		p.failf(label, "the Document marker is a blank field of the outermost struct: _ lethe.Document")
	}
	p.record = t.name
	p.documents++
}

func (p *planner) keysField(at path, tag string, tagged bool, label string) {
	p.keysSeen++
	t, err := parseFieldTag(tag)
	switch {
	case !tagged:
		p.failf(label, "Keys needs a tag with the stable name of the record: `lethe:\"customers\"`")
	case err != nil:
		p.failf(label, "%v", err)
	case p.document:
		p.failf(label, "a struct with the Document marker has no Keys field: Marshal adds them")
	}
	p.record, p.keys, p.keysAt = t.name, at, placeOf(p.typ, at)
	for _, i := range at {
		if i < 0 {
			p.failf(label, "Keys lies behind a pointer; put it in the row itself")
		}
	}
}

func (p *planner) indexField(at path, tag string, tagged bool, prefix, label string) {
	t, err := parseFieldTag(tag, "of", "norm", "bits")
	switch {
	case !tagged:
		p.failf(label, "BlindIndex needs a tag: `lethe:\"email_idx,of=email,norm=email/1\"`")
		return
	case err != nil:
		p.failf(label, "%v", err)
		return
	case t.of == "" || t.norm == "":
		p.failf(label, "BlindIndex needs of= (the field it finds) and norm= (%s)", known(normalisers))
		return
	case p.document:
		p.failf(label, "a struct with the Document marker cannot have a BlindIndex")
	}
	if t.bits == 0 {
		t.bits = 32
	}
	t.of = prefix + t.of
	p.name(prefix+t.name, 1<<16+len(p.indexes), label)
	p.indexes = append(p.indexes, indexPlan{path: at, at: placeOf(p.typ, at), label: label, name: prefix + t.name, norm: normalisers[t.norm], normName: t.norm, bits: t.bits, tag: t})
}

func (p *planner) secretField(t reflect.Type, at path, tag string, tagged bool, prefix, label string) {
	if !tagged {
		p.failf(label, "Secret needs a tag with a stable name: `lethe:\"%s\"`", strings.ToLower(label[strings.LastIndexByte(label, '.')+1:]))
		return
	}
	if p.document {
		p.failf(label, "a struct with the Document marker has plain fields only: Marshal seals them")
		return
	}
	s, ok := reflect.TypeAssert[secret](reflect.New(t))
	if !ok {
		return
	}
	p.sealedField(s.valueType(), at, tag, prefix, label)
}

// sealedField adds a Secret, or a plain field of a document.
func (p *planner) sealedField(value reflect.Type, at path, tag, prefix, label string) {
	ft, err := parseFieldTag(tag, "group", "purpose", "mask", "json")
	if err != nil {
		p.failf(label, "%v", err)
		return
	}
	if value.Kind() == reflect.Pointer && p.document {
		value = value.Elem()
	}
	codec, where := codecOf(value), hidesSecret(value, nil)
	switch {
	case where != "":
		p.failf(label, "%s inside a Secret would be sealed twice: seal the plain value, or keep what is sealed as a field of the row", where)
	case codec == 0 && value.Kind() == reflect.Pointer:
		p.failf(label, "%s cannot be sealed: use %s; a Secret has a NULL of its own", value, value.Elem())
	case codec == 0:
		p.failf(label, "values of type %s cannot be sealed", value)
	case codec == codecJSON && !ft.json:
		p.failf(label, "%s can be sealed as JSON only; say so with the option json", value)
	case codec != codecJSON && ft.json:
		p.failf(label, "the option json does nothing for %s, which has a codec of its own: remove it", value)
	case ft.mask != "" && ft.mask != "full" && !slices.Contains(maskCodecs[ft.mask], codec):
		p.failf(label, "mask=%s does not apply to %s", ft.mask, value)
	}
	if p.document && ft.mask != "" {
		p.failf(label, "mask= does nothing in a document")
	}
	p.pointers = p.pointers || slices.ContainsFunc(at, func(i int) bool { return i < 0 })
	p.name(prefix+ft.name, len(p.fields), label)
	p.fields = append(p.fields, fieldPlan{path: at, at: placeOf(p.typ, at), label: label, name: prefix + ft.name, mask: masks[ft.mask], codec: codec, typ: value, tag: ft})
}

func (p *planner) name(name string, at int, label string) {
	if _, ok := p.names[name]; ok {
		p.failf(label, "the name %q is taken already", name)
	}
	p.names[name] = at
}

func (p *planner) roleField(t reflect.Type, at path, tag, label string) {
	r, err := parseRoleTag(tag)
	if err != nil {
		p.failf(label, "%v", err)
		return
	}
	if !hasIdentity(t) {
		p.failf(label, "%s cannot name a subject or row: use a string, an integer, or a type with MarshalText such as a UUID", t)
		return
	}
	role := rolePlan{path: at, label: label, kind: r.subject, group: r.group}
	if t.Kind() == reflect.String && !t.Implements(textMarshal) {
		role.text = placeOf(p.typ, at)
	}
	if r.id {
		if p.id != nil {
			p.failf(label, "id is on %s already", p.id.label)
		}
		p.id = &role
	}
	if r.subject == "" {
		return
	}
	for i := range p.subjects {
		if p.subjects[i].group == r.group {
			p.failf(label, "group %q has the subject %s already; give one of them group=NAME", r.group, p.subjects[i].label)
			return
		}
	}
	p.subjects = append(p.subjects, role)
}

func (p *planner) otherField(f reflect.StructField, at path, tag string, tagged bool, prefix, label string) {
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	where := hidesSecret(f.Type, nil)
	nested := t.Kind() == reflect.Struct && (where != "" || p.document && mentionsTag(t, nil))
	switch {
	case f.Type.Kind() == reflect.Pointer && isOurs(t):
		p.failf(label, "a pointer to %s cannot be sealed in place: use %s itself, which has a NULL of its own", short(t), short(t))
		return
	case where != "" && !nested:
		p.failf(label, "%s inside a %s is out of reach: seal the whole as one value, or keep the elements as rows of their own", where, f.Type.Kind())
		return
	case !nested && tagged && p.document:
		p.sealedField(f.Type, at, tag, prefix, label)
		return
	case !nested && tagged:
		p.failf(label, "a plain %s cannot be sealed in place: make it a lethe.Secret[%s]; a plain field carries subject= or id only", f.Type, f.Type)
		return
	case !nested && mentionsTag(t, nil):
		p.failf(label, "the lethe tags inside %s would do nothing here: seal the whole as one value, or keep its parts as rows or documents of their own", f.Type)
		return
	case !nested:
		return
	}
	if tagged {
		ft, err := parseFieldTag(tag)
		if err != nil {
			p.failf(label, "%v; a nested struct takes a name and no options", err)
			return
		}
		prefix += ft.name + "."
	} else if !f.Anonymous {
		p.failf(label, "the nested struct has sealed fields and needs a stable name: `lethe:\"%s\"`", strings.ToLower(f.Name))
		return
	}
	if f.Type.Kind() == reflect.Pointer {
		at[len(at)-1] = ^at[len(at)-1]
	}
	p.walk(t, at, prefix, label)
}

func (p *planner) finish() {
	root := p.typ.Name()
	if len(p.fields) == 0 {
		p.failf(root, "nothing to seal: no field is a tagged lethe.Secret")
	}
	if !p.document && p.keysSeen != 1 {
		p.failf(root, "needs exactly one lethe.Keys field, has %d", p.keysSeen)
	}
	if p.documents > 1 {
		p.failf(root, "has %d Document markers", p.documents)
	}
	if p.document {
		p.shadowOf()
	}
	p.takeVersions()
	p.takePlains()
	used := make([]bool, len(p.subjects))
	for i := range p.fields {
		p.fields[i].scope = p.scopeOf(&p.fields[i], used)
	}
	for i := range p.subjects {
		if !used[i] && len(p.fields) > 0 {
			p.failf(p.subjects[i].label, "no field belongs to this subject (group %q)", p.subjects[i].group)
		}
	}
	if len(p.scopes) > envelope.MaxScopes {
		p.failf(root, "has %d pairs of group and purpose, at most %d are allowed", len(p.scopes), envelope.MaxScopes)
	}
	for i := range p.indexes {
		x := &p.indexes[i]
		of, ok := p.names[x.tag.of]
		if !ok || of >= 1<<16 {
			p.failf(x.label, "of=%s names no Secret", x.tag.of)
			continue
		}
		x.of = of
		if p.fields[of].token != nil {
			p.failf(x.label, "of=%s is a Token: search for the token itself", x.tag.of)
			continue
		}
		codec := p.fields[of].codec
		if codec == codecJSON || codec == codecFloat || codec == codecTime || codec == codecBinary {
			p.failf(x.label, "%s values have no single spelling to search for", codecName(codec))
		} else if codec != codecBytes && codec != codecText && x.normName != "exact/1" {
			p.failf(x.label, "norm=%s applies to text; use norm=exact/1 for %s", x.normName, p.fields[of].typ)
		}
	}
}

func (p *planner) scopeOf(f *fieldPlan, used []bool) int {
	subject := slices.IndexFunc(p.subjects, func(s rolePlan) bool { return s.group == f.tag.group })
	if subject < 0 {
		if f.tag.group == "" {
			p.failf(f.label, "whose is it? tag a plain field of %s `lethe:\"subject=KIND\"`", p.typ.Name())
		} else {
			p.failf(f.label, "group %q has no subject: tag a plain field `lethe:\"subject=KIND,group=%s\"`", f.tag.group, f.tag.group)
		}
		return 0
	}
	used[subject] = true
	at := slices.IndexFunc(p.scopes, func(s scopePlan) bool { return s.group == f.tag.group && s.purpose == f.tag.purpose })
	if at < 0 {
		at = len(p.scopes)
		p.scopes = append(p.scopes, scopePlan{f.tag.group, f.tag.purpose, subject})
	}
	return at
}

// hidesSecret names the first Keys, Secret or BlindIndex reachable from t other than t itself.
func hidesSecret(t reflect.Type, seen map[reflect.Type]bool) string {
	if seen[t] {
		return ""
	}
	if seen == nil {
		seen = map[reflect.Type]bool{}
	}
	seen[t] = true
	if isOurs(t) || secretShaped(t) {
		return short(t)
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Chan:
		return hidesSecret(t.Elem(), seen)
	case reflect.Map:
		if where := hidesSecret(t.Key(), seen); where != "" {
			return where
		}
		return hidesSecret(t.Elem(), seen)
	case reflect.Struct:
		for field := range t.Fields() {
			if where := hidesSecret(field.Type, seen); where != "" {
				return where
			}
		}
	default:
	}
	return ""
}

// mentionsTag reports whether a struct has a lethe tag, or one nested in it at
// any depth: by value, by pointer or as an element.
func mentionsTag(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	if seen == nil {
		seen = map[reflect.Type]bool{}
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return mentionsTag(t.Elem(), seen)
	case reflect.Struct:
		for f := range t.Fields() {
			if _, ok := f.Tag.Lookup("lethe"); ok || mentionsTag(f.Type, seen) {
				return true
			}
		}
	default:
	}
	return false
}

func short(t reflect.Type) string {
	switch t {
	case keysType:
		return "lethe.Keys"
	case indexType:
		return "lethe.BlindIndex"
	case tokenType:
		return "lethe.Token"
	}
	if s, ok := reflect.TypeAssert[secret](reflect.New(t)); ok {
		return "lethe.Secret[" + s.valueType().String() + "]"
	}
	return t.String()
}

// hasIdentity reports whether values of t can name a subject or a row.
func hasIdentity(t reflect.Type) bool {
	if t.Implements(textMarshal) && t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	case reflect.Array:
		return t.Len() == 16 && t.Elem().Kind() == reflect.Uint8
	default:
		return false
	}
}
