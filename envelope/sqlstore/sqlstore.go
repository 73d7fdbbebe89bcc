// Package sqlstore keeps wrapped keys in SQLite or PostgreSQL.
//
// Apply the tables with Migrate, once per version; nothing else creates or
// changes them. All of them start with "lethe_". The store belongs in a
// database of its own, with backups kept shorter than the application's: it
// never takes part in a caller's transaction.
//
// A forgotten key's row is overwritten in SQLite's files at once (a reader in
// the way delays that for the write-ahead log). PostgreSQL keeps deleted rows
// until VACUUM, and in its WAL archive and replicas for longer.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/internal/sqlopen"
)

// Store is an envelope.Store in a database. It is safe for concurrent use, by
// many processes too.
type Store struct {
	db        *sql.DB
	d         dialect
	owned     bool
	populated atomic.Bool // Init was called: seen once, it stays so
}

var _ envelope.Store = (*Store)(nil)

// OpenSQLite opens a key store in a file of its own, made with mode 0600 if it
// does not exist. Call Migrate before its first use.
func OpenSQLite(ctx context.Context, path string) (*Store, error) {
	d, err := sqlopen.OpenSQLite(ctx, path, "package memstore keeps keys in memory", sqlopen.Durable)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	return &Store{db: d.DB, d: &sqlite{d}, owned: true}, nil
}

