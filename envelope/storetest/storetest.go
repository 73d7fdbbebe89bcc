// Package storetest is the suite every key store must pass.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lethe-go/lethe/envelope"
)

// Backend is one fresh, empty, migrated database.
type Backend struct {
	// Open returns a new handle on the database, as another process would have.
	// A store in memory returns the same store.
	Open func(t *testing.T) envelope.Store
	// Volatile says that the data does not outlive the handles, so that restarts
	// are not tested.
	Volatile bool
}

// Run runs the suite. fresh makes a new database each time it is called.
func Run(t *testing.T, fresh func(t *testing.T) Backend) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, b Backend)
	}{
		{"empty", testEmpty},
		{"init", testInit},
		{"init race", testInitRace},
		{"rows round trip", testRoundTrip},
		{"advance", testAdvance},
		{"pages", testPages},
		{"reserve", testReserve},
		{"reserve race", testReserveRace},
		{"insert", testInsert},
		{"insert race", testInsertRace},
		{"insert conflicts write nothing", testInsertConflicts},
		{"forget", testForget},
		{"forget one purpose", testForgetPurpose},
		{"forget conflicts change nothing", testForgetConflict},
		{"forget against insert", testForgetAgainstInsert},
		{"readmit", testReadmit},
		{"purposes", testPurposes},
		{"purposes race", testPurposesRace},
		{"rekey", testRekey},
		{"rekey conflicts change nothing", testRekeyConflicts},
		{"rekey against insert", testRekeyAgainstInsert},
		{"rekey compares what was seen", testRekeySeen},
		{"rekey pages", testRekeyPages},
		{"rekey pages: rows dropped", testRekeyPagesDrop},
		{"rekey pages: conflicts change nothing", testRekeyPagesConflicts},
		{"rekey pages against insert and forget", testRekeyPagesRaces},
		{"rekey pages: 20,000 keys", testRekeyPagesLarge},
		{"rekey pages: cut off", testRekeyPagesCancelled},
		{"pages in order", testPagesAfter},
		{"roots", testRoots},
		{"lease", testLease},
		{"lease race", testLeaseRace},
		{"reincarnate", testReincarnate},
		{"closing: empty", testClosingEmpty},
		{"closing: cancelled", testClosingCancelled},
		{"large batches", testLarge},
		{"cancelled", testCancelled},
		{"copies", testCopies},
		{"restart", testRestart},
		{"keyring: two processes", testKeyrings},
		{"keyring: forget against open", testKeyringRaces},
		{"keyring: rewrap against seal", testKeyringRewrap},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, fresh(t)) })
	}
}

const tree = envelope.TreeID(1)

var (
	storeID = envelope.StoreID{0xa0, 15: 0xaf}
	created = time.Unix(1_700_000_000, 0).UTC()
)

func sref(i int) envelope.SRef   { return envelope.SRef{0x5e, byte(i >> 16), byte(i >> 8), byte(i)} }
func kid(i int) envelope.KeyID   { return envelope.KeyID{0x1d, byte(i >> 16), byte(i >> 8), byte(i)} }
func head(seq uint64) []byte     { return bytes.Repeat([]byte{byte(seq)}, 32) }
func wrapped(i int) []byte       { return bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 30) }
func must(t *testing.T, e error) { t.Helper(); want(t, e, nil) }

func want(t *testing.T, got, target error) {
	t.Helper()
	if !errors.Is(got, target) {
		t.Fatalf("got the error %v, want %v", got, target)
	}
}

func equal[T any](t *testing.T, what string, got, wanted T) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", wanted); g != w {
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func root(epoch uint64) envelope.RootRow {
	return envelope.RootRow{
		Tree: tree, Epoch: epoch, KMSURI: "local://kek?é", KMSHandle: "v1", Semantics: "at once", Suite: 1,
		Wrapped: bytes.Repeat([]byte{7}, 1024), Commit: bytes.Repeat([]byte{8}, 32), State: envelope.RootActive,
		Created: created, DestroyAfter: created.Add(time.Hour),
	}
}

func page(id envelope.PageID, parent envelope.PageID, level uint8, fill uint32) envelope.PageRow {
	return envelope.PageRow{Tree: tree, Page: id, Parent: parent, ParentGen: 1, Level: level, Gen: 1, Suite: 1, Wrapped: wrapped(int(id)), Fill: fill}
}

// key is key i of subject s, under page 10.
func key(i, s int, pid envelope.PID, seq uint32) envelope.KeyRow {
	return envelope.KeyRow{
		KID: kid(i), Tree: tree, Page: 10, PageGen: 1, Kind: envelope.KindSubject, Suite: 1, RefVer: 1, SRef: sref(s), PID: pid,
		Seq: seq, Wrapped: wrapped(i), State: 1, Created: created.Unix(), SealUntil: 5, Expires: 0,
	}
}

