package envelope

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
)

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