// OpenPostgres opens a key store in PostgreSQL 13 or later; dsn is a URL or
// key=value pairs as libpq takes them. Call Migrate before its first use. A
// standby is refused: of several hosts the primary is used. Commits wait for
// the disk, also where the server's default is synchronous_commit=off. No error
// repeats the dsn.
func OpenPostgres(ctx context.Context, dsn string) (*Store, error) {
	d, err := sqlopen.OpenPostgres(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	return &Store{db: d.DB, d: &postgres{d}, owned: true}, nil
}

// NewSQLite uses an open database of the driver "sqlite" (modernc.org/sqlite).
// Set _pragma=busy_timeout(10000), _pragma=journal_mode(WAL) and
// _pragma=temp_store(MEMORY) in the data source's name. Every write sets
// secure_delete and synchronous=FULL on its connection, and fails if the
// database is in another journal mode: some keep deleted keys in a file,
// others cannot undo half a write. Create the file with mode 0600.
func NewSQLite(db *sql.DB) *Store {
	return &Store{db: db, d: &sqlite{sqlopen.NewSQLite(db, sqlopen.Durable)}}
}

// NewPostgres uses an open database of pgx/v5/stdlib. It must connect to the
// primary, never to a standby, with synchronous_commit on. The default
// isolation level does not matter.
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

// dialect is what SQLite and PostgreSQL do differently. Statements are written
// with ? for parameters.
type dialect interface {
	sqlopen.Database
	// bind rewrites the parameters of a statement.
	bind(query string) string
	// inBlobs and inInts return "IN (…)" with one parameter, and that parameter.
	inBlobs(values [][]byte) (string, any)
	inInts(values []int64) (string, any)
	// keysOf returns a FROM clause of the keys k of some srefs and their pages p. Its
	// parameters are the srefs as inBlobs gives them, tree and ref_ver. Each sref is
	// looked up in an index by itself, whatever the planner believes of the tables: its
	// plan may be from the time they were empty.
	keysOf(tree envelope.TreeID, refVer uint32) string
	// byName is added to a condition on tree, ref_ver and sref of lethe_key, for the
	// index that has them.
	byName(tree envelope.TreeID, refVer uint32) string
	// usual is a value of a column of lethe_key that nearly always is 1.
	usual(v uint8) any
	// srefOf is the bytes of a column of lethe_key.
	srefOf(column string) string
	// lockRows ends a SELECT whose rows stay locked, in its order, until the transaction's end.
	lockRows() string
	// childrenOf returns a query of (page, number of children) for some pages. Its
	// parameters are tree, tree and the pages as inInts gives them.
	childrenOf() string
	// rekeyPages and rekeyKeys write new wraps over rows and count the pages and kids they met.
	rekeyPages(ctx context.Context, q querier, tree envelope.TreeID, pages []pageWrap) (int64, error)
	rekeyKeys(ctx context.Context, q querier, tree envelope.TreeID, keys []envelope.KeyRow) (int64, error)
	// wipe removes what deleted rows left in side files, as far as it can.
	wipe(ctx context.Context)
}

// lockClass sets our locks apart from the application's: "leth".
const lockClass = 0x6c657468

func lockKey(tree envelope.TreeID) int64 { return lockClass<<32 | int64(tree) }

// lock serializes the transaction with others of the tree: those that share with
// those that do not, until its end.
func (s *Store) lock(ctx context.Context, q querier, tree envelope.TreeID, shared bool) error {
	return s.d.Lock(ctx, q, lockKey(tree), shared)
}

// read prepares a read outside a transaction.
func (s *Store) read(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.ready(ctx, s.db)
}

// readAt runs fn, which sends the given number of statements, so that all of
// them see one moment. A single one needs no transaction, nor its round trips.
func (s *Store) readAt(ctx context.Context, statements int, fn func(q querier) error) error {
	if statements <= 1 {
		return fail(ctx, fn(s.db))
	}
	return fail(ctx, s.d.Snapshot(ctx, fn))
}

// ready returns ErrStoreEmpty until Init was called.
func (s *Store) ready(ctx context.Context, q querier) error {
	if s.populated.Load() {
		return nil
	}
	var one int
	err := q.QueryRowContext(ctx, "SELECT 1 FROM lethe_meta").Scan(&one)
	switch {
	case err == nil:
		s.populated.Store(true)
		return nil
	case errors.Is(err, sql.ErrNoRows), s.d.NoTable(err):
		return envelope.ErrStoreEmpty
	}
	return fail(ctx, err)
}

// write runs fn in a transaction on a populated store.
func (s *Store) write(ctx context.Context, fn func(q querier) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return fail(ctx, s.d.Write(ctx, func(q querier) error {
		if err := s.ready(ctx, q); err != nil {
			return err
		}
		return fn(q)
	}))
}

// fail names the package in an error that is not one of the Store's own.
func fail(ctx context.Context, err error) error {
	switch {
	case err == nil, errors.Is(err, envelope.ErrStoreConflict), errors.Is(err, envelope.ErrStoreEmpty), errors.Is(err, envelope.ErrStoreExists),
		errors.Is(err, envelope.ErrLeased):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("sqlstore: %w", err)
}

func (s *Store) exec(ctx context.Context, q querier, query string, args ...any) (int64, error) {
	res, err := q.ExecContext(ctx, s.d.bind(query), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// query calls scan for every row.
func (s *Store) query(ctx context.Context, q querier, scan func(row *sql.Rows) error, query string, args ...any) (err error) {
	rows, err := q.QueryContext(ctx, s.d.bind(query), args...)
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

// maxBatch is the most rows one statement inserts.
const maxBatch = 512

// insert adds rows of equal length, in statements of a power of two rows each,
// so that few different ones are prepared. suffix ends each statement; each is
// called with the text and the arguments.
func insert(into string, rows [][]any, suffix string, each func(query string, args []any) error) error {
	for len(rows) > 0 {
		n := maxBatch
		for n > len(rows) {
			n /= 2
		}
		one := "(" + strings.TrimSuffix(strings.Repeat("?, ", len(rows[0])), ", ") + ")"
		var args []any
		for _, row := range rows[:n] {
			args = append(args, row...)
		}
		if err := each("INSERT INTO "+into+" VALUES "+one+strings.Repeat(", "+one, n-1)+suffix, args); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// insert adds rows and counts those that were new.
func (s *Store) insert(ctx context.Context, q querier, into string, rows [][]any, suffix string) (affected int64, err error) {
	err = insert(into, rows, suffix, func(query string, args []any) error {
		n, err := s.exec(ctx, q, query, args...)
		affected += n
		return err
	})
	return affected, err
}
