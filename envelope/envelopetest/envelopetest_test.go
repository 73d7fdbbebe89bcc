package envelopetest_test

import (
	"bytes"
	"crypto/fips140"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

// How a test uses NewKeyring: nothing to install, nothing to clean up.
func TestUsageOfNewKeyring(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)

	ada := envelope.Subject{Kind: "customer", ID: "ada"}
	recs := []envelope.Record{{
		Name:   "customers",
		Scopes: []envelope.Scope{{Subject: ada}},
		Cells:  []envelope.Cell{{Field: "email", Codec: 1, Plain: []byte("ada@example.com")}},
	}}
	require.NoError(t, ring.SealRecords(t.Context(), recs))
	require.False(t, bytes.Contains(recs[0].Cells[0].Sealed, []byte("ada")))

	_, err := ring.Forget(t.Context(), ada)
	require.NoError(t, err)
	require.NoError(t, ring.OpenRecords(t.Context(), recs))
	require.ErrorIs(t, recs[0].Cells[0].Err, envelope.ErrForgotten)
}

func TestOptionsAreKept(t *testing.T) {
	t.Parallel()
	if fips140.Enforced() {
		t.Skip("GODEBUG=fips140=only refuses suite 2")
	}
	ring := envelopetest.NewKeyring(t, envelope.Options{Suite: envelope.SuiteXChaCha})
	recs := []envelope.Record{{
		Name:   "customers",
		Scopes: []envelope.Scope{{Subject: envelope.Subject{Kind: "customer", ID: "ada"}}},
		Cells:  []envelope.Cell{{Field: "email", Codec: 1}},
	}}
	require.NoError(t, ring.SealRecords(t.Context(), recs))
	require.Len(t, recs[0].Header, 122)
}

func TestKeyringsShareNothing(t *testing.T) {
	t.Parallel()
	a, b := envelopetest.NewKeyring(t), envelopetest.NewKeyring(t)
	require.NotEqual(t, a.StoreID(), b.StoreID())
}

func TestNewKeyBindsItsContext(t *testing.T) {
	t.Parallel()
	key := envelopetest.NewKey(t)
	wrapped, err := key.EncryptWithContext(t.Context(), []byte("data key"), []byte("context"))
	require.NoError(t, err)
	plain, err := key.DecryptWithContext(t.Context(), wrapped, []byte("context"))
	require.NoError(t, err)
	require.Equal(t, "data key", string(plain))
	_, err = key.DecryptWithContext(t.Context(), wrapped, []byte("another"))
	require.Error(t, err)
	_, err = envelopetest.NewKey(t).DecryptWithContext(t.Context(), wrapped, []byte("context"))
	require.Error(t, err)
}
