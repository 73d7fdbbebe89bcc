package envelope_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lethe-go/lethe/envelope"
)

// wallClock is a wall clock that tests set.
type wallClock struct{ ahead atomic.Int64 }

func (c *wallClock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *wallClock) set(ahead time.Duration) { c.ahead.Store(int64(ahead)) }

// timed opens a keyring that goes by c.
func (w *world) timed(t testing.TB, c *wallClock) *envelope.Keyring {
	t.Helper()
	k := w.ring(t)
	k.SetWallClock(c.now)
	return k
}

func TestHoldDefersForgets(t *testing.T) {
	w := newWorld(t)
	k, other := w.ring(t), w.ring(t)
	ada := seal(t, k, record("ada", "a"))
	require.NoError(t, k.Hold(t.Context(), person("ada"), time.Time{}, "case-7"))
	require.NoError(t, k.Hold(t.Context(), person("ada"), time.Time{}, "case-7"), "idempotent")
	require.NoError(t, k.Hold(t.Context(), person("ada"), time.Time{}, "tax"))
	require.NoError(t, openErr(t, k, ada), "held, and in use")

	r, err := other.Forget(t.Context(), person("ada")) // which has not seen the hold
	require.NoError(t, err)
	require.True(t, r.Deferred)
	require.False(t, r.Already)
	require.Empty(t, r.KeyIDs)
	require.Zero(t, r.Due)
	require.ErrorIs(t, openErr(t, other, ada), envelope.ErrSuspended)
	again, err := k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	require.True(t, again.Already && again.Deferred)
	require.Equal(t, r.Seq, again.Seq)
	p, err := k.ForgetPurpose(t.Context(), person("ada"), "marketing")
	require.NoError(t, err)
	require.True(t, p.Already && p.Deferred, "the whole subject waits already")
	require.ErrorIs(t, k.Resume(t.Context(), person("ada")), envelope.ErrSuspended)
	require.ErrorIs(t, k.Unforget(t.Context(), person("ada")), envelope.ErrForgotten, "it had no grace")

	done, err := k.ForgetDue(t.Context())
	require.NoError(t, err)
	require.Empty(t, done)
	done, err = k.Release(t.Context(), person("ada"), "case-7")
	require.NoError(t, err)
	require.Empty(t, done, "held for another reason still")
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrSuspended)
	done, err = w.ring(t).Release(t.Context(), person("ada"), "tax") // after a restart
	require.NoError(t, err)
	require.Len(t, done, 1)
	require.Len(t, done[0].KeyIDs, 1)
	require.Equal(t, r.Seq, done[0].Asked)
	require.False(t, done[0].Deferred)
	require.ErrorIs(t, openErr(t, w.ring(t), ada), envelope.ErrForgotten)
	require.Equal(t, []envelope.LedgerKind{
		envelope.LedgerHold, envelope.LedgerHold, envelope.LedgerForgetLater,
		envelope.LedgerRelease, envelope.LedgerRelease, envelope.LedgerForget,
	}, kinds(t, w, 1))

	_, err = k.Release(t.Context(), person("ada"), "tax")
	require.ErrorIs(t, err, envelope.ErrNotHeld)
	err = k.Hold(t.Context(), person("ada"), time.Time{}, "late")
	require.ErrorIs(t, err, envelope.ErrForgotten)
	require.ErrorContains(t, err, "nothing left to hold")
}

func TestHoldArguments(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	for _, reason := range []string{"", strings.Repeat("x", 65), "Ada Lovelace", "é", "a\n"} {
		require.Error(t, k.Hold(t.Context(), person("ada"), time.Time{}, reason), "%q", reason)
	}
	require.Error(t, k.Hold(t.Context(), person("ada"), time.Now().Add(-time.Second), "x"))
	require.ErrorIs(t, k.Hold(t.Context(), envelope.Subject{}, time.Time{}, "x"), envelope.ErrNoSubject)
	require.Empty(t, kinds(t, w, 1))
	require.NoError(t, k.Hold(t.Context(), person("ada"), time.Now().Add(time.Hour), strings.Repeat("x", 64)))
}

