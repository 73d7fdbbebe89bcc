// Package memstore is a key store in memory, for tests: it dies with the process.
package memstore

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/lethe-go/lethe/envelope"
)

type keyName struct {
	tree   envelope.TreeID
	refVer uint32
	sref   envelope.SRef
	pid    envelope.PID
	seq    uint32
}

type tombName struct {
	tree   envelope.TreeID
	refVer uint32
	sref   envelope.SRef
	pid    envelope.PID
}

// Store is an envelope.Store in memory. It is safe for concurrent use.
type Store struct {
	mu       sync.Mutex
	meta     *envelope.Meta
	trees    map[envelope.TreeID]envelope.TreeRow
	roots    []envelope.RootRow
	pages    map[envelope.PageID]envelope.PageRow
	keys     map[envelope.KeyID]envelope.KeyRow
	names    map[keyName]envelope.KeyID
	bySRef   map[envelope.SRef]map[envelope.KeyID]struct{}
	purposes []envelope.PurposeRow
	tombs    map[tombName]envelope.Tomb
	dead     map[envelope.KeyID]uint64
	leases   map[envelope.TreeID]envelope.Lease
}

// New returns an empty store.
func New() *Store {
	return &Store{
		trees:  map[envelope.TreeID]envelope.TreeRow{},
		pages:  map[envelope.PageID]envelope.PageRow{},
		keys:   map[envelope.KeyID]envelope.KeyRow{},
		names:  map[keyName]envelope.KeyID{},
		bySRef: map[envelope.SRef]map[envelope.KeyID]struct{}{},
		tombs:  map[tombName]envelope.Tomb{},
		dead:   map[envelope.KeyID]uint64{},
		leases: map[envelope.TreeID]envelope.Lease{},
	}
}

// begin takes the lock for one transaction; populated is whether Init must have been called.
func (s *Store) begin(ctx context.Context, populated bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if populated && s.meta == nil {
		s.mu.Unlock()
		return envelope.ErrStoreEmpty
	}
	return nil
}

func copyPage(p envelope.PageRow) envelope.PageRow { p.Wrapped = bytes.Clone(p.Wrapped); return p }
func copyKey(k envelope.KeyRow) envelope.KeyRow    { k.Wrapped = bytes.Clone(k.Wrapped); return k }
func copyRoot(r envelope.RootRow) envelope.RootRow {
	r.Wrapped, r.Commit = bytes.Clone(r.Wrapped), bytes.Clone(r.Commit)
	return r
}

func nameOf(k *envelope.KeyRow) keyName { return keyName{k.Tree, k.RefVer, k.SRef, k.PID, k.Seq} }

// Meta implements envelope.Store.
func (s *Store) Meta(ctx context.Context) (envelope.Meta, error) {
	if err := s.begin(ctx, true); err != nil {
		return envelope.Meta{}, err
	}
	defer s.mu.Unlock()
	m := *s.meta
	m.LedgerHead = bytes.Clone(m.LedgerHead)
	return m, nil
}

// Init implements envelope.Store.
func (s *Store) Init(ctx context.Context, rows envelope.InitRows) error {
	if err := s.begin(ctx, false); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.meta != nil {
		return envelope.ErrStoreExists
	}
	m := rows.Meta
	m.LedgerHead = bytes.Clone(m.LedgerHead)
	s.meta = &m
	s.trees[rows.Tree.Tree] = rows.Tree
	s.roots = append(s.roots, copyRoot(rows.Root))
	for _, p := range rows.Pages {
		s.pages[p.Page] = copyPage(p)
	}
	for _, k := range rows.Keys {
		s.addKey(k)
	}
	s.purposes = append(s.purposes, rows.Purposes...)
	return nil
}

func (s *Store) addKey(k envelope.KeyRow) {
	s.keys[k.KID] = copyKey(k)
	s.names[nameOf(&k)] = k.KID
	if s.bySRef[k.SRef] == nil {
		s.bySRef[k.SRef] = map[envelope.KeyID]struct{}{}
	}
	s.bySRef[k.SRef][k.KID] = struct{}{}
}

