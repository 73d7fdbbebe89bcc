package lethe

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"unsafe"
)

// Unseal is the way out of a [Migration]: it opens the fields that have a plaintext
// column, as far as the policy allows, writes them there, and makes the Secrets and
// their blind indexes NULL; the Keys too, when the row holds no ciphertext any more.
// rows are as loaded, with all their columns. changed lists, ascending, the rows to
// write, guarded by the old Keys.
//
// A row is done as a whole or stays as it was. Rows that cannot be done are in a
// *RowErrors, and all others are done: ErrForgotten, ErrSuspended, ErrDenied, or why a
// field does not open. After any other error no row changed.
//
// A Seal meanwhile seals again: programs that write must have gone back to the
// plaintext columns first, or have Keep.
func (s *Sealer[T]) Unseal(ctx context.Context, rows []T) (changed []int, err error) {
	return s.unseal(ctx, rowsOf(rows))
}

func (s *core) unseal(ctx context.Context, all rows) ([]int, error) {
	if err := s.readyToMove(ctx); err != nil {
		return nil, err
	}
	var names []string
	for i := range s.plan.plains {
		names = append(names, s.plan.fields[s.plan.plains[i].field].name)
	}
	var pick []int
	for i := range all.n {
		if s.holdsSealed(all.at(i)) {
			pick = append(pick, i)
		}
	}
	if len(pick) == 0 {
		return nil, nil
	}
	decided, err := s.decide(ctx, len(pick), []OpenOption{Fields(names...)})
	if err != nil {
		return nil, err
	}
	some := all.only(pick)
	restore := s.remember(some)
	var partly *RowErrors
	if err := s.openSealed(ctx, some, decided); err != nil && !errors.As(err, &partly) {
		restore()
		return nil, err
	}
	var changed []int
	var failed *RowErrors
	type result struct {
		row     unsafe.Pointer
		columns []reflect.Value
	}
	var done []result
	for _, i := range pick {
		columns, field, err := s.plaintexts(all.at(i))
		if err != nil {
			failed = failed.add(i, field, err)
			continue
		}
		changed, done = append(changed, i), append(done, result{all.at(i), columns})
	}
	restore()
	for _, r := range done {
		s.installPlain(r.row, r.columns)
	}
	return changed, failed.orNil()
}

// holdsSealed reports whether a field with a plaintext column is sealed, or its
// column was not selected.
func (s *core) holdsSealed(row unsafe.Pointer) bool {
	for i := range s.plan.plains {
		slot := s.plan.fields[s.plan.plains[i].field].at.secret(row)
		if slot == nil {
			continue
		}
		if st := *slot; st == nil && !s.plan.keysAt.keys(row).IsZero() || st != nil && (len(st.sealed) > 0 || st.status == StatusPlain) {
			return true
		}
	}
	return false
}

// plaintexts returns what the plaintext columns of an opened row are to hold; not
// valid: what they do.
func (s *core) plaintexts(row unsafe.Pointer) ([]reflect.Value, string, error) {
	out := make([]reflect.Value, len(s.plan.plains))
	for i := range s.plan.fields {
		f := &s.plan.fields[i]
		slot := f.at.secret(row)
		if slot == nil {
			continue
		}
		st := *slot
		switch {
		case st == nil:
			return nil, f.name, fmt.Errorf("%w: Unseal needs all sealed columns selected", ErrNotSealed)
		case st == nullGiven || st.status == StatusPlain:
			return nil, f.name, fmt.Errorf("%w: the field was set and not sealed; Unseal takes rows as loaded", ErrNotSealed)
		}
	}
	for i := range s.plan.plains {
		c := &s.plan.plains[i]
		f := &s.plan.fields[c.field]
		slot := f.at.secret(row)
		if slot == nil || (*slot).statusOf() == StatusNull || (*slot).fromPlain() {
			continue
		}
		st := *slot
		if err := st.readable(); err != nil {
			return nil, f.name, err
		}
		v, err := c.made(st.codec, st.value.bytes())
		if err != nil {
			return nil, f.name, err
		}
		out[i] = v
	}
	return out, "", nil
}

// installPlain takes a row out of sealing; nothing can fail any more.
func (s *core) installPlain(row unsafe.Pointer, columns []reflect.Value) {
	for i, v := range columns {
		if !v.IsValid() {
			continue
		}
		c := &s.plan.plains[i]
		c.column(row).Set(v)
		*s.plan.fields[c.field].at.secret(row) = nullState
		for j := range s.plan.indexes {
			x := &s.plan.indexes[j]
			if index := x.at.index(row); x.of == c.field && index != nil {
				index.b, index.null = nil, true
			}
		}
	}
	for i := range s.plan.fields {
		if slot := s.plan.fields[i].at.secret(row); slot != nil && *slot != nil && len((*slot).sealed) > 0 {
			return
		}
	}
	s.plan.keysAt.keys(row).b = []byte{}
}