func initRows() envelope.InitRows {
	ref := envelope.KeyRow{KID: kid(1 << 20), Tree: tree, Page: 10, PageGen: 1, Kind: envelope.KindRef, Suite: 1, SRef: sref(1 << 20), PID: 1, Seq: 1, Wrapped: wrapped(1), State: 1, Created: 1}
	mac := ref
	mac.KID, mac.Kind, mac.SRef = kid(1<<20+1), envelope.KindLedger, sref(1<<20+1)
	return envelope.InitRows{
		Meta:     envelope.Meta{StoreID: storeID, Schema: 1, Incarnation: 1},
		Tree:     envelope.TreeRow{Tree: tree, ActiveEpoch: 1, State: 1},
		Root:     root(1),
		Pages:    []envelope.PageRow{page(10, 0, 0, 2)},
		Keys:     []envelope.KeyRow{ref, mac},
		Purposes: []envelope.PurposeRow{{PID: 1, Name: ""}},
	}
}

// populated opens a handle after Init.
func populated(t *testing.T, b Backend) envelope.Store {
	t.Helper()
	s := b.Open(t)
	must(t, s.Init(t.Context(), initRows()))
	return s
}

func insert(keys ...envelope.KeyRow) envelope.Insert {
	return envelope.Insert{Tree: tree, Epoch: 1, Keys: keys}
}

func mustInsert(t *testing.T, s envelope.Store, keys ...envelope.KeyRow) {
	t.Helper()
	done, err := s.Insert(t.Context(), insert(keys...))
	must(t, err)
	equal(t, "inserted", done, envelope.Inserted{})
}

func forgetting(s int, pid envelope.PID, seq uint64, kids ...envelope.KeyID) envelope.Forgetting {
	return envelope.Forgetting{Tree: tree, Epoch: 1, RefVer: 1, SRef: sref(s), PID: pid, Seq: seq, Prev: seq - 1, Head: head(seq), KIDs: kids}
}

// kidsOf lists the live keys of subjects, sorted.
func kidsOf(t *testing.T, s envelope.Store, subjects ...int) []envelope.KeyID {
	t.Helper()
	refs := make([]envelope.SRef, len(subjects))
	for i, n := range subjects {
		refs[i] = sref(n)
	}
	rows, _, err := s.Keys(t.Context(), tree, 1, refs)
	must(t, err)
	out := make([]envelope.KeyID, len(rows))
	for i := range rows {
		out[i] = rows[i].KID
	}
	slices.SortFunc(out, func(a, b envelope.KeyID) int { return bytes.Compare(a[:], b[:]) })
	return out
}

func pageOf(t *testing.T, s envelope.Store, id envelope.PageID) envelope.PageRow {
	t.Helper()
	rows, err := s.Pages(t.Context(), tree, []envelope.PageID{id})
	must(t, err)
	if len(rows) != 1 {
		t.Fatalf("page %d: %d rows", id, len(rows))
	}
	return rows[0]
}

func testEmpty(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	for name, call := range map[string]func() error{
		"Meta":           func() error { _, err := s.Meta(ctx); return err },
		"Advance":        func() error { return s.Advance(ctx, 0, 1, head(1)) },
		"Tree":           func() error { _, _, err := s.Tree(ctx, tree); return err },
		"Pages":          func() error { _, err := s.Pages(ctx, tree, []envelope.PageID{1}); return err },
		"ChildPages":     func() error { _, err := s.ChildPages(ctx, tree, 0); return err },
		"DirtyPages":     func() error { _, err := s.DirtyPages(ctx, tree); return err },
		"OpenPages":      func() error { _, err := s.OpenPages(ctx, tree, 0, 1); return err },
		"CountRootPages": func() error { _, err := s.CountRootPages(ctx, tree, 0); return err },
		"Keys":           func() error { _, _, err := s.Keys(ctx, tree, 1, []envelope.SRef{sref(1)}); return err },
		"KeysOfPage":     func() error { _, err := s.KeysOfPage(ctx, tree, 10); return err },
		"SystemKeys":     func() error { _, _, err := s.SystemKeys(ctx, tree, envelope.KindRef); return err },
		"Evidence":       func() error { _, _, err := s.Evidence(ctx, tree, 1, []envelope.SRef{sref(1)}, nil); return err },
		"Insert":         func() error { _, err := s.Insert(ctx, insert(key(1, 1, 1, 1))); return err },
		"Purposes":       func() error { _, err := s.Purposes(ctx); return err },
		"AddPurpose":     func() error { _, err := s.AddPurpose(ctx, "p"); return err },
		"Forget":         func() error { _, err := s.Forget(ctx, forgetting(1, 0, 1)); return err },
		"Readmit":        func() error { return s.Readmit(ctx, envelope.Readmission{Tree: tree, Seq: 1}) },
		"Rekey":          func() error { return s.Rekey(ctx, envelope.Rekey{Tree: tree, OldEpoch: 1, Root: root(2)}) },
	} {
		if err := call(); !errors.Is(err, envelope.ErrStoreEmpty) {
			t.Errorf("%s: got %v, want ErrStoreEmpty", name, err)
		}
	}
}

