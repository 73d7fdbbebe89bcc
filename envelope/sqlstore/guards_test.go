package sqlstore_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/internal/testdb"
)

// initialise writes the first rows by hand: an empty tree 1 at epoch 1.
func initialise(t testing.TB, s *sqlstore.Store) {
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

// Two services that mint for the same people in opposite orders do not block
// each other, which here PostgreSQL would take longer to see than the test waits.
func TestInsertsInOppositeOrders(t *testing.T) {
	d := newPostgresWith(t, "deadlock_timeout=1h")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s := d.open(t)
	initialise(t, s)
	const rounds, each = 5, 1200 // keys that one statement does not hold
	for round := range uint32(rounds) {
		var one, other []envelope.KeyRow
		for i := range uint32(each) {
			k := keyRow(1+round*each+i, 2)
			one = append(one, k)
			k.KID[11] = 9
			other = append(other, k)
		}
		slices.Reverse(other)
		var wg sync.WaitGroup
		var exist atomic.Int64
		for _, keys := range [][]envelope.KeyRow{one, other} {
			wg.Go(func() {
				done, err := s.Insert(ctx, envelope.Insert{Tree: 1, Epoch: 1, Keys: keys})
				if err != nil {
					t.Error(err)
				}
				exist.Add(int64(len(done.Exists)))
			})
		}
		wg.Wait()
		require.EqualValues(t, each, exist.Load())
	}
}

// A database whose default is a stricter isolation level must not let an
// Insert that waited for a Forget read the tombs of before.
func TestPostgresIsolationIsReadCommitted(t *testing.T) {
	d := newPostgres(t)
	s := d.open(t)
	initialise(t, s)
	db, err := sql.Open("pgx", testdb.PostgresURL(t))
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

// A number that does not fit its type is an error, never another number.
func TestNumbersAreNotCutShort(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		s := d.open(t)
		initialise(t, s)
		key := keyRow(1, 2)
		_, err := s.Insert(t.Context(), envelope.Insert{Tree: 1, Epoch: 1, Pages: []envelope.PageRow{pageRow(2, 1)}, Keys: []envelope.KeyRow{key}})
		require.NoError(t, err)
		for _, change := range []string{"lethe_page SET level = level", "lethe_page SET suite = suite", "lethe_key SET suite = COALESCE(suite, 1)", "lethe_root SET suite = suite", "lethe_root SET state = state"} {
			_, err := d.raw.ExecContext(t.Context(), "UPDATE "+change+" + 256")
			require.NoError(t, err)
			_, _, keys := s.Keys(t.Context(), 1, 1, []envelope.SRef{key.SRef})
			_, _, tree := s.Tree(t.Context(), 1)
			require.Error(t, errors.Join(keys, tree), change)
			_, err = d.raw.ExecContext(t.Context(), "UPDATE "+change+" - 256")
			require.NoError(t, err)
		}
	})
}

// methods calls each method of the interface.
func methods(ctx context.Context, s *sqlstore.Store) map[string]error {
	errs := map[string]error{}
	_, errs["Meta"] = s.Meta(ctx)
	errs["Init"] = s.Init(ctx, envelope.InitRows{Tree: envelope.TreeRow{Tree: 1}})
	errs["Advance"] = s.Advance(ctx, 0, 1, nil)
	_, _, errs["Tree"] = s.Tree(ctx, 1)
	_, errs["Pages"] = s.Pages(ctx, 1, []envelope.PageID{1})
	_, errs["ChildPages"] = s.ChildPages(ctx, 1, 0)
	_, errs["DirtyPages"] = s.DirtyPages(ctx, 1)
	_, errs["OpenPages"] = s.OpenPages(ctx, 1, 0, 1)
	_, errs["CountRootPages"] = s.CountRootPages(ctx, 1, 0)
	_, _, errs["Keys"] = s.Keys(ctx, 1, 1, make([]envelope.SRef, 1))
	_, errs["KeysOfPage"] = s.KeysOfPage(ctx, 1, 1)
	_, _, errs["SystemKeys"] = s.SystemKeys(ctx, 1, envelope.KindRef)
	_, _, errs["Evidence"] = s.Evidence(ctx, 1, 1, make([]envelope.SRef, 1), make([]envelope.KeyID, 1))
	_, errs["Insert"] = s.Insert(ctx, envelope.Insert{Tree: 1})
	_, errs["Purposes"] = s.Purposes(ctx)
	_, errs["AddPurpose"] = s.AddPurpose(ctx, "p")
	_, errs["Forget"] = s.Forget(ctx, envelope.Forgetting{Tree: 1})
	errs["Readmit"] = s.Readmit(ctx, envelope.Readmission{Tree: 1})
	errs["Rekey"] = s.Rekey(ctx, envelope.Rekey{Tree: 1})
	errs["RekeyPages"] = s.RekeyPages(ctx, envelope.RekeyPages{Tree: 1})
	_, errs["PagesAfter"] = s.PagesAfter(ctx, 1, 0, 1)
	_, errs["Roots"] = s.Roots(ctx, 1)
	errs["UpdateRoots"] = s.UpdateRoots(ctx, []envelope.RootRow{{Tree: 1}})
	errs["Reincarnate"] = s.Reincarnate(ctx, 1, 2)
	errs["Claim"] = s.Claim(ctx, envelope.Lease{Tree: 1, Owner: "o"}, time.Now())
	_, errs["LeaseOf"] = s.LeaseOf(ctx, 1)
	return errs
}

