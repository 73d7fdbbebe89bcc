package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lethe-go/lethe/envelope"
)

func lease(owner string, until time.Time) envelope.Lease {
	return envelope.Lease{Tree: tree, Epoch: 7, Step: "re-keying leaves", Owner: owner, Until: until}
}

func leaseOf(t *testing.T, s envelope.Store, of envelope.TreeID) envelope.Lease {
	t.Helper()
	l, err := s.LeaseOf(t.Context(), of)
	must(t, err)
	return l
}

func testLease(t *testing.T, b Backend) {
	s, other := populated(t, b), b.Open(t)
	now := created
	equal(t, "before the first", leaseOf(t, s, tree), envelope.Lease{})
	first := lease("a", now.Add(time.Minute))
	must(t, s.Claim(t.Context(), first, now))
	equal(t, "lease", leaseOf(t, other, tree), first)
	want(t, other.Claim(t.Context(), lease("b", now.Add(time.Hour)), now), envelope.ErrLeased)
	want(t, other.Claim(t.Context(), lease("b", now), now), envelope.ErrLeased) // nothing to give back
	want(t, other.Claim(t.Context(), lease("b", now.Add(time.Hour)), now.Add(time.Minute-time.Nanosecond)), envelope.ErrLeased)
	equal(t, "still the first", leaseOf(t, s, tree), first)

	renewed := first
	renewed.Epoch, renewed.Step, renewed.Until = 8, "checking", now.Add(2*time.Minute)
	must(t, s.Claim(t.Context(), renewed, now.Add(30*time.Second)))
	equal(t, "renewed", leaseOf(t, other, tree), renewed)
	want(t, other.Claim(t.Context(), lease("b", now.Add(time.Hour)), now.Add(time.Minute)), envelope.ErrLeased)

	next := lease("b", now.Add(3*time.Minute))
	must(t, other.Claim(t.Context(), next, renewed.Until)) // expired
	want(t, s.Claim(t.Context(), renewed, renewed.Until), envelope.ErrLeased)
	back := next
	back.Until, back.Step = now.Add(2*time.Minute), "done"
	must(t, other.Claim(t.Context(), back, back.Until))
	equal(t, "given back", leaseOf(t, s, tree), back)
	must(t, s.Claim(t.Context(), lease("a", now.Add(time.Hour)), back.Until))
	elsewhere := lease("b", now.Add(time.Hour))
	elsewhere.Tree = tree + 1
	must(t, other.Claim(t.Context(), elsewhere, now)) // a tree has a lease of its own
	equal(t, "of another tree", leaseOf(t, s, tree+1), elsewhere)

	short := lease("a", now.Add(2*time.Hour+100*time.Millisecond))
	must(t, s.Claim(t.Context(), short, now.Add(2*time.Hour)))
	want(t, other.Claim(t.Context(), lease("b", now.Add(3*time.Hour)), now.Add(2*time.Hour+90*time.Millisecond)), envelope.ErrLeased)
	must(t, other.Claim(t.Context(), lease("b", now.Add(3*time.Hour)), now.Add(2*time.Hour+time.Second)))
}

func testLeaseRace(t *testing.T, b Backend) {
	s := populated(t, b)
	now := created
	for round := range 3 { // the later ones over an expired lease
		winner := ""
		for i, err := range parallel(t, b, 16, func(s envelope.Store, i int) error {
			l := lease(fmt.Sprint(round, "-", i), now.Add(time.Minute))
			l.Epoch = uint64(100*round + i)
			return s.Claim(t.Context(), l, now)
		}) {
			if err != nil {
				want(t, err, envelope.ErrLeased)
				continue
			}
			if winner != "" {
				t.Fatalf("%s and %d hold the lease", winner, i)
			}
			winner = fmt.Sprint(round, "-", i)
		}
		equal(t, "owner", leaseOf(t, s, tree).Owner, winner)
		now = now.Add(time.Minute)
	}
}