func testInit(t *testing.T, b Backend) {
	s := populated(t, b)
	other := initRows()
	other.Meta.StoreID[0]++
	other.Purposes = append(other.Purposes, envelope.PurposeRow{PID: 2, Name: "other"})
	want(t, b.Open(t).Init(t.Context(), other), envelope.ErrStoreExists)
	m, err := s.Meta(t.Context())
	must(t, err)
	equal(t, "meta", m, initRows().Meta)
	purposes, err := s.Purposes(t.Context())
	must(t, err)
	equal(t, "purposes", purposes, initRows().Purposes)
}

func testInitRace(t *testing.T, b Backend) {
	const n = 4
	results := make(chan error, n)
	for i := range n {
		s, rows := b.Open(t), initRows()
		rows.Meta.StoreID[1] = byte(i)
		go func() { results <- s.Init(t.Context(), rows) }()
	}
	won := 0
	for range n {
		if err := <-results; err == nil {
			won++
		} else {
			want(t, err, envelope.ErrStoreExists)
		}
	}
	equal(t, "winners", won, 1)
}

func testRoundTrip(t *testing.T, b Backend) {
	s := populated(t, b)
	row, roots, err := s.Tree(t.Context(), tree)
	must(t, err)
	equal(t, "tree", row, initRows().Tree)
	equal(t, "roots", roots, []envelope.RootRow{root(1)})

	big := envelope.PageRow{Tree: tree, Page: 1<<63 - 1, Parent: 1<<63 - 2, ParentGen: 1 << 40, Level: 9, Gen: 1 << 41, Suite: 2, Wrapped: bytes.Repeat([]byte{0, 255}, 512), Fill: 64, DirtyEpoch: 1 << 42}
	full := envelope.KeyRow{
		KID: kid(5), Tree: tree, Page: big.Page, PageGen: big.Gen, Kind: envelope.KindIndex, Suite: 2, RefVer: 1<<32 - 1, SRef: sref(5),
		PID: 1<<32 - 1, Seq: 1<<32 - 1, Wrapped: bytes.Repeat([]byte{255, 0}, 512), State: 1, Created: 1 << 40, SealUntil: 1 << 41, Expires: 1 << 42,
	}
	_, err = s.Insert(t.Context(), envelope.Insert{Tree: tree, Epoch: 1, Pages: []envelope.PageRow{big}, Keys: []envelope.KeyRow{full}})
	must(t, err)
	equal(t, "page", pageOf(t, s, big.Page), big)
	keys, pages, err := b.Open(t).Keys(t.Context(), tree, full.RefVer, []envelope.SRef{sref(5), sref(5), sref(6)})
	must(t, err)
	equal(t, "keys", keys, []envelope.KeyRow{full})
	equal(t, "pages of keys", pages, []envelope.PageRow{big})
	none, _, err := s.Keys(t.Context(), tree, 1, []envelope.SRef{sref(5)})
	must(t, err)
	equal(t, "another ref version", len(none), 0)
	refs, leaves, err := s.SystemKeys(t.Context(), tree, envelope.KindRef)
	must(t, err)
	equal(t, "system keys", refs, initRows().Keys[:1])
	equal(t, "their page", leaves, initRows().Pages)
	onPage, err := s.KeysOfPage(t.Context(), tree, big.Page)
	must(t, err)
	equal(t, "keys of a page", onPage, []envelope.KeyRow{full})
}

func testAdvance(t *testing.T, b Backend) {
	s := populated(t, b)
	must(t, s.Advance(t.Context(), 0, 1, head(1)))
	want(t, s.Advance(t.Context(), 0, 1, head(9)), envelope.ErrStoreConflict)
	must(t, b.Open(t).Advance(t.Context(), 1, 7, head(7)))
	m, err := s.Meta(t.Context())
	must(t, err)
	equal(t, "applied", m.AppliedSeq, 7)
	equal(t, "head", m.LedgerHead, head(7))
}

