package envelope_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

// A cached subject takes at most 1.2 KB, pages of the key tree included.
func TestMemoryOfACachedSubject(t *testing.T) {
	const subjects, batch, most = 100_000, 10_000, 1200
	w := newWorld(t)
	first := w.ring(t)
	sealed := make([]envelope.Record, subjects)
	for i := range sealed {
		sealed[i] = record(fmt.Sprint("cus_", i), "v")
	}
	require.NoError(t, first.SealRecords(t.Context(), sealed))
	first.Close()
	ring := w.ring(t, func(o *envelope.Options) { o.CacheSize = 2 * subjects })
	before := heap()
	for i := 0; i < subjects; i += batch {
		recs := make([]envelope.Record, batch)
		for j := range recs {
			recs[j] = sealedOnly(sealed[i+j])
		}
		require.NoError(t, ring.OpenRecords(t.Context(), recs))
	}
	each := float64(heap()-before) / subjects
	t.Logf("%.0f bytes per cached subject", each)
	require.LessOrEqual(t, each, float64(most))
	calls := w.key.decrypts.Load()
	recs := []envelope.Record{sealedOnly(sealed[0]), sealedOnly(sealed[subjects-1])}
	require.NoError(t, ring.OpenRecords(t.Context(), recs)) // and keeps the ring alive
	require.NoError(t, recs[0].Cells[0].Err)
	require.Equal(t, calls, w.key.decrypts.Load())
	runtime.KeepAlive(sealed)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools let go at the second
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
