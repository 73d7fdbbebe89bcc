package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/lethe-go/lethe/envelope"
)

// leaseLock serializes Claim; no tree has this number.
const leaseLock = envelope.TreeID(1<<32 - 2)

// Claim implements envelope.Store. A lease lasts until the next whole second.
func (s *Store) Claim(ctx context.Context, l envelope.Lease, now time.Time) error {
	until := seconds(l.Until)
	if l.Until.After(now) && l.Until.Nanosecond() > 0 {
		until++ // never shorter than it was asked for
	}
	return s.write(ctx, func(q querier) error {
		if err := s.lock(ctx, q, leaseLock, false); err != nil {
			return err
		}
		held, err := s.lease(ctx, q, l.Tree)
		if err != nil {
			return err
		}
		if held.Owner != l.Owner && held.Until.After(now) {
			return envelope.ErrLeased
		}
		if _, err := s.exec(ctx, q, "DELETE FROM lethe_journal WHERE tree = ?", int64(l.Tree)); err != nil {
			return err
		}
		_, err = s.exec(ctx, q, "INSERT INTO lethe_journal (tree, epoch, step, cursor, owner, lease_until) VALUES (?, ?, ?, 0, ?, ?)",
			int64(l.Tree), int64(l.Epoch), l.Step, l.Owner, until)
		return err
	})
}

// LeaseOf implements envelope.Store.
func (s *Store) LeaseOf(ctx context.Context, tree envelope.TreeID) (envelope.Lease, error) {
	if err := s.read(ctx); err != nil {
		return envelope.Lease{}, err
	}
	l, err := s.lease(ctx, s.db, tree)
	return l, fail(ctx, err)
}

func (s *Store) lease(ctx context.Context, q querier, tree envelope.TreeID) (envelope.Lease, error) {
	l := envelope.Lease{Tree: tree}
	var until int64
	err := q.QueryRowContext(ctx, s.d.bind("SELECT epoch, step, owner, lease_until FROM lethe_journal WHERE tree = ? ORDER BY lease_until DESC LIMIT 1"), int64(tree)).
		Scan(&l.Epoch, &l.Step, &l.Owner, &until)
	if errors.Is(err, sql.ErrNoRows) {
		return envelope.Lease{}, nil
	}
	if err != nil {
		return envelope.Lease{}, err
	}
	l.Until = fromSeconds(until)
	return l, nil
}
