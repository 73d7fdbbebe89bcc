package kms

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ResilientOptions configures a [Resilient]. A zero field means its default; a
// negative one is an error of [NewResilient].
type ResilientOptions struct {
	AttemptTimeout  time.Duration // how long one attempt may take; default 2 s
	TotalTimeout    time.Duration // how long one operation may take, waits included; default 5 s
	MaxAttempts     int           // attempts per operation; default 3; 1 means no retry
	BackoffBase     time.Duration // upper bound of the wait before the first retry, doubled for each further one; default 50 ms
	BackoffMax      time.Duration // upper bound of any wait; default 1 s
	BreakerFailures int           // outages in a row, counted by attempt, that open the breaker; default 5
	BreakerCooldown time.Duration // how long the breaker stays open before a probe; default 1 s
}

// withDefaults checks o and fills in the defaults.
func (o ResilientOptions) withDefaults() (ResilientOptions, error) {
	var errs []error
	duration := func(name string, d *time.Duration, def time.Duration) {
		if *d < 0 {
			errs = append(errs, fmt.Errorf("kms: ResilientOptions.%s is negative", name))
		} else if *d == 0 {
			*d = def
		}
	}
	count := func(name string, n *int, def int) {
		if *n < 0 {
			errs = append(errs, fmt.Errorf("kms: ResilientOptions.%s is negative", name))
		} else if *n == 0 {
			*n = def
		}
	}
	duration("AttemptTimeout", &o.AttemptTimeout, 2*time.Second)
	duration("TotalTimeout", &o.TotalTimeout, 5*time.Second)
	count("MaxAttempts", &o.MaxAttempts, 3)
	duration("BackoffBase", &o.BackoffBase, 50*time.Millisecond)
	duration("BackoffMax", &o.BackoffMax, time.Second)
	count("BreakerFailures", &o.BreakerFailures, 5)
	duration("BreakerCooldown", &o.BreakerCooldown, time.Second)
	return o, errors.Join(errs...)
}

// Resilient is a Key that shields its callers from another Key's outages.
//
//   - Every attempt has a time-out, and so has the operation as a whole. A Key
//     that hangs, even one that ignores its context, does not hang the caller;
//     the call left behind ends whenever that Key lets it.
//   - Failures for which [Retryable] holds are retried after a random wait
//     (exponential backoff with full jitter). [ErrRejected] and [ErrDenied] never are.
//   - Concurrent Decrypts with the same arguments share one call. Each caller
//     gets bytes of its own, and one that leaves does not fail the others.
//   - A circuit breaker opens after several outages in a row: operations then
//     fail at once with [ErrUnavailable] until a probe gets an answer. A
//     refusal is an answer; a caller's cancellation counts as neither. Where
//     calls of the Key hang and pile up, probes become rarer.
//
// Errors match [ErrUnavailable] when the KMS is away, the caller's ctx.Err()
// when the caller left, and otherwise are the wrapped Key's own. Resilient
// cannot tell a wrong plaintext from a right one: what the Key returns is
// passed through, and what was wrapped must be authenticated by its user.
//
// A Resilient is safe for concurrent use, and implements [Identified] and
// [Pinger].
type Resilient struct {
	key       Key
	uri       string
	opts      ResilientOptions
	breaker   breaker
	flights   flights
	abandoned atomic.Int64 // calls of key that outlived their attempt and still run
}

var (
	_ Key        = (*Resilient)(nil)
	_ Identified = (*Resilient)(nil)
	_ Pinger     = (*Resilient)(nil)
)

// NewResilient wraps key. It returns an error for a nil key or a negative option.
func NewResilient(key Key, opts ResilientOptions) (*Resilient, error) {
	if key == nil {
		return nil, errors.New("kms: NewResilient: the key is nil")
	}
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Resilient{key: key, opts: opts, breaker: breaker{threshold: opts.BreakerFailures}}
	if id, ok := key.(Identified); ok {
		r.uri = id.KeyURI()
	}
	return r, nil
}

// Unwrap returns the Key that r shields, to find abilities r does not pass on.
func (r *Resilient) Unwrap() Key { return r.key }

// KeyURI returns the wrapped Key's URI, or "" if it is not [Identified].
func (r *Resilient) KeyURI() string { return r.uri }

// EncryptWithContext wraps plaintext with the shielded Key.
func (r *Resilient) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	// An abandoned attempt may outlive this call, so none gets the caller's slices.
	return r.run(ctx, "encrypt", func(plaintext, associatedData []byte) attempt {
		return func(ctx context.Context) ([]byte, error) {
			defer clear(plaintext)
			return r.key.EncryptWithContext(ctx, plaintext, associatedData)
		}
	}, plaintext, associatedData)
}

// DecryptWithContext unwraps ciphertext with the shielded Key, sharing the call
// with concurrent callers that pass the same arguments.
func (r *Resilient) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id := newFlightID(ciphertext, associatedData)
	ciphertext, associatedData = bytes.Clone(ciphertext), bytes.Clone(associatedData)
	return r.flights.do(ctx, id, func(ctx context.Context) ([]byte, error) {
		return r.run(ctx, "decrypt", r.decrypt, ciphertext, associatedData)
	})
}

