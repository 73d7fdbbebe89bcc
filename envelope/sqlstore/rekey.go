package sqlstore

import (
	"context"
	"database/sql"
	"maps"
	"slices"

	"github.com/lethe-go/lethe/envelope"
)

// pageWrap is a new wrap of a page key.
type pageWrap struct {
	*envelope.PageRow
	seen []byte // the wrap it replaces; nil: any
}

// Rekey implements envelope.Store.
func (s *Store) Rekey(ctx context.Context, r envelope.Rekey) error {
	err := s.write(ctx, func(q querier) error {
		if err := s.lock(ctx, q, r.Tree, false); err != nil {
			return err
		}
		if err := s.checkEpoch(ctx, q, r.Tree, r.OldEpoch); err != nil {
			return err
		}
		children := map[envelope.PageID]int{0: r.RootChildren}
		maps.Copy(children, r.PageChildren)
		if err := s.checkChildren(ctx, q, r.Tree, children); err != nil {
			return err
		}
		pages := make([]pageWrap, len(r.Pages))
		for i := range r.Pages {
			pages[i] = pageWrap{PageRow: &r.Pages[i]}
			if seen, compared := r.Seen[r.Pages[i].Page]; compared {
				pages[i].seen = notNil(seen)
			}
		}
		if err := s.rewrap(ctx, q, r.Tree, pages, r.Keys); err != nil {
			return err
		}
		if _, err := s.exec(ctx, q, "UPDATE lethe_root SET state = ? WHERE tree = ? AND state = ?",
			int64(envelope.RootRetiring), int64(r.Tree), int64(envelope.RootActive)); err != nil {
			return err
		}
		if err := s.insertRoot(ctx, q, &r.Root); err != nil {
			return err
		}
		_, err := s.exec(ctx, q, "UPDATE lethe_tree SET active_epoch = ? WHERE tree = ?", int64(r.Root.Epoch), int64(r.Tree))
		return err
	})
	if err == nil {
		s.d.wipe(ctx)
	}
	return err
}

// RekeyPages implements envelope.Store.
//
// The tree's lock, shared as an Insert's, keeps out a Forget and a Rekey. Inserts
// are kept out by the rows of the pages: one that came first has its slot taken
// and its keys counted here, one that comes later finds another gen.
func (s *Store) RekeyPages(ctx context.Context, r envelope.RekeyPages) error {
	ids := make([]envelope.PageID, 0, len(r.Pages))
	pages := make([]pageWrap, len(r.Pages))
	for i := range r.Pages {
		ids = append(ids, r.Pages[i].Page)
		pages[i] = pageWrap{PageRow: &r.Pages[i], seen: notNil(r.Seen[r.Pages[i].Page])}
	}
	for i := range r.Keys {
		ids = append(ids, r.Keys[i].Page)
	}
	for page := range r.PageChildren {
		ids = append(ids, page)
	}
	// The log is not emptied after every step: that would make everybody wait. The
	// Rekey at the end of the close does it.
	return s.write(ctx, func(q querier) error {
		if err := s.lock(ctx, q, r.Tree, true); err != nil {
			return err
		}
		if err := s.checkEpoch(ctx, q, r.Tree, r.Epoch); err != nil {
			return err
		}
		gens, err := s.lockPages(ctx, q, r.Tree, ids)
		if err != nil {
			return err
		}
		children := map[envelope.PageID]int{}
		maps.Copy(children, r.PageChildren)
		for i := range r.Pages {
			p := &r.Pages[i]
			if gens[p.Page] != p.Gen {
				children[p.Page] = r.PageChildren[p.Page]
			}
		}
		// A statement of its own: only one that begins now sees what the transactions
		// that held the locks before have written.
		if err := s.checkChildren(ctx, q, r.Tree, children); err != nil {
			return err
		}
		if err := s.rewrap(ctx, q, r.Tree, pages, r.Keys); err != nil {
			return err
		}
		return s.drop(ctx, q, &r)
	})
}

// drop removes rows of the pages that were re-keyed: there is no index of kids.
func (s *Store) drop(ctx context.Context, q querier, r *envelope.RekeyPages) error {
	var ids []envelope.PageID
	for page := range r.PageChildren {
		ids = append(ids, page)
	}
	inPages, pages := s.d.inInts(unique(ids))
	return chunks(blobs(r.Drop), chunkSize, func(part [][]byte) error {
		in, kids := s.d.inBlobs(part)
		_, err := s.exec(ctx, q, "DELETE FROM lethe_key WHERE tree = ? AND page "+inPages+" AND kid "+in, int64(r.Tree), pages, kids)
		return err
	})
}

// lockPages locks rows in the order of page numbers, as reserve does, and
// returns their gens.
func (s *Store) lockPages(ctx context.Context, q querier, tree envelope.TreeID, ids []envelope.PageID) (map[envelope.PageID]uint64, error) {
	gens := make(map[envelope.PageID]uint64, len(ids))
	ordered := unique(ids)
	slices.Sort(ordered)
	err := chunks(ordered, chunkSize, func(part []int64) error {
		in, arg := s.d.inInts(part)
		return s.query(ctx, q, func(rows *sql.Rows) error {
			var page envelope.PageID
			var gen uint64
			err := rows.Scan(&page, &gen)
			gens[page] = gen
			return err
		}, "SELECT page, gen FROM lethe_page WHERE tree = ? AND page "+in+" ORDER BY page"+s.d.lockRows(), int64(tree), arg)
	})
	return gens, err
}

// checkChildren compares numbers of children with the present ones.
func (s *Store) checkChildren(ctx context.Context, q querier, tree envelope.TreeID, want map[envelope.PageID]int) error {
	pages := make([]envelope.PageID, 0, len(want))
	for page := range want {
		pages = append(pages, page)
	}
	return chunks(unique(pages), chunkSize, func(part []int64) error {
		_, arg := s.d.inInts(part)
		same := true
		err := s.query(ctx, q, func(rows *sql.Rows) error {
			var page envelope.PageID
			var n int
			err := rows.Scan(&page, &n)
			same = same && want[page] == n
			return err
		}, s.d.childrenOf(), int64(tree), int64(tree), arg)
		if err == nil && !same {
			return envelope.ErrStoreConflict
		}
		return err
	})
}

// rekeyBatch is how many rows one statement writes over.
const rekeyBatch = 4096

// rewrap writes new wraps over rows, every one of which must be there.
func (s *Store) rewrap(ctx context.Context, q querier, tree envelope.TreeID, pages []pageWrap, keys []envelope.KeyRow) error {
	err := chunks(pages, rekeyBatch, func(part []pageWrap) error {
		n, err := s.d.rekeyPages(ctx, q, tree, part)
		return allOf(len(part), n, err)
	})
	if err != nil {
		return err
	}
	return chunks(keys, rekeyBatch, func(part []envelope.KeyRow) error {
		n, err := s.d.rekeyKeys(ctx, q, tree, part)
		return allOf(len(part), n, err)
	})
}

func allOf(want int, n int64, err error) error {
	if err == nil && n != int64(want) {
		return envelope.ErrStoreConflict
	}
	return err
}
