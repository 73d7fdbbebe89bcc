package lethe_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/tokenize"
)

type undescribed struct{ tokenize.Tokenizer }

func TestTokenResidue(t *testing.T) {
	ring := envelopetest.NewKeyring(t)
	tokenizers := tokenizersOf(t, ring)
	oneway, err := tokenize.NewOneWay(tokenize.OneWayOptions{Domain: "d", Keys: lethe.TokenKeys(ring), Purpose: "research"})
	require.NoError(t, err)
	tokenizers["oneway"] = oneway
	ring.AddResidue(lethe.TokenResidue(tokenizers))

	kinds := func(r envelope.Receipt) map[string]string {
		out := map[string]string{}
		for _, x := range r.Residuals {
			out[x.Name] = x.Kind
		}
		return out
	}
	r, err := ring.ForgetPurpose(t.Context(), envelope.Subject{Kind: "customer", ID: "ada"}, "billing")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"": envelope.ResidualTombstone, "format-preserving": envelope.ResidualTokens, "random": envelope.ResidualTokens}, kinds(r))

	r, err = ring.Forget(t.Context(), envelope.Subject{Kind: "customer", ID: "ada"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		"": envelope.ResidualTombstone, "format-preserving": envelope.ResidualTokens, "random": envelope.ResidualTokens,
		"oneway": envelope.ResidualTokens, "joinable": envelope.ResidualSurviving,
	}, kinds(r))

	found, err := lethe.TokenResidue(map[string]tokenize.Tokenizer{"own": undescribed{}}).Forgotten(t.Context(), envelope.Subject{}, "x", false)
	require.NoError(t, err)
	require.Equal(t, envelope.ResidualSurviving, found[0].Kind)
}
