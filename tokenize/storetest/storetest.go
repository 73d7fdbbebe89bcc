// Package storetest is the suite every tokenize.Store must pass.
package storetest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/tokenize"
)

// Run runs the suite. fresh returns an empty store, ready for use, and a way to
// open it once more, as another process would; nil if that is not possible.
func Run(t *testing.T, fresh func(t *testing.T) (store tokenize.Store, again func(t *testing.T) tokenize.Store)) {
	t.Helper()
	for name, test := range map[string]func(t *testing.T, s, other tokenize.Store){
		"Insert": testInsert, "Repeats": testRepeats, "Find": testFind, "Elsewhere": testElsewhere, "Take": testTake,
		"Delete": testDelete, "DeleteExpired": testDeleteExpired, "Large": testLarge, "Races": testRaces, "Cancelled": testCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			s, again := fresh(t)
			other := s
			if again != nil {
				other = again(t)
			}
			test(t, s, other)
		})
	}
}

func entry(n int) tokenize.Entry {
	return tokenize.Entry{
		Tokenizer: "pan", Tenant: "acme", Token: "tok_" + strconv.Itoa(n), Purpose: "billing", KeyVersion: 1<<32 - 1,
		Sealed: []byte{0, byte(n), 0xff}, Created: 1_700_000_000, UsesLeft: -1,
	}
}

func fingerprint(n int) []byte { return fmt.Appendf(nil, "fingerprint %04d", n) }

func insert(t *testing.T, s tokenize.Store, entries ...tokenize.Entry) []tokenize.Result {
	t.Helper()
	kept := make([]tokenize.Entry, len(entries))
	copy(kept, entries)
	out, err := s.Insert(t.Context(), entries)
	require.NoError(t, err)
	require.Len(t, out, len(entries))
	require.Equal(t, kept, entries, "the store changed what it was given")
	return out
}

func places(entries ...tokenize.Entry) []tokenize.Place {
	out := make([]tokenize.Place, len(entries))
	for i, e := range entries {
		out[i] = tokenize.Place{Tenant: e.Tenant, Token: e.Token}
	}
	return out
}

func find(t *testing.T, s tokenize.Store, tokenizer string, at ...tokenize.Place) []tokenize.Entry {
	t.Helper()
	out, err := s.Find(t.Context(), tokenizer, at)
	require.NoError(t, err)
	slices.SortFunc(out, func(a, b tokenize.Entry) int { return strings.Compare(a.Tenant+a.Token, b.Tenant+b.Token) })
	return out
}

func testInsert(t *testing.T, s, other tokenize.Store) {
	e := entry(1)
	require.Equal(t, []tokenize.Result{{}}, insert(t, s, e))
	require.Equal(t, []tokenize.Entry{e}, find(t, other, "pan", places(e)...))
	require.Equal(t, tokenize.TokenTaken, insert(t, other, e)[0].Outcome)
	// The same token of another tokenizer or tenant is another.
	b, c := e, e
	b.Tokenizer, c.Tenant = "ssn", ""
	for _, r := range insert(t, s, b, c) {
		require.Equal(t, tokenize.Inserted, r.Outcome)
	}
	f := entry(2)
	f.Fingerprint, f.Expires, f.UsesLeft = fingerprint(1), 1_800_000_000, 3
	require.Equal(t, tokenize.Inserted, insert(t, s, f)[0].Outcome)
	g := entry(3)
	g.Fingerprint = fingerprint(1)
	require.Equal(t, []tokenize.Result{{Outcome: tokenize.SameValue, Existing: f}}, insert(t, other, g))
	require.Empty(t, find(t, s, "pan", places(g)...))
	out, err := s.Insert(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, out)
}

func testRepeats(t *testing.T, s, _ tokenize.Store) {
	a, b, c, d := entry(1), entry(1), entry(2), entry(3)
	c.Fingerprint, d.Fingerprint = fingerprint(1), fingerprint(1)
	out := insert(t, s, a, b, c, d)
	require.Equal(t, []tokenize.Result{{}, {Outcome: tokenize.TokenTaken}, {}, {Outcome: tokenize.SameValue, Existing: c}}, out)
	// A fingerprint that is there counts before a token that is taken.
	e := entry(1)
	e.Fingerprint = fingerprint(1)
	require.Equal(t, tokenize.SameValue, insert(t, s, e)[0].Outcome)
}

func testFind(t *testing.T, s, _ tokenize.Store) {
	a, b := entry(1), entry(2)
	b.Tenant = "globex"
	insert(t, s, a, b)
	got := find(t, s, "pan", append(places(a, b, a), tokenize.Place{Tenant: "acme", Token: "tok_2"}, tokenize.Place{Tenant: "acme", Token: "'; DROP"})...)
	require.Equal(t, []tokenize.Entry{a, b}, got)
	require.Empty(t, find(t, s, "ssn", places(a)...))
	require.Empty(t, find(t, s, "pan"))
}

func testElsewhere(t *testing.T, s, _ tokenize.Store) {
	a, b, c := entry(1), entry(1), entry(2)
	a.Tokenizer, b.Tenant, c.Tokenizer = "ssn", "globex", "ssn"
	insert(t, s, a, b, c)
	out, err := s.Elsewhere(t.Context(), "pan", []string{"tok_1", "tok_2", "tok_3", "tok_1"})
	require.NoError(t, err)
	slices.SortFunc(out, func(a, b tokenize.Entry) int { return strings.Compare(a.Token, b.Token) })
	require.Equal(t, []tokenize.Entry{
		{Tokenizer: "pan", Tenant: "globex", Token: "tok_1", Purpose: "billing"},
		{Tokenizer: "ssn", Tenant: "acme", Token: "tok_2", Purpose: "billing"},
	}, out)
}

