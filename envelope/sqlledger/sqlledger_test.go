package sqlledger_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/ledgertest"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/envelope/sqlledger"
	"github.com/lethe-go/lethe/internal/testdb"
)

// database is a fresh database that can be opened many times.
type database struct {
	open func(t *testing.T) *sqlledger.Ledger
	raw  *sql.DB // the same, for looking into it
}

func newSQLite(t *testing.T) database {
	t.Helper()
	path := filepath.Join(t.TempDir(), "forgets.db")
	open := func(t *testing.T) *sqlledger.Ledger {
		t.Helper()
		l, err := sqlledger.OpenSQLite(t.Context(), path)
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	open(t)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	raw, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	return database{open: open, raw: raw}
}

func newPostgres(t *testing.T) database {
	t.Helper()
	mine := testdb.Postgres(t)
	raw, err := sql.Open("pgx", mine)
	require.NoError(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	return database{raw: raw, open: func(t *testing.T) *sqlledger.Ledger {
		t.Helper()
		l, err := sqlledger.OpenPostgres(t.Context(), mine)
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		return l
	}}
}

// onEach runs a test on each engine.
func onEach(t *testing.T, test func(t *testing.T, d database)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, newSQLite(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, newPostgres(t)) })
}

func TestSuite(t *testing.T) {
	for name, fresh := range map[string]func(t *testing.T) database{"sqlite": newSQLite, "postgres": newPostgres} {
		t.Run(name, func(t *testing.T) {
			ledgertest.Run(t, func(t *testing.T) ledgertest.Backend {
				d := fresh(t)
				require.NoError(t, d.open(t).Migrate(t.Context()))
				return ledgertest.Backend{
					Open: func(t *testing.T) envelope.Ledger { return d.open(t) },
					Away: func(t *testing.T) envelope.Ledger {
						l := d.open(t)
						require.NoError(t, l.Close())
						return l
					},
				}
			})
		})
	}
}

func TestMigrate(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		l := d.open(t)
		_, err := l.Read(t.Context(), 0)
		require.ErrorContains(t, err, "call Migrate", "nothing makes a table by itself")
		require.ErrorContains(t, l.Append(t.Context(), ledgertest.Entry(1)), "call Migrate")
		var wg sync.WaitGroup
		for range 4 {
			l := d.open(t)
			wg.Go(func() {
				if err := l.Migrate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.NoError(t, l.Append(t.Context(), ledgertest.Entry(1)))
		require.NoError(t, l.Migrate(t.Context()))
		got, err := l.Read(t.Context(), 0)
		require.NoError(t, err)
		require.Len(t, got, 1)
		_, err = d.raw.ExecContext(t.Context(), "INSERT INTO lethe_ledger_schema (version) VALUES (99)")
		require.NoError(t, err)
		require.ErrorContains(t, l.Migrate(t.Context()), "newer program")
	})
}

func TestRowsAreNotChanged(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		l := d.open(t)
		require.NoError(t, l.Migrate(t.Context()))
		require.NoError(t, l.Append(t.Context(), ledgertest.Entry(1)))
		statements := []string{"UPDATE lethe_ledger SET line = 'x'", "UPDATE lethe_ledger SET seq = 2", "DELETE FROM lethe_ledger"}
		if strings.HasSuffix(t.Name(), "postgres") {
			statements = append(statements, "TRUNCATE lethe_ledger")
		}
		for _, statement := range statements {
			_, err := d.raw.ExecContext(t.Context(), statement)
			require.ErrorContains(t, err, "append-only", statement)
		}
		got, err := l.Read(t.Context(), 0)
		require.NoError(t, err)
		require.Equal(t, []envelope.LedgerEntry{ledgertest.Entry(1)}, got)
	})
}

func TestDamageIsNamed(t *testing.T) {
	for name, damage := range map[string]func(line string) (seq int, text string){
		"no entry":      func(string) (int, string) { return 2, "{}" },
		"another entry": func(line string) (int, string) { return 2, line },
		"a gap":         func(line string) (int, string) { return 3, line },
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, d database) {
				l := d.open(t)
				require.NoError(t, l.Migrate(t.Context()))
				require.NoError(t, l.Append(t.Context(), ledgertest.Entry(1)))
				var line string
				require.NoError(t, d.raw.QueryRowContext(t.Context(), "SELECT line FROM lethe_ledger").Scan(&line))
				seq, text := damage(line)
				_, err := d.raw.ExecContext(t.Context(), "INSERT INTO lethe_ledger (seq, line) VALUES ($1, $2)", seq, text)
				require.NoError(t, err)
				got, err := l.Read(t.Context(), 0)
				require.ErrorContains(t, err, "entry 2")
				require.Empty(t, got)
			})
		})
	}
}

