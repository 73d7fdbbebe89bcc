package lethe_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
)

// A list with a person who is suspended opens: their fields are Denied, for a
// reason of their own, and open again when they are resumed.
func TestSuspendedPeopleInAList(t *testing.T) {
	s, ring := people(t)
	rows := make([]person, 5)
	for i := range rows {
		rows[i] = newPerson(i)
	}
	require.NoError(t, s.SealSlice(t.Context(), rows))
	require.NoError(t, ring.Suspend(t.Context(), lethe.Subject{Kind: "person", ID: "p3"}))
	require.NoError(t, ring.SuspendPurpose(t.Context(), lethe.Subject{Kind: "person", ID: "p1"}, "marketing"))
	for i := range rows {
		rows[i] = stored(t, rows[i])
	}
	require.NoError(t, s.OpenSlice(t.Context(), rows))
	for i := range rows {
		if i == 3 {
			_, err := rows[i].Email.Reveal()
			require.ErrorIs(t, err, lethe.ErrSuspended)
			require.NotErrorIs(t, err, lethe.ErrForgotten)
			require.Equal(t, lethe.StatusDenied, rows[i].Email.Status())
			require.Equal(t, "[denied]", rows[i].Email.Masked())
			require.Equal(t, "[sealed]", fmt.Sprint(rows[i].Email))
			v, err := rows[i].Email.Value()
			require.NoError(t, err)
			require.NotEmpty(t, v, "the row can still be saved as it is")
			continue
		}
		require.Equal(t, fmt.Sprintf("P%d@Example.com", i), reveal(t, rows[i].Email))
	}
	_, err := rows[1].News.Reveal()
	require.ErrorIs(t, err, lethe.ErrSuspended)
	p := newPerson(3)
	require.ErrorIs(t, s.Seal(t.Context(), &p), lethe.ErrSuspended)

	require.NoError(t, ring.Resume(t.Context(), lethe.Subject{Kind: "person", ID: "p3"}))
	require.NoError(t, s.Open(t.Context(), &rows[3]))
	require.Equal(t, "P3@Example.com", reveal(t, rows[3].Email))

	_, err = ring.ForgetAfter(t.Context(), lethe.Subject{Kind: "person", ID: "p4"}, time.Hour)
	require.NoError(t, err)
	again := stored(t, rows[4])
	require.NoError(t, s.Open(t.Context(), &again))
	_, err = again.Email.Reveal()
	require.ErrorIs(t, err, lethe.ErrSuspended)
	require.NoError(t, ring.Unforget(t.Context(), lethe.Subject{Kind: "person", ID: "p4"}))
	require.NoError(t, s.Open(t.Context(), &again))
	require.Equal(t, "P4@Example.com", reveal(t, again.Email))
}

func TestSuspendedTokens(t *testing.T) {
	s, ring := payers(t, lethe.Options{})
	ada := lethe.Subject{Kind: "customer", ID: "cus_1"}
	p := newPayer()
	require.NoError(t, s.Seal(t.Context(), &p))
	row := loadedPayer(t, &p)
	require.NoError(t, ring.Suspend(t.Context(), ada))
	require.NoError(t, s.Open(t.Context(), &row))
	require.Equal(t, lethe.StatusDenied, row.Card.Status())
	_, err := row.Card.Reveal()
	require.ErrorIs(t, err, lethe.ErrSuspended)
	require.Equal(t, testPAN, revealed(t, row.Shared), "joinable tokens are of no subject")
	require.NoError(t, ring.Resume(t.Context(), ada))
	require.NoError(t, s.Open(t.Context(), &row))
	require.Equal(t, testPAN, revealed(t, row.Card))
	_, err = s.MoveSlice(t.Context(), ada, []payer{row})
	require.ErrorContains(t, err, "Reseal")
}

// Two accounts become one, and a person's own row is renamed with its id.
func TestMoveRowsToAnotherSubject(t *testing.T) {
	s, ring := people(t)
	p := newPerson(1)
	p.Friend, p.Told = "p2", lethe.Of("told")
	require.NoError(t, s.Seal(t.Context(), &p))
	rows := []person{stored(t, p)}
	rows[0].ID = "p9"
	changed, err := s.MoveSlice(t.Context(), lethe.Subject{Kind: "person", ID: "p1"}, rows)
	require.NoError(t, err)
	require.Equal(t, []int{0}, changed)
	_, err = ring.Forget(t.Context(), lethe.Subject{Kind: "person", ID: "p1"})
	require.NoError(t, err)
	require.NoError(t, s.OpenSlice(t.Context(), rows))
	require.Equal(t, "P1@Example.com", reveal(t, rows[0].Email))
	require.Equal(t, "told", reveal(t, rows[0].Told))
	require.True(t, reveal(t, rows[0].News))
	old := stored(t, p)
	require.NoError(t, s.Open(t.Context(), &old))
	require.Equal(t, lethe.StatusForgotten, old.Email.Status())
	_, err = s.MoveSlice(t.Context(), lethe.Subject{Kind: "person", ID: "p1"}, []person{stored(t, p)})
	require.ErrorIs(t, err, lethe.ErrForgotten)
}
