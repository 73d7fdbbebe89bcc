package lethe_test

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// scaling measures what two goroutines do together against one, in turns, and
// the same of the floor. Each goroutine has an operation of its own, over shared
// keys. The figures are of the quickest tenth of the blocks, when nobody else had
// the second processor; what is still lost to others shows in the floor's figure.
func scaling(b *testing.B, ours, other [2]operation) {
	if runtime.GOMAXPROCS(0) < 2 {
		b.Skip("needs two processors")
	}
	const single, pair = 0, 1
	var took [2][2][]time.Duration // by side, then single or pair
	n := 0
	for b.Loop() {
		for side, ops := range [][2]operation{ours, other} {
			took[side][single] = append(took[side][single], together(ops[:1], n))
			took[side][pair] = append(took[side][pair], together(ops[:], n))
		}
		n = (n + 2*benchBlock) % benchSubjects
	}
	b.ReportMetric(0, "ns/op")
	for side, name := range []string{"lethe-x", "floor-x"} {
		b.ReportMetric(2*tenthOf(took[side][single])/tenthOf(took[side][pair]), name)
	}
}

func tenthOf(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/10])
}

// together runs a block of each operation, each on a processor of its own: all
// start once the last is ready, and the time is until the last is done.
func together(ops []operation, n int) time.Duration {
	var ready atomic.Int32
	var done sync.WaitGroup
	ends := make([]time.Time, len(ops))
	starts := make([]time.Time, len(ops))
	for i, op := range ops {
		done.Go(func() {
			for slot := range benchBlock {
				op.make(slot, benchOrder[(n+i*benchBlock+slot)%benchSubjects])
			}
			ready.Add(1)
			for int(ready.Load()) < len(ops) { // a short spin: a sleeper would start late
			}
			starts[i] = time.Now()
			for slot := range benchBlock {
				op.run(slot)
			}
			ends[i] = time.Now()
		})
	}
	done.Wait()
	first, last := starts[0], ends[0]
	for i := range ops {
		if starts[i].Before(first) {
			first = starts[i]
		}
		if ends[i].After(last) {
			last = ends[i]
		}
	}
	return last.Sub(first)
}

func BenchmarkSeal5TwoGoroutines(b *testing.B) {
	s, sealed := benchSealer(b)
	scaling(b, [2]operation{sealWith(b, s, sealed), sealWith(b, s, sealed)}, [2]operation{floor{}.sealOne(b), floor{}.sealOne(b)})
}

func BenchmarkOpen5TwoGoroutines(b *testing.B) {
	s, sealed := benchSealer(b)
	scaling(b, [2]operation{openWith(b, s, sealed), openWith(b, s, sealed)}, [2]operation{floor{}.openOne(b), floor{}.openOne(b)})
}
