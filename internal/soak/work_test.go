package soak

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
)

func sortedKeys(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }

const (
	slotRecords = 10
	slotEvents  = 12
)

// work makes calls until the soak stops.
func (w *soak) work(rng *rand.Rand) {
	for !w.stop.Load() {
		w.running.RLock()
		w.step(rng)
		w.running.RUnlock()
	}
}

// step makes one call, whose choices and nothing else come from rng.
func (w *soak) step(rng *rand.Rand) {
	at := rng.IntN(processes)
	p := w.processes[at].Load()
	s := w.slots[rng.IntN(slots)].Load()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if rng.IntN(12) == 0 {
		t := time.AfterFunc(time.Duration(rng.IntN(4000))*time.Microsecond, cancel)
		defer t.Stop()
	}
	start := w.now()
	n := rng.IntN(1000)
	var name string
	switch {
	case n < 200:
		name = "Seal"
		w.seal(ctx, rng, p, s)
	case n < 270:
		name = "SealSlice"
		w.sealSlice(ctx, rng, p)
	case n < 560:
		name = "Open"
		w.open(ctx, rng, p, s)
	case n < 680:
		name = "OpenSlice"
		w.openSlice(ctx, rng, p)
	case n < 740:
		name = "update"
		w.update(ctx, rng, p, s)
	case n < 780:
		name = "Query"
		w.query(ctx, rng, p, s)
	case n < 830:
		name = "Rotate"
		w.rotate(ctx, p, s)
	case n < 900:
		name = "RewrapSlice"
		w.rewrap(ctx, p, s)
	case n < 940:
		name = "Forget"
		w.change(ctx, rng, p, s, false)
	case n < 990:
		name = "Readmit"
		w.change(ctx, rng, p, s, true)
	case n < 995:
		name = "RewrapKEK"
		w.rewrapKEK(ctx, rng, p)
	default:
		name = "restart"
		w.restart(ctx, at, p)
	}
	if took := time.Duration(w.now() - start); took > longest {
		w.violatedf(s, "%s took %v", name, took)
	}
}

// excused reports whether an error is one that faults, a cancelled context, or a
// process that ends may cause, and counts it.
func (w *soak) excused(ctx context.Context, p *process, name string, start moment, err error) bool {
	if err == nil {
		w.count(name + ": ok")
		return false
	}
	switch {
	case errors.Is(err, lethe.ErrDecrypt):
		return false
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		w.count(name + ": cancelled")
	case errors.Is(err, lethe.ErrUnavailable):
		w.count(name + ": unavailable")
	case errors.Is(err, envelope.ErrClosed), errors.Is(err, envelope.ErrLedger) && p.ended.Load():
		w.count(name + ": closed")
	case errors.Is(err, envelope.ErrWrongKey) && moment(w.lied.Load()) >= start.after(-time.Second):
		w.count(name + ": wrong key, the KMS lied")
	default:
		return false
	}
	return true
}

func newPerson(s *slot, rng *rand.Rand) (person, string, string) {
	email, offer := fmt.Sprintf("%x@example.com", rng.Uint64()), fmt.Sprintf("offer %x", rng.Uint64())
	return person{Row: fmt.Sprintf("row-%x", rng.Uint64()), ID: s.subject, Email: lethe.Of(email), Offer: lethe.Of(offer)}, email, offer
}

func (s *slot) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.records) >= slotRecords
}

func (w *soak) seal(ctx context.Context, rng *rand.Rand, p *process, s *slot) {
	if s.full() {
		w.open(ctx, rng, p, s)
		return
	}
	row, email, offer := newPerson(s, rng)
	start := w.now()
	err := p.sealer.Seal(ctx, &row)
	w.sealed(ctx, "Seal", p, []*slot{s}, []person{row}, [][2]string{{email, offer}}, start, err)
}

func (w *soak) sealSlice(ctx context.Context, rng *rand.Rand, p *process) {
	var of []*slot
	var rows []person
	var values [][2]string
	for range 2 + rng.IntN(6) {
		s := w.slots[rng.IntN(slots)].Load()
		if s.full() {
			continue
		}
		row, email, offer := newPerson(s, rng)
		of, rows, values = append(of, s), append(rows, row), append(values, [2]string{email, offer})
	}
	start := w.now()
	err := p.sealer.SealSlice(ctx, rows)
	w.sealed(ctx, "SealSlice", p, of, rows, values, start, err)
}

