package envelope_test

import (
	"bytes"
	"database/sql"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

// intruder writes the key tables as who has the database does.
type intruder struct {
	t  testing.TB
	db *sql.DB
}

func (w *epochWorld) intruder() *intruder { return &intruder{w.t, w.sqlite("live.db")} }

// sqlite opens a store's file.
func (w *epochWorld) sqlite(name string) *sql.DB {
	db, err := sql.Open("sqlite", filepath.Join(w.dir, name)+"?_pragma=busy_timeout(5000)")
	require.NoError(w.t, err)
	db.SetMaxOpenConns(1) // what is attached stays so
	w.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (i *intruder) exec(query string, args ...any) {
	i.t.Helper()
	res, err := i.db.ExecContext(i.t.Context(), query, args...)
	require.NoError(i.t, err)
	n, err := res.RowsAffected()
	require.NoError(i.t, err)
	require.True(i.t, n > 0 || strings.HasPrefix(query, "CREATE") || strings.HasPrefix(query, "ATTACH"), query)
}

// keep copies a table aside; back puts rows of it back over what is there.
func (i *intruder) keep(table string) {
	i.exec("CREATE TABLE kept_" + table + " AS SELECT * FROM " + table) //nolint:unqueryvet // whatever columns it has
}

func (i *intruder) back(table, where string, args ...any) {
	i.t.Helper()
	i.exec("INSERT OR REPLACE INTO "+table+" SELECT * FROM kept_"+table+" WHERE "+where, args...) //nolint:unqueryvet // whatever columns it has
}

func (i *intruder) number(query string, args ...any) (n int64) {
	i.t.Helper()
	require.NoError(i.t, i.db.QueryRowContext(i.t.Context(), query, args...).Scan(&n))
	return n
}

func (i *intruder) blob(query string, args ...any) (b []byte) {
	i.t.Helper()
	require.NoError(i.t, i.db.QueryRowContext(i.t.Context(), query, args...).Scan(&b))
	return b
}

// Somebody writes the key tables before a close. The close says so and changes
// nothing; told to, it gives up what is damaged; who is not damaged never notices.
func TestIntruderBeforeAClose(t *testing.T) {
	t.Parallel()
	// The people of the leaves "hurt" and "other": clean ones, or one that the close re-keys.
	type scene struct {
		*intruder
		hurt, other int64 // pages
		key, key2   []byte
	}
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	damages := map[string]struct {
		do   func(s *scene)
		keys bool // only keys are lost, not the page
		lost int  // people, at most
	}{
		"page corrupted": {do: func(s *scene) {
			s.exec("UPDATE lethe_page SET wrapped = ? WHERE page = ?", flip(s.blob("SELECT wrapped FROM lethe_page WHERE page = ?", s.hurt)), s.hurt)
		}, lost: 64},
		"page of unknown suite": {do: func(s *scene) { s.exec("UPDATE lethe_page SET suite = 99 WHERE page = ?", s.hurt) }, lost: 64},
		"pages swapped": {do: func(s *scene) {
			a, b := s.blob("SELECT wrapped FROM lethe_page WHERE page = ?", s.hurt), s.blob("SELECT wrapped FROM lethe_page WHERE page = ?", s.other)
			s.exec("UPDATE lethe_page SET wrapped = ? WHERE page = ?", b, s.hurt)
			s.exec("UPDATE lethe_page SET wrapped = ? WHERE page = ?", a, s.other)
		}, lost: 128},
		"page put back from an old copy": {do: func(s *scene) { s.back("lethe_page", "page = ?", s.hurt) }, lost: 64},
		"page and its keys put back from an old copy": {do: func(s *scene) {
			s.back("lethe_page", "page = ?", s.hurt)
			s.back("lethe_key", "page = ? AND kid IN (SELECT kid FROM lethe_key)", s.hurt)
		}, lost: 64},
		"key corrupted": {do: func(s *scene) {
			s.exec("UPDATE lethe_key SET wrapped = ? WHERE kid = ?", flip(s.blob("SELECT wrapped FROM lethe_key WHERE kid = ?", s.key)), s.key)
		}, keys: true, lost: 1},
		"keys swapped": {do: func(s *scene) {
			a, b := s.blob("SELECT wrapped FROM lethe_key WHERE kid = ?", s.key), s.blob("SELECT wrapped FROM lethe_key WHERE kid = ?", s.key2)
			s.exec("UPDATE lethe_key SET wrapped = ? WHERE kid = ?", b, s.key)
			s.exec("UPDATE lethe_key SET wrapped = ? WHERE kid = ?", a, s.key2)
		}, keys: true, lost: 2},
		"key put back from an old copy": {do: func(s *scene) { s.back("lethe_key", "kid = ?", s.key) }, keys: true, lost: 1},
		"key moved to another page":     {do: func(s *scene) { s.exec("UPDATE lethe_key SET page = ? WHERE kid = ?", s.other, s.key) }, keys: true, lost: 1},
		"page moved under another":      {do: func(s *scene) { s.exec("UPDATE lethe_page SET parent = ? WHERE page = ?", s.other, s.hurt) }, lost: 64},
		"page is its own parent":        {do: func(s *scene) { s.exec("UPDATE lethe_page SET parent = page WHERE page = ?", s.hurt) }, lost: 64},
		"parent that is not there":      {do: func(s *scene) { s.exec("UPDATE lethe_page SET parent = 4711 WHERE page = ?", s.hurt) }, lost: 64},
	}
	for name, d := range damages {
		for _, dirty := range []bool{false, true} {
			t.Run(name+map[bool]string{false: "/clean", true: "/dirty"}[dirty], func(t *testing.T) {
				t.Parallel()
				w, k := newEpochWorld(t)
				recs := w.seal(k, "a", 320)
				in := w.intruder()
				forget := func(i int) {
					_, err := k.Forget(t.Context(), recs[i].Scopes[0].Subject)
					require.NoError(t, err)
				}
				in.keep("lethe_page")
				in.keep("lethe_key")
				for i := range 30 { // every leaf loses somebody, so that the close re-keys all
					forget(i * 10)
				}
				_, err := k.CloseEpoch(t.Context(), envelope.CloseOptions{})
				require.NoError(t, err)
				forget(5)
				for i := 1; dirty && i < 30; i++ {
					forget(i*10 + 5)
				}
				// Two leaves without the system keys.
				s := &scene{intruder: in}
				leaf := "SELECT page FROM lethe_page p WHERE level = 0 AND gen = 2 AND (dirty_epoch <> 0) = ? AND NOT EXISTS (SELECT 1 FROM lethe_key k WHERE k.page = p.page AND kind <> 1) AND (SELECT COUNT(*) FROM lethe_key k WHERE k.page = p.page) > 9 ORDER BY page"
				s.hurt, s.other = in.number(leaf+" LIMIT 1", dirty), in.number(leaf+" DESC LIMIT 1", dirty)
				require.NotEqual(t, s.hurt, s.other)
				s.key = in.blob("SELECT kid FROM lethe_key WHERE page = ? ORDER BY kid LIMIT 1", s.hurt)
				s.key2 = in.blob("SELECT kid FROM lethe_key WHERE page = ? ORDER BY kid DESC LIMIT 1", s.hurt)
				d.do(s)
				fresh := w.ring("live.db")
				// One at a time: who is damaged harms nobody else.
				open, failed := 0, 0
				for i := 1; i < len(recs); i += 9 {
					one := []envelope.Record{recs[i]}
					one[0].Cells = []envelope.Cell{recs[i].Cells[0]}
					one[0].Scopes = []envelope.Scope{{Subject: recs[i].Scopes[0].Subject}}
					err := fresh.OpenRecords(t.Context(), one)
					switch e := one[0].Scopes[0].Err; {
					case err == nil && e == nil:
						open++
					case errors.Is(e, envelope.ErrForgotten):
					default:
						failed++
					}
				}
				require.LessOrEqual(t, failed, d.lost)
				t.Logf("%d open, %d do not", open, failed)

				w.seal(fresh, "meanwhile", 100)
				_, err = fresh.CloseEpoch(t.Context(), envelope.CloseOptions{})
				t.Logf("close: %v", err)
				if !d.keys || dirty {
					require.Error(t, err)
					require.True(t, errors.Is(err, envelope.ErrDecrypt) || errors.Is(err, envelope.ErrKeyMissing) || errors.Is(err, envelope.ErrUnavailable), "%v", err)
				}
				closed, err := fresh.CloseEpoch(t.Context(), envelope.CloseOptions{LeaveDamaged: true, All: true})
				require.NoError(t, err, "told to")
				t.Logf("damaged: %d pages, %d keys", len(closed.Damaged), len(closed.DamagedKeys))
				require.NotZero(t, len(closed.Damaged)+len(closed.DamagedKeys))
				after := w.ring("live.db")
				open2 := 0
				for i := 1; i < len(recs); i += 9 {
					one := []envelope.Record{recs[i]}
					one[0].Cells = []envelope.Cell{recs[i].Cells[0]}
					one[0].Scopes = []envelope.Scope{{Subject: recs[i].Scopes[0].Subject}}
					if err := after.OpenRecords(t.Context(), one); err == nil && one[0].Scopes[0].Err == nil {
						open2++
					}
				}
				require.Equal(t, open, open2)
				w.seal(after, "after", 100)
			})
		}
	}
}

// The check before the old root is given up reads the store: what the closer has in
// memory says nothing of the rows that are there.
func TestTheCheckOfACloseReadsTheStore(t *testing.T) {
	w, k := newEpochWorld(t)
	envelope.SetFanOut(k, 4)
	recs := w.seal(k, "a", 60)
	_, err := k.Forget(t.Context(), recs[0].Scopes[0].Subject)
	require.NoError(t, err)
	closer := w.ring("live.db")
	open, forgotten, _ := w.opened(closer, recs) // every leaf's key is in memory
	require.Equal(t, [2]int{59, 1}, [2]int{open, forgotten})
	in := w.intruder()
	// Below another page: what hangs on the root is wrapped anew, and read for that.
	clean := in.number("SELECT page FROM lethe_page WHERE level = 0 AND dirty_epoch = 0 AND parent <> 0 AND parent NOT IN (SELECT parent FROM lethe_page WHERE dirty_epoch > 0) LIMIT 1")
	whole := in.blob("SELECT wrapped FROM lethe_page WHERE page = ?", clean)
	broken := bytes.Clone(whole)
	broken[len(broken)/2] ^= 1
	in.exec("UPDATE lethe_page SET wrapped = ? WHERE page = ?", broken, clean)
	_, err = closer.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.ErrorIs(t, err, envelope.ErrDecrypt)
	in.exec("UPDATE lethe_page SET wrapped = ? WHERE page = ?", whole, clean)
	in.keep("lethe_page")
	in.exec("DELETE FROM lethe_page WHERE page = (SELECT parent FROM lethe_page WHERE page = ?)", clean)
	_, err = closer.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.ErrorIs(t, err, envelope.ErrKeyMissing)
	in.back("lethe_page", "page NOT IN (SELECT page FROM lethe_page)")
	_, err = closer.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
}

// New keys do not go to a page that was put back from an old copy, though a process
// has the key it had then, and that of its parent, in memory: nobody else could open them.
func TestNoNewKeysOnAPagePutBack(t *testing.T) {
	w, k := newEpochWorld(t)
	recs := w.seal(k, "a", 65*envelope.PageFanOut-10) // the last leaf is below another page
	in := w.intruder()
	old := in.number("SELECT page FROM lethe_page WHERE level = 0 AND parent <> 0 AND fill < 64 ORDER BY fill LIMIT 1")
	knows := w.ring("live.db")
	open, _, _ := w.opened(knows, recs)
	require.Equal(t, len(recs), open)
	in.keep("lethe_page")
	_, err := k.CloseEpoch(t.Context(), envelope.CloseOptions{All: true})
	require.NoError(t, err)
	in.back("lethe_page", "page = ?", old)
	more := w.seal(knows, "b", 3)
	open, _, _ = w.opened(w.ring("live.db"), more)
	require.Equal(t, 3, open)
}

// A number of restores that cannot be is refused before it is in the ledger, which
// would go on from it for good, past what the store can hold.
func TestRestoreRefusesAnIncarnationThatCannotBe(t *testing.T) {
	w, k := newEpochWorld(t)
	recs := w.seal(k, "a", 5)
	backup := w.backup()
	_, err := k.Forget(t.Context(), recs[0].Scopes[0].Subject)
	require.NoError(t, err)
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	db := w.sqlite(backup)
	set := func(n int64) {
		_, err := db.ExecContext(t.Context(), "UPDATE lethe_meta SET incarnation = ?", n)
		require.NoError(t, err)
	}
	before, err := w.ledger.Read(t.Context(), 0)
	require.NoError(t, err)
	for _, n := range []int64{math.MaxInt64, math.MaxInt64 - 1, 1 << 32} {
		set(n)
		_, err = envelope.Restore(t.Context(), w.store(backup), w.kms, w.opts, envelope.RestoreOptions{})
		require.ErrorContains(t, err, "lethe_meta")
	}
	after, err := w.ledger.Read(t.Context(), 0)
	require.NoError(t, err)
	require.Len(t, after, len(before))
	set(1<<32 - 1) // the worst that goes through keeps nobody from restoring again
	again := "again.db"
	_, err = db.ExecContext(t.Context(), "VACUUM INTO ?", filepath.Join(w.dir, again))
	require.NoError(t, err)
	for i, name := range []string{backup, again} {
		restored, err := envelope.Restore(t.Context(), w.store(name), w.kms, w.opts, envelope.RestoreOptions{})
		require.NoError(t, err)
		require.EqualValues(t, 1<<32+i, restored.Incarnation)
	}
}
