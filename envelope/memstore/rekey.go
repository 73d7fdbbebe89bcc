package memstore

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/lethe-go/lethe/envelope"
)

// Rekey implements envelope.Store.
func (s *Store) Rekey(ctx context.Context, r envelope.Rekey) error {
	if err := s.begin(ctx, true); err != nil {
		return err
	}
	defer s.mu.Unlock()
	tree := s.trees[r.Tree]
	children := s.children(r.Tree)
	if tree.ActiveEpoch != r.OldEpoch || children[0] != r.RootChildren || !sameCounts(r.PageChildren, children) || !s.there(r.Tree, r.Pages, r.Keys) {
		return envelope.ErrStoreConflict
	}
	for _, p := range r.Pages {
		if seen, compared := r.Seen[p.Page]; compared && !bytes.Equal(seen, s.pages[p.Page].Wrapped) {
			return envelope.ErrStoreConflict
		}
	}
	s.rewrap(r.Pages, r.Keys)
	for i := range s.roots {
		if s.roots[i].Tree == r.Tree && s.roots[i].State == envelope.RootActive {
			s.roots[i].State = envelope.RootRetiring
		}
	}
	s.roots = append(s.roots, copyRoot(r.Root))
	slices.SortFunc(s.roots, func(a, b envelope.RootRow) int { return cmp.Compare(b.Epoch, a.Epoch) })
	tree.ActiveEpoch = r.Root.Epoch
	s.trees[r.Tree] = tree
	return nil
}

// RekeyPages implements envelope.Store.
func (s *Store) RekeyPages(ctx context.Context, r envelope.RekeyPages) error {
	if err := s.begin(ctx, true); err != nil {
		return err
	}
	defer s.mu.Unlock()
	children := s.children(r.Tree)
	if s.trees[r.Tree].ActiveEpoch != r.Epoch || !sameCounts(r.PageChildren, children) || !s.there(r.Tree, r.Pages, r.Keys) {
		return envelope.ErrStoreConflict
	}
	for _, p := range r.Pages {
		was := s.pages[p.Page]
		seen, compared := r.Seen[p.Page]
		if !compared || !bytes.Equal(seen, was.Wrapped) || p.Gen != was.Gen && children[p.Page] != r.PageChildren[p.Page] {
			return envelope.ErrStoreConflict
		}
	}
	s.rewrap(r.Pages, r.Keys)
	for _, kid := range r.Drop {
		if k, ok := s.keys[kid]; ok && k.Tree == r.Tree {
			s.removeKey(&k)
		}
	}
	return nil
}

// children counts the pages and keys under each page.
func (s *Store) children(tree envelope.TreeID) map[envelope.PageID]int {
	n := map[envelope.PageID]int{}
	for _, p := range s.pages {
		if p.Tree == tree {
			n[p.Parent]++
		}
	}
	for _, k := range s.keys {
		if k.Tree == tree {
			n[k.Page]++
		}
	}
	return n
}

func sameCounts(want, got map[envelope.PageID]int) bool {
	for page, n := range want {
		if got[page] != n {
			return false
		}
	}
	return true
}

// there reports whether every row has one to replace.
func (s *Store) there(tree envelope.TreeID, pages []envelope.PageRow, keys []envelope.KeyRow) bool {
	for _, p := range pages {
		if was, ok := s.pages[p.Page]; !ok || was.Tree != tree {
			return false
		}
	}
	for i := range keys {
		k := &keys[i]
		if was, ok := s.keys[k.KID]; !ok || was.Tree != tree || was.Page != k.Page {
			return false
		}
	}
	return true
}

// rewrap writes new wraps over rows.
func (s *Store) rewrap(pages []envelope.PageRow, keys []envelope.KeyRow) {
	for _, p := range pages {
		was := s.pages[p.Page]
		if p.Gen != was.Gen {
			was.DirtyEpoch = 0
		}
		was.ParentGen, was.Gen, was.Suite, was.Wrapped = p.ParentGen, p.Gen, p.Suite, bytes.Clone(p.Wrapped)
		s.pages[p.Page] = was
	}
	for i := range keys {
		k := &keys[i]
		was := s.keys[k.KID]
		was.PageGen, was.Suite, was.Wrapped = k.PageGen, k.Suite, bytes.Clone(k.Wrapped)
		s.keys[k.KID] = was
	}
}
