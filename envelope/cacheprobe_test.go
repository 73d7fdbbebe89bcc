package envelope

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Entries come and go until others had to pass every bucket, though the table has
// room. A miss ends all the same.
func TestCacheMissEnds(t *testing.T) {
	const home = 2
	table := newCacheTable(home)
	at := func(home uint32, n int) (out []*keySet) {
		for i := range n {
			set := &keySet{}
			set.setRef(&keyRef{kind: "k", id: strconv.Itoa(int(home)*100 + i)})
			table.insert(uint64(home), set)
			out = append(out, set)
		}
		return out
	}
	first := at(0, bucketRoom+1) // one had to pass
	for _, set := range first[:bucketRoom] {
		table.replace(0, set, nil)
	}
	at(1, bucketRoom) // and one here
	for i := range table.buckets {
		require.NotZero(t, table.buckets[i].past.Load())
	}
	ends(t, func() { require.Nil(t, table.find(0, &keyRef{kind: "k", id: "nobody"})) })
}

// A small cache that is full for long.
func TestCacheChurnEnds(t *testing.T) {
	for _, size := range []int{4, 6, 12} {
		c := newKeyCache(size)
		r := rand.New(rand.NewPCG(1, uint64(size)))
		ends(t, func() {
			for range 200_000 {
				ref := keyRef{kind: "k", id: strconv.Itoa(r.IntN(1000))}
				if c.get(&ref, 0) == nil {
					c.put(ref, &keySet{expires: 1}, never)
				}
			}
		})
		require.Equal(t, size, c.intact(t))
	}
}

func ends(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
}
