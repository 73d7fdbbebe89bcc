package envelope

import (
	"crypto/cipher"
	"fmt"
	"slices"
	"sync/atomic"
	"unique"
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

// keySet is what is known about one keyRef. It is immutable but for flags and,
// under the lock of its shard of the cache, at; put sets its owner before others
// see it. A hit is mostly waiting for memory, so the set is two lines of the
// processor's cache: the first tells whether it is the right one, the second has
// the key.
type keySet struct {
	id        [idRoom]byte // in the cache: the subject's id, if it fits, so that a hit does not wait for a string's memory
	idLen     uint8        // 0: in owner
	forgotten bool         // an active tomb forbids the subject or purpose
	suspended bool         // with forgotten: for the time being only
	flags     atomic.Uint32
	expires   int64
	owner     unique.Handle[owner] // in the cache: whose

	newest subjectKey // seals; there is none if its kid is zero
	more   *moreKeys
	at     int32 // in the cache: place in the shard's ring
}

const (
	flagUsed  = 1 << iota // since the hand of the eviction last passed
	flagSpent             // newest sealed enough: the next Seal makes a new version
)

// idRoom holds a UUID with a prefix.
const idRoom = 40

// owner is the part of a keyRef that many share.
type owner struct{ tenant, kind, purpose, longID string }

// setRef says whose the set is. It copies what may be part of something large.
func (s *keySet) setRef(ref *keyRef) {
	o := owner{tenant: ref.tenant, kind: ref.kind, purpose: ref.purpose}
	if n := len(ref.id); n > 0 && n <= idRoom {
		s.idLen = uint8(copy(s.id[:], ref.id))
	} else {
		s.idLen, o.longID = 0, ref.id
	}
	s.owner = unique.Make(o)
}

// ref returns whose the set is, which is in the cache.
func (s *keySet) ref() keyRef {
	o := s.owner.Value()
	if s.idLen > 0 {
		o.longID = string(s.id[:s.idLen])
	}
	return keyRef{tenant: o.tenant, kind: o.kind, id: o.longID, purpose: o.purpose}
}

func (s *keySet) is(ref *keyRef) bool {
	if s.idLen > 0 && string(s.id[:s.idLen]) != ref.id {
		return false
	}
	o := s.owner.Value()
	return o.kind == ref.kind && o.tenant == ref.tenant && o.purpose == ref.purpose && (s.idLen > 0 || o.longID == ref.id)
}

func (s *keySet) spent() bool { return s.flags.Load()&flagSpent != 0 }

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
