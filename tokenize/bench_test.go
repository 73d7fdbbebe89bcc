package tokenize_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/fpe"
	"github.com/lethe-go/lethe/tokenize"
)

const benchBatch = 1000

func benchCards(b *testing.B, n int) []tokenize.Item {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	items := make([]tokenize.Item, n)
	for i := range items {
		items[i] = tokenize.Item{Subject: subject(i), Value: card(r, 16)}
	}
	return items
}

// quickest reports the time of a token in the quickest and in the median of 301
// short runs of op, which does n tokens, each after a run of the same number of
// FF1 encryptions in a batch, the floor: a busy machine slows both, and the
// quickest runs are those it left alone.
func quickest(b *testing.B, n int, op func() error) {
	b.Helper()
	ff, err := fpe.NewFF1(make([]byte, 32), 10)
	require.NoError(b, err)
	values, tweaks := make([][]uint16, 256), make([][]byte, 256)
	for i := range values {
		values[i], tweaks[i] = []uint16{1, 2, 3, 4, 5, 6}, make([]byte, 12)
	}
	var times, floors [301]time.Duration
	for i := range times {
		start := time.Now()
		if err := ff.EncryptBatch(values, tweaks); err != nil {
			b.Fatal(err)
		}
		floors[i] = time.Since(start)
		start = time.Now()
		if err := op(); err != nil {
			b.Fatal(err)
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times[:])
	slices.Sort(floors[:])
	b.ReportMetric(float64(times[0].Nanoseconds())/float64(n), "min-ns/token")
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/float64(n), "median-ns/token")
	b.ReportMetric(float64(times[len(times)/2])/float64(floors[len(floors)/2])*float64(len(values))/float64(n), "floors")
	b.ReportMetric(0, "ns/op")
}

// Card numbers with BIN and last four kept, through everything a program calls.
// One key for the tenant, or one for each of 1,000 subjects.
func BenchmarkFormatPreserving(b *testing.B) {
	for _, k := range []struct {
		name  string
		o     tokenize.CardOptions
		scope tokenize.Scope
	}{
		{"6+4 tenant", tokenize.CardOptions{KeepBIN: 6, KeepLast4: true}, tokenize.ScopeTenant},
		{"none kept tenant", tokenize.CardOptions{}, tokenize.ScopeTenant},
		{"6+4 subject", tokenize.CardOptions{KeepBIN: 6, KeepLast4: true}, tokenize.ScopeSubject},
	} {
		f := newFPE(b, tokenize.FormatPreservingOptions{Format: must(tokenize.CardFormat(k.o)), Scope: k.scope})
		items := benchCards(b, benchBatch)
		require.NoError(b, f.Tokenize(b.Context(), items))
		for _, d := range []struct {
			name string
			do   func(ctx context.Context, items []tokenize.Item) error
		}{{"tokenize", f.Tokenize}, {"detokenize", f.Detokenize}} {
			b.Run(k.name+"/"+d.name+"/single", func(b *testing.B) {
				quickest(b, 100, func() error {
					for i := range 100 {
						if err := d.do(b.Context(), items[i:i+1]); err != nil {
							return err
						}
					}
					return nil
				})
			})
			b.Run(k.name+"/"+d.name+"/batch", func(b *testing.B) {
				quickest(b, len(items), func() error { return d.do(b.Context(), items) })
			})
		}
	}
}

// What one call allocates.
func BenchmarkAllocations(b *testing.B) {
	f := newFPE(b, tokenize.FormatPreservingOptions{Format: must(tokenize.CardFormat(tokenize.CardOptions{KeepBIN: 6, KeepLast4: true})), Scope: tokenize.ScopeTenant})
	items := benchCards(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Tokenize(b.Context(), items); err != nil {
			b.Fatal(err)
		}
	}
}
