// Package sqlstore keeps random tokens in SQLite or PostgreSQL.
//
// Apply the table with Migrate, once per version; nothing else creates or
// changes it. Its names start with "lethe_token", so it can share a database with
// the application or with the key store. A token is committed before it is given
// out: the store never takes part in a caller's transaction.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-go/lethe/internal/sqlopen"
	"github.com/lethe-go/lethe/tokenize"
)

// Store is a tokenize.Store in a database. It is safe for concurrent use, by
// many processes too.
type Store struct {
	db    *sql.DB
	d     dialect
	owned bool
}

var _ tokenize.Store = (*Store)(nil)

// OpenSQLite opens a token store in a file of its own, made with mode 0600 if it
// does not exist. Call Migrate before its first use.
func OpenSQLite(ctx context.Context, path string) (*Store, error) {
	d, err := sqlopen.OpenSQLite(ctx, path, "package memstore keeps tokens in memory", nil)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	return &Store{db: d.DB, d: &sqlite{d}, owned: true}, nil
}

// OpenPostgres opens a token store in PostgreSQL 13 or later; dsn is a URL or
// key=value pairs as libpq takes them. Call Migrate before its first use. A standby
// is refused: of several hosts the primary is used. Commits wait for the disk, also
// where the server's default is synchronous_commit=off. No error repeats the dsn.
func OpenPostgres(ctx context.Context, dsn string) (*Store, error) {
	d, err := sqlopen.OpenPostgres(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	return &Store{db: d.DB, d: &postgres{d}, owned: true}, nil
}

// NewSQLite uses an open database of the driver "sqlite" (modernc.org/sqlite).
// Set _pragma=busy_timeout(10000) and _pragma=journal_mode(WAL) in the data
// source's name.
func NewSQLite(db *sql.DB) *Store { return &Store{db: db, d: &sqlite{sqlopen.NewSQLite(db, nil)}} }

// NewPostgres uses an open database of pgx/v5/stdlib, which must connect to the
// primary, with synchronous_commit on.
func NewPostgres(db *sql.DB) *Store {
	return &Store{db: db, d: &postgres{&sqlopen.Postgres{DB: db}}}
}

// Close closes the database if the Store opened it.
func (s *Store) Close() error {
	if !s.owned {
		return nil
	}
	return s.db.Close()
}

// querier is a database, a connection or a transaction.
type querier = sqlopen.Querier

// dialect is what SQLite and PostgreSQL do differently. Both take rows as columns:
// one parameter for each, however many rows there are.
type dialect interface {
	sqlopen.Database
	// table is a table expression of rows, whose columns are named after the given
	// ones ("t text, n bigint, b bytea"), starting at parameter $first.
	table(first int, columns []column) (expression string, args []any)
	// single runs one statement, which is a transaction of its own.
	single(ctx context.Context, fn func(q querier) error) error
}

// column is a named column of values: texts, numbers or blobs.
type column struct {
	name    string
	texts   []string
	numbers []int64
	blobs   [][]byte
}

// fail names the package in an error that is not the context's.
func fail(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("sqlstore: %w", err)
}

// maxBatch is the most rows of one statement.
const maxBatch = 1000

// query calls scan for every row.
func query(ctx context.Context, q querier, scan func(rows *sql.Rows) error, text string, args ...any) (err error) {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

const columns = "tokenizer, tenant, token, purpose, fingerprint, key_version, sealed, created, expires, uses_left"

func scanEntry(rows *sql.Rows) (tokenize.Entry, error) {
	var e tokenize.Entry
	err := rows.Scan(&e.Tokenizer, &e.Tenant, &e.Token, &e.Purpose, &e.Fingerprint, &e.KeyVersion, &e.Sealed, &e.Created, &e.Expires, &e.UsesLeft)
	return e, err
}

type where struct{ tokenizer, tenant, token string }

func placeOf(e *tokenize.Entry) where { return where{e.Tokenizer, e.Tenant, e.Token} }

// run is how statements over so many rows are sent: one is a transaction of its own,
// without the round trips to begin and end one.
func (s *Store) run(rows int) func(ctx context.Context, fn func(q querier) error) error {
	if rows <= maxBatch {
		return s.d.single
	}
	return s.d.Write
}

// Insert implements tokenize.Store. A batch of up to 1,000 new entries is one
// statement; a second one looks at those that were there already. More than that
// are one transaction.
func (s *Store) Insert(ctx context.Context, entries []tokenize.Entry) ([]tokenize.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make([]tokenize.Result, len(entries))
	if len(entries) == 0 {
		return out, nil
	}
	// In one order for all, so that no two wait for each other.
	order := make([]int, len(entries))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return strings.Compare(entries[a].Token, entries[b].Token)
	})
	var left []int
	err := s.run(len(entries))(ctx, func(q querier) error {
		left = left[:0]
		for part := range slices.Chunk(order, maxBatch) {
			rest, err := s.insertPart(ctx, q, entries, part)
			if err != nil {
				return err
			}
			left = append(left, rest...)
		}
		return nil
	})
	if err != nil {
		return nil, fail(ctx, err)
	}
	if len(left) == 0 {
		return out, nil
	}
	slices.Sort(left)
	return out, fail(ctx, s.explain(ctx, entries, left, out))
}

