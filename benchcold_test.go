package lethe_test

import (
	"context"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/internal/testdb"
	"github.com/lethe-go/lethe/kms"
)

// countingStore counts the queries for keys and pages.
type countingStore struct {
	envelope.Store
	keys, pages int
}

func (c *countingStore) Keys(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef) ([]envelope.KeyRow, []envelope.PageRow, error) {
	c.keys++
	return c.Store.Keys(ctx, tree, refVer, srefs)
}

func (c *countingStore) Pages(ctx context.Context, tree envelope.TreeID, ids []envelope.PageID) ([]envelope.PageRow, error) {
	c.pages++
	return c.Store.Pages(ctx, tree, ids)
}

// benchWorld is a key store with the keys of many subjects, and a sealed row of each.
type benchWorld struct {
	store *countingStore
	key   kms.Key
	opts  envelope.Options
	rows  []benchRow
}

func newBenchWorld(b *testing.B, store envelope.Store, subjects int) *benchWorld {
	b.Helper()
	w := &benchWorld{store: &countingStore{Store: store}, key: envelopetest.NewKey(b), rows: make([]benchRow, subjects)}
	w.opts = envelope.Options{Ledger: &memledger.Ledger{}, CacheSize: max(subjects, 100_000)}
	if err := envelope.Init(b.Context(), w.store, w.key, w.opts); err != nil {
		b.Fatal(err)
	}
	for i := range w.rows {
		w.rows[i] = newBenchRow(i)
	}
	s := w.fresh(b)
	for from := 0; from < subjects; from += benchSubjects {
		if err := s.SealSlice(b.Context(), w.rows[from:min(from+benchSubjects, subjects)]); err != nil {
			b.Fatal(err)
		}
	}
	return w
}

