package sqlstore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
)

// firstTables gives a store the tables of the first migration again, with its rows.
func firstTables(t *testing.T, d database) {
	t.Helper()
	engine, sref := "postgres", "uuid_send(sref)"
	if d.path != "" {
		engine, sref = "sqlite", "sref"
	}
	first, err := os.ReadFile(filepath.Join("migrations", engine, "0001_key_store.sql"))
	require.NoError(t, err)
	tx, err := d.raw.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	do := func(statement string) {
		_, err := tx.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	do("ALTER TABLE lethe_key RENAME TO lethe_key_later")
	for _, index := range []string{"lethe_key_page", "lethe_key_system"} {
		do("DROP INDEX IF EXISTS " + index)
	}
	statements := regexp.MustCompile(`(?s)CREATE (TABLE lethe_key \(|INDEX lethe_key_).*?;\n`).FindAllString(string(first), -1)
	require.Len(t, statements, 3)
	for _, statement := range statements {
		do(statement)
	}
	do(fmt.Sprintf(`INSERT INTO lethe_key (kid, tree, page, page_gen, kind, suite, ref_ver, sref, pid, seq, wrapped, state, created, seal_until, expires)
		SELECT kid, tree, page, page_gen, COALESCE(kind, 1), COALESCE(suite, 1), ref_ver & 4294967295, %s, pid & 4294967295, seq & 4294967295,
			wrapped, COALESCE(state, 1), created, COALESCE(seal_until, 0), COALESCE(expires, 0) FROM lethe_key_later`, sref))
	do("DROP TABLE lethe_key_later")
	do("DELETE FROM lethe_schema WHERE version > 1")
	require.NoError(t, tx.Commit())
}

func TestMigrateAPopulatedStore(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		store, key, ledger := d.open(t), envelopetest.NewKey(t), &memledger.Ledger{}
		opts := envelope.Options{Ledger: ledger}
		require.NoError(t, store.Migrate(t.Context()))
		require.NoError(t, envelope.Init(t.Context(), store, key, opts))
		ring, err := envelope.NewKeyring(t.Context(), store, key, opts)
		require.NoError(t, err)
		recs := records(300)
		require.NoError(t, ring.SealRecords(t.Context(), recs))
		_, err = ring.Rotate(t.Context(), subject(3))
		require.NoError(t, err)
		_, err = ring.Forget(t.Context(), subject(7))
		require.NoError(t, err)
		ring.Close()
		high := keyRow(9, 2)
		high.Kind, high.Suite, high.State, high.RefVer, high.PID, high.Seq = envelope.KindIndex, 2, 3, 1<<32-1, 1<<32-1, 1<<32-1
		high.Created, high.SealUntil, high.Expires = 1<<40, 1<<41, 1<<42
		low := keyRow(10, 2)
		_, err = store.Insert(t.Context(), envelope.Insert{Tree: 1, Epoch: 1, Pages: []envelope.PageRow{pageRow(2, 2)}, Keys: []envelope.KeyRow{high, low}})
		require.NoError(t, err)

		firstTables(t, d)
		migrated := d.open(t)
		require.NoError(t, migrated.Migrate(t.Context()))
		for _, row := range []envelope.KeyRow{high, low} {
			got, _, err := migrated.Keys(t.Context(), 1, row.RefVer, []envelope.SRef{row.SRef})
			require.NoError(t, err)
			require.Equal(t, []envelope.KeyRow{row}, got)
			done, err := migrated.Insert(t.Context(), envelope.Insert{Tree: 1, Epoch: 1, Keys: []envelope.KeyRow{row}})
			require.NoError(t, err)
			require.Equal(t, []int{0}, done.Exists)
		}
		// Rows that were only made up would be damage to a close.
		_, err = d.raw.ExecContext(t.Context(), "DELETE FROM lethe_key WHERE page = 2")
		require.NoError(t, err)
		_, err = d.raw.ExecContext(t.Context(), "DELETE FROM lethe_page WHERE page = 2")
		require.NoError(t, err)

		ring, err = envelope.NewKeyring(t.Context(), migrated, key, opts)
		require.NoError(t, err)
		defer ring.Close()
		check := func() {
			require.NoError(t, ring.OpenRecords(t.Context(), recs))
			for i := range recs {
				for _, c := range recs[i].Cells {
					if i == 7 {
						require.ErrorIs(t, c.Err, envelope.ErrForgotten)
					} else {
						require.NoError(t, c.Err)
					}
				}
			}
		}
		check()
		closed, err := ring.CloseEpoch(t.Context(), envelope.CloseOptions{All: true})
		require.NoError(t, err)
		require.Positive(t, closed.Keys)
		check()
		require.NoError(t, ring.SealRecords(t.Context(), records(320)[300:]))
	})
}

// What a process of the version before writes while the tables are being changed is
// not lost.
func TestMigrateUnderAWriter(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		if d.path != "" {
			t.Skip("SQLite has one writer at a time")
		}
		store := d.open(t)
		require.NoError(t, store.Migrate(t.Context()))
		initialise(t, store)
		firstTables(t, d)
		tx, err := d.raw.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), oldKey(d, "1", "1", "1"))
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- store.Migrate(t.Context()) }()
		require.Eventually(t, func() bool {
			var waits int
			err := d.raw.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
				WHERE c.oid = 'lethe_key'::regclass AND NOT l.granted`).Scan(&waits)
			return err == nil && waits == 1
		}, 10*time.Second, 5*time.Millisecond)
		require.NoError(t, tx.Commit())
		require.NoError(t, <-done)
		var n int
		require.NoError(t, d.raw.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM lethe_key WHERE page = 77").Scan(&n))
		require.Equal(t, 1, n)
	})
}

// oldKey is a statement that adds a row to the key table of the first migration.
func oldKey(d database, refVer, pid, seq string) string {
	blob := func(n int) string { return "X'" + strings.Repeat("07", n) + "'" }
	if d.path == "" {
		blob = func(n int) string { return `'\x` + strings.Repeat("07", n) + "'" }
	}
	return fmt.Sprintf(`INSERT INTO lethe_key (kid, tree, page, page_gen, kind, suite, ref_ver, sref, pid, seq, wrapped, state, created, seal_until, expires)
		VALUES (%s, 1, 77, 1, 1, 1, %s, %s, %s, %s, %s, 1, 1, 0, 0)`, blob(12), refVer, blob(16), pid, seq, blob(60))
}

// A number that no program wrote is not made into another: the store stays as it was.
func TestMigrateRefusesNumbersOutOfRange(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		store := d.open(t)
		require.NoError(t, store.Migrate(t.Context()))
		initialise(t, store)
		for _, number := range []string{"-1", "-4294967295", "4294967296", "4294967297", "6442450944", "9223372036854775807"} {
			for _, n := range [][3]string{{number, "1", "1"}, {"1", number, "1"}, {"1", "1", number}} {
				firstTables(t, d)
				_, err := d.raw.ExecContext(t.Context(), oldKey(d, n[0], n[1], n[2]))
				require.NoError(t, err)
				require.Error(t, store.Migrate(t.Context()), n)
				_, err = d.raw.ExecContext(t.Context(), "DELETE FROM lethe_key WHERE page = 77")
				require.NoError(t, err)
				require.NoError(t, store.Migrate(t.Context()), "as it was")
			}
		}
	})
}