// sealed judges what a seal of new rows did, and keeps the rows.
func (w *soak) sealed(ctx context.Context, name string, p *process, of []*slot, rows []person, values [][2]string, start moment, err error) {
	end := w.now()
	if err != nil {
		for i := range rows {
			if !rows[i].fresh() {
				w.violatedf(of[i], "%s failed (%v) and changed row %d", name, err, i)
			}
		}
		if w.excused(ctx, p, name, start, err) {
			return
		}
		may := errors.Is(err, lethe.ErrForgotten) && slices.ContainsFunc(of, func(s *slot) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.mayRefuse("", start, end) || s.mayRefuse(marketing, start, end)
		})
		if !may {
			w.violatedf(of[0], "%s by ring %d from %v: %v", name, p.id, time.Duration(start), err)
		}
		w.count(name + ": forgotten")
		return
	}
	w.count(name + ": ok")
	for i, s := range of {
		s.mu.Lock()
		for _, purpose := range []string{"", marketing} {
			if s.mustRefuse(purpose, p.id, start) {
				w.violatedf(s, "%s by ring %d from %v: sealed for the forgotten", name, p.id, time.Duration(start))
			}
		}
		if !rows[i].closed() {
			w.violatedf(s, "%s left a row half sealed", name)
		}
		s.records = append(s.records, &record{of: s, row: rows[i], email: values[i][0], offer: values[i][1], ring: p.id, start: start, end: end})
		s.mu.Unlock()
	}
}

// pick returns a record of s, and copies of its row and values.
func (s *slot) pick(rng *rand.Rand) (r *record, row person, email, offer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.records) == 0 {
		return nil, row, "", ""
	}
	r = s.records[rng.IntN(len(s.records))]
	return r, r.row, r.email, r.offer
}

func (w *soak) open(ctx context.Context, rng *rand.Rand, p *process, s *slot) {
	r, row, email, offer := s.pick(rng)
	if r == nil {
		return
	}
	start := w.now()
	err := p.sealer.Open(ctx, &row)
	w.opened(ctx, "Open", p, r, &row, email, offer, start, w.now(), err)
	w.excused(ctx, p, "Open", start, err)
}

func (w *soak) openSlice(ctx context.Context, rng *rand.Rand, p *process) {
	var of []*record
	var rows []person
	var values [][2]string
	for range 2 + rng.IntN(30) {
		if r, row, email, offer := w.slots[rng.IntN(slots)].Load().pick(rng); r != nil {
			of, rows, values = append(of, r), append(rows, row), append(values, [2]string{email, offer})
		}
	}
	start := w.now()
	err := p.sealer.OpenSlice(ctx, rows)
	end := w.now()
	for i := range rows {
		w.opened(ctx, "OpenSlice", p, of[i], &rows[i], values[i][0], values[i][1], start, end, err)
	}
	w.excused(ctx, p, "OpenSlice", start, err)
}

// opened judges a row after an Open, and says what its fields are.
func (w *soak) opened(ctx context.Context, name string, p *process, r *record, row *person, email, offer string, start, end moment, err error) (states [2]lethe.Status) {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	if err != nil {
		if !row.closed() {
			w.violatedf(r.of, "%s failed (%v) and left a row of which a part is open", name, err)
		}
		if !w.excused(ctx, p, name, start, err) {
			w.violatedf(r.of, "%s by ring %d from %v: %v", name, p.id, time.Duration(start), err)
		}
		return states
	}
	for i, f := range []struct {
		purpose, want string
		secret        *lethe.Secret[string]
	}{{"", email, &row.Email}, {marketing, offer, &row.Offer}} {
		states[i] = f.secret.Status()
		got, rerr := f.secret.Reveal()
		switch {
		case states[i] == lethe.StatusOpen && rerr == nil && got != f.want:
			w.violatedf(r.of, "%s by ring %d: a field has another value than was sealed", name, p.id)
		case states[i] == lethe.StatusOpen && rerr == nil:
			if r.mustBeForgotten(f.purpose, p.id, start) {
				w.violatedf(r.of, "%s by ring %d from %v: opened what was forgotten for %q, sealed at %v", name, p.id, time.Duration(start), f.purpose, time.Duration(r.end))
			}
		case states[i] == lethe.StatusForgotten && errors.Is(rerr, lethe.ErrForgotten):
			if !r.mayBeForgotten(f.purpose, end) {
				w.violatedf(r.of, "%s by ring %d from %v: says forgotten for %q, sealed at %v", name, p.id, time.Duration(start), f.purpose, time.Duration(r.end))
			}
		default:
			w.violatedf(r.of, "%s by ring %d: purpose %q has status %v: %v", name, p.id, f.purpose, states[i], rerr)
		}
	}
	return states
}

