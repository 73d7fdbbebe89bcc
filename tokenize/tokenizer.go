package tokenize

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Tokenizer replaces values by tokens and, unless it is one-way, tokens by
// values. Batches are the normal case: all keys and rows of a call are fetched
// together, 1,000 items in one round trip.
//
// Both methods set Err of every item: nil, or why this one failed, in which case
// its output is empty; the others are not affected. The error returned is for
// the call as a whole (keys or store away, context cancelled): then the outputs
// mean nothing, and retrying is safe, except that a limited use may be gone. Tokenizers are safe for concurrent use;
// one slice of items must not be used by two calls at once.
type Tokenizer interface {
	// Tokenize sets Token and KeyVersion from Value.
	Tokenize(ctx context.Context, items []Item) error
	// Detokenize sets Value, and Metadata where there is some, from Token and KeyVersion.
	Detokenize(ctx context.Context, items []Item) error
}

// Subject is whose value it is. Tenant may be empty, which is a tenant of its
// own. Its rules are those of envelope.Subject, to which it converts.
type Subject struct {
	Tenant string
	Kind   string
	ID     string
}

// Item is one value and its token.
type Item struct {
	Subject Subject
	// AssociatedData is what else the token is bound to, such as the column or the
	// row's id: with other associated data it does not turn back into the value
	// (format-preserving tokens then give a wrong one). nil binds to nothing more.
	AssociatedData []byte
	Value          string
	Token          string
	// KeyVersion is the version of the key the token was made with, from 1. Store it
	// beside the token: format-preserving tokens have no room for it. Random tokens
	// need it not: their store has it. 0 in Detokenize means that the key was never
	// rotated, and is ErrKeyVersion if it was.
	KeyVersion uint32
	// Metadata is kept with a random token, sealed like the value: at most 4 KiB.
	// The other kinds have no place for it and refuse it.
	Metadata map[string]string
	Err      error
}

// Description is what a program that works with any Tokenizer has to know of one.
type Description struct {
	Purpose   string
	Versioned bool // Detokenize needs Item.KeyVersion once the key was rotated
	Joinable  bool // tokens are meant to be equal across places: not to be bound to one
	OneWay    bool // there is no Detokenize
}

// Describer is a Tokenizer that describes itself; those of this package do.
type Describer interface {
	Tokenizer
	Describe() Description
}

// One tokenizes one value and returns its token and the version of the key.
func One(ctx context.Context, t Tokenizer, subject Subject, associatedData []byte, value string) (token string, keyVersion uint32, err error) {
	items := [1]Item{{Subject: subject, AssociatedData: associatedData, Value: value}}
	if err := t.Tokenize(ctx, items[:]); err != nil {
		return "", 0, err
	}
	return items[0].Token, items[0].KeyVersion, items[0].Err
}

// OneBack detokenizes one token.
func OneBack(ctx context.Context, t Tokenizer, subject Subject, associatedData []byte, token string, keyVersion uint32) (string, error) {
	items := [1]Item{{Subject: subject, AssociatedData: associatedData, Token: token, KeyVersion: keyVersion}}
	if err := t.Detokenize(ctx, items[:]); err != nil {
		return "", err
	}
	return items[0].Value, items[0].Err
}

// Scope says whose key makes deterministic tokens.
type Scope uint8

const (
	// ScopeSubject is the subject's own key. Equal values of two subjects have
	// different tokens, and forgetting the subject ends its tokens.
	ScopeSubject Scope = iota
	// ScopeTenant is one key for the whole tenant. Equal values have equal tokens
	// whoever they are of, so that tables can be joined on them, and nobody's tokens
	// can be forgotten: only ForgetTokenKey of the Keyring ends them, all at once. Nor does
	// a suspension of the subject stop them: they are not bound to one.
	ScopeTenant
)

var errUnacknowledged = errors.New("tokens of ScopeTenant survive every forget: write AcknowledgeUnforgettable: true if that is right for this data, or use ScopeSubject")

// identity is what the keys of a tokenizer are derived for.
type identity struct {
	name, purpose string
	scope         Scope
	keys          Keys
}

