package envelope

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope/internal/wire"
)

// sealedRow is a row and the Keyring that opens it, the same in every process:
// fuzzing hands rows from one to another. restore puts the key back that a search
// for an unknown kid drops from the cache.
func sealedRow(t testing.TB, suite Suite, plain []byte) (k *Keyring, r Record, restore func()) {
	t.Helper()
	src := newVectorSource("sealed row " + strconv.Itoa(int(suite)))
	key := refKey{"", "customer", "ada", "", src.bytes(12), byte(suite), src.bytes(32)}
	store, names := src.bytes(16), refNames{kind: "customer", id: "ada", record: "customers", rowID: "42"}
	header, deks, err := refSealHeader(src, store, byte(suite), true, []refSealScope{{names: names, key: key}})
	require.NoError(t, err)
	cell, err := refSealCell(src, byte(suite), deks[0], "customers", "email", 1, plain)
	require.NoError(t, err)
	k = vectorRing(t, store, []refKey{key})
	ref := keyRef{kind: "customer", id: "ada"}
	set := k.cache.get(&ref, 0)
	require.NotNil(t, set)
	r = Record{
		Name: "customers", RowID: "42", Bound: true, Header: header,
		Scopes: []Scope{{Subject: Subject{Kind: "customer", ID: "ada"}}},
		Cells:  []Cell{{Field: "email", Sealed: cell}},
	}
	return k, r, func() { k.cache.put(ref, set, func() bool { return false }) }
}

// reopen opens one cell of the row with other bytes.
func reopen(t testing.TB, k *Keyring, r Record, header, cell []byte) ([]byte, error) {
	t.Helper()
	recs := []Record{{Name: r.Name, RowID: r.RowID, Bound: r.Bound, Header: header, Scopes: slices.Clone(r.Scopes), Cells: []Cell{{Field: r.Cells[0].Field, Sealed: cell}}}}
	require.NoError(t, k.OpenRecords(t.Context(), recs))
	return recs[0].Cells[0].Plain, recs[0].Cells[0].Err
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for _, suite := range suites() {
		want := map[Suite]struct{ scope, cell int }{SuiteAES256GCM: {107, 29}, SuiteXChaCha: {119, 41}}[suite]
		src := newVectorSource("sizes")
		keys := make([]refKey, 0, MaxScopes)
		var scopes []Scope
		for i := range MaxScopes {
			id := strconv.Itoa(i)
			keys = append(keys, refKey{"", "customer", id, "", src.bytes(12), byte(suite), src.bytes(32)})
			scopes = append(scopes, Scope{Group: "g" + id, Subject: Subject{Kind: "customer", ID: id}})
		}
		k := vectorRing(t, src.bytes(16), keys)
		k.opts.Suite = suite
		for n := 1; n <= MaxScopes; n++ {
			recs := []Record{{Name: "r", Scopes: scopes[:n], Cells: []Cell{{Field: "f", Plain: make([]byte, 7*n)}, {Field: "g"}}}}
			require.NoError(t, k.SealRecords(t.Context(), recs))
			require.Len(t, recs[0].Header, 3+want.scope*n)
			require.Len(t, recs[0].Cells[0].Sealed, 7*n+want.cell)
			require.Len(t, recs[0].Cells[1].Sealed, want.cell)
		}
	}
}

// No bit of a header or cell can be changed and still open.
func TestEveryBitFlipped(t *testing.T) {
	t.Parallel()
	for _, suite := range suites() {
		k, r, restore := sealedRow(t, suite, []byte("ada@example.com"))
		for bit := range len(r.Header) * 8 {
			want := ErrDecrypt
			if at := bit / 8; at >= 6 && at < 18 {
				want = ErrKeyMissing // the kid: this store has no such key
			}
			plain, err := reopen(t, k, r, flip(r.Header, bit/8, 1<<(bit%8)), r.Cells[0].Sealed)
			require.ErrorIs(t, err, want, "suite %d, bit %d of the header", suite, bit)
			require.Nil(t, plain)
			restore()
		}
		for bit := range len(r.Cells[0].Sealed) * 8 {
			plain, err := reopen(t, k, r, r.Header, flip(r.Cells[0].Sealed, bit/8, 1<<(bit%8)))
			require.ErrorIs(t, err, ErrDecrypt, "suite %d, bit %d of the cell", suite, bit)
			require.Nil(t, plain)
		}
		plain, err := reopen(t, k, r, r.Header, r.Cells[0].Sealed)
		require.NoError(t, err)
		require.Equal(t, "ada@example.com", string(plain))
	}
}

