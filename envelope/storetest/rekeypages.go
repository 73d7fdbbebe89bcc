package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lethe-go/lethe/envelope"
)

// keyOn is key i of subject i, on a leaf.
func keyOn(i int, leaf envelope.PageID) envelope.KeyRow {
	k := key(i, i, 1, 1)
	k.Page = leaf
	return k
}

// grown has two leaves, 21 with the keys 1 and 2 and 22 with 3, 4 and 5, under page 20.
func grown(t *testing.T, b Backend) envelope.Store {
	t.Helper()
	s := populated(t, b)
	done, err := s.Insert(t.Context(), envelope.Insert{
		Tree: tree, Epoch: 1, Pages: []envelope.PageRow{page(20, 0, 1, 2), page(21, 20, 0, 7), page(22, 20, 0, 3)},
		Keys: []envelope.KeyRow{keyOn(1, 21), keyOn(2, 21), keyOn(3, 22), keyOn(4, 22), keyOn(5, 22)},
	})
	must(t, err)
	equal(t, "inserted", done, envelope.Inserted{})
	return s
}

func pageWrap(id envelope.PageID, gen uint64) []byte {
	return fmt.Appendf(nil, "page %d gen %d", id, gen)
}

func keyWrap(id envelope.KeyID, gen uint64) []byte { return fmt.Appendf(nil, "key %x gen %d", id, gen) }

// step plans what an epoch close does to some leaves: a fresh key of the next gen,
// and every key of theirs but those in drop wrapped anew.
func step(ctx context.Context, s envelope.Store, epoch uint64, drop []envelope.KeyID, leaves ...envelope.PageID) (envelope.RekeyPages, error) {
	r := envelope.RekeyPages{Tree: tree, Epoch: epoch, Seen: map[envelope.PageID][]byte{}, PageChildren: map[envelope.PageID]int{}, Drop: drop}
	pages, err := s.Pages(ctx, tree, leaves)
	if err != nil {
		return r, err
	}
	for _, p := range pages {
		keys, err := s.KeysOfPage(ctx, tree, p.Page)
		if err != nil {
			return r, err
		}
		r.Seen[p.Page], r.PageChildren[p.Page] = p.Wrapped, len(keys)
		p.Gen++
		p.Wrapped = pageWrap(p.Page, p.Gen)
		p.Fill, p.DirtyEpoch = 0, 99 // the store's own stand
		r.Pages = append(r.Pages, p)
		for _, k := range keys {
			if !slices.Contains(drop, k.KID) {
				k.PageGen, k.Wrapped = p.Gen, keyWrap(k.KID, p.Gen)
				r.Keys = append(r.Keys, k)
			}
		}
	}
	return r, nil
}

func mustStep(t *testing.T, s envelope.Store, drop []envelope.KeyID, leaves ...envelope.PageID) envelope.RekeyPages {
	t.Helper()
	r, err := step(t.Context(), s, 1, drop, leaves...)
	must(t, err)
	return r
}

// keysOn lists the keys of a leaf by their ids.
func keysOn(t *testing.T, s envelope.Store, leaf envelope.PageID) []envelope.KeyRow {
	t.Helper()
	rows, err := s.KeysOfPage(t.Context(), tree, leaf)
	must(t, err)
	slices.SortFunc(rows, func(a, b envelope.KeyRow) int { return bytes.Compare(a.KID[:], b.KID[:]) })
	return rows
}

func testRekeyPages(t *testing.T, b Backend) {
	s := grown(t, b)
	for i, subject := range []int{2, 3} {
		_, err := s.Forget(t.Context(), forgetting(subject, 0, uint64(i+1)))
		must(t, err)
	}
	must(t, s.RekeyPages(t.Context(), mustStep(t, s, []envelope.KeyID{kid(777)}, 21)))

	other := b.Open(t)
	want := page(21, 20, 0, 7)
	want.Gen, want.Wrapped = 2, pageWrap(21, 2)
	equal(t, "re-keyed: clean, as full as before", pageOf(t, other, 21), want)
	row := keyOn(1, 21)
	row.PageGen, row.Wrapped = 2, keyWrap(kid(1), 2)
	equal(t, "its keys", keysOn(t, other, 21), []envelope.KeyRow{row})
	untouched := page(22, 20, 0, 3)
	untouched.DirtyEpoch = 1
	equal(t, "another page", pageOf(t, other, 22), untouched)
	equal(t, "its keys", keysOn(t, other, 22), []envelope.KeyRow{keyOn(4, 22), keyOn(5, 22)})

	// The page above: its children are wrapped anew and keep their keys.
	r := envelope.RekeyPages{Tree: tree, Epoch: 1, Seen: map[envelope.PageID][]byte{}, PageChildren: map[envelope.PageID]int{20: 2}}
	for _, id := range []envelope.PageID{20, 21, 22} {
		p := pageOf(t, s, id)
		r.Seen[id] = p.Wrapped
		if id == 20 {
			p.Gen = 2
		} else {
			p.ParentGen = 2
		}
		p.Wrapped = fmt.Appendf(nil, "again %d", id)
		r.Pages = append(r.Pages, p)
	}
	must(t, s.RekeyPages(t.Context(), r))
	equal(t, "above", []any{pageOf(t, other, 20).Gen, pageOf(t, other, 20).ParentGen}, []any{2, 1})
	untouched.ParentGen, untouched.Wrapped = 2, []byte("again 22")
	equal(t, "a child whose gen stays is as dirty as it was", pageOf(t, other, 22), untouched)
	must(t, s.RekeyPages(t.Context(), envelope.RekeyPages{Tree: tree, Epoch: 1}))
}

