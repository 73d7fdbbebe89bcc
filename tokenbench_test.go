package lethe_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/tokenize"
)

// Card numbers through a tokenizer over a Keyring whose keys are in memory, one by
// one and in a batch of 1,000. The time of a token is that of the quickest of 301
// short runs, which a busy machine left alone, and of their median.
func BenchmarkTokens(b *testing.B) {
	all := tokenizersOf(b, envelopetest.NewKeyring(b))
	for _, name := range []string{"format-preserving", "joinable"} {
		items := make([]tokenize.Item, 1000)
		for i := range items {
			items[i] = tokenize.Item{Subject: tokenize.Subject{Kind: "customer", ID: strconv.Itoa(i)}, Value: testPAN}
		}
		for size := range map[int]bool{1: true, len(items): true} {
			b.Run(name+"/"+strconv.Itoa(size), func(b *testing.B) {
				var times [301]time.Duration
				for i := range times {
					start := time.Now()
					for n := 0; n < 100*size && n < len(items); n += size {
						if err := all[name].Tokenize(b.Context(), items[n:n+size]); err != nil || items[n].Err != nil {
							b.Fatal(err)
						}
					}
					times[i] = time.Since(start)
				}
				slices.Sort(times[:])
				tokens := float64(min(100*size, len(items)))
				b.ReportMetric(float64(times[0].Nanoseconds())/tokens, "min-ns/token")
				b.ReportMetric(float64(times[150].Nanoseconds())/tokens, "median-ns/token")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
