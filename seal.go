package lethe

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/lethe-go/lethe/envelope"
)

// seal seals the Plain fields of new and loaded rows; anew also takes the Open
// ones and gives every row new data keys.
func (s *Sealer[T]) seal(ctx context.Context, rows []*T, anew bool) error {
	if err := s.ready(false); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	sc := newScratch()
	defer sc.release()
	var o owners
	for i, row := range rows {
		if err := s.gather(sc, i, addressOf(row), &o, anew); err != nil {
			return s.rowErr(i, len(rows), err)
		}
	}
	if s.plan.pointers {
		if err := s.shared(sc); err != nil {
			return err
		}
	}
	sc.link()
	if len(sc.recs) > 0 {
		if err := s.ring.SealRecords(ctx, sc.recs); err != nil {
			return s.sealErr(err)
		}
	}
	if err := s.loadIndexKeys(ctx, sc); err != nil {
		return err
	}
	s.install(sc, rows, anew)
	return nil
}

func (s *Sealer[T]) rowErr(i, n int, err error) error {
	if n == 1 {
		return err
	}
	return fmt.Errorf("row %d of %d: %w", i, n, err)
}

// shared refuses rows, or fields of one row, that point to the same struct: it
// would hold the ciphertext of the last one only, and the others would be lost.
func (s *Sealer[T]) shared(sc *scratch) error {
	seen := make(map[**state]ref, len(sc.refs))
	for _, r := range sc.refs {
		if first, twice := seen[r.slot]; twice {
			return fmt.Errorf("lethe: field %q of row %d and field %q of row %d are behind pointers to one struct; give each a struct of its own",
				s.plan.fields[first.field].name, first.row, s.plan.fields[r.field].name, r.row)
		}
		seen[r.slot] = r
	}
	return nil
}

func (s *Sealer[T]) sealErr(err error) error {
	if errors.Is(err, envelope.ErrScopes) {
		return fmt.Errorf("%w (or the subject column of one of its groups was not selected)", err)
	}
	return err
}

// gather turns a row into a record, if there is anything to seal in it.
func (s *Sealer[T]) gather(sc *scratch, n int, row unsafe.Pointer, o *owners, anew bool) error {
	p := s.plan
	if err := p.readOwners(row, o); err != nil {
		return err
	}
	keys := p.keysAt.keys(row)
	fresh := keys.IsZero() || anew
	first := len(sc.cells)
	var used uint32
	held, nulled := false, false
	for i := range p.fields {
		f := &p.fields[i]
		at := f.at.secret(row)
		if at == nil {
			continue
		}
		st := *at
		switch take, err := f.takes(st, fresh, anew); {
		case err != nil:
			return fmt.Errorf("field %q: %w", f.name, err)
		case !take:
			held = held || st != nil && st.sealed != nil
			nulled = nulled || st == nullGiven
			continue
		}
		sc.refs = append(sc.refs, ref{row: n, field: i, slot: at})
		sc.cells = append(sc.cells, envelope.Cell{Scope: f.scope, Field: f.name, Codec: st.codec, Plain: st.value.bytes()})
		used |= 1 << f.scope
	}
	if len(sc.cells) == first && !fresh {
		sc.abandon()
		if held && !nulled {
			return fmt.Errorf("%w: every field of the row is sealed already, nothing was changed; set a field with Of or Null first", ErrSealed)
		}
		return nil
	}
	rec := envelope.Record{Name: p.record, RowID: o.rowID, Bound: p.id != nil}
	if !fresh {
		rec.Header = keys.b
	}
	var to [envelope.MaxScopes]int
	scopes := 0
	for i := range p.scopes {
		subject := p.subject(s.tenant, i, o)
		if subject.ID == "" {
			if used>>i&1 == 1 || p.scopes[i].group == "" {
				return p.emptySubject(i)
			}
			continue
		}
		to[i] = scopes
		scopes++
		sc.scopes = append(sc.scopes, envelope.Scope{Group: p.scopes[i].group, Purpose: p.scopes[i].purpose, Subject: subject})
	}
	if scopes == 0 {
		return p.emptySubject(0)
	}
	for i := first; i < len(sc.cells); i++ {
		sc.cells[i].Scope = to[sc.cells[i].Scope]
	}
	sc.close(n, rec)
	return nil
}

