package migrate_test

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
	"github.com/lethe-go/lethe/integrations/migrate"
)

// flaky is a key store that is away at times.
type flaky struct {
	envelope.Store
	down atomic.Bool
}

var errAway = errors.New("the store is away")

func (f *flaky) Keys(ctx context.Context, tree envelope.TreeID, refVersion uint32, refs []envelope.SRef) ([]envelope.KeyRow, []envelope.PageRow, error) {
	if f.down.Load() {
		return nil, nil, errAway
	}
	return f.Store.Keys(ctx, tree, refVersion, refs)
}

// newFlaky is a world whose key store can be taken away, and which asks it for
// almost every row.
func newFlaky(t *testing.T, d lethe.Dialect) (*world, *flaky) {
	t.Helper()
	w := &world{db: openDB(t, d), dialect: d}
	store, key := &flaky{Store: memstore.New()}, envelopetest.NewKey(t)
	opts := envelope.Options{Ledger: &memledger.Ledger{}, CacheSize: 1, Timeout: 100 * time.Millisecond}
	require.NoError(t, envelope.Init(t.Context(), store, key, opts))
	var err error
	w.ring, err = envelope.NewKeyring(t.Context(), store, key, opts)
	require.NoError(t, err)
	t.Cleanup(w.ring.Close)
	w.sealer, err = lethe.For[customer](w.ring)
	require.NoError(t, err)
	w.create(t)
	return w, store
}

// An outage of the key store is waited for; one that lasts ends the job, which goes
// on when it is over.
func TestKeyStoreAway(t *testing.T) {
	for _, d := range []lethe.Dialect{lethe.SQLite, lethe.Postgres} {
		w, store := newFlaky(t, d)
		w.insert(t, 1, 101)
		w.rotate(t)
		n := 0
		for p, err := range w.job(t, migrate.Reseal, migrate.Options{}).Batches(t.Context()) {
			require.NoError(t, err, p)
			if n++; n == 2 {
				store.down.Store(true)
				time.AfterFunc(500*time.Millisecond, func() { store.down.Store(false) })
			}
		}
		w.check(t, 100)

		n = 0
		var last error
		for _, err := range w.job(t, migrate.Reseal, migrate.Options{Patience: time.Millisecond}).Batches(t.Context()) {
			last = err
			if n++; n == 2 {
				store.down.Store(true)
			}
		}
		require.ErrorIs(t, last, lethe.ErrUnavailable)
		store.down.Store(false)
		r := w.run(t, migrate.Reseal, migrate.Options{})
		require.True(t, r.Resumed)
		require.GreaterOrEqual(t, r.All.Seen, int64(100))
		w.check(t, 100)
	}
}

// A database that drops its connections, in the middle of transactions too, costs
// a job a moment.
func TestConnectionsLost(t *testing.T) {
	w := newWorld(t, lethe.Postgres)
	w.insert(t, 1, 201)
	w.rotate(t)
	var schema string
	require.NoError(t, w.db.QueryRowContext(t.Context(), "SELECT current_schema()").Scan(&schema))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var cut int64
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			time.Sleep(100 * time.Millisecond)
			var n int64
			_ = w.db.QueryRowContext(ctx, `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE pid <> pg_backend_pid() AND application_name = $1`, schema).Scan(&n)
			cut += n
		}
	}()
	r := w.run(t, migrate.Rewrap, migrate.Options{BatchSize: 2})
	cancel()
	<-done
	require.GreaterOrEqual(t, r.All.Changed, int64(150), "what was committed when a connection went is seen to need nothing")
	require.Positive(t, cut)
	t.Logf("%d connections cut: %v", cut, r)
	w.db.SetMaxIdleConns(0) // those that were cut
	w.check(t, 200)
}
