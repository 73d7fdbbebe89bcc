// Package kmstest holds what every [kms.Key] must pass, [Run], and a Key that
// fails on demand, [Fake].
package kmstest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lethe-go/lethe/kms"
)

// Factory makes the Keys that [Run] tries.
type Factory struct {
	// New makes a Key under a KEK of its own: what one wraps, another must not
	// unwrap. Required. Clean-up goes to t.Cleanup.
	New func(t *testing.T) kms.Key
	// Away makes a Key that works until leave is called and, if comeBack is not
	// nil, again after it. Optional; without it nothing is tested with the KMS away.
	Away func(t *testing.T) (key kms.Key, leave, comeBack func())
	// MaxPlaintext is the longest plaintext, in bytes, the KMS takes; 0 means 64 KiB.
	MaxPlaintext int
	// LooseEncoding is set for a KMS whose ciphertexts are text in which
	// different characters may mean the same bytes: a changed character may then
	// open, if to the same plaintext.
	LooseEncoding bool
	// AwayTimeout is how soon a call must fail with the KMS away; 0 means 15 seconds.
	AwayTimeout time.Duration
}

var (
	secret  = []byte("kmstest PLAINTEXT do not print!!") // 32 bytes, like a data key
	purpose = []byte("kmstest CONTEXT do not print")
)

// Run runs the suite, each part as a subtest. Keys are used from several
// goroutines, so run it with -race.
func Run(t *testing.T, f Factory) {
	t.Helper()
	if f.New == nil {
		t.Fatal("kmstest: Factory.New is required")
	}
	if f.MaxPlaintext == 0 {
		f.MaxPlaintext = 64 << 10
	}
	if f.AwayTimeout == 0 {
		f.AwayTimeout = 15 * time.Second
	}
	for _, part := range []struct {
		name string
		run  func(*testing.T, Factory)
	}{
		{"round trip", roundTrip},
		{"other associated data", otherAssociatedData},
		{"nil is empty associated data", nilAssociatedData},
		{"other key", otherKey},
		{"every byte changed", everyByteChanged},
		{"every length", everyLength},
		{"cancelled", cancelled},
		{"inputs untouched", inputsUntouched},
		{"results are the caller's", resultsOwned},
		{"concurrent use", concurrentUse},
		{"identified", identified},
		{"ping", ping},
		{"away", away},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, f) })
	}
}

func encrypt(t *testing.T, k kms.Key, plaintext, ad []byte) []byte {
	t.Helper()
	ct, err := k.EncryptWithContext(t.Context(), plaintext, ad)
	if err != nil {
		t.Fatalf("encrypt: %v", err)
	}
	return ct
}

func opens(t *testing.T, k kms.Key, ct, ad, want []byte) {
	t.Helper()
	pt, err := k.DecryptWithContext(t.Context(), ct, ad)
	if err != nil {
		t.Fatalf("decrypt: %v", err)
	}
	if !bytes.Equal(pt, want) {
		t.Fatal("decrypt: not the plaintext that was wrapped")
	}
}

// rejected wants a final error about the data, and no plaintext.
func rejected(t *testing.T, pt []byte, err error, what string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: opened", what)
		return
	case !errors.Is(err, kms.ErrRejected):
		t.Errorf("%s: the error does not match kms.ErrRejected: %v", what, err)
	case kms.Retryable(err):
		t.Errorf("%s: the error is retryable: %v", what, err)
	}
	if len(pt) != 0 {
		t.Errorf("%s: bytes were returned beside the error", what)
	}
	silent(t, err)
}

// silent wants no plaintext and no associated data in an error's text.
func silent(t *testing.T, err error) {
	t.Helper()
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		for _, hidden := range [][]byte{secret, purpose} {
			for _, form := range []string{
				string(hidden), hex.EncodeToString(hidden), fmt.Sprintf("%d", hidden),
				base64.StdEncoding.EncodeToString(hidden), base64.RawURLEncoding.EncodeToString(hidden),
			} {
				if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
					t.Errorf("the error's text holds plaintext or associated data (%d bytes of text, not shown)", len(text))
					return
				}
			}
		}
	}
}

func roundTrip(t *testing.T, f Factory) {
	k := f.New(t)
	for _, n := range []int{1, 16, 32, 1024, f.MaxPlaintext} {
		if n > f.MaxPlaintext {
			continue
		}
		plaintext := bytes.Repeat([]byte{0xa5}, n)
		ct := encrypt(t, k, plaintext, purpose)
		if n >= 16 && bytes.Contains(ct, plaintext) {
			t.Errorf("%d bytes: the ciphertext contains the plaintext", n)
		}
		opens(t, k, ct, purpose, plaintext)
	}
}

