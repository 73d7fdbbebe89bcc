package envelope

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lethe-go/lethe/kms"
)

// rootHandle is what wraps the root of one epoch: a handle that can be destroyed,
// or the whole KMS key where it cannot destroy a part of itself.
type rootHandle struct {
	key       kms.Key
	uri       string
	handle    string
	semantics string // "": it cannot be erased
}

// eraserOf finds the Eraser behind a key that others may shield.
func eraserOf(key kms.Key) (kms.Eraser, bool) {
	for {
		if e, ok := key.(kms.Eraser); ok {
			return e, true
		}
		u, ok := key.(interface{ Unwrap() kms.Key })
		if !ok {
			return nil, false
		}
		key = u.Unwrap()
	}
}

// newHandle makes a handle for an epoch. The handle is recorded in the ledger
// before anything is wrapped under it; one that never is wraps nothing.
func newHandle(ctx context.Context, key kms.Key, id StoreID, epoch uint64, opts Options) (rootHandle, error) {
	plain := rootHandle{key: key, uri: keyURI(key), handle: keyURI(key)}
	e, ok := eraserOf(key)
	if !ok {
		return plain, nil
	}
	var h rootHandle
	err := askKMS(ctx, opts, func(ctx context.Context) error {
		sem, err := e.EraseSemantics(ctx)
		if err != nil {
			return err
		}
		handle, err := e.NewHandle(ctx, fmt.Sprintf("%x-%d", id[:6], epoch))
		if err != nil {
			return err
		}
		h = rootHandle{uri: keyURI(key), handle: handle, semantics: sem.String()}
		return nil
	})
	switch {
	case errors.Is(err, errors.ErrUnsupported): // the KMS could, but is not set up for it
		return plain, nil
	case err != nil:
		return h, kmsErr("make a key for the new epoch", err)
	}
	one, err := e.HandleKey(h.handle)
	if err == nil {
		h.key, err = guard(one, opts)
	}
	if err != nil {
		return h, kmsErr("use the key it made for the new epoch", err)
	}
	return h, nil
}

// askKMS calls ask until it gets an answer, three times at most.
func askKMS(ctx context.Context, opts Options, ask func(ctx context.Context) error) error {
	for n := 0; ; n++ {
		one, cancel := context.WithTimeout(ctx, opts.Timeout)
		err := ask(one)
		cancel()
		if err == nil || n == 2 || !kms.Retryable(err) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond << n):
		}
	}
}

// handleKeys are the Keys of handles, kept so that a circuit breaker remembers.
type handleKeys struct {
	mu sync.Mutex
	m  map[handleName]kms.Key
}

type handleName struct{ uri, handle string }

const keptHandles = 64

// of returns the Key that opens row: of its handle, if key can have handles.
func (h *handleKeys) of(key kms.Key, row *RootRow, opts Options) kms.Key {
	if row.Semantics == "" {
		return key
	}
	e, ok := eraserOf(key)
	if !ok {
		return key
	}
	name := handleName{keyURI(key), row.KMSHandle}
	h.mu.Lock()
	defer h.mu.Unlock()
	if g := h.m[name]; g != nil {
		return g
	}
	one, err := e.HandleKey(row.KMSHandle)
	if err != nil {
		return key // which answers as it does for a ciphertext that is not its own
	}
	g, err := guard(one, opts)
	if err != nil {
		return key
	}
	if h.m == nil || len(h.m) >= keptHandles {
		h.m = map[handleName]kms.Key{}
	}
	h.m[name] = g
	return g
}
