package sqlstore_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
)

// Writes cancelled at any moment leave no transaction open on a pooled connection.
func TestPostgresCancelledWritesLeaveNoTransaction(t *testing.T) {
	d := newPostgres(t)
	s := d.open(t)
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, envelope.Init(t.Context(), s, envelopetest.NewKey(t), envelope.Options{Ledger: &memledger.Ledger{}}))
	for start := time.Now(); time.Since(start) < 2*time.Second; {
		for range 50 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, cancel)
			_ = s.Advance(ctx, 99, 100, nil) // conflicts, if it comes so far
			cancel()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		require.ErrorIs(t, s.Advance(ctx, 99, 100, nil), envelope.ErrStoreConflict)
		cancel()
	}
}
