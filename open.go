package lethe

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/lethe-go/lethe/envelope"
)

// open is openAll for one row, whose memory is on the stack.
func (s *core) open(ctx context.Context, at unsafe.Pointer, opts []OpenOption) error {
	if at == nil {
		return errNilRow
	}
	if err := s.begin(ctx, false); err != nil {
		return err
	}
	decided, err := s.decide(ctx, 1, opts)
	if err != nil {
		return err
	}
	if s.migrations != nil {
		return s.openMigrating(ctx, rows{at, 0, 1, nil}, decided)
	}
	var room few
	var o owners
	p, rec, broken := s.collect(parts{room.scopes[:0], room.cells[:0], room.refs[:0]}, 0, at, &o, decided, nil)
	recs := [1]envelope.Record{rec}
	recs[0].Scopes, recs[0].Cells = p.scopes, p.cells
	if len(p.cells) > 0 {
		if err := s.ring.OpenRecords(ctx, recs[:]); err != nil {
			return err
		}
	}
	turned, err := s.turnTokens(ctx, rows{at, 0, 1, nil}, decided) // last: it may take a use
	if err != nil {
		return err
	}
	failed := s.fail(broken)
	failed = s.reveal(recs[0].Cells, p.refs, decided, failed)
	failed = turned.reveal(s.plan, decided, failed)
	s.denyRest(at, decided)
	return failed.orNil()
}

func (s *core) openAll(ctx context.Context, all rows, opts []OpenOption) error {
	if err := s.begin(ctx, false); err != nil {
		return err
	}
	decided, err := s.decide(ctx, all.n, opts)
	if err != nil {
		return err
	}
	if s.migrations != nil {
		return s.openMigrating(ctx, all, decided)
	}
	return s.openSealed(ctx, all, decided)
}

// openSealed opens what is sealed in the rows, as far as decided.
func (s *core) openSealed(ctx context.Context, all rows, decided []Decision) error {
	sc := newScratch()
	defer sc.release()
	var broken []brokenCell
	var o owners
	for i := range all.n {
		first := len(sc.cells)
		var rec envelope.Record
		sc.parts, rec, broken = s.collect(sc.parts, i, all.at(i), &o, decided, broken)
		if len(sc.cells) > first {
			sc.close(i, rec)
		}
	}
	sc.link()
	if len(sc.recs) > 0 {
		if err := s.ring.OpenRecords(ctx, sc.recs); err != nil {
			return err
		}
	}
	turned, err := s.turnTokens(ctx, all, decided) // last: it may take uses
	if err != nil {
		return err
	}
	failed := s.fail(broken)
	at := 0
	for i := range sc.recs {
		cells := sc.recs[i].Cells
		failed = s.reveal(cells, sc.refs[at:at+len(cells)], decided, failed)
		at += len(cells)
	}
	failed = turned.reveal(s.plan, decided, failed)
	for i := range all.n {
		s.denyRest(all.at(i), decided)
	}
	return failed.orNil()
}

// brokenCell is a field that cannot be opened for want of the row's keys or subject.
type brokenCell struct {
	ref
	err error
}

// fail installs what was wrong with broken cells.
func (s *core) fail(broken []brokenCell) (failed *RowErrors) {
	for _, b := range broken {
		*b.slot = &state{status: StatusFailed, sealed: (*b.slot).sealed, err: b.err}
		failed = failed.add(b.row, s.plan.fields[b.field].name, b.err)
	}
	return failed
}

// collect turns what is to be opened in a row into a record, whose scopes and
// cells it appends to to; without cells there is nothing to open.
func (s *core) collect(to parts, n int, row unsafe.Pointer, o *owners, decided []Decision, broken []brokenCell) (parts, envelope.Record, []brokenCell) {
	p := s.plan
	first := len(to.cells)
	var used uint32
	for i := range p.fields {
		if decided[i] == skip || decided[i] == Deny {
			continue
		}
		f := &p.fields[i]
		secret := f.at.secret(row)
		if secret == nil || f.token != nil { // turnTokens has those
			continue
		}
		st := *secret
		switch st.statusOf() {
		case StatusSealed, StatusFailed, StatusDenied:
		case StatusUnset, StatusNull, StatusPlain, StatusOpen, StatusForgotten:
			continue
		}
		to.refs = append(to.refs, ref{row: n, field: i, slot: secret})
		to.cells = append(to.cells, envelope.Cell{Scope: f.scope, Field: f.name, Sealed: st.sealed})
		used |= 1 << f.scope
	}
	if used == 0 {
		return to, envelope.Record{}, broken
	}
	keys := p.keysAt.keys(row)
	bad := p.readOwners(row, o)
	if bad == nil && keys.IsZero() {
		bad = fmt.Errorf("%w: the row has no Keys; select their column too", ErrDecrypt)
	}
	var position [envelope.MaxScopes]int
	scopes := 0
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
			to, broken = breakScope(to, first, i, err, broken)
			continue
		}
		position[i] = scopes
		scopes++
		to.scopes = append(to.scopes, envelope.Scope{Group: p.scopes[i].group, Purpose: p.scopes[i].purpose, Subject: subject})
	}
	for i := first; i < len(to.cells); i++ {
		to.cells[i].Scope = position[to.cells[i].Scope]
	}
	return to, envelope.Record{Name: p.record, RowID: o.rowID, Bound: p.id != nil, Header: keys.b}, broken
}

// breakScope takes the cells of a scope from first on out of the record.
func breakScope(to parts, first, scope int, err error, broken []brokenCell) (parts, []brokenCell) {
	keep := first
	for i := first; i < len(to.cells); i++ {
		if to.cells[i].Scope == scope {
			broken = append(broken, brokenCell{to.refs[i], err})
			continue
		}
		to.cells[keep], to.refs[keep] = to.cells[i], to.refs[i]
		keep++
	}
	to.cells, to.refs = to.cells[:keep], to.refs[:keep]
	return to, broken
}

// reveal installs what OpenRecords found in the cells of a record.
func (s *core) reveal(cells []envelope.Cell, refs []ref, decided []Decision, failed *RowErrors) *RowErrors {
	if len(cells) == 0 {
		return failed
	}
	states := make([]state, len(cells))
	for j := range cells {
		c, r := &cells[j], &refs[j]
		f := &s.plan.fields[r.field]
		st := &states[j]
		st.codec, st.sealed = c.Codec, c.Sealed
		if c.Err == nil && c.Codec != f.codec {
			c.Err = fmt.Errorf("%w: as %s, and the field's type %s is %s", errCodecMismatch, codecName(c.Codec), f.typ, codecName(f.codec))
		}
		switch {
		case c.Err != nil && errors.Is(c.Err, ErrForgotten):
			st.status = StatusForgotten
		case errors.Is(c.Err, ErrSuspended):
			st.status, st.err = StatusDenied, ErrSuspended
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
	return failed
}

// denyRest marks the sealed fields of a row that the policy denies.
func (s *core) denyRest(row unsafe.Pointer, decided []Decision) {
	for i, d := range decided {
		if d != Deny {
			continue
		}
		secret := s.plan.fields[i].at.secret(row)
		if secret == nil {
			continue
		}
		if st := *secret; st.statusOf() == StatusSealed || st.statusOf() == StatusFailed {
			*secret = &state{status: StatusDenied, sealed: st.sealed}
		}
	}
}
