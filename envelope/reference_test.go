package envelope

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"testing"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
)

// A second implementation of FORMAT.md, written from its text alone: it shares
// no code and no type with the first, so that a slip in either is seen. Numbers
// in brackets are sections of FORMAT.md.

// The classes of failure [7].
var (
	errRefMalformed  = errors.New("malformed")
	errRefDecrypt    = errors.New("decrypt")
	errRefKeyMissing = errors.New("key-missing")
)

func refU(n int, v uint64) []byte {
	out := make([]byte, n)
	for i := n - 1; i >= 0; i-- {
		out[i], v = byte(v), v>>8
	}
	return out
}

func refLP(s string) []byte { return append(refU(4, uint64(len(s))), s...) }

func refCat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func refHash(parts ...[]byte) []byte {
	sum := sha256.Sum256(refCat(parts...))
	return sum[:]
}

// refMAC and refAEAD also take short keys, given nonces and suite 2, which
// GODEBUG=fips140=only refuses: the reference is not held to it.
func refMAC(key []byte, parts ...[]byte) (sum []byte) {
	fips140.WithoutEnforcement(func() {
		m := hmac.New(sha256.New, key)
		_, _ = m.Write(refCat(parts...)) // never fails
		sum = m.Sum(nil)
	})
	return sum
}

// refNonceLen returns 0 for an unknown suite [2].
func refNonceLen(suite byte) int { return map[byte]int{1: 12, 2: 24}[suite] }

// refAEAD returns the AEAD and the nonce it takes [2]; XChaCha20 is built from its parts.
func refAEAD(suite byte, key, nonce []byte) (a cipher.AEAD, n []byte, err error) {
	fips140.WithoutEnforcement(func() { a, n, err = refCipher(suite, key, nonce) })
	return a, n, err
}

func refCipher(suite byte, key, nonce []byte) (cipher.AEAD, []byte, error) {
	if suite == 1 {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, nil, err
		}
		a, err := cipher.NewGCM(block)
		return a, nonce, err
	}
	sub, err := chacha20.HChaCha20(key, nonce[:16])
	if err != nil {
		return nil, nil, err
	}
	a, err := chacha20poly1305.New(sub)
	return a, append(make([]byte, 4), nonce[16:]...), err
}

func refSeal(suite byte, key, nonce, plain, aad []byte) ([]byte, error) {
	a, n, err := refAEAD(suite, key, nonce)
	if err != nil {
		return nil, err
	}
	return append(bytes.Clone(nonce), a.Seal(nil, n, plain, aad)...), nil
}

func refOpen(suite byte, key, sealed, aad []byte) ([]byte, error) {
	n := refNonceLen(suite)
	if n == 0 || len(sealed) < n+16 {
		return nil, errRefDecrypt
	}
	a, nonce, err := refAEAD(suite, key, sealed[:n])
	if err != nil {
		return nil, errRefDecrypt
	}
	plain, err := a.Open(nil, nonce, sealed[n:], aad)
	if err != nil {
		return nil, errRefDecrypt
	}
	return plain, nil
}

// refScope is one scope of a header [4].
type refScope struct {
	wrapSuite byte
	tag       []byte // 2
	kid       []byte // 12
	wrap      []byte
	commit    []byte // 32
}

type refHeader struct {
	cellSuite byte
	bound     bool
	scopes    []refScope
}

func refParseHeader(b []byte) (*refHeader, error) {
	if len(b) < 3 || b[0] != 1 || refNonceLen(b[1]) == 0 || b[2]>>4 > 1 || b[2]&15 == 0 {
		return nil, errRefMalformed
	}
	h := &refHeader{cellSuite: b[1], bound: b[2]>>4 == 1}
	rest := b[3:]
	for range b[2] & 15 {
		if len(rest) == 0 || refNonceLen(rest[0]) == 0 {
			return nil, errRefMalformed
		}
		wrap := refNonceLen(rest[0]) + 48
		if len(rest) < 15+wrap+32 {
			return nil, errRefMalformed
		}
		s := refScope{rest[0], rest[1:3], rest[3:15], rest[15 : 15+wrap], rest[15+wrap : 15+wrap+32]}
		if n := len(h.scopes); n > 0 && bytes.Compare(h.scopes[n-1].tag, s.tag) >= 0 {
			return nil, errRefMalformed
		}
		h.scopes = append(h.scopes, s)
		rest = rest[15+wrap+32:]
	}
	if len(rest) > 0 {
		return nil, errRefMalformed
	}
	return h, nil
}

func (h *refHeader) prelude() []byte {
	b := []byte{1, h.cellSuite, byte(len(h.scopes))}
	if h.bound {
		b[2] |= 0x10
	}
	return b
}

func (h *refHeader) bytes() []byte {
	out := h.prelude()
	for _, s := range h.scopes {
		out = append(out, refCat([]byte{s.wrapSuite}, s.tag, s.kid, s.wrap, s.commit)...)
	}
	return out
}

func (h *refHeader) digest() []byte {
	b := refCat(refLP("lethe/1/record"), h.prelude())
	for _, s := range h.scopes {
		b = append(b, refCat(s.tag, s.commit)...)
	}
	return refHash(b)
}

