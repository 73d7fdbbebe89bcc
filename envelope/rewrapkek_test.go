package envelope

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
)

// Nor does one whose moves fail again and again.
func TestKeysOfFailedMovesDoNotPileUp(t *testing.T) {
	first := kmstest.NewFake()
	configured, err := guard(first, Options{})
	require.NoError(t, err)
	k := &Keyring{keys: []kms.Key{configured}}
	next := kmstest.NewFake()
	var last kms.Key
	for range 20 {
		last, err = guard(next, Options{})
		require.NoError(t, err)
		k.addKey(last)
	}
	require.Equal(t, []kms.Key{configured, last}, k.keys)
	for range 20 { // without a name
		last, err = guard(struct{ kms.Key }{next}, Options{})
		require.NoError(t, err)
		k.addKey(last)
	}
	require.Len(t, k.keys, 1+keptTried)
	require.Same(t, last, k.keys[keptTried])
	k.useKey(last)
	require.Same(t, last, k.keys[0])
	require.Len(t, k.tried, keptTried-1)
}

// A process that rewraps every day does not keep a client for each.
func TestKeysOfOneURIDoNotPileUp(t *testing.T) {
	one, other := kmstest.NewFake(), kmstest.NewFake()
	k := &Keyring{}
	var last kms.Key
	for _, key := range []kms.Key{one, other, one, one} {
		guarded, err := guard(key, Options{})
		require.NoError(t, err)
		k.useKey(guarded)
		last = guarded
	}
	require.Len(t, k.keys, 2)
	require.Same(t, last, k.keys[0])
	require.Equal(t, other.KeyURI(), keyURI(k.keys[1]))
}