func otherAssociatedData(t *testing.T, f Factory) {
	k := f.New(t)
	ct := encrypt(t, k, secret, purpose)
	for name, ad := range map[string][]byte{
		"nil":         nil,
		"shorter":     purpose[:len(purpose)-1],
		"longer":      append(bytes.Clone(purpose), 0),
		"changed":     append([]byte{purpose[0] ^ 1}, purpose[1:]...),
		"zero before": append([]byte{0}, purpose...),
	} {
		pt, err := k.DecryptWithContext(t.Context(), ct, ad)
		rejected(t, pt, err, "associated data "+name)
	}
	opens(t, k, ct, purpose, secret)
}

func nilAssociatedData(t *testing.T, f Factory) {
	k := f.New(t)
	forNil, forEmpty := encrypt(t, k, secret, nil), encrypt(t, k, secret, []byte{})
	opens(t, k, forNil, nil, secret)
	opens(t, k, forNil, []byte{}, secret)
	opens(t, k, forEmpty, nil, secret)
	opens(t, k, forEmpty, []byte{}, secret)
	pt, err := k.DecryptWithContext(t.Context(), forNil, []byte{0})
	rejected(t, pt, err, "one zero byte for no associated data")
	pt, err = k.DecryptWithContext(t.Context(), forEmpty, purpose)
	rejected(t, pt, err, "some associated data for none")
}

func otherKey(t *testing.T, f Factory) {
	a, b := f.New(t), f.New(t)
	ct := encrypt(t, a, secret, purpose)
	pt, err := b.DecryptWithContext(t.Context(), ct, purpose)
	rejected(t, pt, err, "another key's ciphertext")
	opens(t, a, ct, purpose, secret)
}

func everyByteChanged(t *testing.T, f Factory) {
	k := f.New(t)
	ct := encrypt(t, k, secret, purpose)
	for i := range ct {
		bad := bytes.Clone(ct)
		bad[i] ^= 1 << (i % 8)
		pt, err := k.DecryptWithContext(t.Context(), bad, purpose)
		if f.LooseEncoding && err == nil && bytes.Equal(pt, secret) {
			continue
		}
		rejected(t, pt, err, fmt.Sprintf("byte %d of %d changed", i, len(ct)))
	}
	opens(t, k, ct, purpose, secret)
}

func everyLength(t *testing.T, f Factory) {
	k := f.New(t)
	ct := encrypt(t, k, secret, purpose)
	for n := range ct {
		pt, err := k.DecryptWithContext(t.Context(), ct[:n:n], purpose)
		if f.LooseEncoding && err == nil && bytes.Equal(pt, secret) {
			continue
		}
		rejected(t, pt, err, fmt.Sprintf("cut to %d of %d bytes", n, len(ct)))
	}
	pt, err := k.DecryptWithContext(t.Context(), nil, purpose)
	rejected(t, pt, err, "nil ciphertext")
	pt, err = k.DecryptWithContext(t.Context(), append(bytes.Clone(ct), 0), purpose)
	rejected(t, pt, err, "one byte too many")
}

func cancelled(t *testing.T, f Factory) {
	k := f.New(t)
	ct := encrypt(t, k, secret, purpose)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, eerr := k.EncryptWithContext(ctx, secret, purpose)
	_, derr := k.DecryptWithContext(ctx, ct, purpose)
	for op, err := range map[string]error{"encrypt": eerr, "decrypt": derr} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", op, err)
			continue
		}
		if kms.Retryable(err) {
			t.Errorf("%s with a cancelled context: the error is retryable", op)
		}
		silent(t, err)
	}
	opens(t, k, ct, purpose, secret)
}

// roomy returns a copy of b with room behind it, to see whether it is written to.
func roomy(b []byte) []byte {
	r := make([]byte, len(b)+64)
	copy(r, b)
	return r[:len(b)]
}

func inputsUntouched(t *testing.T, f Factory) {
	k := f.New(t)
	same := func(got, want []byte, what string) {
		t.Helper()
		if !bytes.Equal(got[:cap(got)], want[:cap(want)]) {
			t.Errorf("%s was modified, or the room behind it", what)
		}
	}
	pt, ad := roomy(secret), roomy(purpose)
	ct := roomy(encrypt(t, k, pt, ad))
	pt0, ad0, ct0 := roomy(secret), roomy(purpose), roomy(ct)
	same(pt, pt0, "encrypt: the plaintext")
	same(ad, ad0, "encrypt: the associated data")
	opens(t, k, ct, ad, secret)
	same(ct, ct0, "decrypt: the ciphertext")
	same(ad, ad0, "decrypt: the associated data")
	ct[len(ct)-1] ^= 1
	copy(ct0, ct)
	_, _ = k.DecryptWithContext(t.Context(), ct, ad)
	same(ct, ct0, "failing decrypt: the ciphertext")
	same(ad, ad0, "failing decrypt: the associated data")
}

