package envelope_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

// closure is one history: a key store with all it ever was, two processes that use
// it, and the KMSs as they are now.
type closure struct {
	t      *testing.T
	rng    *rand.Rand
	store  *tape
	ledger *faultyLedger
	kms    []*versionedKMS
	first  int // index of the KMS key that a process which starts is given first
	opts   envelope.Options
	rings  []*envelope.Keyring
	offset time.Duration // of the clock
	wanted string        // the subject that is being forgotten
	snaps  []snapshot
	trace  []string
	counts *closureCounts
}

type closureCounts struct {
	histories, dead, live, closes, aborted, restores, expired, raced, reached, rekeys, late atomic.Int64
}

var closurePurposes = []string{"", "marketing", "research"}

const closureFanOut = 3

func newClosure(t *testing.T, seed uint64, counts *closureCounts) *closure {
	w := &closure{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), store: newTape(closureFanOut), ledger: &faultyLedger{}, counts: counts,
		kms: []*versionedKMS{newVersionedKMS("test:one"), newVersionedKMS("test:two")},
	}
	windows := []time.Duration{0, time.Hour, -1}
	w.opts = envelope.Options{Ledger: w.ledger, Epochs: envelope.EpochOptions{Window: windows[w.rng.IntN(len(windows))]}}
	require.NoError(t, envelope.Init(t.Context(), w.store, w.kms[0], w.opts))
	w.start()
	return w
}

func (w *closure) now() time.Time { return time.Now().Add(w.offset) }

// options are those of a process: its first KMS key, and the other one.
func (w *closure) options() envelope.Options {
	o := w.opts
	o.MoreKeys = append(o.MoreKeys, w.kms[1-w.first])
	return o
}

func (w *closure) open() *envelope.Keyring {
	k, err := envelope.NewKeyring(w.t.Context(), w.store, w.kms[w.first], w.options())
	require.NoError(w.t, err, w.story())
	envelope.SetFanOut(k, closureFanOut)
	k.SetNow(w.now)
	return k
}

// start starts both processes again.
func (w *closure) start() {
	w.stop()
	w.rings = []*envelope.Keyring{w.open(), w.open()}
}

func (w *closure) stop() {
	for _, k := range w.rings {
		k.Close()
	}
	w.rings = nil
}

func (w *closure) ring() *envelope.Keyring { return w.rings[w.rng.IntN(len(w.rings))] }

func (w *closure) subject() envelope.Subject {
	return envelope.Subject{Kind: "customer", ID: strconv.Itoa(w.rng.IntN(14))}
}

func (w *closure) purpose() string { return closurePurposes[w.rng.IntN(len(closurePurposes))] }

func (w *closure) story() string { return strings.Join(w.trace, "\n") }

