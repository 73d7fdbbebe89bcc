package envelope_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

// A close that ended after it re-keyed the last dirty leaf has put nothing out of
// reach: the old leaf key still hangs on the old root. The next close finishes it.
func TestAnInterruptedCloseIsNotTakenForDone(t *testing.T) {
	for _, immediate := range []bool{false, true} {
		w := newClosure(t, 1, &closureCounts{})
		defer w.stop()
		dead := w.forgetSome()
		w.kms[0].admit = func() bool { return w.store.rekeys == 0 } // away once the pages are re-keyed
		_, err := w.rings[0].CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true})
		require.Error(t, err)
		require.Positive(t, w.store.rekeys)
		require.Equal(t, len(dead), w.undead(dead))
		w.heal()

		w.start()
		st, err := w.rings[0].Status(t.Context())
		require.NoError(t, err)
		require.NotZero(t, st.DirtyPages)
		c, err := w.rings[0].CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: immediate})
		require.NoError(t, err)
		require.False(t, c.NoOp)
		_, err = w.rings[0].CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true})
		require.NoError(t, err)
		require.Zero(t, w.undead(dead))
		c, err = w.rings[0].CloseEpoch(t.Context(), envelope.CloseOptions{})
		require.NoError(t, err)
		require.True(t, c.NoOp)
	}
}

// A key that a forget finds only when it deletes is in the store's mark at first, and
// not in the ledger. It is not lost with the mark, when a close re-keys its page and
// does not get to the end, and the process dies that was to note it.
func TestAMarkIsNotedBeforeItIsCleared(t *testing.T) {
	for _, step := range []string{"read", "rekey pages"} {
		t.Run("before "+step, func(t *testing.T) { loseMark(t, step) })
	}
}

func loseMark(t *testing.T, at string) {
	w := newClosure(t, 1, &closureCounts{})
	defer w.stop()
	ctx := t.Context()
	for _, id := range []string{"a", "b"} {
		_, err := envelope.KIDs(ctx, w.rings[0], envelope.Subject{Kind: "customer", ID: id}, "", true)
		require.NoError(t, err)
	}
	late := envelope.Subject{Kind: "customer", ID: "late"}
	var dead []envelope.KeyID
	w.store.forget = func() {
		kids, err := envelope.KIDs(ctx, w.rings[1], late, "", true)
		require.NoError(t, err)
		dead = kids
	}
	w.store.between = func(step string) {
		if dead != nil || step != at {
			return
		}
		w.ledger.fault = fault{armed: true, after: 1}
		_, err := w.rings[0].Forget(ctx, late)
		require.ErrorIs(t, err, envelope.ErrLedger) // its keys are gone, and the ledger does not know
		w.kms[0].admit = func() bool { return false }
	}
	_, err := w.rings[0].CloseEpoch(ctx, envelope.CloseOptions{All: true})
	require.Error(t, err)
	require.Len(t, dead, 1)
	w.heal()
	w.store.between, w.store.forget = nil, nil
	w.start()
	_, err = w.rings[0].CloseEpoch(ctx, envelope.CloseOptions{Immediate: true})
	require.NoError(t, err)
	require.Zero(t, w.undead(dead))
}

// A mark that no ledger entry explains counts where people look, too: otherwise
// RunEpochs, which goes by that, would not close.
func TestAMarkAloneMakesAnEpochOverdue(t *testing.T) {
	w := newClosure(t, 1, &closureCounts{})
	defer w.stop()
	ctx := t.Context()
	late := envelope.Subject{Kind: "customer", ID: "late"}
	w.store.forget = func() {
		_, err := envelope.KIDs(ctx, w.rings[1], late, "", true)
		require.NoError(t, err)
	}
	w.ledger.fault = fault{armed: true, after: 1}
	_, err := w.rings[0].Forget(ctx, late)
	require.ErrorIs(t, err, envelope.ErrLedger) // the key is gone, and the ledger does not know
	w.store.forget = nil
	w.heal()
	w.start()
	w.offset = 48 * time.Hour
	st, err := w.rings[0].Status(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, st.DirtyPages)
	require.True(t, st.Overdue)
	c, err := w.rings[0].CloseEpoch(ctx, envelope.CloseOptions{})
	require.NoError(t, err)
	require.Equal(t, 1, c.Pages)
	if st, err = w.rings[0].Status(ctx); err == nil {
		require.Zero(t, st.DirtyPages)
	}
	require.NoError(t, err)
}

