package envelope

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope/internal/wire"
)

// accumulatedVector is one digest over many random cases.
type accumulatedVector struct {
	About  string   `json:"about"`
	Cases  int      `json:"cases"`
	Digest hexBytes `json:"sha256"`
}

const accumulatedCases = 10_000

func accumulatedScenario(g *gen) any {
	_, reference := accumulate(g, accumulatedCases)
	return &accumulatedVector{
		About:  "SHA-256 over every context, header, pseudonym, index value, ledger entry and opened wrap of the cases; accumulated_test.go says how a case is drawn",
		Cases:  accumulatedCases,
		Digest: reference,
	}
}

func TestAccumulatedVector(t *testing.T) {
	needsSuite2(t)
	t.Parallel()
	v := readVector[accumulatedVector](t, filepath.Join(vectorDir, "accumulated.json"))
	production, reference := accumulate(t, v.Cases)
	require.Equal(t, []byte(v.Digest), reference, "the independent implementation")
	require.Equal(t, []byte(v.Digest), production, "production")
}

// caseSource draws names and numbers that a random byte string rarely has.
type caseSource struct{ vectorSource }

func (s caseSource) n(below int) int { return int(binary.BigEndian.Uint32(s.bytes(4))) % below }

func (s caseSource) name() string {
	alphabet := []string{"a", "Z", "0", " ", "/", "\x00", "é", "e\u0301", "日", "😀", "\xff", "lethe/1/", "\x00\x00\x00\x01"}
	var b strings.Builder
	for range s.n(12) {
		b.WriteString(alphabet[s.n(len(alphabet))])
	}
	return b.String()
}

func (s caseSource) u64() uint64 { return binary.BigEndian.Uint64(s.bytes(8)) >> (8 * s.n(8)) }
func (s caseSource) u32() uint32 { return binary.BigEndian.Uint32(s.bytes(4)) >> (8 * s.n(4)) }

// accumulate runs the cases through production and through the reference.
func accumulate(t testing.TB, cases int) (production, reference []byte) {
	t.Helper()
	src := caseSource{newVectorSource("accumulated cases")}
	a, b := sha256.New(), sha256.New()
	for i := range cases {
		records(t, src, a, b, i)
		rows(src, a, b)
	}
	return a.Sum(nil), b.Sum(nil)
}

// put hashes bytes with their length.
func put(h hash.Hash, b []byte) { _, _ = h.Write(appendLP(nil, b)) } // never fails

// records is a header, its contexts, its opened wraps and a cell.
func records(t testing.TB, src caseSource, a, b hash.Hash, i int) {
	store, suite, bound := src.bytes(16), byte(1+src.n(2)), src.n(2) == 1
	record, rowID := src.name(), src.name()
	var scopes []refSealScope
	for j := range 1 + src.n(3) {
		names := refNames{src.name(), src.name(), src.name(), record, src.name() + string(rune('a'+j)), src.name(), rowID}
		scopes = append(scopes, refSealScope{names: names, key: refKey{kid: src.bytes(12), suite: byte(1 + src.n(2)), key: src.bytes(32)}})
	}
	header, deks, err := refSealHeader(src, store, suite, bound, scopes)
	require.NoError(t, err)
	rh, err := refParseHeader(header)
	if err != nil { // two tags collided: neither reader takes the header
		var h wire.Header
		require.ErrorIs(t, wire.ParseHeader(header, &h), wire.ErrFormat)
		return
	}
	var h wire.Header
	require.NoError(t, wire.ParseHeader(header, &h), "case %d", i)
	put(a, h.Append(nil))
	put(b, rh.bytes())
	rd := recordDigest(&h)
	put(a, rd[:])
	put(b, rh.digest())
	for j := range scopes {
		n, key := scopes[j].names, scopes[j].key
		s := Scope{Group: n.group, Purpose: n.purpose, Subject: Subject{n.tenant, n.kind, n.id}}
		at := headerScope(&h, scopeTag(n.group, n.purpose))
		require.GreaterOrEqual(t, at, 0, "case %d", i)
		bindTo := rowID
		if !bound {
			bindTo = ""
		}
		aad := appendDEKAAD(nil, StoreID(store), Suite(key.suite), KeyID(key.kid), &s.Subject, appendScopeNames(nil, record, s.Group, s.Purpose), bound, bindTo, &rd)
		put(a, aad)
		put(b, refDEKContext(store, key.suite, key.kid, n, bound, rh.digest()))
		aead, err := Suite(key.suite).aead(key.key)
		require.NoError(t, err)
		dek, err := Suite(key.suite).open(aead, nil, h.Scopes[at].Wrap(), aad)
		require.NoError(t, err, "case %d", i)
		put(a, dek)
		put(b, deks[j])
		commit := dekCommit(Suite(suite), dek)
		put(a, commit[:])
		put(b, refCommit(suite, deks[j]))
	}
	field, codec, plain := src.name(), byte(src.n(16)), src.bytes(src.n(100))
	cell, err := refSealCell(src, suite, deks[0], record, field, codec, plain)
	require.NoError(t, err)
	byte0, body, err := wire.ParseCell(cell, suite)
	require.NoError(t, err)
	aad := appendCellAAD(nil, byte0, Suite(suite), record, field)
	aead, err := Suite(suite).aead(deks[0])
	require.NoError(t, err)
	opened, err := Suite(suite).open(aead, nil, body, aad)
	require.NoError(t, err, "case %d", i)
	put(a, aad)
	put(b, refCellContext(1<<4|codec, suite, record, field))
	put(a, opened)
	put(b, plain)
}

