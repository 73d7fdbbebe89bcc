package envelope_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/localkms"
)

// A close that made a handle and could not record it leaves an orphan: found by
// comparing the KMS's list with the ledger's, and destroyed without harm to the store.
func TestOrphanHandles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek.json")
	key, err := localkms.Create(path, localkms.Options{})
	require.NoError(t, err)
	ledger := &faultyLedger{}
	opts := envelope.Options{Ledger: ledger}
	store := memstore.New()
	require.NoError(t, envelope.Init(t.Context(), store, key, opts))
	k, err := envelope.NewKeyring(t.Context(), store, key, opts)
	require.NoError(t, err)
	defer k.Close()
	sealed := seal(t, k, record("ada", "a"))
	seal(t, k, record("bob", "b"))
	_, err = k.Forget(t.Context(), person("bob"))
	require.NoError(t, err)
	ledger.fault = fault{armed: true}
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.ErrorIs(t, err, envelope.ErrLedger)
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)

	known := map[string]bool{}
	handles, err := k.Handles(t.Context())
	require.NoError(t, err)
	require.Len(t, handles, 2)
	require.False(t, handles[0].Retired.IsZero())
	require.True(t, handles[1].Retired.IsZero(), "the one in use")
	for _, h := range handles {
		require.Equal(t, key.KeyURI(), h.URI)
		known[h.Handle] = true
	}
	listed, err := key.Handles(t.Context())
	require.NoError(t, err)
	var orphans []string
	for _, h := range listed {
		if !known[h] {
			orphans = append(orphans, h)
		}
	}
	require.Len(t, orphans, 1)
	require.Len(t, listed, 3)
	gone, err := key.Destroy(t.Context(), orphans[0])
	require.NoError(t, err)
	require.Equal(t, kms.HandleDestroyed, gone.State)
	again, err := envelope.NewKeyring(t.Context(), store, key, opts)
	require.NoError(t, err)
	defer again.Close()
	require.NoError(t, openErr(t, again, sealed))

	// A KMS that names its keys by label leaves none: the next close gets the same.
	byLabel := newHandleKMS(t)
	require.NoError(t, again.RewrapKEK(t.Context(), byLabel))
	seal(t, again, record("eve", "e"))
	_, err = again.Forget(t.Context(), person("eve"))
	require.NoError(t, err)
	ledger.fault = fault{armed: true}
	_, err = again.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.ErrorIs(t, err, envelope.ErrLedger)
	_, err = again.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	require.Len(t, byLabel.handles, 2)
}
