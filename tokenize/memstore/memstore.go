// Package memstore keeps random tokens in memory: for tests, and for tokens that
// need not outlive the process.
package memstore

import (
	"context"
	"slices"
	"sync"

	"github.com/lethe-go/lethe/tokenize"
)

// Store is a tokenize.Store in memory. It is safe for concurrent use.
type Store struct {
	mu           sync.Mutex
	entries      map[place]*tokenize.Entry
	fingerprints map[string]place
	tokens       map[string][]place // of all tokenizers and tenants
}

type place struct{ tokenizer, tenant, token string }

var _ tokenize.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{entries: map[place]*tokenize.Entry{}, fingerprints: map[string]place{}, tokens: map[string][]place{}}
}

func placeOf(e *tokenize.Entry) place { return place{e.Tokenizer, e.Tenant, e.Token} }

func clone(e *tokenize.Entry) tokenize.Entry {
	c := *e
	c.Fingerprint, c.Sealed = slices.Clone(e.Fingerprint), slices.Clone(e.Sealed)
	return c
}

// Insert implements tokenize.Store.
func (s *Store) Insert(ctx context.Context, entries []tokenize.Entry) ([]tokenize.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]tokenize.Result, len(entries))
	for i := range entries {
		e := clone(&entries[i])
		at := placeOf(&e)
		if e.Fingerprint != nil {
			if old, ok := s.fingerprints[string(e.Fingerprint)]; ok {
				out[i] = tokenize.Result{Outcome: tokenize.SameValue, Existing: clone(s.entries[old])}
				continue
			}
		}
		if s.entries[at] != nil {
			out[i].Outcome = tokenize.TokenTaken
			continue
		}
		s.entries[at] = &e
		s.tokens[e.Token] = append(s.tokens[e.Token], at)
		if e.Fingerprint != nil {
			s.fingerprints[string(e.Fingerprint)] = at
		}
	}
	return out, nil
}

// Find implements tokenize.Store.
func (s *Store) Find(ctx context.Context, tokenizer string, places []tokenize.Place) ([]tokenize.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []tokenize.Entry
	seen := map[tokenize.Place]bool{}
	for _, p := range places {
		if e := s.entries[place{tokenizer, p.Tenant, p.Token}]; e != nil && !seen[p] {
			seen[p] = true
			out = append(out, clone(e))
		}
	}
	return out, nil
}

// Elsewhere implements tokenize.Store.
func (s *Store) Elsewhere(ctx context.Context, tokenizer string, tokens []string) ([]tokenize.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []tokenize.Entry
	seen := map[string]bool{}
	for _, token := range tokens {
		places := s.tokens[token]
		if len(places) == 0 || seen[token] {
			continue
		}
		seen[token] = true
		at := max(0, slices.IndexFunc(places, func(p place) bool { return p.tokenizer == tokenizer }))
		e := s.entries[places[at]]
		out = append(out, tokenize.Entry{Tokenizer: e.Tokenizer, Tenant: e.Tenant, Token: e.Token, Purpose: e.Purpose})
	}
	return out, nil
}

// Take implements tokenize.Store.
func (s *Store) Take(ctx context.Context, tokenizer string, places []tokenize.Place) ([]tokenize.Place, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var taken []tokenize.Place
	for _, p := range places {
		if e := s.entries[place{tokenizer, p.Tenant, p.Token}]; e != nil && e.UsesLeft > 0 {
			e.UsesLeft--
			taken = append(taken, p)
		}
	}
	return taken, nil
}

// Delete implements tokenize.Store.
func (s *Store) Delete(ctx context.Context, tokenizer string, places []tokenize.Place) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, p := range places {
		if s.remove(place{tokenizer, p.Tenant, p.Token}) {
			n++
		}
	}
	return n, nil
}

func (s *Store) remove(at place) bool {
	e := s.entries[at]
	if e == nil {
		return false
	}
	delete(s.entries, at)
	delete(s.fingerprints, string(e.Fingerprint))
	rest := slices.DeleteFunc(s.tokens[at.token], func(p place) bool { return p == at })
	if s.tokens[at.token] = rest; len(rest) == 0 {
		delete(s.tokens, at.token)
	}
	return true
}

// DeleteExpired implements tokenize.Store.
func (s *Store) DeleteExpired(ctx context.Context, now int64, limit int) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for at, e := range s.entries {
		if n >= limit {
			break
		}
		if (e.Expires != 0 && e.Expires <= now || e.UsesLeft == 0) && s.remove(at) {
			n++
		}
	}
	return n, nil
}
