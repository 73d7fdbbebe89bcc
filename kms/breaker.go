package kms

import (
	"sync"
	"time"
)

// outcome is what one attempt says about the service's health.
type outcome int

const (
	answered outcome = iota // the service answered, be it with a refusal
	outage                  // it did not answer, or said it cannot
	unknown                 // the caller left before one could tell
)

// breaker is a circuit breaker: closed it lets every attempt pass; after
// threshold outages in a row it opens and refuses them; cooldown later it is
// half open and lets a single probe pass, which closes or re-opens it.
type breaker struct {
	threshold int

	mu       sync.Mutex
	failures int       // outages in a row while closed
	open     bool      // open or half open
	retryAt  time.Time // when a probe may pass; meaningful while open
	probing  bool      // a probe is under way
}

// allow reports whether an attempt may pass and whether it is the probe. Each
// allowed attempt must be followed by one call of done.
func (b *breaker) allow(now time.Time) (probe, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return false, true
	}
	if b.probing || now.Before(b.retryAt) {
		return false, false
	}
	b.probing = true
	return true, true
}

// done records an allowed attempt's outcome; an outage keeps the breaker open,
// or opens it, for cooldown from now. Stragglers of the time before it opened
// say nothing new and are ignored.
func (b *breaker) done(probe bool, o outcome, now time.Time, cooldown time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	} else if b.open {
		return
	}
	switch o {
	case answered:
		b.open, b.failures = false, 0
	case outage:
		b.failures++
		if probe || b.failures >= b.threshold {
			b.open, b.retryAt = true, now.Add(cooldown)
		}
	case unknown: // a probe's slot is free again; the next attempt probes
	}
}
