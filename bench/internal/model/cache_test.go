package model

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCacheUseByHand(t *testing.T) {
	// One key, 2 operations a second, TTL 5 s: 2/(1+10) loads a second.
	u := Cache{TTL: 5 * time.Second, Size: 10}.Use(Access{}, 1, 2)
	require.InDelta(t, 2.0/11, u.Misses, 1e-12)
	require.InDelta(t, 10.0/11, u.Hits, 1e-12)
	require.InDelta(t, 10.0/11, u.Entries, 1e-12)
	require.False(t, u.Bound)

	// Four keys alike, 8 operations a second: each as above.
	u = Cache{TTL: 5 * time.Second, Size: 10}.Use(Access{}, 4, 8)
	require.InDelta(t, 4*2.0/11, u.Misses, 1e-12)
	require.InDelta(t, 4*10.0/11, u.Entries, 1e-12)

	// Room for one of four: τ such that 4*2τ/(1+2τ) = 1, so 2τ = 1/3 and a hit rate of 1/4.
	u = Cache{TTL: 5 * time.Second, Size: 1}.Use(Access{}, 4, 8)
	require.True(t, u.Bound)
	require.InDelta(t, 1, u.Entries, 1e-6)
	require.InDelta(t, 0.25, u.Hits, 1e-6)
	require.InDelta(t, 6, u.Misses, 1e-5)

	require.Equal(t, CacheUse{Hits: 1}, Cache{TTL: time.Second}.Use(Access{}, 4, 0))
}

func TestZipfGroupsAreTheSum(t *testing.T) {
	for _, s := range []float64{0, 0.5, 0.8, 1, 1.4} {
		for _, n := range []float64{1, 7, 100, 101, 1000, 50_000} {
			h := 0.0
			for i := 1.0; i <= n; i++ {
				h += math.Pow(i, -s)
			}
			a := Access{Exponent: s}
			require.InEpsilon(t, 1/h, a.TopShare(n), 1e-5, "s %v n %v", s, n)
			keys, sum := 0.0, 0.0
			for _, g := range a.groups(n) {
				keys += g.n
				sum += g.n * g.share
			}
			require.InDelta(t, n, keys, 1e-6)
			require.InDelta(t, 1, sum, 1e-9)
		}
	}
	require.NotPanics(t, func() { Access{Exponent: 0.8}.groups(1e10) })
}

// The formula against a cache that is played through, bounded by TTL and by size.
func TestCacheUseAgainstSimulation(t *testing.T) {
	const n, rate = 2000, 300.0
	for name, c := range map[string]Cache{"ttl": {TTL: 20 * time.Second, Size: n}, "size": {TTL: time.Hour, Size: 200}} {
		t.Run(name, func(t *testing.T) {
			a := Access{Exponent: 0.8}
			want := c.Use(a, n, rate)
			misses, calls := simulate(c, a, n, rate, 400_000)
			require.InDelta(t, want.Hits, 1-float64(misses)/float64(calls), 0.02)
		})
	}
}

// simulate plays a first-in-first-out cache with a TTL.
func simulate(c Cache, a Access, n int, rate float64, calls int) (misses, counted int) {
	random := rand.New(rand.NewPCG(1, 2))
	cumulated := make([]float64, n)
	sum := 0.0
	for i := range cumulated {
		sum += math.Pow(float64(i+1), -a.Exponent)
		cumulated[i] = sum
	}
	loaded, now := map[int]float64{}, 0.0
	var queue []int
	for call := range calls {
		now += random.ExpFloat64() / rate
		at := random.Float64() * sum
		low, high := 0, n-1
		for low < high {
			if mid := (low + high) / 2; cumulated[mid] < at {
				low = mid + 1
			} else {
				high = mid
			}
		}
		for len(queue) > 0 && (now-loaded[queue[0]] > c.TTL.Seconds()) {
			delete(loaded, queue[0])
			queue = queue[1:]
		}
		_, hit := loaded[low]
		if !hit {
			if len(queue) >= int(c.Size) {
				delete(loaded, queue[0])
				queue = queue[1:]
			}
			loaded[low] = now
			queue = append(queue, low)
		}
		if call > calls/4 { // the cache is filled by then
			counted++
			if !hit {
				misses++
			}
		}
	}
	return misses, counted
}

// More TTL, more room or fewer keys never miss more.
func TestCacheUseIsMonotonic(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		a := Access{Exponent: random.Float64() * 1.3}
		n, rate := math.Pow(10, random.Float64()*8), math.Pow(10, random.Float64()*5-1)
		c := Cache{TTL: time.Duration(1e9 * math.Pow(10, random.Float64()*4)), Size: math.Pow(10, 1+random.Float64()*5)}
		u := c.Use(a, n, rate)
		require.GreaterOrEqual(t, u.Hits, 0.0)
		require.LessOrEqual(t, u.Hits, 1.0)
		require.LessOrEqual(t, u.Entries, c.Size*(1+1e-6))
		require.LessOrEqual(t, u.Misses, rate*(1+1e-9))
		more := c
		more.TTL *= 2
		require.LessOrEqual(t, more.Use(a, n, rate).Misses, u.Misses*(1+1e-6))
		more = c
		more.Size *= 2
		require.LessOrEqual(t, more.Use(a, n, rate).Misses, u.Misses*(1+1e-6))
		require.GreaterOrEqual(t, c.Use(a, n*2, rate).Misses, u.Misses*(1-1e-3))
	}
}

func TestDistinct(t *testing.T) {
	// 10 keys, 10 operations a second, 1 s: 10(1-1/e).
	require.InDelta(t, 10*(1-1/math.E), Access{}.Distinct(10, 10, time.Second), 1e-9)
	require.InDelta(t, 1, Access{}.Distinct(1, 1e6, time.Second), 1e-9)
	require.Zero(t, Access{}.Distinct(10, 0, time.Second))
	// Of very many, every operation meets another.
	require.InEpsilon(t, 50, Access{}.Distinct(1e9, 50, time.Second), 1e-6)
}