func (s *Store) removeKey(k *envelope.KeyRow) {
	delete(s.keys, k.KID)
	delete(s.names, nameOf(k))
	delete(s.bySRef[k.SRef], k.KID)
	if len(s.bySRef[k.SRef]) == 0 {
		delete(s.bySRef, k.SRef)
	}
}

// Advance implements envelope.Store.
func (s *Store) Advance(ctx context.Context, prev, seq uint64, head []byte) error {
	if err := s.begin(ctx, true); err != nil {
		return err
	}
	defer s.mu.Unlock()
	return s.advance(prev, seq, head)
}

func (s *Store) advance(prev, seq uint64, head []byte) error {
	if s.meta.AppliedSeq != prev {
		return envelope.ErrStoreConflict
	}
	s.meta.AppliedSeq, s.meta.LedgerHead = seq, bytes.Clone(head)
	return nil
}

// Reincarnate implements envelope.Store.
func (s *Store) Reincarnate(ctx context.Context, old, next uint64) error {
	if err := s.begin(ctx, true); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.meta.Incarnation != old || next <= old {
		return envelope.ErrStoreConflict
	}
	s.meta.Incarnation = next
	return nil
}

// Tree implements envelope.Store.
func (s *Store) Tree(ctx context.Context, tree envelope.TreeID) (envelope.TreeRow, []envelope.RootRow, error) {
	if err := s.begin(ctx, true); err != nil {
		return envelope.TreeRow{}, nil, err
	}
	defer s.mu.Unlock()
	var roots []envelope.RootRow
	for _, r := range s.roots {
		if r.Tree == tree && r.State != envelope.RootDestroyed {
			roots = append(roots, copyRoot(r))
		}
	}
	return s.trees[tree], roots, nil
}

// selectPages returns copies of the pages for which want holds.
func (s *Store) selectPages(ctx context.Context, tree envelope.TreeID, limit int, want func(*envelope.PageRow) bool) ([]envelope.PageRow, error) {
	if err := s.begin(ctx, true); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []envelope.PageRow
	for _, p := range s.pages {
		if len(out) == limit {
			break
		}
		if p.Tree == tree && want(&p) {
			out = append(out, copyPage(p))
		}
	}
	return out, nil
}

