package envelope_test

import (
	"crypto/fips140"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

// What a sealed record says without keys is what it was sealed with.
func TestInspect(t *testing.T) {
	suites := []envelope.Suite{envelope.SuiteAES256GCM, envelope.SuiteXChaCha}
	if fips140.Enforced() {
		suites = suites[:1] // GODEBUG=fips140=only refuses suite 2
	}
	for _, suite := range suites {
		ring := envelopetest.NewKeyring(t, envelope.Options{Suite: suite})
		subject := envelope.Subject{Kind: "customer", ID: "cus_1"}
		recs := []envelope.Record{{
			Name: "customers", RowID: "7", Bound: true,
			Scopes: []envelope.Scope{{Subject: subject}, {Subject: subject, Purpose: "billing"}},
			Cells:  []envelope.Cell{{Field: "email", Scope: 1, Codec: 1, Plain: []byte("ada@example.com")}},
		}}
		require.NoError(t, ring.SealRecords(t.Context(), recs))

		info, err := envelope.InspectHeader(recs[0].Header)
		require.NoError(t, err)
		require.Equal(t, suite, info.CellSuite)
		require.True(t, info.RowBound)
		require.Len(t, info.Scopes, 2)
		want := []uint16{envelope.ScopeTag("", ""), envelope.ScopeTag("", "billing")}
		require.ElementsMatch(t, want, []uint16{info.Scopes[0].Tag, info.Scopes[1].Tag})
		require.NotEqual(t, info.Scopes[0].Key, info.Scopes[1].Key)
		require.Equal(t, suite, info.Scopes[0].WrapSuite)

		cell, err := envelope.InspectCell(recs[0].Cells[0].Sealed, suite)
		require.NoError(t, err)
		require.Equal(t, envelope.CellInfo{Codec: 1, Plaintext: 15}, cell)

		_, err = envelope.InspectHeader(recs[0].Cells[0].Sealed)
		require.ErrorIs(t, err, envelope.ErrDecrypt)
		_, err = envelope.InspectCell(recs[0].Header, suite)
		require.ErrorIs(t, err, envelope.ErrDecrypt)
		_, err = envelope.InspectCell(nil, 9)
		require.ErrorIs(t, err, envelope.ErrDecrypt)
	}
}