// insertPart inserts what is new of a part and returns the rest.
func (s *Store) insertPart(ctx context.Context, q querier, entries []tokenize.Entry, part []int) ([]int, error) {
	cols := []column{
		{name: "tokenizer"}, {name: "tenant"}, {name: "token"}, {name: "purpose"},
		{name: "fingerprint", blobs: [][]byte{}}, {name: "key_version", numbers: []int64{}}, {name: "sealed", blobs: [][]byte{}},
		{name: "created", numbers: []int64{}}, {name: "expires", numbers: []int64{}}, {name: "uses_left", numbers: []int64{}},
	}
	for _, i := range part {
		e := &entries[i]
		for j, text := range []string{e.Tokenizer, e.Tenant, e.Token, e.Purpose} {
			cols[j].texts = append(cols[j].texts, text)
		}
		cols[4].blobs = append(cols[4].blobs, e.Fingerprint)
		cols[5].numbers = append(cols[5].numbers, int64(e.KeyVersion))
		cols[6].blobs = append(cols[6].blobs, e.Sealed)
		cols[7].numbers = append(cols[7].numbers, e.Created)
		cols[8].numbers = append(cols[8].numbers, e.Expires)
		cols[9].numbers = append(cols[9].numbers, e.UsesLeft)
	}
	table, args := s.d.table(1, cols)
	added := make(map[where]bool, len(part))
	err := query(ctx, q, func(rows *sql.Rows) error {
		var w where
		if err := rows.Scan(&w.tokenizer, &w.tenant, &w.token); err != nil {
			return err
		}
		added[w] = true
		return nil
	}, "INSERT INTO lethe_token ("+columns+") SELECT "+columns+" FROM "+table+" WHERE true ON CONFLICT DO NOTHING RETURNING tokenizer, tenant, token", args...)
	if err != nil {
		return nil, err
	}
	var rest []int
	for _, i := range part {
		if w := placeOf(&entries[i]); added[w] {
			delete(added, w) // one that repeats it was not added
			continue
		}
		rest = append(rest, i)
	}
	return rest, nil
}

// explain finds what kept the left entries out.
func (s *Store) explain(ctx context.Context, entries []tokenize.Entry, left []int, out []tokenize.Result) error {
	same := make(map[string]tokenize.Entry)
	for part := range slices.Chunk(left, maxBatch) {
		prints := column{name: "f", blobs: [][]byte{}}
		for _, i := range part {
			if f := entries[i].Fingerprint; f != nil {
				prints.blobs = append(prints.blobs, f)
			}
		}
		if len(prints.blobs) == 0 {
			continue
		}
		table, args := s.d.table(1, []column{prints})
		err := query(ctx, s.db, func(rows *sql.Rows) error {
			e, err := scanEntry(rows)
			same[string(e.Fingerprint)] = e
			return err
		}, "SELECT "+columns+" FROM lethe_token WHERE fingerprint IN (SELECT f FROM "+table+")", args...)
		if err != nil {
			return err
		}
	}
	for _, i := range left {
		out[i].Outcome = tokenize.TokenTaken // also if what was there is deleted by now: the next try finds out
		if f := entries[i].Fingerprint; f != nil {
			if e, ok := same[string(f)]; ok {
				e.Fingerprint, e.Sealed = slices.Clone(e.Fingerprint), slices.Clone(e.Sealed)
				out[i] = tokenize.Result{Outcome: tokenize.SameValue, Existing: e}
			}
		}
	}
	return nil
}

// at is the table expression of places, after the tokenizer as parameter $1.
func (s *Store) at(tokenizer string, places []tokenize.Place) (string, []any) {
	cols := []column{{name: "tenant"}, {name: "token"}}
	for _, p := range places {
		cols[0].texts = append(cols[0].texts, p.Tenant)
		cols[1].texts = append(cols[1].texts, p.Token)
	}
	table, args := s.d.table(2, cols)
	return table, append([]any{tokenizer}, args...)
}

