package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/fileledger"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/internal/testdb"
	"github.com/lethe-go/lethe/kms/localkms"
)

// world is a key store on a disk that can be filled up, with its people.
type world struct {
	disk      *testdb.Disk
	store     *sqlstore.Store
	key       *localkms.Key
	opts      envelope.Options
	people    []envelope.Record
	forgotten map[int]bool
	unsure    map[int]bool // a forget failed: it may or may not have reached the ledger
}

func newWorld(t *testing.T, disk *testdb.Disk, store *sqlstore.Store, ledgerDir string) *world {
	t.Helper()
	require.NoError(t, store.Migrate(t.Context()))
	ledger, err := fileledger.Create(t.Context(), filepath.Join(ledgerDir, "ledger"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = ledger.Close() })
	key, err := localkms.Create(filepath.Join(t.TempDir(), "kek"), localkms.Options{})
	require.NoError(t, err)
	w := &world{disk: disk, store: store, key: key, opts: envelope.Options{Ledger: ledger}, forgotten: map[int]bool{}, unsure: map[int]bool{}}
	require.NoError(t, envelope.Init(t.Context(), store, key, w.opts))
	ring := w.ring(t)
	defer ring.Close()
	w.people = records(1200)
	require.NoError(t, ring.SealRecords(t.Context(), w.people))
	return w
}

func (w *world) ring(t *testing.T) *envelope.Keyring {
	t.Helper()
	ring, err := envelope.NewKeyring(t.Context(), w.store, w.key, w.opts)
	require.NoError(t, err)
	return ring
}

// requireClear fails the test unless err, of a full disk, is one that a caller can act on.
func requireClear(t *testing.T, err error) {
	t.Helper()
	require.True(t, errors.Is(err, envelope.ErrUnavailable) || errors.Is(err, envelope.ErrLedger), "%v", err)
	require.Regexp(t, `full|no space|not written|disk|extend|I/O`, err.Error())
}

// check opens everybody with a Keyring that has just started.
func (w *world) check(t *testing.T) {
	t.Helper()
	ring := w.ring(t)
	defer ring.Close()
	require.NoError(t, ring.OpenRecords(t.Context(), w.people))
	for i := range w.people {
		for _, c := range w.people[i].Cells {
			switch {
			case w.forgotten[i]:
				require.ErrorIs(t, c.Err, envelope.ErrForgotten, "person %d", i)
			case w.unsure[i] && errors.Is(c.Err, envelope.ErrForgotten):
			default:
				require.NoError(t, c.Err, "person %d", i)
			}
		}
	}
}

// forget notes what became of the forgets of the people from .. to-1.
func (w *world) forget(t *testing.T, ring *envelope.Keyring, from, to int) (failed error) {
	t.Helper()
	for i := from; i < to; i++ {
		if _, err := ring.Forget(t.Context(), subject(i)); err != nil {
			requireClear(t, err)
			w.unsure[i], failed = true, err
			continue
		}
		w.forgotten[i] = true
	}
	return failed
}

// A disk that is full in the middle of forgets and of a close, at one point after
// another: nothing is half done, and all of it can be done when there is room.
func (w *world) fullInTheMiddle(t *testing.T) {
	t.Helper()
	next, failures := 0, map[string]int{}
	for _, left := range []int64{0, 4 << 10, 16 << 10, 40 << 10, 80 << 10, 160 << 10, 320 << 10} {
		t.Run(fmt.Sprint(left>>10, " kB left"), func(t *testing.T) {
			ring := w.ring(t)
			defer ring.Close()
			w.disk.Fill(t, left)
			if w.forget(t, ring, next, next+60) != nil {
				failures["forget"]++
			}
			if _, err := ring.CloseEpoch(t.Context(), envelope.CloseOptions{}); err != nil {
				requireClear(t, err)
				failures["close"]++
			}
			w.disk.Free(t)
			for i := next; i < next+60; i++ {
				_, err := ring.Forget(t.Context(), subject(i)) // again: it says so, or does it
				require.NoError(t, err)
				delete(w.unsure, i)
				w.forgotten[i] = true
			}
			next += 60
			w.check(t)
			closed, err := ring.CloseEpoch(t.Context(), envelope.CloseOptions{})
			require.NoError(t, err)
			require.Empty(t, closed.Damaged)
			w.check(t)
		})
	}
	t.Logf("full at: %v", failures)
	require.NotZero(t, failures["forget"]+failures["close"], "the disk never was full")
}

