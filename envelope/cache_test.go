package envelope

import (
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func never() bool { return false }

// intact checks that the table and the ring of every shard agree, and that every
// bucket knows how many entries passed it.
func (c *keyCache) intact(t *testing.T) (n int) {
	t.Helper()
	for i := range c.shards {
		s := &c.shards[i]
		require.LessOrEqual(t, len(s.ring), s.max)
		table := s.table.Load()
		mask := uint32(len(table.buckets) - 1)
		past := make([]uint32, len(table.buckets))
		entries := 0
		for j := range table.buckets {
			b := &table.buckets[j]
			for slot := range b.sets {
				set := b.sets[slot].Load()
				if set == nil {
					continue
				}
				entries++
				hash := c.hashOf(set)
				require.Equal(t, i, c.shardOf(hash))
				require.Equal(t, tagOf(hash), b.tags[slot].Load())
				require.Same(t, set, s.ring[set.at])
				for at := table.home(hash); at != uint32(j); at = (at + 1) & mask {
					past[at]++
				}
			}
		}
		for j := range table.buckets {
			require.Equal(t, past[j], table.buckets[j].past.Load())
		}
		require.Len(t, s.ring, entries)
		n += entries
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
					c.drop(func(s *keySet) bool { return s.ref().kind == "a" })
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

// A get without a lock finds what is there all the while others are put and
// removed and tables grow, and never what was deleted before it began.
func TestCacheReadsWithoutALock(t *testing.T) {
	c := newKeyCache(100_000)
	stays, goes := keyRef{kind: "k", id: "stays"}, keyRef{kind: "k", id: "goes"}
	require.True(t, c.put(stays, &keySet{expires: 1}, never))
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for i := range 20_000 {
			ref := keyRef{kind: "k", id: strconv.Itoa(i)}
			c.put(ref, &keySet{expires: 1}, never)
			if i%3 == 0 {
				c.del(ref)
			}
			c.put(goes, &keySet{expires: 1}, never)
			c.del(goes)
			if c.get(&goes, 0) != nil {
				t.Error("deleted, and still there")
			}
		}
	})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if c.get(&stays, 0) == nil {
					t.Error("not found while others changed")
					return
				}
				if set := c.get(&goes, 0); set != nil && string(set.id[:set.idLen]) != goes.id {
					t.Error("another's keys")
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, 20_000-6667+1, c.intact(t))
}

// A hit reads two lines of the processor's cache.
func TestSizeOfCachedThings(t *testing.T) {
	if strconv.IntSize != 64 {
		t.Skip("of processors with pointers of 64 bits")
	}
	require.EqualValues(t, 128, reflect.TypeFor[keySet]().Size())
	require.EqualValues(t, 64, reflect.TypeFor[bucket]().Size())
}