func TestHoldThatEnds(t *testing.T) {
	w := newWorld(t)
	c := &wallClock{}
	k := w.timed(t, c)
	ada := seal(t, k, record("ada", "a"))
	likes := seal(t, k, withPurpose(record("ada", "l"), "marketing"))
	_, err := secrets(t, k, owner("ada", "marketing"), true)
	require.NoError(t, err)
	until := time.Now().Add(time.Hour)
	require.NoError(t, k.Hold(t.Context(), person("ada"), until, "case-7"))
	r, err := k.ForgetPurpose(t.Context(), person("ada"), "marketing")
	require.NoError(t, err)
	require.True(t, r.Deferred)
	require.WithinDuration(t, until, r.Due, time.Second)
	require.ErrorIs(t, openErr(t, k, likes), envelope.ErrSuspended)
	require.NoError(t, openErr(t, k, ada))
	_, err = secrets(t, k, owner("ada", "marketing"), false)
	require.ErrorIs(t, err, envelope.ErrSuspended)

	c.set(2 * time.Hour)
	done, err := k.ForgetDue(t.Context())
	require.NoError(t, err)
	require.Len(t, done, 1)
	require.Len(t, done[0].KeyIDs, 2, "the purpose's key and its token key")
	require.ErrorIs(t, openErr(t, k, likes), envelope.ErrForgotten)
	_, err = secrets(t, k, owner("ada", "marketing"), true)
	require.ErrorIs(t, err, envelope.ErrForgotten)
	require.NoError(t, openErr(t, k, ada))
	r, err = k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	require.False(t, r.Deferred)

	c.set(0) // a clock that goes back brings no hold back
	bob := seal(t, k, record("bob", "b"))
	require.Error(t, k.Hold(t.Context(), person("bob"), until, "case-8"), "the ledger is past that")
	_, err = k.Forget(t.Context(), person("bob"))
	require.NoError(t, err)
	require.ErrorIs(t, openErr(t, k, bob), envelope.ErrForgotten)
}

// A hold and a forget that race: whichever the ledger has first.
func TestHoldRacesForget(t *testing.T) {
	w := newWorld(t)
	a, b := w.ring(t), w.ring(t)
	for range 30 {
		seal(t, a, record("ada", "a"))
		var r envelope.Receipt
		var held, forgot error
		var both sync.WaitGroup
		both.Go(func() { held = a.Hold(t.Context(), person("ada"), time.Time{}, "x") })
		both.Go(func() { r, forgot = b.Forget(t.Context(), person("ada")) })
		both.Wait()
		require.NoError(t, forgot)
		if r.Deferred {
			require.NoError(t, held)
			_, err := a.Release(t.Context(), person("ada"), "x")
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, held, envelope.ErrForgotten)
		}
		require.NoError(t, b.Readmit(t.Context(), person("ada")))
	}
}