func TestNotMigratedAndCancelled(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		s := d.open(t)
		for name, err := range methods(t.Context(), s) {
			require.ErrorIs(t, err, envelope.ErrStoreEmpty, name)
		}
		initialise(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for name, err := range methods(ctx, s) {
			require.ErrorIs(t, err, context.Canceled, name)
		}
		require.Zero(t, meta(t, s).AppliedSeq)
	})
}

// A closed database is an outage: no method may take it for an empty store.
func TestAwayIsNotEmpty(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		initialise(t, d.open(t))
		s := d.open(t)
		require.NoError(t, s.Close())
		for name, err := range methods(t.Context(), s) {
			require.Error(t, err, name)
			for _, known := range []error{envelope.ErrStoreEmpty, envelope.ErrStoreExists, envelope.ErrStoreConflict} {
				require.NotErrorIs(t, err, known, name)
			}
		}
	})
}

// A port nobody listens on is an error well before the deadline.
func TestPostgresClosedPort(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	start := time.Now()
	_, err := sqlstore.OpenPostgres(ctx, "postgres://u@127.0.0.1:1/db?sslmode=disable")
	require.Error(t, err)
	require.Less(t, time.Since(start), 4*time.Second)
}

// A Forget that does not fit leaves the key, no tomb and the same place in the ledger.
func TestSQLiteFullDiskOnForget(t *testing.T) {
	d := newSQLite(t)
	initialise(t, d.open(t))
	d.raw.SetMaxOpenConns(1)
	s := sqlstore.NewSQLite(d.raw)
	key := keyRow(1, 2)
	_, err := s.Insert(t.Context(), envelope.Insert{Tree: 1, Epoch: 1, Pages: []envelope.PageRow{pageRow(2, 1)}, Keys: []envelope.KeyRow{key}})
	require.NoError(t, err)
	var pages int
	require.NoError(t, d.raw.QueryRowContext(t.Context(), "PRAGMA page_count").Scan(&pages))
	_, err = d.raw.ExecContext(t.Context(), "PRAGMA max_page_count = "+strconv.Itoa(pages))
	require.NoError(t, err)
	f := envelope.Forgetting{Tree: 1, Epoch: 1, RefVer: 1, SRef: key.SRef, Seq: 1, Head: make([]byte, 32)}
	for i := range uint32(3000) {
		f.KIDs = append(f.KIDs, keyRow(100+i, 2).KID)
	}
	_, err = s.Forget(t.Context(), f)
	require.ErrorContains(t, err, "full")
	require.Zero(t, meta(t, s).AppliedSeq)
	keys, _, err := s.Keys(t.Context(), 1, 1, []envelope.SRef{key.SRef})
	require.NoError(t, err)
	require.Equal(t, []envelope.KeyRow{key}, keys)
	tombs, dead, err := s.Evidence(t.Context(), 1, 1, []envelope.SRef{key.SRef}, append(f.KIDs, key.KID))
	require.NoError(t, err)
	require.Empty(t, tombs)
	require.Empty(t, dead)
	_, err = d.raw.ExecContext(t.Context(), "PRAGMA max_page_count = 1000000")
	require.NoError(t, err)
	gone, err := s.Forget(t.Context(), f)
	require.NoError(t, err)
	require.Equal(t, []envelope.KeyRow{key}, gone)
	tombs, dead, err = s.Evidence(t.Context(), 1, 1, []envelope.SRef{key.SRef}, append(f.KIDs, key.KID))
	require.NoError(t, err)
	require.Len(t, tombs, 1)
	require.Len(t, dead, 3001, "in chunks")
}

// Keys of many subjects and their page are of one moment, also while the page is re-keyed.
func TestKeysOfManyChunksMatchTheirPages(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		s := d.open(t)
		initialise(t, s)
		in := envelope.Insert{Tree: 1, Epoch: 1, Pages: []envelope.PageRow{pageRow(2, 2)}, Keys: []envelope.KeyRow{keyRow(1, 2), keyRow(5000, 2)}}
		_, err := s.Insert(t.Context(), in)
		require.NoError(t, err)
		srefs := make([]envelope.SRef, 0, 5000)
		for i := range uint32(5000) {
			srefs = append(srefs, keyRow(i+1, 2).SRef)
		}
		stop, stopped := make(chan struct{}), make(chan error, 1)
		go func() {
			for epoch := uint64(1); ; epoch++ {
				select {
				case <-stop:
					stopped <- nil
					return
				default:
				}
				page := pageRow(2, 2)
				page.Gen, page.ParentGen = epoch+1, epoch+1
				keys := []envelope.KeyRow{keyRow(1, 2), keyRow(5000, 2)}
				keys[0].PageGen, keys[1].PageGen = epoch+1, epoch+1
				if err := s.Rekey(t.Context(), envelope.Rekey{
					Tree: 1, OldEpoch: epoch, RootChildren: 1, PageChildren: map[envelope.PageID]int{2: 2}, Pages: []envelope.PageRow{page}, Keys: keys,
					Root: envelope.RootRow{Tree: 1, Epoch: epoch + 1, Wrapped: []byte("root"), Commit: []byte("commit"), State: envelope.RootActive},
				}); err != nil {
					stopped <- err
					return
				}
			}
		}()
		for range 60 {
			keys, pages, err := s.Keys(t.Context(), 1, 1, srefs)
			require.NoError(t, err)
			require.Len(t, keys, 2)
			require.Len(t, pages, 1)
			require.Equal(t, pages[0].Gen, keys[0].PageGen)
			require.Equal(t, pages[0].Gen, keys[1].PageGen)
		}
		close(stop)
		require.NoError(t, <-stopped)
	})
}

