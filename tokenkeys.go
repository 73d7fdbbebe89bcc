package lethe

import (
	"context"
	"errors"
	"fmt"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/tokenize"
)

// TokenKeys gives tokenizers the keys of a Keyring. A subject's token keys are
// forgotten with the subject, or with their purpose; Rotate makes new versions,
// and RotateTokenKey those of a tenant's own. Of a nil Keyring it returns nil,
// which every tokenizer refuses.
func TokenKeys(ring *envelope.Keyring) tokenize.Keys {
	if ring == nil {
		return nil
	}
	return tokenKeys{ring}
}

type tokenKeys struct{ ring *envelope.Keyring }

// TokenKeys implements tokenize.Keys.
func (k tokenKeys) TokenKeys(ctx context.Context, owners []tokenize.Owner, create bool, sets []tokenize.KeySet) error {
	var one struct {
		in  [1]envelope.TokenOwner
		out [1]envelope.TokenKeys
	}
	in, out := one.in[:], one.out[:]
	if len(owners) > 1 {
		in, out = make([]envelope.TokenOwner, len(owners)), make([]envelope.TokenKeys, len(owners))
	}
	for i, o := range owners {
		in[i] = envelope.TokenOwner{Subject: envelope.Subject{Tenant: o.Tenant, Kind: o.Kind, ID: o.ID}, Purpose: o.Purpose}
	}
	n := len(owners)
	if err := k.ring.TokenKeys(ctx, in[:n], create, out[:n]); err != nil {
		return err
	}
	for i := range sets[:n] {
		found := &out[i]
		switch {
		case found.Err == nil:
		case errors.Is(found.Err, ErrForgotten):
			sets[i].Err = fmt.Errorf("%w: %w", tokenize.ErrForgotten, found.Err)
			continue
		default:
			sets[i].Err = found.Err
			continue
		}
		var err error
		if sets[i].Keys, err = tokenKeySet(found.Keys); err != nil {
			return err
		}
	}
	return nil
}

// tokenKeySet returns the keys made of an owner's, which the newest remembers.
func tokenKeySet(keys []*envelope.TokenKey) ([]*tokenize.Key, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	made, err := keys[0].Make(func(version uint32, secret []byte) (any, error) {
		key, err := tokenize.NewKey(version, secret)
		if err != nil {
			return nil, err
		}
		older, err := tokenKeySet(keys[1:])
		return append([]*tokenize.Key{key}, older...), err
	}) // the same list for as long as keys[0] is: older versions do not come later
	all, _ := made.([]*tokenize.Key)
	return all, err
}
