package envelope

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/lethe-go/lethe/envelope/internal/wire"
)

// The associated data of every wrap and cell (FORMAT.md, "Contexts"). Each
// begins with a label of its own, so no wrap can stand in for another.

func (k *KeyRow) appendAAD(dst []byte, store StoreID, purpose string) []byte {
	dst = appendLP(dst, "lethe/1/key")
	dst = append(dst, store[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(k.Tree))
	dst = append(dst, k.KID[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(k.Page))
	dst = binary.BigEndian.AppendUint64(dst, k.PageGen)
	dst = append(dst, byte(k.Kind), byte(k.Suite))
	dst = binary.BigEndian.AppendUint32(dst, k.RefVer)
	dst = append(dst, k.SRef[:]...)
	dst = appendLP(dst, purpose)
	dst = binary.BigEndian.AppendUint32(dst, k.Seq)
	dst = binary.BigEndian.AppendUint64(dst, uint64(k.Created))
	dst = binary.BigEndian.AppendUint64(dst, uint64(k.SealUntil))
	return binary.BigEndian.AppendUint64(dst, uint64(k.Expires))
}

func (p *PageRow) appendAAD(dst []byte, store StoreID) []byte {
	dst = appendLP(dst, "lethe/1/page")
	dst = append(dst, store[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(p.Tree))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Page))
	dst = append(dst, p.Level)
	dst = binary.BigEndian.AppendUint64(dst, p.Gen)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Parent))
	dst = binary.BigEndian.AppendUint64(dst, p.ParentGen)
	return append(dst, byte(p.Suite))
}

func (r *RootRow) appendAAD(dst []byte, store StoreID) []byte {
	dst = appendLP(dst, "lethe/1/root")
	dst = append(dst, store[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.Tree))
	dst = binary.BigEndian.AppendUint64(dst, r.Epoch)
	return appendLP(dst, r.KMSURI)
}

// rootCommit commits to a root page key and its suite, so that a KMS that answers with another
// key is found out before anything is wrapped under it.
func rootCommit(store StoreID, tree TreeID, epoch uint64, suite Suite, key []byte) [32]byte {
	b := appendLP(make([]byte, 0, 128), "lethe/1/root-commit")
	b = append(b, store[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(tree))
	b = binary.BigEndian.AppendUint64(b, epoch)
	b = append(b, byte(suite))
	b = append(b, key...)
	sum := sha256.Sum256(b)
	clear(b)
	return sum
}

// dekCommit is SHA-256(lp "lethe/1/commit" | cellSuite | DEK): neither GCM nor
// Poly1305 commits to its key, this does.
func dekCommit(suite Suite, dek []byte) [32]byte {
	var buf [64]byte
	b := appendLP(buf[:0], "lethe/1/commit")
	b = append(b, byte(suite))
	b = append(b, dek...)
	sum := sha256.Sum256(b)
	clear(buf[:])
	return sum
}

// recordDigest is RD: it binds all scopes of a header together. It has no wrap
// suite and no kid, so a rewrap keeps it.
func recordDigest(h *wire.Header) [32]byte {
	var buf [256]byte
	b := appendLP(buf[:0], "lethe/1/record")
	p := h.Prelude()
	b = append(b, p[:]...)
	for i := range h.Scopes {
		b = binary.BigEndian.AppendUint16(b, h.Scopes[i].Tag)
		b = append(b, h.Scopes[i].Commit[:]...)
	}
	return sha256.Sum256(b)
}

// scopeTag numbers a scope by its names, so that reordering the fields of a
// struct changes nothing: SHA-256(lp "lethe/1/scope" | lp group | lp purpose)[:2].
func scopeTag(group, purpose string) uint16 {
	var buf [128]byte
	b := appendLP(buf[:0], "lethe/1/scope")
	b = appendLP(b, group)
	b = appendLP(b, purpose)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint16(sum[:])
}

// appendScopeNames appends the part of a data key's context that names its scope.
func appendScopeNames(dst []byte, record, group, purpose string) []byte {
	return appendLP(appendLP(appendLP(dst, record), group), purpose)
}

// appendDEKAAD is the context of a wrapped data key; names is from
// appendScopeNames. rowid is empty when bound is false.
func appendDEKAAD(dst []byte, store StoreID, wrapSuite Suite, kid KeyID, subject *Subject, names []byte, bound bool, rowID string, rd *[32]byte) []byte {
	dst = appendLP(dst, "lethe/1/dek")
	dst = append(dst, store[:]...)
	dst = append(dst, byte(wrapSuite))
	dst = append(dst, kid[:]...)
	dst = appendLP(dst, subject.Tenant)
	dst = appendLP(dst, subject.Kind)
	dst = appendLP(dst, subject.ID)
	dst = append(dst, names...)
	if bound {
		dst = append(dst, 1)
		dst = appendLP(dst, rowID)
	} else {
		dst = append(dst, 0)
		dst = appendLP(dst, "")
	}
	return append(dst, rd[:]...)
}

// cellByte0 is where the first byte of a cell stands in its context; the suite follows.
const cellByte0 = 4 + len("lethe/1/cell")

// appendCellContext appends the context of a cell, with zeros for its first byte and suite.
func appendCellContext(dst []byte, record, field string) []byte {
	dst = appendLP(dst, "lethe/1/cell")
	dst = append(dst, 0, 0)
	return appendLP(appendLP(dst, record), field)
}
