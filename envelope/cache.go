package envelope

import (
	"crypto/cipher"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// keyRef names the keys of one (tenant, subject, purpose).
type keyRef struct{ tenant, kind, id, purpose string }

// subjectKey is one unwrapped version of a subject key.
type subjectKey struct {
	kid       KeyID
	seq       uint32
	sealUntil int64 // Unix seconds; 0: no limit
	aead      cipher.AEAD
	suite     Suite
}

// keySet is what is known about one keyRef. It is immutable but for spent, used
// and, under the lock of its shard of the cache, ref, next and at. A hit is mostly
// waiting for memory, so what a hit reads lies together and the rest elsewhere.
type keySet struct {
	id        [idRoom]byte // in the cache: ref.id, if it fits, so that a hit does not wait for a string's memory
	idLen     uint8        // 0: in ref.id
	used      atomic.Bool
	spent     atomic.Bool // newest sealed enough: the next Seal makes a new version
	forgotten bool        // an active tomb forbids the subject or purpose
	suspended bool        // with forgotten: for the time being only
	at        int32       // in the cache: place in the shard's ring
	hash      uint64      // in the cache: of ref
	next      *keySet     // in the cache: another with the same hash
	expires   int64
	ref       keyRef     // in the cache: whose
	newest    subjectKey // seals; there is none if its kid is zero
	more      *moreKeys
}

// idRoom holds a UUID with a prefix.
const idRoom = 40

// setRef says whose the set is. It copies the id, which may be part of something large.
func (s *keySet) setRef(ref keyRef, hash uint64) {
	if n := len(ref.id); n > 0 && n <= idRoom {
		s.idLen = uint8(copy(s.id[:], ref.id))
		ref.id = ""
	} else {
		ref.id = strings.Clone(ref.id)
	}
	s.ref, s.hash = ref, hash
}

func (s *keySet) is(ref *keyRef) bool {
	if s.idLen > 0 {
		if string(s.id[:s.idLen]) != ref.id {
			return false
		}
	} else if s.ref.id != ref.id {
		return false
	}
	return s.ref.kind == ref.kind && s.ref.tenant == ref.tenant && s.ref.purpose == ref.purpose
}

// moreKeys are the parts of a keySet that most do not have.
type moreKeys struct {
	older  []subjectKey // ascending seq
	index  IndexKeys    // of an index key, newest first
	token  []*TokenKey  // of a token key, newest first
	damage error        // why the rows do not open; such a set is not cached
}

func damagedSet(err error) *keySet { return &keySet{more: &moreKeys{damage: err}} }

// damage is ErrDecrypt or ErrKeyMissing with its reason, or nil.
func (s *keySet) damage() error {
	if s == nil || s.more == nil {
		return nil
	}
	return s.more.damage
}

func (s *keySet) has() bool { return s.newest.kid != KeyID{} }

func (s *keySet) index() IndexKeys {
	if s.more == nil {
		return nil
	}
	return s.more.index
}

func (s *keySet) byKID(kid KeyID) *subjectKey {
	if s.newest.kid == kid && s.has() {
		return &s.newest
	}
	if s.more != nil {
		for i := range s.more.older {
			if s.more.older[i].kid == kid {
				return &s.more.older[i]
			}
		}
	}
	return nil
}

// extended returns a set with the versions of s, to which others can be added.
func (s *keySet) extended(expires int64) *keySet {
	out := &keySet{expires: expires}
	if s == nil {
		return out
	}
	out.newest = s.newest
	if s.more != nil {
		out.more = &moreKeys{older: slices.Clone(s.more.older), index: slices.Clone(s.more.index), token: slices.Clone(s.more.token)}
	}
	return out
}

// add adds a newer version.
func (s *keySet) add(row *KeyRow, secret []byte) error {
	key := subjectKey{kid: row.KID, seq: row.Seq, suite: row.Suite, sealUntil: row.SealUntil}
	if s.more == nil && (s.has() || row.Kind == KindIndex) {
		s.more = &moreKeys{}
	}
	if row.Kind == KindIndex {
		if row.Seq > maxIndexVersion {
			return fmt.Errorf("%w: index key version %d is too high", ErrDecrypt, row.Seq)
		}
		s.more.index = slices.Insert(s.more.index, 0, IndexKey{Version: uint16(row.Seq), mac: newMACKey(secret)})
	} else {
		var err error
		if key.aead, err = row.Suite.aead(secret); err != nil {
			return err
		}
	}
	if s.has() {
		s.more.older = append(s.more.older, s.newest)
	}
	s.newest = key
	return nil
}

const maxCacheShards = 64

// keyCache is bounded, with a hard TTL and second-chance eviction.
type keyCache struct {
	seed   maphash.Seed
	shards []cacheShard // a power of two, fewer for a small cache
}

type cacheShard struct {
	mu   sync.RWMutex
	m    map[uint64]*keySet // by hash; chained where hashes collide
	ring []*keySet          // all entries, in eviction order
	hand int
	max  int
	_    [64]byte // so that the locks of two shards share no line of the processor's cache
}

func newKeyCache(size int) *keyCache {
	n := 1
	for n < maxCacheShards && 16*n <= size {
		n *= 2
	}
	c := &keyCache{seed: maphash.MakeSeed(), shards: make([]cacheShard, n)}
	for i := range c.shards {
		c.shards[i].max = size / n
		c.shards[i].m = make(map[uint64]*keySet)
	}
	return c
}

func (c *keyCache) hash(ref *keyRef) uint64 {
	h := maphash.String(c.seed, ref.id) // kinds that share an id share a chain
	if ref.tenant != "" {
		h = h*31 + maphash.String(c.seed, ref.tenant)
	}
	if ref.purpose != "" {
		h = h*37 + maphash.String(c.seed, ref.purpose)
	}
	return h
}

func (c *keyCache) shard(hash uint64) *cacheShard { return &c.shards[hash>>32&uint64(len(c.shards)-1)] }

func (c *keyCache) get(ref *keyRef, now int64) *keySet {
	h := c.hash(ref)
	s := c.shard(h)
	s.mu.RLock()
	set := s.find(h, ref)
	s.mu.RUnlock()
	if set == nil || now >= set.expires {
		return nil
	}
	if !set.used.Load() {
		set.used.Store(true)
	}
	return set
}

func (s *cacheShard) find(hash uint64, ref *keyRef) *keySet {
	set := s.m[hash]
	for set != nil && !set.is(ref) {
		set = set.next
	}
	return set
}

// put stores set, which is no other ref's, unless reject, called under the lock
// that del takes too, says no.
func (c *keyCache) put(ref keyRef, set *keySet, reject func() bool) bool {
	h := c.hash(&ref)
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if reject() {
		return false
	}
	if old := s.find(h, &ref); old != nil {
		s.unlink(old)
		set.at = old.at
		s.ring[set.at] = set
	} else {
		for len(s.ring) >= s.max {
			s.evict()
		}
		set.at = int32(len(s.ring))
		s.ring = append(s.ring, set)
	}
	set.setRef(ref, h)
	set.next = s.m[h]
	s.m[h] = set
	return true
}

// unlink takes an entry out of the map. The caller holds the lock.
func (s *cacheShard) unlink(set *keySet) {
	before := s.m[set.hash]
	switch {
	case before != set:
		for before.next != set {
			before = before.next
		}
		before.next = set.next
	case set.next == nil:
		delete(s.m, set.hash)
	default:
		s.m[set.hash] = set.next
	}
}

// remove takes an entry out. The caller holds the lock.
func (s *cacheShard) remove(set *keySet) {
	s.unlink(set)
	last := len(s.ring) - 1
	moved := s.ring[last]
	s.ring[set.at], moved.at = moved, set.at
	s.ring[last] = nil
	s.ring = s.ring[:last]
}

// evict removes the next entry that was not used since the hand last passed it.
func (s *cacheShard) evict() {
	for {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		set := s.ring[s.hand]
		if !set.used.Swap(false) {
			s.remove(set)
			return
		}
		s.hand++
	}
}

func (c *keyCache) del(ref keyRef) {
	h := c.hash(&ref)
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if set := s.find(h, &ref); set != nil {
		s.remove(set)
	}
}

// drop removes the sets that gone, called under the lock of their shard, says of.
func (c *keyCache) drop(gone func(*keySet) bool) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, set := range slices.Backward(s.ring) { // remove moves the last, seen by then, into the gap
			if gone(set) {
				s.remove(set)
			}
		}
		s.mu.Unlock()
	}
}

func (c *keyCache) purge() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		clear(s.m)
		s.ring, s.hand = nil, 0
		s.mu.Unlock()
	}
}
