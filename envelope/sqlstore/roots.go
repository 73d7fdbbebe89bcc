package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"github.com/lethe-go/lethe/envelope"
)

// Roots implements envelope.Store.
func (s *Store) Roots(ctx context.Context, tree envelope.TreeID) ([]envelope.RootRow, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	var out []envelope.RootRow
	err := s.query(ctx, s.db, func(rows *sql.Rows) error {
		var r envelope.RootRow
		var at [3]int64
		if err := rows.Scan(&r.Tree, &r.Epoch, &r.WrapNo, &r.KMSURI, &r.KMSHandle, &r.Semantics, &r.Suite, &r.Wrapped, &r.Commit,
			&r.State, &at[0], &at[1], &at[2]); err != nil {
			return err
		}
		r.Created, r.DestroyAfter, r.DestroyedAt = fromSeconds(at[0]), fromSeconds(at[1]), fromSeconds(at[2])
		out = append(out, r)
		return nil
	}, "SELECT "+rootColumns+" FROM lethe_root WHERE tree = ? ORDER BY epoch, wrap_no", int64(tree))
	if err != nil {
		return nil, fail(ctx, err)
	}
	return out, nil
}

// UpdateRoots implements envelope.Store.
func (s *Store) UpdateRoots(ctx context.Context, roots []envelope.RootRow) error {
	ordered := make([]*envelope.RootRow, len(roots))
	for i := range roots {
		ordered[i] = &roots[i]
	}
	slices.SortStableFunc(ordered, func(a, b *envelope.RootRow) int { return cmp.Compare(a.Tree, b.Tree) })
	err := s.write(ctx, func(q querier) error {
		for i, r := range ordered {
			if i == 0 || ordered[i-1].Tree != r.Tree {
				if err := s.lock(ctx, q, r.Tree, false); err != nil {
					return err
				}
			}
			set, args := "state = ?, destroy_after = ?, destroyed_at = ?", []any{int64(r.State), seconds(r.DestroyAfter), seconds(r.DestroyedAt)}
			if r.State == envelope.RootDestroyed {
				set, args = set+", wrapped = ?", append(args, []byte{})
			}
			if _, err := s.exec(ctx, q, "UPDATE lethe_root SET "+set+" WHERE tree = ? AND epoch = ? AND wrap_no = ?",
				append(args, int64(r.Tree), int64(r.Epoch), int64(r.WrapNo))...); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.d.wipe(ctx)
	}
	return err
}
