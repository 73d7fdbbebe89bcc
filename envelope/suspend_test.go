package envelope_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/sqlstore"
)

func owner(id, purpose string) envelope.TokenOwner {
	return envelope.TokenOwner{Subject: person(id), Purpose: purpose}
}

func withPurpose(r envelope.Record, purpose string) envelope.Record {
	r.Scopes[0].Purpose = purpose
	return r
}

func sealErr(t testing.TB, k *envelope.Keyring, r envelope.Record) error {
	t.Helper()
	return k.SealRecords(t.Context(), []envelope.Record{r})
}

// kinds are those of the ledger's entries, from one on.
func kinds(t testing.TB, w *world, from int) (out []envelope.LedgerKind) {
	t.Helper()
	entries, err := w.ledger.Read(t.Context(), uint64(from))
	require.NoError(t, err)
	for _, e := range entries {
		out = append(out, e.Kind)
	}
	return out
}

func shortTTL(o *envelope.Options) { o.CacheTTL = time.Second }

func TestSuspendAndResume(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	ada, bob := seal(t, k, record("ada", "a")), seal(t, k, record("bob", "b"))
	require.ErrorIs(t, k.Resume(t.Context(), person("ada")), envelope.ErrNotSuspended)
	require.NoError(t, k.Suspend(t.Context(), person("ada")))
	require.NoError(t, k.Suspend(t.Context(), person("ada")), "idempotent")

	recs := []envelope.Record{sealedOnly(ada), sealedOnly(bob)}
	require.NoError(t, k.OpenRecords(t.Context(), recs))
	require.ErrorIs(t, recs[0].Cells[0].Err, envelope.ErrSuspended)
	require.NotErrorIs(t, recs[0].Cells[0].Err, envelope.ErrForgotten)
	require.NoError(t, recs[1].Cells[0].Err, "others open")

	for _, r := range []envelope.Record{record("ada", "new"), withPurpose(record("ada", "new"), "never used"), {Name: ada.Name, Header: ada.Header, Scopes: ada.Scopes, Cells: record("ada", "x").Cells}} {
		require.ErrorIs(t, sealErr(t, k, r), envelope.ErrSuspended)
	}
	_, err := secrets(t, k, owner("ada", "pan"), true)
	require.ErrorIs(t, err, envelope.ErrSuspended)
	_, err = k.Rotate(t.Context(), person("ada"))
	require.ErrorIs(t, err, envelope.ErrSuspended)
	rewrapped := []envelope.Record{sealedOnly(ada)}
	n, err := k.RewrapRecords(t.Context(), rewrapped)
	require.NoError(t, err)
	require.Zero(t, n)

	fresh := w.ring(t)
	require.ErrorIs(t, openErr(t, fresh, ada), envelope.ErrSuspended, "after a restart")
	require.NoError(t, k.Resume(t.Context(), person("ada")))
	require.NoError(t, openErr(t, k, ada), "at once")
	seal(t, k, record("ada", "again"))
	require.NoError(t, openErr(t, w.ring(t), ada))
	require.Equal(t, []envelope.LedgerKind{envelope.LedgerSuspend, envelope.LedgerResume}, kinds(t, w, 1))

	_, err = k.Forget(t.Context(), person("bob"))
	require.NoError(t, err)
	require.ErrorIs(t, k.Suspend(t.Context(), person("bob")), envelope.ErrForgotten)
}

// A forget of a suspended subject is a forget, and says so.
func TestForgetWhileSuspended(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	ada := seal(t, k, record("ada", "a"))
	require.NoError(t, k.Suspend(t.Context(), person("ada")))
	r, err := k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	require.Len(t, r.KeyIDs, 1)
	require.False(t, r.Deferred)
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrForgotten)
	require.NoError(t, k.Readmit(t.Context(), person("ada")))
	require.ErrorIs(t, sealErr(t, k, record("ada", "b")), envelope.ErrSuspended, "the suspension outlasts it")
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrForgotten)
	require.NoError(t, k.Resume(t.Context(), person("ada")))
	again := seal(t, k, record("ada", "b"))
	require.NoError(t, openErr(t, k, again))
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrForgotten)
}

