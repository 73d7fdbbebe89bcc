package sqlstore_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/internal/testdb"
)

// database is a fresh database that can be opened many times.
type database struct {
	open func(t testing.TB) *sqlstore.Store
	raw  *sql.DB // the same, for looking into it
	path string  // of the SQLite file
}

// onEach runs a test on each engine.
func onEach(t *testing.T, test func(t *testing.T, d database)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, newSQLite(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, newPostgres(t)) })
}

func newSQLite(t testing.TB) database {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys & more?.db")
	open := func(t testing.TB) *sqlstore.Store {
		t.Helper()
		s, err := sqlstore.OpenSQLite(t.Context(), path)
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	open(t)
	raw, err := sql.Open("sqlite", "file:"+strings.NewReplacer("?", "%3f", " ", "%20").Replace(path)+"?_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	return database{open: open, raw: raw, path: path}
}

func newPostgres(t testing.TB) database {
	t.Helper()
	return newPostgresWith(t)
}

// newPostgresWith opens every connection with settings, such as "deadlock_timeout=1h".
func newPostgresWith(t testing.TB, settings ...string) database {
	t.Helper()
	mine := testdb.Postgres(t, settings...)
	raw, err := sql.Open("pgx", mine)
	require.NoError(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	return database{raw: raw, open: func(t testing.TB) *sqlstore.Store {
		t.Helper()
		s, err := sqlstore.OpenPostgres(t.Context(), mine)
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}}
}

func subject(i int) envelope.Subject { return envelope.Subject{Kind: "c", ID: strconv.Itoa(i)} }

func records(n int) []envelope.Record {
	recs := make([]envelope.Record, n)
	for i := range recs {
		recs[i] = envelope.Record{
			Name: "r", Scopes: []envelope.Scope{{Subject: subject(i)}, {Purpose: "marketing", Subject: subject(i)}},
			Cells: []envelope.Cell{{Field: "a", Plain: []byte("one")}, {Scope: 1, Field: "b", Plain: []byte("two")}},
		}
	}
	return recs
}

// The life of a keyring, and what a restart and another process see of it.
func TestAKeyringOverSQL(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		store, key, ledger := d.open(t), envelopetest.NewKey(t), &memledger.Ledger{}
		opts := envelope.Options{Ledger: ledger}
		require.ErrorIs(t, envelope.Init(t.Context(), store, key, opts), envelope.ErrStoreEmpty, "not migrated")
		require.NoError(t, store.Migrate(t.Context()))
		_, err := envelope.NewKeyring(t.Context(), store, key, opts)
		require.ErrorIs(t, err, envelope.ErrStoreEmpty, "not initialised")
		require.NoError(t, envelope.Init(t.Context(), store, key, opts))
		require.ErrorIs(t, envelope.Init(t.Context(), store, key, opts), envelope.ErrStoreExists)
		ring, err := envelope.NewKeyring(t.Context(), store, key, opts)
		require.NoError(t, err)
		defer ring.Close()
		recs := records(3000)
		require.NoError(t, ring.SealRecords(t.Context(), recs))
		_, err = ring.Forget(t.Context(), subject(7))
		require.NoError(t, err)
		_, err = ring.ForgetPurpose(t.Context(), subject(8), "marketing")
		require.NoError(t, err)
		_, err = ring.Rotate(t.Context(), subject(9))
		require.NoError(t, err)
		require.NoError(t, ring.RewrapKEK(t.Context(), key))

		again, err := envelope.NewKeyring(t.Context(), d.open(t), key, opts)
		require.NoError(t, err)
		defer again.Close()
		require.NoError(t, again.OpenRecords(t.Context(), recs))
		for i := range recs {
			switch i {
			case 7:
				require.ErrorIs(t, recs[i].Cells[0].Err, envelope.ErrForgotten)
				require.ErrorIs(t, recs[i].Cells[1].Err, envelope.ErrForgotten)
			case 8:
				require.Equal(t, "one", string(recs[i].Cells[0].Plain))
				require.ErrorIs(t, recs[i].Cells[1].Err, envelope.ErrForgotten)
			default:
				require.NoError(t, recs[i].Cells[0].Err)
				require.Equal(t, "two", string(recs[i].Cells[1].Plain))
			}
		}
		fresh := records(8)[7:]
		require.ErrorIs(t, again.SealRecords(t.Context(), fresh), envelope.ErrForgotten)
		require.NoError(t, again.Readmit(t.Context(), subject(7)))
		require.NoError(t, again.SealRecords(t.Context(), fresh))
		_, err = envelope.NewKeyring(t.Context(), store, envelopetest.NewKey(t), opts)
		require.ErrorIs(t, err, envelope.ErrWrongKey)
	})
}

func TestMigrateOftenAndAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		var wg sync.WaitGroup
		for range 4 {
			s := d.open(t)
			wg.Go(func() {
				for range 3 {
					if err := s.Migrate(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		var n int
		require.NoError(t, d.raw.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM lethe_schema").Scan(&n))
		require.Equal(t, 2, n)
		_, err := d.raw.ExecContext(t.Context(), "INSERT INTO lethe_schema (version) VALUES (99)")
		require.NoError(t, err)
		require.ErrorContains(t, d.open(t).Migrate(t.Context()), "newer program")
	})
}

func TestADamagedRowIsAnError(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		store, key, opts := d.open(t), envelopetest.NewKey(t), envelope.Options{Ledger: &memledger.Ledger{}}
		require.NoError(t, store.Migrate(t.Context()))
		require.NoError(t, envelope.Init(t.Context(), store, key, opts))
		ring, err := envelope.NewKeyring(t.Context(), store, key, opts)
		require.NoError(t, err)
		defer ring.Close()
		recs := records(1)
		require.NoError(t, ring.SealRecords(t.Context(), recs))
		_, err = d.raw.ExecContext(t.Context(), "UPDATE lethe_key SET wrapped = substr(wrapped, 1, 20) WHERE COALESCE(kind, 1) = 1")
		require.NoError(t, err)
		again, err := envelope.NewKeyring(t.Context(), store, key, opts)
		require.NoError(t, err)
		defer again.Close()
		require.NoError(t, again.OpenRecords(t.Context(), recs))
		for _, c := range recs[0].Cells {
			require.ErrorIs(t, c.Err, envelope.ErrDecrypt)
		}
	})
}

func TestSQLiteFileModeAndPaths(t *testing.T) {
	d := newSQLite(t)
	info, err := os.Stat(d.path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	for _, path := range []string{"", ":memory:", "file:x.db"} {
		_, err := sqlstore.OpenSQLite(t.Context(), path)
		require.ErrorContains(t, err, "path of a file")
	}
	_, err = sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "no", "such", "dir.db"))
	require.Error(t, err)
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	require.NoError(t, os.WriteFile(foreign, bytes.Repeat([]byte("not a database "), 300), 0o600))
	s, err := sqlstore.OpenSQLite(t.Context(), foreign)
	if err == nil {
		err = s.Migrate(t.Context())
		_ = s.Close()
	}
	require.Error(t, err)
}

// The wrapped key of a forgotten person is nowhere in SQLite's files.
func TestSQLiteForgetsInItsFiles(t *testing.T) {
	d := newSQLite(t)
	store, key, opts := d.open(t), envelopetest.NewKey(t), envelope.Options{Ledger: &memledger.Ledger{}}
	require.NoError(t, store.Migrate(t.Context()))
	require.NoError(t, envelope.Init(t.Context(), store, key, opts))
	ring, err := envelope.NewKeyring(t.Context(), store, key, opts)
	require.NoError(t, err)
	defer ring.Close()
	require.NoError(t, ring.SealRecords(t.Context(), records(50)))
	var wrapped [][]byte
	rows, err := d.raw.QueryContext(t.Context(), "SELECT wrapped FROM lethe_key WHERE COALESCE(kind, 1) = 1")
	require.NoError(t, err)
	for rows.Next() {
		var b []byte
		require.NoError(t, rows.Scan(&b))
		wrapped = append(wrapped, b)
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
	require.Len(t, wrapped, 100)
	found := func() (n int) {
		for _, suffix := range []string{"", "-wal"} {
			b, err := os.ReadFile(d.path + suffix)
			require.NoError(t, err)
			for _, w := range wrapped {
				if bytes.Contains(b, w) {
					n++
				}
			}
		}
		return n
	}
	require.GreaterOrEqual(t, found(), 100)
	for i := range 50 {
		_, err = ring.Forget(t.Context(), subject(i))
		require.NoError(t, err)
	}
	require.Zero(t, found())
}

func TestSQLiteFullDisk(t *testing.T) {
	d := newSQLite(t)
	store, key, opts := d.open(t), envelopetest.NewKey(t), envelope.Options{Ledger: &memledger.Ledger{}}
	require.NoError(t, store.Migrate(t.Context()))
	require.NoError(t, envelope.Init(t.Context(), store, key, opts))
	d.raw.SetMaxOpenConns(1)
	var pages int
	require.NoError(t, d.raw.QueryRowContext(t.Context(), "PRAGMA page_count").Scan(&pages))
	_, err := d.raw.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", pages+1))
	require.NoError(t, err)
	tight, err := envelope.NewKeyring(t.Context(), sqlstore.NewSQLite(d.raw), key, opts)
	require.NoError(t, err)
	defer tight.Close()
	recs := records(2000)
	err = tight.SealRecords(t.Context(), recs)
	require.ErrorIs(t, err, envelope.ErrUnavailable)
	require.ErrorContains(t, err, "full")
	require.Empty(t, recs[0].Header)
	var n int
	require.NoError(t, d.raw.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM lethe_key WHERE COALESCE(kind, 1) = 1").Scan(&n))
	require.Zero(t, n, "nothing half written")
	_, err = d.raw.ExecContext(t.Context(), "PRAGMA max_page_count = 1000000")
	require.NoError(t, err)
	require.NoError(t, tight.SealRecords(t.Context(), recs))
}

func TestPostgresErrorsHideThePassword(t *testing.T) {
	const secret = "hunter2horse"
	for _, dsn := range []string{
		"postgres://u:" + secret + "@127.0.0.1:1/db?sslmode=disable",
		"postgres://u:" + secret + "@[bad/db",
		"host=127.0.0.1 port=x password=" + secret,
		"user=u password='" + secret,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		_, err := sqlstore.OpenPostgres(ctx, dsn)
		cancel()
		require.Error(t, err)
		require.NotContains(t, err.Error(), secret)
	}
}

func TestPostgresAway(t *testing.T) {
	newPostgres(t) // skips
	db, err := sql.Open("pgx", "postgres://u@127.0.0.1:1/db?sslmode=disable&connect_timeout=1")
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	_, err = envelope.NewKeyring(t.Context(), sqlstore.NewPostgres(db), envelopetest.NewKey(t), envelope.Options{Ledger: &memledger.Ledger{}})
	require.ErrorIs(t, err, envelope.ErrUnavailable)
}
