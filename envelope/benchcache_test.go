package envelope

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkCacheHit looks keys up in random order, so that most wait for memory
// once there are many: as long as the bare map[string]*T of the same size shows.
func BenchmarkCacheHit(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			c := newKeyCache(2 * n)
			refs := make([]keyRef, n)
			for i := range refs {
				refs[i] = keyRef{kind: "customer", id: fmt.Sprint("cus_", i)}
				aead, err := SuiteAES256GCM.aead(newKey())
				if err != nil {
					b.Fatal(err)
				}
				set := &keySet{expires: 1 << 62, newest: subjectKey{kid: KeyID{1}, suite: SuiteAES256GCM, aead: aead}}
				c.put(refs[i], set, func() bool { return false })
			}
			order := rand.New(rand.NewPCG(1, 2)).Perm(n)
			asked := make([]keyRef, n) // in that order: the question itself is at hand
			for i, at := range order {
				asked[i] = keyRef{kind: refs[at].kind, id: strings.Clone(refs[at].id)}
			}
			bare := make(map[string]*int64, n)
			for i := range refs {
				bare[refs[i].id] = new(int64)
			}
			var took [2][]float64 // blocks in turns: the cache, the map
			const block = 1000
			i := 0
			for b.Loop() {
				start := time.Now()
				for j := range block {
					if c.get(&asked[i+j], 0) == nil {
						b.Fatal("not there")
					}
				}
				took[0] = append(took[0], float64(time.Since(start))/block)
				i = (i + block) % n
				start = time.Now()
				for j := range block {
					if *bare[asked[i+j].id] != 0 {
						b.Fatal("not there")
					}
				}
				took[1] = append(took[1], float64(time.Since(start))/block)
				i = (i + block) % n
			}
			b.ReportMetric(0, "ns/op")
			for side, unit := range []string{"ns/hit", "ns/map"} {
				slices.Sort(took[side])
				b.ReportMetric(took[side][len(took[side])/2], unit)
			}
		})
	}
}
