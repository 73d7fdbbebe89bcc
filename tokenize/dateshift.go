package tokenize

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// DateShiftOptions configure a DateShift tokenizer.
type DateShiftOptions struct {
	// Name is the tokenizer's own, 1 to 256 bytes, and part of its keys.
	Name string
	// Keys are those of a Keyring: lethe.TokenKeys(ring).
	Keys Keys
	// Purpose is what the dates are used for; forgetting it ends the tokens.
	Purpose string
	// Days is how far a date moves at most, either way: 1 to 36,500.
	Days int
}

// DateShift moves the dates of a subject by a number of days that only its key
// gives, the same for all with equal associated data and never 0: their order
// and the time between them stay, which is what studies need and what may give a
// person away. Someone who knows one true date of a subject knows them all, and
// few days are soon tried; this hides dates from a glance, it does not encrypt
// them. Forgetting the subject ends the way back.
type DateShift struct {
	id   identity
	days int
}

var _ Describer = (*DateShift)(nil)

// NewDateShift checks the options, and reports all mistakes at once.
func NewDateShift(o DateShiftOptions) (*DateShift, error) {
	t := &DateShift{identity{o.Name, o.Purpose, ScopeSubject, o.Keys}, o.Days}
	err := t.id.check(false)
	if o.Days < 1 || o.Days > 36_500 {
		err = errors.Join(err, fmt.Errorf("Options.Days %d is not 1 to 36,500", o.Days))
	}
	if err != nil {
		return nil, fmt.Errorf("tokenize: NewDateShift: %w", err)
	}
	return t, nil
}

// Format writes "[tokenizer]", for every verb: the fields lead to keys.
func (t *DateShift) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[tokenizer]") }

// Describe implements Describer.
func (t *DateShift) Describe() Description {
	return Description{Purpose: t.id.purpose, Versioned: true}
}

// Tokenize moves dates written 2006-01-02; see Tokenizer. Item errors: ErrValue
// (also for a date that would leave the years 1 to 9999), ErrNoSubject, ErrForgotten.
func (t *DateShift) Tokenize(ctx context.Context, items []Item) error {
	return t.move(ctx, items, OfValue)
}

// Detokenize moves them back; see Tokenizer. A token of another subject gives a
// wrong date, not an error. Item errors: ErrToken, ErrNoSubject, ErrForgotten,
// ErrKeyMissing, ErrKeyVersion.
func (t *DateShift) Detokenize(ctx context.Context, items []Item) error {
	return t.move(ctx, items, OfToken)
}

func (t *DateShift) move(ctx context.Context, items []Item, from Side) error {
	w := newWork()
	defer w.release()
	if err := t.id.acquire(ctx, w, items, from == OfValue); err != nil {
		return err
	}
	for i := range items {
		it := &items[i]
		text, sign, version := it.Value, 1, uint32(0)
		if from == OfToken {
			text, sign, version = it.Token, -1, it.KeyVersion
			it.Value = ""
		} else {
			it.Token, it.KeyVersion = "", 0
		}
		switch {
		case it.Err != nil:
			continue
		case from == OfValue && it.Metadata != nil:
			it.Err = errMetadata
			continue
		}
		var key *Key
		if from == OfToken {
			key = w.version(i, it, version)
		} else {
			key = w.newest(i, it)
		}
		if key == nil {
			continue
		}
		days, err := t.shift(key, it.AssociatedData)
		if err != nil {
			return err
		}
		date, err := time.Parse(time.DateOnly, text)
		moved := date.AddDate(0, 0, sign*days)
		if err != nil || date.Year() < 1 || moved.Year() < 1 || moved.Year() > 9999 {
			it.Err = from.misfit("a date is written 2006-01-02, and moves within the years 1 to 9999")
			continue
		}
		if from == OfToken {
			it.Value = moved.Format(time.DateOnly)
		} else {
			it.Token, it.KeyVersion = moved.Format(time.DateOnly), key.version
		}
	}
	return nil
}

// shift is HMAC-SHA-256 of the associated data, reduced to -days … -1, 1 … days;
// 64 bits make the bias of the reduction less than 2^-47.
func (t *DateShift) shift(k *Key, associatedData []byte) (int, error) {
	made, err := k.prepare(t, t.prepare)
	if err != nil {
		return 0, err
	}
	secret, _ := made.([]byte)
	mac := hmac.New(sha256.New, secret)
	mac.Write(associatedData)
	n := int(binary.BigEndian.Uint64(mac.Sum(nil)) % uint64(2*t.days))
	if n < t.days {
		return n - t.days, nil
	}
	return n - t.days + 1, nil
}

func (t *DateShift) prepare(k *Key) (any, error) {
	return k.subkey(useShift, t.id.name, strconv.Itoa(t.days))
}