// fresh returns a Sealer of a process that has just started.
func (w *benchWorld) fresh(b *testing.B) *lethe.Sealer[benchRow] {
	b.Helper()
	ring, err := envelope.NewKeyring(b.Context(), w.store, w.key, w.opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(ring.Close)
	s, err := lethe.For[benchRow](ring)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func benchSQLite(b *testing.B) envelope.Store {
	b.Helper()
	store, err := sqlstore.OpenSQLite(b.Context(), filepath.Join(b.TempDir(), "keys.db"))
	return migrated(b, store, err)
}

func migrated(b *testing.B, store *sqlstore.Store, err error) envelope.Store {
	b.Helper()
	if err == nil {
		b.Cleanup(func() { _ = store.Close() })
		err = store.Migrate(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	return store
}

func benchPostgres(b *testing.B) envelope.Store {
	b.Helper()
	store, err := sqlstore.OpenPostgres(b.Context(), testdb.Postgres(b))
	return migrated(b, store, err)
}

const coldRows = 1000

// BenchmarkOpenSliceCold opens 1,000 rows of 1,000 subjects with a Keyring that
// knows none of them, from a store of 10,000: of a process that has just started,
// or that runs and has opened 1,000 rows of others. The queries are for keys, and
// for pages of the key tree above the leaves.
func BenchmarkOpenSliceCold(b *testing.B) {
	for _, c := range []struct {
		name  string
		store func(*testing.B) envelope.Store
		runs  bool
	}{
		{"memory", func(*testing.B) envelope.Store { return memstore.New() }, false},
		{"sqlite", benchSQLite, false}, {"sqlite/running", benchSQLite, true},
		{"postgres", benchPostgres, false}, {"postgres/running", benchPostgres, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newBenchWorld(b, c.store(b), benchSubjects)
			var took []time.Duration
			n, keys, pages := 0, 0, 0
			rows := make([]benchRow, coldRows)
			for b.Loop() {
				s := w.fresh(b)
				take := func() {
					for i := range rows {
						rows[i] = scanned(b, &w.rows[benchOrder[n]])
						n = (n + 1) % benchSubjects
					}
				}
				if take(); c.runs {
					if err := s.OpenSlice(b.Context(), rows); err != nil {
						b.Fatal(err)
					}
					take()
				}
				w.store.keys, w.store.pages = 0, 0
				start := time.Now()
				if err := s.OpenSlice(b.Context(), rows); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
				keys, pages = max(keys, w.store.keys), max(pages, w.store.pages)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(medianOf(took)/1e6, "ms/slice")
			b.ReportMetric(float64(keys), "key-queries")
			b.ReportMetric(float64(pages), "page-queries")
		})
	}
}

// BenchmarkSealSliceAgainstFloor and BenchmarkOpenSliceAgainstFloor are 1,000 warm
// rows in one call, against 1,000 times the floor; the times are of 20 rows.

func BenchmarkSealSliceAgainstFloor(b *testing.B) {
	s, sealed := benchSealer(b)
	rows := make([]benchRow, coldRows)
	plain := newBenchRow(0)
	against(b, sliceOf(func(i, subject int) {
		rows[i] = plain
		rows[i].ID = strings.Clone(sealed[subject].ID)
	}, func() {
		if err := s.SealSlice(b.Context(), rows); err != nil {
			b.Fatal(err)
		}
	}), repeated(floor{}.sealOne(b)))
}

func BenchmarkOpenSliceAgainstFloor(b *testing.B) {
	s, sealed := benchSealer(b)
	rows := make([]benchRow, coldRows)
	against(b, sliceOf(func(i, subject int) { rows[i] = scanned(b, &sealed[subject]) }, func() {
		if err := s.OpenSlice(b.Context(), rows); err != nil {
			b.Fatal(err)
		}
	}), repeated(floor{}.openOne(b)))
}

// sliceOf is an operation whose block of 50 is one call with 1,000 rows.
func sliceOf(fill func(i, subject int), call func()) operation {
	const each = coldRows / benchBlock
	return operation{func(slot, i int) {
		for j := range each {
			fill(slot*each+j, (i+j*benchBlock)%benchSubjects)
		}
	}, func(slot int) {
		if slot == 0 {
			call()
		}
	}}
}

// repeated runs an operation as often as sliceOf has rows, for as many subjects.
func repeated(op operation) operation {
	var first [benchBlock]int
	return operation{func(slot, i int) { first[slot] = i }, func(slot int) {
		for j := range coldRows / benchBlock {
			op.make(slot, (first[slot]+j*benchBlock)%benchSubjects) // to open: copies the sealed record, too
			op.run(slot)
		}
	}}
}

// BenchmarkFlat shows what a row costs as the number of subjects grows: sealing
// those never seen before, and opening single rows warm and slices cold. Set
// LETHE_BENCH_SUBJECTS to the largest number (a million takes minutes).
func BenchmarkFlat(b *testing.B) {
	most := 100_000
	if n, err := strconv.Atoi(os.Getenv("LETHE_BENCH_SUBJECTS")); err == nil {
		most = n
	}
	for _, store := range []string{"memory", "sqlite"} {
		for n := 1000; n <= most; n *= 10 {
			b.Run(fmt.Sprint(store, "/", n), func(b *testing.B) { flat(b, store, n) })
		}
	}
}

func flat(b *testing.B, store string, subjects int) {
	var at envelope.Store = memstore.New()
	if store == "sqlite" {
		at = benchSQLite(b)
	}
	start := time.Now()
	w := newBenchWorld(b, at, subjects)
	minted := time.Since(start)
	warm := w.fresh(b)
	var cold, opened []time.Duration
	order := mrand.New(mrand.NewPCG(3, 4)).Perm(subjects)
	take := func(size, n int) []benchRow {
		rows := make([]benchRow, size)
		for i := range rows {
			rows[i] = scanned(b, &w.rows[order[(n+i)%subjects]])
		}
		return rows
	}
	open := func(s *lethe.Sealer[benchRow], rows []benchRow) time.Duration {
		start := time.Now()
		if err := s.OpenSlice(b.Context(), rows); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	for n := 0; n < subjects; n += benchSubjects {
		open(warm, take(min(benchSubjects, subjects), n))
	}
	n := 0
	for b.Loop() {
		cold = append(cold, open(w.fresh(b), take(coldRows, n))/coldRows)
		rows := take(coldRows, n)
		start := time.Now()
		for i := range rows {
			if err := warm.Open(b.Context(), &rows[i]); err != nil {
				b.Fatal(err)
			}
		}
		opened = append(opened, time.Since(start)/coldRows)
		n = (n + coldRows) % subjects
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(minted)/float64(subjects), "ns/new")
	b.ReportMetric(medianOf(cold), "ns/cold")
	b.ReportMetric(medianOf(opened), "ns/warm")
}
