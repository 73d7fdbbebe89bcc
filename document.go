package lethe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/lethe-go/lethe/envelope"
)

// Document is a marker: as a blank field it makes a struct of plain fields one
// that Marshal seals: an event, a message, a JSON column.
//
//	type OrderPlaced struct {
//		_     lethe.Document `lethe:"order_placed"`
//		User  string         `json:"user" lethe:"subject=customer"`
//		Total int            `json:"total"`
//		Email string         `json:"email" lethe:"email"`
//	}
//
// Tagged fields may be pointers, whose nil is written as null. The wrapped data
// keys become the member "$lethe_keys". Embedded structs are embedded by value.
type Document struct{}

// keysMember is the JSON member that carries the keys of a document.
const keysMember = "$lethe_keys"

// Marshal encodes *v as JSON with clear fields readable and tagged ones sealed,
// under data keys of its own. v is a row with Secrets or a [Document]; it is not
// changed. Input that is sealed already is refused with ErrSealed. Other errors
// are those of Seal and of encoding/json.
func Marshal[T any](ctx context.Context, s *Sealer[T], v *T) ([]byte, error) {
	if v == nil {
		return nil, errors.New("lethe: Marshal of a nil value")
	}
	if err := s.begin(ctx, true); err != nil {
		return nil, err
	}
	if s.plan.document {
		return s.marshalDocument(ctx, reflect.ValueOf(v).Elem())
	}
	row := *v
	p := s.plan
	rv := reflect.ValueOf(&row).Elem()
	if !p.keysAt.keys(addressOf(&row)).IsZero() {
		return nil, fmt.Errorf("%w: the row has Keys; json.Marshal writes it as it is", ErrSealed)
	}
	if err := p.encodable(); err != nil {
		return nil, err
	}
	p.unshare(rv)
	if err := s.Seal(ctx, &row); err != nil {
		return nil, err
	}
	data, err := json.Marshal(&row)
	if err != nil {
		return nil, err
	}
	if !p.rereads.Load() {
		if err := p.reread(data, rv); err != nil {
			return nil, err
		}
		p.rereads.Store(true)
	}
	return data, nil
}

// reread checks once per type that encoding/json writes what a row needs to be
// opened: of two fields with one JSON name it leaves out one or both, and says nothing.
func (p *plan) reread(data []byte, row reflect.Value) error {
	back := reflect.New(p.typ)
	if err := json.Unmarshal(data, back.Interface()); err != nil {
		return decodeErr(err)
	}
	var want, got owners
	was, is := row.Addr().UnsafePointer(), back.UnsafePointer()
	if err := errors.Join(p.readOwners(was, &want), p.readOwners(is, &got)); err != nil || want != got || !p.keysAt.keys(was).Equal(*p.keysAt.keys(is)) {
		return fmt.Errorf("lethe: the JSON of %s does not carry its Keys, subjects and row id, so what is sealed could never be opened; does another field have the JSON name of one of them?", p.typ)
	}
	return nil
}

// Unmarshal decodes what Marshal wrote into *v and opens it, as Open does. A
// plaintext value in the place of a sealed one is refused with ErrNotSealed.
//
// In a [Document], whose fields have no status, a field that does not open is
// left zero and listed in a *RowErrors with ErrForgotten, ErrSuspended, ErrDenied,
// ErrDecrypt or ErrKeyMissing; everything else is filled in. After any other error *v is
// unchanged.
func Unmarshal[T any](ctx context.Context, s *Sealer[T], data []byte, v *T, opts ...OpenOption) error {
	if v == nil {
		return errors.New("lethe: Unmarshal into a nil value")
	}
	if err := s.begin(ctx, true); err != nil {
		return err
	}
	var row T
	if s.plan.document {
		err := s.unmarshalDocument(ctx, data, reflect.ValueOf(&row).Elem(), opts)
		var partly *RowErrors
		if err == nil || errors.As(err, &partly) {
			*v = row
		}
		return err
	}
	if err := s.plan.encodable(); err != nil {
		return err
	}
	if err := json.Unmarshal(data, &row); err != nil {
		return decodeErr(err)
	}
	err := s.Open(ctx, &row, opts...)
	var partly *RowErrors
	if err == nil || errors.As(err, &partly) {
		*v = row
	}
	return err
}

// decodeErr keeps our sentinels and drops encoding/json's message, which may quote the input.
func decodeErr(err error) error {
	if errors.Is(err, ErrNotSealed) {
		return errPlaintext
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("lethe: not JSON, at byte %d", syntax.Offset)
	}
	if typed, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("lethe: member %q does not decode into %s", typed.Field, typed.Type)
	}
	return errors.New("lethe: the document does not decode into the struct")
}

