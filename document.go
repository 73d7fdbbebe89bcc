package lethe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

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
	if err := s.ready(true); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
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
// left zero and listed in a *RowErrors with ErrForgotten, ErrDenied, ErrDecrypt
// or ErrKeyMissing; everything else is filled in. After any other error *v is
// unchanged.
func Unmarshal[T any](ctx context.Context, s *Sealer[T], data []byte, v *T, opts ...OpenOption) error {
	if v == nil {
		return errors.New("lethe: Unmarshal into a nil value")
	}
	if err := s.ready(true); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
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
		return errPlaintext()
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

func (s *core) marshalDocument(ctx context.Context, row reflect.Value) ([]byte, error) {
	p := s.plan
	var o owners
	if err := p.readOwners(row.Addr().UnsafePointer(), &o); err != nil {
		return nil, err
	}
	rec := envelope.Record{Name: p.record, RowID: o.rowID, Bound: p.id != nil}
	raws := make([]json.RawMessage, len(p.fields))
	var at []int
	var used uint32
	for i := range p.fields {
		f := &p.fields[i]
		v, ok := f.path.find(row)
		if !ok || p.shadow.omits[i](v) {
			continue
		}
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				raws[i] = json.RawMessage("null")
				continue
			}
			v = v.Elem()
		}
		codec, plain, err := encodeReflect(v)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", f.name, err)
		}
		if _, null, err := parseJSON(plain, isCell); (codec == codecBytes || codec == codecJSON) && err == nil && !null {
			return nil, fmt.Errorf("field %q: %w: the value is a sealed one; Unmarshal it first", f.name, ErrSealed)
		}
		rec.Cells = append(rec.Cells, envelope.Cell{Scope: f.scope, Field: f.name, Codec: codec, Plain: plain})
		used |= 1 << f.scope
		at = append(at, i)
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
	recs := []envelope.Record{rec}
	if err := s.ring.SealRecords(ctx, recs); err != nil {
		return nil, err
	}
	for i := range recs[0].Cells {
		raws[at[i]], _ = jsonForm(recs[0].Cells[i].Sealed, false, nil)
	}
	out := reflect.New(p.shadow.typ).Elem()
	p.shadow.fill(out, row, raws)
	out.Field(out.NumField() - 1).Set(reflect.ValueOf(Keys{b: recs[0].Header}))
	return json.Marshal(out.Addr().Interface())
}

func (s *core) unmarshalDocument(ctx context.Context, data []byte, row reflect.Value, opts []OpenOption) error {
	p := s.plan
	decided, err := s.decide(ctx, 1, opts)
	if err != nil {
		return err
	}
	in := reflect.New(p.shadow.typ).Elem()
	if err := json.Unmarshal(data, in.Addr().Interface()); err != nil {
		return decodeErr(err)
	}
	raws := make([]json.RawMessage, len(p.fields))
	p.shadow.drain(in, row, raws)
	keys, _ := reflect.TypeAssert[Keys](in.Field(in.NumField() - 1))
	var o owners
	if err := p.readOwners(row.Addr().UnsafePointer(), &o); err != nil {
		return err
	}
	rec := envelope.Record{Name: p.record, RowID: o.rowID, Bound: p.id != nil, Header: keys.b}
	var at []int
	var failed *RowErrors
	for i, raw := range raws {
		if raw == nil {
			continue
		}
		f := &p.fields[i]
		sealed, null, err := parseJSON(raw, isCell)
		switch {
		case err != nil:
			return fmt.Errorf("field %q: %w", f.name, err)
		case null, decided[i] == skip:
			continue
		case decided[i] != Allow:
			failed = failed.add(0, f.name, ErrDenied)
			continue
		}
		subject := p.subject(s.tenant, f.scope, &o)
		if subject.ID == "" {
			return p.emptySubject(f.scope)
		}
		scope := slices.IndexFunc(rec.Scopes, func(sc envelope.Scope) bool {
			return sc.Group == p.scopes[f.scope].group && sc.Purpose == p.scopes[f.scope].purpose
		})
		if scope < 0 {
			scope = len(rec.Scopes)
			rec.Scopes = append(rec.Scopes, envelope.Scope{Group: p.scopes[f.scope].group, Purpose: p.scopes[f.scope].purpose, Subject: subject})
		}
		rec.Cells = append(rec.Cells, envelope.Cell{Scope: scope, Field: f.name, Sealed: sealed})
		at = append(at, i)
	}
	if len(rec.Cells) == 0 {
		return failed.orNil()
	}
	if keys.IsZero() {
		return fmt.Errorf("%w: the document has no member %q", ErrNotSealed, keysMember)
	}
	recs := []envelope.Record{rec}
	if err := s.ring.OpenRecords(ctx, recs); err != nil {
		return err
	}
	for i := range recs[0].Cells {
		c, f := &recs[0].Cells[i], &p.fields[at[i]]
		err := c.Err
		if v, ok := f.path.find(row); err == nil && ok {
			fresh := reflect.New(f.typ)
			if err = decodeReflect(fresh.Elem(), c.Codec, c.Plain); err == nil && v.Kind() == reflect.Pointer {
				v.Set(fresh)
			} else if err == nil {
				v.Set(fresh.Elem())
			}
		}
		if err != nil {
			failed = failed.add(0, f.name, err)
		}
	}
	return failed.orNil()
}