func (w *closure) notef(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

// dead are the keys that the ledger calls forgotten.
func (w *closure) dead() map[envelope.KeyID]bool {
	entries, err := w.ledger.Read(context.Background(), 0)
	require.NoError(w.t, err)
	out := map[envelope.KeyID]bool{}
	for i := range entries {
		for _, kid := range entries[i].KIDs {
			out[kid] = true
		}
	}
	return out
}

// live are the keys this line of history made and nobody forgot.
func (w *closure) live() map[envelope.KeyID]envelope.KeyRow {
	dead := w.dead()
	out := map[envelope.KeyID]envelope.KeyRow{}
	for kid, row := range w.store.minted {
		if !dead[kid] && !w.store.deleted[kid] {
			out[kid] = row
		}
	}
	return out
}

// expected are the errors of an operation that say no more than that it did not apply.
func expected(err error) bool {
	for _, known := range []error{envelope.ErrForgotten, envelope.ErrNotForgotten, envelope.ErrKeyMissing} {
		if errors.Is(err, known) {
			return true
		}
	}
	return err == nil
}

// work is one operation that needs no close.
func (w *closure) work(k *envelope.Keyring) error {
	ctx, s := w.t.Context(), w.subject()
	was := w.wanted
	w.wanted = s.ID
	defer func() { w.wanted = was }()
	switch n := w.rng.IntN(20); {
	case n < 8:
		for range 1 + w.rng.IntN(4) {
			if _, err := envelope.KIDs(ctx, k, s, w.purpose(), true); !expected(err) {
				return fmt.Errorf("insert: %w", err)
			}
			s = w.subject()
		}
		w.notef("insert")
		return nil
	case n < 12:
		r, err := k.Forget(ctx, s)
		w.notef("forget %s: %x %v", s.ID, r.KeyIDs, err)
		return err
	case n < 15:
		p := w.purpose()
		r, err := k.ForgetPurpose(ctx, s, p)
		w.notef("forget %s/%s: %x %v", s.ID, p, r.KeyIDs, err)
		return err
	case n < 17:
		err := k.Readmit(ctx, s)
		w.notef("readmit %s: %v", s.ID, err)
		return err
	case n < 18:
		p := w.purpose()
		err := k.ReadmitPurpose(ctx, s, p)
		w.notef("readmit %s/%s: %v", s.ID, p, err)
		return err
	default:
		_, err := k.Rotate(ctx, s)
		w.notef("rotate %s: %v", s.ID, err)
		return err
	}
}

// tooLate makes keys for somebody whose forget is in the ledger and not in the store,
// in a process that does not know of it.
func (w *closure) tooLate() {
	if len(w.rings) == 0 || w.wanted == "" || w.rng.IntN(3) > 0 {
		return
	}
	k, p := w.ring(), w.purpose()
	w.counts.late.Add(1)
	kids, err := envelope.KIDs(w.t.Context(), k, envelope.Subject{Kind: "customer", ID: w.wanted}, p, true)
	w.notef("  too late: insert %s/%s: %x %v", w.wanted, p, kids, err)
}

// close is a close, with others at work between its steps, and perhaps a fault.
func (w *closure) close(faulty bool) {
	ctx := w.t.Context()
	at := w.rng.IntN(2)
	k, other := w.rings[at], w.rings[1-at]
	disturbed := false
	if w.rng.IntN(2) == 0 {
		in := w.rng.IntN(6)
		w.store.between = func(step string) {
			if in--; in >= 0 {
				return
			}
			in = 3 + w.rng.IntN(10)
			w.counts.raced.Add(1)
			w.notef("  before %q of the close:", step)
			switch w.rng.IntN(8) {
			case 0:
				disturbed = true
				_, err := other.CloseEpoch(ctx, w.closeOptions())
				w.notef("  another close: %v", err)
			case 1:
				w.snaps = append(w.snaps, w.store.snapshot())
				w.notef("  snapshot %d", len(w.snaps)-1)
			case 2:
				if err := w.work(k); !expected(err) { //nolint:contextcheck // the test's own
					require.True(w.t, faulty, "%v\n%s", err, w.story())
				}
			default:
				if err := w.work(other); !expected(err) { //nolint:contextcheck // the test's own
					require.True(w.t, faulty, "%v\n%s", err, w.story())
				}
			}
		}
		defer func() { w.store.between = nil }()
	}
	if faulty {
		w.breakSomething()
	}
	var err error
	if w.rng.IntN(8) == 0 {
		next := w.rng.IntN(2)
		err = k.RewrapKEK(ctx, w.kms[next])
		w.notef("move to %s: %v", w.kms[next].uri, err)
	} else {
		opts := w.closeOptions()
		var c envelope.Closed
		c, err = k.CloseEpoch(ctx, opts)
		w.notef("close %+v: epoch %d, %d pages, no-op %t, %v", opts, c.Epoch, c.Pages, c.NoOp, err)
	}
	w.counts.closes.Add(1)
	if err != nil {
		w.counts.aborted.Add(1)
	}
	if !faulty && !disturbed {
		require.NoError(w.t, err, w.story())
	}
	w.heal()
	if err != nil && w.rng.IntN(2) == 0 {
		w.notef("restart")
		w.start()
	}
}

func (w *closure) closeOptions() envelope.CloseOptions {
	return envelope.CloseOptions{All: w.rng.IntN(6) == 0, Immediate: w.rng.IntN(8) == 0}
}

// breakSomething makes one of the next calls fail.
func (w *closure) breakSomething() {
	late := w.rng.IntN(2) == 0
	if w.rng.IntN(3) == 0 {
		defer w.breakSomething()
	}
	switch n := w.rng.IntN(12); w.rng.IntN(3) {
	case 0:
		w.store.fault = fault{armed: true, after: n, late: late}
		w.notef("the store fails after %d writes (done: %t)", n, late)
	case 1:
		w.ledger.fault = fault{armed: true, after: n / 3, late: late}
		w.notef("the ledger fails after %d entries (done: %t)", n/3, late)
	default:
		n /= 2
		w.notef("the KMS fails after %d calls", n)
		f := &fault{armed: true, after: n}
		for _, v := range w.kms {
			v.admit = func() bool { before, _ := f.hits(); return !before }
		}
	}
}

func (w *closure) heal() {
	w.store.fault, w.ledger.fault = fault{}, fault{}
	for _, v := range w.kms {
		v.admit = nil
	}
}

// restore puts a backup back and restores it, perhaps with a fault and a second try.
func (w *closure) restore(from snapshot, faulty bool) {
	ctx := w.t.Context()
	w.stop()
	was := w.store.snapshot()
	w.store.putBack(w.t, from)
	tree, roots, err := w.store.Tree(ctx, 1)
	require.NoError(w.t, err)
	open := false
	for _, row := range roots {
		for _, v := range w.kms {
			open = open || row.Epoch == tree.ActiveEpoch && v.steal(row.KMSHandle) != nil
		}
	}
	ropts := envelope.RestoreOptions{Quick: w.rng.IntN(2) == 0}
	if !open {
		_, err := envelope.Restore(ctx, w.store, w.kms[w.first], w.options(), ropts)
		w.notef("restore of epoch %d, whose handle is gone: %v", tree.ActiveEpoch, err)
		require.ErrorIs(w.t, err, envelope.ErrWrongKey, w.story())
		w.counts.expired.Add(1)
		w.store.putBack(w.t, was)
		w.start()
		return
	}
	if faulty {
		w.breakSomething()
		if _, err := envelope.Restore(ctx, w.store, w.kms[w.first], w.options(), ropts); err != nil {
			w.notef("restore fails: %v", err)
		}
		w.heal()
		if w.rng.IntN(4) == 0 { // the operator starts over
			w.store.putBack(w.t, from)
		}
	}
	r, err := envelope.Restore(ctx, w.store, w.kms[w.first], w.options(), ropts)
	w.notef("restore of epoch %d, quick %t: %+v", tree.ActiveEpoch, ropts.Quick, r)
	require.NoError(w.t, err, w.story())
	w.counts.restores.Add(1)
	w.start()
	w.check()
}

// check opens the keys of everybody in a fresh process: just those that are alive.
func (w *closure) check() {
	k := w.open()
	defer k.Close()
	type name struct {
		sref envelope.SRef
		pid  envelope.PID
	}
	want := map[name]int{}
	live := w.live()
	for _, row := range live {
		if row.Kind == envelope.KindSubject {
			want[name{row.SRef, row.PID}]++
		}
	}
	found := 0
	for id := range 14 {
		for _, p := range closurePurposes {
			kids, err := envelope.KIDs(w.t.Context(), k, envelope.Subject{Kind: "customer", ID: strconv.Itoa(id)}, p, false)
			if !expected(err) {
				require.NoError(w.t, err, w.story())
			}
			for _, kid := range kids {
				row, ok := live[kid]
				require.True(w.t, ok, "%x opens, and is not alive\n%s", kid, w.story())
				require.Len(w.t, kids, want[name{row.SRef, row.PID}], w.story())
				found++
			}
		}
	}
	total := 0
	for _, n := range want {
		total += n
	}
	require.Equal(w.t, total, found, "keys that are alive do not open\n%s", w.story())
}

// onlyForgotten checks that every dead key is of a subject and purpose that a
// forget names.
func (w *closure) onlyForgotten(dead map[envelope.KeyID]bool) {
	entries, err := w.ledger.Read(context.Background(), 0)
	require.NoError(w.t, err)
	type name struct {
		sref envelope.SRef
		pid  envelope.PID
	}
	named := map[name]bool{}
	for i := range entries {
		if e := &entries[i]; e.Kind == envelope.LedgerForget {
			named[name{e.SRef, e.PID}] = true
		}
	}
	for _, rows := range w.store.rows.keys {
		for _, row := range rows {
			if dead[row.KID] {
				require.True(w.t, named[name{row.SRef, 0}] || named[name{row.SRef, row.PID}], "%x died and nobody forgot it\n%s", row.KID, w.story())
			}
		}
	}
}

// history runs one, closes with a window of none, and lets the adversary try.
func (w *closure) history() {
	defer w.stop()
	ctx := w.t.Context()
	faults := w.rng.IntN(2) == 0
	w.store.noHints = !faults && w.rng.IntN(2) == 0
	w.store.noLeases = w.rng.IntN(2) == 0
	w.store.forget = w.tooLate
	for range 15 + w.rng.IntN(40) {
		faulty := faults && w.rng.IntN(3) == 0
		switch n := w.rng.IntN(40); {
		case n < 27:
			if faulty && w.rng.IntN(3) == 0 {
				w.breakSomething()
				_ = w.work(w.ring())
				w.heal()
				if w.rng.IntN(2) == 0 {
					w.notef("restart")
					w.start()
				}
				continue
			}
			if err := w.work(w.ring()); !expected(err) {
				require.NoError(w.t, err, w.story())
			}
		case n < 33:
			w.close(faulty)
		case n < 35:
			w.offset += time.Duration(w.rng.IntN(5*24)) * time.Hour
			e, err := w.ring().EraseDue(ctx)
			w.notef("erase what is due at +%v: %+v %v", w.offset, e, err)
			require.NoError(w.t, err, w.story())
		case n < 38:
			w.snaps = append(w.snaps, w.store.snapshot())
			w.notef("snapshot %d", len(w.snaps)-1)
		default:
			if len(w.snaps) > 0 {
				i := w.rng.IntN(len(w.snaps))
				w.notef("put back snapshot %d", i)
				w.restore(w.snaps[i], faulty)
			}
		}
	}
	w.finish()
}

// finish closes with a window of none. Others are at work during that close too.
func (w *closure) finish() {
	ctx := w.t.Context()
	w.heal()
	w.start()
	dead := w.dead()
	for kid := range w.store.deleted {
		dead[kid] = true
	}
	w.notef("the last close")
	if w.rng.IntN(3) == 0 {
		in := w.rng.IntN(6)
		w.store.between = func(step string) {
			if in--; in >= 0 {
				return
			}
			in = 2 + w.rng.IntN(5)
			w.notef("  before %q of the close:", step)
			if err := w.work(w.rings[1]); !expected(err) {
				require.NoError(w.t, err, w.story())
			}
		}
	}
	c, err := w.rings[0].CloseEpoch(ctx, envelope.CloseOptions{Immediate: true})
	w.store.between = nil
	require.NoError(w.t, err, w.story())
	w.notef("%+v", c)
	for _, e := range c.Erasures {
		require.False(w.t, e.Destroyed.IsZero(), "%+v\n%s", e, w.story())
	}
	w.onlyForgotten(w.dead())
	reached := w.store.rows.reach(w.t, w.kms...)
	var undead []string
	for kid := range dead {
		if reached[kid] {
			undead = append(undead, fmt.Sprintf("%x", kid))
		}
	}
	slices.Sort(undead)
	w.counts.reached.Add(int64(len(undead)))
	require.Empty(w.t, undead, "forgotten keys that can be reached\n%s", w.story())
	for kid := range w.live() {
		require.True(w.t, reached[kid], "%x is alive and cannot be reached\n%s", kid, w.story())
		w.counts.live.Add(1)
	}
	w.check()
	w.counts.dead.Add(int64(len(dead)))
	w.counts.histories.Add(1)
	w.counts.rekeys.Add(int64(w.store.rekeys))
}

// Whatever happened, nobody who kept every row ever written, and has the KMS as it
// is after a close with a window of none, reaches a key that was forgotten before
// that close, while all others can be reached and open.
func TestAdversaryClosure(t *testing.T) {
	histories := uint64(1200)
	if testing.Short() {
		histories = 100
	}
	if n, err := strconv.ParseUint(os.Getenv("LETHE_TEST_HISTORIES"), 10, 32); err == nil { // for a long run
		histories = n
	}
	const batches = 4
	counts := &closureCounts{}
	started := time.Now()
	t.Run("histories", func(t *testing.T) {
		for batch := range uint64(batches) {
			t.Run(strconv.FormatUint(batch, 10), func(t *testing.T) {
				t.Parallel()
				for seed := batch; seed < histories; seed += batches {
					newClosure(t, seed, counts).history()
					if t.Failed() {
						return
					}
				}
			})
		}
	})
	t.Logf("%d histories in %v: %d closes (%d did not get through), %d steps raced, %d forgets raced, %d re-key steps, %d restores, %d refused as too old: %d of %d dead keys reachable, all %d live ones",
		counts.histories.Load(), time.Since(started).Round(time.Millisecond), counts.closes.Load(), counts.aborted.Load(), counts.raced.Load(), counts.late.Load(), counts.rekeys.Load(),
		counts.restores.Load(), counts.expired.Load(), counts.reached.Load(), counts.dead.Load(), counts.live.Load())
}
