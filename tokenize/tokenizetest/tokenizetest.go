// Package tokenizetest gives tests the keys of owners in memory, with nothing
// installed. Programs take lethe.TokenKeys.
package tokenizetest

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"

	"github.com/lethe-go/lethe/tokenize"
)

// Keys are tokenize.Keys in memory. The zero value is ready, and safe for
// concurrent use.
type Keys struct {
	mu        sync.Mutex
	keys      map[tokenize.Owner][]*tokenize.Key
	forgotten map[tokenize.Subject]bool
}

var _ tokenize.Keys = (*Keys)(nil)

// TokenKeys implements tokenize.Keys.
func (k *Keys) TokenKeys(ctx context.Context, owners []tokenize.Owner, create bool, sets []tokenize.KeySet) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, o := range owners {
		if k.forgotten[tokenize.Subject{Tenant: o.Tenant, Kind: o.Kind, ID: o.ID}] {
			sets[i].Err = tokenize.ErrForgotten
			continue
		}
		if len(k.keys[o]) == 0 && create {
			if err := k.add(o); err != nil {
				return err
			}
		}
		sets[i].Keys = k.keys[o]
	}
	return nil
}

func (k *Keys) add(o tokenize.Owner) error {
	if k.keys == nil {
		k.keys = map[tokenize.Owner][]*tokenize.Key{}
	}
	secret := make([]byte, tokenize.KeySize)
	rand.Read(secret)
	key, err := tokenize.NewKey(uint32(len(k.keys[o])+1), secret)
	if err == nil {
		k.keys[o] = slices.Insert(slices.Clone(k.keys[o]), 0, key)
	}
	return err
}

// Rotate makes a new version of an owner's key.
func (k *Keys) Rotate(o tokenize.Owner) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.add(o)
}

// Forget ends the keys of a subject, of all purposes.
func (k *Keys) Forget(s tokenize.Subject) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for o := range k.keys {
		if o.Tenant == s.Tenant && o.Kind == s.Kind && o.ID == s.ID {
			delete(k.keys, o)
		}
	}
	if k.forgotten == nil {
		k.forgotten = map[tokenize.Subject]bool{}
	}
	k.forgotten[s] = true
}