func onDisk(t *testing.T, path string) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.OpenSQLite(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestSQLiteOnAFullDisk(t *testing.T) {
	disk := testdb.SmallDisk(t, 8<<20)
	w := newWorld(t, disk, onDisk(t, filepath.Join(disk.Dir, "keys.db")), t.TempDir())
	w.fullInTheMiddle(t)
}

// The ledger's disk is full: what it did not take did not happen.
func TestLedgerOnAFullDisk(t *testing.T) {
	disk := testdb.SmallDisk(t, 1<<20)
	w := newWorld(t, disk, onDisk(t, filepath.Join(t.TempDir(), "keys.db")), disk.Dir)
	ring := w.ring(t)
	disk.Fill(t, 0)
	failed := w.forget(t, ring, 0, 200)
	require.Error(t, failed)
	_, err := ring.CloseEpoch(t.Context(), envelope.CloseOptions{})
	requireClear(t, err)
	ring.Close()
	require.NotEmpty(t, w.unsure)
	sure := w.unsure
	w.unsure = map[int]bool{}
	w.check(t) // those the ledger did not take open as before, in a process that starts now
	for i := range sure {
		w.unsure[i] = true
	}
	disk.Free(t)
	ring = w.ring(t)
	defer ring.Close()
	require.NoError(t, w.forget(t, ring, 0, 200))
	w.check(t)
	_, err = ring.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	w.check(t)
}

// A restore that runs out of room is not served, and goes on when there is some.
func TestRestoreOnAFullDisk(t *testing.T) {
	disk := testdb.SmallDisk(t, 8<<20)
	path := filepath.Join(disk.Dir, "keys.db")
	w := newWorld(t, disk, onDisk(t, path), t.TempDir())
	backup := filepath.Join(t.TempDir(), "backup.db")
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "VACUUM INTO '"+backup+"'")
	require.NoError(t, err)
	require.NoError(t, db.Close())
	ring := w.ring(t)
	require.NoError(t, w.forget(t, ring, 0, 100))
	_, err = ring.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	ring.Close()
	failures := 0
	for _, left := range []int64{0, 16 << 10, 64 << 10, 256 << 10} {
		require.NoError(t, w.store.Close())
		for _, side := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(path + side); !errors.Is(err, fs.ErrNotExist) {
				require.NoError(t, err)
			}
		}
		copied, err := os.ReadFile(backup)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, copied, 0o600))
		w.store = onDisk(t, path)
		disk.Fill(t, left)
		_, full := envelope.Restore(t.Context(), w.store, w.key, w.opts, envelope.RestoreOptions{})
		if full != nil {
			requireClear(t, full)
			failures++
			_, err = envelope.NewKeyring(t.Context(), w.store, w.key, w.opts)
			require.Error(t, err, "it is not served half restored")
		}
		disk.Free(t)
		if full != nil {
			_, err = envelope.Restore(t.Context(), w.store, w.key, w.opts, envelope.RestoreOptions{})
			require.NoError(t, err)
		}
		w.check(t)
	}
	require.NotZero(t, failures, "the disk never was full")
}

// The tables and indexes are on a disk of their own; the server's log is not.
func TestPostgresOnAFullDisk(t *testing.T) {
	admin, err := sql.Open("pgx", testdb.PostgresURL(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	disk := testdb.SmallDisk(t, 4<<20)
	place := filepath.Join(disk.Dir, "tables")
	require.NoError(t, os.Mkdir(place, 0o700))
	var data string
	require.NoError(t, admin.QueryRowContext(t.Context(), "SHOW data_directory").Scan(&data))
	var server syscall.Stat_t
	if err := syscall.Stat(data, &server); err != nil {
		t.Skipf("PostgreSQL on a FULL DISK is NOT tested: its server runs elsewhere: %v", err)
	}
	require.NoError(t, os.Chown(place, int(server.Uid), int(server.Gid)))
	space := fmt.Sprint("lethe_full_", os.Getpid())
	_, err = admin.ExecContext(t.Context(), fmt.Sprintf("CREATE TABLESPACE %s LOCATION '%s'", space, place))
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := admin.ExecContext(context.WithoutCancel(t.Context()), "DROP TABLESPACE "+space)
		require.NoError(t, err)
	})
	w := newWorld(t, disk, newPostgresWith(t, "default_tablespace="+space).open(t), t.TempDir())
	w.fullInTheMiddle(t)
}
