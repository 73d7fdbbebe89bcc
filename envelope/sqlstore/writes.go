package sqlstore

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/lethe-go/lethe/envelope"
)

// advance moves meta on from prev.
func (s *Store) advance(ctx context.Context, q querier, prev, seq uint64, head []byte) error {
	return s.replace(ctx, q, "UPDATE lethe_meta SET applied_seq = ?, ledger_head = ? WHERE applied_seq = ?", int64(seq), nullable(head), int64(prev))
}

// Init implements envelope.Store.
func (s *Store) Init(ctx context.Context, rows envelope.InitRows) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.d.Write(ctx, func(q querier) error {
		if err := s.lock(ctx, q, rows.Tree.Tree, false); err != nil {
			return err
		}
		var one int
		switch err := q.QueryRowContext(ctx, "SELECT 1 FROM lethe_meta").Scan(&one); {
		case err == nil:
			return envelope.ErrStoreExists
		case s.d.NoTable(err):
			return envelope.ErrStoreEmpty
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		m := &rows.Meta
		n, err := s.exec(ctx, q, "INSERT INTO lethe_meta (id, store_id, schema, incarnation, applied_seq, ledger_head) VALUES (1, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
			m.StoreID[:], int64(m.Schema), int64(m.Incarnation), int64(m.AppliedSeq), nullable(m.LedgerHead))
		if err != nil {
			return err
		}
		if n == 0 { // another Init, of another tree, was quicker
			return envelope.ErrStoreExists
		}
		if _, err := s.exec(ctx, q, "INSERT INTO lethe_tree (tree, tref, active_epoch, state) VALUES (?, ?, ?, ?)",
			int64(rows.Tree.Tree), rows.Tree.TRef, int64(rows.Tree.ActiveEpoch), int64(rows.Tree.State)); err != nil {
			return err
		}
		if err := s.insertRoot(ctx, q, &rows.Root); err != nil {
			return err
		}
		if err := s.insertPages(ctx, q, rows.Pages); err != nil {
			return err
		}
		if twice, err := s.insertKeys(ctx, q, rows.Keys); err != nil || len(twice) > 0 {
			return errors.Join(err, errTwice(twice))
		}
		for _, p := range rows.Purposes {
			if _, err := s.exec(ctx, q, "INSERT INTO lethe_purpose (pid, name) VALUES (?, ?)", int64(p.PID), p.Name); err != nil {
				return err
			}
		}
		return nil
	})
	return fail(ctx, err)
}

func (s *Store) insertRoot(ctx context.Context, q querier, r *envelope.RootRow) error {
	_, err := s.insert(ctx, q, "lethe_root ("+rootColumns+")", [][]any{rootArgs(r)}, "")
	return err
}

// insertPages adds new pages; one that exists is a conflict.
func (s *Store) insertPages(ctx context.Context, q querier, pages []envelope.PageRow) error {
	rows := make([][]any, len(pages))
	for i := range pages {
		rows[i] = pageArgs(&pages[i])
	}
	n, err := s.insert(ctx, q, "lethe_page ("+pageColumns+")", rows, " ON CONFLICT DO NOTHING")
	if err == nil && n != int64(len(rows)) {
		return envelope.ErrStoreConflict
	}
	return err
}

// errTwice reports keys of an Init that have the name of another.
func errTwice(keys []int) error {
	if len(keys) == 0 {
		return nil
	}
	return fmt.Errorf("%d of the first keys come twice", len(keys))
}

// insertKeys adds the keys whose names are free and returns the positions of the others.
func (s *Store) insertKeys(ctx context.Context, q querier, keys []envelope.KeyRow) (exists []int, err error) {
	// In the order of their names, so that two transactions that add the same
	// keys never wait for each other in a circle.
	order := make([]*envelope.KeyRow, len(keys))
	for i := range keys {
		order[i] = &keys[i]
	}
	slices.SortStableFunc(order, func(a, b *envelope.KeyRow) int {
		return cmp.Or(cmp.Compare(a.RefVer, b.RefVer), bytes.Compare(a.SRef[:], b.SRef[:]), cmp.Compare(a.PID, b.PID), cmp.Compare(a.Seq, b.Seq))
	})
	rows := make([][]any, len(order))
	for i, k := range order {
		rows[i] = s.keyArgs(k)
	}
	added := make(map[string]bool, len(keys))
	err = insert("lethe_key ("+keyColumns+")", rows, " ON CONFLICT DO NOTHING RETURNING kid", func(query string, args []any) error {
		return s.query(ctx, q, func(row *sql.Rows) error {
			var kid []byte
			err := row.Scan(&kid)
			added[string(kid)] = true
			return err
		}, query, args...)
	})
	for i := range keys {
		kid := string(keys[i].KID[:])
		if !added[kid] {
			exists = append(exists, i)
		}
		delete(added, kid) // a key that is listed twice is there the second time
	}
	return exists, err
}

