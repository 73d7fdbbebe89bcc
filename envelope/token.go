package envelope

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// tokenKind is the subject kind of tenants' own token keys, and tokenPurpose
// starts the purpose of subjects' token keys: callers can use neither, since
// both have a control character.
const (
	tokenKind    = "\x00token"
	tokenPurpose = "\x00token/"
)

// token reports whether the ref is that of a token key.
func (r *keyRef) token() bool {
	return r.kind == tokenKind || strings.HasPrefix(r.purpose, tokenPurpose)
}

// addToken is add for a token key, which seals nothing.
func (s *keySet) addToken(row *KeyRow, secret []byte) {
	if s.more == nil {
		s.more = &moreKeys{}
	}
	if s.has() {
		s.more.older = append(s.more.older, s.newest)
	}
	t := &TokenKey{version: row.Seq}
	copy(t.secret[:], secret)
	s.more.token = slices.Insert(s.more.token, 0, t)
	s.newest = subjectKey{kid: row.KID, seq: row.Seq, suite: row.Suite}
}

var errReserved = errors.New("envelope: a purpose that starts with a NUL is reserved")

// TokenOwner is whose token key is meant: a subject's for one purpose or, with an
// empty Kind and ID, the tenant's own for it.
type TokenOwner struct {
	Subject Subject
	Purpose string
}

// TokenKey is one version of a token key: 32 random bytes of a purpose of their
// own, a row of the tree like any subject key, from which tokens and pseudonyms
// are made. It is safe for concurrent use, and valid as long as the Keyring
// returns it: what is made of it must not be kept elsewhere.
type TokenKey struct {
	version uint32
	secret  [keySize]byte
	mu      sync.Mutex // held while it is made
	made    atomic.Pointer[any]
}

// Version returns the key's version, from 1.
func (t *TokenKey) Version() uint32 { return t.version }

