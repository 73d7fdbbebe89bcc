package envelope

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func never() bool { return false }

// intact checks that the map, the chains and the ring of every shard agree.
func (c *keyCache) intact(t *testing.T) (n int) {
	t.Helper()
	for i := range c.shards {
		s := &c.shards[i]
		require.LessOrEqual(t, len(s.ring), s.max)
		chained := 0
		for hash, set := range s.m {
			for ; set != nil; set = set.next {
				chained++
				require.Equal(t, hash, set.hash)
				require.Same(t, set, s.ring[set.at])
			}
		}
		require.Len(t, s.ring, chained)
		n += chained
	}
	return n
}

// Random histories against a map: the cache may forget, and gives nothing that
// was not put last. Kinds that share an id share a hash, and so a chain.
func TestCacheAgainstAModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	long := strings.Repeat("x", idRoom)
	ref := func() keyRef {
		id := strconv.Itoa(r.IntN(40))
		if r.IntN(3) == 0 {
			id += long
		}
		return keyRef{[]string{"", "acme"}[r.IntN(2)], []string{"a", "b", "c"}[r.IntN(3)], id, []string{"", "p"}[r.IntN(2)]}
	}
	for _, size := range []int{1, 16, 64, 5000} {
		c, model := newKeyCache(size), map[keyRef]*keySet{}
		for range 20_000 {
			k := ref()
			switch r.IntN(10) {
			case 0:
				c.del(k)
				delete(model, k)
			case 1:
				require.False(t, c.put(k, &keySet{expires: 1}, func() bool { return true }))
			case 2, 3, 4:
				set := &keySet{expires: 1}
				require.True(t, c.put(k, set, never))
				model[k] = set
			case 5:
				if r.IntN(100) == 0 {
					c.drop(func(s *keySet) bool { return s.ref.kind == "a" })
					for k := range model {
						if k.kind == "a" {
							delete(model, k)
						}
					}
				}
			default:
				if got := c.get(&k, 0); got != nil || size == 5000 {
					require.Same(t, model[k], got)
				}
				require.Nil(t, c.get(&k, 1), "expired")
			}
		}
		n := c.intact(t)
		require.LessOrEqual(t, n, size)
		if size == 5000 {
			require.Len(t, model, n)
		}
		c.purge()
		require.Zero(t, c.intact(t))
	}
}

// What is in use stays when something has to go.
func TestCacheEvictsTheUnused(t *testing.T) {
	c := newKeyCache(512)
	hot := keyRef{kind: "k", id: "hot"}
	require.True(t, c.put(hot, &keySet{expires: 1}, never))
	for i := range 10_000 {
		require.NotNil(t, c.get(&hot, 0), i)
		require.True(t, c.put(keyRef{kind: "k", id: strconv.Itoa(i)}, &keySet{expires: 1}, never))
	}
	require.LessOrEqual(t, c.intact(t), 512)
}
