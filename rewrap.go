package lethe

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lethe-go/lethe/envelope"
)

// rewrap has the headers of rows changed by wrap, and lists the rows whose Keys are
// new, and those with a subject or purpose that was forgotten or is suspended.
func (s *core) rewrap(ctx context.Context, all rows, wrap func(context.Context, []envelope.Record) error) (changed []int, left Left, err error) {
	if err := s.begin(ctx, false); err != nil {
		return nil, Left{}, err
	}
	sc := newScratch()
	defer sc.release()
	p := s.plan
	var o owners
	for i := range all.n {
		v := all.at(i)
		if err := p.readOwners(v, &o); err != nil {
			return nil, Left{}, s.rowErr(i, all.n, err)
		}
		keys := p.keysAt.keys(v)
		if keys.IsZero() {
			return nil, Left{}, s.rowErr(i, all.n, fmt.Errorf("%w: the row has no Keys; select their column, or Seal it", ErrNotSealed))
		}
		n := 0
		for j := range p.scopes {
			if subject := p.subject(s.tenant, j, &o); subject.ID != "" {
				sc.scopes = append(sc.scopes, envelope.Scope{Group: p.scopes[j].group, Purpose: p.scopes[j].purpose, Subject: subject})
				n++
			}
		}
		if n == 0 {
			return nil, Left{}, s.rowErr(i, all.n, p.emptySubject(0))
		}
		sc.close(i, envelope.Record{Name: p.record, RowID: o.rowID, Bound: p.id != nil, Header: keys.b})
	}
	sc.link()
	if len(sc.recs) == 0 {
		return nil, Left{}, nil
	}
	if err := wrap(ctx, sc.recs); err != nil {
		return nil, Left{}, err
	}
	for i := range sc.recs {
		has := func(err error) bool {
			return slices.ContainsFunc(sc.recs[i].Scopes, func(s envelope.Scope) bool { return errors.Is(s.Err, err) })
		}
		switch {
		case has(ErrForgotten):
			left.Forgotten = append(left.Forgotten, sc.rows[i])
		case has(ErrSuspended):
			left.Suspended = append(left.Suspended, sc.rows[i])
		}
		keys := p.keysAt.keys(all.at(sc.rows[i]))
		if string(keys.b) != string(sc.recs[i].Header) {
			keys.b = sc.recs[i].Header
			changed = append(changed, sc.rows[i])
		}
	}
	return changed, left, nil
}

// toNewest wraps the data keys of records under the newest keys of their subjects.
func (s *core) toNewest(ctx context.Context, recs []envelope.Record) error {
	_, err := s.ring.RewrapRecords(ctx, recs)
	return err
}

func (s *core) move(ctx context.Context, from Subject, all rows) ([]int, error) {
	if len(s.plan.tokens) > 0 {
		return nil, errors.New("lethe: tokens stay with the subject they were made for, so rows with Token fields are not moved: Open them, set their subject and Reseal them")
	}
	changed, _, err := s.rewrap(ctx, all, func(ctx context.Context, recs []envelope.Record) error {
		return s.ring.MoveRecords(ctx, from, recs)
	})
	return changed, err
}
