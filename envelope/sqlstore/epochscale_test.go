package sqlstore_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/fileledger"
	"github.com/lethe-go/lethe/kms/localkms"
)

var scale = flag.Int("subjects", 2000, "subjects of TestEpochAtScale; a hundredth of them is forgotten")

// latencies of one kind of call in one phase.
type latencies struct {
	mu sync.Mutex
	m  map[string][]time.Duration
}

func (l *latencies) add(name string, d time.Duration) {
	l.mu.Lock()
	l.m[name] = append(l.m[name], d)
	l.mu.Unlock()
}

func percentile(d []time.Duration, p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(len(d)-1, int(float64(len(d))*p))]
}

type relation struct {
	name  string
	bytes int64
}

// atRest is what the store takes on disk, and in PostgreSQL the largest tables and indexes of it.
func atRest(t *testing.T, d database) (total int64, largest []relation) {
	t.Helper()
	if d.path != "" {
		require.NoError(t, d.raw.QueryRowContext(t.Context(), "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()").Scan(&total))
		return total, nil
	}
	rows, err := d.raw.QueryContext(t.Context(), `SELECT relname, CASE relkind WHEN 'r' THEN pg_table_size(c.oid) ELSE pg_relation_size(c.oid) END AS size
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'i') ORDER BY size DESC`)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var r relation
		require.NoError(t, rows.Scan(&r.name, &r.bytes))
		total += r.bytes
		if len(largest) < 6 {
			largest = append(largest, r)
		}
	}
	require.NoError(t, rows.Err())
	return total, largest
}

// What forgetting and closing an epoch cost while a load runs:
//
//	go test ./envelope/sqlstore -run EpochAtScale -v -subjects 1000000 -timeout 1h
func TestEpochAtScale(t *testing.T) {
	onEach(t, func(t *testing.T, d database) {
		ctx := t.Context()
		n := *scale
		store := d.open(t)
		require.NoError(t, store.Migrate(ctx))
		ledger, err := fileledger.Create(ctx, filepath.Join(t.TempDir(), "ledger"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = ledger.Close() })
		key, err := localkms.Create(filepath.Join(t.TempDir(), "kek"), localkms.Options{})
		require.NoError(t, err)
		opts := envelope.Options{Ledger: ledger, CacheSize: 10_000}
		require.NoError(t, envelope.Init(ctx, store, key, opts))
		ring, err := envelope.NewKeyring(ctx, store, key, opts)
		require.NoError(t, err)
		t.Cleanup(ring.Close)

		began := time.Now()
		record := func(i int) envelope.Record {
			return envelope.Record{Name: "r", Scopes: []envelope.Scope{{Subject: envelope.Subject{Kind: "p", ID: strconv.Itoa(i)}}}, Cells: []envelope.Cell{{Field: "f", Plain: []byte("v")}}}
		}
		all := make([]envelope.Record, 0, n)
		for at := 0; at < n; at += 5000 {
			recs := make([]envelope.Record, 0, 5000)
			for i := at; i < min(n, at+5000); i++ {
				recs = append(recs, record(i))
			}
			require.NoError(t, ring.SealRecords(ctx, recs))
			all = append(all, recs...)
		}
		size, relations := atRest(t, d)
		t.Logf("%d subjects sealed in %v, %d bytes each in the store", n, time.Since(began).Round(time.Millisecond), size/int64(n))
		for _, r := range relations {
			t.Logf("  %-20s %8.2f bytes each", r.name, float64(r.bytes)/float64(n))
		}

		forgotten := n / 100
		var took []time.Duration
		for i := range forgotten {
			start := time.Now()
			_, err := ring.Forget(ctx, all[i*100].Scopes[0].Subject)
			require.NoError(t, err)
			took = append(took, time.Since(start))
		}
		t.Logf("%d forgets: median %v, p99 %v", forgotten, percentile(took, 0.5), percentile(took, 0.99))

		var phase atomic.Value
		phase.Store("before")
		lat := &latencies{m: map[string][]time.Duration{}}
		loadCtx, stop := context.WithCancel(ctx)
		var load sync.WaitGroup
		var failed atomic.Value
		run := func(name string, do func() error) {
			load.Go(func() {
				for loadCtx.Err() == nil {
					start := time.Now()
					if err := do(); err != nil && loadCtx.Err() == nil {
						failed.Store(err)
					}
					lat.add(fmt.Sprint(name, " ", phase.Load()), time.Since(start))
					time.Sleep(2 * time.Millisecond)
				}
			})
		}
		other, err := envelope.NewKeyring(ctx, store, key, opts)
		require.NoError(t, err)
		t.Cleanup(other.Close)
		run("open, mostly cold", func() error {
			rec := all[rand.IntN(n)]
			rec.Scopes = []envelope.Scope{{Subject: rec.Scopes[0].Subject}}
			rec.Cells = []envelope.Cell{{Field: "f", Sealed: rec.Cells[0].Sealed}}
			if err := other.OpenRecords(loadCtx, []envelope.Record{rec}); err != nil {
				return err
			}
			if err := rec.Scopes[0].Err; err != nil && !errors.Is(err, envelope.ErrForgotten) {
				return err
			}
			return nil
		})
		var next atomic.Int64
		next.Store(int64(n))
		run("seal, a new person", func() error {
			return other.SealRecords(loadCtx, []envelope.Record{record(int(next.Add(1)))})
		})
		wait := min(5*time.Second, time.Duration(n)*time.Millisecond/10)
		time.Sleep(wait)
		phase.Store("during")
		closed, err := ring.CloseEpoch(ctx, envelope.CloseOptions{})
		require.NoError(t, err)
		phase.Store("after")
		time.Sleep(wait)
		stop()
		load.Wait()
		if err, ok := failed.Load().(error); ok {
			require.NoError(t, err)
		}
		t.Logf("close: %v, %d pages, %d keys, %d pages checked", closed.Took.Round(time.Millisecond), closed.Pages, closed.Keys, closed.Checked)
		for _, name := range []string{"open, mostly cold", "seal, a new person"} {
			for _, p := range []string{"before", "during", "after"} {
				d := lat.m[name+" "+p]
				t.Logf("%-20s %-7s %6d calls: median %8v p99 %8v max %8v", name, p, len(d), percentile(d, 0.5).Round(time.Microsecond), percentile(d, 0.99).Round(time.Microsecond), percentile(d, 1).Round(time.Microsecond))
			}
		}
		_, err = ring.Forget(ctx, all[1].Scopes[0].Subject)
		require.NoError(t, err)
		start := time.Now()
		closed, err = ring.CloseEpoch(ctx, envelope.CloseOptions{Immediate: true})
		require.NoError(t, err)
		t.Logf("urgent: one forget and an immediate close in %v, %d handles destroyed", time.Since(start).Round(time.Millisecond), len(closed.Erasures))
	})
}
