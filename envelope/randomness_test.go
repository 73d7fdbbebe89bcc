package envelope

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// Bytes are given out once, and nothing that was given out or dropped stays.
func TestRandomnessIsUsedOnce(t *testing.T) {
	var r randomness
	r.draw(64)
	all := bytes.Clone(r.buf)
	first, second := make([]byte, 32), make([]byte, 12)
	r.read(first)
	r.read(second)
	require.Equal(t, all[:32], first)
	require.Equal(t, all[32:44], second)
	require.Equal(t, make([]byte, 44), r.buf[:44])
	require.NotEqual(t, make([]byte, 20), r.buf[44:])
	r.drop()
	require.Equal(t, make([]byte, 64), r.buf)

	r.draw(8) // too little: the rest is drawn when it is missed
	more := make([]byte, 40)
	r.read(more)
	require.NotEqual(t, make([]byte, 32), more[8:])
	again := make([]byte, 40)
	r.read(again)
	require.NotEqual(t, make([]byte, 40), again)
	require.NotEqual(t, more, again)
}

// Every wrap and every cell has a nonce of its own: of new records, of stored
// ones, and of those that get a scope more.
func TestNoNonceTwice(t *testing.T) {
	for _, suite := range suites() {
		src := newVectorSource("nonces")
		key := refKey{"", "customer", "ada", "", src.bytes(12), byte(suite), src.bytes(32)}
		k := vectorRing(t, src.bytes(16), []refKey{key, {"", "customer", "ada", "p", src.bytes(12), byte(suite), src.bytes(32)}})
		k.opts.Suite = suite
		seen := map[string]bool{}
		note := func(b []byte) {
			nonce := string(b[:suite.nonceSize()])
			require.False(t, seen[nonce])
			seen[nonce] = true
		}
		who := Subject{Kind: "customer", ID: "ada"}
		for range 50 {
			recs := []Record{{Name: "customers", Scopes: []Scope{{Subject: who}}}, {Name: "customers", Scopes: []Scope{{Subject: who}}}}
			for i := range recs {
				recs[i].Cells = []Cell{{Field: "a", Plain: []byte("x")}, {Field: "b", Plain: []byte("x")}}
			}
			for more := range 3 {
				if more == 2 {
					for i := range recs {
						recs[i].Scopes = append(recs[i].Scopes, Scope{Purpose: "p", Subject: who})
						recs[i].Cells = append(recs[i].Cells, Cell{Scope: 1, Field: "c", Plain: []byte("x")})
					}
				}
				require.NoError(t, k.SealRecords(t.Context(), recs))
				for i := range recs {
					if more != 1 {
						for at := 3 + 3 + 12; at < len(recs[i].Header); at += scopeLen(byte(suite)) {
							note(recs[i].Header[at:])
						}
					}
					for j := range recs[i].Cells {
						note(recs[i].Cells[j].Sealed[1:])
					}
				}
			}
		}
	}
}
