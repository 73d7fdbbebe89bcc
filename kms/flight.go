package kms

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// flightID identifies a Decrypt by its arguments.
type flightID [sha256.Size]byte

func newFlightID(ciphertext, associatedData []byte) flightID {
	h := sha256.New()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(ciphertext)))
	h.Write(n[:])
	h.Write(ciphertext)
	h.Write(associatedData)
	var id flightID
	h.Sum(id[:0])
	return id
}

// flight is one call shared by several callers.
type flight struct {
	done    chan struct{} // closed after value and err are set
	cancel  context.CancelFunc
	waiters int // guarded by flights.mu
	value   []byte
	err     error
}

// flights lets concurrent callers with the same id share one call. The zero
// value is ready for use.
type flights struct {
	mu sync.Mutex
	m  map[flightID]*flight
}

// do runs call, or waits for the one with the same id that is under way, and
// gives each caller bytes of its own. A caller leaves when its ctx ends; the
// call goes on for the others and is cancelled when none is left. call gets
// the values of the first caller's ctx, not its end.
func (g *flights) do(ctx context.Context, id flightID, call func(context.Context) ([]byte, error)) ([]byte, error) {
	g.mu.Lock()
	f, ok := g.m[id]
	if !ok {
		fctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		f = &flight{done: make(chan struct{}), cancel: cancel}
		if g.m == nil {
			g.m = make(map[flightID]*flight)
		}
		g.m[id] = f
		go func() {
			defer cancel()
			value, err := call(fctx)
			g.mu.Lock()
			defer g.mu.Unlock()
			g.forget(id, f)
			if f.waiters == 0 {
				clear(value)
				value = nil
			}
			f.value, f.err = value, err
			close(f.done)
		}()
	}
	f.waiters++
	g.mu.Unlock()

	select {
	case <-f.done:
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		f.waiters--
		if f.waiters == 0 {
			clear(f.value) // set only if the call has just ended
			f.cancel()
			g.forget(id, f)
		}
		return nil, ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	f.waiters--
	if f.err != nil {
		return nil, f.err
	}
	if f.waiters == 0 {
		return f.value, nil // the last one takes the original
	}
	return bytes.Clone(f.value), nil
}

// forget lets the next caller with this id start a new flight. g.mu is held.
func (g *flights) forget(id flightID, f *flight) {
	if g.m[id] == f {
		delete(g.m, id)
	}
}