func testPages(t *testing.T, b Backend) {
	s := populated(t, b)
	_, err := s.Insert(t.Context(), envelope.Insert{Tree: tree, Epoch: 1, Pages: []envelope.PageRow{
		page(20, 0, 1, 3), page(21, 20, 0, 64), page(22, 20, 0, 63), page(23, 0, 0, 64),
	}})
	must(t, err)
	ids := func(rows []envelope.PageRow, err error) []envelope.PageID {
		t.Helper()
		must(t, err)
		out := make([]envelope.PageID, 0, len(rows))
		for i := range rows {
			out = append(out, rows[i].Page)
		}
		slices.Sort(out)
		return out
	}
	equal(t, "Pages", ids(s.Pages(t.Context(), tree, []envelope.PageID{22, 10, 99, 22})), []envelope.PageID{10, 22})
	equal(t, "no ids", ids(s.Pages(t.Context(), tree, nil)), []envelope.PageID{})
	equal(t, "another tree", ids(s.Pages(t.Context(), tree+1, []envelope.PageID{10})), []envelope.PageID{})
	equal(t, "under the root", ids(s.ChildPages(t.Context(), tree, 0)), []envelope.PageID{10, 20, 23})
	equal(t, "under a page", ids(s.ChildPages(t.Context(), tree, 20)), []envelope.PageID{21, 22})
	equal(t, "open leaves", ids(s.OpenPages(t.Context(), tree, 0, 100)), []envelope.PageID{10, 22})
	equal(t, "limit", len(ids(s.OpenPages(t.Context(), tree, 0, 1))), 1)
	equal(t, "open above", ids(s.OpenPages(t.Context(), tree, 1, 100)), []envelope.PageID{20})
	n, err := s.CountRootPages(t.Context(), tree, 0)
	must(t, err)
	equal(t, "leaves under the root", n, 2)
}

func testReserve(t *testing.T, b Backend) {
	s := populated(t, b)
	take := func(reserves ...envelope.Reserve) error {
		_, err := s.Insert(t.Context(), envelope.Insert{Tree: tree, Epoch: 1, Reserves: reserves})
		return err
	}
	must(t, take(envelope.Reserve{Page: 10, Gen: 1, N: 60}))
	equal(t, "fill", pageOf(t, s, 10).Fill, 62)
	want(t, take(envelope.Reserve{Page: 10, Gen: 1, N: 3}), envelope.ErrStoreConflict)
	want(t, take(envelope.Reserve{Page: 10, Gen: 2, N: 1}), envelope.ErrStoreConflict)
	want(t, take(envelope.Reserve{Page: 11, Gen: 1, N: 1}), envelope.ErrStoreConflict)
	want(t, take(envelope.Reserve{Page: 10, Gen: 1, N: 1}, envelope.Reserve{Page: 99, Gen: 1, N: 1}), envelope.ErrStoreConflict)
	equal(t, "fill after conflicts", pageOf(t, s, 10).Fill, 62)
	must(t, take(envelope.Reserve{Page: 10, Gen: 1, N: 2}))
	equal(t, "full", pageOf(t, s, 10).Fill, 64)
}

// parallel runs n calls at once, each on a handle of its own, and returns their errors.
func parallel(t *testing.T, b Backend, n int, call func(s envelope.Store, i int) error) []error {
	t.Helper()
	type result struct {
		i   int
		err error
	}
	results := make(chan result, n)
	handles := []envelope.Store{b.Open(t), b.Open(t)}
	for i := range n {
		go func() { results <- result{i, call(handles[i%len(handles)], i)} }()
	}
	out := make([]error, n)
	for range n {
		r := <-results
		out[r.i] = r.err
	}
	return out
}

func testReserveRace(t *testing.T, b Backend) {
	s := populated(t, b)
	won := 0
	for _, err := range parallel(t, b, 40, func(s envelope.Store, _ int) error {
		_, err := s.Insert(t.Context(), envelope.Insert{Tree: tree, Epoch: 1, Reserves: []envelope.Reserve{{Page: 10, Gen: 1, N: 3}}})
		return err
	}) {
		if err == nil {
			won++
		} else {
			want(t, err, envelope.ErrStoreConflict)
		}
	}
	equal(t, "reservations", won, 62/3)
	equal(t, "fill", pageOf(t, s, 10).Fill, uint32(2+62/3*3))
}

func testInsert(t *testing.T, b Backend) {
	s := populated(t, b)
	mustInsert(t, s, key(1, 1, 1, 1), key(2, 1, 2, 1), key(3, 1, 1, 2), key(4, 2, 1, 1))
	equal(t, "keys", kidsOf(t, s, 1), []envelope.KeyID{kid(1), kid(2), kid(3)})
	_, err := s.Forget(t.Context(), forgetting(3, 0, 1))
	must(t, err)
	done, err := b.Open(t).Insert(t.Context(), insert(key(5, 1, 1, 2), key(6, 5, 1, 1), key(7, 3, 1, 1), key(8, 5, 1, 1), key(9, 5, 1, 2)))
	must(t, err)
	equal(t, "exists", done.Exists, []int{0, 3})
	equal(t, "forgotten", done.Forgotten, []int{2})
	equal(t, "the others are there", kidsOf(t, s, 1, 3, 5), []envelope.KeyID{kid(1), kid(2), kid(3), kid(6), kid(9)})
}