// An entry is durable also on a caller's connection that commits without waiting.
func TestPostgresAppendsAreDurable(t *testing.T) {
	d := newPostgres(t)
	require.NoError(t, d.open(t).Migrate(t.Context()))
	d.raw.SetMaxOpenConns(1)
	for _, statement := range []string{
		"CREATE TABLE seen (mode TEXT)",
		"CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen VALUES (current_setting(''synchronous_commit'')); RETURN NEW; END'",
		"CREATE TRIGGER note AFTER INSERT ON lethe_ledger FOR EACH ROW EXECUTE FUNCTION note()",
	} {
		_, err := d.raw.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	l := sqlledger.NewPostgres(d.raw)
	for i, modes := range [][2]string{{"off", "on"}, {"remote_apply", "remote_apply"}} {
		_, err := d.raw.ExecContext(t.Context(), "SET synchronous_commit TO "+modes[0])
		require.NoError(t, err)
		require.NoError(t, l.Append(t.Context(), ledgertest.Entry(uint64(i)+1)))
		var mode string
		require.NoError(t, d.raw.QueryRowContext(t.Context(), "DELETE FROM seen RETURNING mode").Scan(&mode))
		require.Equal(t, modes[1], mode)
	}
}

func TestSQLiteAppendsAreDurable(t *testing.T) {
	d := newSQLite(t)
	require.NoError(t, d.open(t).Migrate(t.Context()))
	d.raw.SetMaxOpenConns(1)
	_, err := d.raw.ExecContext(t.Context(), "PRAGMA synchronous = OFF")
	require.NoError(t, err)
	require.NoError(t, sqlledger.NewSQLite(d.raw).Append(t.Context(), ledgertest.Entry(1)))
	var level int
	require.NoError(t, d.raw.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&level))
	require.Equal(t, 2, level, "FULL")

	unsafe, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "x.db")+"?_pragma=journal_mode(MEMORY)")
	require.NoError(t, err)
	defer func() { _ = unsafe.Close() }()
	require.ErrorContains(t, sqlledger.NewSQLite(unsafe).Migrate(t.Context()), "journal_mode")
}

func TestOpenErrors(t *testing.T) {
	_, err := sqlledger.OpenPostgres(t.Context(), "postgres://u:hunter2@[::1")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
	for _, path := range []string{"", ":memory:", "file:x", filepath.Join(t.TempDir(), "no", "such", "dir", "x.db")} {
		_, err := sqlledger.OpenSQLite(t.Context(), path)
		require.Error(t, err)
	}
}

// A person forgotten stays forgotten after a restart, whatever the process remembers.
func TestAKeyringOverSQL(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		l := d.open(t)
		require.NoError(t, l.Migrate(t.Context()))
		store, key := memstore.New(), envelopetest.NewKey(t)
		require.NoError(t, envelope.Init(t.Context(), store, key, envelope.Options{Ledger: l}))
		ring, err := envelope.NewKeyring(t.Context(), store, key, envelope.Options{Ledger: l})
		require.NoError(t, err)
		recs := []envelope.Record{{Name: "r", Scopes: []envelope.Scope{{Subject: envelope.Subject{Kind: "p", ID: "1"}}}, Cells: []envelope.Cell{{Field: "f", Plain: []byte("x")}}}}
		require.NoError(t, ring.SealRecords(t.Context(), recs))
		_, err = ring.Forget(t.Context(), recs[0].Scopes[0].Subject)
		require.NoError(t, err)
		ring.Close()

		ring, err = envelope.NewKeyring(t.Context(), store, key, envelope.Options{Ledger: d.open(t)})
		require.NoError(t, err)
		defer ring.Close()
		require.NoError(t, ring.OpenRecords(t.Context(), recs))
		require.ErrorIs(t, recs[0].Cells[0].Err, envelope.ErrForgotten)
	})
}
