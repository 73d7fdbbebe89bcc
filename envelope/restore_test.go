package envelope_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

// twins is one backup put back as two stores. With one ledger each has its own
// incarnation, and one of them is served; where the ledger was copied too, both are.
func twins(t *testing.T, forked bool) (w *epochWorld, recs []envelope.Record, names [2]string, done [2]envelope.Restored, ledgers [2]envelope.Ledger) {
	w, k := newEpochWorld(t)
	recs = w.seal(k, "a", 300)
	names = [2]string{w.backup(), w.backup()}
	_, err := k.Forget(t.Context(), recs[0].Scopes[0].Subject)
	require.NoError(t, err)
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	entries, err := w.ledger.Read(t.Context(), 0)
	require.NoError(t, err)
	for i, name := range names {
		if ledgers[i] = w.ledger; forked {
			ledgers[i] = ledgerOf(t, slices.Clone(entries))
		}
		opts := w.opts
		opts.Ledger = ledgers[i]
		done[i], err = envelope.Restore(t.Context(), w.store(name), w.kms, opts, envelope.RestoreOptions{})
		require.NoError(t, err)
	}
	return w, recs, names, done, ledgers
}

func TestABackupThatIsRestoredTwice(t *testing.T) {
	w, recs, names, done, _ := twins(t, false)
	require.EqualValues(t, 2, done[0].Incarnation)
	require.EqualValues(t, 3, done[1].Incarnation)
	require.NotEqual(t, done[0].Closed.Epoch, done[1].Closed.Epoch)
	_, err := w.open(names[0])
	require.ErrorIs(t, err, envelope.ErrLedger, "the ledger goes with the second")
	k := w.ring(names[1])
	open, forgotten, _ := w.opened(k, recs)
	require.Equal(t, [2]int{299, 1}, [2]int{open, forgotten})
	st, err := k.Status(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, st.Incarnation)
}

// Two stores of one backup, each with a copy of the ledger, have the same incarnation
// and epoch and are served side by side. Nothing of the one opens in the other, or
// opens as something else there.
func TestStoresOfOneBackupDoNotMix(t *testing.T) {
	w, recs, names, done, ledgers := twins(t, true)
	require.Equal(t, done[0].Incarnation, done[1].Incarnation)
	require.Equal(t, done[0].Closed.Epoch, done[1].Closed.Epoch)
	rings := [2]*envelope.Keyring{}
	var own [2][]envelope.Record
	for i, name := range names {
		w.opts.Ledger = ledgers[i]
		rings[i] = w.ring(name)
		open, forgotten, _ := w.opened(rings[i], recs)
		require.Equal(t, [2]int{299, 1}, [2]int{open, forgotten})
		own[i] = w.seal(rings[i], "new", 20) // the same people in both
	}
	for i := range rings {
		open, _, _ := w.opened(rings[i], own[i])
		require.Equal(t, 20, open)
		open, forgotten, missing := w.opened(rings[i], own[1-i])
		require.Equal(t, [3]int{0, 0, 20}, [3]int{open, forgotten, missing}, "sealed in the other")
	}

	// Not with the other's rows either: its page keys hang on another root.
	in := &intruder{t, w.sqlite(names[0])}
	in.exec("ATTACH ? AS other", filepath.Join(w.dir, names[1]))
	in.exec("DELETE FROM lethe_key WHERE kind = 1 AND kid NOT IN (SELECT kid FROM other.lethe_key)")
	in.exec("INSERT OR REPLACE INTO lethe_key SELECT * FROM other.lethe_key WHERE kind = 1")                                                   //nolint:unqueryvet // whatever columns it has
	in.exec("INSERT OR REPLACE INTO lethe_page SELECT * FROM other.lethe_page WHERE page NOT IN (SELECT page FROM lethe_key WHERE kind <> 1)") //nolint:unqueryvet // whatever columns it has
	require.NoError(t, in.db.Close())
	w.opts.Ledger = ledgers[0]
	mixed := w.ring(names[0])
	for _, r := range slices.Concat(own[1], recs[1:]) {
		one := []envelope.Record{r}
		one[0].Cells = []envelope.Cell{r.Cells[0]}
		one[0].Cells[0].Plain = nil
		one[0].Scopes = []envelope.Scope{{Subject: r.Scopes[0].Subject}}
		if err := mixed.OpenRecords(t.Context(), one); err == nil {
			require.Error(t, one[0].Scopes[0].Err)
		}
	}

	// And the ledger of the one is refused by the other.
	w.opts.Ledger = ledgers[1]
	_, err := w.open(names[0])
	require.ErrorIs(t, err, envelope.ErrLedger)
}

// A store put back from a backup of the ledger's present epoch is served without a
// Restore, also while the store it is a copy of is. A forget in the one reaches the
// other; what was made in the one is missing in the other.
func TestACopyOfTheStoreThatIsServed(t *testing.T) {
	w, k := newEpochWorld(t)
	recs := w.seal(k, "a", 100)
	copied := w.ring(w.backup())
	mine, theirs := w.seal(k, "new", 20), w.seal(copied, "new", 20)
	for _, c := range []struct {
		ring         *envelope.Keyring
		own, foreign []envelope.Record
	}{{k, mine, theirs}, {copied, theirs, mine}} {
		open, _, _ := w.opened(c.ring, slices.Concat(recs, c.own))
		require.Equal(t, 120, open)
		open, _, missing := w.opened(c.ring, c.foreign)
		require.Equal(t, [2]int{0, 20}, [2]int{open, missing})
	}
	_, err := k.Forget(t.Context(), mine[0].Scopes[0].Subject)
	require.NoError(t, err)
	_, err = copied.Status(t.Context()) // it applies the ledger
	require.NoError(t, err)
	for ring, own := range map[*envelope.Keyring][]envelope.Record{k: mine, copied: theirs} {
		open, forgotten, _ := w.opened(ring, own)
		require.Equal(t, [2]int{19, 1}, [2]int{open, forgotten})
	}
	_, err = copied.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.ErrorIs(t, err, envelope.ErrLedger, "of the two the one that closes first goes on")
}