func (r *Resilient) decrypt(ciphertext, associatedData []byte) attempt {
	return func(ctx context.Context) ([]byte, error) {
		return r.key.DecryptWithContext(ctx, ciphertext, associatedData)
	}
}

// Ping probes the shielded Key. One that is no [Pinger] is probed by wrapping
// and unwrapping 32 zero bytes. With the breaker open Ping fails like any
// other operation.
func (r *Resilient) Ping(ctx context.Context) error {
	_, err := r.run(ctx, "ping", func(zero, purpose []byte) attempt {
		return func(ctx context.Context) ([]byte, error) {
			if p, ok := r.key.(Pinger); ok {
				return nil, p.Ping(ctx)
			}
			wrapped, err := r.key.EncryptWithContext(ctx, zero, purpose)
			if err != nil {
				return nil, err
			}
			_, err = r.key.DecryptWithContext(ctx, wrapped, purpose)
			return nil, err
		}
	}, make([]byte, 32), []byte("lethe kms ping"))
	return err
}

// attempt is one call of the shielded Key.
type attempt func(ctx context.Context) ([]byte, error)

// run performs an operation: attempts, time-outs, waits, breaker. prepare makes
// each attempt from copies of in and ad that are the attempt's own.
func (r *Resilient) run(ctx context.Context, op string, prepare func(in, ad []byte) attempt, in, ad []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	total, cancel := context.WithTimeout(ctx, r.opts.TotalTimeout)
	defer cancel()
	var last error
	for n := 1; ; n++ {
		probe, ok := r.breaker.allow(time.Now())
		if !ok {
			if last != nil {
				return nil, last
			}
			return nil, Unavailable(op, r.uri, errBreakerOpen)
		}
		value, how, err := r.try(ctx, total, op, prepare(bytes.Clone(in), bytes.Clone(ad)))
		r.breaker.done(probe, how, time.Now(), r.cooldown())
		if how != outage {
			return value, err
		}
		last = err
		if n >= r.opts.MaxAttempts || !r.wait(total, n) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			return nil, last
		}
	}
}

var errBreakerOpen = errors.New("not asked: it was away a moment ago")

// try makes one attempt and says what it means. ctx is the caller's, total the
// operation's.
func (r *Resilient) try(ctx, total context.Context, op string, call attempt) (value []byte, how outcome, err error) {
	one, cancel := context.WithTimeout(total, r.opts.AttemptTimeout)
	defer cancel()
	value, err = r.call(one, call)
	if err == nil {
		return value, answered, nil
	}
	if errors.Is(err, ErrRejected) || errors.Is(err, ErrDenied) {
		return nil, answered, err
	}
	if cerr := ctx.Err(); cerr != nil {
		return nil, unknown, cerr
	}
	switch {
	case one.Err() != nil:
		return nil, outage, Unavailable(op, r.uri, errNoAnswer)
	case errors.Is(err, context.Canceled): // nobody on this side cancelled anything
		return nil, outage, Unavailable(op, r.uri, errAborted)
	case errors.Is(err, ErrUnavailable):
		return nil, outage, err
	case Retryable(err):
		return nil, outage, Unavailable(op, r.uri, err)
	}
	return nil, answered, err
}

var (
	errNoAnswer = errors.New("no answer in time")
	errAborted  = errors.New("the KMS client gave up the call")
)

// call runs an attempt in a goroutine of its own and leaves it behind when ctx ends.
func (r *Resilient) call(ctx context.Context, call attempt) ([]byte, error) {
	type result struct {
		value []byte
		err   error
	}
	results := make(chan result, 1)
	var settled atomic.Bool // by whichever comes first, the answer or the end of ctx
	go func() {
		value, err := call(ctx)
		if settled.CompareAndSwap(false, true) {
			results <- result{value, err}
			return
		}
		clear(value)
		r.abandoned.Add(-1)
	}()
	select {
	case res := <-results:
		return res.value, res.err
	case <-ctx.Done():
		if settled.CompareAndSwap(false, true) {
			r.abandoned.Add(1)
			return nil, ctx.Err()
		}
		res := <-results
		return res.value, res.err
	}
}

// cooldown is how long the breaker, opening now, stays open: the option's value
// and longer the more abandoned calls still hang, so that probes of a Key that
// never returns cannot eat the memory.
func (r *Resilient) cooldown() time.Duration {
	return r.opts.BreakerCooldown * time.Duration(1+max(0, r.abandoned.Load())/16)
}

// wait waits before retry n, counted from 1. It reports false when ctx ends
// first or would end before the wait does.
func (r *Resilient) wait(ctx context.Context, n int) bool {
	bound := r.opts.BackoffBase
	for i := 1; i < n && bound < r.opts.BackoffMax; i++ {
		bound *= 2
	}
	d := jitter(min(bound, r.opts.BackoffMax))
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// jitter draws a duration between 0 and bound, both included.
func jitter(bound time.Duration) time.Duration {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return time.Duration(binary.BigEndian.Uint64(b[:]) % (uint64(bound) + 1))
}
