package memstore

import (
	"context"
	"time"

	"github.com/lethe-go/lethe/envelope"
)

// Claim implements envelope.Store.
func (s *Store) Claim(ctx context.Context, l envelope.Lease, now time.Time) error {
	if err := s.begin(ctx, true); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if held := s.leases[l.Tree]; held.Owner != l.Owner && held.Until.After(now) {
		return envelope.ErrLeased
	}
	s.leases[l.Tree] = l
	return nil
}

// LeaseOf implements envelope.Store.
func (s *Store) LeaseOf(ctx context.Context, tree envelope.TreeID) (envelope.Lease, error) {
	if err := s.begin(ctx, true); err != nil {
		return envelope.Lease{}, err
	}
	defer s.mu.Unlock()
	return s.leases[tree], nil
}