func testReincarnate(t *testing.T, b Backend) {
	s := populated(t, b)
	must(t, s.Advance(t.Context(), 0, 3, head(3)))
	won := 0
	for _, err := range parallel(t, b, 12, func(s envelope.Store, _ int) error { return s.Reincarnate(t.Context(), 1, 2) }) {
		if err == nil {
			won++
		} else {
			want(t, err, envelope.ErrStoreConflict)
		}
	}
	equal(t, "winners", won, 1)
	must(t, s.Reincarnate(t.Context(), 2, 7))
	want(t, s.Reincarnate(t.Context(), 1, 8), envelope.ErrStoreConflict)
	want(t, s.Reincarnate(t.Context(), 7, 7), envelope.ErrStoreConflict)
	m, err := s.Meta(t.Context())
	must(t, err)
	equal(t, "meta", m, envelope.Meta{StoreID: storeID, Schema: 1, Incarnation: 7, AppliedSeq: 3, LedgerHead: head(3)})
}

func testRoots(t *testing.T, b Backend) {
	s := populated(t, b)
	mustInsert(t, s, key(1, 1, 1, 1))
	must(t, s.Rekey(t.Context(), rekey()))
	roots := func() []envelope.RootRow {
		t.Helper()
		rows, err := b.Open(t).Roots(t.Context(), tree)
		must(t, err)
		return rows
	}
	old := root(1)
	old.State = envelope.RootRetiring
	equal(t, "by epoch", roots(), []envelope.RootRow{old, root(2)})

	old.DestroyAfter = created.Add(30 * 24 * time.Hour)
	change := old
	change.KMSURI, change.KMSHandle, change.Semantics, change.Suite, change.Created = "another", "another", "another", 2, created.Add(time.Hour)
	change.Wrapped, change.Commit = []byte("another"), []byte("another")
	absent := change
	absent.Epoch = 9
	must(t, s.UpdateRoots(t.Context(), []envelope.RootRow{absent, change}))
	equal(t, "scheduled, and nothing else", roots(), []envelope.RootRow{old, root(2)})
	_, live, err := s.Tree(t.Context(), tree)
	must(t, err)
	equal(t, "roots of the tree", len(live), 2)

	change.State, change.DestroyedAt = envelope.RootDestroyed, created.Add(31*24*time.Hour)
	must(t, s.UpdateRoots(t.Context(), []envelope.RootRow{change}))
	old.State, old.DestroyedAt, old.Wrapped = change.State, change.DestroyedAt, nil
	equal(t, "destroyed", roots(), []envelope.RootRow{old, root(2)})
	_, live, err = s.Tree(t.Context(), tree)
	must(t, err)
	equal(t, "roots of the tree", live, []envelope.RootRow{root(2)})
	must(t, s.UpdateRoots(t.Context(), nil))
	other, err := s.Roots(t.Context(), tree+1)
	must(t, err)
	equal(t, "another tree", len(other), 0)
}

// closing calls each method an epoch close needs.
func closing(ctx context.Context, s envelope.Store) map[string]func() error {
	return map[string]func() error{
		"RekeyPages":  func() error { return s.RekeyPages(ctx, envelope.RekeyPages{Tree: tree, Epoch: 1}) },
		"PagesAfter":  func() error { _, err := s.PagesAfter(ctx, tree, 0, 1); return err },
		"Roots":       func() error { _, err := s.Roots(ctx, tree); return err },
		"UpdateRoots": func() error { return s.UpdateRoots(ctx, []envelope.RootRow{root(1)}) },
		"Reincarnate": func() error { return s.Reincarnate(ctx, 1, 2) },
		"Claim":       func() error { return s.Claim(ctx, lease("a", created.Add(time.Hour)), created) },
		"LeaseOf":     func() error { _, err := s.LeaseOf(ctx, tree); return err },
	}
}

func testClosingEmpty(t *testing.T, b Backend) {
	for name, call := range closing(t.Context(), b.Open(t)) {
		if err := call(); !errors.Is(err, envelope.ErrStoreEmpty) {
			t.Errorf("%s: got %v, want ErrStoreEmpty", name, err)
		}
	}
}

func testClosingCancelled(t *testing.T, b Backend) {
	s := populated(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range closing(ctx, s) {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", name, err)
		}
	}
	m, err := s.Meta(t.Context())
	must(t, err)
	equal(t, "meta", m, initRows().Meta)
	equal(t, "lease", leaseOf(t, s, tree), envelope.Lease{})
}