// encodable checks that encoding/json reaches what a row needs to be opened.
func (p *plan) encodable() error {
	if reflect.PointerTo(p.typ).Implements(jsonMarshaler) {
		return fmt.Errorf("lethe: %s has a MarshalJSON of its own; Seal the row and call it yourself", p.typ)
	}
	if len(p.plains) > 0 {
		return fmt.Errorf("lethe: %s has a plaintext column, %s, which JSON would show; give what is marshalled a type without it", p.typ, p.plains[0].label)
	}
	needed := []path{p.keys}
	for i := range p.subjects {
		needed = append(needed, p.subjects[i].path)
	}
	if p.id != nil {
		needed = append(needed, p.id.path)
	}
	for _, at := range needed {
		t := p.typ
		for _, i := range at {
			f := t.Field(max(i, ^i))
			if f.Tag.Get("json") == "-" {
				return fmt.Errorf("lethe: %s.%s has the tag json:\"-\", so what is sealed could never be opened; give it a name", t.Name(), f.Name)
			}
			t = structOf(f.Type)
		}
	}
	return nil
}

// unshare gives a copied row its own copies of the structs its pointers lead to.
func (p *plan) unshare(row reflect.Value) {
	done := map[string]bool{}
	own := func(at path) {
		for i := range at {
			if at[i] >= 0 || done[fmt.Sprint(at[:i+1])] {
				continue
			}
			done[fmt.Sprint(at[:i+1])] = true
			parent, ok := at[:i].find(row)
			if !ok {
				return
			}
			ptr := parent.Field(^at[i])
			if ptr.IsNil() {
				return
			}
			fresh := reflect.New(ptr.Type().Elem())
			fresh.Elem().Set(ptr.Elem())
			ptr.Set(fresh)
		}
	}
	for i := range p.fields {
		own(p.fields[i].path)
	}
	for i := range p.indexes {
		own(p.indexes[i].path)
	}
}

// member is what a document has of a sealed field: sealed bytes, JSON null or nothing.
type member struct {
	sealed []byte
	null   bool
}

// fewMembers is room on the stack, which most documents fit in.
type fewMembers [16]member

func (f *fewMembers) of(n int) []member {
	if n > len(f) {
		return make([]member, n)
	}
	return f[:n]
}

func (s *core) marshalDocument(ctx context.Context, row reflect.Value) ([]byte, error) {
	p := s.plan
	var o owners
	if err := p.readOwners(row.Addr().UnsafePointer(), &o); err != nil {
		return nil, err
	}
	var room few
	var roomMembers fewMembers
	members := roomMembers.of(len(p.fields))
	rec := envelope.Record{Name: p.record, RowID: o.rowID, Bound: p.id != nil, Scopes: room.scopes[:0], Cells: room.cells[:0]}
	refs := room.refs[:0]
	var used uint32
	for i := range p.fields {
		f := &p.fields[i]
		v, ok := f.path.find(row)
		if omits := p.shadow.omits[i]; !ok || omits != nil && omits(v) {
			continue
		}
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				members[i].null = true
				continue
			}
			v = v.Elem()
		}
		plain, err := f.plain(v)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", f.name, err)
		}
		if _, null, err := parseJSON(plain, isCell); (f.codec == codecBytes || f.codec == codecJSON) && err == nil && !null {
			return nil, fmt.Errorf("field %q: %w: the value is a sealed one; Unmarshal it first", f.name, ErrSealed)
		}
		rec.Cells = append(rec.Cells, envelope.Cell{Scope: f.scope, Field: f.name, Codec: f.codec, Plain: plain})
		used |= 1 << f.scope
		refs = append(refs, ref{field: i})
	}
	var to [envelope.MaxScopes]int
	for i := range p.scopes {
		subject := p.subject(s.tenant, i, &o)
		if subject.ID == "" {
			if used>>i&1 == 1 || p.scopes[i].group == "" {
				return nil, p.emptySubject(i)
			}
			continue
		}
		to[i] = len(rec.Scopes)
		rec.Scopes = append(rec.Scopes, envelope.Scope{Group: p.scopes[i].group, Purpose: p.scopes[i].purpose, Subject: subject})
	}
	if len(rec.Scopes) == 0 {
		return nil, p.emptySubject(0)
	}
	for i := range rec.Cells {
		rec.Cells[i].Scope = to[rec.Cells[i].Scope]
	}
	recs := [1]envelope.Record{rec}
	var headers [1][]byte
	if err := s.ring.SealRecordsTo(ctx, recs[:], headers[:]); err != nil {
		return nil, err
	}
	size := len(keysMember) + sealedLen(headers[0]) + 64
	for i := range rec.Cells {
		members[refs[i].field].sealed = rec.Cells[i].Sealed
		size += len(rec.Cells[i].Field) + sealedLen(rec.Cells[i].Sealed) + 16
	}
	return p.shadow.write(make([]byte, 0, size), row, members, headers[0])
}

