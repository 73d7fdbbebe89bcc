package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/bench/peers/internal/machine"
)

// Every curve is measured and drawn, on very little.
func TestCurves(t *testing.T) {
	c := config{rounds: 1, records: 100, subjects: 1000, table: 300, work: t.TempDir(), progress: t.Logf}
	dir, m := t.TempDir(), machine.Machine{StartedAt: "2026-01-02T03:04:05Z"}
	r, err := resume(dir, m)
	require.NoError(t, err)
	for _, measure := range []func(context.Context, config) (Curve, error){bySubjects, byFields, bySize, byGoroutines, byHits} {
		curve, err := measure(t.Context(), c)
		require.NoError(t, err)
		for _, s := range curve.Series {
			require.Len(t, s.Points, len(curve.Series[0].Points), s.Name)
			for _, p := range s.Points {
				require.Positive(t, p.Wall, "%s: %s at %g", curve.Name, s.Name, p.X)
			}
		}
		require.NoError(t, r.add(curve, dir, dir))
	}
	again, err := resume(dir, m)
	require.NoError(t, err)
	require.Equal(t, r, again)
	require.NoError(t, again.add(Curve{Name: "hits", Series: r.Curves[4].Series}, dir, dir))
	require.Len(t, again.Curves, 5)
}

// hits misses as often as it is asked to: seen by the store's queries.
func TestHitsHaveTheShareAskedFor(t *testing.T) {
	c := config{work: t.TempDir()}
	const subjects = 2000
	w, err := newWorld(t.Context(), c, false, subjects)
	require.NoError(t, err)
	ring, err := w.ring(t.Context())
	require.NoError(t, err)
	tab, err := newTable(ring, parts5, fiftyThree)
	require.NoError(t, err)
	stored, err := tab.sealed(t.Context(), ids("cus_", subjects))
	require.NoError(t, err)
	ring.Close()
	counting := &countingStore{Store: w.store}
	w.store = counting
	for share, misses := range map[float64]int{1: 0, 0.9: 100, 0.5: 500, 0: 1000} {
		counting.keys = 0
		_, err := hits(t.Context(), w, tab, stored, 1000, share)
		require.NoError(t, err)
		warmUp := 1
		require.Equal(t, misses+warmUp, counting.keys, "share %g", share)
	}
}
