package main

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/lethe-go/lethe/bench/peers"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/localkms"
)

// world is a key store with its KMS key; the KMS is a file's, so its calls cost
// little.
type world struct {
	store envelope.Store
	key   kms.Key
	opts  envelope.Options
	close func()
}

// newWorld makes one whose cache has room for all subjects, with its store in
// SQLite or in memory.
func newWorld(ctx context.Context, c config, sqlite bool, subjects int) (*world, error) {
	dir, err := os.MkdirTemp(c.work, "world")
	if err != nil {
		return nil, err
	}
	key, err := localkms.Create(filepath.Join(dir, "kek.json"), localkms.Options{})
	if err != nil {
		return nil, err
	}
	w := &world{store: memstore.New(), key: key, opts: envelope.Options{Ledger: &memledger.Ledger{}, CacheSize: max(2*subjects, 100_000)}, close: func() {}}
	if sqlite {
		store, err := sqlstore.OpenSQLite(ctx, filepath.Join(dir, "keys.db"))
		if err != nil {
			return nil, err
		}
		w.store, w.close = store, func() { _ = store.Close() }
		if err := store.Migrate(ctx); err != nil {
			w.close()
			return nil, err
		}
	}
	if err := envelope.Init(ctx, w.store, w.key, w.opts); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// ring is that of a process that has just started.
func (w *world) ring(ctx context.Context) (*envelope.Keyring, error) {
	return envelope.NewKeyring(ctx, w.store, w.key, w.opts)
}

func ids(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = prefix + strconv.Itoa(i)
	}
	return all
}

// order is a fixed random order.
func order(n int) []int { return rand.New(rand.NewPCG(1, uint64(n))).Perm(n) } //nolint:gosec // which rows are measured is no secret

// block is how many rows are made ready, untimed, before they are timed.
const block = 50

// cost measures n calls of run on rows that prepare has made ready.
func cost[T any](n int, prepare func(row *T, i int) error, run func(rows []T) error) (sample, error) {
	rows := make([]T, min(block, n))
	runtime.GC()
	var wall, cpu, calls float64
	for i := 0; i < n; i += len(rows) {
		for j := range rows {
			if err := prepare(&rows[j], i+j); err != nil {
				return sample{}, err
			}
		}
		var m peers.Meter
		m.Start()
		err := run(rows)
		m.Stop()
		if err != nil {
			return sample{}, err
		}
		w, p := m.Times()
		wall, cpu, calls = wall+float64(w), cpu+float64(p), calls+float64(len(rows))
	}
	return sample{cpu / calls, wall / calls}, nil
}

// oneByOne makes a call for each row.
func oneByOne[T any](ctx context.Context, call func(context.Context, *T) error) func([]T) error {
	return func(rows []T) error {
		for i := range rows {
			if err := call(ctx, &rows[i]); err != nil {
				return err
			}
		}
		return nil
	}
}