// Who writes the store marks a page that is no leaf, or makes a key row name one
// before it is forgotten: neither keeps an epoch from being closed.
func TestAnInnerPageThatIsCalledDirty(t *testing.T) {
	innerPage := func(w *closure, dead int) envelope.PageID {
		pages, err := w.store.Store.PagesAfter(t.Context(), 1, 0, 1000)
		require.NoError(t, err)
		require.NotZero(t, dead)
		for _, p := range pages {
			if p.Level == 1 {
				return p.Page
			}
		}
		require.Fail(t, "no page of level 1")
		return 0
	}
	t.Run("by the store", func(t *testing.T) {
		w := newClosure(t, 1, &closureCounts{})
		defer w.stop()
		dead := w.forgetSome()
		w.store.marked = innerPage(w, len(dead))
		for range 2 {
			_, err := w.rings[0].CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true})
			require.NoError(t, err)
		}
		require.Zero(t, w.undead(dead))
	})
	t.Run("by the ledger", func(t *testing.T) {
		w := newClosure(t, 1, &closureCounts{})
		defer w.stop()
		dead := w.forgetSome()
		_, err := w.rings[0].CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true})
		require.NoError(t, err)
		kids, err := envelope.KIDs(t.Context(), w.rings[0], envelope.Subject{Kind: "customer", ID: "59"}, "", false)
		require.NoError(t, err)
		w.store.moved = map[envelope.KeyID]envelope.PageID{kids[0]: innerPage(w, len(dead))}
		r, err := w.rings[0].Forget(t.Context(), envelope.Subject{Kind: "customer", ID: "59"})
		require.NoError(t, err)
		require.Equal(t, kids, r.KeyIDs)
		w.store.moved = nil
		c, err := w.rings[0].CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true})
		require.NoError(t, err)
		require.False(t, c.NoOp)
		require.Zero(t, w.undead(append(dead, kids...)))
		c, err = w.rings[0].CloseEpoch(t.Context(), envelope.CloseOptions{})
		require.NoError(t, err)
		require.True(t, c.NoOp)
	})
}

// Told to leave what is damaged, a close does not take a page for damaged that others
// write at the moment, nor leave it out of the check for that.
func TestAPageThatChangesIsNotDamaged(t *testing.T) {
	leaves := func(w *closure) (out []envelope.PageRow) {
		pages, err := w.store.Store.PagesAfter(t.Context(), 1, 0, 1000)
		require.NoError(t, err)
		for _, p := range pages {
			keys, err := w.store.Store.KeysOfPage(t.Context(), 1, p.Page)
			require.NoError(t, err)
			// The leaf of the system's keys is in memory from the start.
			system := slices.ContainsFunc(keys, func(row envelope.KeyRow) bool { return row.Kind != envelope.KindSubject })
			if p.Level == 0 && p.DirtyEpoch != 0 && !system {
				out = append(out, p)
			}
		}
		require.Greater(t, len(out), 8)
		return out
	}
	t.Run("in the check", func(t *testing.T) {
		w := newClosure(t, 1, &closureCounts{})
		defer w.stop()
		dead := w.forgetSome()
		p := leaves(w)[3].Page
		w.store.reading = func(all bool) {
			if all && w.store.changing == nil { // in the check
				w.store.changing = map[envelope.PageID]int{p: 7}
			}
		}
		c, err := w.rings[0].CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true, LeaveDamaged: true})
		t.Logf("%d steps: %+v, %v", w.store.rekeys, c, err)
		require.NotNil(t, w.store.changing)
		require.ErrorIs(t, err, envelope.ErrUnavailable)
		c, err = w.rings[0].CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true, LeaveDamaged: true})
		require.NoError(t, err)
		require.Empty(t, c.Damaged)
		require.Zero(t, w.undead(dead))
	})
	t.Run("after one that is damaged", func(t *testing.T) {
		w := newClosure(t, 1, &closureCounts{})
		defer w.stop()
		w.forgetSome()
		w.start() // no page is in memory
		there := leaves(w)
		bad, well := there[0].Page, there[8].Page
		w.store.changing = map[envelope.PageID]int{bad: 1 << 30}
		begun := false
		w.store.reading = func(bool) {
			if w.store.rekeys == 2 && !begun { // at the third batch of leaves
				begun, w.store.changing[well] = true, 1
			}
		}
		c, err := w.rings[0].CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true, LeaveDamaged: true})
		require.NoError(t, err)
		require.True(t, begun)
		require.Equal(t, []envelope.PageID{bad}, c.Damaged)
	})
}

