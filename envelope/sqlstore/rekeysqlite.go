package sqlstore

import (
	"context"
	"errors"

	"github.com/lethe-go/lethe/envelope"
)

func (*sqlite) lockRows() string { return "" } // BEGIN IMMEDIATE locks all

func (*sqlite) childrenOf() string {
	return `SELECT w.value, (SELECT COUNT(*) FROM lethe_page WHERE tree = ? AND parent = w.value) + (SELECT COUNT(*) FROM lethe_key WHERE tree = ? AND page = w.value)
		FROM json_each(?) AS w`
}

func (*sqlite) rekeyPages(ctx context.Context, q querier, tree envelope.TreeID, pages []pageWrap) (int64, error) {
	return each(ctx, q, `UPDATE lethe_page SET parent_gen = ?, gen = ?, suite = ?, wrapped = ?,
			dirty_epoch = CASE WHEN gen = ? THEN dirty_epoch ELSE 0 END
		WHERE tree = ? AND page = ? AND (? IS NULL OR wrapped = ?)`, len(pages), func(i int) []any {
		p := pages[i]
		return []any{
			int64(p.ParentGen), int64(p.Gen), int64(p.Suite), notNil(p.Wrapped), int64(p.Gen),
			int64(tree), int64(p.Page), nullable(p.seen), nullable(p.seen),
		}
	})
}

func (*sqlite) rekeyKeys(ctx context.Context, q querier, tree envelope.TreeID, keys []envelope.KeyRow) (int64, error) {
	return each(ctx, q, "UPDATE lethe_key SET page_gen = ?, suite = ?, wrapped = ? WHERE tree = ? AND page = ? AND kid = ?", len(keys), func(i int) []any {
		k := &keys[i]
		return []any{int64(k.PageGen), int64(k.Suite), notNil(k.Wrapped), int64(tree), int64(k.Page), k.KID[:]}
	})
}

// each runs one prepared statement n times and counts the rows it met.
func each(ctx context.Context, q querier, query string, n int, args func(i int) []any) (met int64, err error) {
	if n == 0 {
		return 0, nil
	}
	stmt, err := q.PrepareContext(ctx, query)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stmt.Close()) }()
	for i := range n {
		m, err := rows(stmt.ExecContext(ctx, args(i)...))
		if err != nil {
			return 0, err
		}
		met += m
	}
	return met, nil
}