// Find implements tokenize.Store.
func (s *Store) Find(ctx context.Context, tokenizer string, places []tokenize.Place) ([]tokenize.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var out []tokenize.Entry
	for part := range slices.Chunk(unique(places), maxBatch) {
		table, args := s.at(tokenizer, part)
		err := query(ctx, s.db, func(rows *sql.Rows) error {
			e, err := scanEntry(rows)
			out = append(out, e)
			return err
		}, "SELECT "+columns+" FROM lethe_token JOIN "+table+" USING (tenant, token) WHERE tokenizer = $1", args...)
		if err != nil {
			return nil, fail(ctx, err)
		}
	}
	return out, nil
}

// unique sorts places, which orders the locks of writes, and drops repeats.
func unique(places []tokenize.Place) []tokenize.Place {
	out := slices.Clone(places)
	slices.SortFunc(out, func(a, b tokenize.Place) int {
		if c := strings.Compare(a.Token, b.Token); c != 0 {
			return c
		}
		return strings.Compare(a.Tenant, b.Tenant)
	})
	return slices.Compact(out)
}

// Elsewhere implements tokenize.Store.
func (s *Store) Elsewhere(ctx context.Context, tokenizer string, tokens []string) ([]tokenize.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var out []tokenize.Entry
	tokens = slices.Compact(slices.Sorted(slices.Values(tokens)))
	for part := range slices.Chunk(tokens, maxBatch) {
		table, args := s.d.table(2, []column{{name: "token", texts: part}})
		err := query(ctx, s.db, func(rows *sql.Rows) error {
			var e tokenize.Entry
			var rank int64
			err := rows.Scan(&e.Tokenizer, &e.Tenant, &e.Token, &e.Purpose, &rank)
			out = append(out, e)
			return err
		}, `SELECT tokenizer, tenant, token, purpose, rank FROM (
			SELECT tokenizer, tenant, token, purpose,
				row_number() OVER (PARTITION BY token ORDER BY CASE tokenizer WHEN $1 THEN 0 ELSE 1 END) AS rank
			FROM lethe_token WHERE token IN (SELECT token FROM `+table+`)) AS found WHERE rank = 1`, append([]any{tokenizer}, args...)...)
		if err != nil {
			return nil, fail(ctx, err)
		}
	}
	return out, nil
}

// Take implements tokenize.Store.
func (s *Store) Take(ctx context.Context, tokenizer string, places []tokenize.Place) ([]tokenize.Place, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var out []tokenize.Place
	err := s.run(len(places))(ctx, func(q querier) error {
		out = nil
		for part := range slices.Chunk(unique(places), maxBatch) {
			table, args := s.at(tokenizer, part)
			err := query(ctx, q, func(rows *sql.Rows) error {
				var p tokenize.Place
				err := rows.Scan(&p.Tenant, &p.Token)
				out = append(out, p)
				return err
			}, "UPDATE lethe_token SET uses_left = uses_left - 1 WHERE tokenizer = $1 AND uses_left > 0 AND (tenant, token) IN (SELECT tenant, token FROM "+table+") RETURNING tenant, token", args...)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fail(ctx, err)
	}
	return out, nil
}

// Delete implements tokenize.Store.
func (s *Store) Delete(ctx context.Context, tokenizer string, places []tokenize.Place) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	deleted := 0
	err := s.run(len(places))(ctx, func(q querier) error {
		deleted = 0
		for part := range slices.Chunk(unique(places), maxBatch) {
			table, args := s.at(tokenizer, part)
			res, err := q.ExecContext(ctx, "DELETE FROM lethe_token WHERE tokenizer = $1 AND (tenant, token) IN (SELECT tenant, token FROM "+table+")", args...)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			deleted += int(n)
		}
		return nil
	})
	return deleted, fail(ctx, err)
}

// DeleteExpired implements tokenize.Store.
func (s *Store) DeleteExpired(ctx context.Context, now int64, limit int) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if limit <= 0 {
		return 0, nil
	}
	deleted := int64(0)
	err := s.d.single(ctx, func(q querier) error {
		res, err := q.ExecContext(ctx, `DELETE FROM lethe_token WHERE (token, tenant, tokenizer) IN (
			SELECT token, tenant, tokenizer FROM lethe_token WHERE expires > 0 AND expires <= $1 OR uses_left = 0
			ORDER BY token, tenant, tokenizer LIMIT $2)`, now, limit)
		if err != nil {
			return err
		}
		deleted, err = res.RowsAffected()
		return err
	})
	return int(deleted), fail(ctx, err)
}
