package tokenize

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
)

// OneWayOptions configure a OneWay tokenizer.
type OneWayOptions struct {
	// Domain is the pseudonymisation domain: those who are to see the pseudonyms,
	// and shall not link them to other data (EDPB Guidelines 01/2025 on
	// Pseudonymisation, section 2.1). Pseudonyms of two domains cannot be joined.
	// 1 to 256 bytes.
	Domain string
	// Keys are those of a Keyring: lethe.TokenKeys(ring).
	Keys Keys
	// Purpose is what the pseudonyms are used for; those of two purposes cannot be
	// joined. Empty is a purpose of its own.
	Purpose string
	// Period bounds how long somebody can be followed: pseudonyms of two periods
	// cannot be joined. "2026-11", say; At changes it. Empty is one period for ever.
	Period string
	// Scope is whose key is used: with ScopeSubject pseudonyms join the rows of one
	// subject; with ScopeTenant those of all.
	Scope Scope
	// AcknowledgeUnforgettable must be set for ScopeTenant and for it only.
	AcknowledgeUnforgettable bool
}

// OneWay makes pseudonyms: equal values of one domain, purpose and period have
// equal ones, and there is no way back, not even with the key, except by trying
// values. Pseudonyms are personal data still.
type OneWay struct {
	id     identity
	domain string
	period string
	made   *oneWayKeys // what keys are prepared for, shared by all periods
}

type oneWayKeys struct{ purpose, domain string }

var _ Describer = (*OneWay)(nil)

// NewOneWay checks the options, and reports all mistakes at once.
func NewOneWay(o OneWayOptions) (*OneWay, error) {
	t := &OneWay{identity{"pseudonym", o.Purpose, o.Scope, o.Keys}, o.Domain, o.Period, &oneWayKeys{o.Purpose, o.Domain}}
	if err := errors.Join(t.id.check(o.AcknowledgeUnforgettable), checkName("Options.Domain", o.Domain)); err != nil {
		return nil, fmt.Errorf("tokenize: NewOneWay: %w", err)
	}
	return t, nil
}

// At returns the tokenizer for another period.
func (t *OneWay) At(period string) *OneWay {
	other := *t
	other.period = period
	return &other
}

// Format writes "[tokenizer]", for every verb: the fields lead to keys.
func (t *OneWay) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[tokenizer]") }

// Describe implements Describer.
func (t *OneWay) Describe() Description {
	return Description{Purpose: t.id.purpose, Versioned: true, Joinable: t.id.scope == ScopeTenant, OneWay: true}
}

// Tokenize sets Token of every item to its pseudonym: 26 digits and small
// letters, the first 128 bits of HMAC-SHA-256 of period, associated data and
// value, compared exactly. It changes when the key is rotated (KeyVersion), to
// begin anew. Item errors: ErrNoSubject, ErrForgotten; ErrValue beyond MaxValue bytes.
func (t *OneWay) Tokenize(ctx context.Context, items []Item) error {
	w := newWork()
	defer w.release()
	if err := t.id.acquire(ctx, w, items, true); err != nil {
		return err
	}
	for i := range items {
		it := &items[i]
		it.Token, it.KeyVersion = "", 0
		switch {
		case it.Err != nil:
			continue
		case it.Metadata != nil:
			it.Err = errMetadata
			continue
		case len(it.Value) > MaxValue:
			it.Err = OfValue.misfit("%d bytes, at most %d are allowed", len(it.Value), MaxValue)
			continue
		}
		key := w.newest(i, it)
		if key == nil {
			continue
		}
		made, err := key.prepare(t.made, t.prepare)
		if err != nil {
			return err
		}
		pool, _ := made.(*sync.Pool)
		mac, _ := pool.Get().(hash.Hash)
		mac.Reset()
		w.mark()
		w.text = append(appendLP(appendLP(w.text[:0], t.period), it.AssociatedData), it.Value...)
		mac.Write(w.text)
		var sum [sha256.Size]byte
		mac.Sum(sum[:0])
		pool.Put(mac)
		it.Token, it.KeyVersion = tokenEncoding.EncodeToString(sum[:16]), key.version
	}
	return nil
}

func (t *OneWay) prepare(k *Key) (any, error) {
	secret, err := k.subkey(usePseudonym, t.made.purpose, t.made.domain)
	if err != nil {
		return nil, err
	}
	return &sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}, nil
}

// Detokenize sets Err of every item to ErrOneWay.
func (t *OneWay) Detokenize(ctx context.Context, items []Item) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for i := range items {
		items[i].Value, items[i].Err = "", ErrOneWay
	}
	return nil
}
