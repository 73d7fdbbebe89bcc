package kmstest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/lethe-go/lethe/kms"
)

// EraserFake is a [kms.Eraser] in memory that does what a test tells it, as
// [Fake] is a Key: it destroys late, refuses, fails, takes orders back, lies. It
// really encrypts. Handles are "h1", "h2", … The setters may be called at any
// time; EraserFake is safe for concurrent use. Make one with [NewEraserFake].
type EraserFake struct {
	id string

	mu      sync.Mutex
	now     func() time.Time
	sem     kms.EraseSemantics
	lying   bool
	faults  map[string]error
	calls   map[string]int
	handles []*fakeHandle // [0] is the KEK itself, which is no handle
}

type fakeHandle struct {
	prefix string // of its ciphertexts
	aead   cipher.AEAD
	at     time.Time // when it is destroyed; zero: live
	gone   bool
}

var (
	_ kms.Eraser     = (*EraserFake)(nil)
	_ kms.Identified = (*EraserFake)(nil)
)

// The methods of an [EraserFake] as Fail and Calls name them. Encrypt and Decrypt
// are those of the KEK and of its handles' Keys.
const (
	MethodEncrypt        = "encrypt"
	MethodDecrypt        = "decrypt"
	MethodEraseSemantics = "semantics"
	MethodNewHandle      = "new handle"
	MethodDestroy        = "destroy"
	MethodErasure        = "erasure"
)

// NewEraserFake makes an EraserFake that destroys at once and for good.
func NewEraserFake() *EraserFake {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	f := &EraserFake{
		id: "fake-eraser:" + hex.EncodeToString(random[:]), now: time.Now,
		faults: map[string]error{}, calls: map[string]int{},
	}
	f.add()
	return f
}

// add makes a handle and returns its name. It needs f.mu held, but at the start.
func (f *EraserFake) add() string {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	h := &fakeHandle{}
	if block, err := aes.NewCipher(key[:]); err == nil {
		h.aead, _ = cipher.NewGCMWithRandomNonce(block) // AES has GCM's block size
	}
	name := fmt.Sprintf("h%d", len(f.handles))
	h.prefix = name + ":"
	f.handles = append(f.handles, h)
	return name
}

// KeyURI returns "fake-eraser:" and random digits, the same for the life of f.
func (f *EraserFake) KeyURI() string { return f.id }

// SetSemantics sets what EraseSemantics returns. A MinDelay above 0 makes Destroy
// schedule from now on; without Cancelable, Cancel refuses.
func (f *EraserFake) SetSemantics(sem kms.EraseSemantics) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sem = sem
}

// SetClock sets what tells the time; nil is time.Now.
func (f *EraserFake) SetClock(now func() time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now == nil {
		now = time.Now
	}
	f.now = now
}

// SetLying makes handles that are called destroyed go on wrapping and unwrapping,
// or ends that.
func (f *EraserFake) SetLying(lying bool) { f.mu.Lock(); defer f.mu.Unlock(); f.lying = lying }

// Fail makes each call of a method fail with err, before it does anything; nil
// ends that. Use kms.Unavailable for an outage and kms.Denied for a refusal.
func (f *EraserFake) Fail(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[method] = err
}

// Calls returns how many calls of a method have begun.
func (f *EraserFake) Calls(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

// Handles returns how many handles were ever made.
func (f *EraserFake) Handles() int { f.mu.Lock(); defer f.mu.Unlock(); return len(f.handles) - 1 }

// Cancel takes the order to destroy a scheduled handle back: it is live again. It
// is an error where that cannot be.
func (f *EraserFake) Cancel(handle string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, err := f.find("cancel", handle)
	if err != nil {
		return err
	}
	if !f.sem.Cancelable || f.state(h).State != kms.HandleScheduled {
		return errors.New("kmstest: the destruction cannot be cancelled")
	}
	h.at = time.Time{}
	return nil
}

// find needs f.mu held.
func (f *EraserFake) find(op, handle string) (*fakeHandle, error) {
	for i, h := range f.handles {
		if i > 0 && handle+":" == h.prefix {
			return h, nil
		}
	}
	return nil, kms.Rejected(op, f.id, errors.New("the fake has no such handle"))
}

// state lets time pass for h. It needs f.mu held.
func (f *EraserFake) state(h *fakeHandle) kms.Erasure {
	if !h.at.IsZero() && !f.now().Before(h.at) {
		h.gone = true
	}
	switch {
	case h.gone:
		return kms.Erasure{State: kms.HandleDestroyed}
	case !h.at.IsZero():
		return kms.Erasure{State: kms.HandleScheduled, At: h.at}
	}
	return kms.Erasure{State: kms.HandleLive}
}

// begin counts a call and lets the faults happen. It needs f.mu held.
func (f *EraserFake) begin(ctx context.Context, method string) error {
	f.calls[method]++
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.faults[method]
}

// EraseSemantics returns what SetSemantics set.
func (f *EraserFake) EraseSemantics(ctx context.Context) (kms.EraseSemantics, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(ctx, MethodEraseSemantics); err != nil {
		return kms.EraseSemantics{}, err
	}
	return f.sem, nil
}

// NewHandle makes a further handle.
func (f *EraserFake) NewHandle(ctx context.Context, label string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(ctx, MethodNewHandle); err != nil {
		return "", err
	}
	if len(label) < 1 || len(label) > 48 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return "", kms.Rejected("new handle", f.id, errors.New("a label is 1 to 48 of a-z, 0-9 and -"))
	}
	return f.add(), nil
}

