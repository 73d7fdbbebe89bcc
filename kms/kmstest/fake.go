package kmstest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"github.com/lethe-go/lethe/kms"
)

// Fake is a [kms.Key] in memory that does what a test tells it: it answers
// late, fails, hangs, lies. Use it only to inject faults; where a test wants a
// Key that works, the real localkms is as easy. It really encrypts (AES-256-GCM
// under a random key of its own), so what a fault test stores is sound.
//
// The setters may be called at any time; calls that have begun keep what they
// found. Fake is safe for concurrent use. Make one with [NewFake].
type Fake struct {
	aead cipher.AEAD
	id   string

	mu        sync.Mutex
	encrypts  int
	decrypts  int
	pings     int
	latency   time.Duration
	away      bool
	lying     bool
	hang      bool
	hangStop  bool          // a hanging call ends with its context
	release   chan struct{} // closed by Release
	queue     []error
	onCall    func(op string, n int) error
	callCount int
}

var (
	_ kms.Key        = (*Fake)(nil)
	_ kms.Identified = (*Fake)(nil)
	_ kms.Pinger     = (*Fake)(nil)
)

// NewFake makes a Fake that works, with a key and a URI of its own.
func NewFake() *Fake {
	var random [40]byte
	_, _ = rand.Read(random[:]) // never fails
	f := &Fake{id: "fake:" + hex.EncodeToString(random[32:]), release: make(chan struct{})}
	if block, err := aes.NewCipher(random[:32]); err == nil {
		f.aead, _ = cipher.NewGCMWithRandomNonce(block) // AES has GCM's block size
	}
	return f
}

// KeyURI returns "fake:" and random digits, the same for the life of f.
func (f *Fake) KeyURI() string { return f.id }

// Encrypts returns how many EncryptWithContext calls have begun.
func (f *Fake) Encrypts() int { f.mu.Lock(); defer f.mu.Unlock(); return f.encrypts }

// Decrypts returns how many DecryptWithContext calls have begun.
func (f *Fake) Decrypts() int { f.mu.Lock(); defer f.mu.Unlock(); return f.decrypts }

// Pings returns how many Ping calls have begun.
func (f *Fake) Pings() int { f.mu.Lock(); defer f.mu.Unlock(); return f.pings }

// SetLatency makes calls wait for d first; the wait ends with their context.
func (f *Fake) SetLatency(d time.Duration) { f.mu.Lock(); defer f.mu.Unlock(); f.latency = d }

// SetOutage makes calls fail with [kms.ErrUnavailable], or ends that.
func (f *Fake) SetOutage(away bool) { f.mu.Lock(); defer f.mu.Unlock(); f.away = away }

// SetLying makes DecryptWithContext return a wrong plaintext of the right
// length and no error, or ends that.
func (f *Fake) SetLying(lying bool) { f.mu.Lock(); defer f.mu.Unlock(); f.lying = lying }

// Hang makes calls hang until Release, from now on. With heedContext they end
// with their context; without, they ignore it, as a careless client does.
func (f *Fake) Hang(heedContext bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang, f.hangStop = true, heedContext
}

// Release ends Hang and lets all hanging calls go on.
func (f *Fake) Release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang = false
	close(f.release)
	f.release = make(chan struct{})
}

// FailNext queues errors: each next call takes one and fails with it; a nil one
// lets the call pass.
func (f *Fake) FailNext(errs ...error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, errs...)
}

// OnCall makes each call ask hook, with "encrypt", "decrypt" or "ping" and the
// call's number counted from 1 over all operations; the call fails with what
// hook returns. The hook runs in the caller's goroutine, with no lock held, and
// must be safe for concurrent use. Nil removes it.
func (f *Fake) OnCall(hook func(op string, n int) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onCall = hook
}

// EncryptWithContext wraps plaintext, unless a fault is set.
func (f *Fake) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if err := f.begin(ctx, "encrypt", &f.encrypts); err != nil {
		return nil, err
	}
	if len(plaintext) > 64<<10 {
		return nil, kms.Rejected("encrypt", f.id, errors.New("the plaintext is longer than 64 KiB"))
	}
	return f.aead.Seal(nil, nil, plaintext, associatedData), nil
}

// DecryptWithContext unwraps ciphertext, unless a fault is set.
func (f *Fake) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if err := f.begin(ctx, "decrypt", &f.decrypts); err != nil {
		return nil, err
	}
	plaintext, err := f.aead.Open(nil, nil, ciphertext, associatedData)
	if err != nil {
		return nil, kms.Rejected("decrypt", f.id, nil)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lying {
		for i := range plaintext {
			plaintext[i] ^= 0xff
		}
	}
	return plaintext, nil
}

// Ping answers, unless a fault is set.
func (f *Fake) Ping(ctx context.Context) error { return f.begin(ctx, "ping", &f.pings) }

// begin counts a call and lets the faults happen.
func (f *Fake) begin(ctx context.Context, op string, count *int) error {
	f.mu.Lock()
	*count++
	f.callCount++
	n := f.callCount
	latency, away, hang, heed, release, hook := f.latency, f.away, f.hang, f.hangStop, f.release, f.onCall
	var fault error
	if len(f.queue) > 0 {
		fault, f.queue = f.queue[0], f.queue[1:]
	}
	f.mu.Unlock()

	if latency > 0 {
		t := time.NewTimer(latency)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	if hang {
		var done <-chan struct{}
		if heed {
			done = ctx.Done()
		}
		select {
		case <-release:
		case <-done:
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if hook != nil {
		if err := hook(op, n); err != nil {
			return err
		}
	}
	if fault != nil {
		return fault
	}
	if away {
		return kms.Unavailable(op, f.id, errors.New("the fake is away"))
	}
	return nil
}