// Make returns what f made of the secret the first time, which is kept with the
// key and dropped with it. f must not keep the secret.
func (t *TokenKey) Make(f func(version uint32, secret []byte) (any, error)) (any, error) {
	if made := t.made.Load(); made != nil {
		return *made, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if made := t.made.Load(); made != nil {
		return *made, nil
	}
	secret := t.secret
	defer clear(secret[:])
	made, err := f(t.version, secret[:])
	if err == nil {
		t.made.Store(&made)
	}
	return made, err
}

// TokenKeys are the token keys of one owner.
type TokenKeys struct {
	Keys []*TokenKey // newest first, not to be changed; empty if there is none
	Err  error       // ErrForgotten, ErrSuspended, what Subject.Validate says, or why a key row does not open
}

// TokenKeys sets out[i] to the token keys of owners[i], which may repeat; all are
// fetched in one batch. With create, a first key is made where there is none. A
// forget of the subject ends its token keys, and a ForgetPurpose those of the
// purpose; only ForgetTokenKey ends a tenant's own.
//
// The error is for the call as a whole: ErrUnavailable, or the context's.
func (k *Keyring) TokenKeys(ctx context.Context, owners []TokenOwner, create bool, out []TokenKeys) error {
	if len(out) != len(owners) {
		return fmt.Errorf("envelope: %d results for %d owners", len(out), len(owners))
	}
	var few fewKeys
	refs, sets := few.refs[:0], few.sets[:0]
	for i := range owners {
		ref, err := tokenRef(&owners[i])
		out[i] = TokenKeys{Err: err}
		refs, sets = append(refs, ref), append(sets, nil)
	}
	if err := k.acquire(ctx, refs, sets, false); err != nil {
		return err
	}
	if create {
		if err := k.createTokenKeys(ctx, owners, refs, sets); err != nil {
			return err
		}
	}
	for i, set := range sets {
		switch {
		case set == nil:
		case set.damage() != nil:
			out[i].Err = set.damage()
		case set.forgotten:
			out[i].Err = forgottenOrMissing(set)
		case set.more != nil:
			out[i].Keys = set.more.token
		}
	}
	return nil
}

// tokenRef is the ref of an owner, or none if it breaks the rules.
func tokenRef(o *TokenOwner) (keyRef, error) {
	s := &o.Subject
	if strings.HasPrefix(o.Purpose, "\x00") {
		return keyRef{}, errReserved
	}
	if err := validName("purpose", o.Purpose); err != nil {
		return keyRef{}, err
	}
	if s.Kind == "" && s.ID == "" {
		if s.Tenant != "" {
			if err := validName("tenant", s.Tenant); err != nil {
				return keyRef{}, err
			}
		}
		return keyRef{tenant: s.Tenant, kind: tokenKind, id: string(appendLP(nil, o.Purpose))}, nil
	}
	if err := s.Validate(); err != nil {
		return keyRef{}, err
	}
	return keyRef{s.Tenant, s.Kind, s.ID, tokenPurpose + o.Purpose}, nil
}

// createTokenKeys makes the keys that are missing.
//
// A purpose and its token keys are two purposes of the store. ForgetPurpose first
// forgets the one, then looks whether the other exists and forgets it too. Here
// the other way round: the other is made, then the tombs of the first are read.
// So one of both sees the other, whichever comes first; and no key is there before
// the look, which would outlive a look that fails.
func (k *Keyring) createTokenKeys(ctx context.Context, owners []TokenOwner, refs []keyRef, sets []*keySet) error {
	var missing []keyRef
	var at []int
	for i, set := range sets {
		if set == nil && refs[i].kind != "" {
			missing, at = append(missing, refs[i]), append(at, i)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	tombs, err := k.purposeTombs(ctx, missing)
	if err != nil {
		return err
	}
	for i := range missing {
		ref, o := &missing[i], &owners[at[i]]
		if len(tombs) == 0 || ref.kind == tokenKind || !tombed(tombs, k.sref(ref.tenant, ref.kind, ref.id), k.pidOf(o.Purpose)) {
			continue
		}
		if _, err := k.forgetTokens(ctx, o.Subject, o.Purpose); err != nil {
			return err
		}
		sets[at[i]], *ref = &keySet{forgotten: true}, keyRef{}
	}
	made := make([]*keySet, len(missing))
	if err := k.acquire(ctx, missing, made, true); err != nil {
		return err
	}
	for i := range missing {
		if made[i] != nil {
			sets[at[i]] = made[i]
		}
	}
	return nil
}

// purposeTombs returns the tombs of the subjects, read after the store has their
// token keys' purposes.
func (k *Keyring) purposeTombs(ctx context.Context, refs []keyRef) ([]Tomb, error) {
	var srefs []SRef
	for i := range refs {
		if refs[i].kind == tokenKind {
			continue
		}
		if _, err := k.ensurePurpose(ctx, refs[i].purpose); err != nil {
			return nil, err
		}
		srefs = append(srefs, k.sref(refs[i].tenant, refs[i].kind, refs[i].id))
	}
	if len(srefs) == 0 {
		return nil, nil
	}
	if !k.led.settled() { // a forget may be in the ledger and not in the store
		if err := k.catchUp(ctx); err != nil {
			return nil, err
		}
	}
	return k.tombs(ctx, srefs)
}

// forgetTokens forgets the token keys of a purpose of the subject, if the store
// has any of that purpose.
func (k *Keyring) forgetTokens(ctx context.Context, s Subject, purpose string) (Receipt, error) {
	if _, known := k.purposeID(tokenPurpose + purpose); !known { // another process may have made it
		if err := k.readPurposes(ctx); err != nil {
			return Receipt{}, err
		}
	}
	pid, known := k.purposeID(tokenPurpose + purpose)
	if !known {
		return Receipt{Already: true}, nil
	}
	return k.forget(ctx, s, pid)
}

// RotateTokenKey makes a new version of a tenant's own token key. Tokens made
// before turn back with the version they name; equal values have other tokens
// than before. ErrKeyMissing: there is none yet. Rotate does it for a subject's.
func (k *Keyring) RotateTokenKey(ctx context.Context, tenant, purpose string) error {
	ref, err := tokenRef(&TokenOwner{Subject{Tenant: tenant}, purpose})
	if err != nil {
		return err
	}
	_, err = k.rotate(ctx, Subject{Tenant: ref.tenant, Kind: ref.kind, ID: ref.id})
	return err
}

// ForgetTokenKey ends a tenant's own token key for a purpose, and with it every
// token and pseudonym made with it, for good: no other is made in its place.
func (k *Keyring) ForgetTokenKey(ctx context.Context, tenant, purpose string) (Receipt, error) {
	ref, err := tokenRef(&TokenOwner{Subject{Tenant: tenant}, purpose})
	if err != nil {
		return Receipt{}, err
	}
	r, err := k.forgetKeys(ctx, Subject{Tenant: ref.tenant, Kind: ref.kind, ID: ref.id}, 0)
	if err != nil {
		return r, err
	}
	return k.fill(ctx, r, k.sref(ref.tenant, ref.kind, ref.id))
}