func TestForgetAfterAndUnforget(t *testing.T) {
	w := newWorld(t)
	c := &wallClock{}
	k := w.timed(t, c)
	ada := seal(t, k, record("ada", "a"))
	require.ErrorIs(t, k.Unforget(t.Context(), person("ada")), envelope.ErrNotForgotten)
	for _, grace := range []time.Duration{0, -time.Second, 11 * 366 * 24 * time.Hour} {
		_, err := k.ForgetAfter(t.Context(), person("ada"), grace)
		require.Error(t, err)
	}
	r, err := k.ForgetAfter(t.Context(), person("ada"), time.Hour)
	require.NoError(t, err)
	require.True(t, r.Deferred)
	require.WithinDuration(t, time.Now().Add(time.Hour), r.Due, 5*time.Second)
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrSuspended)
	later, err := k.ForgetAfter(t.Context(), person("ada"), 2*time.Hour)
	require.NoError(t, err)
	require.True(t, later.Already)
	require.Equal(t, r.Due, later.Due, "the earlier counts")
	done, err := k.ForgetDue(t.Context())
	require.NoError(t, err)
	require.Empty(t, done)
	k = w.timed(t, c) // restart
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrSuspended)
	require.NoError(t, k.Unforget(t.Context(), person("ada")))
	require.NoError(t, openErr(t, k, ada))
	require.ErrorIs(t, k.Unforget(t.Context(), person("ada")), envelope.ErrNotForgotten)

	_, err = k.ForgetAfter(t.Context(), person("ada"), time.Hour)
	require.NoError(t, err)
	c.set(2 * time.Hour)
	require.ErrorIs(t, k.Unforget(t.Context(), person("ada")), envelope.ErrForgotten, "too late")
	done, err = k.ForgetDue(t.Context())
	require.NoError(t, err)
	require.Len(t, done, 1)
	c.set(0)
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrForgotten)
	require.ErrorIs(t, k.Unforget(t.Context(), person("ada")), envelope.ErrForgotten)
	done, err = w.ring(t).ForgetDue(t.Context())
	require.NoError(t, err)
	require.Empty(t, done)
	r, err = k.ForgetAfter(t.Context(), person("ada"), time.Hour)
	require.NoError(t, err)
	require.True(t, r.Already && !r.Deferred)
}

// A Forget in the grace period does not wait; a hold makes it final, and later.
func TestForgetInTheGracePeriod(t *testing.T) {
	w := newWorld(t)
	c := &wallClock{}
	k := w.timed(t, c)
	ada := seal(t, k, record("ada", "a"))
	_, err := k.ForgetAfter(t.Context(), person("ada"), time.Hour)
	require.NoError(t, err)
	r, err := k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	require.False(t, r.Deferred)
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrForgotten)

	bob := seal(t, k, record("bob", "b"))
	_, err = k.ForgetAfter(t.Context(), person("bob"), time.Hour)
	require.NoError(t, err)
	require.NoError(t, k.Hold(t.Context(), person("bob"), time.Time{}, "x"))
	c.set(2 * time.Hour)
	done, err := k.ForgetDue(t.Context())
	require.NoError(t, err)
	require.Empty(t, done, "held")
	c.set(0)
	r, err = k.Forget(t.Context(), person("bob"))
	require.NoError(t, err)
	require.True(t, r.Deferred && !r.Already)
	require.ErrorIs(t, k.Unforget(t.Context(), person("bob")), envelope.ErrForgotten)
	done, err = k.Release(t.Context(), person("bob"), "x")
	require.NoError(t, err)
	require.Len(t, done, 1)
	require.ErrorIs(t, openErr(t, k, bob), envelope.ErrForgotten)

	cyd := seal(t, k, record("cyd", "c")) // released in time: the grace goes on
	_, err = k.ForgetAfter(t.Context(), person("cyd"), time.Hour)
	require.NoError(t, err)
	require.NoError(t, k.Hold(t.Context(), person("cyd"), time.Time{}, "x"))
	done, err = k.Release(t.Context(), person("cyd"), "x")
	require.NoError(t, err)
	require.Empty(t, done)
	require.NoError(t, k.Unforget(t.Context(), person("cyd")))
	require.NoError(t, openErr(t, k, cyd))
}