// update seals a new value into a row that was loaded.
func (w *soak) update(ctx context.Context, rng *rand.Rand, p *process, s *slot) {
	r, row, _, _ := s.pick(rng)
	if r == nil {
		return
	}
	before := row
	email := fmt.Sprintf("%x@example.org", rng.Uint64())
	row.Email = lethe.Of(email)
	start := w.now()
	err := p.sealer.Seal(ctx, &row)
	end := w.now()
	if w.excused(ctx, p, "update", start, err) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, lethe.ErrForgotten):
		w.count("update: forgotten")
		if !r.mayBeForgotten("", end) && !s.mayRefuse("", start, end) && !s.mayRefuse(marketing, start, end) {
			w.violatedf(s, "update by ring %d from %v, of a row sealed at %v: %v", p.id, time.Duration(start), time.Duration(r.end), err)
		}
	case err != nil:
		w.violatedf(s, "update by ring %d from %v: %v", p.id, time.Duration(start), err)
	case r.mustBeForgotten("", p.id, start):
		w.violatedf(s, "update by ring %d from %v: sealed under keys that were forgotten", p.id, time.Duration(start))
	case !row.closed() || !row.Keys.Equal(before.Keys):
		w.violatedf(s, "update by ring %d changed more than the field", p.id)
	case r.row.Keys.Equal(before.Keys): // as a guarded UPDATE does
		r.row, r.email = row, email
	}
}

func (w *soak) query(ctx context.Context, rng *rand.Rand, p *process, s *slot) {
	r, row, email, _ := s.pick(rng)
	if r == nil {
		return
	}
	start := w.now()
	q, err := p.sealer.Query(ctx, "email_idx", email)
	if w.excused(ctx, p, "Query", start, err) {
		return
	}
	if err != nil {
		w.violatedf(s, "Query: %v", err)
		return
	}
	stored, err := row.EmailIdx.MarshalBinary()
	if err != nil || !slices.ContainsFunc(q.Terms(), func(term []byte) bool { return string(term) == string(stored) }) {
		w.violatedf(s, "Query does not find a row by its value: %v", err)
	}
	err = p.sealer.Open(ctx, &row)
	if w.excused(ctx, p, "Open", start, err) || row.Email.Status() != lethe.StatusOpen {
		return
	}
	if match, err := q.Match(&row); err != nil || !match {
		w.violatedf(s, "Match of a row that is open: %v, %v", match, err)
	}
}

// live reports whether a record of s must open for a purpose at the time.
func (s *slot) live(start, end moment) bool {
	return slices.ContainsFunc(s.records, func(r *record) bool {
		return r.end < start && (!r.mayBeForgotten("", end) || !r.mayBeForgotten(marketing, end))
	})
}

func (w *soak) rotate(ctx context.Context, p *process, s *slot) {
	start := w.now()
	_, err := p.ring.Rotate(ctx, lethe.Subject{Kind: "person", ID: s.subject})
	end := w.now()
	if w.excused(ctx, p, "Rotate", start, err) || err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	missing := errors.Is(err, lethe.ErrKeyMissing) && !s.live(start, end)
	forgotten := errors.Is(err, lethe.ErrForgotten) && (s.mayRefuse("", start, end) || s.mayRefuse(marketing, start, end))
	if !missing && !forgotten {
		w.violatedf(s, "Rotate by ring %d from %v: %v", p.id, time.Duration(start), err)
	}
	w.count("Rotate: forgotten or nothing to rotate")
}

