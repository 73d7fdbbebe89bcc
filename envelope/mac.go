package envelope

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"strings"
	"sync"
)

// macKey is HMAC-SHA-256 under one key; its keyed states are reused.
type macKey struct{ pool sync.Pool }

func newMACKey(secret []byte) *macKey {
	secret = append([]byte(nil), secret...)
	m := &macKey{}
	m.pool.New = func() any { return &macState{h: hmac.New(sha256.New, secret)} }
	return m
}

type macState struct {
	h   hash.Hash
	in  []byte
	sum [32]byte
}

// sum returns the MAC of what fill appends.
func (m *macKey) sum(fill func(dst []byte) []byte) [32]byte {
	s, _ := m.pool.Get().(*macState)
	s.in = fill(s.in[:0])
	s.h.Reset()
	s.h.Write(s.in)
	s.h.Sum(s.sum[:0])
	clear(s.in)
	out := s.sum
	m.pool.Put(s)
	return out
}

// sref is the keyed pseudonym of a subject. The purpose is not part of it, so
// that forgetting a person finds every purpose.
func (k *Keyring) sref(tenant, kind, id string) SRef {
	sum := k.refKey.sum(func(b []byte) []byte {
		return appendLP(appendLP(appendLP(b, tenant), kind), id)
	})
	return SRef(sum[:SRefSize])
}

// systemSRef stands for a subject in the rows of the store's own keys.
func systemSRef(kind KeyKind) SRef {
	sum := sha256.Sum256(append(appendLP(nil, "lethe/1/system"), byte(kind)))
	return SRef(sum[:SRefSize])
}

// indexKind is the subject kind of index keys; callers cannot use it, since it
// has a control character.
const indexKind = "\x00index"

// maxIndexVersion keeps the first byte of an index value below that of any text.
const maxIndexVersion = 8191

// IndexKey is one version of the key of a blind index. It is safe for concurrent use.
type IndexKey struct {
	Version uint16
	mac     *macKey
}

// IndexKeys are the versions of an index key, newest first.
type IndexKeys []IndexKey

// IndexKeys returns the keys of the blind index (record, field) of a tenant.
// With mint, a first key is made if there is none; without, the result may be
// empty: nothing was ever indexed.
func (k *Keyring) IndexKeys(ctx context.Context, tenant, record, field string, mint bool) (IndexKeys, error) {
	ref := keyRef{tenant: tenant, kind: indexKind, id: k.indexIDs.of(record, field)}
	if set := k.cache.get(&ref, k.clock.now()); k.usable(set, mint) && !k.closed.Load() { // as acquire would find it
		return set.index(), nil
	}
	return k.loadIndexKeys(ctx, ref, mint)
}

func (k *Keyring) loadIndexKeys(ctx context.Context, ref keyRef, mint bool) (IndexKeys, error) {
	var one [1]*keySet
	if err := k.acquire(ctx, []keyRef{ref}, one[:], mint); err != nil {
		return nil, err
	}
	if err := one[0].damage(); err != nil {
		return nil, err
	}
	if one[0] == nil || one[0].forgotten {
		return nil, nil
	}
	return one[0].index(), nil
}

// indexIDs remembers the subject ids of index keys, lp record | lp field. A
// program declares few indexes; it is bounded all the same.
type indexIDs struct {
	mu sync.RWMutex
	m  map[indexName]string
}

type indexName struct{ record, field string }

const keptIndexIDs = 1024

func (x *indexIDs) of(record, field string) string {
	name := indexName{record, field}
	x.mu.RLock()
	id, ok := x.m[name]
	x.mu.RUnlock()
	if ok {
		return id
	}
	id = string(appendLP(appendLP(nil, record), field))
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.m == nil || len(x.m) >= keptIndexIDs {
		x.m = map[indexName]string{}
	}
	x.m[indexName{strings.Clone(record), strings.Clone(field)}] = id
	return id
}

// Append appends the index value of an already normalised plaintext: the key's
// version (2 bytes) and the first bits (8 to 256) of HMAC-SHA-256(index key,
// lp normaliser | value); unused bits of the last byte are zero.
func (ik *IndexKey) Append(dst []byte, normaliser string, value []byte, bits int) []byte {
	s, _ := ik.mac.pool.Get().(*macState)
	s.in = append(appendLP(s.in[:0], normaliser), value...)
	s.h.Reset()
	s.h.Write(s.in)
	s.h.Sum(s.sum[:0])
	clear(s.in)
	dst = binary.BigEndian.AppendUint16(dst, ik.Version)
	bits = min(max(bits, 8), 256)
	n := (bits + 7) / 8
	dst = append(dst, s.sum[:n]...)
	if extra := n*8 - bits; extra > 0 {
		dst[len(dst)-1] &= 0xff << extra
	}
	ik.mac.pool.Put(s)
	return dst
}
