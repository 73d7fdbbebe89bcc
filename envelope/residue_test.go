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

// byPseudonym is a residue that needs no more than the pseudonym.
type byPseudonym struct {
	residue
	refs []envelope.SRef
}

func (r *byPseudonym) ForgottenPseudonym(ctx context.Context, ref envelope.SRef, purpose string, all bool) ([]envelope.Residual, error) {
	r.refs = append(r.refs, ref)
	return r.Forgotten(ctx, envelope.Subject{ID: "?"}, purpose, all)
}

func (*byPseudonym) String() string { return "table by pseudonym" }

// A deferred forget that comes due runs the residues that need the pseudonym only.
// The receipt and the status name what is left until a Forget has run the others, also
// after a restart.
func TestResiduesOfADeferredForget(t *testing.T) {
	w := newWorld(t)
	c := &wallClock{}
	k := w.timed(t, c)
	able, other := &byPseudonym{}, &residue{}
	k.AddResidue(able)
	k.AddResidue(other)
	ref, err := k.Pseudonym(person("ada"))
	require.NoError(t, err)
	seal(t, k, record("ada", "a"))
	_, err = k.ForgetAfter(t.Context(), person("ada"), time.Hour)
	require.NoError(t, err)
	c.set(2 * time.Hour)
	done, err := k.ForgetDue(t.Context())
	require.NoError(t, err)
	require.Len(t, done, 1)
	require.Equal(t, []envelope.SRef{ref}, able.refs)
	require.Empty(t, other.calls)
	pending := 0
	for _, r := range done[0].Residuals {
		if r.Kind == envelope.ResidualPending {
			pending++
		}
	}
	require.Equal(t, 2, pending, "the residue, and that the ledger waits for it: %+v", done[0].Residuals)

	_, err = k.ForgetDue(t.Context())
	require.NoError(t, err)
	require.Len(t, able.refs, 1, "no use before somebody knows the subject")
	k = w.timed(t, c)
	k.AddResidue(able)
	k.AddResidue(other)
	st, err := k.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, []uint64{done[0].Seq}, st.Residues)
	require.Contains(t, st.String(), "forgets that left something besides the keys, to be called again: 1")

	again, err := k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	require.True(t, again.Already)
	require.Equal(t, []string{"ada/all"}, other.calls)
	for _, r := range again.Residuals {
		require.NotEqual(t, envelope.ResidualPending, r.Kind)
	}
	st, err = w.timed(t, c).Status(t.Context())
	require.NoError(t, err)
	require.Empty(t, st.Residues)
	entries, err := w.ledger.Read(t.Context(), 0)
	require.NoError(t, err)
	require.NoError(t, envelope.VerifyAgainstLedger(again, entries))
}

// One that fails is tried again by ForgetDue, and by Readmit, which does not lift the
// forget before it is done. Release knows the subject.
func TestResiduesOfADeferredForgetAreTriedAgain(t *testing.T) {
	w := newWorld(t)
	c := &wallClock{}
	k := w.timed(t, c)
	able := &byPseudonym{residue: residue{err: errors.New("away")}}
	k.AddResidue(able)
	later := func(id string) {
		seal(t, k, record(id, "a"))
		_, err := k.ForgetAfter(t.Context(), person(id), time.Hour)
		require.NoError(t, err)
	}
	owed := func() int {
		st, err := k.Status(t.Context())
		require.NoError(t, err)
		return len(st.Residues)
	}
	later("ada")
	later("bob")
	c.set(2 * time.Hour)
	done, err := k.ForgetDue(t.Context())
	require.ErrorIs(t, err, able.err)
	require.Len(t, done, 2)
	require.Equal(t, 2, owed())
	err = k.Readmit(t.Context(), person("bob"))
	require.ErrorIs(t, err, able.err)
	require.ErrorContains(t, err, "not readmitted")
	able.err = nil
	require.NoError(t, k.Readmit(t.Context(), person("bob")))
	require.Equal(t, 1, owed())
	_, err = k.ForgetDue(t.Context())
	require.NoError(t, err)
	require.Zero(t, owed())

	other := &residue{}
	k.AddResidue(other)
	seal(t, k, withPurpose(record("eve", "a"), "marketing"))
	require.NoError(t, k.Hold(t.Context(), person("eve"), time.Time{}, "case"))
	r, err := k.ForgetPurpose(t.Context(), person("eve"), "marketing")
	require.NoError(t, err)
	require.True(t, r.Deferred)
	released, err := k.Release(t.Context(), person("eve"), "case")
	require.NoError(t, err)
	require.Len(t, released, 1)
	require.Equal(t, []string{"eve/marketing"}, other.calls)
	require.Zero(t, owed())
}

// slow is a Residue during whose first call something happens elsewhere.
type slow struct {
	byPseudonym
	during func()
}

func (r *slow) ForgottenPseudonym(ctx context.Context, ref envelope.SRef, purpose string, all bool) ([]envelope.Residual, error) {
	if during := r.during; during != nil {
		r.during = nil
		during()
	}
	return r.byPseudonym.ForgottenPseudonym(ctx, ref, purpose, all)
}

// A Residue that takes its time for one forget settles no later forget of the subject,
// which came back meanwhile.
func TestALateResidueSettlesNoLaterForget(t *testing.T) {
	w := newWorld(t)
	c := &wallClock{}
	here, there := w.timed(t, c), w.timed(t, c)
	first, second := &slow{}, &byPseudonym{}
	here.AddResidue(first)
	there.AddResidue(second)
	seal(t, here, record("ada", "a"))
	_, err := here.ForgetAfter(t.Context(), person("ada"), time.Hour)
	require.NoError(t, err)
	c.set(2 * time.Hour)
	first.during = func() {
		require.NoError(t, there.Readmit(t.Context(), person("ada")))
		seal(t, there, record("ada", "b"))
		_, err := there.ForgetAfter(t.Context(), person("ada"), time.Hour)
		require.NoError(t, err)
		c.set(4 * time.Hour)
		second.err = errors.New("away")
		_, err = there.ForgetDue(t.Context())
		require.ErrorIs(t, err, second.err)
	}
	_, err = here.ForgetDue(t.Context())
	require.NoError(t, err)
	require.Len(t, first.refs, 2, "the later forget is still owed, and is tried")
	st, err := here.Status(t.Context())
	require.NoError(t, err)
	require.Empty(t, st.Residues)
}
