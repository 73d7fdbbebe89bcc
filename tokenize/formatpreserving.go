package tokenize

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/lethe-go/lethe/fpe"
)

// FormatPreservingOptions configure a FormatPreserving tokenizer.
type FormatPreservingOptions struct {
	// Name is the tokenizer's own, 1 to 256 bytes. Keys are derived for it: two
	// tokenizers of other names make other tokens, and renaming one orphans them.
	Name string
	// Format is what values look like.
	Format Format
	// Keys are those of a Keyring: lethe.TokenKeys(ring).
	Keys Keys
	// Purpose is what the values are used for, as in the tags of package lethe;
	// forgetting it ends the tokens. Empty is a purpose of its own.
	Purpose string
	// Scope is whose key is used: ScopeSubject, the default, or ScopeTenant.
	Scope Scope
	// AcknowledgeUnforgettable must be set for ScopeTenant and for it only: no
	// token can be forgotten alone.
	AcknowledgeUnforgettable bool
}

// FormatPreserving makes tokens that look like their values, by encryption with
// FF1, and stores nothing. See the package documentation for what that does not
// give.
type FormatPreserving struct {
	id     identity
	format layout
}

var _ Describer = (*FormatPreserving)(nil)

// NewFormatPreserving checks the options, and reports all mistakes at once.
func NewFormatPreserving(o FormatPreservingOptions) (*FormatPreserving, error) {
	format, err := newLayout(o.Format)
	t := &FormatPreserving{identity{o.Name, o.Purpose, o.Scope, o.Keys}, format}
	if err := errors.Join(t.id.check(o.AcknowledgeUnforgettable), err); err != nil {
		return nil, fmt.Errorf("tokenize: NewFormatPreserving: %w", err)
	}
	return t, nil
}

// Format writes "[tokenizer]", for every verb: the fields lead to keys.
func (t *FormatPreserving) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[tokenizer]") }

// Describe implements Describer.
func (t *FormatPreserving) Describe() Description {
	return Description{Purpose: t.id.purpose, Versioned: true, Joinable: t.id.scope == ScopeTenant}
}

// Tokenize sets Token and KeyVersion of every item; see Tokenizer. Item errors:
// ErrValue, ErrDomain, ErrNoSubject, ErrForgotten.
func (t *FormatPreserving) Tokenize(ctx context.Context, items []Item) error {
	return t.permute(ctx, items, OfValue)
}

// Detokenize sets Value of every item; see Tokenizer. Item errors: ErrToken,
// ErrNoSubject, ErrForgotten, ErrKeyMissing, ErrKeyVersion.
//
// FF1 has no integrity: a token of another subject or tenant, or other associated
// data, gives a wrong value, not an error. A format that excludes most of what
// could come out (card numbers, whose tokens fail the Luhn check) notices eight
// of nine.
func (t *FormatPreserving) Detokenize(ctx context.Context, items []Item) error {
	return t.permute(ctx, items, OfToken)
}

func (t *FormatPreserving) permute(ctx context.Context, items []Item, from Side) error {
	w := newWork()
	defer w.release()
	if err := t.id.acquire(ctx, w, items, from == OfValue); err != nil {
		return err
	}
	for start := 0; start < len(items); start += chunk {
		if start > 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		end := min(start+chunk, len(items))
		if err := t.permuteChunk(w, items[start:end], start, from); err != nil {
			return err
		}
	}
	return nil
}

func (t *FormatPreserving) permuteChunk(w *work, items []Item, offset int, from Side) error {
	w.begin(len(items))
	for i := range items {
		w.keys[i] = t.takeApart(w, &items[i], i, offset, from)
	}
	w.buildTweaks(items)
	for i := 0; i < len(items); {
		key := w.keys[i]
		w.at = w.at[:0]
		for ; i < len(items) && w.keys[i] == key; i++ {
			w.at = append(w.at, i)
		}
		if key == nil {
			continue
		}
		made, err := key.prepare(t, t.prepare)
		if err != nil {
			return err
		}
		p, _ := made.(*permuter)
		if err := p.run(w, from == OfToken); err != nil {
			return fmt.Errorf("tokenize: %s: %w", t.format.Name(), err)
		}
	}
	t.putTogether(w, items, from)
	return nil
}

func (t *FormatPreserving) prepare(k *Key) (any, error) {
	secret, err := k.subkey(useFPE, t.id.name, t.format.Name())
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	return newPermuter(secret, t.format.Format)
}

// takeApart splits an item and returns its key, or nil if it failed.
func (t *FormatPreserving) takeApart(w *work, it *Item, i, offset int, from Side) *Key {
	parts := &w.parts[i]
	parts.reset()
	text, version := it.Value, uint32(0)
	if from == OfToken {
		text, version = it.Token, it.KeyVersion
		it.Value = ""
	} else {
		it.Token, it.KeyVersion = "", 0
	}
	if it.Err != nil {
		return nil
	}
	if from == OfValue && it.Metadata != nil {
		it.Err = errMetadata
		return nil
	}
	var key *Key
	if from == OfToken {
		key = w.version(offset+i, it, version)
	} else {
		key = w.newest(offset+i, it)
	}
	if key == nil {
		return nil
	}
	if it.Err = t.format.split(parts, text, from); it.Err != nil {
		return nil
	}
	if n := bitLength(parts.Radices); n > fpe.MaxLength {
		it.Err = from.misfit("too much of it would be replaced: up to %d bits, at most %d are allowed", n, fpe.MaxLength)
		return nil
	}
	return key
}

var errMetadata = errors.New("tokenize: only random tokens have metadata")

// putTogether joins the parts of a chunk into one string and hands out its pieces.
func (t *FormatPreserving) putTogether(w *work, items []Item, from Side) {
	to := OfToken
	if from == OfToken {
		to = OfValue
	}
	for i := range items {
		if w.keys[i] != nil {
			start := len(w.text)
			joined, err := t.format.Join(w.text, &w.parts[i], to)
			if err != nil {
				items[i].Err, w.keys[i] = err, nil
				joined = joined[:start]
			}
			w.text = joined
		}
		w.ends[i] = len(w.text)
	}
	all := string(w.text)
	start := 0
	for i := range items {
		text := all[start:w.ends[i]]
		start = w.ends[i]
		switch {
		case w.keys[i] == nil:
		case from == OfToken:
			items[i].Value = text
		default:
			items[i].Token, items[i].KeyVersion = text, w.keys[i].version
		}
	}
}
