package lethe_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

type spelled struct {
	_     lethe.Document `lethe:"spelled"`
	User  string         `json:"user" lethe:"subject=customer"`
	Email string         `json:"email" lethe:"email"`
	Plan  string         `json:"plan"`
}

// To encoding/json EMAIL is email and the last of two members counts. Whatever
// counts must be sealed, for the subject that counts, and be opened by the keys that count.
func TestMembersSpelledOtherwise(t *testing.T) {
	t.Parallel()
	s, err := lethe.For[spelled](envelopetest.NewKeyring(t))
	require.NoError(t, err)
	doc, err := lethe.Marshal(t.Context(), s, &spelled{User: "u", Email: "ada@example.com"})
	require.NoError(t, err)
	other, err := lethe.Marshal(t.Context(), s, &spelled{User: "v", Email: "bob@example.com"})
	require.NoError(t, err)
	keys := string(other[strings.Index(string(other), `"$lethe_keys"`):])
	for tail, want := range map[string]error{
		`,"EMAIL":"smuggled@x"}`: lethe.ErrNotSealed,
		`,"email":"smuggled@x"}`: lethe.ErrNotSealed,
		`,"Email":{}}`:           lethe.ErrNotSealed,
		`,"$LETHE_KEYS":null}`:   lethe.ErrNotSealed,
		`,"$lethe_keys":"AQE"}`:  lethe.ErrNotSealed,
		`,` + keys:               lethe.ErrKeyMissing,
		`,"USER":"v"}`:           lethe.ErrKeyMissing,
		`,"user":""}`:            lethe.ErrNoSubject,
	} {
		got := spelled{Plan: "before"}
		err := lethe.Unmarshal(t.Context(), s, []byte(strings.TrimSuffix(string(doc), "}")+tail), &got)
		require.ErrorIs(t, err, want, tail)
		require.Empty(t, got.Email, tail)
		require.NotContains(t, err.Error(), "smuggled", tail)
	}
}

// A call that fails in the middle of its rows leaves nothing in the memory that
// later calls reuse.
func TestAFailedCallLeavesNothingForTheNext(t *testing.T) {
	t.Parallel()
	s, _ := people(t)
	for i := range 50 {
		bad := []person{newPerson(1), newPerson(2), newPerson(3)}
		bad[i%3].ID = ""
		require.ErrorIs(t, s.SealSlice(t.Context(), bad), lethe.ErrNoSubject)
		for j := range bad {
			require.Equal(t, lethe.StatusPlain, bad[j].Email.Status())
			require.True(t, bad[j].Keys.IsZero())
		}
		p := newPerson(9)
		require.NoError(t, s.Seal(t.Context(), &p))
		require.NoError(t, s.Open(t.Context(), &p))
		require.Equal(t, "P9@Example.com", reveal(t, p.Email))
		p.Keys = lethe.Keys{}
		p.Born = lethe.Null[time.Time]()
		require.ErrorIs(t, s.Seal(t.Context(), &p), lethe.ErrSealed)
	}
}

// Values live behind unsafe pointers: the collector must see them.
func TestValuesOutliveCollections(t *testing.T) {
	t.Parallel()
	s, _ := people(t)
	var wg sync.WaitGroup
	for worker := range 4 {
		view := s.Tenant(fmt.Sprint("tenant", worker%2))
		wg.Go(func() {
			for i := range 30 {
				rows := []person{newPerson(i), newPerson(i + 1)}
				runtime.GC()
				if err := view.SealSlice(t.Context(), rows); err != nil {
					t.Error(err)
					return
				}
				runtime.GC()
				if err := view.OpenSlice(t.Context(), rows); err != nil {
					t.Error(err)
					return
				}
				runtime.GC()
				for j := range rows {
					if v, err := rows[j].Email.Reveal(); err != nil || v != fmt.Sprintf("P%d@Example.com", i+j) {
						t.Error(v, err)
					}
					if v, err := rows[j].Work.Street.Reveal(); err != nil || v != "Work Street" {
						t.Error(v, err)
					}
				}
			}
		})
	}
	wg.Wait()
}

// Equal values of two tenants have unrelated indexes.
func TestIndexesOfTenantsDiffer(t *testing.T) {
	t.Parallel()
	s, _ := people(t)
	var terms []string
	for _, tenant := range []string{"a", "b"} {
		view := s.Tenant(tenant)
		p := newPerson(1)
		require.NoError(t, view.Seal(t.Context(), &p))
		q, err := view.Query(t.Context(), "email_idx", " p1@example.COM")
		require.NoError(t, err)
		require.Equal(t, [][]byte{p.EmailIdx.Bytes()}, q.Terms())
		terms = append(terms, q.TextTerms()...)
	}
	none, err := s.Query(t.Context(), "email_idx", "p1@example.com")
	require.NoError(t, err)
	require.Empty(t, none.Terms(), "no tenant is a tenant of its own")
	require.NotEqual(t, terms[0], terms[1])
}
