package lethe

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/lethe-go/lethe/envelope"
)

// plainRead is a field that Open takes from its plaintext column.
type plainRead struct {
	ref
	plain int // in plan.plains
	at    unsafe.Pointer
	old   *state
	scope int   // in the scopes to be checked; -1: none
	err   error // why it has no subject
}

// openMigrating is openSealed for rows some of which still have a plaintext column
// in the place of a sealed one.
func (s *core) openMigrating(ctx context.Context, all rows, decided []Decision) error {
	if err := s.over(decided); err != nil {
		return err
	}
	reads, scopes := s.plainReads(all, decided)
	if len(scopes) > 0 {
		if err := s.ring.CheckScopes(ctx, scopes); err != nil {
			return err
		}
	}
	sealed := s.sealedReads(all, decided)
	for i := range reads {
		*reads[i].slot = nullState // not sealed: nothing for openSealed
	}
	opened := false
	defer func() {
		if opened {
			return
		}
		for i := range reads {
			*reads[i].slot = reads[i].old
		}
	}()
	var failed *RowErrors
	if err := s.openSealed(ctx, all, decided); err != nil && !errors.As(err, &failed) {
		return err
	}
	opened = true
	for i := range reads {
		failed = s.revealPlain(&reads[i], scopes, decided, failed)
	}
	for i, slots := range sealed {
		for _, slot := range slots {
			if st := *slot; shows(st) {
				s.migrations.fields[i].sealedReads.Add(1)
			}
		}
	}
	return failed.orNil()
}

// shows reports whether a read had a value, or its mask.
func shows(st *state) bool {
	return st.statusOf() == StatusOpen || st.statusOf() == StatusDenied && st.mask != noMask
}

// plainReads lists the fields to take from plaintext columns, and the scopes that
// say whether that is allowed.
func (s *core) plainReads(all rows, decided []Decision) (reads []plainRead, scopes []envelope.Scope) {
	var o owners
	for i := range all.n {
		row := all.at(i)
		for j := range s.plan.plains {
			c := &s.plan.plains[j]
			if decided[c.field] == skip {
				continue
			}
			slot := s.plan.fields[c.field].at.secret(row)
			if slot == nil || !plainCounts(*slot) || c.isNull(row) {
				continue
			}
			r := plainRead{ref: ref{i, c.field, slot}, plain: j, at: row, old: *slot, scope: -1}
			if decided[c.field] != Deny {
				r.scope, scopes, r.err = s.scopeToCheck(row, c.field, &o, scopes)
			}
			reads = append(reads, r)
		}
	}
	return reads, scopes
}

// plainCounts reports whether Open takes the field from its plaintext column, if
// that has a value: the sealed column was read and is NULL, or Open said before why
// the plaintext is not shown.
func plainCounts(st *state) bool {
	return st == nullState || st.fromPlain() && (st.status == StatusDenied || st.status == StatusFailed)
}

// scopeToCheck appends whose field it is to scopes, unless the last one says that
// already, and returns its place.
func (s *core) scopeToCheck(row unsafe.Pointer, field int, o *owners, scopes []envelope.Scope) (int, []envelope.Scope, error) {
	if err := s.plan.readOwners(row, o); err != nil {
		return -1, scopes, err
	}
	f := &s.plan.fields[field]
	subject := s.plan.subject(s.tenant, f.scope, o)
	if subject.ID == "" {
		return -1, scopes, s.plan.emptySubject(f.scope)
	}
	if n := len(scopes); n == 0 || scopes[n-1].Subject != subject || scopes[n-1].Purpose != f.tag.purpose {
		scopes = append(scopes, envelope.Scope{Purpose: f.tag.purpose, Subject: subject})
	}
	return len(scopes) - 1, scopes, nil
}

// sealedReads lists, per plaintext column, the fields that openSealed may open.
func (s *core) sealedReads(all rows, decided []Decision) [][]**state {
	out := make([][]**state, len(s.plan.plains))
	for j := range s.plan.plains {
		field := s.plan.plains[j].field
		if decided[field] == skip || decided[field] == Deny {
			continue
		}
		for i := range all.n {
			slot := s.plan.fields[field].at.secret(all.at(i))
			if slot == nil || *slot == nil || len((*slot).sealed) == 0 {
				continue
			}
			switch (*slot).status {
			case StatusSealed, StatusFailed, StatusDenied:
				out[j] = append(out[j], slot)
			case StatusUnset, StatusNull, StatusPlain, StatusOpen, StatusForgotten:
			}
		}
	}
	return out
}

// revealPlain installs what a plaintext column has, as reveal does for a cell.
func (s *core) revealPlain(r *plainRead, scopes []envelope.Scope, decided []Decision, failed *RowErrors) *RowErrors {
	f := &s.plan.fields[r.field]
	st := &state{status: StatusDenied}
	err := r.err
	if err == nil && r.scope >= 0 {
		err = scopes[r.scope].Err
	}
	var plain *state
	if err == nil && decided[r.field] != Deny {
		if plain = s.plan.plains[r.plain].load(r.at); plain == nil {
			plain = &state{err: fmt.Errorf("%w: the plaintext column changed while the row was opened", ErrNull)}
		}
		err = plain.err
	}
	switch {
	case errors.Is(err, ErrForgotten):
		st.status = StatusForgotten
	case errors.Is(err, ErrSuspended):
		st.err = ErrSuspended
	case err != nil:
		st.status, st.err = StatusFailed, err
		failed = failed.add(r.row, f.name, err)
	case decided[r.field] == Deny:
	case decided[r.field] == MaskOnly:
		st.codec, st.mask, st.value = plain.codec, max(f.mask, full), hideString(f.mask.apply(plain.codec, plain.value.bytes()))
		s.migrations.fields[r.plain].plainReads.Add(1)
	default:
		st.status, st.codec, st.mask, st.value = StatusOpen, plain.codec, f.mask, plain.value
		s.migrations.fields[r.plain].plainReads.Add(1)
	}
	*r.slot = st
	return failed
}