func testRekeyPagesDrop(t *testing.T, b Backend) {
	s := grown(t, b)
	must(t, s.RekeyPages(t.Context(), mustStep(t, s, []envelope.KeyID{kid(3), kid(777), kid(3)}, 22)))
	equal(t, "keys", kidsOf(t, b.Open(t), 3, 4, 5), []envelope.KeyID{kid(4), kid(5)})
	equal(t, "keys of the page", len(keysOn(t, s, 22)), 2)
	_, dead, err := s.Evidence(t.Context(), tree, 1, nil, []envelope.KeyID{kid(3)})
	must(t, err)
	equal(t, "no forget was recorded", len(dead), 0)
	mustInsert(t, s, key(33, 3, 1, 1)) // the name is free
}

// A conflict leaves every row as it was, those that came before it in the call too.
func testRekeyPagesConflicts(t *testing.T, b Backend) {
	s := grown(t, b)
	_, err := s.Forget(t.Context(), forgetting(2, 0, 1))
	must(t, err)
	leaves := []envelope.PageID{10, 20, 21, 22}
	state := func() (out []any) {
		for _, id := range leaves {
			out = append(out, pageOf(t, s, id), keysOn(t, s, id))
		}
		return out
	}
	before := state()
	for name, change := range map[string]func(r *envelope.RekeyPages){
		"epoch":             func(r *envelope.RekeyPages) { r.Epoch = 2 },
		"tree":              func(r *envelope.RekeyPages) { r.Tree = 9 },
		"re-keyed before":   func(r *envelope.RekeyPages) { r.Seen[22] = []byte("another") },
		"not seen":          func(r *envelope.RekeyPages) { delete(r.Seen, 22) },
		"no such page":      func(r *envelope.RekeyPages) { r.Pages = append(r.Pages, page(99, 0, 0, 1)) },
		"no such key":       func(r *envelope.RekeyPages) { r.Keys = append(r.Keys, keyOn(99, 22)) },
		"key elsewhere":     func(r *envelope.RekeyPages) { r.Keys[len(r.Keys)-1].Page = 10 },
		"a key more":        func(r *envelope.RekeyPages) { r.PageChildren[22] = 2 },
		"a key fewer":       func(r *envelope.RekeyPages) { r.PageChildren[22] = 4 },
		"never counted":     func(r *envelope.RekeyPages) { delete(r.PageChildren, 22) },
		"a page below more": func(r *envelope.RekeyPages) { r.PageChildren[20] = 1 },
	} {
		r := mustStep(t, s, []envelope.KeyID{kid(4)}, 21, 22)
		change(&r)
		if err := s.RekeyPages(t.Context(), r); !errors.Is(err, envelope.ErrStoreConflict) {
			t.Errorf("%s: got %v, want ErrStoreConflict", name, err)
		}
		equal(t, name, state(), before)
	}
	stale := mustStep(t, s, nil, 21)
	must(t, s.RekeyPages(t.Context(), mustStep(t, s, nil, 21, 22)))
	want(t, s.RekeyPages(t.Context(), stale), envelope.ErrStoreConflict)
	equal(t, "the first one's gen", pageOf(t, s, 21).Gen, 2)
}

