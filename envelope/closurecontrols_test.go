package envelope_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

// forgetSome makes a store with three levels of pages, closes once, and forgets every
// third subject. It returns the keys that died.
func (w *closure) forgetSome() (dead []envelope.KeyID) {
	ctx, k := w.t.Context(), w.rings[0]
	w.opts.Epochs.Window = -1
	for id := range 60 {
		_, err := envelope.KIDs(ctx, k, envelope.Subject{Kind: "customer", ID: strconv.Itoa(id)}, "", true)
		require.NoError(w.t, err)
	}
	for id := 0; id < 60; id += 3 {
		r, err := k.Forget(ctx, envelope.Subject{Kind: "customer", ID: strconv.Itoa(id)})
		require.NoError(w.t, err)
		dead = append(dead, r.KeyIDs...)
	}
	require.Len(w.t, dead, 20)
	return dead
}

// undead counts those of the dead keys that can be reached, and requires that all
// live ones can.
func (w *closure) undead(dead []envelope.KeyID) (n int) {
	reached := w.store.rows.reach(w.t, w.kms...)
	for _, kid := range dead {
		if reached[kid] {
			n++
		}
	}
	for kid := range w.live() {
		require.True(w.t, reached[kid])
	}
	return n
}

// The adversary is able enough: with one thing done wrong he reaches keys that died,
// and the check before the switch sees what it can see of that.
func TestAdversaryClosureControls(t *testing.T) {
	fresh := func(t *testing.T) *closure {
		w := newClosure(t, 1, &closureCounts{})
		t.Cleanup(w.stop)
		return w
	}
	t.Run("nothing done wrong", func(t *testing.T) {
		w := fresh(t)
		dead := w.forgetSome()
		require.Equal(t, len(dead), w.undead(dead)) // before the close
		require.NoError(t, envelope.WrongClose{Verify: true}.Close(t.Context(), w.rings[0]))
		require.Zero(t, w.undead(dead))
	})
	for _, c := range []struct {
		name  string
		wrong envelope.WrongClose
		seen  bool // by the check before the switch; generations do not tell the order
	}{
		{"no page is re-keyed", envelope.WrongClose{NoRekey: true}, true},
		{"a key is replaced in place", envelope.WrongClose{NoAncestors: true}, true},
		{"an ancestor is re-keyed before its dirty leaf", envelope.WrongClose{AncestorFirst: true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := fresh(t)
			dead := w.forgetSome()
			require.NoError(t, c.wrong.Close(t.Context(), w.rings[0]))
			n := w.undead(dead)
			require.NotZero(t, n)
			t.Logf("%d of %d dead keys reachable", n, len(dead))

			w = fresh(t)
			w.forgetSome()
			c.wrong.Verify = true
			err := c.wrong.Close(t.Context(), w.rings[0])
			if c.seen {
				require.ErrorContains(t, err, "was missed")
			} else {
				require.NoError(t, err)
			}
		})
	}
	t.Run("the handle is not destroyed", func(t *testing.T) {
		w := fresh(t)
		dead := w.forgetSome()
		w.kms[0].lies = true
		_, err := w.rings[0].CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true})
		require.ErrorContains(t, err, "it still unwraps")
		require.Equal(t, len(dead), w.undead(dead))
		w.kms[0].lies = false
		_, err = w.rings[0].EraseDue(t.Context())
		require.NoError(t, err)
		require.Zero(t, w.undead(dead))
	})
	t.Run("the mark of dirty pages is cleared", func(t *testing.T) {
		w := fresh(t)
		dead := w.forgetSome()
		w.store.noHints = true
		require.NoError(t, envelope.WrongClose{HintOnly: true, Verify: true}.Close(t.Context(), w.rings[0]))
		n := w.undead(dead)
		require.Equal(t, len(dead), n)

		w = fresh(t)
		dead = w.forgetSome()
		w.store.noHints = true
		_, err := w.rings[0].CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true})
		require.NoError(t, err)
		require.Zero(t, w.undead(dead)) // the ledger knows
	})
}

// Somebody who writes the store takes a dirty page out of it during a close and puts
// it back afterwards: nothing that died comes back, and the close after the damage is
// given up goes through.
func TestAdversaryClosureHiddenPage(t *testing.T) {
	for level := range uint8(3) {
		for n := range 4 {
			t.Run(fmt.Sprintf("level %d, page %d", level, n), func(t *testing.T) { hidePage(t, level, n) })
		}
	}
}

func hidePage(t *testing.T, level uint8, n int) {
	w := newClosure(t, 1, &closureCounts{})
	defer w.stop()
	ctx := t.Context()
	dead := w.forgetSome()
	pages, err := w.store.Store.PagesAfter(ctx, 1, 0, 1000)
	require.NoError(t, err)
	var there []envelope.PageRow
	for _, p := range pages {
		if p.Level == level && (level > 0 || p.DirtyEpoch != 0) {
			there = append(there, p)
		}
	}
	require.NotEmpty(t, there)
	p := there[n*(len(there)-1)/3]
	w.store.hidden = map[envelope.PageID]envelope.PageRow{p.Page: p}
	if level > 0 { // what hangs on it does not open, which nobody takes lightly
		_, err = w.rings[0].CloseEpoch(ctx, envelope.CloseOptions{Immediate: true})
		require.Error(t, err)
	}
	c, err := w.rings[0].CloseEpoch(ctx, envelope.CloseOptions{Immediate: true, LeaveDamaged: true})
	require.NoError(t, err)
	require.False(t, c.NoOp)
	require.Zero(t, w.undeadOf(dead), "while it is hidden")
	w.store.hidden = nil
	_, err = w.rings[0].CloseEpoch(ctx, envelope.CloseOptions{Immediate: true, All: true, LeaveDamaged: true})
	require.NoError(t, err)
	require.Zero(t, w.undeadOf(dead), "after it was put back")
}

// undeadOf is undead where live keys may be lost.
func (w *closure) undeadOf(dead []envelope.KeyID) (n int) {
	reached := w.store.rows.reach(w.t, w.kms...)
	for _, kid := range dead {
		if reached[kid] {
			n++
		}
	}
	return n
}
