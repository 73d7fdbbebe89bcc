package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"math"

	"github.com/lethe-go/lethe/envelope"
)

const chunkSize = 1000

// Meta implements envelope.Store.
func (s *Store) Meta(ctx context.Context) (envelope.Meta, error) {
	if err := s.read(ctx); err != nil {
		return envelope.Meta{}, err
	}
	var m envelope.Meta
	var id []byte
	err := s.db.QueryRowContext(ctx, "SELECT store_id, schema, incarnation, applied_seq, ledger_head FROM lethe_meta").
		Scan(&id, &m.Schema, &m.Incarnation, &m.AppliedSeq, &m.LedgerHead)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return envelope.Meta{}, envelope.ErrStoreEmpty
	case err != nil:
		return envelope.Meta{}, fail(ctx, err)
	case copy(m.StoreID[:], id) != len(id) || len(id) != len(m.StoreID):
		return envelope.Meta{}, fail(ctx, damaged("store_id"))
	}
	return m, nil
}

// Tree implements envelope.Store.
func (s *Store) Tree(ctx context.Context, tree envelope.TreeID) (envelope.TreeRow, []envelope.RootRow, error) {
	if err := s.read(ctx); err != nil {
		return envelope.TreeRow{}, nil, err
	}
	var t envelope.TreeRow
	var roots []envelope.RootRow
	// One statement, so that the tree and its roots are of one moment.
	err := s.query(ctx, s.db, func(rows *sql.Rows) error {
		var r envelope.RootRow
		var epoch sql.Null[uint64]
		var wrapNo sql.Null[uint32]
		var suite sql.Null[envelope.Suite]
		var state sql.Null[envelope.RootState]
		var at [3]sql.NullInt64
		var text [3]sql.NullString
		if err := rows.Scan(&t.Tree, &t.TRef, &t.ActiveEpoch, &t.State, &epoch, &wrapNo, &text[0], &text[1], &text[2],
			&suite, &r.Wrapped, &r.Commit, &state, &at[0], &at[1], &at[2]); err != nil {
			return err
		}
		if !epoch.Valid {
			return nil
		}
		r.Tree, r.Epoch, r.WrapNo, r.Suite = t.Tree, epoch.V, wrapNo.V, suite.V
		r.KMSURI, r.KMSHandle, r.Semantics, r.State = text[0].String, text[1].String, text[2].String, state.V
		r.Created, r.DestroyAfter, r.DestroyedAt = fromSeconds(at[0].Int64), fromSeconds(at[1].Int64), fromSeconds(at[2].Int64)
		roots = append(roots, r)
		return nil
	}, `SELECT t.tree, t.tref, t.active_epoch, t.state, r.epoch, r.wrap_no, r.kms_uri, r.kms_handle, r.semantics,
		r.suite, r.wrapped, r.root_commit, r.state, r.created, r.destroy_after, r.destroyed_at
		FROM lethe_tree t LEFT JOIN lethe_root r ON r.tree = t.tree AND r.state <> ?
		WHERE t.tree = ? ORDER BY r.epoch DESC, r.wrap_no`, int64(envelope.RootDestroyed), int64(tree))
	if err != nil {
		return envelope.TreeRow{}, nil, fail(ctx, err)
	}
	return t, roots, nil
}

func (s *Store) pages(ctx context.Context, where string, args ...any) ([]envelope.PageRow, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	var out []envelope.PageRow
	if err := s.query(ctx, s.db, scanPages(&out), "SELECT "+pageColumns+" FROM lethe_page WHERE "+where, args...); err != nil {
		return nil, fail(ctx, err)
	}
	return out, nil
}

