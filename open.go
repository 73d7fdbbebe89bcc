package lethe

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/lethe-go/lethe/envelope"
)

func (s *Sealer[T]) open(ctx context.Context, rows []*T, opts []OpenOption) error {
	if err := s.ready(false); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	decided, err := s.decide(ctx, len(rows), opts)
	if err != nil {
		return err
	}
	sc := newScratch()
	defer sc.release()
	var failed *RowErrors
	var broken []brokenCell
	var o owners
	for i, row := range rows {
		broken = s.collect(sc, i, addressOf(row), &o, decided, broken)
	}
	sc.link()
	if len(sc.recs) > 0 {
		if err := s.ring.OpenRecords(ctx, sc.recs); err != nil {
			return err
		}
	}
	for _, b := range broken {
		*b.slot = &state{status: StatusFailed, sealed: (*b.slot).sealed, err: b.err}
		failed = failed.add(b.row, s.plan.fields[b.field].name, b.err)
	}
	failed = s.reveal(sc, decided, failed)
	s.denyRest(rows, decided)
	return failed.orNil()
}

// brokenCell is a field that cannot be opened for want of the row's keys or subject.
type brokenCell struct {
	ref
	err error
}

// collect turns what is to be opened in a row into a record.
func (s *Sealer[T]) collect(sc *scratch, at int, row unsafe.Pointer, o *owners, decided []Decision, broken []brokenCell) []brokenCell {
	p := s.plan
	first := len(sc.cells)
	var used uint32
	for i := range p.fields {
		if decided[i] == skip || decided[i] == Deny {
			continue
		}
		f := &p.fields[i]
		secret := f.at.secret(row)
		if secret == nil {
			continue
		}
		st := *secret
		switch st.statusOf() {
		case StatusSealed, StatusFailed, StatusDenied:
		case StatusUnset, StatusNull, StatusPlain, StatusOpen, StatusForgotten:
			continue
		}
		sc.refs = append(sc.refs, ref{row: at, field: i, slot: secret})
		sc.cells = append(sc.cells, envelope.Cell{Scope: f.scope, Field: f.name, Sealed: st.sealed})
		used |= 1 << f.scope
	}
	if used == 0 {
		return broken
	}
	keys := p.keysAt.keys(row)
	bad := p.readOwners(row, o)
	if bad == nil && keys.IsZero() {
		bad = fmt.Errorf("%w: the row has no Keys; select their column too", ErrDecrypt)
	}
	var to [envelope.MaxScopes]int
	n := 0
	for i := range p.scopes {
		if used>>i&1 == 0 {
			continue
		}
		subject := p.subject(s.tenant, i, o)
		err := bad
		if err == nil && subject.ID == "" {
			err = p.emptySubject(i)
		}
		if err != nil {
			broken = sc.breakScope(first, i, err, broken)
			continue
		}
		to[i] = n
		n++
		sc.scopes = append(sc.scopes, envelope.Scope{Group: p.scopes[i].group, Purpose: p.scopes[i].purpose, Subject: subject})
	}
	if n == 0 {
		sc.abandon()
		return broken
	}
	for i := first; i < len(sc.cells); i++ {
		sc.cells[i].Scope = to[sc.cells[i].Scope]
	}
	sc.close(at, envelope.Record{Name: p.record, RowID: o.rowID, Bound: p.id != nil, Header: keys.b})
	return broken
}

// breakScope takes the cells of a scope from first on out of the record.
func (sc *scratch) breakScope(first, scope int, err error, broken []brokenCell) []brokenCell {
	keep := first
	for i := first; i < len(sc.cells); i++ {
		if sc.cells[i].Scope == scope {
			broken = append(broken, brokenCell{sc.refs[i], err})
			continue
		}
		sc.cells[keep], sc.refs[keep] = sc.cells[i], sc.refs[i]
		keep++
	}
	sc.cells, sc.refs = sc.cells[:keep], sc.refs[:keep]
	return broken
}

// reveal installs what OpenRecords found.
func (s *Sealer[T]) reveal(sc *scratch, decided []Decision, failed *RowErrors) *RowErrors {
	at := 0
	for i := range sc.recs {
		cells := sc.recs[i].Cells
		states := make([]state, len(cells))
		for j := range cells {
			c, r := &cells[j], sc.refs[at+j]
			f := &s.plan.fields[r.field]
			st := &states[j]
			st.codec, st.sealed = c.Codec, c.Sealed
			if c.Err == nil && c.Codec != f.codec {
				c.Err = fmt.Errorf("%w: as %s, and the field's type %s is %s", errCodecMismatch, codecName(c.Codec), f.typ, codecName(f.codec))
			}
			switch {
			case c.Err != nil && errors.Is(c.Err, ErrForgotten):
				st.status = StatusForgotten
			case c.Err != nil:
				st.status, st.err = StatusFailed, c.Err
				failed = failed.add(r.row, f.name, c.Err)
			case decided[r.field] == MaskOnly:
				st.status, st.mask, st.value = StatusDenied, max(f.mask, full), hideString(f.mask.apply(c.Codec, c.Plain))
				clear(c.Plain)
			default:
				st.status, st.mask, st.value = StatusOpen, f.mask, hideBytes(c.Plain)
			}
			*r.slot = st
		}
		at += len(cells)
	}
	return failed
}

// denyRest marks the sealed fields the policy denies.
func (s *Sealer[T]) denyRest(rows []*T, decided []Decision) {
	for i, d := range decided {
		if d != Deny {
			continue
		}
		for _, row := range rows {
			secret := s.plan.fields[i].at.secret(addressOf(row))
			if secret == nil {
				continue
			}
			if st := *secret; st.statusOf() == StatusSealed || st.statusOf() == StatusFailed {
				*secret = &state{status: StatusDenied, sealed: st.sealed}
			}
		}
	}
}

func (s *Sealer[T]) rewrap(ctx context.Context, rows []*T) ([]int, error) {
	if err := s.ready(false); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sc := newScratch()
	defer sc.release()
	p := s.plan
	var o owners
	for i, row := range rows {
		v := addressOf(row)
		if err := p.readOwners(v, &o); err != nil {
			return nil, s.rowErr(i, len(rows), err)
		}
		keys := p.keysAt.keys(v)
		if keys.IsZero() {
			return nil, s.rowErr(i, len(rows), fmt.Errorf("%w: the row has no Keys; select their column, or Seal it", ErrNotSealed))
		}
		n := 0
		for j := range p.scopes {
			if subject := p.subject(s.tenant, j, &o); subject.ID != "" {
				sc.scopes = append(sc.scopes, envelope.Scope{Group: p.scopes[j].group, Purpose: p.scopes[j].purpose, Subject: subject})
				n++
			}
		}
		if n == 0 {
			return nil, s.rowErr(i, len(rows), p.emptySubject(0))
		}
		sc.close(i, envelope.Record{Name: p.record, RowID: o.rowID, Bound: p.id != nil, Header: keys.b})
	}
	sc.link()
	if len(sc.recs) == 0 {
		return nil, nil
	}
	if _, err := s.ring.RewrapRecords(ctx, sc.recs); err != nil {
		return nil, err
	}
	var changed []int
	for i := range sc.recs {
		keys := p.keysAt.keys(addressOf(rows[sc.rows[i]]))
		if string(keys.b) != string(sc.recs[i].Header) {
			keys.b = sc.recs[i].Header
			changed = append(changed, i)
		}
	}
	return changed, nil
}
