package kmstest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lethe-go/lethe/kms"
)

// RunEraser runs what every [kms.Eraser] must do, each part as a subtest.
// newEraser returns an Eraser under a KEK of its own whose handles can be destroyed;
// clean-up goes to t.Cleanup. A destruction may be scheduled or done at once, and
// may take earlier handles with it. Erasers are used from several goroutines, so
// run it with -race.
func RunEraser(t *testing.T, newEraser func(t *testing.T) kms.Eraser) {
	t.Helper()
	for _, part := range []struct {
		name string
		run  func(*testing.T, kms.Eraser)
	}{
		{"semantics", eraserSemantics},
		{"round trip", handleRoundTrip},
		{"handles are apart", handlesApart},
		{"other associated data", handleOtherData},
		{"every byte changed", handleEveryByte},
		{"destroy", eraserDestroy},
		{"destroy twice", eraserDestroyTwice},
		{"life", eraserLife},
		{"malformed handles", malformedHandles},
		{"unknown handles", unknownHandles},
		{"malformed labels", malformedLabels},
		{"one label twice", oneLabelTwice},
		{"cancelled", eraserCancelled},
		{"concurrent use", eraserConcurrent},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, newEraser(t)) })
	}
}

// newHandle makes a handle and its Key.
func newHandle(t *testing.T, e kms.Eraser, label string) (string, kms.Key) {
	t.Helper()
	handle, err := e.NewHandle(t.Context(), label)
	if err != nil {
		t.Fatalf("new handle: %v", err)
	}
	key, err := e.HandleKey(handle)
	if err != nil {
		t.Fatalf("key of a new handle: %v", err)
	}
	return handle, key
}

func destroy(t *testing.T, e kms.Eraser, handle string) kms.Erasure {
	t.Helper()
	got, err := e.Destroy(t.Context(), handle)
	if err != nil {
		t.Fatalf("destroy: %v", err)
	}
	if got.State != kms.HandleDestroyed && got.State != kms.HandleScheduled {
		t.Fatalf("destroy: the handle is %v", got.State)
	}
	if got.At.IsZero() != (got.State == kms.HandleDestroyed) {
		t.Errorf("destroy: the handle is %v and At is %v", got.State, got.At)
	}
	return got
}

func stateOf(t *testing.T, e kms.Eraser, handle string, want ...kms.EraseState) {
	t.Helper()
	got, err := e.Erasure(t.Context(), handle)
	if err != nil {
		t.Fatalf("erasure: %v", err)
	}
	if !slices.Contains(want, got.State) {
		t.Errorf("erasure: the handle is %v, not %v", got.State, want)
	}
}

// gone wants a final refusal: a destroyed key may be forbidden rather than unknown.
func gone(t *testing.T, key kms.Key, ct []byte, what string) {
	t.Helper()
	pt, err := key.DecryptWithContext(t.Context(), ct, purpose)
	refusal(t, err, what)
	if len(pt) != 0 {
		t.Errorf("%s: bytes were returned beside the error", what)
	}
}

func refusal(t *testing.T, err error, what string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: no error", what)
		return
	case !errors.Is(err, kms.ErrRejected) && !errors.Is(err, kms.ErrDenied):
		t.Errorf("%s: neither kms.ErrRejected nor kms.ErrDenied: %v", what, err)
	case kms.Retryable(err):
		t.Errorf("%s: the error is retryable: %v", what, err)
	}
	silent(t, err)
}

func eraserSemantics(t *testing.T, e kms.Eraser) {
	sem, err := e.EraseSemantics(t.Context())
	if err != nil {
		t.Fatalf("semantics: %v", err)
	}
	if sem.MinDelay < 0 {
		t.Errorf("the least delay is %v", sem.MinDelay)
	}
	if again, err := kms.ParseEraseSemantics(sem.String()); err != nil || again != sem {
		t.Errorf("%q does not survive being written: %v", sem, err)
	}
}

func handleRoundTrip(t *testing.T, e kms.Eraser) {
	_, key := newHandle(t, e, "store-1")
	for _, n := range []int{1, 32, 1024} {
		plaintext := bytes.Repeat([]byte{0xa5}, n)
		opens(t, key, encrypt(t, key, plaintext, purpose), purpose, plaintext)
	}
	opens(t, key, encrypt(t, key, secret, nil), []byte{}, secret)
	id, ok := key.(kms.Identified)
	if base, baseOK := e.(kms.Identified); ok && baseOK && id.KeyURI() == "" && base.KeyURI() != "" {
		t.Error("the handle's Key is Identified and has no URI")
	}
	baseCT := encrypt(t, e, secret, purpose) // the KEK goes on beside its handles
	opens(t, e, baseCT, purpose, secret)
}

