package lethe_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/kms"
)

var errAway = errors.New("connection refused")

// awayStore is a key store that may be away; awayKey is such a KMS.
type awayStore struct {
	envelope.Store
	away atomic.Bool
}

func (s *awayStore) Keys(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef) ([]envelope.KeyRow, []envelope.PageRow, error) {
	if s.away.Load() {
		return nil, nil, errAway
	}
	return s.Store.Keys(ctx, tree, refVer, srefs)
}

type awayKey struct {
	kms.Key
	away atomic.Bool
}

func (k *awayKey) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if k.away.Load() {
		return nil, kms.Unavailable("decrypt", "", errAway)
	}
	return k.Key.DecryptWithContext(ctx, ciphertext, associatedData)
}

// A list whose keys cannot all be fetched stays as it was, the rows whose keys are in memory too.
func TestKeyStoreOrKMSAwayChangesNoRow(t *testing.T) {
	t.Parallel()
	store, key := &awayStore{Store: memstore.New()}, &awayKey{Key: envelopetest.NewKey(t)}
	opts := envelope.Options{Ledger: &memledger.Ledger{}, Timeout: 100 * time.Millisecond}
	require.NoError(t, envelope.Init(t.Context(), store, key, opts))
	open := func(opts envelope.Options) *lethe.Sealer[person] {
		ring, err := envelope.NewKeyring(t.Context(), store, key, opts)
		require.NoError(t, err)
		t.Cleanup(ring.Close)
		s, err := lethe.For[person](ring)
		require.NoError(t, err)
		return s
	}
	s := open(opts)
	sealed := []person{newPerson(1), newPerson(2), newPerson(3)}
	require.NoError(t, s.SealSlice(t.Context(), sealed))

	cold := open(opts)
	warm := stored(t, sealed[0])
	require.NoError(t, cold.Open(t.Context(), &warm))
	store.away.Store(true)
	rows := []person{stored(t, sealed[0]), stored(t, sealed[1]), stored(t, sealed[2])}
	rows[2].ID = "" // not even what is wrong with a row by itself is recorded
	err := cold.OpenSlice(t.Context(), rows)
	require.ErrorIs(t, err, lethe.ErrUnavailable)
	var partly *lethe.RowErrors
	require.NotErrorAs(t, err, &partly)
	for i := range rows {
		require.Equal(t, lethe.StatusSealed, rows[i].Email.Status(), i)
		require.Equal(t, lethe.StatusSealed, rows[i].Home.Street.Status(), i)
	}
	plain := []person{newPerson(1), newPerson(4)}
	require.ErrorIs(t, cold.SealSlice(t.Context(), plain), lethe.ErrUnavailable)
	for i := range plain {
		require.Equal(t, lethe.StatusPlain, plain[i].Email.Status(), i)
		require.True(t, plain[i].Keys.IsZero(), i)
		require.True(t, plain[i].EmailIdx.IsZero(), i)
	}
	before := rows[1].Keys
	changed, err := cold.RewrapSlice(t.Context(), rows[:2])
	require.ErrorIs(t, err, lethe.ErrUnavailable)
	require.Empty(t, changed)
	require.True(t, before.Equal(rows[1].Keys))
	require.NoError(t, cold.OpenSlice(t.Context(), rows[:1]), "what is in memory goes on")
	store.away.Store(false)
	rows = []person{stored(t, sealed[0]), stored(t, sealed[1]), stored(t, sealed[2])}
	require.NoError(t, cold.OpenSlice(t.Context(), rows))

	opts.CacheTTL = time.Second
	short := open(opts)
	key.away.Store(true)
	require.Eventually(t, func() bool {
		rows = []person{stored(t, sealed[0]), stored(t, sealed[1])}
		err = short.OpenSlice(t.Context(), rows)
		return err != nil
	}, 10*time.Second, 50*time.Millisecond, "without the KMS the cache runs out")
	require.ErrorIs(t, err, lethe.ErrUnavailable)
	for i := range rows {
		require.Equal(t, lethe.StatusSealed, rows[i].Email.Status(), i)
	}
}
