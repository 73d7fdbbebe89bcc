package sqlstore_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
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
//
// A tenth as many are measured first: what the model of epochmodel_test.go makes of
// that is held against the rest.
func TestEpochAtScale(t *testing.T) {
	for name, fresh := range map[string]func(t testing.TB) database{"sqlite": newSQLite, "postgres": newPostgres} {
		t.Run(name, func(t *testing.T) {
			n := *scale
			if n < calibrated {
				measureEpoch(t, fresh(t), n)
				return
			}
			var small cost
			t.Run("tenth", func(t *testing.T) { small, _ = measureEpoch(t, fresh(t), n/10) })
			big, w := measureEpoch(t, fresh(t), n)
			for _, c := range []struct {
				what           string
				got, predicted float64
				factor         float64 // how far off is an error
			}{
				{"bytes a subject", big.bytes, small.bytes, 1.2},
				{"seconds a forget", big.forget.Seconds(), small.forget.Seconds(), 8},
				{"seconds of the close", big.seconds, small.expected(w).Seconds(), 8},
			} {
				t.Logf("%-21s predicted from a tenth %10.4f, measured %10.4f", c.what, c.predicted, c.got)
				require.Less(t, c.got, c.predicted*c.factor, c.what)
				require.Greater(t, c.got, c.predicted/c.factor, c.what)
			}
		})
	}
}

// calibrated is from how many subjects on times follow from those of a tenth: below,
// they are mostly those of a disk that is asked to sync.
const calibrated = 100_000

// measureEpoch seals n subjects, forgets a hundredth of them and closes the epoch while
// a load runs. The work must be what the model says.
func measureEpoch(t *testing.T, d database, n int) (cost, work) {
	t.Helper()
	ctx := t.Context()

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
	var first, last time.Time // of the progress of the check
	var done [2]int
	closed, err := ring.CloseEpoch(ctx, envelope.CloseOptions{Progress: func(p envelope.CloseProgress) {
		if p.Step == "check" {
			last, done[1] = time.Now(), p.Done
			if first.IsZero() {
				first, done[0] = last, p.Done
			}
		}
	}})
	require.NoError(t, err)
	phase.Store("after")
	time.Sleep(wait)
	stop()
	load.Wait()
	if err, ok := failed.Load().(error); ok {
		require.NoError(t, err)
	}
	t.Logf("close: %v, %d pages, %d keys, %d pages checked", closed.Took.Round(time.Millisecond), closed.Pages, closed.Keys, closed.Checked)
	w := workOf(float64(n), float64(forgotten))
	for _, c := range []struct {
		what           string
		got            int
		predicted, off float64
	}{
		{"pages re-keyed", closed.Pages, w.leaves + w.inner, 0.05},
		{"keys wrapped anew", closed.Keys, w.keys, 0.05},
		{"pages checked", closed.Checked, w.pages, 0.05},
	} {
		t.Logf("%-21s predicted %10.0f, measured %10d", c.what, c.predicted, c.got)
		// Beside the share, what chance and the people that the load adds may do.
		require.InDelta(t, c.predicted, c.got, c.off*c.predicted+envelope.PageFanOut*4*math.Sqrt(float64(forgotten)), c.what)
	}
	figures := cost{bytes: float64(size) / float64(n), forget: percentile(took, 0.5), seconds: closed.Took.Seconds()}
	figures.check = last.Sub(first) / time.Duration(max(1, done[1]-done[0]))
	figures.rekey = max(0, closed.Took-time.Duration(closed.Checked)*figures.check) / time.Duration(closed.Pages)
	t.Logf("re-keying a page took %v, checking one %v", figures.rekey.Round(time.Microsecond), figures.check.Round(time.Microsecond))
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
	return figures, w
}
