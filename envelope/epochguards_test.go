package envelope_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/kms"
)

// switchless is a ledger that fails while a switch is written.
type switchless struct {
	*memledger.Ledger
	fail bool
}

func (l *switchless) Append(ctx context.Context, e envelope.LedgerEntry) error {
	if l.fail && e.Kind == envelope.LedgerRootSwitch {
		return errors.New("no ledger")
	}
	return l.Ledger.Append(ctx, e)
}

// A switch that the ledger does not have is completed, though no close is due.
func TestEraseDueCompletesASwitch(t *testing.T) {
	w, _ := newEpochWorld(t)
	ledger := &switchless{Ledger: w.ledger}
	w.opts.Ledger = ledger
	k := w.ring("live.db")
	recs := w.seal(k, "a", 10)
	_, err := k.Forget(t.Context(), recs[0].Scopes[0].Subject)
	require.NoError(t, err)
	ledger.fail = true
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.ErrorIs(t, err, envelope.ErrLedger)
	ledger.fail = false
	st, err := k.Status(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, st.Epoch)
	require.False(t, st.Overdue)
	due, err := k.EraseDue(t.Context())
	require.NoError(t, err)
	require.Len(t, due, 1)
	w.now = w.now.Add(8 * 24 * time.Hour)
	due, err = k.EraseDue(t.Context())
	require.NoError(t, err)
	require.Len(t, due, 1)
	require.False(t, due[0].Destroyed.IsZero())
}

// A process whose clock was far ahead keeps nobody from closing, nor calls an
// epoch young.
func TestClockFarAhead(t *testing.T) {
	w, k := newEpochWorld(t)
	recs := w.seal(k, "a", 10)
	year := 365 * 24 * time.Hour
	require.NoError(t, w.store("live.db").Claim(t.Context(), envelope.Lease{Tree: 1, Owner: "dead", Until: w.now.Add(year)}, w.now))
	_, err := k.Forget(t.Context(), recs[0].Scopes[0].Subject)
	require.NoError(t, err)
	w.now = w.now.Add(year + time.Minute)
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	w.now = w.now.Add(-year)
	require.NoError(t, w.store("live.db").Claim(t.Context(), envelope.Lease{Tree: 1, Owner: "dead", Until: w.now.Add(year)}, w.now.Add(2*year)))
	_, err = k.Forget(t.Context(), recs[1].Scopes[0].Subject)
	require.NoError(t, err)
	st, err := k.Status(t.Context())
	require.NoError(t, err)
	require.True(t, st.Overdue)
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)

	require.NoError(t, w.store("live.db").Claim(t.Context(), envelope.Lease{Tree: 1, Owner: "other", Until: w.now.Add(10 * time.Second)}, w.now.Add(2*year)))
	_, err = k.Forget(t.Context(), recs[2].Scopes[0].Subject)
	require.NoError(t, err)
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.ErrorIs(t, err, envelope.ErrLeased, "a lease that can be right is kept")
}

// identified is a plain key with a name.
type identified struct {
	kms.Key
	uri string
}

func (i identified) KeyURI() string { return i.uri }

// A close by a process that prefers another KMS key does not undo a RewrapKEK, and
// one whose key has no handles cannot close under a version that will be destroyed.
func TestCloseKeepsTheKMSKey(t *testing.T) {
	w, k := newEpochWorld(t)
	recs := w.seal(k, "a", 10)
	first := identified{envelopetest.NewKey(t), "test:other"}
	opts := w.opts
	opts.MoreKeys = []kms.Key{w.kms}
	other, err := envelope.NewKeyring(t.Context(), w.store("live.db"), first, opts)
	require.NoError(t, err)
	t.Cleanup(other.Close)
	other.SetNow(func() time.Time { return w.now })
	_, err = k.Forget(t.Context(), recs[0].Scopes[0].Subject)
	require.NoError(t, err)
	_, err = other.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	require.NotZero(t, other.Promise().Backups)
	_, err = envelope.NewKeyring(t.Context(), w.store("live.db"), w.kms, w.opts)
	require.NoError(t, err, "the other key is not needed")

	require.ErrorContains(t, other.RewrapKEK(t.Context(), identified{w.kms, w.kms.KeyURI()}), "without handles")
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{All: true})
	require.NoError(t, err)
}

// While a later root hangs on the whole KMS key, whose latest version wrapped it, no
// version of it is destroyed.
func TestNoErasureUnderAPlainRoot(t *testing.T) {
	w, k := newEpochWorld(t)
	w.seal(k, "a", 10)
	require.NoError(t, k.RewrapKEK(t.Context(), identified{envelopetest.NewKey(t), "test:other"}))
	require.NoError(t, k.RewrapKEK(t.Context(), identified{w.kms, w.kms.KeyURI()}))
	k = w.ring("live.db")
	w.now = w.now.Add(8 * 24 * time.Hour)
	due, err := k.EraseDue(t.Context())
	require.ErrorContains(t, err, "whole KMS key")
	require.True(t, due[0].Ordered.IsZero())
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{All: true})
	require.ErrorContains(t, err, "whole KMS key", "a backup of the plain epoch can still be restored")
	w.now = w.now.Add(8 * 24 * time.Hour)
	due, err = k.EraseDue(t.Context())
	require.NoError(t, err)
	require.False(t, due[0].Destroyed.IsZero())
}

// slowKMS takes a month to destroy a handle.
type slowKMS struct{ *versions }

func (slowKMS) KeyURI() string { return "test:slow" }

func (slowKMS) EraseSemantics(context.Context) (kms.EraseSemantics, error) {
	return kms.EraseSemantics{MinDelay: 20 * 24 * time.Hour}, nil
}

// A promise covers the handles of earlier epochs, whose KMS may be slower.
func TestPromiseOfEarlierHandles(t *testing.T) {
	w, k := newEpochWorld(t)
	w.seal(k, "a", 10)
	day := 24 * time.Hour
	require.Equal(t, 8*day+time.Hour, k.Promise().Backups)
	require.NoError(t, k.RewrapKEK(t.Context(), slowKMS{newVersions(t)}))
	require.Equal(t, 28*day+time.Hour, k.Promise().Backups)
	require.NoError(t, k.RewrapKEK(t.Context(), w.kms))
	require.InDelta(t, 27*day, k.Promise().Backups, float64(time.Minute), "due in 7 days, then 20")
	require.Less(t, k.Promise().Backups, 28*day)
}