func TestSuspendOnePurpose(t *testing.T) {
	w := newWorld(t)
	k, other := w.ring(t), w.ring(t, shortTTL)
	ada := seal(t, k, record("ada", "a"))
	likes := seal(t, k, withPurpose(record("ada", "likes"), "marketing"))
	before, err := secrets(t, k, owner("ada", "marketing"), true)
	require.NoError(t, err)
	require.NoError(t, k.SuspendPurpose(t.Context(), person("ada"), "marketing"))
	require.ErrorIs(t, openErr(t, k, likes), envelope.ErrSuspended)
	require.NoError(t, openErr(t, k, ada))
	_, err = secrets(t, k, owner("ada", "marketing"), false)
	require.ErrorIs(t, err, envelope.ErrSuspended)
	_, err = secrets(t, k, owner("ada", "other"), true)
	require.NoError(t, err)

	// Of a purpose that was suspended before it had any key, made in another process.
	require.NoError(t, k.SuspendPurpose(t.Context(), person("ada"), "fraud"))
	require.Eventually(t, func() bool {
		return errors.Is(sealErr(t, other, withPurpose(record("ada", "x"), "fraud")), envelope.ErrSuspended)
	}, 2*time.Second, 20*time.Millisecond)
	_, err = secrets(t, other, owner("ada", "fraud"), true)
	require.ErrorIs(t, err, envelope.ErrSuspended)

	n, err := k.Rotate(t.Context(), person("ada"))
	require.NoError(t, err)
	require.Equal(t, 2, n, "the default purpose and the tokens of other")
	require.NoError(t, k.Suspend(t.Context(), person("ada")))
	require.NoError(t, k.Resume(t.Context(), person("ada")))
	require.ErrorIs(t, openErr(t, k, likes), envelope.ErrSuspended, "Resume lifts the whole subject's only")
	require.NoError(t, w.ring(t).ResumePurpose(t.Context(), person("ada"), "marketing"))
	require.ErrorIs(t, k.ResumePurpose(t.Context(), person("ada"), "marketing"), envelope.ErrNotSuspended)
	require.NoError(t, openErr(t, k, likes))
	after, err := secrets(t, k, owner("ada", "marketing"), false)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.ErrorIs(t, k.ResumePurpose(t.Context(), person("ada"), "no such purpose"), envelope.ErrNotSuspended)
	require.Error(t, k.SuspendPurpose(t.Context(), person("ada"), "\x00token/x"))
}

// Another process stops within the TTL, though its keys were loaded just before
// and the store keeps them, and starts again within it.
func TestSuspendedElsewhere(t *testing.T) {
	w := newWorld(t)
	here, there := w.ring(t), w.ring(t, shortTTL)
	ada := seal(t, here, record("ada", "a"))
	for range 3 { // at any point of the other's rhythm
		require.NoError(t, openErr(t, there, ada))
		require.NoError(t, here.Suspend(t.Context(), person("ada")))
		begun := time.Now()
		require.Eventually(t, func() bool { return openErr(t, there, ada) != nil }, 1500*time.Millisecond, 5*time.Millisecond)
		require.ErrorIs(t, openErr(t, there, ada), envelope.ErrSuspended, "after %v", time.Since(begun))
		require.NoError(t, here.Resume(t.Context(), person("ada")))
		require.Eventually(t, func() bool { return openErr(t, there, ada) == nil }, 1500*time.Millisecond, 5*time.Millisecond)
		if testing.Short() {
			break
		}
	}
}

// awayLedger can be taken away.
type awayLedger struct {
	envelope.Ledger
	away  atomic.Bool
	reads atomic.Int64
}

func (l *awayLedger) Read(ctx context.Context, after uint64) ([]envelope.LedgerEntry, error) {
	l.reads.Add(1)
	if l.away.Load() {
		return nil, errReset
	}
	return l.Ledger.Read(ctx, after)
}

// Loads read the ledger now and then, not each time; a ledger that is away stops
// them when nobody can say any more who is suspended.
func TestLoadsAgainstALedgerThatIsAway(t *testing.T) {
	w := newWorld(t)
	led := &awayLedger{Ledger: w.ledger}
	w.ledger = led
	k := w.ring(t, shortTTL, func(o *envelope.Options) { o.CacheSize = 1 })
	ada, bob := seal(t, k, record("ada", "a")), seal(t, k, record("bob", "b"))
	led.away.Store(true)
	led.reads.Store(0)
	begun := time.Now()
	for time.Since(begun) < 700*time.Millisecond { // each a load
		require.NoError(t, openErr(t, k, ada))
		require.NoError(t, openErr(t, k, bob))
	}
	require.Less(t, led.reads.Load(), int64(20))
	require.Eventually(t, func() bool {
		return errors.Is(k.OpenRecords(t.Context(), []envelope.Record{sealedOnly(ada)}), envelope.ErrLedger)
	}, time.Second, 10*time.Millisecond)
	led.away.Store(false)
	require.Eventually(t, func() bool { return k.OpenRecords(t.Context(), []envelope.Record{sealedOnly(ada)}) == nil }, time.Second, 10*time.Millisecond)
}

