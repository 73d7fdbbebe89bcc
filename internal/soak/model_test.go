package soak

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/lethe-go/lethe"
)

// moment is time since the soak began.
type moment time.Duration

const never = moment(math.MaxInt64)

func (m moment) after(d time.Duration) moment {
	if m == never {
		return never
	}
	return m + moment(d)
}

const (
	ttl = time.Second
	// grace is how long after a forget or a readmission other processes may not know
	// of it: the TTL, and what a busy machine makes of it.
	grace = ttl + time.Second
)

const marketing = "marketing"

// whole stands for all purposes of a subject.
const whole = "*"

// outcome of a call, as far as its caller can tell.
type outcome int

const (
	unknown outcome = iota // under way, or an error that leaves it open
	done
)

// event is one Forget or Readmit of a subject.
type event struct {
	readmit    bool
	scope      string // whole, or a purpose
	ring       int
	start, end moment // end is never while it is under way or unresolved
	outcome    outcome
	underWay   bool // the call has not returned
}

func (e *event) String() string {
	name := "forget"
	if e.readmit {
		name = "readmit"
	}
	return fmt.Sprintf("%s %q by ring %d at %v to %v, outcome %d", name, e.scope, e.ring, time.Duration(e.start), time.Duration(e.end), e.outcome)
}

func (e *event) covers(purpose string) bool { return e.scope == whole || e.scope == purpose }

// record is a row some ring acknowledged as sealed.
type record struct {
	of           *slot
	row          person // as sealed
	email, offer string
	ring         int
	start, end   moment // of the call that sealed it
}

// slot is the model of one subject.
type slot struct {
	mu      sync.Mutex
	subject string
	events  []*event
	records []*record
}

func (s *slot) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "subject %s\n", s.subject)
	for _, e := range s.events {
		fmt.Fprintf(&b, "  %v\n", e)
	}
	for i, r := range s.records {
		fmt.Fprintf(&b, "  record %d sealed by ring %d at %v to %v\n", i, r.ring, time.Duration(r.start), time.Duration(r.end))
	}
	return b.String()
}

func (s *slot) forgets(purpose string, yes func(e *event) bool) bool {
	for _, e := range s.events {
		if !e.readmit && e.covers(purpose) && yes(e) {
			return true
		}
	}
	return false
}

// noticed is when a ring must know of a forget.
func (e *event) noticed(ring int) moment {
	if e.ring == ring {
		return e.end
	}
	return e.end.after(grace)
}

// mustBeForgotten: the purpose of r was forgotten after r was sealed, and ring
// knew of it at the time.
func (r *record) mustBeForgotten(purpose string, ring int, at moment) bool {
	return r.of.forgets(purpose, func(e *event) bool {
		return e.outcome == done && r.end < e.start && e.noticed(ring) < at
	})
}

// mayBeForgotten: a forget began before a call ended at the time, and r may have
// been sealed under a key that it killed.
func (r *record) mayBeForgotten(purpose string, at moment) bool {
	return r.of.forgets(purpose, func(e *event) bool {
		return e.start < at && r.start <= e.end.after(grace)
	})
}

// mustRefuse: a seal that began at the time cannot succeed: somebody forgot the
// purpose, and nobody began to readmit it since.
func (s *slot) mustRefuse(purpose string, ring int, at moment) bool {
	return s.forgets(purpose, func(f *event) bool {
		if f.outcome != done || f.noticed(ring) >= at {
			return false
		}
		for _, r := range s.events {
			if r.readmit && r.end > f.start {
				return false
			}
		}
		return true
	})
}

// mayRefuse: a seal may meet a tomb: a forget began before it ended, and its
// readmission, if any, may not be known yet.
func (s *slot) mayRefuse(purpose string, start, end moment) bool {
	return s.forgets(purpose, func(f *event) bool {
		if f.start >= end {
			return false
		}
		for _, r := range s.events {
			lifts := r.scope == whole || r.scope == f.scope
			if r.readmit && r.outcome == done && lifts && r.start > f.end && r.end.after(grace) < start {
				return false
			}
		}
		return true
	})
}

// unresolved returns a forget or readmission whose outcome is open.
func (s *slot) unresolved() *event {
	for _, e := range s.events {
		if e.end == never {
			return e
		}
	}
	return nil
}

// person is a row with two purposes.
type person struct {
	Keys     lethe.Keys           `lethe:"people"`
	Row      string               `lethe:"id"`
	ID       string               `lethe:"subject=person"`
	Email    lethe.Secret[string] `lethe:"email"`
	EmailIdx lethe.BlindIndex     `lethe:"email_idx,of=email,norm=exact/1,bits=64"`
	Offer    lethe.Secret[string] `lethe:"offer,purpose=marketing"`
}

// fresh reports whether the row is one that was never sealed.
func (p *person) fresh() bool {
	return p.Keys.IsZero() && p.Email.Status() == lethe.StatusPlain && p.Offer.Status() == lethe.StatusPlain
}

// closed reports whether no field of a sealed row was opened.
func (p *person) closed() bool {
	return !p.Keys.IsZero() && p.Email.Status() == lethe.StatusSealed && p.Offer.Status() == lethe.StatusSealed
}
