package envelope

import (
	"sync"
	"sync/atomic"
	"time"
)

// coarseClock is a monotonic clock read in about a nanosecond, behind by up to clockTick.
type coarseClock struct {
	start time.Time
	nanos atomic.Int64
	done  chan struct{}
	once  sync.Once
}

const clockTick = 50 * time.Millisecond

func newCoarseClock() *coarseClock {
	c := &coarseClock{start: time.Now(), done: make(chan struct{})}
	go func() {
		t := time.NewTicker(clockTick)
		defer t.Stop()
		for {
			select {
			case <-c.done:
				return
			case <-t.C:
				c.nanos.Store(int64(time.Since(c.start)))
			}
		}
	}()
	return c
}

func (c *coarseClock) now() int64 { return c.nanos.Load() }
func (c *coarseClock) stop()      { c.once.Do(func() { close(c.done) }) }
