package envelope

import (
	"crypto/cipher"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
)

// keyRef names the keys of one (tenant, subject, purpose).
type keyRef struct{ tenant, kind, id, purpose string }

// subjectKey is one unwrapped version of a subject key.
type subjectKey struct {
	kid       KeyID
	seq       uint32
	suite     Suite
	sealUntil int64 // Unix seconds; 0: no limit
	aead      cipher.AEAD
	spent     atomic.Bool // sealed enough: the next Seal makes a new version
}

// keySet is what is known about one keyRef. It is immutable but for used and, under
// the lock of its shard of the cache, ref and next.
type keySet struct {
	keys      []*subjectKey // ascending seq; the last seals
	index     IndexKeys     // of an index key, instead of keys
	forgotten bool          // an active tomb forbids the subject or purpose
	expires   int64
	used      atomic.Bool
	first     subjectKey // most sets have one key: kept close, since a hit is mostly waiting for memory
	array     [1]*subjectKey
	ref       keyRef  // in the cache: whose
	next      *keySet // in the cache: another with the same hash
}

func (s *keySet) newest() *subjectKey { return s.keys[len(s.keys)-1] }

func (s *keySet) byKID(kid KeyID) *subjectKey {
	for _, v := range slices.Backward(s.keys) {
		if v.kid == kid {
			return v
		}
	}
	return nil
}

const cacheShards = 16

// keyCache is bounded, with a hard TTL and second-chance eviction.
type keyCache struct {
	seed   maphash.Seed
	shards [cacheShards]cacheShard
}

type cacheShard struct {
	mu   sync.RWMutex
	m    map[uint64]*keySet // by hash; chained where hashes collide
	n    int                // entries
	ring []keyRef           // eviction order; may name entries already gone
	hand int
	max  int
}

func newKeyCache(size int) *keyCache {
	c := &keyCache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].max = max(1, size/cacheShards)
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

func (c *keyCache) shard(hash uint64) *cacheShard { return &c.shards[hash>>32%cacheShards] }

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
	for set != nil && set.ref != *ref {
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
	if !s.remove(h, &ref) {
		for s.n >= s.max || len(s.ring) > 2*s.max {
			s.evict(c)
		}
		s.ring = append(s.ring, ref)
	}
	set.ref, set.next = ref, s.m[h]
	s.m[h] = set
	s.n++
	return true
}

// remove takes the entry of ref out. The caller holds the lock.
func (s *cacheShard) remove(hash uint64, ref *keyRef) bool {
	before := s.m[hash]
	if before == nil {
		return false
	}
	if before.ref == *ref {
		if before.next == nil {
			delete(s.m, hash)
		} else {
			s.m[hash] = before.next
		}
		s.n--
		return true
	}
	for set := before.next; set != nil; before, set = set, set.next {
		if set.ref == *ref {
			before.next = set.next
			s.n--
			return true
		}
	}
	return false
}

func (s *cacheShard) evict(c *keyCache) {
	if s.hand >= len(s.ring) {
		s.hand = 0
	}
	ref := s.ring[s.hand]
	h := c.hash(&ref)
	if set := s.find(h, &ref); set != nil && set.used.Swap(false) {
		s.hand++
		return
	}
	s.remove(h, &ref)
	last := len(s.ring) - 1
	s.ring[s.hand] = s.ring[last]
	s.ring[last] = keyRef{}
	s.ring = s.ring[:last]
}

func (c *keyCache) del(ref keyRef) {
	h := c.hash(&ref)
	s := c.shard(h)
	s.mu.Lock()
	s.remove(h, &ref)
	s.mu.Unlock()
}

// drop removes the sets that gone, called under the lock of their shard, says of.
func (c *keyCache) drop(gone func(*keySet) bool) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		var refs []keyRef
		for _, set := range s.m {
			for ; set != nil; set = set.next {
				if gone(set) {
					refs = append(refs, set.ref)
				}
			}
		}
		for j := range refs {
			s.remove(c.hash(&refs[j]), &refs[j])
		}
		s.mu.Unlock()
	}
}

func (c *keyCache) purge() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		clear(s.m)
		s.ring, s.hand, s.n = nil, 0, 0
		s.mu.Unlock()
	}
}
