package peers_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/bench/peers"
)

var (
	ff1Lengths = []int{9, 16, 100}
	ff1Key     = bytes.Repeat([]byte("k"), 32)
)

// All implementations of FF1 give the same ciphertexts and decrypt them.
func TestFF1PeersAgree(t *testing.T) {
	for _, length := range ff1Lengths {
		values, tweaks := make([]string, 4), make([][]byte, 4)
		for i := range tweaks {
			tweaks[i] = peers.Tweak(uint64(i) << 40)
		}
		var want []string
		for _, peer := range peers.AllFF1() {
			encrypt, decrypt, err := peer.New(ff1Key)
			require.NoError(t, err)
			if decrypt == nil {
				continue
			}
			for i := range values {
				values[i] = peers.DigitsOf(length)
			}
			for from := 0; from < len(values); from += min(peer.Batch, len(values)) {
				to := from + min(peer.Batch, len(values))
				require.NoError(t, encrypt(values[from:to], tweaks[from:to]))
			}
			if want == nil {
				want = append(want, values...)
			}
			require.Equal(t, want, values, peer.Name)
			require.NotEqual(t, values[0], values[1])
			require.NoError(t, decrypt(values, tweaks))
			for _, v := range values {
				require.Equal(t, peers.DigitsOf(length), v, peer.Name)
			}
		}
	}
}