func testTake(t *testing.T, s, other tokenize.Store) {
	a, b := entry(1), entry(2)
	a.UsesLeft = 2
	insert(t, s, a, b)
	for i, want := range [][]tokenize.Place{places(a), places(a), nil} {
		store := []tokenize.Store{s, other}[i%2]
		got, err := store.Take(t.Context(), "pan", append(places(a, b), tokenize.Place{Tenant: "acme", Token: "none"}))
		require.NoError(t, err)
		require.ElementsMatch(t, want, got)
	}
	require.Zero(t, find(t, s, "pan", places(a)...)[0].UsesLeft)
	require.EqualValues(t, -1, find(t, s, "pan", places(b)...)[0].UsesLeft)
	got, err := s.Take(t.Context(), "ssn", places(a))
	require.NoError(t, err)
	require.Empty(t, got)
}

func testDelete(t *testing.T, s, other tokenize.Store) {
	a, b := entry(1), entry(2)
	b.Fingerprint = fingerprint(1)
	insert(t, s, a, b)
	n, err := other.Delete(t.Context(), "pan", append(places(b), tokenize.Place{Tenant: "globex", Token: "tok_1"}))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, []tokenize.Entry{a}, find(t, s, "pan", places(a, b)...))
	require.Equal(t, tokenize.Inserted, insert(t, s, b)[0].Outcome, "the fingerprint is free again")
}

func testDeleteExpired(t *testing.T, s, _ tokenize.Store) {
	var all []tokenize.Entry
	for i := range 10 {
		e := entry(i)
		switch {
		case i < 4:
			e.Expires = int64(100 + i)
		case i < 6:
			e.UsesLeft = 0
		case i == 6:
			e.UsesLeft = 1
		}
		all = append(all, e)
	}
	insert(t, s, all...)
	for _, none := range []int{0, -1} {
		n, err := s.DeleteExpired(t.Context(), 102, none)
		require.NoError(t, err)
		require.Zero(t, n)
	}
	for _, want := range []int{2, 2, 1, 0} { // three expired, two used up
		n, err := s.DeleteExpired(t.Context(), 102, 2)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	require.Len(t, find(t, s, "pan", places(all...)...), 5)
}

func testLarge(t *testing.T, s, _ tokenize.Store) {
	const n = 2500
	var all []tokenize.Entry
	for i := range n {
		e := entry(i)
		e.Fingerprint = fingerprint(i)
		e.Sealed = make([]byte, 100)
		e.UsesLeft = 1
		all = append(all, e)
	}
	for _, r := range insert(t, s, all...) {
		require.Equal(t, tokenize.Inserted, r.Outcome)
	}
	again := slices.Clone(all)
	for i := range again {
		again[i].Token += "x"
	}
	for i, r := range insert(t, s, again...) {
		require.Equal(t, tokenize.SameValue, r.Outcome)
		require.Equal(t, all[i].Token, r.Existing.Token)
	}
	require.Len(t, find(t, s, "pan", places(all...)...), n)
	taken, err := s.Take(t.Context(), "pan", places(all...))
	require.NoError(t, err)
	require.Len(t, taken, n)
	deleted, err := s.Delete(t.Context(), "pan", places(all...))
	require.NoError(t, err)
	require.Equal(t, n, deleted)
}

// Many at once: every token and every fingerprint goes to one, every use to one.
func testRaces(t *testing.T, s, other tokenize.Store) {
	const workers, n = 8, 40
	var inserted, same, taken, uses atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			store := []tokenize.Store{s, other}[w%2]
			var all []tokenize.Entry
			for i := range n {
				a, b := entry(i), entry(1000+w*n+i)
				a.UsesLeft = 3
				b.Fingerprint = fingerprint(i)
				all = append(all, a, b)
			}
			if w%3 == 0 {
				slices.Reverse(all) // in the opposite order: no deadlock
			}
			out, err := store.Insert(t.Context(), all)
			if err != nil {
				t.Error(err)
				return
			}
			for _, r := range out {
				switch r.Outcome {
				case tokenize.Inserted:
					inserted.Add(1)
				case tokenize.SameValue:
					same.Add(1)
				case tokenize.TokenTaken:
					taken.Add(1)
				}
			}
			var at []tokenize.Place
			for i := range n {
				at = append(at, places(entry(i))...)
			}
			if w%3 == 0 {
				slices.Reverse(at)
			}
			got, err := store.Take(t.Context(), "pan", at)
			if err != nil {
				t.Error(err)
			}
			uses.Add(int64(len(got)))
		})
	}
	wg.Wait()
	require.EqualValues(t, 2*n, inserted.Load())
	require.EqualValues(t, (workers-1)*n, same.Load())
	require.EqualValues(t, (workers-1)*n, taken.Load())
	require.EqualValues(t, 3*n, uses.Load())
}

func testCancelled(t *testing.T, s, _ tokenize.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Insert(ctx, []tokenize.Entry{entry(1)})
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Find(ctx, "pan", places(entry(1)))
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Elsewhere(ctx, "pan", []string{"tok_1"})
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Take(ctx, "pan", places(entry(1)))
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Delete(ctx, "pan", places(entry(1)))
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.DeleteExpired(ctx, 1, 1)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, find(t, s, "pan", places(entry(1))...))
}
