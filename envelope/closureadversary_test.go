package envelope_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/kms"
)

// versionedKMS is a kms.Eraser in memory: each handle is a key of its own, which
// Destroy forgets.
type versionedKMS struct {
	uri string

	mu    sync.Mutex
	live  map[string]cipher.AEAD
	lies  bool        // calls a handle destroyed and keeps it
	admit func() bool // nil, or whether the next call is answered
}

var _ kms.Eraser = (*versionedKMS)(nil)

func newVersionedKMS(uri string) *versionedKMS {
	return &versionedKMS{uri: uri, live: map[string]cipher.AEAD{}}
}

func newAESGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return a
}

func (v *versionedKMS) KeyURI() string { return v.uri }

// find returns a live handle's key.
func (v *versionedKMS) find(op, handle string) (cipher.AEAD, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.admit != nil && !v.admit() {
		return nil, kms.Denied(op, v.uri, errInjected)
	}
	a, ok := v.live[handle]
	if !ok {
		return nil, kms.Rejected(op, v.uri, errors.New("no such handle"))
	}
	return a, nil
}

// steal is find for the adversary, whose calls do not fail.
func (v *versionedKMS) steal(handle string) cipher.AEAD {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.live[handle]
}

func (v *versionedKMS) EncryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, kms.Rejected("encrypt", v.uri, errors.New("only handles wrap"))
}

func (v *versionedKMS) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, kms.Rejected("decrypt", v.uri, errors.New("only handles unwrap"))
}

func (v *versionedKMS) EraseSemantics(context.Context) (kms.EraseSemantics, error) {
	return kms.EraseSemantics{}, nil
}

func (v *versionedKMS) NewHandle(_ context.Context, label string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.admit != nil && !v.admit() {
		return "", kms.Denied("make a handle", v.uri, errInjected)
	}
	key := make([]byte, 32)
	rand.Read(key)
	handle := fmt.Sprintf("%s/%s/%d", v.uri, label, len(v.live))
	for v.live[handle] != nil {
		handle += "+"
	}
	v.live[handle] = newAESGCM(key)
	return handle, nil
}

func (v *versionedKMS) HandleKey(handle string) (kms.Key, error) { return &versionKey{v, handle}, nil }

func (v *versionedKMS) Destroy(_ context.Context, handle string) (kms.Erasure, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.admit != nil && !v.admit() {
		return kms.Erasure{}, kms.Denied("destroy", v.uri, errInjected)
	}
	if !v.lies {
		delete(v.live, handle)
	}
	return kms.Erasure{State: kms.HandleDestroyed}, nil
}

func (v *versionedKMS) Erasure(_ context.Context, handle string) (kms.Erasure, error) {
	if v.steal(handle) != nil && !v.lies {
		return kms.Erasure{State: kms.HandleLive}, nil
	}
	return kms.Erasure{State: kms.HandleDestroyed}, nil
}

// versionKey is one handle of a versionedKMS.
type versionKey struct {
	kms    *versionedKMS
	handle string
}

func (k *versionKey) EncryptWithContext(_ context.Context, plaintext, aad []byte) ([]byte, error) {
	a, err := k.kms.find("encrypt", k.handle)
	if err != nil {
		return nil, err
	}
	return a.Seal(nil, nil, plaintext, aad), nil
}

func (k *versionKey) DecryptWithContext(_ context.Context, ciphertext, aad []byte) ([]byte, error) {
	a, err := k.kms.find("decrypt", k.handle)
	if err != nil {
		return nil, err
	}
	out, err := a.Open(nil, nil, ciphertext, aad)
	if err != nil {
		return nil, kms.Rejected("decrypt", k.kms.uri, nil)
	}
	return out, nil
}

// rowsEver is every row a key store was ever given, also by transactions that were
// rolled back: their bytes are in the store's log all the same.
type rowsEver struct {
	store    envelope.StoreID
	purposes map[string]bool // names; after a restore a number may be another's
	seen     map[string]bool // by Wrapped
	roots    []envelope.RootRow
	pages    map[envelope.PageID][]envelope.PageRow // by parent
	keys     map[envelope.PageID][]envelope.KeyRow  // by page
}

func newRowsEver() *rowsEver {
	return &rowsEver{
		purposes: map[string]bool{}, seen: map[string]bool{},
		pages: map[envelope.PageID][]envelope.PageRow{}, keys: map[envelope.PageID][]envelope.KeyRow{},
	}
}

func (r *rowsEver) fresh(wrapped []byte) bool {
	if len(wrapped) == 0 || r.seen[string(wrapped)] {
		return false
	}
	r.seen[string(wrapped)] = true
	return true
}

func (r *rowsEver) add(roots []envelope.RootRow, pages []envelope.PageRow, keys []envelope.KeyRow) {
	for _, row := range roots {
		if r.fresh(row.Wrapped) {
			r.roots = append(r.roots, row)
		}
	}
	for _, row := range pages {
		if r.fresh(row.Wrapped) {
			r.pages[row.Parent] = append(r.pages[row.Parent], row)
		}
	}
	for _, row := range keys {
		if r.fresh(row.Wrapped) {
			r.keys[row.Page] = append(r.keys[row.Page], row)
		}
	}
}

// reach returns the keys that open with every row ever written and with what the
// KMSs still have: from the roots downwards, every row under every key known of its
// page, of whatever generation, until nothing new opens.
func (r *rowsEver) reach(t testing.TB, kmss ...*versionedKMS) map[envelope.KeyID]bool {
	type pageSecret struct {
		page   envelope.PageID
		secret string
	}
	known := map[pageSecret]bool{}
	var todo []pageSecret
	learn := func(page envelope.PageID, secret []byte) {
		require.Len(t, secret, 32)
		s := pageSecret{page, string(secret)}
		if !known[s] {
			known[s] = true
			todo = append(todo, s)
		}
	}
	for _, row := range r.roots {
		for _, v := range kmss {
			for _, handle := range v.handles() {
				if secret, err := v.steal(handle).Open(nil, nil, row.Wrapped, envelope.RootAAD(r.store, row)); err == nil {
					learn(0, secret)
				}
			}
		}
	}
	reached := map[envelope.KeyID]bool{}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		key := newAESGCM([]byte(at.secret))
		for _, row := range r.pages[at.page] {
			if secret, err := key.Open(nil, nil, row.Wrapped, envelope.PageAAD(r.store, row)); err == nil {
				learn(row.Page, secret)
			}
		}
		for _, row := range r.keys[at.page] {
			if reached[row.KID] {
				continue
			}
			for purpose := range r.purposes {
				if _, err := key.Open(nil, nil, row.Wrapped, envelope.KeyAAD(r.store, row, purpose)); err == nil {
					reached[row.KID] = true
				}
			}
		}
	}
	return reached
}

func (v *versionedKMS) handles() (out []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for handle := range v.live {
		out = append(out, handle)
	}
	return out
}