// Pages implements envelope.Store.
func (s *Store) Pages(ctx context.Context, tree envelope.TreeID, ids []envelope.PageID) ([]envelope.PageRow, error) {
	wanted := make(map[envelope.PageID]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	return s.selectPages(ctx, tree, -1, func(p *envelope.PageRow) bool { return wanted[p.Page] })
}

// ChildPages implements envelope.Store.
func (s *Store) ChildPages(ctx context.Context, tree envelope.TreeID, parent envelope.PageID) ([]envelope.PageRow, error) {
	return s.selectPages(ctx, tree, -1, func(p *envelope.PageRow) bool { return p.Parent == parent })
}

// DirtyPages implements envelope.Store.
func (s *Store) DirtyPages(ctx context.Context, tree envelope.TreeID) ([]envelope.PageRow, error) {
	return s.selectPages(ctx, tree, -1, func(p *envelope.PageRow) bool { return p.DirtyEpoch != 0 })
}

// OpenPages implements envelope.Store.
func (s *Store) OpenPages(ctx context.Context, tree envelope.TreeID, level uint8, limit int) ([]envelope.PageRow, error) {
	return s.selectPages(ctx, tree, limit, func(p *envelope.PageRow) bool { return p.Level == level && p.Fill < envelope.PageFanOut })
}

// PagesAfter implements envelope.Store.
func (s *Store) PagesAfter(ctx context.Context, tree envelope.TreeID, after envelope.PageID, limit int) ([]envelope.PageRow, error) {
	rows, err := s.selectPages(ctx, tree, -1, func(p *envelope.PageRow) bool { return p.Page > after })
	slices.SortFunc(rows, func(a, b envelope.PageRow) int { return cmp.Compare(a.Page, b.Page) })
	if limit >= 0 && len(rows) > limit {
		rows = rows[:limit]
	}
	return rows, err
}

// CountRootPages implements envelope.Store.
func (s *Store) CountRootPages(ctx context.Context, tree envelope.TreeID, level uint8) (int, error) {
	rows, err := s.selectPages(ctx, tree, -1, func(p *envelope.PageRow) bool { return p.Level == level && p.Parent == 0 })
	return len(rows), err
}

// leavesOf adds the leaf pages of keys.
func (s *Store) leavesOf(keys []envelope.KeyRow) []envelope.PageRow {
	seen := map[envelope.PageID]bool{}
	var pages []envelope.PageRow
	for _, k := range keys {
		if p, ok := s.pages[k.Page]; ok && !seen[k.Page] {
			seen[k.Page] = true
			pages = append(pages, copyPage(p))
		}
	}
	return pages
}

// Keys implements envelope.Store.
func (s *Store) Keys(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef) ([]envelope.KeyRow, []envelope.PageRow, error) {
	if err := s.begin(ctx, true); err != nil {
		return nil, nil, err
	}
	defer s.mu.Unlock()
	var out []envelope.KeyRow
	seen := make(map[envelope.SRef]bool, len(srefs))
	for _, sref := range srefs {
		if seen[sref] {
			continue
		}
		seen[sref] = true
		for kid := range s.bySRef[sref] {
			if k := s.keys[kid]; k.Tree == tree && k.RefVer == refVer {
				out = append(out, copyKey(k))
			}
		}
	}
	return out, s.leavesOf(out), nil
}

func (s *Store) selectKeys(ctx context.Context, want func(*envelope.KeyRow) bool) ([]envelope.KeyRow, []envelope.PageRow, error) {
	if err := s.begin(ctx, true); err != nil {
		return nil, nil, err
	}
	defer s.mu.Unlock()
	var out []envelope.KeyRow
	for _, k := range s.keys {
		if want(&k) {
			out = append(out, copyKey(k))
		}
	}
	return out, s.leavesOf(out), nil
}

// KeysOfPage implements envelope.Store.
func (s *Store) KeysOfPage(ctx context.Context, tree envelope.TreeID, page envelope.PageID) ([]envelope.KeyRow, error) {
	keys, _, err := s.selectKeys(ctx, func(k *envelope.KeyRow) bool { return k.Tree == tree && k.Page == page })
	return keys, err
}

// SystemKeys implements envelope.Store.
func (s *Store) SystemKeys(ctx context.Context, tree envelope.TreeID, kind envelope.KeyKind) ([]envelope.KeyRow, []envelope.PageRow, error) {
	return s.selectKeys(ctx, func(k *envelope.KeyRow) bool { return k.Tree == tree && k.Kind == kind })
}

// Evidence implements envelope.Store.
func (s *Store) Evidence(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef, kids []envelope.KeyID) ([]envelope.Tomb, []envelope.KeyID, error) {
	if err := s.begin(ctx, true); err != nil {
		return nil, nil, err
	}
	defer s.mu.Unlock()
	wanted := make(map[envelope.SRef]bool, len(srefs))
	for _, sref := range srefs {
		wanted[sref] = true
	}
	var tombs []envelope.Tomb
	for _, t := range s.tombs {
		if t.Tree == tree && t.RefVer == refVer && wanted[t.SRef] {
			tombs = append(tombs, t)
		}
	}
	var dead []envelope.KeyID
	for _, kid := range kids {
		if _, ok := s.dead[kid]; ok {
			dead = append(dead, kid)
		}
	}
	return tombs, dead, nil
}

func (s *Store) forbidden(k *envelope.KeyRow) bool {
	for _, pid := range []envelope.PID{0, k.PID} {
		if t, ok := s.tombs[tombName{k.Tree, k.RefVer, k.SRef, pid}]; ok && t.Active() {
			return true
		}
	}
	return false
}

// Insert implements envelope.Store.
func (s *Store) Insert(ctx context.Context, in envelope.Insert) (envelope.Inserted, error) {
	var done envelope.Inserted
	if err := s.begin(ctx, true); err != nil {
		return done, err
	}
	defer s.mu.Unlock()
	if s.trees[in.Tree].ActiveEpoch != in.Epoch {
		return done, envelope.ErrStoreConflict
	}
	taken := map[envelope.PageID]uint32{}
	for _, r := range in.Reserves {
		p, ok := s.pages[r.Page]
		if !ok || p.Gen != r.Gen || p.Fill+taken[r.Page]+r.N > envelope.PageFanOut {
			return done, envelope.ErrStoreConflict
		}
		taken[r.Page] += r.N
	}
	for _, p := range in.Pages {
		if _, there := s.pages[p.Page]; there {
			return done, envelope.ErrStoreConflict
		}
	}
	for id, n := range taken {
		p := s.pages[id]
		p.Fill += n
		s.pages[id] = p
	}
	for _, p := range in.Pages {
		s.pages[p.Page] = copyPage(p)
	}
	for i := range in.Keys {
		k := &in.Keys[i]
		_, there := s.names[nameOf(k)]
		switch {
		case s.forbidden(k):
			done.Forgotten = append(done.Forgotten, i)
		case there:
			done.Exists = append(done.Exists, i)
		default:
			s.addKey(*k)
		}
	}
	return done, nil
}

// Purposes implements envelope.Store.
func (s *Store) Purposes(ctx context.Context) ([]envelope.PurposeRow, error) {
	if err := s.begin(ctx, true); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return slices.Clone(s.purposes), nil
}

// AddPurpose implements envelope.Store.
func (s *Store) AddPurpose(ctx context.Context, name string) (envelope.PID, error) {
	if err := s.begin(ctx, true); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	for _, p := range s.purposes {
		if p.Name == name {
			return p.PID, nil
		}
	}
	pid, err := envelope.FreePurposeNumber(name, func(pid envelope.PID) (bool, error) {
		return slices.ContainsFunc(s.purposes, func(p envelope.PurposeRow) bool { return p.PID == pid }), nil
	})
	if err != nil {
		return 0, err
	}
	s.purposes = append(s.purposes, envelope.PurposeRow{PID: pid, Name: name})
	return pid, nil
}

// Forget implements envelope.Store.
func (s *Store) Forget(ctx context.Context, f envelope.Forgetting) ([]envelope.KeyRow, error) {
	if err := s.begin(ctx, true); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if err := s.advance(f.Prev, f.Seq, f.Head); err != nil {
		return nil, err
	}
	var gone []envelope.KeyRow
	for kid := range s.bySRef[f.SRef] {
		k := s.keys[kid]
		if k.Tree != f.Tree || k.RefVer != f.RefVer || f.PID != 0 && k.PID != f.PID {
			continue
		}
		gone = append(gone, copyKey(k))
		s.removeKey(&k)
		s.dead[kid] = f.Seq
		if p, ok := s.pages[k.Page]; ok {
			p.DirtyEpoch = f.Epoch
			s.pages[k.Page] = p
		}
	}
	for _, kid := range f.KIDs {
		if _, there := s.dead[kid]; !there {
			s.dead[kid] = f.Seq
		}
	}
	s.tombs[tombName{f.Tree, f.RefVer, f.SRef, f.PID}] = envelope.Tomb{Tree: f.Tree, RefVer: f.RefVer, SRef: f.SRef, PID: f.PID, LedgerSeq: f.Seq}
	return gone, nil
}

// Readmit implements envelope.Store.
func (s *Store) Readmit(ctx context.Context, r envelope.Readmission) error {
	if err := s.begin(ctx, true); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if err := s.advance(r.Prev, r.Seq, r.Head); err != nil {
		return err
	}
	for name, t := range s.tombs {
		if name.tree == r.Tree && name.refVer == r.RefVer && name.sref == r.SRef && (r.PID == 0 || name.pid == r.PID) && t.Active() {
			t.LiftedSeq = r.Seq
			s.tombs[name] = t
		}
	}
	return nil
}