// A page that was made, and lost a key, after a backup is not there once that is put
// back: every page it may have hung on is re-keyed. That is so for each backup that is
// put back, also if a close in between, in a history that is now abandoned, did it.
func TestALostPageCountsInEveryHistory(t *testing.T) {
	w := newClosure(t, 1, &closureCounts{})
	defer w.stop()
	w.opts.Epochs.Window = 0
	ctx := t.Context()
	subject := func(n int) envelope.Subject { return envelope.Subject{Kind: "customer", ID: strconv.Itoa(n)} }
	mint := func(n int) {
		_, err := envelope.KIDs(ctx, w.rings[0], subject(n), "", true)
		require.NoError(t, err)
	}
	for n := range 10 { // all leaves are full; the last hangs on a page that has room for more
		mint(n)
	}
	before := w.store.snapshot()
	var dead []envelope.KeyID
	for n := range 6 {
		mint(10 + n)
	}
	for n := range 6 {
		r, err := w.rings[0].Forget(ctx, subject(10+n))
		require.NoError(t, err)
		dead = append(dead, r.KeyIDs...)
	}
	restore := func() {
		w.stop()
		w.store.putBack(t, before)
		_, err := envelope.Restore(ctx, w.store, w.kms[0], w.options(), envelope.RestoreOptions{Quick: true})
		require.NoError(t, err)
		w.start() //nolint:contextcheck // the test's own
	}
	restore()
	_, err := w.rings[0].CloseEpoch(ctx, envelope.CloseOptions{})
	require.NoError(t, err)
	restore()
	_, err = w.rings[0].CloseEpoch(ctx, envelope.CloseOptions{Immediate: true})
	require.NoError(t, err)
	require.Zero(t, w.undead(dead))
}

// A forget just after a close has begun does not take its page, which lost a key
// before that too, out of the close: the receipt of the earlier forget counts on it.
// The store's mark would say so, had an intruder not taken it away.
func TestALaterForgetOnThePageOfAnEarlierOne(t *testing.T) {
	w := newClosure(t, 1, &closureCounts{})
	defer w.stop()
	w.opts.Epochs.Window = -1
	w.start()
	ctx := t.Context()
	kids := func(id string) []envelope.KeyID {
		kids, err := envelope.KIDs(ctx, w.rings[0], envelope.Subject{Kind: "customer", ID: id}, "", true)
		require.NoError(t, err)
		return kids
	}
	kids("stays")
	early, late := kids("early"), kids("late") // all on one leaf
	w.store.noHints = true
	early0, err := w.rings[0].Forget(ctx, envelope.Subject{Kind: "customer", ID: "early"})
	require.NoError(t, err)
	w.ledger.appended = func(e envelope.LedgerEntry) {
		if e.Kind == envelope.LedgerRootBegin {
			w.ledger.appended = nil
			_, err := w.rings[1].Forget(ctx, envelope.Subject{Kind: "customer", ID: "late"})
			require.NoError(t, err)
		}
	}
	_, err = w.rings[0].CloseEpoch(ctx, envelope.CloseOptions{Immediate: true})
	require.NoError(t, err)
	r, err := w.rings[0].Receipt(ctx, early0.Seq)
	require.NoError(t, err)
	require.True(t, r.Complete)
	require.Zero(t, w.undead(early))
	_, err = w.rings[0].CloseEpoch(ctx, envelope.CloseOptions{Immediate: true})
	require.NoError(t, err)
	require.Zero(t, w.undead(late))
}
