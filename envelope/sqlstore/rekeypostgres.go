package sqlstore

import (
	"context"
	"database/sql"
	"slices"

	"github.com/lethe-go/lethe/envelope"
)

func (*postgres) lockRows() string { return " FOR UPDATE" }

func (*postgres) childrenOf() string {
	return `SELECT w.page, (SELECT COUNT(*) FROM lethe_page WHERE tree = ? AND parent = w.page) + (SELECT COUNT(*) FROM lethe_key WHERE tree = ? AND page = w.page)
		FROM unnest(?::bigint[]) AS w(page)`
}

func (d *postgres) rekeyPages(ctx context.Context, q querier, tree envelope.TreeID, pages []pageWrap) (int64, error) {
	n := len(pages)
	ids, parentGens, gens, suites := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	wraps, seen := make([][]byte, n), make([][]byte, n)
	for i, p := range pages {
		ids[i], parentGens[i], gens[i], suites[i] = int64(p.Page), int64(p.ParentGen), int64(p.Gen), int64(p.Suite)
		wraps[i], seen[i] = notNil(p.Wrapped), p.seen
	}
	return rows(q.ExecContext(ctx, d.bind(`UPDATE lethe_page p SET parent_gen = w.parent_gen, gen = w.gen, suite = w.suite, wrapped = w.wrapped,
			dirty_epoch = CASE WHEN p.gen = w.gen THEN p.dirty_epoch ELSE 0 END
		FROM unnest(?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bytea[], ?::bytea[]) AS w(page, parent_gen, gen, suite, wrapped, seen)
		WHERE p.tree = ? AND p.page = w.page AND (w.seen IS NULL OR p.wrapped = w.seen)`),
		ids, parentGens, gens, suites, wraps, seen, int64(tree)))
}

func (d *postgres) rekeyKeys(ctx context.Context, q querier, tree envelope.TreeID, keys []envelope.KeyRow) (met int64, err error) {
	n := len(keys)
	kids, wraps := make([][]byte, n), make([][]byte, n)
	pages, gens, suites := make([]int64, n), make([]int64, n), make([]int64, n)
	for i := range keys {
		k := &keys[i]
		kids[i], wraps[i] = k.KID[:], notNil(k.Wrapped)
		pages[i], gens[i], suites[i] = int64(k.Page), int64(k.PageGen), int64(k.Suite)
	}
	// The keys of the pages are read once and joined by kid: a subtraction, since an
	// equality of pages would read all keys of a page for each of them. Nothing keeps an
	// intruder from giving the kid of one row to another, which does not open.
	err = q.QueryRowContext(ctx, d.bind(`WITH met AS (UPDATE lethe_key k SET page_gen = w.page_gen, suite = NULLIF(w.suite, 1), wrapped = w.wrapped
			FROM unnest(?::bytea[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bytea[]) AS w(kid, page, page_gen, suite, wrapped)
			WHERE k.tree = ? AND k.page = ANY(?::bigint[]) AND k.page - w.page = 0 AND k.kid = w.kid
			RETURNING k.page, k.kid)
		SELECT COUNT(*) FROM (SELECT DISTINCT page, kid FROM met) AS named`),
		kids, pages, gens, suites, wraps, int64(tree), distinct(pages)).Scan(&met)
	return met, err
}

// distinct lists each number once.
func distinct(numbers []int64) []int64 {
	all := slices.Clone(numbers)
	slices.Sort(all)
	return slices.Compact(all)
}

// rows is how many rows a statement met.
func rows(res sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
