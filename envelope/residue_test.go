package envelope_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

type residue struct {
	calls []string
	err   error
}

func (r *residue) Forgotten(_ context.Context, s envelope.Subject, purpose string, all bool) ([]envelope.Residual, error) {
	call := s.ID + "/" + purpose
	if all {
		call += "all"
	}
	r.calls = append(r.calls, call)
	if r.err != nil {
		return nil, r.err
	}
	return []envelope.Residual{{Kind: envelope.ResidualColumns, Name: "t", Count: 2}}, nil
}

func (*residue) String() string { return "table t" }

func TestResiduesRunUntilTheyAreDone(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	failing, other := &residue{err: errors.New("ada is in the way")}, &residue{}
	k.AddResidue(nil)
	k.AddResidue(failing)
	k.AddResidue(other)
	sealed := seal(t, k, record("ada", "a"))

	r, err := k.Forget(t.Context(), person("ada"))
	require.ErrorIs(t, err, failing.err)
	require.ErrorContains(t, err, "call Forget again")
	require.NotZero(t, r.Seq)
	require.Contains(t, r.Residuals, envelope.Residual{Kind: envelope.ResidualFailed, Name: "table t", Note: "not done: call Forget again"})
	require.Contains(t, r.Residuals, envelope.Residual{Kind: envelope.ResidualColumns, Name: "t", Count: 2})
	require.ErrorIs(t, openErr(t, k, sealed), envelope.ErrForgotten, "a residue undoes nothing")

	failing.err = nil
	again, err := k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	require.True(t, again.Already)
	require.Equal(t, r.Seq, again.Seq)
	require.Equal(t, []string{"ada/all", "ada/all"}, failing.calls)

	_, err = k.ForgetPurpose(t.Context(), person("bob"), "billing")
	require.NoError(t, err)
	require.Equal(t, "bob/billing", other.calls[len(other.calls)-1])
}
