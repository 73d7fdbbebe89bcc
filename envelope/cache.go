package envelope

import (
	"crypto/cipher"
	"hash/maphash"
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

// keySet is what is known about one keyRef. It is immutable but for used.
type keySet struct {
	keys      []*subjectKey // ascending seq; the last seals
	index     IndexKeys     // of an index key, instead of keys
	forgotten bool          // an active tomb forbids the subject or purpose
	expires   int64
	used      atomic.Bool
}

func (s *keySet) newest() *subjectKey { return s.keys[len(s.keys)-1] }

func (s *keySet) byKID(kid KeyID) *subjectKey {
	for i := len(s.keys) - 1; i >= 0; i-- {
		if s.keys[i].kid == kid {
			return s.keys[i]
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
	m    map[keyRef]*keySet
	ring []keyRef // eviction order; may name entries already gone
	hand int
	max  int
}

func newKeyCache(size int) *keyCache {
	c := &keyCache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].max = max(1, size/cacheShards)
		c.shards[i].m = make(map[keyRef]*keySet)
	}
	return c
}

func (c *keyCache) shard(ref *keyRef) *cacheShard {
	return &c.shards[maphash.String(c.seed, ref.id)%cacheShards]
}

func (c *keyCache) get(ref *keyRef, now int64) *keySet {
	s := c.shard(ref)
	s.mu.RLock()
	set := s.m[*ref]
	s.mu.RUnlock()
	if set == nil || now >= set.expires {
		return nil
	}
	if !set.used.Load() {
		set.used.Store(true)
	}
	return set
}

// put stores set unless reject, called under the lock that del takes too, says no.
func (c *keyCache) put(ref keyRef, set *keySet, reject func() bool) bool {
	s := c.shard(&ref)
	s.mu.Lock()
	defer s.mu.Unlock()
	if reject() {
		return false
	}
	if _, there := s.m[ref]; !there {
		for len(s.m) >= s.max || len(s.ring) > 2*s.max {
			s.evict()
		}
		s.ring = append(s.ring, ref)
	}
	s.m[ref] = set
	return true
}

func (s *cacheShard) evict() {
	if s.hand >= len(s.ring) {
		s.hand = 0
	}
	ref := s.ring[s.hand]
	if set := s.m[ref]; set != nil && set.used.Swap(false) {
		s.hand++
		return
	}
	delete(s.m, ref)
	last := len(s.ring) - 1
	s.ring[s.hand] = s.ring[last]
	s.ring = s.ring[:last]
}

func (c *keyCache) del(ref keyRef) {
	s := c.shard(&ref)
	s.mu.Lock()
	delete(s.m, ref)
	s.mu.Unlock()
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
