package sqlstore_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

// Writes cancelled at any moment leave no transaction open on a pooled
// connection: it would hold the write lock against every process.
func TestCancelledWritesLeaveNoTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		s := d.open(t)
		initialise(t, s)
		for start := time.Now(); time.Since(start) < 2*time.Second; {
			for range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Duration(rand.IntN(500))*time.Microsecond, cancel)
				_ = s.Advance(ctx, 99, 100, nil) // conflicts, if it comes so far
				cancel()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			require.ErrorIs(t, s.Advance(ctx, 99, 100, nil), envelope.ErrStoreConflict)
			cancel()
		}
	})
}
