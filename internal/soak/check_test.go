package soak

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
)

// check stops the world and its faults, and holds every row against the model in
// every process. All must say the same of it.
func (w *soak) check() usage {
	w.running.Lock()
	defer w.running.Unlock()
	w.faults.Store(false)
	w.setStores(false)
	for _, f := range w.fakes {
		f.SetOutage(false)
		f.SetLying(false)
		f.SetLatency(0)
		f.Release()
	}
	ctx := context.Background()
	p := w.processes[0].Load()
	for i := range w.slots {
		w.settle(ctx, p, w.slots[i].Load())
	}
	time.Sleep(grace + 100*time.Millisecond)
	for i := range w.slots {
		w.checkSlot(ctx, w.slots[i].Load())
	}
	for i := range w.slots { // the next subject takes over
		if s := w.slots[i].Load(); len(s.events) >= slotEvents/2 || len(s.records) >= slotRecords {
			w.slots[i].Store(w.newSlot())
		}
	}
	w.count("checks")
	return w.measure()
}

// patiently repeats a call until what faults left behind is over.
func (w *soak) patiently(s *slot, what string, call func() error) {
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := call()
		if err == nil {
			return
		}
		if !errors.Is(err, lethe.ErrUnavailable) && !errors.Is(err, envelope.ErrWrongKey) {
			w.violatedf(s, "%s, without faults: %v", what, err)
			return
		}
		if time.Since(begun) > 10*time.Second {
			w.violatedf(s, "%s, without faults for %v: %v", what, time.Since(begun), err)
			return
		}
	}
}

// settle repeats what was left open.
func (w *soak) settle(ctx context.Context, p *process, s *slot) {
	open := s.unresolved()
	if open == nil {
		return
	}
	subject := lethe.Subject{Kind: "person", ID: s.subject}
	e := &event{readmit: open.readmit, scope: open.scope, ring: p.id, start: w.now(), outcome: done}
	w.patiently(s, "settling", func() (err error) {
		switch {
		case e.readmit && e.scope == whole:
			err = p.ring.Readmit(ctx, subject)
		case e.readmit:
			err = p.ring.ReadmitPurpose(ctx, subject, e.scope)
		case e.scope == whole:
			_, err = p.ring.Forget(ctx, subject)
		default:
			_, err = p.ring.ForgetPurpose(ctx, subject, e.scope)
		}
		if e.readmit && errors.Is(err, lethe.ErrForgotten) && s.mayRefuse("", e.start, w.now()) {
			e.outcome = unknown
			return nil
		}
		if e.readmit && errors.Is(err, envelope.ErrNotForgotten) {
			return nil
		}
		return err
	})
	e.end = w.now()
	for _, x := range s.events {
		x.end = min(x.end, e.end)
	}
	s.events = append(s.events, e)
}

func (w *soak) checkSlot(ctx context.Context, s *slot) {
	rows := make([][]person, processes)
	for i := range w.processes {
		p := w.processes[i].Load()
		rows[i] = make([]person, len(s.records))
		start := w.now()
		w.patiently(s, fmt.Sprintf("OpenSlice by ring %d", p.id), func() error {
			for j, r := range s.records {
				rows[i][j] = r.row
			}
			start = w.now()
			return p.sealer.OpenSlice(ctx, rows[i])
		})
		if w.stop.Load() && w.t.Failed() {
			return
		}
		end := w.now()
		for j, r := range s.records {
			states := w.opened(ctx, "a check", p, r, &rows[i][j], r.email, r.offer, start, end, nil)
			if first := [2]lethe.Status{rows[0][j].Email.Status(), rows[0][j].Offer.Status()}; states != first {
				w.violatedf(s, "ring %d says %v of record %d, the first %v", p.id, states, j, first)
			}
			for _, st := range states {
				w.count(fmt.Sprintf("checked: %v", st))
			}
		}
	}
	w.checkSeal(ctx, s)
}

// checkSeal: whoever was never forgotten, or was readmitted, can be sealed for, and nobody else.
func (w *soak) checkSeal(ctx context.Context, s *slot) {
	p := w.processes[len(s.records)%processes].Load()
	row := person{Row: "last", ID: s.subject, Email: lethe.Of("e"), Offer: lethe.Of("o")}
	var refused bool
	start := w.now()
	w.patiently(s, "Seal", func() error {
		err := p.sealer.Seal(ctx, &row)
		if refused = errors.Is(err, lethe.ErrForgotten); refused {
			return nil
		}
		return err
	})
	must, may := false, false
	for _, purpose := range []string{"", marketing} {
		must = must || s.mustRefuse(purpose, p.id, start)
		may = may || s.mayRefuse(purpose, start, w.now())
	}
	if refused && !may || !refused && must {
		w.violatedf(s, "at a check, Seal by ring %d says forgotten: %v", p.id, refused)
	}
}