// No beginning of a header or cell opens, nor one with a byte more.
func TestEveryLength(t *testing.T) {
	t.Parallel()
	for _, suite := range suites() {
		k, r, _ := sealedRow(t, suite, []byte("ada@example.com"))
		cell := r.Cells[0].Sealed
		for n := range len(r.Header) {
			_, err := reopen(t, k, r, r.Header[:n], cell)
			require.ErrorIs(t, err, ErrDecrypt)
		}
		for n := range cell {
			_, err := reopen(t, k, r, r.Header, cell[:n])
			require.ErrorIs(t, err, ErrDecrypt)
		}
		for b := range 256 {
			_, err := reopen(t, k, r, append(bytes.Clone(r.Header), byte(b)), cell)
			require.ErrorIs(t, err, ErrDecrypt)
			_, err = reopen(t, k, r, r.Header, append(bytes.Clone(cell), byte(b)))
			require.ErrorIs(t, err, ErrDecrypt)
		}
	}
}

func addVectors(f *testing.F, add func(v *recordVector, cell []byte)) {
	f.Helper()
	vectors := recordVectors(f)
	for _, name := range slices.Sorted(maps.Keys(vectors)) {
		if v := vectors[name]; len(v.Cells[0].Sealed) < 4096 {
			add(v, v.Cells[0].Sealed)
		}
	}
}

// Only the very bytes that were sealed open, and nothing panics: neither
// arbitrary bytes nor the right ones with one byte changed.
func FuzzOpenRecords(f *testing.F) {
	type row struct {
		k       *Keyring
		r       Record
		restore func()
	}
	plain := []byte("ada@example.com")
	var targets []row
	for _, suite := range suites() {
		k, r, restore := sealedRow(f, suite, plain)
		targets = append(targets, row{k, r, restore})
		f.Add(r.Header, r.Cells[0].Sealed, uint16(0), byte(0))
		f.Add(r.Header, r.Cells[0].Sealed, uint16(20), byte(1))
		f.Add(r.Header, r.Cells[0].Sealed, uint16(120), byte(0x80))
	}
	addVectors(f, func(v *recordVector, cell []byte) { f.Add([]byte(v.Header), cell, uint16(8), byte(1)) })
	f.Fuzz(func(t *testing.T, header, cell []byte, at uint16, mask byte) {
		inHeader, inCell := bytes.Clone(header), bytes.Clone(cell)
		for _, target := range targets {
			goodHeader, goodCell := target.r.Header, target.r.Cells[0].Sealed
			try := func(header, cell []byte) {
				target.restore()
				got, err := reopen(t, target.k, target.r, header, cell)
				if bytes.Equal(header, goodHeader) && bytes.Equal(cell, goodCell) {
					if err != nil || !bytes.Equal(got, plain) {
						t.Fatalf("the right bytes do not open: %v", err)
					}
				} else if err == nil || got != nil {
					t.Fatalf("opened to %d bytes, %v", len(got), err)
				}
			}
			try(header, cell)
			try(header, goodCell)
			try(goodHeader, cell)
			if pos := int(at) % (len(goodHeader) + len(goodCell)); pos < len(goodHeader) {
				try(flip(goodHeader, pos, mask), goodCell)
			} else {
				try(goodHeader, flip(goodCell, pos-len(goodHeader), mask))
			}
		}
		if !bytes.Equal(header, inHeader) || !bytes.Equal(cell, inCell) {
			t.Fatal("the input was written to")
		}
	})
}

// The two implementations agree on which headers there are, byte by byte.
func FuzzHeader(f *testing.F) {
	addVectors(f, func(v *recordVector, _ []byte) { f.Add([]byte(v.Header)) })
	f.Fuzz(func(t *testing.T, data []byte) {
		var h wire.Header
		err := wire.ParseHeader(data, &h)
		other, refErr := refParseHeader(data)
		if (err == nil) != (refErr == nil) {
			t.Fatalf("one takes it: %v, %v", err, refErr)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(h.Append(nil), data) || !bytes.Equal(other.bytes(), data) {
			t.Fatal("appending gives other bytes")
		}
		if rd := recordDigest(&h); !bytes.Equal(rd[:], other.digest()) {
			t.Fatal("the record digests differ")
		}
	})
}
