package lethe_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
)

// An index epoch: a new key, every index computed again, the old key dead.
func TestReindex(t *testing.T) {
	s, ring := people(t)
	rows := make([]person, 6)
	for i := range rows {
		rows[i] = newPerson(i)
	}
	rows[5].Email = lethe.Null[string]()
	require.NoError(t, s.SealSlice(t.Context(), rows))
	_, err := ring.Forget(t.Context(), envelope.Subject{Kind: "person", ID: "p4"})
	require.NoError(t, err)
	before := make([][]byte, len(rows))
	for i := range rows {
		before[i] = rows[i].EmailIdx.Bytes()
	}
	terms := func(i int) [][]byte {
		q, err := s.Query(t.Context(), "email_idx", fmt.Sprintf("p%d@example.com", i))
		require.NoError(t, err)
		return q.Terms()
	}
	receipt, err := ring.RetireIndexKeys(t.Context(), "", "people", "email_idx")
	require.NoError(t, err)
	require.True(t, receipt.Already, "there is one version only")

	require.NoError(t, ring.RotateIndexKey(t.Context(), "", "people", "email_idx"))
	require.Len(t, terms(1), 2)
	require.Equal(t, before[1], terms(1)[1], "rows that are not rebuilt yet are found")
	require.NoError(t, s.Reindex(t.Context(), rows))
	for i := range 4 {
		require.NotEqual(t, before[i], rows[i].EmailIdx.Bytes())
		require.Equal(t, terms(i)[0], rows[i].EmailIdx.Bytes())
	}
	for _, i := range []int{4, 5} {
		require.Nil(t, rows[i].EmailIdx.Bytes(), "NULL: forgotten, or nothing to find")
		require.False(t, rows[i].EmailIdx.IsZero())
	}
	receipt, err = ring.RetireIndexKeys(t.Context(), "", "people", "email_idx")
	require.NoError(t, err)
	require.Len(t, receipt.KeyIDs, 1)
	require.Len(t, terms(1), 1)
	require.False(t, bytes.Equal(before[1], terms(1)[0]))
	closed, err := ring.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	require.False(t, closed.NoOp)
	require.Equal(t, 1, closed.Dropped, "the row of the retired key")
	require.Len(t, terms(1), 1)
	another := newPerson(9)
	require.NoError(t, s.Seal(t.Context(), &another), "the new key seals on")

	require.ErrorIs(t, ring.RotateIndexKey(t.Context(), "", "people", "never"), lethe.ErrKeyMissing)
	_, err = ring.RetireIndexKeys(t.Context(), "", "people", "never")
	require.ErrorIs(t, err, lethe.ErrKeyMissing)
	type plain struct {
		Keys lethe.Keys           `lethe:"plain"`
		ID   string               `lethe:"subject=person"`
		Name lethe.Secret[string] `lethe:"name"`
	}
	p, err := lethe.For[plain](ring)
	require.NoError(t, err)
	require.ErrorContains(t, p.Reindex(t.Context(), nil), "no blind index")
}