// A suspension needs the ledger only, and is all or nothing.
func TestSuspendAgainstFaults(t *testing.T) {
	w := newWorld(t)
	led := &hookedLedger{Ledger: w.ledger}
	w.ledger = led
	k := w.ring(t)
	ada := seal(t, k, record("ada", "a"))
	led.before = func(envelope.LedgerEntry) error { return errReset }
	require.ErrorIs(t, k.Suspend(t.Context(), person("ada")), envelope.ErrLedger)
	require.NoError(t, openErr(t, k, ada), "nothing was changed")
	led.after = func(envelope.LedgerEntry) error { return errReset }
	require.NoError(t, k.Suspend(t.Context(), person("ada")), "the entry was found")
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrSuspended)
	led.after = func(envelope.LedgerEntry) error { return errReset }
	require.NoError(t, k.Resume(t.Context(), person("ada")))
	require.NoError(t, openErr(t, k, ada))
	k.Close()
	require.ErrorIs(t, k.Suspend(t.Context(), person("ada")), envelope.ErrClosed)
}

// A load that read before a suspension does not leave its keys in the cache.
func TestSuspendWhileALoadIsUnderWay(t *testing.T) {
	w := newWorld(t)
	ada := seal(t, w.ring(t), record("ada", "a"))
	h := w.hooked()
	k := w.ring(t)
	h.rows = func([]envelope.KeyRow) {
		h.rows = nil
		require.NoError(t, k.Suspend(t.Context(), person("ada")))
	}
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrSuspended)
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrSuspended)
	h.insert = func(ctx context.Context) error { return k.Suspend(ctx, person("bob")) }
	require.ErrorIs(t, sealErr(t, k, record("bob", "b")), envelope.ErrSuspended)
}

// The ledger rules over a store put back from before a suspension and a hold.
func TestRestraintsOutlastARestore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	w := newWorld(t)
	w.ledger = &memledger.Ledger{}
	use := func(path string) *sqlstore.Store {
		s, err := sqlstore.OpenSQLite(t.Context(), path)
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		require.NoError(t, s.Migrate(t.Context()))
		w.store = s
		return s
	}
	first := use(path)
	require.NoError(t, envelope.Init(t.Context(), w.store, w.key, w.opts()))
	k := w.ring(t)
	ada, bob := seal(t, k, record("ada", "a")), seal(t, k, record("bob", "b"))
	k.Close()
	require.NoError(t, first.Close())
	old, err := os.ReadFile(path)
	require.NoError(t, err)
	backup := filepath.Join(t.TempDir(), "backup.db")
	require.NoError(t, os.WriteFile(backup, old, 0o600))

	use(path)
	k = w.ring(t)
	require.NoError(t, k.Suspend(t.Context(), person("ada")))
	require.NoError(t, k.Hold(t.Context(), person("bob"), time.Time{}, "case-1"))
	r, err := k.Forget(t.Context(), person("bob"))
	require.NoError(t, err)
	require.True(t, r.Deferred)
	_, err = k.Forget(t.Context(), person("cyd"))
	require.NoError(t, err)
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{All: true})
	require.NoError(t, err)
	k.Close()

	use(backup)
	_, err = envelope.NewKeyring(t.Context(), w.store, w.key, w.opts())
	require.ErrorIs(t, err, envelope.ErrLedger)
	_, err = envelope.Restore(t.Context(), w.store, w.key, w.opts(), envelope.RestoreOptions{})
	require.NoError(t, err)
	k = w.ring(t)
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrSuspended)
	require.ErrorIs(t, openErr(t, k, bob), envelope.ErrSuspended)
	done, err := k.Release(t.Context(), person("bob"), "case-1")
	require.NoError(t, err)
	require.Len(t, done, 1)
	require.ErrorIs(t, openErr(t, k, bob), envelope.ErrForgotten)
	require.NoError(t, k.Resume(t.Context(), person("ada")))
	require.NoError(t, openErr(t, k, ada))
}

func TestRacingSealOpenSuspend(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	ada := seal(t, k, record("ada", "a"))
	stop := make(chan struct{})
	var all errgroup.Group
	for i := range 4 {
		all.Go(func() error {
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				r := sealedOnly(ada)
				var err error
				if i%2 == 0 {
					recs := []envelope.Record{r}
					if err = k.OpenRecords(context.Background(), recs); err == nil {
						err = recs[0].Cells[0].Err
					}
				} else {
					err = k.SealRecords(context.Background(), []envelope.Record{record("ada", "b")})
				}
				if err != nil && !errors.Is(err, envelope.ErrSuspended) && !errors.Is(err, envelope.ErrUnavailable) {
					return err
				}
			}
		})
	}
	for range 30 {
		require.NoError(t, k.Suspend(t.Context(), person("ada")))
		for range 5 {
			require.ErrorIs(t, openErr(t, k, ada), envelope.ErrSuspended)
			require.ErrorIs(t, sealErr(t, k, record("ada", "c")), envelope.ErrSuspended)
		}
		require.NoError(t, k.Resume(t.Context(), person("ada")))
		require.NoError(t, openErr(t, k, ada))
	}
	close(stop)
	require.NoError(t, all.Wait())
}
