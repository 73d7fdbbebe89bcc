package migrate_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/integrations/migrate"
)

// customer is the row type of most tests.
type customer struct {
	ID     int64                   `db:"id" lethe:"id"`
	Owner  string                  `db:"owner" lethe:"subject=customer"`
	Keys   lethe.Keys              `db:"sealed_keys" lethe:"customers"`
	Email  lethe.Secret[string]    `db:"email" lethe:"email,mask=email"`
	Index  lethe.BlindIndex        `db:"email_idx" lethe:"email_idx,of=email,norm=email/1,bits=64"`
	Born   lethe.Secret[time.Time] `db:"born" lethe:"born,purpose=marketing"`
	Friend string                  `db:"friend" lethe:"subject=customer,group=friend"`
	Told   lethe.Secret[string]    `db:"told" lethe:"told,group=friend"`
	Note   string                  `db:"note"`
}

// world is a table of customers, and what seals them.
type world struct {
	db      *sql.DB
	dialect lethe.Dialect
	ring    *envelope.Keyring
	sealer  *lethe.Sealer[customer]
}

func (w *world) bytesType() string {
	if w.dialect == lethe.Postgres {
		return "BYTEA"
	}
	return "BLOB"
}

// openDB returns an empty database: a file, or a schema of its own.
func openDB(t testing.TB, d lethe.Dialect) *sql.DB {
	t.Helper()
	if d == lethe.SQLite {
		return openSQLite(t, filepath.Join(t.TempDir(), "data.db"))
	}
	db, _ := openPostgres(t)
	return db
}

func openSQLite(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_pragma=synchronous(NORMAL)&_txlock=immediate")
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func openPostgres(t testing.TB) (db *sql.DB, dsn string) {
	t.Helper()
	dsn = os.Getenv("LETHE_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("LETHE_TEST_POSTGRES is not set: nothing was tested on PostgreSQL")
	}
	admin, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	schema := fmt.Sprintf("migrate_%x", rand.Uint64())
	_, err = admin.ExecContext(t.Context(), "CREATE SCHEMA "+schema)
	require.NoError(t, err)
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	q := u.Query()
	q.Set("search_path", schema)
	q.Set("application_name", schema)
	u.RawQuery = q.Encode()
	dsn = u.String()
	db = openDSN(t, dsn)
	t.Cleanup(func() {
		_ = db.Close()
		_, err := admin.ExecContext(context.WithoutCancel(t.Context()), "DROP SCHEMA "+schema+" CASCADE")
		require.NoError(t, err)
		_ = admin.Close()
	})
	return db, dsn
}

func openDSN(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	db.SetMaxIdleConns(16)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func newWorld(t testing.TB, d lethe.Dialect) *world {
	t.Helper()
	w := &world{db: openDB(t, d), dialect: d, ring: envelopetest.NewKeyring(t)}
	var err error
	w.sealer, err = lethe.For[customer](w.ring)
	require.NoError(t, err)
	w.create(t)
	return w
}

func (w *world) create(t testing.TB) {
	t.Helper()
	w.exec(t, strings.ReplaceAll(`CREATE TABLE customers (
		id BIGINT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, sealed_keys BYTES, email BYTES, email_idx BYTES, born BYTES,
		friend TEXT, told BYTES, note TEXT NOT NULL DEFAULT '', version BIGINT NOT NULL DEFAULT 0)`, "BYTES", w.bytesType()))
	require.NoError(t, migrate.Migrate(t.Context(), w.db))
	require.NoError(t, migrate.Migrate(t.Context(), w.db), "twice does nothing")
}

func (w *world) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	_, err := w.db.ExecContext(t.Context(), query, args...)
	require.NoError(t, err)
}

func (w *world) table() migrate.Table {
	return migrate.Table{Name: "customers", Key: []string{"id"}, DB: w.db, Dialect: w.dialect, Rows: w.sealer.Rows()}
}

// fast is what tests run with.
func fast(o migrate.Options) migrate.Options {
	if o.Rate == 0 {
		o.Rate = migrate.Unlimited
	}
	if o.BatchSize == 0 {
		o.BatchSize = 7
	}
	if o.Lease == 0 {
		o.Lease = time.Second
	}
	if o.Workers == 0 {
		o.Workers = 3
	}
	return o
}

func (w *world) job(t testing.TB, k migrate.Kind, o migrate.Options) *migrate.Job {
	t.Helper()
	j, err := migrate.NewJob(t.Context(), k, w.table(), fast(o))
	require.NoError(t, err)
	return j
}

func (w *world) run(t testing.TB, k migrate.Kind, o migrate.Options) migrate.Report {
	t.Helper()
	report, err := w.job(t, k, o).Run(t.Context(), nil)
	require.NoError(t, err)
	require.True(t, report.Done)
	return report
}

func owner(i int64) string { return fmt.Sprint("cus_", i%10) }

func email(i, version int64) string { return fmt.Sprintf("c%d.%d@example.com", i, version) }

func newCustomer(i int64) customer {
	c := customer{ID: i, Owner: owner(i), Email: lethe.Of(email(i, 0)), Note: "clear"}
	if i%2 == 0 {
		c.Born = lethe.Of(time.Date(1990, 1, int(i%28)+1, 0, 0, 0, 0, time.UTC))
	}
	if i%3 == 0 {
		c.Friend, c.Told = "friend_"+owner(i), lethe.Of("a secret")
	}
	return c
}

func (w *world) insert(t testing.TB, from, to int64) {
	t.Helper()
	rows := make([]customer, 0, to-from)
	for i := from; i < to; i++ {
		rows = append(rows, newCustomer(i))
	}
	require.NoError(t, w.sealer.SealSlice(t.Context(), rows))
	tx, err := w.db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	for _, c := range rows {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO customers (id, owner, sealed_keys, email, email_idx, born, friend, told, note) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
			c.ID, c.Owner, c.Keys, c.Email, c.Index, c.Born, sql.NullString{String: c.Friend, Valid: c.Friend != ""}, c.Told, c.Note)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
}

// stored is a row as it is in the table, and what is not the Sealer's.
type stored struct {
	customer
	version int64
}

func (w *world) read(t testing.TB) (all []stored) {
	t.Helper()
	rows, err := w.db.QueryContext(t.Context(), "SELECT id, owner, sealed_keys, email, email_idx, born, coalesce(friend, ''), told, note, version FROM customers ORDER BY id")
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var s stored
		require.NoError(t, rows.Scan(&s.ID, &s.Owner, &s.Keys, &s.Email, &s.Index, &s.Born, &s.Friend, &s.Told, &s.Note, &s.version))
		all = append(all, s)
	}
	require.NoError(t, rows.Err())
	return all
}

