package lethe_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
)

func TestRows(t *testing.T) {
	s, ring := people(t)
	r, err := lethe.ForType(reflect.TypeFor[person](), ring)
	require.NoError(t, err)
	require.Equal(t, reflect.TypeFor[person](), r.Type())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		require.Equal(t, "[sealer]", fmt.Sprintf(verb, r))
	}

	rows := []person{newPerson(1), newPerson(2), newPerson(3)}
	require.NoError(t, r.SealSlice(t.Context(), &rows))
	_, err = ring.Rotate(t.Context(), lethe.Subject{Kind: "person", ID: "p1"})
	require.NoError(t, err)
	_, err = ring.Forget(t.Context(), lethe.Subject{Kind: "person", ID: "p3"})
	require.NoError(t, err)
	changed, left, err := r.RewrapSlice(t.Context(), rows)
	require.NoError(t, err)
	require.Equal(t, []int{0}, changed)
	require.Equal(t, lethe.Left{Forgotten: []int{2}}, left)
	require.NoError(t, ring.Suspend(t.Context(), lethe.Subject{Kind: "person", ID: "p1"}))
	changed, left, err = r.RewrapSlice(t.Context(), rows)
	require.NoError(t, err)
	require.Empty(t, changed)
	require.Equal(t, lethe.Left{Forgotten: []int{2}, Suspended: []int{0}}, left)
	require.NoError(t, ring.Resume(t.Context(), lethe.Subject{Kind: "person", ID: "p1"}))

	require.NoError(t, s.OpenSlice(t.Context(), rows))
	require.Equal(t, lethe.StatusForgotten, rows[2].Email.Status())
	old := []lethe.Keys{rows[0].Keys, rows[1].Keys}
	require.ErrorIs(t, r.ResealSlice(t.Context(), rows), lethe.ErrForgotten)
	require.True(t, old[0].Equal(rows[0].Keys), "all or nothing")
	require.NoError(t, r.ResealSlice(t.Context(), rows[:2]))
	for i := range 2 {
		require.False(t, old[i].Equal(rows[i].Keys))
		require.Equal(t, lethe.StatusSealed, rows[i].Email.Status())
	}
	require.NoError(t, ring.RotateIndexKey(t.Context(), "", "people", "email_idx"))
	index := rows[0].EmailIdx
	require.NoError(t, r.Reindex(t.Context(), rows))
	require.False(t, index.Equal(rows[0].EmailIdx))
	require.NoError(t, r.OpenSlice(t.Context(), rows))
	require.Equal(t, "P1@Example.com", reveal(t, rows[0].Email))

	require.ErrorContains(t, r.Tenant("").SealSlice(t.Context(), rows), "needs a tenant")
	acme := []person{newPerson(7)}
	require.NoError(t, r.Tenant("acme").SealSlice(t.Context(), acme))
	require.Error(t, s.OpenSlice(t.Context(), acme))
	require.NoError(t, s.Tenant("acme").Rows().OpenSlice(t.Context(), acme))
}

// Rows of another type would be written to at the wrong places.
func TestRowsOfAnotherType(t *testing.T) {
	s, ring := people(t)
	r := s.Rows()
	type impostor person
	for _, rows := range []any{
		nil, person{}, &person{}, []*person{}, []impostor{{}}, &[]impostor{}, [1]person{}, []any{person{}}, (*[]person)(nil), "", reflect.ValueOf([]person{}),
	} {
		require.ErrorContains(t, r.SealSlice(t.Context(), rows), "[]lethe_test.person")
		require.ErrorContains(t, r.ResealSlice(t.Context(), rows), "is needed")
		require.ErrorContains(t, r.OpenSlice(t.Context(), rows), "is needed")
		require.ErrorContains(t, r.Reindex(t.Context(), rows), "is needed")
		_, _, err := r.RewrapSlice(t.Context(), rows)
		require.ErrorContains(t, err, "is needed")
	}
	var none []person
	require.NoError(t, r.SealSlice(t.Context(), none))
	require.NoError(t, r.OpenSlice(t.Context(), &none))
	_, err := lethe.ForType(reflect.TypeFor[int](), ring)
	require.ErrorContains(t, err, "struct")
	_, err = lethe.ForType(nil, ring)
	require.Error(t, err)
	_, err = lethe.ForType(reflect.TypeFor[person](), nil)
	require.ErrorContains(t, err, "ForType needs a Keyring")
	_, err = lethe.ForType(reflect.TypeFor[person](), ring, lethe.Options{}, lethe.Options{})
	require.ErrorContains(t, err, "one Options")
}

func TestResealSlice(t *testing.T) {
	s, ring := people(t)
	rows := []person{newPerson(1), newPerson(2)}
	require.NoError(t, s.SealSlice(t.Context(), rows))
	require.ErrorIs(t, s.ResealSlice(t.Context(), rows), lethe.ErrSealed, "not opened")
	require.NoError(t, ring.SuspendPurpose(t.Context(), envelope.Subject{Kind: "person", ID: "p2"}, "marketing"))
	require.NoError(t, s.OpenSlice(t.Context(), rows))
	err := s.ResealSlice(t.Context(), rows)
	require.ErrorIs(t, err, lethe.ErrSuspended)
	require.ErrorContains(t, err, "row 1 of 2")
	require.NoError(t, s.ResealSlice(t.Context(), rows[:1]))
	require.NoError(t, s.OpenSlice(t.Context(), rows[:1]))
	require.Equal(t, "Work Street", reveal(t, rows[0].Work.Street))
}