func testInsertRace(t *testing.T, b Backend) {
	s := populated(t, b)
	const n = 24
	exists := make([]bool, n)
	for _, err := range parallel(t, b, n, func(s envelope.Store, i int) error {
		done, err := s.Insert(t.Context(), insert(key(100+i, 1, 1, 1), key(200+i, 2+i, 1, 1)))
		exists[i] = slices.Equal(done.Exists, []int{0})
		return err
	}) {
		must(t, err)
	}
	winners := 0
	for i := range exists {
		if !exists[i] {
			winners++
			equal(t, "the winner's key", kidsOf(t, s, 1), []envelope.KeyID{kid(100 + i)})
		}
		equal(t, "its own key", kidsOf(t, s, 2+i), []envelope.KeyID{kid(200 + i)})
	}
	equal(t, "winners", winners, 1)
}

func testInsertConflicts(t *testing.T, b Backend) {
	s := populated(t, b)
	stale := insert(key(1, 1, 1, 1))
	stale.Epoch = 2
	taken := insert(key(2, 1, 1, 1))
	taken.Pages = []envelope.PageRow{page(30, 0, 0, 1), page(10, 0, 0, 1)}
	full := insert(key(3, 1, 1, 1))
	full.Pages = []envelope.PageRow{page(31, 0, 0, 1)}
	full.Reserves = []envelope.Reserve{{Page: 10, Gen: 1, N: 63}}
	absent := insert(key(4, 1, 1, 1))
	absent.Tree = 9
	for _, in := range []envelope.Insert{stale, taken, full, absent} {
		_, err := s.Insert(t.Context(), in)
		want(t, err, envelope.ErrStoreConflict)
	}
	equal(t, "keys", len(kidsOf(t, s, 1)), 0)
	pages, err := s.ChildPages(t.Context(), tree, 0)
	must(t, err)
	equal(t, "pages", pages, initRows().Pages)
}

func testForget(t *testing.T, b Backend) {
	s := populated(t, b)
	mustInsert(t, s, key(1, 1, 1, 1), key(2, 1, 2, 1), key(3, 2, 1, 1))
	gone, err := s.Forget(t.Context(), forgetting(1, 0, 1, kid(1), kid(77)))
	must(t, err)
	equal(t, "deleted", len(gone), 2)
	for i := range gone {
		equal(t, "deleted row", gone[i], key(int(gone[i].KID[3]), 1, gone[i].PID, 1))
	}
	equal(t, "keys", kidsOf(t, b.Open(t), 1, 2), []envelope.KeyID{kid(3)})
	equal(t, "dirty", pageOf(t, s, 10).DirtyEpoch, 1)
	dirty, err := s.DirtyPages(t.Context(), tree)
	must(t, err)
	equal(t, "dirty pages", dirty, []envelope.PageRow{pageOf(t, s, 10)})
	m, err := s.Meta(t.Context())
	must(t, err)
	equal(t, "applied", m.AppliedSeq, 1)
	equal(t, "head", m.LedgerHead, head(1))
	tombs, dead, err := s.Evidence(t.Context(), tree, 1, []envelope.SRef{sref(1), sref(2)}, []envelope.KeyID{kid(1), kid(2), kid(3), kid(77)})
	must(t, err)
	equal(t, "tombs", tombs, []envelope.Tomb{{Tree: tree, RefVer: 1, SRef: sref(1), LedgerSeq: 1}})
	slices.SortFunc(dead, func(a, b envelope.KeyID) int { return bytes.Compare(a[:], b[:]) })
	equal(t, "dead", dead, []envelope.KeyID{kid(1), kid(2), kid(77)})
	for _, pid := range []envelope.PID{1, 2, 3} {
		done, err := s.Insert(t.Context(), insert(key(50, 1, pid, 9)))
		must(t, err)
		equal(t, "forbidden", done.Forgotten, []int{0})
	}
	again, err := s.Forget(t.Context(), forgetting(1, 0, 2))
	must(t, err)
	equal(t, "nothing more", len(again), 0)
	tombs, _, err = s.Evidence(t.Context(), tree, 1, []envelope.SRef{sref(1)}, nil)
	must(t, err)
	equal(t, "the later tomb", tombs, []envelope.Tomb{{Tree: tree, RefVer: 1, SRef: sref(1), LedgerSeq: 2}})
}