// plain encodes the value of a document's field, which nobody may write to
// while the result is in use.
func (f *fieldPlan) plain(v reflect.Value) ([]byte, error) {
	if f.codec == codecBytes && v.Kind() == reflect.String {
		return hideString(v.String()).bytes(), nil
	}
	_, plain, err := encodeReflect(v)
	return plain, err
}

func (s *core) unmarshalDocument(ctx context.Context, data []byte, row reflect.Value, opts []OpenOption) error {
	p := s.plan
	decided, err := s.decide(ctx, 1, opts)
	if err != nil {
		return err
	}
	var roomMembers fewMembers
	members := roomMembers.of(len(p.fields))
	header, ok := p.shadow.read(data, row, members)
	if !ok { // in another form than Marshal writes, or wrong
		row.SetZero()
		if header, err = p.decode(data, row, members); err != nil {
			return err
		}
	}
	var o owners
	if err := p.readOwners(row.Addr().UnsafePointer(), &o); err != nil {
		return err
	}
	var room few
	rec := envelope.Record{Name: p.record, RowID: o.rowID, Bound: p.id != nil, Header: header, Scopes: room.scopes[:0], Cells: room.cells[:0]}
	refs := room.refs[:0]
	var failed *RowErrors
	var have uint32
	var to [envelope.MaxScopes]int
	for i := range members {
		f := &p.fields[i]
		switch {
		case members[i].sealed == nil, decided[i] == skip:
			continue
		case decided[i] != Allow:
			failed = failed.add(0, f.name, ErrDenied)
			continue
		}
		if have>>f.scope&1 == 0 {
			subject := p.subject(s.tenant, f.scope, &o)
			if subject.ID == "" {
				return p.emptySubject(f.scope)
			}
			have |= 1 << f.scope
			to[f.scope] = len(rec.Scopes)
			rec.Scopes = append(rec.Scopes, envelope.Scope{Group: p.scopes[f.scope].group, Purpose: p.scopes[f.scope].purpose, Subject: subject})
		}
		rec.Cells = append(rec.Cells, envelope.Cell{Scope: to[f.scope], Field: f.name, Sealed: members[i].sealed})
		refs = append(refs, ref{field: i})
	}
	if len(rec.Cells) == 0 {
		return failed.orNil()
	}
	if len(header) == 0 {
		return fmt.Errorf("%w: the document has no member %q", ErrNotSealed, keysMember)
	}
	recs := [1]envelope.Record{rec}
	if err := s.ring.OpenRecords(ctx, recs[:]); err != nil {
		return err
	}
	for i := range rec.Cells {
		c, f := &rec.Cells[i], &p.fields[refs[i].field]
		err := c.Err
		if v, ok := f.path.find(row); err == nil && ok {
			err = f.set(v, c)
		}
		if err != nil {
			failed = failed.add(0, f.name, err)
		}
	}
	return failed.orNil()
}

// set decodes an opened cell into a document's field, or leaves it as it is.
func (f *fieldPlan) set(v reflect.Value, c *envelope.Cell) error {
	if c.Codec == codecBytes && f.codec == codecBytes && v.Kind() == reflect.String {
		v.SetString(string(c.Plain))
		return nil
	}
	fresh := reflect.New(f.typ)
	if err := decodeReflect(fresh.Elem(), c.Codec, c.Plain); err != nil {
		return err
	}
	if v.Kind() == reflect.Pointer {
		v.Set(fresh)
	} else {
		v.Set(fresh.Elem())
	}
	return nil
}

// decode reads a document with encoding/json, and returns its header.
func (p *plan) decode(data []byte, row reflect.Value, members []member) ([]byte, error) {
	in := reflect.New(p.shadow.typ).Elem()
	if err := json.Unmarshal(data, in.Addr().Interface()); err != nil {
		return nil, decodeErr(err)
	}
	raws := make([]json.RawMessage, len(p.fields))
	p.shadow.drain(in, row, raws)
	clear(members)
	for i, raw := range raws {
		if raw == nil {
			continue
		}
		var err error
		if members[i].sealed, members[i].null, err = parseJSON(raw, isCell); err != nil {
			return nil, fmt.Errorf("field %q: %w", p.fields[i].name, err)
		}
	}
	keys, _ := reflect.TypeAssert[Keys](in.Field(in.NumField() - 1))
	return keys.b, nil
}
