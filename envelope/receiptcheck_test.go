package envelope_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

func TestSignReceiptRefusesWhatIsNotWhole(t *testing.T) {
	for name, change := range map[string]func(r *envelope.Receipt){
		"nothing":                  func(r *envelope.Receipt) { *r = envelope.Receipt{} },
		"no store":                 func(r *envelope.Receipt) { r.Store = envelope.StoreID{} },
		"no tree":                  func(r *envelope.Receipt) { r.Tree = 0 },
		"no entry":                 func(r *envelope.Receipt) { r.Seq = 0 },
		"no entries":               func(r *envelope.Receipt) { r.Entries = nil },
		"another's entries":        func(r *envelope.Receipt) { r.Entries = []uint64{r.Seq + 1} },
		"entries in no order":      func(r *envelope.Receipt) { r.Entries = []uint64{r.Seq, r.Seq} },
		"no time":                  func(r *envelope.Receipt) { r.Time = time.Time{} },
		"not issued":               func(r *envelope.Receipt) { r.Issued = time.Time{} },
		"no epoch":                 func(r *envelope.Receipt) { r.Epoch = 0 },
		"no head":                  func(r *envelope.Receipt) { r.LedgerHead = "" },
		"a head in capitals":       func(r *envelope.Receipt) { r.LedgerHead = "AA" + r.LedgerHead[2:] },
		"an earlier ledger":        func(r *envelope.Receipt) { r.LedgerSeq = r.Seq - 1 },
		"unknown, with keys":       func(r *envelope.Receipt) { r.Unknown = true },
		"no keys":                  func(r *envelope.Receipt) { r.KeyIDs = nil },
		"due and done":             func(r *envelope.Receipt) { r.Due = r.Time },
		"complete without a close": func(r *envelope.Receipt) { r.Complete, r.ClosedEpoch = true, 0 },
		"a time and none":          func(r *envelope.Receipt) { r.None = "there is none" },
		"deferred with keys":       func(r *envelope.Receipt) { r.Deferred = true },
	} {
		t.Run(name, func(t *testing.T) {
			r := fixedReceipt()
			change(&r)
			_, err := envelope.SignReceipt(r, testSigner())
			require.ErrorContains(t, err, "not whole")
		})
	}

	w := newWorld(t)
	k := w.ring(t)
	sealed := seal(t, k, record("ada", "a"))
	require.NotEmpty(t, sealed)
	require.NoError(t, k.Hold(t.Context(), person("ada"), time.Time{}, "case"))
	deferred, err := k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	unknown, err := k.Forget(t.Context(), person("nobody"))
	require.NoError(t, err)
	released, err := k.Release(t.Context(), person("ada"), "case")
	require.NoError(t, err)
	already, err := k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	for _, r := range append(released, deferred, unknown, already) {
		_, err := envelope.SignReceipt(r, testSigner())
		require.NoError(t, err, "%+v", r)
	}
	_, err = k.IndexKeys(t.Context(), "", "r", "f", true)
	require.NoError(t, err)
	require.NoError(t, k.RotateIndexKey(t.Context(), "", "r", "f"))
	retired, err := k.RetireIndexKeys(t.Context(), "", "r", "f")
	require.NoError(t, err)
	_, err = envelope.SignReceipt(retired, testSigner())
	require.ErrorContains(t, err, "not whole", "it is about no person")
}

// A receipt is made, signed and kept; the key store is put back from a backup of before
// the forget and restored; the receipt that was kept verifies against the ledger as it is
// now, and so does the one that is made anew.
func TestReceiptsOutlastARestore(t *testing.T) {
	w, k := newEpochWorld(t)
	recs := w.seal(k, "a", 100)
	backup := w.backup()
	r, err := k.Forget(t.Context(), recs[0].Scopes[0].Subject)
	require.NoError(t, err)
	kept, err := envelope.SignReceipt(r, testSigner())
	require.NoError(t, err)
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	_, err = k.Forget(t.Context(), recs[1].Scopes[0].Subject)
	require.NoError(t, err)

	_, err = envelope.Restore(t.Context(), w.store(backup), w.kms, w.opts, envelope.RestoreOptions{})
	require.NoError(t, err)
	w.now = time.Now() // Restore went by the real clock
	restored := w.ring(backup)
	verify := func(r envelope.Receipt) {
		t.Helper()
		entries, err := w.ledger.Read(t.Context(), 0)
		require.NoError(t, err)
		require.NoError(t, envelope.VerifyAgainstLedger(r, entries))
	}
	old, err := kept.Verify(testPublic())
	require.NoError(t, err)
	verify(old)
	again, err := restored.Receipt(t.Context(), r.Seq)
	require.NoError(t, err)
	verify(again)
	require.Equal(t, r.KeyIDs, again.KeyIDs)
	require.False(t, again.Complete)
	// The backup hangs on the handle of epoch 1; neither the root that was given up nor
	// the restore's reaches the key.
	require.EqualValues(t, 2, again.ClosedEpoch)
	require.Len(t, again.Handles, 1)

	_, err = restored.CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true})
	require.NoError(t, err)
	last, err := restored.Receipt(t.Context(), r.Seq)
	require.NoError(t, err)
	require.True(t, last.Complete)
	verify(last)
	signed, err := envelope.SignReceipt(last, testSigner())
	require.NoError(t, err)
	last, err = signed.Verify(testPublic())
	require.NoError(t, err)
	verify(last)
	_, err = envelope.Restore(t.Context(), w.store(w.backup()), w.kms, w.opts, envelope.RestoreOptions{})
	require.ErrorIs(t, err, envelope.ErrWrongKey, "the store that was given up is out of reach too")
}