func testForgetPurpose(t *testing.T, b Backend) {
	s := populated(t, b)
	mustInsert(t, s, key(1, 1, 1, 1), key(2, 1, 2, 1), key(3, 1, 2, 2))
	gone, err := s.Forget(t.Context(), forgetting(1, 2, 1))
	must(t, err)
	equal(t, "deleted", len(gone), 2)
	equal(t, "the other purpose", kidsOf(t, s, 1), []envelope.KeyID{kid(1)})
	done, err := s.Insert(t.Context(), insert(key(4, 1, 2, 3), key(5, 1, 3, 1)))
	must(t, err)
	equal(t, "forbidden", done.Forgotten, []int{0})
}

func testForgetConflict(t *testing.T, b Backend) {
	s := populated(t, b)
	mustInsert(t, s, key(1, 1, 1, 1))
	must(t, s.Advance(t.Context(), 0, 5, head(5)))
	_, err := s.Forget(t.Context(), forgetting(1, 0, 1))
	want(t, err, envelope.ErrStoreConflict)
	want(t, s.Readmit(t.Context(), envelope.Readmission{Tree: tree, RefVer: 1, SRef: sref(1), Seq: 2, Prev: 1, Head: head(2)}), envelope.ErrStoreConflict)
	equal(t, "keys", kidsOf(t, s, 1), []envelope.KeyID{kid(1)})
	equal(t, "clean", pageOf(t, s, 10).DirtyEpoch, 0)
	tombs, dead, err := s.Evidence(t.Context(), tree, 1, []envelope.SRef{sref(1)}, []envelope.KeyID{kid(1)})
	must(t, err)
	equal(t, "evidence", len(tombs)+len(dead), 0)
}

// After Forget returned no insert adds a key, whatever ran at the same time.
func testForgetAgainstInsert(t *testing.T, b Backend) {
	s := populated(t, b)
	for round := range 8 {
		stop := make(chan struct{})
		results := make(chan error, 2)
		for w := range 2 {
			handle := b.Open(t)
			go func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						results <- nil
						return
					default:
					}
					n := 1000*round + 500*w + i%500
					if _, err := handle.Insert(t.Context(), insert(key(10_000+n, round, envelope.PID(w+1), uint32(i+1)))); err != nil {
						results <- err
						return
					}
				}
			}()
		}
		time.Sleep(3 * time.Millisecond)
		gone, err := s.Forget(t.Context(), forgetting(round, 0, uint64(round+1)))
		must(t, err)
		left := kidsOf(t, s, round)
		close(stop)
		for range 2 {
			must(t, <-results)
		}
		equal(t, "keys after a forget", len(left)+len(kidsOf(t, s, round)), 0)
		dead := make([]envelope.KeyID, len(gone))
		for i := range gone {
			dead[i] = gone[i].KID
		}
		_, found, err := s.Evidence(t.Context(), tree, 1, nil, dead)
		must(t, err)
		equal(t, "all it deleted is recorded dead", len(found), len(dead))
	}
}

func testReadmit(t *testing.T, b Backend) {
	s := populated(t, b)
	mustInsert(t, s, key(1, 1, 1, 1))
	_, err := s.Forget(t.Context(), forgetting(1, 0, 1))
	must(t, err)
	_, err = s.Forget(t.Context(), forgetting(1, 2, 2))
	must(t, err)
	lift := func(pid envelope.PID, seq uint64) {
		t.Helper()
		must(t, s.Readmit(t.Context(), envelope.Readmission{Tree: tree, RefVer: 1, SRef: sref(1), PID: pid, Seq: seq, Prev: seq - 1, Head: head(seq)}))
	}
	try := func(pid envelope.PID) int {
		t.Helper()
		done, err := s.Insert(t.Context(), insert(key(20+int(pid), 1, pid, 7)))
		must(t, err)
		return len(done.Forgotten)
	}
	lift(2, 3)
	equal(t, "one purpose lifted, the subject is not", try(2), 1)
	lift(0, 4)
	equal(t, "lifted", try(2), 0)
	tombs, dead, err := s.Evidence(t.Context(), tree, 1, []envelope.SRef{sref(1)}, []envelope.KeyID{kid(1)})
	must(t, err)
	equal(t, "tombs stay as evidence", len(tombs), 2)
	for _, tomb := range tombs {
		equal(t, "active", tomb.Active(), false)
	}
	equal(t, "what was forgotten stays dead", dead, []envelope.KeyID{kid(1)})
	_, err = s.Forget(t.Context(), forgetting(1, 0, 5))
	must(t, err)
	equal(t, "forgotten again", try(1), 1)
}