// Advance implements envelope.Store.
func (s *Store) Advance(ctx context.Context, prev, seq uint64, head []byte) error {
	return s.write(ctx, func(q querier) error { return s.advance(ctx, q, prev, seq, head) })
}

// Reincarnate implements envelope.Store.
func (s *Store) Reincarnate(ctx context.Context, old, next uint64) error {
	if next <= old {
		return envelope.ErrStoreConflict
	}
	return s.write(ctx, func(q querier) error {
		return s.replace(ctx, q, "UPDATE lethe_meta SET incarnation = ? WHERE incarnation = ?", int64(next), int64(old))
	})
}

// replace runs an UPDATE that must meet one row.
func (s *Store) replace(ctx context.Context, q querier, query string, args ...any) error {
	n, err := s.exec(ctx, q, query, args...)
	if err == nil && n != 1 {
		return envelope.ErrStoreConflict
	}
	return err
}

// Insert implements envelope.Store.
func (s *Store) Insert(ctx context.Context, in envelope.Insert) (envelope.Inserted, error) {
	var done envelope.Inserted
	err := s.write(ctx, func(q querier) error {
		done = envelope.Inserted{} // a transaction may run twice
		if err := s.lock(ctx, q, in.Tree, true); err != nil {
			return err
		}
		if err := s.checkEpoch(ctx, q, in.Tree, in.Epoch); err != nil {
			return err
		}
		if err := s.reserve(ctx, q, in.Tree, in.Reserves); err != nil {
			return err
		}
		if err := s.insertPages(ctx, q, in.Pages); err != nil {
			return err
		}
		forbidden, err := s.forbidden(ctx, q, in.Tree, in.Keys)
		if err != nil {
			return err
		}
		var keys []envelope.KeyRow
		var at []int
		for i := range in.Keys {
			if forbidden(&in.Keys[i]) {
				done.Forgotten = append(done.Forgotten, i)
				continue
			}
			keys, at = append(keys, in.Keys[i]), append(at, i)
		}
		exists, err := s.insertKeys(ctx, q, keys)
		for _, i := range exists {
			done.Exists = append(done.Exists, at[i])
		}
		return err
	})
	if err != nil {
		return envelope.Inserted{}, err
	}
	return done, nil
}

func (s *Store) checkEpoch(ctx context.Context, q querier, tree envelope.TreeID, epoch uint64) error {
	var active uint64
	err := q.QueryRowContext(ctx, s.d.bind("SELECT active_epoch FROM lethe_tree WHERE tree = ?"), int64(tree)).Scan(&active)
	if errors.Is(err, sql.ErrNoRows) || err == nil && active != epoch {
		return envelope.ErrStoreConflict
	}
	return err
}

// reserve takes slots in the order of page numbers, so that two transactions
// never wait for each other in a circle.
func (s *Store) reserve(ctx context.Context, q querier, tree envelope.TreeID, reserves []envelope.Reserve) error {
	reserves = slices.Clone(reserves)
	slices.SortFunc(reserves, func(a, b envelope.Reserve) int { return cmp.Compare(a.Page, b.Page) })
	for _, r := range reserves {
		n, err := s.exec(ctx, q, "UPDATE lethe_page SET fill = fill + ? WHERE tree = ? AND page = ? AND gen = ? AND fill + ? <= 64",
			int64(r.N), int64(tree), int64(r.Page), int64(r.Gen), int64(r.N))
		if err != nil {
			return err
		}
		if n == 0 {
			return envelope.ErrStoreConflict
		}
	}
	return nil
}

// forbidden says which keys an active tomb forbids.
func (s *Store) forbidden(ctx context.Context, q querier, tree envelope.TreeID, keys []envelope.KeyRow) (func(k *envelope.KeyRow) bool, error) {
	type name struct {
		refVer uint32
		sref   envelope.SRef
		pid    envelope.PID
	}
	byVersion := map[uint32][]envelope.SRef{}
	for i := range keys {
		byVersion[keys[i].RefVer] = append(byVersion[keys[i].RefVer], keys[i].SRef)
	}
	active := map[name]bool{}
	for refVer, srefs := range byVersion {
		tombs, err := s.tombs(ctx, q, tree, refVer, srefs)
		if err != nil {
			return nil, err
		}
		for _, t := range tombs {
			if t.Active() {
				active[name{refVer, t.SRef, t.PID}] = true
			}
		}
	}
	return func(k *envelope.KeyRow) bool {
		return active[name{k.RefVer, k.SRef, 0}] || active[name{k.RefVer, k.SRef, k.PID}]
	}, nil
}