func resultsOwned(t *testing.T, f Factory) {
	k := f.New(t)
	pt, ad := bytes.Clone(secret), bytes.Clone(purpose)
	ct := encrypt(t, k, pt, ad)
	clear(pt) // nothing may depend on the arguments any more
	clear(ad)
	opened, err := k.DecryptWithContext(t.Context(), ct, purpose)
	if err != nil {
		t.Fatalf("decrypt: %v", err)
	}
	clear(opened)
	opens(t, k, ct, purpose, secret)
	mine := bytes.Clone(ct)
	clear(ct)
	opens(t, k, mine, purpose, secret)
}

func concurrentUse(t *testing.T, f Factory) {
	k := f.New(t)
	shared := encrypt(t, k, secret, purpose)
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 8 {
				pt, ad := fmt.Appendf(nil, "plaintext %d %d", g, i), fmt.Appendf(nil, "context %d", g)
				ct, err := k.EncryptWithContext(t.Context(), pt, ad)
				if err != nil {
					t.Errorf("encrypt: %v", err)
					return
				}
				got, err := k.DecryptWithContext(t.Context(), ct, ad)
				if err != nil || !bytes.Equal(got, pt) {
					t.Errorf("decrypt: wrong plaintext or error: %v", err)
					return
				}
				got, err = k.DecryptWithContext(t.Context(), shared, purpose)
				if err != nil || !bytes.Equal(got, secret) {
					t.Errorf("decrypt of a shared ciphertext: wrong plaintext or error: %v", err)
					return
				}
				clear(got)
			}
		})
	}
	wg.Wait()
}

func identified(t *testing.T, f Factory) {
	a, ok := f.New(t).(kms.Identified)
	if !ok {
		t.Skip("not kms.Identified")
	}
	if a.KeyURI() == "" {
		t.Skip("the Key knows no URI")
	}
	if !strings.Contains(a.KeyURI(), ":") {
		t.Errorf("%q is no URI", a.KeyURI())
	}
	if first := a.KeyURI(); a.KeyURI() != first {
		t.Error("the URI changes")
	}
	if b, ok := f.New(t).(kms.Identified); ok && a.KeyURI() == b.KeyURI() {
		t.Errorf("two keys are both named %q", a.KeyURI())
	}
}

func ping(t *testing.T, f Factory) {
	p, ok := f.New(t).(kms.Pinger)
	if !ok {
		t.Skip("not a kms.Pinger")
	}
	if err := p.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ping with a cancelled context: %v", err)
	}
}

func away(t *testing.T, f Factory) {
	if f.Away == nil {
		t.Skip("the factory cannot send the KMS away")
	}
	k, leave, comeBack := f.Away(t)
	good := encrypt(t, k, secret, purpose)
	opens(t, k, good, purpose, secret)
	// Bad in a way that no driver can see by itself.
	other := append(bytes.Clone(purpose), 0)
	pt, err := k.DecryptWithContext(t.Context(), good, other)
	rejected(t, pt, err, "bad data with the KMS there")

	leave()
	unavailable := func(what string, call func() ([]byte, error)) {
		t.Helper()
		start := time.Now()
		out, err := call()
		if took := time.Since(start); took > f.AwayTimeout {
			t.Errorf("%s with the KMS away took %v, more than %v", what, took, f.AwayTimeout)
		}
		switch {
		case err == nil:
			t.Errorf("%s with the KMS away succeeded", what)
			return
		case !errors.Is(err, kms.ErrUnavailable) || errors.Is(err, kms.ErrRejected) || errors.Is(err, kms.ErrDenied):
			t.Errorf("%s with the KMS away is not just kms.ErrUnavailable: %v", what, err)
		case !kms.Retryable(err):
			t.Errorf("%s with the KMS away is not retryable: %v", what, err)
		}
		if len(out) != 0 {
			t.Errorf("%s with the KMS away returned bytes", what)
		}
		silent(t, err)
	}
	unavailable("encrypt", func() ([]byte, error) { return k.EncryptWithContext(t.Context(), secret, purpose) })
	unavailable("decrypt", func() ([]byte, error) { return k.DecryptWithContext(t.Context(), good, purpose) })
	unavailable("decrypt of bad data", func() ([]byte, error) { return k.DecryptWithContext(t.Context(), good, other) })
	if p, ok := k.(kms.Pinger); ok {
		unavailable("ping", func() ([]byte, error) { return nil, p.Ping(t.Context()) })
	}

	if comeBack == nil {
		return
	}
	comeBack()
	// A circuit breaker may need a moment.
	for deadline := time.Now().Add(f.AwayTimeout); ; time.Sleep(20 * time.Millisecond) {
		pt, err := k.DecryptWithContext(t.Context(), good, purpose)
		if err == nil && bytes.Equal(pt, secret) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("decrypt with the KMS back: %v", err)
		}
	}
}