// check opens every row, and compares it with what was written last.
func (w *world) check(t testing.TB, want int, forgotten ...string) {
	t.Helper()
	all := w.read(t)
	require.Equal(t, want, len(all)) //nolint:testifylint // Len prints them all
	gone := map[string]bool{}
	for _, f := range forgotten {
		gone[f] = true
	}
	for i := range all {
		s := &all[i]
		require.NoError(t, w.sealer.Open(t.Context(), &s.customer), "row %d", s.ID)
		if gone[s.Owner] {
			require.Equal(t, lethe.StatusForgotten, s.Email.Status())
			continue
		}
		got, err := s.Email.Reveal()
		require.NoError(t, err, "row %d", s.ID)
		require.Equal(t, email(s.ID, s.version), got)
		q, err := w.sealer.Query(t.Context(), "email_idx", email(s.ID, s.version))
		require.NoError(t, err)
		require.Contains(t, q.Terms(), s.Index.Bytes())
		if s.ID%2 == 0 {
			_, err = s.Born.Reveal()
			require.NoError(t, err)
		} else {
			require.Equal(t, lethe.StatusNull, s.Born.Status())
		}
		if s.ID%3 == 0 && !gone[s.Friend] {
			_, err = s.Told.Reveal()
			require.NoError(t, err)
		}
		require.Equal(t, "clear", s.Note)
	}
}

func both(t *testing.T, test func(t *testing.T, w *world)) {
	t.Run("SQLite", func(t *testing.T) { test(t, newWorld(t, lethe.SQLite)) })
	t.Run("Postgres", func(t *testing.T) { test(t, newWorld(t, lethe.Postgres)) })
}

func (w *world) rotate(t testing.TB) {
	t.Helper()
	for i := range int64(10) {
		w.rotateOne(t, i)
	}
}