// purposeLock serializes AddPurpose; no tree has this number.
const purposeLock = envelope.TreeID(1<<32 - 1)

// AddPurpose implements envelope.Store.
func (s *Store) AddPurpose(ctx context.Context, purpose string) (envelope.PID, error) {
	var pid envelope.PID
	err := s.write(ctx, func(q querier) error {
		if err := s.lock(ctx, q, purposeLock, false); err != nil {
			return err
		}
		err := q.QueryRowContext(ctx, s.d.bind("SELECT pid FROM lethe_purpose WHERE name = ?"), purpose).Scan(&pid)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if pid, err = envelope.FreePurposeNumber(purpose, func(n envelope.PID) (taken bool, err error) {
			var rows int
			err = q.QueryRowContext(ctx, s.d.bind("SELECT COUNT(*) FROM lethe_purpose WHERE pid = ?"), int64(n)).Scan(&rows)
			return rows > 0, err
		}); err != nil {
			return err
		}
		_, err = s.exec(ctx, q, "INSERT INTO lethe_purpose (pid, name) VALUES (?, ?)", int64(pid), purpose)
		return err
	})
	if err != nil {
		return 0, err
	}
	return pid, nil
}

// Forget implements envelope.Store.
func (s *Store) Forget(ctx context.Context, f envelope.Forgetting) ([]envelope.KeyRow, error) {
	var gone []envelope.KeyRow
	err := s.write(ctx, func(q querier) error {
		gone = nil
		if err := s.lock(ctx, q, f.Tree, false); err != nil {
			return err
		}
		if err := s.advance(ctx, q, f.Prev, f.Seq, f.Head); err != nil {
			return err
		}
		which := "tree = ? AND ref_ver = ? AND sref = ?" + s.d.byName(f.Tree, f.RefVer)
		args := []any{int64(f.Tree), number(f.RefVer), f.SRef[:]}
		if f.PID != 0 {
			which, args = which+" AND pid = ?", append(args, number(uint32(f.PID)))
		}
		if err := s.query(ctx, q, scanKeys(&gone), "DELETE FROM lethe_key WHERE "+which+" RETURNING "+s.keyFields(""), args...); err != nil {
			return err
		}
		if err := s.bury(ctx, q, f, gone); err != nil {
			return err
		}
		_, err := s.exec(ctx, q, `INSERT INTO lethe_tomb (tree, ref_ver, sref, pid, ledger_seq, lifted_seq) VALUES (?, ?, ?, ?, ?, 0)
			ON CONFLICT (tree, ref_ver, sref, pid) DO UPDATE SET ledger_seq = excluded.ledger_seq, lifted_seq = 0`,
			int64(f.Tree), int64(f.RefVer), f.SRef[:], int64(f.PID), int64(f.Seq))
		return err
	})
	if err != nil {
		return nil, err
	}
	s.d.wipe(ctx)
	return gone, nil
}

// bury records keys dead and marks their pages dirty.
func (s *Store) bury(ctx context.Context, q querier, f envelope.Forgetting, gone []envelope.KeyRow) error {
	kids := slices.Clone(f.KIDs)
	var pages []envelope.PageID
	for i := range gone {
		kids, pages = append(kids, gone[i].KID), append(pages, gone[i].Page)
	}
	var rows [][]any
	for _, kid := range blobs(kids) {
		rows = append(rows, []any{bytes.Clone(kid), int64(f.Seq)})
	}
	if _, err := s.insert(ctx, q, "lethe_dead (kid, ledger_seq)", rows, " ON CONFLICT DO NOTHING"); err != nil {
		return err
	}
	return chunks(unique(pages), chunkSize, func(part []int64) error {
		in, arg := s.d.inInts(part)
		_, err := s.exec(ctx, q, "UPDATE lethe_page SET dirty_epoch = ? WHERE tree = ? AND page "+in, int64(f.Epoch), int64(f.Tree), arg)
		return err
	})
}

// Readmit implements envelope.Store.
func (s *Store) Readmit(ctx context.Context, r envelope.Readmission) error {
	return s.write(ctx, func(q querier) error {
		if err := s.lock(ctx, q, r.Tree, false); err != nil {
			return err
		}
		if err := s.advance(ctx, q, r.Prev, r.Seq, r.Head); err != nil {
			return err
		}
		query, args := "UPDATE lethe_tomb SET lifted_seq = ? WHERE tree = ? AND ref_ver = ? AND sref = ? AND lifted_seq = 0",
			[]any{int64(r.Seq), int64(r.Tree), int64(r.RefVer), r.SRef[:]}
		if r.PID != 0 {
			query, args = query+" AND pid = ?", append(args, int64(r.PID))
		}
		_, err := s.exec(ctx, q, query, args...)
		return err
	})
}
