package measure

import (
	"context"
	"runtime"
	"time"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
)

func subject(i int) lethe.Subject { return lethe.Subject{Kind: "customer", ID: id(i)} }

// rotate makes new subject keys, and moves the records of those subjects under them,
// as a job would: read a batch, Rewrap, write it.
func (b *bench) rotate(ctx context.Context) error {
	rotated, start := 0, time.Now()
	for rotated < b.n && (rotated < 3 || !b.over(0, 0.5)) {
		if _, err := b.ring.Rotate(ctx, subject(rotated)); err != nil {
			return err
		}
		rotated++
	}
	b.costs.RotateSubject = mean(time.Since(start), rotated)
	took, done, err := b.job(ctx, rotated, func(sealer *lethe.Sealer[record], rows []record) error {
		if _, err := sealer.RewrapSlice(ctx, rows); err != nil {
			return err
		}
		return b.place.writeKeys(ctx, rows)
	})
	b.costs.Rewrap = mean(took, done)
	return err
}

// reseal puts records under fresh data keys.
func (b *bench) reseal(ctx context.Context) error {
	took, done, err := b.job(ctx, b.n, func(sealer *lethe.Sealer[record], rows []record) error {
		if err := sealer.OpenSlice(ctx, rows); err != nil {
			return err
		}
		for i := range rows {
			if err := sealer.Reseal(ctx, &rows[i]); err != nil {
				return err
			}
		}
		return b.place.writeAll(ctx, rows)
	})
	b.costs.Reseal = mean(took, done)
	return err
}

// job changes the first n records in batches, until the step's time is over. It is
// a process of its own, which has none of the keys in memory.
func (b *bench) job(ctx context.Context, n int, change func(*lethe.Sealer[record], []record) error) (took time.Duration, done int, err error) {
	ring, sealer, err := b.start(ctx, b.place.store)
	if err != nil {
		return 0, 0, err
	}
	defer ring.Close()
	after := ""
	for done < n && (done == 0 || !b.over(0, 1)) {
		start := time.Now()
		rows, err := b.place.read(ctx, after, min(batch, n-done))
		if err != nil || len(rows) == 0 {
			return took, done, err
		}
		after = rows[len(rows)-1].ID
		if err := change(sealer, rows); err != nil {
			return took, done, err
		}
		took, done = took+time.Since(start), done+len(rows)
	}
	return took, done, nil
}

// forget forgets people and closes epochs: one with one person forgotten and one
// with many, from which follow what a close costs by itself, for every page that
// lost a key, and for every page that is checked.
func (b *bench) forget(ctx context.Context) error {
	var took samples
	few, err := b.forgetAndClose(ctx, 0, 1, &took)
	if err != nil {
		return err
	}
	many, err := b.forgetAndClose(ctx, 1, max(2, min(500, b.n/envelope.PageFanOut)-1), &took)
	if err != nil {
		return err
	}
	c := &b.costs
	c.Forget = took.dist()
	c.KMSCallsClose = int(many.calls)
	c.CloseCheck = mean(many.check, many.Checked)
	if more := many.Pages - few.Pages; more > 0 {
		c.CloseDirty = max(0, mean(many.rest()-few.rest(), more))
	}
	c.CloseFixed = max(0, few.rest()-time.Duration(few.Pages)*c.CloseDirty)
	start := time.Now()
	if err := b.ring.RewrapKEK(ctx, b.key); err != nil {
		return err
	}
	c.RewrapKEK = time.Since(start)
	c.KeysPerPage = envelope.PageFanOut
	return nil
}

// closing is a close, and how long its check of all pages took.
type closing struct {
	envelope.Closed
	check time.Duration
	calls int64
}

func (c *closing) rest() time.Duration { return c.Took - c.check }

func (b *bench) forgetAndClose(ctx context.Context, from, n int, took *samples) (closing, error) {
	for i := from; i < from+n; i++ {
		start := time.Now()
		if _, err := b.ring.Forget(ctx, subject(b.n-1-i*envelope.PageFanOut)); err != nil { // one of every page
			return closing{}, err
		}
		took.since(start)
		b.over(0, 1)
	}
	var out closing
	var last, checked time.Time
	calls := b.key.calls.Load()
	closed, err := b.ring.CloseEpoch(ctx, envelope.CloseOptions{Progress: func(p envelope.CloseProgress) {
		if p.Step == "check" {
			checked = time.Now()
		} else {
			last = time.Now()
		}
	}})
	if err != nil {
		return out, err
	}
	out.Closed, out.calls = closed, b.key.calls.Load()-calls
	if !last.IsZero() && checked.After(last) {
		out.check = checked.Sub(last)
	}
	return out, nil
}

// memory measures what a subject takes in the memory of a process.
func (b *bench) memory(ctx context.Context) error {
	ring, sealer, err := b.start(ctx, b.place.store)
	if err != nil {
		return err
	}
	defer ring.Close()
	before := heap()
	n, after := 0, ""
	for n < b.n && (n == 0 || !b.over(0, 1)) {
		rows, err := b.place.read(ctx, after, batch)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		after = rows[len(rows)-1].ID
		if err := sealer.OpenSlice(ctx, rows); err != nil {
			return err
		}
		n += len(rows)
	}
	if n > 0 {
		b.costs.KeyMemory = max(0, (heap()-before)/float64(n))
	}
	runtime.KeepAlive(sealer)
	return nil
}

// heap is what lives on the heap.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