// Many processes carry out one forget once.
func TestForgetDueInManyProcesses(t *testing.T) {
	w := newWorld(t)
	c := &wallClock{}
	var rings []*envelope.Keyring
	for range 4 {
		rings = append(rings, w.timed(t, c))
	}
	for _, id := range []string{"ada", "bob", "cyd"} {
		seal(t, rings[0], record(id, "v"))
		_, err := rings[0].ForgetAfter(t.Context(), person(id), time.Minute)
		require.NoError(t, err)
	}
	c.set(time.Hour)
	var done atomic.Int64
	var all errgroup.Group
	for _, k := range rings {
		all.Go(func() error {
			out, err := k.ForgetDue(t.Context())
			done.Add(int64(len(out)))
			return err
		})
	}
	require.NoError(t, all.Wait())
	require.EqualValues(t, 3, done.Load())
	forgets := 0
	for _, kind := range kinds(t, w, 0) {
		if kind == envelope.LedgerForget {
			forgets++
		}
	}
	require.Equal(t, 3, forgets)
}

// A process that dies at any entry of a deferred forget leaves the rest to the next.
func TestCrashesOfADeferredForget(t *testing.T) {
	for _, at := range []string{"ask", "tokens", "purpose", "store"} {
		w := newWorld(t)
		h := w.hooked()
		led := &hookedLedger{Ledger: w.ledger}
		w.ledger = led
		k := w.ring(t)
		seal(t, k, record("ada", "a"))
		likes := seal(t, k, withPurpose(record("ada", "l"), "marketing"))
		_, err := secrets(t, k, owner("ada", "marketing"), true)
		require.NoError(t, err)
		require.NoError(t, k.Hold(t.Context(), person("ada"), time.Time{}, "x"))
		killed := func(envelope.LedgerEntry) error { return errReset }
		if at == "ask" {
			led.before = killed
			_, err = k.ForgetPurpose(t.Context(), person("ada"), "marketing")
			require.Error(t, err)
			require.NoError(t, openErr(t, k, likes), "nothing was changed")
		}
		_, err = k.ForgetPurpose(t.Context(), person("ada"), "marketing")
		require.NoError(t, err)
		switch at {
		case "tokens", "purpose":
			led.before = func(envelope.LedgerEntry) error { // the release
				led.before = killed
				if at == "purpose" {
					led.before = func(envelope.LedgerEntry) error { led.before = killed; return nil }
				}
				return nil
			}
		case "store":
			h.beforeForget = failOnce
		}
		_, err = k.Release(t.Context(), person("ada"), "x")
		require.Equal(t, at == "ask", err == nil, at)
		next := w.ring(t)
		require.Error(t, openErr(t, next, likes), at)
		_, err = next.ForgetDue(t.Context())
		require.NoError(t, err, at)
		require.ErrorIs(t, openErr(t, next, likes), envelope.ErrForgotten, at)
		_, err = secrets(t, next, owner("ada", "marketing"), true)
		require.ErrorIs(t, err, envelope.ErrForgotten, at)
		done, err := next.ForgetDue(t.Context())
		require.NoError(t, err)
		require.Empty(t, done, at)
	}
}

// RunEpochs carries out what is due.
func TestRunEpochsForgetsWhatIsDue(t *testing.T) {
	w := newWorld(t)
	c := &wallClock{}
	k := w.timed(t, c)
	ada := seal(t, k, record("ada", "a"))
	asked, err := k.ForgetAfter(t.Context(), person("ada"), time.Minute)
	require.NoError(t, err)
	c.set(time.Hour)
	other := w.timed(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	var all errgroup.Group
	receipts := make(chan envelope.Receipt, 10)
	events := envelope.EpochEvents{Forgot: func(r envelope.Receipt) { receipts <- r }}
	all.Go(func() error { return other.RunEpochs(ctx, events) })
	require.Eventually(t, func() bool {
		recs := []envelope.Record{sealedOnly(ada)}
		return w.ring(t).OpenRecords(t.Context(), recs) == nil && recs[0].Cells[0].Err == envelope.ErrForgotten //nolint:errorlint // not ErrSuspended
	}, 5*time.Second, 20*time.Millisecond)
	cancel()
	require.NoError(t, all.Wait())
	require.Len(t, receipts, 1)
	require.Equal(t, asked.Seq, (<-receipts).Asked)
}