func (id *identity) check(acknowledged bool) error {
	var errs []error
	if id.keys == nil {
		errs = append(errs, errors.New("Options.Keys is required: lethe.TokenKeys(ring) makes them of a Keyring"))
	}
	if err := checkName("Options.Name", id.name); err != nil {
		errs = append(errs, err)
	}
	if id.purpose != "" {
		if err := checkName("Options.Purpose", id.purpose); err != nil {
			errs = append(errs, err)
		}
	}
	switch {
	case id.scope > ScopeTenant:
		errs = append(errs, fmt.Errorf("Options.Scope %d is unknown", id.scope))
	case id.scope == ScopeTenant && !acknowledged:
		errs = append(errs, errUnacknowledged)
	case id.scope == ScopeSubject && acknowledged:
		errs = append(errs, errors.New("Options.AcknowledgeUnforgettable is for ScopeTenant only: tokens of ScopeSubject are forgotten with their subject"))
	}
	return errors.Join(errs...)
}

// checkName checks a name that goes into keys and rows.
func checkName(what, name string) error {
	switch {
	case name == "" || len(name) > 256:
		return fmt.Errorf("%s must have 1 to 256 bytes: it is part of the keys, so choose one that stays", what)
	case !utf8.ValidString(name) || strings.TrimSpace(name) != name || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%s must be valid UTF-8 without control characters and without white space at the edges", what)
	}
	return nil
}

// owner names whose key an item needs.
func (id *identity) owner(s *Subject) Owner {
	if id.scope == ScopeTenant {
		return Owner{Tenant: s.Tenant, Purpose: id.purpose}
	}
	return Owner{Tenant: s.Tenant, Kind: s.Kind, ID: s.ID, Purpose: id.purpose}
}

// same reports whether an owner is that of a subject.
func (id *identity) same(o *Owner, s *Subject) bool {
	return o.Tenant == s.Tenant && (id.scope == ScopeTenant || o.ID == s.ID && o.Kind == s.Kind)
}

// acquire sets sets[i] to the keys of items[i]; the same owner in a row is asked
// for once. With create, keys are made where there are none.
func (id *identity) acquire(ctx context.Context, w *work, items []Item, create bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.owners, w.which = w.owners[:0], w.which[:0]
	for i := range items {
		s := &items[i].Subject
		items[i].Err = nil
		if id.scope == ScopeSubject && (s.Kind == "" || s.ID == "") {
			items[i].Err = ErrNoSubject
			w.which = append(w.which, -1)
			continue
		}
		if n := len(w.owners); n == 0 || !id.same(&w.owners[n-1], s) {
			w.owners = append(w.owners, id.owner(s))
		}
		w.which = append(w.which, len(w.owners)-1)
	}
	if n := len(w.owners); cap(w.sets) < n {
		w.sets = make([]KeySet, n)
	} else {
		w.sets = w.sets[:n]
		clear(w.sets)
	}
	if len(w.owners) == 0 {
		return nil
	}
	return id.keys.TokenKeys(ctx, w.owners, create, w.sets)
}

// newest returns the key that makes tokens for an item, or sets its Err.
func (w *work) newest(i int, it *Item) *Key {
	if w.which[i] < 0 {
		return nil
	}
	set := &w.sets[w.which[i]]
	switch {
	case set.Err != nil:
		it.Err = set.Err
		return nil
	case len(set.Keys) == 0:
		it.Err = ErrKeyMissing
		return nil
	}
	return set.Keys[0]
}

// version returns the key of a version, or sets the item's Err.
func (w *work) version(i int, it *Item, version uint32) *Key {
	newest := w.newest(i, it)
	if newest == nil {
		return nil
	}
	keys := w.sets[w.which[i]].Keys
	if version == 0 {
		if len(keys) > 1 {
			it.Err = ErrKeyVersion
			return nil
		}
		return newest
	}
	for _, k := range keys {
		if k.version == version {
			return k
		}
	}
	it.Err = ErrKeyMissing
	return nil
}

func (w *work) oldest(i int) *Key {
	keys := w.sets[w.which[i]].Keys
	return keys[len(keys)-1]
}