func (w *world) rotateOne(t testing.TB, i int64) {
	t.Helper()
	_, err := w.ring.Rotate(t.Context(), lethe.Subject{Kind: "customer", ID: owner(i)})
	require.NoError(t, err)
}

func TestRewrap(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.insert(t, 1, 101)
		r := w.run(t, migrate.Rewrap, migrate.Options{})
		require.Equal(t, 1, r.Pass)
		require.Equal(t, migrate.Counts{Seen: 100, Unchanged: 100}, r.All)
		w.rotate(t)
		_, err := w.ring.Forget(t.Context(), lethe.Subject{Kind: "customer", ID: owner(3)})
		require.NoError(t, err)
		before := w.read(t)
		r = w.run(t, migrate.Rewrap, migrate.Options{})
		require.Equal(t, 2, r.Pass)
		require.EqualValues(t, 90, r.All.Changed)
		require.EqualValues(t, 10, r.This.Forgotten)
		require.EqualValues(t, 100, r.Total)
		require.Zero(t, r.All.Raced)
		require.Empty(t, r.Failures)
		w.check(t, 100, owner(3))
		for i, s := range w.read(t) {
			require.Equal(t, s.Owner == owner(3), s.Keys.Equal(before[i].Keys))
			require.True(t, s.Email.Equal(before[i].Email), "cells stay")
		}
		r = w.run(t, migrate.Rewrap, migrate.Options{})
		require.Zero(t, r.All.Changed)

		w.rotateOne(t, 5)
		require.NoError(t, w.ring.Suspend(t.Context(), lethe.Subject{Kind: "customer", ID: owner(5)}))
		r = w.run(t, migrate.Rewrap, migrate.Options{})
		require.Zero(t, r.All.Changed)
		require.Equal(t, migrate.Counts{Seen: 100, Unchanged: 80, Forgotten: 10, Suspended: 10}, r.All)
		require.NoError(t, w.ring.Resume(t.Context(), lethe.Subject{Kind: "customer", ID: owner(5)}))
		require.EqualValues(t, 10, w.run(t, migrate.Rewrap, migrate.Options{}).All.Changed)
	})
}

func TestReseal(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.insert(t, 1, 101)
		_, err := w.ring.Forget(t.Context(), lethe.Subject{Kind: "customer", ID: owner(3)})
		require.NoError(t, err)
		require.NoError(t, w.ring.Suspend(t.Context(), lethe.Subject{Kind: "customer", ID: owner(4)}))
		before := w.read(t)
		r := w.run(t, migrate.Reseal, migrate.Options{})
		require.Equal(t, 1, r.Pass)
		require.Equal(t, migrate.Counts{Seen: 100, Changed: 80, Forgotten: 10, Suspended: 10}, r.All)
		require.NoError(t, w.ring.Resume(t.Context(), lethe.Subject{Kind: "customer", ID: owner(4)}))
		w.check(t, 100, owner(3))
		for i, s := range w.read(t) {
			left := s.Owner == owner(3) || s.Owner == owner(4)
			require.Equal(t, left, s.Keys.Equal(before[i].Keys))
			require.Equal(t, left, s.Email.Equal(before[i].Email))
		}
	})
}

func TestReindex(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.insert(t, 1, 51)
		require.NoError(t, w.ring.RotateIndexKey(t.Context(), "", "customers", "email_idx"))
		before := w.read(t)
		r := w.run(t, migrate.Reindex, migrate.Options{})
		require.EqualValues(t, 50, r.All.Changed)
		_, err := w.ring.RetireIndexKeys(t.Context(), "", "customers", "email_idx")
		require.NoError(t, err)
		w.check(t, 50)
		for i, s := range w.read(t) {
			require.True(t, s.Keys.Equal(before[i].Keys))
			require.False(t, s.Index.Equal(before[i].Index))
		}
		_, err = w.ring.Forget(t.Context(), lethe.Subject{Kind: "customer", ID: owner(1)})
		require.NoError(t, err)
		r = w.run(t, migrate.Reindex, migrate.Options{})
		require.EqualValues(t, 5, r.All.Changed, "a forgotten person's index becomes NULL")
		w.check(t, 50, owner(1))
	})
}
