package sqlstore_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/tokenize"
)

// Random tokens in batches of 1,000, one for each of 1,000 subjects of a real
// Keyring, through everything a program calls. "warm" has the subjects' keys in
// memory, "cold" makes new ones (in a key store in memory). The metrics are those
// of the median and of the quickest batch.
func BenchmarkRandom(b *testing.B) {
	for name, fresh := range map[string]func(t testing.TB) opener{"sqlite": newSQLite, "postgres": newPostgres} {
		b.Run(name, func(b *testing.B) {
			s := fresh(b)(b)
			require.NoError(b, s.Migrate(b.Context()))
			r, err := tokenize.NewRandom(tokenize.RandomOptions{Name: "pan", Keys: lethe.TokenKeys(envelopetest.NewKeyring(b)), Store: s})
			require.NoError(b, err)
			items := func(from int) []tokenize.Item {
				out := make([]tokenize.Item, 1000)
				for i := range out {
					out[i] = tokenize.Item{Subject: tokenize.Subject{Kind: "customer", ID: strconv.Itoa(from + i)}, Value: "4111111111111111"}
				}
				return out
			}
			warm := items(0)
			require.NoError(b, r.Tokenize(b.Context(), warm))
			b.Run("tokenize warm", func(b *testing.B) {
				batches(b, func(int) error { return r.Tokenize(b.Context(), warm) })
			})
			b.Run("detokenize warm", func(b *testing.B) {
				batches(b, func(int) error {
					err := r.Detokenize(b.Context(), warm)
					if err == nil {
						err = warm[0].Err
					}
					return err
				})
			})
			b.Run("tokenize cold", func(b *testing.B) {
				batches(b, func(n int) error { return r.Tokenize(b.Context(), items(1000*(n+1))) })
			})
		})
	}
}

func batches(b *testing.B, op func(n int) error) {
	b.Helper()
	var times [60]time.Duration
	for i := range times {
		start := time.Now()
		if err := op(i); err != nil {
			b.Fatal(err)
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times[:])
	b.ReportMetric(1000/times[len(times)/2].Seconds(), "median-tokens/s")
	b.ReportMetric(1000/times[0].Seconds(), "best-tokens/s")
	b.ReportMetric(0, "ns/op")
}
