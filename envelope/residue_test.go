package envelope_test

import (
	"context"
	"errors"
	"testing"
	"time"

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

// Release knows whose keys it forgets; ForgetDue does not, and its receipt says so.
func TestResiduesOfDeferredForgets(t *testing.T) {
	w := newWorld(t)
	c := &wallClock{}
	k := w.timed(t, c)
	one := &residue{}
	k.AddResidue(one)
	for _, id := range []string{"ada", "bob"} {
		seal(t, k, record(id, "a"))
		require.NoError(t, k.Hold(t.Context(), person(id), time.Now().Add(time.Hour), "x"))
	}
	_, err := k.ForgetPurpose(t.Context(), person("ada"), "marketing")
	require.NoError(t, err)
	for _, id := range []string{"ada", "bob"} {
		_, err = k.Forget(t.Context(), person(id))
		require.NoError(t, err)
	}
	require.Empty(t, one.calls, "held")
	done, err := k.Release(t.Context(), person("ada"), "x")
	require.NoError(t, err)
	require.Len(t, done, 2)
	require.Equal(t, []string{"ada/marketing", "ada/all"}, one.calls)
	require.Contains(t, done[1].Residuals, envelope.Residual{Kind: envelope.ResidualColumns, Name: "t", Count: 2})

	c.set(2 * time.Hour)
	done, err = k.ForgetDue(t.Context())
	require.NoError(t, err)
	require.Len(t, done, 1)
	require.Len(t, one.calls, 2)
	last := done[0].Residuals[len(done[0].Residuals)-1]
	require.Equal(t, envelope.ResidualFailed, last.Kind)
	require.Equal(t, "table t", last.Name)
	require.Contains(t, last.Note, "call Forget")
	r, err := k.Forget(t.Context(), person("bob"))
	require.NoError(t, err)
	require.Equal(t, done[0].Seq, r.Seq)
	require.Equal(t, "bob/all", one.calls[2])
}