// HandleKey returns the Key of a handle f made, be it destroyed.
func (f *EraserFake) HandleKey(handle string) (kms.Key, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, err := f.find("open handle", handle)
	if err != nil {
		return nil, err
	}
	return &fakeHandleKey{f: f, h: h}, nil
}

// Destroy destroys a handle, or schedules that for MinDelay later.
func (f *EraserFake) Destroy(ctx context.Context, handle string) (kms.Erasure, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(ctx, MethodDestroy); err != nil {
		return kms.Erasure{}, err
	}
	h, err := f.find("destroy", handle)
	if err != nil {
		return kms.Erasure{}, err
	}
	if f.state(h).State == kms.HandleLive {
		h.at = f.now().Add(f.sem.MinDelay)
	}
	return f.state(h), nil
}

// Erasure says what became of a handle.
func (f *EraserFake) Erasure(ctx context.Context, handle string) (kms.Erasure, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(ctx, MethodErasure); err != nil {
		return kms.Erasure{}, err
	}
	h, err := f.find("erasure", handle)
	if err != nil {
		return kms.Erasure{}, err
	}
	return f.state(h), nil
}

// EncryptWithContext wraps plaintext under the KEK itself.
func (f *EraserFake) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	return f.encrypt(ctx, f.handles0(), plaintext, associatedData)
}

// DecryptWithContext unwraps what the KEK or one of its handles wrapped.
func (f *EraserFake) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	return f.decrypt(ctx, nil, ciphertext, associatedData)
}

func (f *EraserFake) handles0() *fakeHandle { f.mu.Lock(); defer f.mu.Unlock(); return f.handles[0] }

// usable refuses a handle whose destruction is ordered. It needs f.mu held.
func (f *EraserFake) usable(op string, h *fakeHandle) error {
	if f.state(h).State != kms.HandleLive && !f.lying {
		return kms.Rejected(op, f.id, errors.New("the handle is destroyed, or will be"))
	}
	return nil
}

func (f *EraserFake) encrypt(ctx context.Context, h *fakeHandle, plaintext, associatedData []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(ctx, MethodEncrypt); err != nil {
		return nil, err
	}
	if len(plaintext) > 64<<10 {
		return nil, kms.Rejected("encrypt", f.id, errors.New("the plaintext is longer than 64 KiB"))
	}
	if err := f.usable("encrypt", h); err != nil {
		return nil, err
	}
	return h.aead.Seal([]byte(h.prefix), nil, plaintext, associatedData), nil
}

// decrypt opens a ciphertext of only, or of any handle if that is nil.
func (f *EraserFake) decrypt(ctx context.Context, only *fakeHandle, ciphertext, associatedData []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(ctx, MethodDecrypt); err != nil {
		return nil, err
	}
	for _, h := range f.handles {
		body, found := strings.CutPrefix(string(ciphertext), h.prefix)
		if !found || only != nil && only != h || len(body) < h.aead.Overhead() {
			continue
		}
		if err := f.usable("decrypt", h); err != nil {
			return nil, err
		}
		if plaintext, err := h.aead.Open(nil, nil, []byte(body), associatedData); err == nil {
			return plaintext, nil
		}
	}
	return nil, kms.Rejected("decrypt", f.id, nil)
}

// fakeHandleKey is the Key of one handle.
type fakeHandleKey struct {
	f *EraserFake
	h *fakeHandle
}

func (k *fakeHandleKey) KeyURI() string { return k.f.id }

func (k *fakeHandleKey) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	return k.f.encrypt(ctx, k.h, plaintext, associatedData)
}

func (k *fakeHandleKey) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	return k.f.decrypt(ctx, k.h, ciphertext, associatedData)
}