// Inserts and forgets run against re-keys: no key is lost, none comes back, and
// each is wrapped under the key its page has.
func testRekeyPagesRaces(t *testing.T, b Backend) {
	s := populated(t, b)
	const leaves, inserters, each = 4, 2, 60
	var pages []envelope.PageRow
	for i := range envelope.PageID(leaves) {
		p := page(100+i, 0, 0, 0)
		p.Wrapped = pageWrap(p.Page, p.Gen)
		pages = append(pages, p)
	}
	_, err := s.Insert(t.Context(), envelope.Insert{Tree: tree, Epoch: 1, Pages: pages})
	must(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var inserting, others sync.WaitGroup
	var rekeyed, conflicts atomic.Int64
	added := make(chan int, inserters*each)
	failed := func(err error) bool {
		if err != nil && !errors.Is(err, envelope.ErrStoreConflict) {
			t.Error(err)
			cancel()
		}
		return err != nil
	}
	for w := range inserters {
		handle := b.Open(t)
		inserting.Go(func() {
			for n := 0; n < each && ctx.Err() == nil; {
				leaf := envelope.PageID(100 + n%leaves)
				rows, err := handle.Pages(ctx, tree, []envelope.PageID{leaf})
				if failed(err) || len(rows) != 1 {
					return
				}
				k := keyOn(1000*(w+1)+n, leaf)
				k.PageGen, k.Wrapped = rows[0].Gen, keyWrap(k.KID, rows[0].Gen)
				in := insert(k)
				in.Reserves = []envelope.Reserve{{Page: leaf, Gen: rows[0].Gen, N: 1}}
				if _, err = handle.Insert(ctx, in); failed(err) {
					conflicts.Add(1)
					continue
				}
				added <- 1000*(w+1) + n
				n++
			}
		})
	}
	var kept, gone []int
	handle := b.Open(t)
	others.Go(func() {
		for i := range added {
			if len(gone) > len(kept) {
				kept = append(kept, i)
				continue
			}
			gone = append(gone, i)
			if _, err := handle.Forget(ctx, forgetting(i, 0, uint64(len(gone)))); failed(err) {
				return
			}
		}
	})
	stop := make(chan struct{})
	for w := range 2 {
		handle := b.Open(t)
		others.Go(func() {
			for i := w; ctx.Err() == nil; i++ {
				select {
				case <-stop:
					return
				default:
				}
				// Overlapping sets, in another order each.
				set := []envelope.PageID{envelope.PageID(100 + (i+1)%leaves), envelope.PageID(100 + i%leaves)}
				r, err := step(ctx, handle, 1, nil, set...)
				if !failed(err) && !failed(handle.RekeyPages(ctx, r)) {
					rekeyed.Add(1)
				}
			}
		})
	}
	inserting.Wait()
	close(added)
	time.Sleep(20 * time.Millisecond)
	close(stop)
	others.Wait()
	equal(t, "inserted", len(kept)+len(gone), inserters*each)
	if rekeyed.Load() == 0 {
		t.Fatal("nothing was re-keyed meanwhile")
	}
	t.Logf("%d re-keys, %d inserts repeated", rekeyed.Load(), conflicts.Load())

	present := map[envelope.KeyID]bool{}
	for _, p := range pages {
		now := pageOf(t, s, p.Page)
		equal(t, "page", string(now.Wrapped), string(pageWrap(p.Page, now.Gen)))
		equal(t, "slots", now.Fill, uint32(inserters*each/leaves))
		for _, k := range keysOn(t, s, p.Page) {
			present[k.KID] = true
			equal(t, "gen of a key and its page", k.PageGen, now.Gen)
			equal(t, "key", string(k.Wrapped), string(keyWrap(k.KID, now.Gen)))
		}
	}
	wanted := map[envelope.KeyID]bool{}
	for _, i := range kept {
		wanted[kid(i)] = true
	}
	if !maps.Equal(present, wanted) {
		t.Fatalf("%d keys left, want %d", len(present), len(wanted))
	}
}

func testRekeyPagesLarge(t *testing.T, b Backend) {
	s := populated(t, b)
	const n, perLeaf = 20_000, 50
	in := envelope.Insert{Tree: tree, Epoch: 1}
	r := envelope.RekeyPages{Tree: tree, Epoch: 1, Seen: map[envelope.PageID][]byte{}, PageChildren: map[envelope.PageID]int{}}
	for i := range n {
		leaf := envelope.PageID(1000 + i/perLeaf)
		if i%perLeaf == 0 {
			p := page(leaf, 0, 0, perLeaf)
			in.Pages = append(in.Pages, p)
			r.Seen[leaf], r.PageChildren[leaf] = p.Wrapped, perLeaf
			p.Gen, p.Wrapped = 2, pageWrap(leaf, 2)
			r.Pages = append(r.Pages, p)
		}
		k := keyOn(i, leaf)
		in.Keys = append(in.Keys, k)
		k.PageGen, k.Wrapped = 2, keyWrap(k.KID, 2)
		r.Keys = append(r.Keys, k)
	}
	_, err := s.Insert(t.Context(), in)
	must(t, err)
	last := r.Keys[n-1]
	r.Keys[n-1].KID = kid(n + 5)
	want(t, s.RekeyPages(t.Context(), r), envelope.ErrStoreConflict)
	equal(t, "nothing of it", pageOf(t, s, 1000), in.Pages[0])
	r.Keys[n-1] = last
	must(t, s.RekeyPages(t.Context(), r))
	refs := make([]envelope.SRef, n)
	for i := range refs {
		refs[i] = sref(i)
	}
	keys, pages, err := b.Open(t).Keys(t.Context(), tree, 1, refs)
	must(t, err)
	equal(t, "keys, pages", []int{len(keys), len(pages)}, []int{n, n / perLeaf})
	for _, k := range keys {
		if k.PageGen != 2 || !bytes.Equal(k.Wrapped, keyWrap(k.KID, 2)) {
			t.Fatalf("key %x is not re-keyed", k.KID)
		}
	}
}

func testPagesAfter(t *testing.T, b Backend) {
	s := populated(t, b)
	const n = 2_500
	in := envelope.Insert{Tree: tree, Epoch: 1}
	ids := []envelope.PageID{10}
	var drawn [8]byte
	for i := range n {
		binary.BigEndian.PutUint32(drawn[:], uint32(i)*2654435761) // scattered over 63 bits
		id := envelope.PageID(binary.BigEndian.Uint64(drawn[:])>>1 | 1)
		ids = append(ids, id)
		in.Pages = append(in.Pages, page(id, 0, uint8(i%3), 1))
	}
	in.Pages = append(in.Pages, page(1<<63-1, 0, 0, 1))
	ids = append(ids, 1<<63-1)
	_, err := s.Insert(t.Context(), in)
	must(t, err)
	slices.Sort(ids)
	var got []envelope.PageID
	for after := envelope.PageID(0); ; {
		rows, err := s.PagesAfter(t.Context(), tree, after, 700)
		must(t, err)
		if len(rows) == 0 {
			break
		}
		if len(rows) > 700 {
			t.Fatalf("%d rows, asked for 700", len(rows))
		}
		for _, p := range rows {
			got = append(got, p.Page)
		}
		after = got[len(got)-1]
	}
	if !slices.Equal(got, ids) {
		t.Fatalf("%d pages, want %d in order", len(got), len(ids))
	}
	for name, call := range map[string]func() ([]envelope.PageRow, error){
		"after the last": func() ([]envelope.PageRow, error) { return s.PagesAfter(t.Context(), tree, 1<<63-1, 10) },
		"after any":      func() ([]envelope.PageRow, error) { return s.PagesAfter(t.Context(), tree, 1<<64-1, 10) },
		"none asked for": func() ([]envelope.PageRow, error) { return s.PagesAfter(t.Context(), tree, 0, 0) },
		"another tree":   func() ([]envelope.PageRow, error) { return s.PagesAfter(t.Context(), tree+1, 0, 10) },
	} {
		rows, err := call()
		must(t, err)
		equal(t, name, len(rows), 0)
	}
	first, err := s.PagesAfter(t.Context(), tree, 9, 1)
	must(t, err)
	equal(t, "a row", first, initRows().Pages)
}

// Rekey compares the wraps of the pages it is told to compare.
func testRekeySeen(t *testing.T, b Backend) {
	s := populated(t, b)
	mustInsert(t, s, key(1, 1, 1, 1))
	r := rekey()
	r.Seen = map[envelope.PageID][]byte{10: []byte("another")}
	want(t, s.Rekey(t.Context(), r), envelope.ErrStoreConflict)
	equal(t, "page", pageOf(t, s, 10), initRows().Pages[0])
	row, _, err := s.Tree(t.Context(), tree)
	must(t, err)
	equal(t, "tree", row, initRows().Tree)
	r.Seen = map[envelope.PageID][]byte{10: wrapped(10), 99: []byte("of no row")}
	must(t, s.Rekey(t.Context(), r))
	equal(t, "gen", pageOf(t, s, 10).Gen, 2)
}

// A call that is cut off writes all or nothing.
func testRekeyPagesCancelled(t *testing.T, b Backend) {
	s := grown(t, b)
	for i := range 20 {
		r := mustStep(t, s, nil, 21, 22)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
		err := s.RekeyPages(ctx, r)
		cancel()
		for _, id := range []envelope.PageID{21, 22} {
			gen := pageOf(t, s, id).Gen
			equal(t, "pages of one moment", gen, pageOf(t, s, 21).Gen)
			if err == nil && gen != r.Pages[0].Gen {
				t.Fatal("not written, without an error")
			}
			for _, k := range keysOn(t, s, id) {
				equal(t, "gen of a key", k.PageGen, gen)
			}
		}
	}
}