func testPurposes(t *testing.T, b Backend) {
	s := populated(t, b)
	a, err := s.AddPurpose(t.Context(), "märketing 日本")
	must(t, err)
	again, err := b.Open(t).AddPurpose(t.Context(), "märketing 日本")
	must(t, err)
	equal(t, "the same number", again, a)
	equal(t, "the number that the name gives", a, envelope.PurposeNumber("märketing 日本"))
	first, err := s.AddPurpose(t.Context(), "")
	must(t, err)
	equal(t, "the default purpose", first, 1)
	rows, err := s.Purposes(t.Context())
	must(t, err)
	equal(t, "purposes", rows, []envelope.PurposeRow{{PID: 1}, {PID: a, Name: "märketing 日本"}})
}

func testPurposesRace(t *testing.T, b Backend) {
	s := populated(t, b)
	for _, err := range parallel(t, b, 20, func(s envelope.Store, i int) error {
		_, err := s.AddPurpose(t.Context(), fmt.Sprint("p", i%5))
		return err
	}) {
		must(t, err)
	}
	rows, err := s.Purposes(t.Context())
	must(t, err)
	pids, names := map[envelope.PID]bool{}, map[string]bool{}
	for _, r := range rows {
		pids[r.PID], names[r.Name] = true, true
	}
	equal(t, "rows, numbers, names", []int{len(rows), len(pids), len(names)}, []int{6, 6, 6})
}

// rekey is a valid one for the store testRekey makes.
func rekey() envelope.Rekey {
	p := page(10, 0, 0, 0)
	p.Gen, p.ParentGen, p.Wrapped = 2, 2, []byte("new page")
	k := key(1, 1, 1, 1)
	k.PageGen, k.Wrapped = 2, []byte("new key")
	return envelope.Rekey{
		Tree: tree, OldEpoch: 1, Root: root(2), Pages: []envelope.PageRow{p}, Keys: []envelope.KeyRow{k},
		RootChildren: 1, PageChildren: map[envelope.PageID]int{10: 3},
	}
}

func testRekey(t *testing.T, b Backend) {
	s := populated(t, b)
	mustInsert(t, s, key(1, 1, 1, 1), key(2, 2, 1, 1))
	_, err := s.Forget(t.Context(), forgetting(2, 0, 1))
	must(t, err)
	must(t, s.Rekey(t.Context(), rekey()))
	row, roots, err := b.Open(t).Tree(t.Context(), tree)
	must(t, err)
	equal(t, "epoch", row.ActiveEpoch, 2)
	old := root(1)
	old.State = envelope.RootRetiring
	slices.SortFunc(roots, func(a, b envelope.RootRow) int { return int(b.Epoch) - int(a.Epoch) })
	equal(t, "roots", roots, []envelope.RootRow{root(2), old})
	p := pageOf(t, s, 10)
	equal(t, "page", []any{p.Gen, p.ParentGen, string(p.Wrapped), p.DirtyEpoch, p.Fill}, []any{2, 2, "new page", 0, 2})
	keys, _, err := s.Keys(t.Context(), tree, 1, []envelope.SRef{sref(1)})
	must(t, err)
	equal(t, "keys", keys, rekey().Keys)
}

func testRekeyConflicts(t *testing.T, b Backend) {
	s := populated(t, b)
	mustInsert(t, s, key(1, 1, 1, 1))
	for name, change := range map[string]func(r *envelope.Rekey){
		"epoch":         func(r *envelope.Rekey) { r.OldEpoch = 2 },
		"root children": func(r *envelope.Rekey) { r.RootChildren = 2 },
		"page children": func(r *envelope.Rekey) { r.PageChildren[10] = 4 },
		"page":          func(r *envelope.Rekey) { r.Pages[0].Page = 99 },
		"key":           func(r *envelope.Rekey) { r.Keys[0].KID = kid(99) },
	} {
		r := rekey()
		change(&r)
		if err := s.Rekey(t.Context(), r); !errors.Is(err, envelope.ErrStoreConflict) {
			t.Errorf("%s: got %v, want ErrStoreConflict", name, err)
		}
	}
	row, roots, err := s.Tree(t.Context(), tree)
	must(t, err)
	equal(t, "tree", row, initRows().Tree)
	equal(t, "roots", roots, []envelope.RootRow{root(1)})
	equal(t, "page", pageOf(t, s, 10), initRows().Pages[0])
	must(t, s.Rekey(t.Context(), rekey()))
}

// An insert either comes before the rekey counts it, or fails for its epoch.
func testRekeyAgainstInsert(t *testing.T, b Backend) {
	s := populated(t, b)
	mustInsert(t, s, key(1, 1, 1, 1))
	errs := parallel(t, b, 12, func(s envelope.Store, i int) error {
		if i == 6 {
			return s.Rekey(t.Context(), rekey())
		}
		_, err := s.Insert(t.Context(), insert(key(100+i, 100+i, 1, 1)))
		return err
	})
	row, _, err := s.Tree(t.Context(), tree)
	must(t, err)
	onPage, err := s.KeysOfPage(t.Context(), tree, 10)
	must(t, err)
	inserted := 0
	for i, err := range errs {
		switch {
		case err == nil && i != 6:
			inserted++
		case err != nil:
			want(t, err, envelope.ErrStoreConflict)
		}
	}
	equal(t, "keys", len(onPage), 3+inserted)
	if errs[6] == nil {
		equal(t, "epoch", row.ActiveEpoch, 2)
		equal(t, "the rekey was first", inserted, 0)
	} else {
		equal(t, "epoch", row.ActiveEpoch, 1)
	}
}

