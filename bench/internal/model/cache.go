package model

import (
	"math"
	"time"
)

// Access says how operations spread over keys.
type Access struct {
	// Exponent s of a Zipf distribution: the key of rank i gets a share of the
	// operations proportional to i^-s. 0 is the uniform distribution.
	Exponent float64 `json:"exponent"`
}

// group is some neighbouring ranks that are counted as alike.
type group struct {
	n     float64 // how many keys
	share float64 // of all operations, of each
}

// Ranks below exactRanks are counted one by one, the others in groups whose ends
// are groupGrowth apart.
const (
	exactRanks  = 100
	groupGrowth = 1.05
)

// groups splits n keys into groups whose shares sum to 1. The sum of i^-s over a
// group is the integral from half a rank before it to half a rank after it
// (midpoint rule; the error is below 10^-5 of the sum from rank 100 on).
func (a Access) groups(n float64) []group {
	n = math.Max(1, math.Floor(n))
	if a.Exponent == 0 {
		return []group{{n, 1 / n}}
	}
	var out []group
	total := 0.0
	for i := 1.0; i <= math.Min(n, exactRanks); i++ {
		w := math.Pow(i, -a.Exponent)
		out = append(out, group{1, w})
		total += w
	}
	for from := float64(exactRanks + 1); from <= n; {
		to := math.Min(n, math.Max(from, math.Floor(from*groupGrowth)))
		w := powerIntegral(from-0.5, to+0.5, a.Exponent)
		k := to - from + 1
		out = append(out, group{k, w / k})
		total += w
		from = to + 1
	}
	for i := range out {
		out[i].share /= total
	}
	return out
}

// powerIntegral is the integral of x^-s from a to b.
func powerIntegral(a, b, s float64) float64 {
	if s == 1 {
		return math.Log(b / a)
	}
	return (math.Pow(b, 1-s) - math.Pow(a, 1-s)) / (1 - s)
}

// TopShare is the share of the operations that the most used of n keys gets:
// 1/H(n,s), where H is the generalised harmonic number.
func (a Access) TopShare(n float64) float64 { return a.groups(n)[0].share }

// Cache is a process's cache of keys: an entry lives TTL from the time it was
// loaded, whether it is used or not, and there are Size at most.
type Cache struct {
	TTL  time.Duration `json:"ttl"`
	Size float64       `json:"size"`
}

// CacheUse is what a Cache does under a load.
type CacheUse struct {
	Misses  float64 // a second
	Hits    float64 // share of the operations, 0 to 1
	Entries float64 // in the cache, on average
	// Bound: the cache's size, not its TTL, decides how long an entry lives.
	Bound bool
}

// Use computes how a cache does when perSecond operations spread over n keys.
//
// An entry that lives τ from its load, of a key asked for as a Poisson process of
// rate λ, is loaded λ/(1+λτ) times a second and is in the cache λτ/(1+λτ) of the
// time: a renewal process of a miss, τ of hits, and 1/λ until the next miss. Source:
// Jung, Berger, Balakrishnan, "Modeling TTL-based Internet caches", INFOCOM 2003.
//
// Where Size is too small, τ is the characteristic time at which the mean number of
// entries is Size: Che's approximation (Che, Tung, Wang, "Hierarchical Web caching
// systems", IEEE JSAC 20(7), 2002), in its form for caches that do not renew an
// entry at a hit (Martina, Garetto, Leonardi, "A unified approach to the performance
// analysis of caching systems", INFOCOM 2014, arXiv:1307.6702, FIFO and RANDOM).
// Lethe evicts by second chance, which keeps what is used more often.
func (c Cache) Use(a Access, n, perSecond float64) CacheUse {
	if perSecond <= 0 || n <= 0 {
		return CacheUse{Hits: 1}
	}
	gs := a.groups(n)
	entries := func(ttl float64) (sum float64) {
		for _, g := range gs {
			x := perSecond * g.share * ttl
			sum += g.n * x / (1 + x)
		}
		return sum
	}
	ttl, u := c.TTL.Seconds(), CacheUse{}
	if c.Size > 0 && entries(ttl) > c.Size {
		u.Bound = true
		low, high := 0.0, ttl
		for range 50 {
			if mid := (low + high) / 2; entries(mid) > c.Size {
				high = mid
			} else {
				low = mid
			}
		}
		ttl = low
	}
	u.Entries = entries(ttl)
	for _, g := range gs {
		rate := perSecond * g.share
		u.Misses += g.n * rate / (1 + rate*ttl)
	}
	u.Hits = math.Max(0, 1-u.Misses/perSecond)
	return u
}

// Distinct is the expected number of the n keys that are asked for within d:
// the sum of 1-exp(-λd). It is what a cache that starts empty must load.
func (a Access) Distinct(n, perSecond float64, d time.Duration) (sum float64) {
	if perSecond <= 0 || n <= 0 {
		return 0
	}
	for _, g := range a.groups(n) {
		sum += g.n * -math.Expm1(-perSecond*g.share*d.Seconds())
	}
	return sum
}