// What a Rekey replaced is nowhere in SQLite's files either.
func TestSQLiteRekeyWipes(t *testing.T) {
	d := newSQLite(t)
	s := d.open(t)
	initialise(t, s)
	old := keyRow(0x5a5b5c5d, 2)
	_, err := s.Insert(t.Context(), envelope.Insert{Tree: 1, Epoch: 1, Pages: []envelope.PageRow{pageRow(2, 1)}, Keys: []envelope.KeyRow{old}})
	require.NoError(t, err)
	page, key := pageRow(2, 1), old
	page.Gen, key.PageGen, key.Wrapped = 2, 2, bytes.Repeat([]byte{0x77}, 60)
	found := func() (n int) {
		for _, suffix := range []string{"", "-wal"} {
			b, err := os.ReadFile(d.path + suffix)
			require.NoError(t, err)
			n += bytes.Count(b, old.Wrapped[:40])
		}
		return n
	}
	require.NotZero(t, found())
	require.NoError(t, s.Rekey(t.Context(), envelope.Rekey{
		Tree: 1, OldEpoch: 1, RootChildren: 1, PageChildren: map[envelope.PageID]int{2: 1}, Pages: []envelope.PageRow{page}, Keys: []envelope.KeyRow{key},
		Root: envelope.RootRow{Tree: 1, Epoch: 2, Wrapped: []byte("root"), Commit: []byte("commit"), State: envelope.RootActive},
	}))
	require.Zero(t, found())
}

// A number that is none of 32 bits is damage, not another number.
func TestNumbersOutOfRangeAreNotRead(t *testing.T) {
	d := newSQLite(t)
	s := d.open(t)
	initialise(t, s)
	row := keyRow(9, 2)
	_, err := s.Insert(t.Context(), envelope.Insert{Tree: 1, Epoch: 1, Pages: []envelope.PageRow{pageRow(2, 1)}, Keys: []envelope.KeyRow{row}})
	require.NoError(t, err)
	conn, err := d.raw.Conn(t.Context())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.ExecContext(t.Context(), "UPDATE lethe_key SET pid = 4294967297")
	require.ErrorContains(t, err, "CHECK")
	for _, statement := range []string{"PRAGMA ignore_check_constraints = ON", "UPDATE lethe_key SET pid = 4294967297"} {
		_, err = conn.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	_, _, err = s.Keys(t.Context(), 1, 1, []envelope.SRef{row.SRef})
	require.ErrorContains(t, err, "out of range")
}

// An intruder who gives a kid to a second row of its page keeps no page from being re-keyed.
func TestAKIDTwiceOnAPage(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		s := d.open(t)
		initialise(t, s)
		page, row := pageRow(2, 2), keyRow(9, 2)
		_, err := s.Insert(t.Context(), envelope.Insert{Tree: 1, Epoch: 1, Pages: []envelope.PageRow{page}, Keys: []envelope.KeyRow{row}})
		require.NoError(t, err)
		_, err = d.raw.ExecContext(t.Context(), `INSERT INTO lethe_key (kid, tree, page, page_gen, kind, suite, ref_ver, sref, pid, seq, wrapped, state, created, seal_until, expires)
			SELECT kid, tree, page, page_gen, kind, suite, ref_ver, sref, pid, 7, wrapped, state, created, seal_until, expires FROM lethe_key WHERE page = 2`)
		if d.path != "" {
			require.Error(t, err, "the primary key")
			return
		}
		require.NoError(t, err)
		seen := page.Wrapped
		page.Gen, page.Wrapped = 2, []byte("fresh")
		row.PageGen, row.Wrapped = 2, []byte("anew")
		require.NoError(t, s.RekeyPages(t.Context(), envelope.RekeyPages{
			Tree: 1, Epoch: 1, Pages: []envelope.PageRow{page}, Seen: map[envelope.PageID][]byte{2: seen},
			PageChildren: map[envelope.PageID]int{2: 2}, Keys: []envelope.KeyRow{row},
		}))
		keys, err := s.KeysOfPage(t.Context(), 1, 2)
		require.NoError(t, err)
		require.Len(t, keys, 2)
		require.Contains(t, keys, row)
	})
}