// Pages implements envelope.Store.
func (s *Store) Pages(ctx context.Context, tree envelope.TreeID, ids []envelope.PageID) ([]envelope.PageRow, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	var out []envelope.PageRow
	wanted := unique(ids)
	err := s.readAt(ctx, statements(len(wanted)), func(q querier) error {
		return chunks(wanted, chunkSize, func(part []int64) error {
			in, arg := s.d.inInts(part)
			return s.query(ctx, q, scanPages(&out), "SELECT "+pageColumns+" FROM lethe_page WHERE tree = ? AND page "+in, int64(tree), arg)
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// statements is how many chunks hold n elements.
func statements(n int) int { return (n + chunkSize - 1) / chunkSize }

func unique(ids []envelope.PageID) []int64 {
	seen := make(map[envelope.PageID]bool, len(ids))
	out := make([]int64, 0, len(ids))
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			out = append(out, int64(id))
		}
	}
	return out
}

// ChildPages implements envelope.Store.
func (s *Store) ChildPages(ctx context.Context, tree envelope.TreeID, parent envelope.PageID) ([]envelope.PageRow, error) {
	return s.pages(ctx, "tree = ? AND parent = ?", int64(tree), int64(parent))
}

// DirtyPages implements envelope.Store.
func (s *Store) DirtyPages(ctx context.Context, tree envelope.TreeID) ([]envelope.PageRow, error) {
	return s.pages(ctx, "tree = ? AND dirty_epoch > 0", int64(tree))
}

// OpenPages implements envelope.Store.
func (s *Store) OpenPages(ctx context.Context, tree envelope.TreeID, level uint8, limit int) ([]envelope.PageRow, error) {
	return s.pages(ctx, "tree = ? AND level = ? AND fill < 64 LIMIT ?", int64(tree), int64(level), most(limit))
}

// PagesAfter implements envelope.Store.
func (s *Store) PagesAfter(ctx context.Context, tree envelope.TreeID, after envelope.PageID, limit int) ([]envelope.PageRow, error) {
	last := int64(min(after, math.MaxInt64)) // no page has a higher number
	return s.pages(ctx, "tree = ? AND page > ? ORDER BY page LIMIT ?", int64(tree), last, most(limit))
}

// most is a LIMIT; PostgreSQL refuses a negative one.
func most(limit int) int64 {
	if limit < 0 {
		return math.MaxInt64
	}
	return int64(limit)
}

// CountRootPages implements envelope.Store.
func (s *Store) CountRootPages(ctx context.Context, tree envelope.TreeID, level uint8) (int, error) {
	if err := s.read(ctx); err != nil {
		return 0, err
	}
	var n int
	err := s.db.QueryRowContext(ctx, s.d.bind("SELECT COUNT(*) FROM lethe_page WHERE tree = ? AND parent = 0 AND level = ?"), int64(tree), int64(level)).Scan(&n)
	return n, fail(ctx, err)
}

// keysAndPages reads keys k and the leaf pages p they hang on in one statement.
func (s *Store) keysAndPages(ctx context.Context, q querier, keys *[]envelope.KeyRow, pages map[envelope.PageID]envelope.PageRow, from string, args ...any) error {
	var k keyScan
	var p optionalPage
	dest := append(k.dest(), p.dest()...)
	return s.query(ctx, q, func(rows *sql.Rows) error {
		k.Wrapped, p.wrapped = nil, nil
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		key, err := k.row()
		if err != nil {
			return err
		}
		*keys = append(*keys, key)
		if _, have := pages[p.page.V]; !have || !p.page.Valid {
			if page, ok := p.row(); ok {
				page.Wrapped = bytes.Clone(page.Wrapped)
				pages[page.Page] = page
			}
		}
		return nil
	}, "SELECT "+s.keyFields("k.")+`,
		p.tree, p.page, p.parent, p.parent_gen, p.level, p.gen, p.suite, p.wrapped, p.fill, p.dirty_epoch
		FROM `+from, args...)
}

func values(pages map[envelope.PageID]envelope.PageRow) []envelope.PageRow {
	var out []envelope.PageRow
	for _, p := range pages {
		out = append(out, p)
	}
	return out
}

// Keys implements envelope.Store.
func (s *Store) Keys(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef) ([]envelope.KeyRow, []envelope.PageRow, error) {
	if err := s.read(ctx); err != nil {
		return nil, nil, err
	}
	var keys []envelope.KeyRow
	pages := map[envelope.PageID]envelope.PageRow{}
	wanted := blobs(srefs)
	// Of one moment: a Rekey between two chunks would part keys from their pages.
	err := s.readAt(ctx, statements(len(wanted)), func(q querier) error {
		return chunks(wanted, chunkSize, func(part [][]byte) error {
			_, arg := s.d.inBlobs(part)
			return s.keysAndPages(ctx, q, &keys, pages, s.d.keysOf(tree, refVer), arg, int64(tree), number(refVer))
		})
	})
	if err != nil {
		return nil, nil, err
	}
	return keys, values(pages), nil
}

// KeysOfPage implements envelope.Store.
func (s *Store) KeysOfPage(ctx context.Context, tree envelope.TreeID, page envelope.PageID) ([]envelope.KeyRow, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	var keys []envelope.KeyRow
	if err := s.query(ctx, s.db, scanKeys(&keys), "SELECT "+s.keyFields("")+" FROM lethe_key WHERE tree = ? AND page = ?", int64(tree), int64(page)); err != nil {
		return nil, fail(ctx, err)
	}
	return keys, nil
}

// SystemKeys implements envelope.Store.
func (s *Store) SystemKeys(ctx context.Context, tree envelope.TreeID, kind envelope.KeyKind) ([]envelope.KeyRow, []envelope.PageRow, error) {
	if err := s.read(ctx); err != nil {
		return nil, nil, err
	}
	var keys []envelope.KeyRow
	pages := map[envelope.PageID]envelope.PageRow{}
	from := "lethe_key k LEFT JOIN lethe_page p ON p.tree = k.tree AND p.page = k.page WHERE k.tree = ? AND COALESCE(k.kind, 1) = ?"
	if kind > envelope.KindIndex {
		from += " AND k.kind > 2" // lets the partial index serve it
	}
	if err := s.keysAndPages(ctx, s.db, &keys, pages, from, int64(tree), int64(kind)); err != nil {
		return nil, nil, fail(ctx, err)
	}
	return keys, values(pages), nil
}

// Evidence implements envelope.Store.
func (s *Store) Evidence(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef, kids []envelope.KeyID) ([]envelope.Tomb, []envelope.KeyID, error) {
	if err := s.read(ctx); err != nil {
		return nil, nil, err
	}
	var tombs []envelope.Tomb
	var dead []envelope.KeyID
	subjects, keys := blobs(srefs), blobs(kids)
	n := max(statements(len(subjects)), statements(len(keys)))
	err := s.readAt(ctx, n, func(q querier) error {
		for ; n > 0; n-- {
			var someSubjects, someKeys [][]byte
			someSubjects, subjects = cut(subjects)
			someKeys, keys = cut(keys)
			if err := s.evidence(ctx, q, tree, refVer, someSubjects, someKeys, &tombs, &dead); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return tombs, dead, nil
}

// cut parts a chunk from the rest.
func cut(all [][]byte) (part, rest [][]byte) {
	n := min(chunkSize, len(all))
	return all[:n], all[n:]
}

// evidence reads tombs and dead keys in one statement.
func (s *Store) evidence(ctx context.Context, q querier, tree envelope.TreeID, refVer uint32, srefs, kids [][]byte, tombs *[]envelope.Tomb, dead *[]envelope.KeyID) error {
	inSRefs, srefsArg := s.d.inBlobs(srefs)
	inKIDs, kidsArg := s.d.inBlobs(kids)
	return s.query(ctx, q, func(rows *sql.Rows) error {
		t := envelope.Tomb{Tree: tree, RefVer: refVer}
		var id []byte
		var isTomb int
		if err := rows.Scan(&isTomb, &id, &t.PID, &t.LedgerSeq, &t.LiftedSeq); err != nil {
			return err
		}
		if isTomb == 1 {
			if copy(t.SRef[:], id) != len(id) || len(id) != len(t.SRef) {
				return damaged("sref")
			}
			*tombs = append(*tombs, t)
			return nil
		}
		var kid envelope.KeyID
		if copy(kid[:], id) != len(id) || len(id) != len(kid) {
			return damaged("kid")
		}
		*dead = append(*dead, kid)
		return nil
	}, `SELECT 1, sref, pid, ledger_seq, lifted_seq FROM lethe_tomb WHERE tree = ? AND ref_ver = ? AND sref `+inSRefs+`
		UNION ALL SELECT 0, kid, 0, ledger_seq, 0 FROM lethe_dead WHERE kid `+inKIDs,
		int64(tree), int64(refVer), srefsArg, kidsArg)
}

func (s *Store) tombs(ctx context.Context, q querier, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef) ([]envelope.Tomb, error) {
	var tombs []envelope.Tomb
	err := chunks(blobs(srefs), chunkSize, func(part [][]byte) error {
		in, arg := s.d.inBlobs(part)
		return s.query(ctx, q, func(rows *sql.Rows) error {
			t := envelope.Tomb{Tree: tree, RefVer: refVer}
			var sref []byte
			if err := rows.Scan(&sref, &t.PID, &t.LedgerSeq, &t.LiftedSeq); err != nil {
				return err
			}
			if copy(t.SRef[:], sref) != len(sref) || len(sref) != len(t.SRef) {
				return damaged("sref")
			}
			tombs = append(tombs, t)
			return nil
		}, "SELECT sref, pid, ledger_seq, lifted_seq FROM lethe_tomb WHERE tree = ? AND ref_ver = ? AND sref "+in, int64(tree), int64(refVer), arg)
	})
	return tombs, err
}

// Purposes implements envelope.Store.
func (s *Store) Purposes(ctx context.Context) ([]envelope.PurposeRow, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	var out []envelope.PurposeRow
	err := s.query(ctx, s.db, func(rows *sql.Rows) error {
		var p envelope.PurposeRow
		if err := rows.Scan(&p.PID, &p.Name); err != nil {
			return err
		}
		out = append(out, p)
		return nil
	}, "SELECT pid, name FROM lethe_purpose ORDER BY pid")
	return out, fail(ctx, err)
}
