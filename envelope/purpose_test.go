package envelope_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

func TestPurposeNumber(t *testing.T) {
	require.EqualValues(t, 1, envelope.PurposeNumber(""))
	// printf '\x00\x00\x00\x0flethe/1/purposemarketing' | sha256sum
	require.EqualValues(t, 0x82dae5a7>>1, envelope.PurposeNumber("marketing"))
	n := envelope.PurposeNumber("a")
	free, err := envelope.FreePurposeNumber("a", func(p envelope.PID) (bool, error) { return p < n+3, nil })
	require.NoError(t, err)
	require.Equal(t, n+3, free)
	free, err = envelope.FreePurposeNumber("a", func(p envelope.PID) (bool, error) { return p >= n || p < 4, nil })
	require.NoError(t, err)
	require.EqualValues(t, 4, free, "they wrap around, and 1 stays the default purpose's")
}

// TestPurposeNumbersAfterRestore: what the ledger says of a purpose that the
// restored store does not have yet stays said of it, and of no other.
func TestPurposeNumbersAfterRestore(t *testing.T) {
	record := func(purpose string) []envelope.Record {
		rec := epochRecord("ada")
		rec.Scopes[0].Purpose = purpose
		return []envelope.Record{rec}
	}
	for _, closed := range []bool{false, true} {
		w, k := newEpochWorld(t)
		backup := w.backup()
		ada := epochRecord("ada").Scopes[0].Subject
		sealed := record("marketing")
		require.NoError(t, k.SealRecords(t.Context(), sealed))
		_, err := k.ForgetPurpose(t.Context(), ada, "marketing")
		require.NoError(t, err)
		require.NoError(t, k.SuspendPurpose(t.Context(), ada, "support"))
		if closed {
			_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
			require.NoError(t, err)
		}
		_, err = envelope.Restore(t.Context(), w.store(backup), w.kms, w.opts, envelope.RestoreOptions{})
		require.NoError(t, err)

		restored := w.ring(backup)
		require.NoError(t, restored.OpenRecords(t.Context(), sealed))
		require.ErrorIs(t, sealed[0].Scopes[0].Err, envelope.ErrForgotten, "what was sealed for it")
		require.NoError(t, restored.SealRecords(t.Context(), record("research")))
		require.ErrorIs(t, restored.SealRecords(t.Context(), record("marketing")), envelope.ErrForgotten)
		require.ErrorIs(t, restored.SealRecords(t.Context(), record("support")), envelope.ErrSuspended)

		fresh := w.ring(backup)
		require.ErrorIs(t, fresh.ReadmitPurpose(t.Context(), ada, "research"), envelope.ErrNotForgotten)
		require.NoError(t, fresh.ReadmitPurpose(t.Context(), ada, "marketing"))
		require.NoError(t, fresh.SealRecords(t.Context(), record("marketing")))
		require.NoError(t, fresh.ResumePurpose(t.Context(), ada, "support"))
		require.NoError(t, fresh.SealRecords(t.Context(), record("support")))
	}
}
