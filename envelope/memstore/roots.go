package memstore

import (
	"cmp"
	"context"
	"slices"

	"github.com/lethe-go/lethe/envelope"
)

// Roots implements envelope.Store.
func (s *Store) Roots(ctx context.Context, tree envelope.TreeID) ([]envelope.RootRow, error) {
	if err := s.begin(ctx, true); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []envelope.RootRow
	for _, r := range s.roots {
		if r.Tree == tree {
			out = append(out, copyRoot(r))
		}
	}
	slices.SortFunc(out, func(a, b envelope.RootRow) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.WrapNo, b.WrapNo))
	})
	return out, nil
}

// UpdateRoots implements envelope.Store.
func (s *Store) UpdateRoots(ctx context.Context, roots []envelope.RootRow) error {
	if err := s.begin(ctx, true); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for i := range roots {
		for j := range s.roots {
			r, row := &roots[i], &s.roots[j]
			if row.Tree != r.Tree || row.Epoch != r.Epoch || row.WrapNo != r.WrapNo {
				continue
			}
			row.State, row.DestroyAfter, row.DestroyedAt = r.State, r.DestroyAfter, r.DestroyedAt
			if r.State == envelope.RootDestroyed {
				row.Wrapped = nil
			}
		}
	}
	return nil
}
