package sqlstore_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/sqlstore"
)

// initialise writes the first rows by hand: an empty tree 1 at epoch 1.
func initialise(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.Init(t.Context(), envelope.InitRows{
		Meta: envelope.Meta{StoreID: envelope.StoreID{1}, Schema: 1, Incarnation: 1},
		Tree: envelope.TreeRow{Tree: 1, ActiveEpoch: 1, State: 1},
		Root: envelope.RootRow{Tree: 1, Epoch: 1, KMSURI: "k", Suite: 1, Wrapped: []byte("root"), Commit: []byte("commit"), State: envelope.RootActive, Created: time.Unix(5, 0).UTC()},
	}))
}

func pageRow(id envelope.PageID, fill uint32) envelope.PageRow {
	return envelope.PageRow{Tree: 1, Page: id, ParentGen: 1, Gen: 1, Suite: 1, Wrapped: bytes.Repeat([]byte{byte(id)}, 60), Fill: fill}
}

func keyRow(n uint32, page envelope.PageID) envelope.KeyRow {
	k := envelope.KeyRow{Tree: 1, Page: page, PageGen: 1, Kind: envelope.KindSubject, Suite: 1, RefVer: 1, PID: 1, Seq: 1, State: 1, Created: 9}
	binary.BigEndian.PutUint32(k.KID[:], n)
	binary.BigEndian.PutUint32(k.SRef[:], n)
	k.Wrapped = bytes.Repeat(k.KID[:4], 15)
	return k
}

const childEnv = "LETHE_SQLSTORE_CHILD"

// TestChildProcess is not a test of its own: it is the other process of TestSQLiteTwoProcesses.
func TestChildProcess(t *testing.T) {
	path := os.Getenv(childEnv)
	if path == "" {
		t.Skip("runs as another process only")
	}
	s, err := sqlstore.OpenSQLite(t.Context(), path)
	require.NoError(t, err)
	pages, err := s.Pages(t.Context(), 1, []envelope.PageID{2})
	require.NoError(t, err)
	if os.Getenv(childEnv+"_WANT") != "" {
		require.Len(t, pages, 1)
	}
	require.NoError(t, s.Close())
}

func child(t *testing.T, path, want string) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestChildProcess$")
	cmd.Env = append(os.Environ(), childEnv+"="+path, childEnv+"_WANT="+want)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

// Opening the file a second time in one process must not drop the first
// handle's locks: another process would then take itself for the last one and
// delete the write-ahead log under it.
func TestSQLiteTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	first, err := sqlstore.OpenSQLite(t.Context(), path)
	require.NoError(t, err)
	defer func() { _ = first.Close() }()
	initialise(t, first)
	second, err := sqlstore.OpenSQLite(t.Context(), path)
	require.NoError(t, err)
	defer func() { _ = second.Close() }()
	child(t, path, "")
	_, err = os.Stat(path + "-wal")
	require.NoError(t, err, "the other process deleted the log")
	_, err = first.Insert(t.Context(), envelope.Insert{Tree: 1, Epoch: 1, Pages: []envelope.PageRow{pageRow(2, 1)}})
	require.NoError(t, err)
	child(t, path, "yes")
}

// The context ends a wait for another process's write lock.
func TestSQLiteBusyHonoursTheContext(t *testing.T) {
	d := newSQLite(t)
	s := d.open(t)
	initialise(t, s)
	for range 9 { // also after PRAGMAs ran on the connections
		_, err := s.Forget(t.Context(), envelope.Forgetting{Tree: 1, Prev: meta(t, s).AppliedSeq, Seq: meta(t, s).AppliedSeq + 1, Head: []byte{1}})
		require.NoError(t, err)
	}
	conn, err := d.raw.Conn(t.Context())
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	err = s.Advance(ctx, 9, 10, []byte{1})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(start), 2*time.Second)
	_, err = conn.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, s.Advance(t.Context(), 9, 10, []byte{1}))
}

func meta(t *testing.T, s *sqlstore.Store) envelope.Meta {
	t.Helper()
	m, err := s.Meta(t.Context())
	require.NoError(t, err)
	return m
}

func TestSQLiteOpenedByManyAtOnce(t *testing.T) {
	for range 5 {
		path := filepath.Join(t.TempDir(), "keys.db")
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				s, err := sqlstore.OpenSQLite(t.Context(), path)
				if err == nil {
					err = s.Migrate(t.Context())
				}
				if err == nil {
					err = s.Close()
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

// A rollback journal that is kept, or none, would keep deleted keys or half a write.
func TestSQLiteRefusesUnsafeJournals(t *testing.T) {
	for _, mode := range []string{"PERSIST", "MEMORY", "OFF", "DELETE"} {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "keys.db")+"?_pragma=journal_mode("+mode+")")
		require.NoError(t, err)
		require.ErrorContains(t, sqlstore.NewSQLite(db).Migrate(t.Context()), "journal_mode", mode)
		require.NoError(t, db.Close())
	}
}

// A key inserted again exists, be it the same row: memstore says so.
func TestInsertAgain(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		s := d.open(t)
		initialise(t, s)
		in := envelope.Insert{Tree: 1, Epoch: 1, Pages: []envelope.PageRow{pageRow(2, 3)}, Keys: []envelope.KeyRow{keyRow(1, 2), keyRow(2, 2), keyRow(1, 2)}}
		done, err := s.Insert(t.Context(), in)
		require.NoError(t, err)
		require.Equal(t, envelope.Inserted{Exists: []int{2}}, done)
		in.Pages = nil
		in.Keys = []envelope.KeyRow{keyRow(3, 2), keyRow(2, 2)}
		done, err = s.Insert(t.Context(), in)
		require.NoError(t, err)
		require.Equal(t, envelope.Inserted{Exists: []int{1}}, done)
	})
}

// A database whose default is a stricter isolation level must not let an
// Insert that waited for a Forget read the tombs of before.
func TestPostgresIsolationIsReadCommitted(t *testing.T) {
	d := newPostgres(t)
	s := d.open(t)
	initialise(t, s)
	db, err := sql.Open("pgx", os.Getenv(postgresEnv))
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	var path string
	require.NoError(t, d.raw.QueryRowContext(t.Context(), "SHOW search_path").Scan(&path))
	db.SetMaxOpenConns(1)
	for _, set := range []string{"SET search_path TO " + path, "SET default_transaction_isolation TO 'repeatable read'"} {
		_, err = db.ExecContext(t.Context(), set)
		require.NoError(t, err)
	}
	strict := sqlstore.NewPostgres(db)
	blocker, err := d.raw.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = blocker.ExecContext(t.Context(), "SELECT pg_advisory_xact_lock($1)", int64(0x6c657468)<<32|1)
	require.NoError(t, err)
	var done envelope.Inserted
	result := make(chan error, 1)
	go func() {
		var err error
		done, err = strict.Insert(t.Context(), envelope.Insert{Tree: 1, Epoch: 1, Pages: []envelope.PageRow{pageRow(2, 1)}, Keys: []envelope.KeyRow{keyRow(1, 2)}})
		result <- err
	}()
	time.Sleep(200 * time.Millisecond) // Insert now waits for the lock
	_, err = blocker.ExecContext(t.Context(), "INSERT INTO lethe_tomb (tree, ref_ver, sref, pid, ledger_seq, lifted_seq) VALUES (1, 1, $1, 0, 1, 0)", func() []byte { k := keyRow(1, 2); return k.SRef[:] }())
	require.NoError(t, err)
	require.NoError(t, blocker.Commit())
	require.NoError(t, <-result)
	require.Equal(t, []int{0}, done.Forgotten)
}