func refTag(group, purpose string) []byte {
	return refHash(refLP("lethe/1/scope"), refLP(group), refLP(purpose))[:2]
}

func refCommit(cellSuite byte, dek []byte) []byte {
	return refHash(refLP("lethe/1/commit"), []byte{cellSuite}, dek)
}

func refCellContext(byte0, cellSuite byte, record, field string) []byte {
	return refCat(refLP("lethe/1/cell"), []byte{byte0, cellSuite}, refLP(record), refLP(field))
}

// refNames are the names a DEK is bound to [6].
type refNames struct{ tenant, kind, id, record, group, purpose, rowID string }

func refDEKContext(store []byte, wrapSuite byte, kid []byte, n refNames, bound bool, rd []byte) []byte {
	flag, rowID := byte(0), ""
	if bound {
		flag, rowID = 1, n.rowID
	}
	return refCat(refLP("lethe/1/dek"), store, []byte{wrapSuite}, kid, refLP(n.tenant), refLP(n.kind), refLP(n.id),
		refLP(n.record), refLP(n.group), refLP(n.purpose), []byte{flag}, refLP(rowID), rd)
}

// refKey is a subject key of the owner and purpose it is kept for.
type refKey struct {
	tenant, kind, id, purpose string
	kid                       []byte
	suite                     byte
	key                       []byte
}

// refOpenCell is section 7; rowID "" means the caller gave none.
func refOpenCell(store, header, cell []byte, keys []refKey, n refNames, field string) (codec byte, plain, dek []byte, err error) {
	h, err := refParseHeader(header)
	if err != nil {
		return 0, nil, nil, err
	}
	var s *refScope
	for i := range h.scopes {
		if bytes.Equal(h.scopes[i].tag, refTag(n.group, n.purpose)) {
			s = &h.scopes[i]
		}
	}
	if s == nil {
		return 0, nil, nil, errRefDecrypt
	}
	var key *refKey
	for i, k := range keys {
		if k.tenant == n.tenant && k.kind == n.kind && k.id == n.id && k.purpose == n.purpose && bytes.Equal(k.kid, s.kid) {
			key = &keys[i]
		}
	}
	if key == nil {
		return 0, nil, nil, errRefKeyMissing
	}
	if key.suite != s.wrapSuite || h.bound && n.rowID == "" {
		return 0, nil, nil, errRefDecrypt
	}
	dek, err = refOpen(s.wrapSuite, key.key, s.wrap, refDEKContext(store, s.wrapSuite, s.kid, n, h.bound, h.digest()))
	if err != nil {
		return 0, nil, nil, err
	}
	if len(dek) != 32 || !bytes.Equal(refCommit(h.cellSuite, dek), s.commit) {
		return 0, nil, nil, errRefDecrypt
	}
	if len(cell) < 1+refNonceLen(h.cellSuite)+16 || cell[0]>>4 != 1 {
		return 0, nil, nil, errRefMalformed
	}
	plain, err = refOpen(h.cellSuite, dek, cell[1:], refCellContext(cell[0], h.cellSuite, n.record, field))
	return cell[0] & 15, plain, dek, err
}

// refSource draws the random bytes a writer needs.
type refSource interface{ bytes(n int) []byte }

// refSealScope is one scope to be written.
type refSealScope struct {
	names refNames // record and rowID included
	key   refKey
	dek   []byte // nil: drawn
}

// refSealHeader writes a header [4]; it returns the DEKs in the order given.
func refSealHeader(src refSource, store []byte, cellSuite byte, bound bool, scopes []refSealScope) (header []byte, deks [][]byte, err error) {
	h := &refHeader{cellSuite: cellSuite, bound: bound}
	order := make([]int, 0, len(scopes))
	for i, s := range scopes {
		dek := s.dek
		if dek == nil {
			dek = src.bytes(32)
		}
		deks = append(deks, dek)
		at := 0
		for at < len(order) && bytes.Compare(refTag(scopes[order[at]].names.group, scopes[order[at]].names.purpose), refTag(s.names.group, s.names.purpose)) < 0 {
			at++
		}
		order = append(order[:at], append([]int{i}, order[at:]...)...)
	}
	for _, i := range order {
		s := &scopes[i]
		h.scopes = append(h.scopes, refScope{s.key.suite, refTag(s.names.group, s.names.purpose), s.key.kid, nil, refCommit(cellSuite, deks[i])})
	}
	for at, i := range order {
		s := &scopes[i]
		aad := refDEKContext(store, s.key.suite, s.key.kid, s.names, bound, h.digest())
		h.scopes[at].wrap, err = refSeal(s.key.suite, s.key.key, src.bytes(refNonceLen(s.key.suite)), deks[i], aad)
		if err != nil {
			return nil, nil, err
		}
	}
	return h.bytes(), deks, nil
}

