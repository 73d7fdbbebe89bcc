package tokenize_test

import (
	"math/rand/v2"
	"testing"

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

// Card numbers with BIN and last four kept, one key per tenant. The sub-benchmark
// "ff1" is the cipher alone, on the six digits that are replaced.
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
		b.Run(k.name+"/single", func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i = (i + 1) % len(items)
				if err := f.Tokenize(b.Context(), items[i:i+1]); err != nil || items[i].Err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(k.name+"/single back", func(b *testing.B) {
			i := 0
			for b.Loop() {
				i = (i + 1) % len(items)
				if err := f.Detokenize(b.Context(), items[i:i+1]); err != nil || items[i].Err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(k.name+"/batch", func(b *testing.B) {
			for b.Loop() {
				if err := f.Tokenize(b.Context(), items); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(items)), "ns/token")
		})
		b.Run(k.name+"/batch back", func(b *testing.B) {
			for b.Loop() {
				if err := f.Detokenize(b.Context(), items); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(items)), "ns/token")
		})
	}
	b.Run("ff1", func(b *testing.B) {
		ff, err := fpe.NewFF1(make([]byte, 32), 10)
		require.NoError(b, err)
		values, tweaks := make([][]uint16, 256), make([][]byte, 256)
		for i := range values {
			values[i], tweaks[i] = []uint16{1, 2, 3, 4, 5, 6}, make([]byte, 12)
		}
		for b.Loop() {
			if err := ff.EncryptBatch(values, tweaks); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(values)), "ns/token")
	})
}