func (w *soak) rewrap(ctx context.Context, p *process, s *slot) {
	s.mu.Lock()
	of := slices.Clone(s.records)
	rows := make([]person, len(of))
	before := make([]lethe.Keys, len(of))
	for i, r := range of {
		rows[i], before[i] = r.row, r.row.Keys
	}
	s.mu.Unlock()
	if len(of) == 0 {
		return
	}
	start := w.now()
	changed, err := p.sealer.RewrapSlice(ctx, rows)
	if w.excused(ctx, p, "RewrapSlice", start, err) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		w.violatedf(s, "RewrapSlice by ring %d from %v: %v", p.id, time.Duration(start), err)
		return
	}
	for _, i := range changed {
		if of[i].row.Keys.Equal(before[i]) {
			of[i].row.Keys = rows[i].Keys
			w.count("rows moved to newer keys")
		}
	}
}

// change forgets or readmits. Changes of one subject come one after the other;
// everything else races with them.
func (w *soak) change(ctx context.Context, rng *rand.Rand, p *process, s *slot, readmit bool) {
	scope := []string{whole, "", marketing}[rng.IntN(3)]
	s.mu.Lock()
	for _, e := range s.events {
		if e.end == never && e.underWay {
			s.mu.Unlock()
			return
		}
	}
	if open := s.unresolved(); open != nil {
		readmit, scope = open.readmit, open.scope
	} else if len(s.events) >= slotEvents || len(s.events) == 0 && readmit {
		s.mu.Unlock()
		return
	}
	e := &event{readmit: readmit, scope: scope, ring: p.id, start: w.now(), end: never, underWay: true}
	s.events = append(s.events, e)
	s.mu.Unlock()

	name, subject := "Forget", lethe.Subject{Kind: "person", ID: s.subject}
	var err error
	switch {
	case readmit && scope == whole:
		name, err = "Readmit", p.ring.Readmit(ctx, subject)
	case readmit:
		name, err = "ReadmitPurpose", p.ring.ReadmitPurpose(ctx, subject, scope)
	case scope == whole:
		_, err = p.ring.Forget(ctx, subject)
	default:
		name = "ForgetPurpose"
		_, err = p.ring.ForgetPurpose(ctx, subject, scope)
	}
	end := w.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	e.underWay = false
	excused := w.excused(ctx, p, name, e.start, err)
	switch {
	case excused: // it may have happened, and its end stays open
		return
	case err == nil, readmit && errors.Is(err, envelope.ErrNotForgotten):
		e.outcome = done // what was not forgotten is as if it were readmitted
	case readmit && errors.Is(err, lethe.ErrForgotten): // the whole subject is
		if !s.mayRefuse("", e.start, end) {
			w.violatedf(s, "%s by ring %d: %v", name, p.id, err)
		}
		s.events = slices.DeleteFunc(s.events, func(x *event) bool { return x == e })
	default:
		w.violatedf(s, "%s by ring %d from %v: %v", name, p.id, time.Duration(e.start), err)
	}
	for _, x := range s.events { // what was left open by calls before this one is settled now
		if x.end == never && !x.underWay {
			x.end = end
		}
	}
}

func (w *soak) rewrapKEK(ctx context.Context, rng *rand.Rand, p *process) {
	to := int32(rng.IntN(2))
	start := w.now()
	err := p.ring.RewrapKEK(ctx, resilient(w.fakes[to]))
	if err == nil {
		w.inUse.Store(to)
	}
	if !w.excused(ctx, p, "RewrapKEK", start, err) && err != nil {
		w.violatedf(nil, "RewrapKEK by ring %d from %v: %v", p.id, time.Duration(start), err)
	}
}

// restart ends a process in the middle of its calls and starts another.
func (w *soak) restart(ctx context.Context, at int, p *process) {
	start := w.now()
	next, err := w.start(ctx)
	if err != nil {
		if !w.excused(ctx, p, "start", start, err) {
			w.violatedf(nil, "start: %v", err)
		}
		return
	}
	if !w.processes[at].CompareAndSwap(p, next) {
		p = next
	}
	w.mu.Lock()
	w.injured += p.store.faults.Load()
	w.mu.Unlock()
	w.count("restart")
	if err := p.end(); err != nil {
		w.violatedf(nil, "closing: %v", err)
	}
}