func handlesApart(t *testing.T, e kms.Eraser) {
	_, a := newHandle(t, e, "store-1")
	ctA := encrypt(t, a, secret, purpose)
	_, b := newHandle(t, e, "store-2")
	ctB := encrypt(t, b, secret, purpose)
	for what, c := range map[string]struct {
		key kms.Key
		ct  []byte
	}{"a later handle's": {a, ctB}, "an earlier handle's": {b, ctA}} {
		pt, err := c.key.DecryptWithContext(t.Context(), c.ct, purpose)
		rejected(t, pt, err, what)
	}
	// Making b did not change what a wraps with.
	opens(t, a, ctA, purpose, secret)
	opens(t, b, ctB, purpose, secret)
	again := encrypt(t, a, secret, purpose)
	opens(t, a, again, purpose, secret)
	pt, err := b.DecryptWithContext(t.Context(), again, purpose)
	rejected(t, pt, err, "an earlier handle's, wrapped later")
}

func handleOtherData(t *testing.T, e kms.Eraser) {
	_, key := newHandle(t, e, "store-1")
	ct := encrypt(t, key, secret, purpose)
	for name, ad := range map[string][]byte{"nil": nil, "shorter": purpose[1:], "longer": append(bytes.Clone(purpose), 0)} {
		pt, err := key.DecryptWithContext(t.Context(), ct, ad)
		rejected(t, pt, err, "associated data "+name)
	}
}

func handleEveryByte(t *testing.T, e kms.Eraser) {
	_, key := newHandle(t, e, "store-1")
	ct := encrypt(t, key, secret, purpose)
	for i := range ct {
		bad := bytes.Clone(ct)
		bad[i] ^= 1 << (i % 8)
		// A text form may spell the same bytes in two ways.
		if pt, err := key.DecryptWithContext(t.Context(), bad, purpose); err != nil || !bytes.Equal(pt, secret) {
			rejected(t, pt, err, fmt.Sprintf("byte %d of %d changed", i, len(ct)))
		}
		pt, err := key.DecryptWithContext(t.Context(), ct[:i:i], purpose)
		rejected(t, pt, err, fmt.Sprintf("cut to %d of %d bytes", i, len(ct)))
	}
}

func eraserDestroy(t *testing.T, e kms.Eraser) {
	doomed, key := newHandle(t, e, "store-1")
	ct := encrypt(t, key, secret, purpose)
	later, laterKey := newHandle(t, e, "store-2")
	laterCT := encrypt(t, laterKey, secret, purpose)
	destroy(t, e, doomed)
	gone(t, key, ct, "a destroyed handle's Key")
	gone(t, e, ct, "the KEK, of a destroyed handle")
	if fresh, err := e.HandleKey(doomed); err != nil {
		refusal(t, err, "HandleKey of a destroyed handle")
	} else {
		gone(t, fresh, ct, "a destroyed handle's Key, made anew")
		_, err := fresh.EncryptWithContext(t.Context(), secret, purpose)
		refusal(t, err, "wrapping under a destroyed handle")
	}
	opens(t, laterKey, laterCT, purpose, secret)
	opens(t, laterKey, encrypt(t, laterKey, secret, purpose), purpose, secret)
	stateOf(t, e, later, kms.HandleLive)
	third, thirdKey := newHandle(t, e, "store-3")
	if third == doomed {
		t.Errorf("a new handle has the destroyed one's name %q", third)
	}
	gone(t, thirdKey, ct, "a handle made after the destruction")
}

func eraserDestroyTwice(t *testing.T, e kms.Eraser) {
	handle, _ := newHandle(t, e, "store-1")
	newHandle(t, e, "store-2")
	first := destroy(t, e, handle)
	second := destroy(t, e, handle)
	if second.State < first.State || second.State == first.State && !second.At.Equal(first.At) {
		t.Errorf("destroyed twice: first %v, then %v", first, second)
	}
}

func eraserLife(t *testing.T, e kms.Eraser) {
	handle, _ := newHandle(t, e, "store-1")
	newHandle(t, e, "store-2")
	stateOf(t, e, handle, kms.HandleLive)
	got := destroy(t, e, handle)
	stateOf(t, e, handle, got.State, kms.HandleDestroyed)
}

func malformedHandles(t *testing.T, e kms.Eraser) {
	good, _ := newHandle(t, e, "store-1")
	newHandle(t, e, "store-2")
	for _, handle := range []string{
		"", " ", ".", "..", "/", good + " ", " " + good, good + "\n", good + "\x00", good + "/", good + "?x=y", "../" + good,
		"\xff\xfe", "-1", "v", "k", "v0", "v-1", "v01", "v99999999999999999999", "k123", "kzzzzzzzz", strings.Repeat("a", 1<<16),
	} {
		what := fmt.Sprintf("the handle %.40q", handle)
		_, err := e.HandleKey(handle)
		refusal(t, err, "HandleKey of "+what)
		_, err = e.Destroy(t.Context(), handle)
		refusal(t, err, "Destroy of "+what)
		_, err = e.Erasure(t.Context(), handle)
		refusal(t, err, "Erasure of "+what)
	}
	stateOf(t, e, good, kms.HandleLive)
}

