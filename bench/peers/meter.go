package peers

import (
	"runtime"
	"time"
)

// Meter measures parts of a loop: what is between Start and Stop. It does for
// short parts what StopTimer of a benchmark does too slowly.
type Meter struct {
	wall, cpu         time.Duration
	wallAt            time.Time
	cpuAt             time.Duration
	bytes, objects    uint64
	bytesAt, objectAt uint64
}

// Begin counts allocations from here on. Those between Stop and Start count too,
// so the loop must make none there.
func (m *Meter) Begin() { m.bytesAt, m.objectAt = allocated() }

// End counts allocations until here.
func (m *Meter) End() {
	bytes, objects := allocated()
	m.bytes, m.objects = bytes-m.bytesAt, objects-m.objectAt
}

// Start starts the clocks.
func (m *Meter) Start() { m.cpuAt, m.wallAt = CPUTime(), time.Now() }

// Stop stops them.
func (m *Meter) Stop() {
	m.wall += time.Since(m.wallAt)
	m.cpu += CPUTime() - m.cpuAt
}

// Report gives what was measured, for each of n operations, by the units of Go's
// benchmarks: ns/op, cpu-ns/op, B/op and allocs/op.
func (m *Meter) Report(n int, metric func(value float64, unit string)) {
	each := func(v float64) float64 { return v / float64(n) }
	metric(each(float64(m.wall)), "ns/op")
	metric(each(float64(m.cpu)), "cpu-ns/op")
	metric(each(float64(m.bytes)), "B/op")
	metric(each(float64(m.objects)), "allocs/op")
}

func allocated() (bytes, objects uint64) {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc, stats.Mallocs
}

// Times returns the time on the wall and on processors until now.
func (m *Meter) Times() (wall, cpu time.Duration) { return m.wall, m.cpu }
