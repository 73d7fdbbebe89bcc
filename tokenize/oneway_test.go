package tokenize_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/tokenize"
	"github.com/lethe-go/lethe/tokenize/tokenizetest"
)

func TestOneWay(t *testing.T) {
	keys := &tokenizetest.Keys{}
	base := tokenize.OneWayOptions{Domain: "research", Keys: keys, Purpose: "study", Period: "2026", Scope: tokenize.ScopeTenant, AcknowledgeUnforgettable: true}
	one := func(change func(o *tokenize.OneWayOptions), s tokenize.Subject, ad, value string) string {
		o := base
		change(&o)
		f, err := tokenize.NewOneWay(o)
		require.NoError(t, err)
		token, version, err := tokenize.One(t.Context(), f, s, []byte(ad), value)
		require.NoError(t, err)
		require.EqualValues(t, 1, version)
		require.Regexp(t, "^[0-9a-z]{26}$", token)
		return token
	}
	same := func(*tokenize.OneWayOptions) {}
	first := one(same, subject(1), "", "ada")
	require.Equal(t, first, one(same, subject(2), "", "ada"), "joinable")
	seen := map[string]string{first: "first"}
	for name, other := range map[string]string{
		"value":   one(same, subject(1), "", "Ada"),
		"data":    one(same, subject(1), "a", "da"),
		"tenant":  one(same, tokenize.Subject{Tenant: "globex"}, "", "ada"),
		"domain":  one(func(o *tokenize.OneWayOptions) { o.Domain = "press" }, subject(1), "", "ada"),
		"purpose": one(func(o *tokenize.OneWayOptions) { o.Purpose = "audit" }, subject(1), "", "ada"),
		"period":  one(func(o *tokenize.OneWayOptions) { o.Period = "2027" }, subject(1), "", "ada"),
		"scope": one(func(o *tokenize.OneWayOptions) {
			o.Scope, o.AcknowledgeUnforgettable = tokenize.ScopeSubject, false
		}, subject(1), "", "ada"),
		"subject": one(func(o *tokenize.OneWayOptions) {
			o.Scope, o.AcknowledgeUnforgettable = tokenize.ScopeSubject, false
		}, subject(2), "", "ada"),
	} {
		require.NotContains(t, seen, other, name)
		seen[other] = name
	}
	f, err := tokenize.NewOneWay(base)
	require.NoError(t, err)
	next, _, err := tokenize.One(t.Context(), f.At("2027"), subject(1), nil, "ada")
	require.NoError(t, err)
	require.Equal(t, "period", seen[next])
	_, err = tokenize.OneBack(t.Context(), f, subject(1), nil, first, 1)
	require.ErrorIs(t, err, tokenize.ErrOneWay)
	base.AcknowledgeUnforgettable, base.Domain = false, ""
	_, err = tokenize.NewOneWay(base)
	require.ErrorContains(t, err, "survive every forget")
	require.ErrorContains(t, err, "Domain")
}

func TestOneWayOfAForgottenSubject(t *testing.T) {
	keys := &tokenizetest.Keys{}
	f, err := tokenize.NewOneWay(tokenize.OneWayOptions{Domain: "research", Keys: keys})
	require.NoError(t, err)
	keys.Forget(subject(1))
	items := []tokenize.Item{{Subject: subject(1), Value: "a"}, {Subject: subject(2), Value: "a"}, {Value: "a"}}
	require.NoError(t, f.Tokenize(t.Context(), items))
	require.ErrorIs(t, items[0].Err, tokenize.ErrForgotten)
	require.NoError(t, items[1].Err)
	require.ErrorIs(t, items[2].Err, tokenize.ErrNoSubject)
}

// Dates of a subject keep their order and distance, move within the window, and
// move back.
func TestDateShift(t *testing.T) {
	keys := &tokenizetest.Keys{}
	f, err := tokenize.NewDateShift(tokenize.DateShiftOptions{Name: "visits", Keys: keys, Days: 30})
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(1, 1))
	shifts := map[int]bool{}
	for n := range 200 {
		start := time.Date(1900+r.IntN(200), 1, 1+r.IntN(365), 0, 0, 0, 0, time.UTC)
		items := make([]tokenize.Item, 5)
		for i := range items {
			items[i] = tokenize.Item{Subject: subject(n), Value: start.AddDate(0, 0, 10*i).Format(time.DateOnly)}
		}
		require.NoError(t, f.Tokenize(t.Context(), items))
		for i := range items {
			require.NoError(t, items[i].Err)
			moved, err := time.Parse(time.DateOnly, items[i].Token)
			require.NoError(t, err)
			days := int(moved.Sub(start.AddDate(0, 0, 10*i)).Hours() / 24)
			require.NotZero(t, days)
			require.LessOrEqual(t, max(days, -days), 30)
			if i == 0 {
				shifts[days] = true
			}
			want := items[i].Value
			items[i].Value = ""
			back, err := tokenize.OneBack(t.Context(), f, subject(n), nil, items[i].Token, items[i].KeyVersion)
			require.NoError(t, err)
			require.Equal(t, want, back)
			if i > 0 {
				before, err := time.Parse(time.DateOnly, items[i-1].Token)
				require.NoError(t, err)
				require.Equal(t, 240*time.Hour, moved.Sub(before))
			}
		}
	}
	require.Greater(t, len(shifts), 40)
	items := []tokenize.Item{
		{Subject: subject(1), Value: "2026-02-30"}, {Subject: subject(1), Value: "26-02-01"}, {Subject: subject(1), Value: ""},
		{Subject: subject(1), Value: "2026-02-01"}, {Value: "2026-02-01"},
	}
	require.NoError(t, f.Tokenize(t.Context(), items))
	for i, want := range []error{tokenize.ErrValue, tokenize.ErrValue, tokenize.ErrValue, nil, tokenize.ErrNoSubject} {
		require.ErrorIs(t, items[i].Err, want)
	}
	edge := 0
	for n := range 50 { // near the ends of time some move out of it
		for _, date := range []string{"9999-12-31", "0001-01-01"} {
			if _, _, err := tokenize.One(t.Context(), f, subject(n), nil, date); err != nil {
				require.ErrorIs(t, err, tokenize.ErrValue)
				edge++
			}
		}
	}
	require.Equal(t, 50, edge)
	for _, days := range []int{0, -1, 36501} {
		_, err := tokenize.NewDateShift(tokenize.DateShiftOptions{Name: "x", Keys: keys, Days: days})
		require.Error(t, err)
	}
	require.Equal(t, "[tokenizer]", fmt.Sprint(f))
}

// Year 0 has dates, but no way back: they are refused, whichever way they move.
func TestDateShiftYearZero(t *testing.T) {
	f, err := tokenize.NewDateShift(tokenize.DateShiftOptions{Name: "visits", Keys: &tokenizetest.Keys{}, Days: 30})
	require.NoError(t, err)
	for n := range 50 {
		_, _, err := tokenize.One(t.Context(), f, subject(n), nil, "0000-12-31")
		require.ErrorIs(t, err, tokenize.ErrValue)
	}
}