// rows is one row of each table, a pseudonym, an index value and a ledger entry.
func rows(src caseSource, a, b hash.Hash) {
	store := src.bytes(16)
	id := StoreID(store)
	root := vectorRoot{Tree: src.u32(), Epoch: src.u64(), KMSURI: src.name(), Suite: byte(src.u32()), Key: src.bytes(32)}
	rootRow := root.row()
	put(a, rootRow.appendAAD(nil, id))
	put(b, refRootContext(store, root.Tree, root.Epoch, root.KMSURI))
	commit := rootCommit(id, rootRow.Tree, root.Epoch, rootRow.Suite, root.Key)
	put(a, commit[:])
	put(b, refRootCommit(store, root.Tree, root.Epoch, root.Suite, root.Key))

	page := vectorPage{Tree: src.u32(), Page: src.u64(), Parent: src.u64(), ParentGen: src.u64(), Level: byte(src.u32()), Gen: src.u64(), Suite: byte(src.u32())}
	pageRow := page.row()
	put(a, pageRow.appendAAD(nil, id))
	put(b, refPageContext(store, &page))

	key := vectorKeyRow{
		KID: src.bytes(12), Tree: src.u32(), Page: src.u64(), PageGen: src.u64(), Kind: byte(src.u32()), Suite: byte(src.u32()), RefVer: src.u32(), SRef: src.bytes(16),
		PID: src.u32(), Purpose: src.name(), Seq: src.u32(), Created: int64(src.u64()), SealUntil: int64(src.u64()), Expires: int64(src.u64()),
	}
	keyRow := key.row()
	put(a, keyRow.appendAAD(nil, id, key.Purpose))
	put(b, refKeyContext(store, &key))

	secret, tenant, kind, subject := src.bytes(32), src.name(), src.name(), src.name()
	k := &Keyring{refKey: newMACKey(secret)}
	sref := k.sref(tenant, kind, subject)
	put(a, sref[:])
	put(b, refSRef(secret, tenant, kind, subject))

	version, normaliser, value, bits := uint16(src.u32()), src.name(), src.bytes(src.n(40)), 8+src.n(249)
	index := IndexKey{Version: version, mac: newMACKey(secret)}
	put(a, index.Append(nil, normaliser, value, bits))
	put(b, refIndexValue(secret, version, normaliser, value, bits))

	e := vectorEntry{
		Seq: src.u64(), Prev: src.bytes(32), Time: int64(src.u64()), Store: store, Kind: src.name(), Tree: src.u32(), Epoch: src.u64(), RefVer: src.u32(),
		SRef: src.bytes(16), PID: src.u32(), KMSHandle: src.name(), RootCommit: src.bytes(32 * src.n(2)),
	}
	for range src.n(3) {
		e.KIDs, e.Pages = append(e.KIDs, src.bytes(12)), append(e.Pages, vectorPgID(src.u64()))
	}
	entry := e.entry()
	mac := newMACKey(secret).sum(entry.appendCanonical)
	entry.MAC = mac[:]
	head := entry.hash()
	put(a, entry.appendCanonical(nil))
	put(a, mac[:])
	put(a, head[:])
	canonical := refLedgerBytes(&e)
	put(b, canonical)
	put(b, refMAC(secret, canonical))
	put(b, refHash(canonical, refMAC(secret, canonical)))
}