// refSealCell writes a cell [5].
func refSealCell(src refSource, cellSuite byte, dek []byte, record, field string, codec byte, plain []byte) ([]byte, error) {
	byte0 := 1<<4 | codec
	sealed, err := refSeal(cellSuite, dek, src.bytes(refNonceLen(cellSuite)), plain, refCellContext(byte0, cellSuite, record, field))
	return append([]byte{byte0}, sealed...), err
}

// Pseudonyms and blind indexes [9].

func refSRef(refKey []byte, tenant, kind, id string) []byte {
	return refMAC(refKey, refLP(tenant), refLP(kind), refLP(id))[:16]
}

func refIndexSRef(refKey []byte, tenant, record, index string) []byte {
	return refSRef(refKey, tenant, "\x00index", string(refCat(refLP(record), refLP(index))))
}

func refSystemSRef(kind byte) []byte { return refHash(refLP("lethe/1/system"), []byte{kind})[:16] }

func refIndexValue(key []byte, version uint16, normaliser string, value []byte, bits int) []byte {
	tag := refMAC(key, refLP(normaliser), value)[:(bits+7)/8]
	for bit := bits; bit < len(tag)*8; bit++ {
		tag[bit/8] &^= 1 << (7 - bit%8)
	}
	return append(refU(2, uint64(version)), tag...)
}

// Key store [10].

func refRootContext(store []byte, tree uint32, epoch uint64, uri string) []byte {
	return refCat(refLP("lethe/1/root"), store, refU(4, uint64(tree)), refU(8, epoch), refLP(uri))
}

func refRootCommit(store []byte, tree uint32, epoch uint64, suite byte, key []byte) []byte {
	return refHash(refLP("lethe/1/root-commit"), store, refU(4, uint64(tree)), refU(8, epoch), []byte{suite}, key)
}

func refPageContext(store []byte, p *vectorPage) []byte {
	return refCat(refLP("lethe/1/page"), store, refU(4, uint64(p.Tree)), refU(8, p.Page), []byte{p.Level}, refU(8, p.Gen),
		refU(8, p.Parent), refU(8, p.ParentGen), []byte{p.Suite})
}

func refKeyContext(store []byte, k *vectorKeyRow) []byte {
	return refCat(refLP("lethe/1/key"), store, refU(4, uint64(k.Tree)), k.KID, refU(8, k.Page), refU(8, k.PageGen),
		[]byte{k.Kind, k.Suite}, refU(4, uint64(k.RefVer)), k.SRef, refLP(k.Purpose),
		refU(4, uint64(k.Seq)), refU(8, uint64(k.Created)), refU(8, uint64(k.SealUntil)), refU(8, uint64(k.Expires)))
}

// Ledger [11].

func refLedgerBytes(e *vectorEntry) []byte {
	b := refCat(refLP("lethe/1/ledger"), refU(8, e.Seq), refLP(string(e.Prev)), refU(8, uint64(e.Time)), e.Store, refLP(e.Kind),
		refU(4, uint64(e.Tree)), refU(8, e.Epoch), refU(4, uint64(e.RefVer)), e.SRef, refU(4, uint64(e.PID)))
	b = append(b, refU(4, uint64(len(e.KIDs)))...)
	for _, kid := range e.KIDs {
		b = append(b, kid...)
	}
	b = append(b, refU(4, uint64(len(e.Pages)))...)
	for _, p := range e.Pages {
		b = append(b, refU(8, uint64(p))...)
	}
	return refCat(b, refLP(e.KMSHandle), refLP(string(e.RootCommit)))
}

// The independent opener reads what SealRecords writes, with real random nonces.
func TestReferenceReadsProduction(t *testing.T) {
	t.Parallel()
	for _, suite := range suites() {
		src := newVectorSource("reference reads production")
		keys := []refKey{
			{"acme", "customer", "ada", "", src.bytes(12), byte(suite), src.bytes(32)},
			{"acme", "customer", "bob", "billing", src.bytes(12), byte(suite), src.bytes(32)},
		}
		store := src.bytes(16)
		k := vectorRing(t, store, keys)
		k.opts.Suite = suite
		recs := []Record{{
			Name: "orders", RowID: "row 7", Bound: true,
			Scopes: []Scope{{Subject: Subject{"acme", "customer", "ada"}}, {Group: "buyer", Purpose: "billing", Subject: Subject{"acme", "customer", "bob"}}},
			Cells:  []Cell{{Field: "note", Codec: 1, Plain: []byte("hello")}, {Scope: 1, Field: "iban", Codec: 8, Plain: []byte{}}},
		}}
		if err := k.SealRecords(t.Context(), recs); err != nil {
			t.Fatal(err)
		}
		for i, c := range recs[0].Cells {
			s := recs[0].Scopes[c.Scope]
			names := refNames{s.Subject.Tenant, s.Subject.Kind, s.Subject.ID, "orders", s.Group, s.Purpose, "row 7"}
			codec, plain, _, err := refOpenCell(store, recs[0].Header, c.Sealed, keys, names, c.Field)
			if err != nil || codec != c.Codec || !bytes.Equal(plain, c.Plain) {
				t.Errorf("suite %d, cell %d: codec %d, %q, %v", suite, i, codec, plain, err)
			}
		}
	}
}
