package wire_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope/internal/wire"
)

// header builds a header of scopes with the given wrap suites and ascending tags.
func header(cellSuite, flags byte, wrapSuites ...byte) []byte {
	h := wire.Header{CellSuite: cellSuite, Flags: flags}
	for i, suite := range wrapSuites {
		nonce, _ := wire.NonceLen(suite)
		s := wire.Scope{WrapSuite: suite, Tag: uint16(3 * i)}
		s.SetWrap(bytes.Repeat([]byte{byte(i + 1)}, nonce+48))
		s.KID[0], s.Commit[31] = byte(i), byte(i)
		h.Scopes = append(h.Scopes, s)
	}
	return h.Append(nil)
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for n := 1; n <= wire.MaxScopes; n++ {
		require.Len(t, header(1, 0, bytes.Repeat([]byte{1}, n)...), 3+107*n)
		require.Len(t, header(1, 0, bytes.Repeat([]byte{2}, n)...), 3+119*n)
	}
	for suite, shortest := range map[byte]int{1: 29, 2: 41} {
		cell := make([]byte, shortest)
		cell[0] = wire.CellByte0(9)
		byte0, body, err := wire.ParseCell(cell, suite)
		require.NoError(t, err)
		require.Equal(t, byte(0x19), byte0)
		require.Len(t, body, shortest-1)
		_, _, err = wire.ParseCell(cell[1:], suite)
		require.ErrorIs(t, err, wire.ErrFormat)
	}
}

func TestParseThenAppend(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{header(1, 0, 1), header(2, wire.FlagRowID, 2), header(1, 1, 1, 2, 1), header(2, 0, bytes.Repeat([]byte{2}, 15)...)} {
		var h wire.Header
		require.NoError(t, wire.ParseHeader(b, &h))
		require.Equal(t, len(b), h.Len())
		require.Equal(t, b, h.Append(nil))
		require.Equal(t, append([]byte("before"), b...), h.Append([]byte("before")))
		p := h.Prelude()
		require.Equal(t, b[:3], p[:])
	}
}

func TestReuseLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	var h wire.Header
	require.NoError(t, wire.ParseHeader(header(1, 1, 1, 2, 1), &h))
	b := header(2, 0, 2)
	require.NoError(t, wire.ParseHeader(b, &h))
	require.Equal(t, b, h.Append(nil))
}

func TestWrapsCannotGrowIntoTheirNeighbours(t *testing.T) {
	t.Parallel()
	b := header(1, 0, 1, 1)
	var h wire.Header
	require.NoError(t, wire.ParseHeader(b, &h))
	want := bytes.Clone(b)
	_ = append(h.Scopes[0].Wrap(), 0xff)
	require.Equal(t, want, b)
}

// Of the values a byte of the structure may have, only those of the format are taken.
func TestEveryStructureByte(t *testing.T) {
	t.Parallel()
	for at, allowed := range map[int][]byte{0: {1}, 1: {1, 2}, 2: {0x02, 0x12}, 3: {1}, 110: {1}} {
		for v := range 256 {
			b := header(1, 0, 1, 1)
			b[at] = byte(v)
			err := wire.ParseHeader(b, &wire.Header{})
			if bytes.IndexByte(allowed, byte(v)) >= 0 {
				require.NoError(t, err, "byte %d = %#x", at, v)
			} else {
				require.ErrorIs(t, err, wire.ErrFormat, "byte %d = %#x", at, v)
			}
		}
	}
	cell := make([]byte, 64)
	for v := range 256 {
		cell[0] = byte(v)
		for suite := range 256 {
			_, _, err := wire.ParseCell(cell, byte(suite))
			if v>>4 == wire.KindWhole && (suite == 1 || suite == 2) {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, wire.ErrFormat)
			}
		}
	}
}

func TestEveryLength(t *testing.T) {
	t.Parallel()
	b := header(1, 1, 1, 2)
	for n := range b {
		require.ErrorIs(t, wire.ParseHeader(b[:n], &wire.Header{}), wire.ErrFormat)
	}
	require.ErrorIs(t, wire.ParseHeader(append(b, 0), &wire.Header{}), wire.ErrFormat)
}

func TestTagsStrictlyAscend(t *testing.T) {
	t.Parallel()
	for second, ok := range map[uint16]bool{0: false, 7: false, 8: true, 0xffff: true} {
		h := wire.Header{CellSuite: 1, Scopes: []wire.Scope{{WrapSuite: 1, Tag: 7}, {WrapSuite: 1, Tag: second}}}
		h.Scopes[0].SetWrap(make([]byte, 60))
		h.Scopes[1].SetWrap(make([]byte, 60))
		err := wire.ParseHeader(h.Append(nil), &wire.Header{})
		if ok {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, wire.ErrFormat)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte{})
	f.Add(header(1, 0, 1))
	f.Add(header(2, 1, 2))
	f.Add(header(1, 1, 1, 2, 1))
	f.Add(header(1, 0, bytes.Repeat([]byte{1}, 15)...))
	f.Add([]byte{1, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.Clone(data)
		h := wire.Header{Scopes: make([]wire.Scope, 3)}
		err := wire.ParseHeader(data, &h)
		if !bytes.Equal(in, data) {
			t.Fatal("the input was written to")
		}
		if err != nil {
			return
		}
		if n := len(h.Scopes); n < 1 || n > wire.MaxScopes {
			t.Fatalf("%d scopes", n)
		}
		if h.Len() != len(data) || !bytes.Equal(h.Append(nil), data) {
			t.Fatal("appending gives other bytes")
		}
	})
}

func FuzzParseCell(f *testing.F) {
	f.Add([]byte{}, byte(1))
	f.Add(append([]byte{0x11}, make([]byte, 28)...), byte(1))
	f.Add(append([]byte{0x19}, make([]byte, 40)...), byte(2))
	f.Add(append([]byte{0x21}, make([]byte, 40)...), byte(3))
	f.Fuzz(func(t *testing.T, data []byte, suite byte) {
		byte0, body, err := wire.ParseCell(data, suite)
		if err != nil {
			if body != nil {
				t.Fatal("an error and a body")
			}
			return
		}
		nonce, ok := wire.NonceLen(suite)
		if !ok || len(body) < nonce+16 || byte0>>4 != wire.KindWhole {
			t.Fatalf("took a cell of suite %d, first byte %#x, %d bytes", suite, byte0, len(data))
		}
		if !bytes.Equal(append([]byte{byte0}, body...), data) {
			t.Fatal("the parts are not the cell")
		}
	})
}
