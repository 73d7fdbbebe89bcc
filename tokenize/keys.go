package tokenize

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// Owner is whose key is meant: a subject's for one purpose or, without Kind and
// ID, the tenant's own.
type Owner struct{ Tenant, Kind, ID, Purpose string }

// KeySet is what Keys knows of an owner.
type KeySet struct {
	Keys []*Key // newest first, not to be changed; empty if there is none
	Err  error  // why the owner's keys cannot be had: ErrForgotten, or a subject that breaks the rules
}

// Keys hands out owners' keys: 32 random bytes each, drawn for this and nothing
// else, and gone when their owner is forgotten. lethe.TokenKeys makes Keys of a
// Keyring. Implementations must be safe for concurrent use, and should return
// the same *Key again while it is valid, since it holds what was prepared with it.
type Keys interface {
	// TokenKeys sets sets[i] to the keys of owners[i], making a first key where there
	// is none if create is set; owners may repeat. The error is for the call as a
	// whole. It keeps neither slice.
	TokenKeys(ctx context.Context, owners []Owner, create bool, sets []KeySet) error
}

// KeySize is the size of a key's secret in bytes.
const KeySize = 32

// Key is one version of an owner's key. It is safe for concurrent use.
type Key struct {
	version  uint32
	secret   [KeySize]byte
	mu       sync.Mutex // held while something is prepared
	prepared atomic.Pointer[[]preparation]
}

// preparation is what one tokenizer made of a key.
type preparation struct {
	by   any
	made any
}

// maxPrepared is how many tokenizers find what they made of a key.
const maxPrepared = 32

// NewKey makes a Key of a version, from 1, and its secret of KeySize uniformly
// random bytes, which it copies.
func NewKey(version uint32, secret []byte) (*Key, error) {
	if version == 0 || len(secret) != KeySize {
		return nil, errors.New("tokenize: a key has a version from 1 and 32 bytes")
	}
	k := &Key{version: version}
	copy(k.secret[:], secret)
	return k, nil
}

// Version returns the key's version.
func (k *Key) Version() uint32 { return k.version }

// Format writes "[token key]", for every verb.
func (k *Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[token key]") }

// prepare returns what first made of the key for by, the first time.
func (k *Key) prepare(by any, first func(k *Key) (any, error)) (any, error) {
	if made := k.find(by); made != nil {
		return made, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if made := k.find(by); made != nil {
		return made, nil
	}
	made, err := first(k)
	if err != nil {
		return nil, err
	}
	var list []preparation
	if p := k.prepared.Load(); p != nil {
		list = append(list, *p...)
	}
	if len(list) == maxPrepared { // a program that makes tokenizers again and again
		list = list[1:]
	}
	list = append(list, preparation{by, made})
	k.prepared.Store(&list)
	return made, nil
}

func (k *Key) find(by any) any {
	if p := k.prepared.Load(); p != nil {
		for i := range *p {
			if (*p)[i].by == by {
				return (*p)[i].made
			}
		}
	}
	return nil
}

// The uses of a key, each with a subkey of its own for each tokenizer.
const (
	useFPE         = "fpe"
	useSeal        = "seal"
	useFingerprint = "fingerprint"
	usePseudonym   = "pseudonym"
	useShift       = "shift"
)

// subkey derives a 32-byte key with HKDF-Expand of RFC 5869 (section 2.3) and
// SHA-256. The key is uniformly random, so there is nothing to extract; what is
// derived is never stored and dies with it.
func (k *Key) subkey(use string, names ...string) ([]byte, error) {
	info := appendLP(appendLP(nil, "lethe/1/token"), use)
	for _, n := range names {
		info = appendLP(info, n)
	}
	return hkdf.Expand(sha256.New, k.secret[:], string(info), KeySize)
}

// appendLP appends v preceded by its length, 4 bytes big-endian.
func appendLP[T string | []byte](dst []byte, v T) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(v)))
	return append(dst, v...)
}
