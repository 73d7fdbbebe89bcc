package envelope

import (
	"hash/maphash"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

const maxCacheShards = 64

// keyCache is bounded, with a hard TTL and second-chance eviction. A get takes no
// lock; what put, del, drop and purge did before it began, it sees.
type keyCache struct {
	seed   maphash.Seed
	tables []atomic.Pointer[cacheTable] // per shard
	shards []cacheShard                 // a power of two, fewer for a small cache
}

// cacheShard is what only those who change the cache need.
type cacheShard struct {
	mu    sync.Mutex
	table *atomic.Pointer[cacheTable]
	ring  []*keySet // all entries, in eviction order
	hand  int
	max   int
	_     [64]byte // so that the locks of two shards share no line of the processor's cache
}

// cacheTable is a hash table that is read while one writer, under the shard's
// lock, changes it. An entry never moves within a table, and one that is larger
// replaces it whole.
type cacheTable struct {
	buckets []bucket // a power of two
}

// bucket is one line of the processor's cache. An entry is in the first bucket
// from its home on that had room; past counts those that had to pass this one.
type bucket struct {
	tags [bucketRoom]atomic.Uint32
	past atomic.Uint32
	sets [bucketRoom]atomic.Pointer[keySet]
}

const (
	bucketRoom = 5
	// A table is at most 16/25 full: then one bucket in twelve overflows.
	bucketsPer, entriesPer = 5, 16
)

func newCacheTable(buckets int) *cacheTable { return &cacheTable{make([]bucket, buckets)} }

// tagOf and home use different parts of the hash, and shard a third.
func tagOf(hash uint64) uint32 { return uint32(hash >> 32) }

func (t *cacheTable) home(hash uint64) uint32 { return uint32(hash) & uint32(len(t.buckets)-1) }

// has returns a bit for each entry that may have the hash, without a branch that
// would wait for the bucket's memory and then be mispredicted.
func (b *bucket) has(tag uint32) (match uint32) {
	for i := range b.tags {
		match |= uint32((uint64(b.tags[i].Load()^tag)-1)>>63) << i
	}
	return match
}

func (t *cacheTable) find(hash uint64, ref *keyRef) *keySet {
	tag, home := tagOf(hash), t.home(hash)
	// Not until one that none passed: as entries come and go, all can be passed.
	for n := range uint32(len(t.buckets)) {
		b := &t.buckets[(home+n)&uint32(len(t.buckets)-1)]
		for match := b.has(tag); match != 0; match &= match - 1 {
			if set := b.sets[bits.TrailingZeros32(match)].Load(); set != nil && set.is(ref) {
				return set
			}
		}
		if b.past.Load() == 0 {
			break
		}
	}
	return nil
}

// insert adds an entry that is not there. The table has room. The caller holds the lock.
func (t *cacheTable) insert(hash uint64, set *keySet) {
	for at := t.home(hash); ; at++ {
		b := &t.buckets[at&uint32(len(t.buckets)-1)]
		for i := range b.sets {
			if b.sets[i].Load() == nil {
				b.sets[i].Store(set)
				b.tags[i].Store(tagOf(hash))
				return
			}
		}
		b.past.Add(1)
	}
}

// replace puts another set, or nil for none, where an entry is. The caller holds the lock.
func (t *cacheTable) replace(hash uint64, old, set *keySet) {
	for at := t.home(hash); ; at++ {
		b := &t.buckets[at&uint32(len(t.buckets)-1)]
		for i := range b.sets {
			if b.sets[i].Load() == old {
				b.sets[i].Store(set)
				return
			}
		}
		if set == nil {
			b.past.Add(^uint32(0))
		}
	}
}

func newKeyCache(size int) *keyCache {
	n := 1
	for n < maxCacheShards && 16*n <= size {
		n *= 2
	}
	c := &keyCache{seed: maphash.MakeSeed(), tables: make([]atomic.Pointer[cacheTable], n), shards: make([]cacheShard, n)}
	for i := range c.shards {
		c.tables[i].Store(newCacheTable(1))
		c.shards[i].table, c.shards[i].max = &c.tables[i], size/n
	}
	return c
}

func (c *keyCache) hash(ref *keyRef) uint64 {
	h := maphash.String(c.seed, ref.id) // kinds that share an id share a hash
	if ref.tenant != "" {
		h = h*31 + maphash.String(c.seed, ref.tenant)
	}
	if ref.purpose != "" {
		h = h*37 + maphash.String(c.seed, ref.purpose)
	}
	return h
}

func (c *keyCache) hashOf(set *keySet) uint64 {
	ref := set.ref()
	return c.hash(&ref)
}

func (c *keyCache) shardOf(hash uint64) int { return int(hash >> 24 & uint64(len(c.shards)-1)) }

func (c *keyCache) get(ref *keyRef, now int64) *keySet {
	h := c.hash(ref)
	set := c.tables[c.shardOf(h)].Load().find(h, ref)
	if set == nil || now >= set.expires {
		return nil
	}
	if set.flags.Load()&flagUsed == 0 {
		set.flags.Or(flagUsed)
	}
	return set
}

// put stores set, which is no other ref's, unless reject, called under the lock
// that del takes too, says no.
func (c *keyCache) put(ref keyRef, set *keySet, reject func() bool) bool {
	h := c.hash(&ref)
	s := &c.shards[c.shardOf(h)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if reject() {
		return false
	}
	set.setRef(&ref)
	if old := s.table.Load().find(h, &ref); old != nil {
		set.at = old.at
		s.ring[set.at] = set
		s.table.Load().replace(h, old, set)
		return true
	}
	for len(s.ring) >= s.max {
		c.evict(s)
	}
	set.at = int32(len(s.ring))
	s.ring = append(s.ring, set)
	if n := len(s.table.Load().buckets); len(s.ring)*bucketsPer > n*entriesPer {
		larger := newCacheTable(2 * n)
		for _, set := range s.ring {
			larger.insert(c.hashOf(set), set)
		}
		s.table.Store(larger)
		return true
	}
	s.table.Load().insert(h, set)
	return true
}

// remove takes an entry out. The caller holds the lock.
func (c *keyCache) remove(s *cacheShard, set *keySet) {
	s.table.Load().replace(c.hashOf(set), set, nil)
	last := len(s.ring) - 1
	moved := s.ring[last]
	s.ring[set.at], moved.at = moved, set.at
	s.ring[last] = nil
	s.ring = s.ring[:last]
}

// evict removes the next entry that was not used since the hand last passed it.
func (c *keyCache) evict(s *cacheShard) {
	for {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		set := s.ring[s.hand]
		if set.flags.And(^uint32(flagUsed))&flagUsed == 0 {
			c.remove(s, set)
			return
		}
		s.hand++
	}
}

func (c *keyCache) del(ref keyRef) {
	h := c.hash(&ref)
	s := &c.shards[c.shardOf(h)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if set := s.table.Load().find(h, &ref); set != nil {
		c.remove(s, set)
	}
}

// drop removes the sets that gone, called under the lock of their shard, says of.
func (c *keyCache) drop(gone func(*keySet) bool) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, set := range slices.Backward(s.ring) { // remove moves the last, seen by then, into the gap
			if gone(set) {
				c.remove(s, set)
			}
		}
		s.mu.Unlock()
	}
}

func (c *keyCache) purge() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.table.Store(newCacheTable(1))
		s.ring, s.hand = nil, 0
		s.mu.Unlock()
	}
}
