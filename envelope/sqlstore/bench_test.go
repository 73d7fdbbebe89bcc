package sqlstore_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/sqlstore"
)

const (
	benchLeaves = 15_625 // of a million keys
	benchFilled = 1_024  // leaves that have keys here
)

func benchStore(b *testing.B, s *sqlstore.Store) {
	b.Helper()
	for from := 0; from < benchLeaves; from += 512 {
		in := envelope.Insert{Tree: 1, Epoch: 1}
		for leaf := from; leaf < min(from+512, benchLeaves); leaf++ {
			page := envelope.PageID(leaf + 10)
			in.Pages = append(in.Pages, pageRow(page, envelope.PageFanOut))
			for i := range uint32(envelope.PageFanOut) {
				if leaf < benchFilled {
					in.Keys = append(in.Keys, keyRow(uint32(leaf)*envelope.PageFanOut+i, page))
				}
			}
		}
		_, err := s.Insert(b.Context(), in)
		require.NoError(b, err)
	}
}

// One step of an epoch close: 16 leaves of 64 keys each. And reading every page.
func BenchmarkEpochClose(b *testing.B) {
	for name, fresh := range map[string]func(t testing.TB) database{"sqlite": newSQLite, "postgres": newPostgres} {
		b.Run(name, func(b *testing.B) {
			s := fresh(b).open(b)
			initialise(b, s)
			benchStore(b, s)
			b.Run("RekeyPages", func(b *testing.B) {
				gen := uint64(1)
				report(b, func(n int) error {
					if n%(benchFilled/16) == 0 {
						gen++
					}
					return s.RekeyPages(b.Context(), benchStep(n%(benchFilled/16), gen))
				})
			})
			b.Run("PagesAfter", func(b *testing.B) {
				report(b, func(int) error { return readAll(b.Context(), s) })
			})
		})
	}
}

func benchStep(n int, gen uint64) envelope.RekeyPages {
	wrap := func(row []byte, gen uint64) []byte { return append(bytes.Clone(row), byte(gen)) }
	r := envelope.RekeyPages{Tree: 1, Epoch: 1, Seen: map[envelope.PageID][]byte{}, PageChildren: map[envelope.PageID]int{}}
	for leaf := 16 * n; leaf < 16*n+16; leaf++ {
		page := pageRow(envelope.PageID(leaf+10), 0)
		r.Seen[page.Page], r.PageChildren[page.Page] = wrap(page.Wrapped, gen-1), envelope.PageFanOut
		if gen == 2 {
			r.Seen[page.Page] = page.Wrapped
		}
		page.Gen, page.Wrapped = gen, wrap(page.Wrapped, gen)
		r.Pages = append(r.Pages, page)
		for i := range uint32(envelope.PageFanOut) {
			key := keyRow(uint32(leaf)*envelope.PageFanOut+i, page.Page)
			key.PageGen, key.Wrapped = gen, wrap(key.Wrapped, gen)
			r.Keys = append(r.Keys, key)
		}
	}
	return r
}

func readAll(ctx context.Context, s *sqlstore.Store) error {
	last := envelope.PageID(0)
	for {
		rows, err := s.PagesAfter(ctx, 1, last, 1000)
		if err != nil || len(rows) == 0 {
			return err
		}
		last = rows[len(rows)-1].Page
	}
}

func report(b *testing.B, op func(n int) error) {
	b.Helper()
	var times []time.Duration
	for n := 0; b.Loop(); n++ {
		start := time.Now()
		if err := op(n); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	for name, at := range map[string]int{"median-ms": len(times) / 2, "p99-ms": len(times) * 99 / 100} {
		b.ReportMetric(float64(times[at].Microseconds())/1000, name)
	}
}