func testLarge(t *testing.T, b Backend) {
	s := populated(t, b)
	const n = 3001
	in := envelope.Insert{Tree: tree, Epoch: 1}
	refs, kids := make([]envelope.SRef, n), make([]envelope.KeyID, n)
	for i := range n {
		in.Keys = append(in.Keys, key(i, i, 1, 1))
		refs[i], kids[i] = sref(i), kid(i)
	}
	for i := range 70 {
		in.Pages = append(in.Pages, page(envelope.PageID(1000+i), 0, 0, 1))
	}
	done, err := s.Insert(t.Context(), in)
	must(t, err)
	equal(t, "inserted", done, envelope.Inserted{})
	in.Pages = nil
	in.Keys = append(in.Keys, key(n, n, 1, 1))
	done, err = s.Insert(t.Context(), in)
	must(t, err)
	equal(t, "exists", len(done.Exists), n)
	rows, pages, err := s.Keys(t.Context(), tree, 1, slices.Concat(refs, refs[:10]))
	must(t, err)
	equal(t, "keys, pages", []int{len(rows), len(pages)}, []int{n, 1})
	_, err = s.Forget(t.Context(), forgetting(5, 0, 1, kids...))
	must(t, err)
	_, dead, err := s.Evidence(t.Context(), tree, 1, refs, kids)
	must(t, err)
	equal(t, "dead", len(dead), n)
}

func testCancelled(t *testing.T, b Backend) {
	s := populated(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Insert(ctx, insert(key(1, 1, 1, 1)))
	want(t, err, context.Canceled)
	_, err = s.Forget(ctx, forgetting(1, 0, 1))
	want(t, err, context.Canceled)
	_, _, err = s.Keys(ctx, tree, 1, []envelope.SRef{sref(1)})
	want(t, err, context.Canceled)
	want(t, s.Rekey(ctx, rekey()), context.Canceled)
	m, err := s.Meta(t.Context())
	must(t, err)
	equal(t, "applied", m.AppliedSeq, 0)
	mustInsert(t, s, key(1, 1, 1, 1))

	// Cancelled in the middle: all or nothing, and the store goes on.
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*150*time.Microsecond)
		in := insert()
		for j := range 50 {
			in.Keys = append(in.Keys, key(1000+100*i+j, 50+i, 1, uint32(j+1)))
		}
		_, err := s.Insert(ctx, in)
		cancel()
		if n := len(kidsOf(t, s, 50+i)); n != 0 && n != 50 || err == nil && n != 50 {
			t.Fatalf("%d of 50 keys after %v", n, err)
		}
	}
	mustInsert(t, s, key(2, 2, 1, 1))
}

func testCopies(t *testing.T, b Backend) {
	s := populated(t, b)
	mine := key(1, 1, 1, 1)
	mustInsert(t, s, mine)
	clear(mine.Wrapped)
	for range 2 {
		rows, pages, err := s.Keys(t.Context(), tree, 1, []envelope.SRef{sref(1)})
		must(t, err)
		equal(t, "key", rows, []envelope.KeyRow{key(1, 1, 1, 1)})
		clear(rows[0].Wrapped)
		equal(t, "page", pages[0].Wrapped, wrapped(10))
		clear(pages[0].Wrapped)
		_, roots, err := s.Tree(t.Context(), tree)
		must(t, err)
		equal(t, "root", roots[0], root(1))
		clear(roots[0].Wrapped)
	}
}

func testRestart(t *testing.T, b Backend) {
	if b.Volatile {
		t.Skip("the store keeps nothing")
	}
	s := populated(t, b)
	mustInsert(t, s, key(1, 1, 1, 1), key(2, 2, 1, 1))
	_, err := s.Forget(t.Context(), forgetting(1, 0, 1))
	must(t, err)
	if c, ok := s.(interface{ Close() error }); ok {
		must(t, c.Close())
	}
	again := b.Open(t)
	equal(t, "keys", kidsOf(t, again, 1, 2), []envelope.KeyID{kid(2)})
	done, err := again.Insert(t.Context(), insert(key(3, 1, 1, 1)))
	must(t, err)
	equal(t, "forbidden", done.Forgotten, []int{0})
	want(t, again.Init(t.Context(), initRows()), envelope.ErrStoreExists)
}
