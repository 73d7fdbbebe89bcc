package envelope_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

func TestCheckScopesAnswersAsOpenRecordsWould(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	ctx := t.Context()
	who := func(id string) envelope.Subject { return envelope.Subject{Kind: "customer", ID: id} }
	sealed := []envelope.Record{}
	for _, id := range []string{"live", "gone", "part"} {
		for _, purpose := range []string{"", "news"} {
			sealed = append(sealed, envelope.Record{Name: "rows", Scopes: []envelope.Scope{{Subject: who(id), Purpose: purpose}}, Cells: []envelope.Cell{{Field: "f", Plain: []byte("x")}}})
		}
	}
	require.NoError(t, ring.SealRecords(ctx, sealed))
	for _, id := range []string{"gone", "never sealed and gone", "back"} {
		_, err := ring.Forget(ctx, who(id))
		require.NoError(t, err)
	}
	require.NoError(t, ring.Readmit(ctx, who("back")))
	_, err := ring.ForgetPurpose(ctx, who("part"), "news")
	require.NoError(t, err)
	require.NoError(t, ring.Suspend(ctx, who("waits")))
	cases := []struct {
		scope envelope.Scope
		want  error
	}{
		{envelope.Scope{Subject: who("live")}, nil},
		{envelope.Scope{Subject: who("live"), Purpose: "news"}, nil},
		{envelope.Scope{Subject: who("live"), Purpose: "a purpose nobody used"}, nil},
		{envelope.Scope{Subject: who("never seen")}, nil},
		{envelope.Scope{Subject: who("gone")}, envelope.ErrForgotten},
		{envelope.Scope{Subject: who("gone"), Purpose: "news"}, envelope.ErrForgotten},
		{envelope.Scope{Subject: who("gone"), Purpose: "a purpose nobody used"}, envelope.ErrForgotten},
		{envelope.Scope{Subject: who("never sealed and gone")}, envelope.ErrForgotten},
		{envelope.Scope{Subject: who("back")}, nil},
		{envelope.Scope{Subject: who("part")}, nil},
		{envelope.Scope{Subject: who("part"), Purpose: "news"}, envelope.ErrForgotten},
		{envelope.Scope{Subject: who("waits")}, envelope.ErrSuspended},
		{envelope.Scope{Subject: who("waits"), Purpose: "news"}, envelope.ErrSuspended},
		{envelope.Scope{Subject: who("")}, envelope.ErrNoSubject},
		{envelope.Scope{Subject: envelope.Subject{Tenant: "t", Kind: "customer", ID: "gone"}}, nil},
	}
	scopes := make([]envelope.Scope, len(cases))
	for i := range cases {
		scopes[i] = cases[i].scope
		scopes[i].Err = envelope.ErrDecrypt // of a call before
	}
	for range 2 {
		require.NoError(t, ring.CheckScopes(ctx, scopes))
		for i := range cases {
			require.ErrorIs(t, scopes[i].Err, cases[i].want, "%+v", scopes[i])
		}
	}
	bad := []envelope.Scope{{Subject: who("live"), Purpose: "\x00token/x"}}
	require.NoError(t, ring.CheckScopes(ctx, bad))
	require.Error(t, bad[0].Err)
	require.NoError(t, ring.CheckScopes(ctx, nil))
	ring.Close()
	require.ErrorIs(t, ring.CheckScopes(ctx, scopes), envelope.ErrClosed)
}