// unknownHandles uses what another KEK of this kind would call its handles: the
// suite cannot know more than that changing a name makes another.
func unknownHandles(t *testing.T, e kms.Eraser) {
	good, key := newHandle(t, e, "store-1")
	ct := encrypt(t, key, secret, purpose)
	for i := range good {
		for _, c := range []byte("0189af") {
			other := []byte(good)
			if other[i] == c {
				continue
			}
			other[i] = c
			unknown, err := e.HandleKey(string(other))
			if err != nil {
				refusal(t, err, "HandleKey of an unknown handle")
				continue
			}
			gone(t, unknown, ct, "an unknown handle's Key")
		}
	}
	opens(t, key, ct, purpose, secret)
}

func malformedLabels(t *testing.T, e kms.Eraser) {
	for _, label := range []string{"", "A", "a b", "a/b", "../a", "a\n", "a\x00", "é", "a_b", "a?b", strings.Repeat("a", 49)} {
		_, err := e.NewHandle(t.Context(), label)
		refusal(t, err, fmt.Sprintf("the label %.20q", label))
	}
	for _, label := range []string{"a", "0", strings.Repeat("a", 48), "00ffee112233-18446744073709551615"} {
		newHandle(t, e, label)
	}
}

func oneLabelTwice(t *testing.T, e kms.Eraser) {
	first, firstKey := newHandle(t, e, "store-1")
	ct := encrypt(t, firstKey, secret, purpose)
	second, secondKey := newHandle(t, e, "store-1")
	opens(t, firstKey, ct, purpose, secret) // the first was not made anew
	if first == second {
		opens(t, secondKey, ct, purpose, secret)
		return
	}
	gone(t, secondKey, ct, "a further handle of one label")
}

func eraserCancelled(t *testing.T, e kms.Eraser) {
	handle, key := newHandle(t, e, "store-1")
	ct := encrypt(t, key, secret, purpose)
	newHandle(t, e, "store-2")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for what, call := range map[string]func() error{
		"semantics":  func() error { _, err := e.EraseSemantics(ctx); return err },
		"new handle": func() error { _, err := e.NewHandle(ctx, "store-3"); return err },
		"destroy":    func() error { _, err := e.Destroy(ctx, handle); return err },
		"erasure":    func() error { _, err := e.Erasure(ctx, handle); return err },
		"encrypt":    func() error { _, err := key.EncryptWithContext(ctx, secret, purpose); return err },
		"decrypt":    func() error { _, err := key.DecryptWithContext(ctx, ct, purpose); return err },
	} {
		err := call()
		if !errors.Is(err, context.Canceled) || kms.Retryable(err) {
			t.Errorf("%s with a cancelled context: %v", what, err)
		}
	}
	stateOf(t, e, handle, kms.HandleLive)
	opens(t, key, ct, purpose, secret)
}

func eraserConcurrent(t *testing.T, e kms.Eraser) {
	doomed, doomedKey := newHandle(t, e, "doomed")
	doomedCT := encrypt(t, doomedKey, secret, purpose)
	_, stays := newHandle(t, e, "stays")
	staysCT := encrypt(t, stays, secret, purpose)
	var mu sync.Mutex
	made := map[string][]byte{}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 3 {
				handle, err := e.NewHandle(t.Context(), fmt.Sprintf("g%d-%d", g, i))
				if err != nil {
					t.Errorf("new handle: %v", err)
					return
				}
				key, err := e.HandleKey(handle)
				if err != nil {
					t.Errorf("key of a new handle: %v", err)
					return
				}
				ct, err := key.EncryptWithContext(t.Context(), secret, purpose)
				if err != nil {
					t.Errorf("encrypt: %v", err)
					return
				}
				mu.Lock()
				if made[handle] != nil {
					t.Errorf("the handle %q was given out twice for two labels", handle)
				}
				made[handle] = ct
				mu.Unlock()
				if pt, err := stays.DecryptWithContext(t.Context(), staysCT, purpose); err != nil || !bytes.Equal(pt, secret) {
					t.Errorf("decrypt: wrong plaintext or error: %v", err)
				}
			}
		})
	}
	wg.Go(func() {
		if _, err := e.Destroy(t.Context(), doomed); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	wg.Wait()
	gone(t, doomedKey, doomedCT, "a destroyed handle's Key")
	for handle, ct := range made {
		key, err := e.HandleKey(handle)
		if err != nil {
			t.Fatalf("key of handle %s: %v", hex.EncodeToString([]byte(handle)), err)
		}
		opens(t, key, ct, purpose, secret)
	}
}