// takes reports whether a field is to be sealed now.
func (f *fieldPlan) takes(st *state, fresh, anew bool) (bool, error) {
	switch st.statusOf() {
	case StatusPlain:
		if st.err != nil {
			return false, st.err
		}
		if st.codec != f.codec {
			return false, fmt.Errorf("lethe: encoded as %s, its type has %s", codecName(st.codec), codecName(f.codec))
		}
		return true, nil
	case StatusNull:
		return false, nil
	case StatusUnset:
		if anew {
			return false, fmt.Errorf("%w: Reseal needs every field; select its column and Open the row", ErrNotSealed)
		}
		return false, nil
	case StatusOpen:
		if anew {
			return true, nil
		}
	case StatusForgotten:
		if anew {
			return false, ErrForgotten
		}
	case StatusSealed, StatusDenied, StatusFailed:
		if anew {
			return false, fmt.Errorf("%w: Reseal needs every field opened", ErrSealed)
		}
	}
	if fresh {
		return false, fmt.Errorf("%w: the row has no Keys, yet this field holds ciphertext, which belongs to another row; select the Keys column, or set the field with Of", ErrSealed)
	}
	return false, nil
}

// loadIndexKeys fetches the key of every index that will be computed.
func (s *Sealer[T]) loadIndexKeys(ctx context.Context, sc *scratch) error {
	for i := range s.plan.indexes {
		x := &s.plan.indexes[i]
		sc.known = append(sc.known, nil)
		for j := range sc.refs {
			if sc.refs[j].field != x.of {
				continue
			}
			keys, err := s.ring.IndexKeys(ctx, s.tenant, s.plan.record, x.name, true)
			if err != nil {
				return err
			}
			if len(keys) == 0 {
				return fmt.Errorf("lethe: blind index %q: %w", x.name, ErrKeyMissing)
			}
			sc.known[i] = keys
			break
		}
	}
	return nil
}

// install writes the outcome into the rows; nothing can fail any more.
func (s *Sealer[T]) install(sc *scratch, rows []*T, anew bool) {
	p := s.plan
	cell := 0
	for i := range sc.recs {
		rec := &sc.recs[i]
		row := addressOf(rows[sc.rows[i]])
		keys := p.keysAt.keys(row)
		fresh := keys.IsZero() || anew
		keys.b = rec.Header
		s.installIndexes(sc, row, cell, cell+len(rec.Cells))
		states := make([]state, len(rec.Cells))
		for j := range rec.Cells {
			states[j] = state{status: StatusSealed, codec: rec.Cells[j].Codec, sealed: rec.Cells[j].Sealed}
			*sc.refs[cell+j].slot = &states[j]
		}
		cell += len(rec.Cells)
		if fresh {
			s.nullRest(row)
		}
	}
	for _, row := range rows {
		s.settleNulls(addressOf(row))
	}
}

// installIndexes computes the indexes over the cells [from, to).
func (s *Sealer[T]) installIndexes(sc *scratch, row unsafe.Pointer, from, to int) {
	for i := range s.plan.indexes {
		x := &s.plan.indexes[i]
		for j := from; j < to; j++ {
			if sc.refs[j].field != x.of {
				continue
			}
			if index := x.at.index(row); index != nil {
				index.b = sc.known[i][0].Append(nil, x.normName, x.normalised(sc.cells[j].Plain), x.bits)
				index.null = false
			}
		}
	}
}

func (x *indexPlan) normalised(plain []byte) []byte {
	if x.normName == "exact/1" {
		return plain
	}
	return []byte(x.norm(string(plain)))
}

// nullRest makes the fields of a new row that were never set NULL, and the
// indexes of fields behind a nil pointer.
func (s *Sealer[T]) nullRest(row unsafe.Pointer) {
	for i := range s.plan.indexes {
		x := &s.plan.indexes[i]
		if index := x.at.index(row); index != nil && s.plan.fields[x.of].at.secret(row) == nil {
			index.b, index.null = nil, true
		}
	}
	for i := range s.plan.fields {
		if secret := s.plan.fields[i].at.secret(row); secret != nil && *secret == nil {
			*secret = nullState
		}
	}
}

// settleNulls ends the news that a field was set to NULL, and gives the index of
// every NULL field the same fate.
func (s *Sealer[T]) settleNulls(row unsafe.Pointer) {
	for i := range s.plan.fields {
		if secret := s.plan.fields[i].at.secret(row); secret != nil && *secret == nullGiven {
			*secret = nullState
		}
	}
	for i := range s.plan.indexes {
		x := &s.plan.indexes[i]
		secret, index := s.plan.fields[x.of].at.secret(row), x.at.index(row)
		if secret != nil && index != nil && (*secret).statusOf() == StatusNull {
			index.b, index.null = nil, true
		}
	}
}
