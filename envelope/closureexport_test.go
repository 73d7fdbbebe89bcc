package envelope

import (
	"context"
	"fmt"
)

// What the closure tests need of the inside.

// AAD of a row as it stands.
func KeyAAD(id StoreID, row KeyRow, purpose string) []byte { return row.appendAAD(nil, id, purpose) }
func PageAAD(id StoreID, row PageRow) []byte               { return row.appendAAD(nil, id) }
func RootAAD(id StoreID, row RootRow) []byte               { return row.appendAAD(nil, id) }

// SetFanOut makes k fill pages with fewer children than PageFanOut, before it has made any.
func SetFanOut(k *Keyring, n int) { k.fanOut = n }

// KIDs opens the keys of a subject for one purpose, newest first, making one where there
// is none if asked.
func KIDs(ctx context.Context, k *Keyring, s Subject, purpose string, mint bool) ([]KeyID, error) {
	sets := make([]*keySet, 1)
	if err := k.acquire(ctx, []keyRef{{s.Tenant, s.Kind, s.ID, purpose}}, sets, mint); err != nil {
		return nil, err
	}
	set := sets[0]
	switch {
	case set == nil:
		return nil, ErrKeyMissing
	case set.forgotten:
		return nil, ErrForgotten
	case set.damage() != nil:
		return nil, set.damage()
	}
	kids := []KeyID{set.newest.kid}
	if set.more != nil {
		for i := range set.more.older {
			kids = append(kids, set.more.older[i].kid)
		}
	}
	return kids, nil
}

// WrongClose is a close with one thing done wrong.
type WrongClose struct {
	NoRekey       bool // pages keep their keys
	NoAncestors   bool // the leaf's key is replaced in place, under a page that keeps its own
	AncestorFirst bool // the pages above are re-keyed before their dirty leaves
	HintOnly      bool // the dirty pages come from the store's mark, not from the ledger
	Verify        bool // the check before the switch is made
}

// Close closes an epoch at once and wrongly.
func (w WrongClose) Close(ctx context.Context, k *Keyring) error {
	k.closeMu.Lock()
	defer k.closeMu.Unlock()
	if err := k.catchUp(ctx); err != nil {
		return err
	}
	old, err := k.rootKey(ctx, true)
	if err != nil {
		return err
	}
	c := closing{CloseOptions: CloseOptions{Immediate: true}, key: k.keys[0]}
	r := &rekeyer{k: k, old: old, opts: c.CloseOptions, out: &Closed{}, damaged: map[PageID]bool{}}
	h, err := k.beginEpoch(ctx, r, c, "")
	if err != nil {
		return err
	}
	if err := k.catchUp(ctx); err != nil {
		return err
	}
	r.dirty = k.led.dirtyPages()
	if w.HintOnly {
		clear(r.dirty)
		hinted, err := k.store.DirtyPages(ctx, k.tree)
		if err != nil {
			return err
		}
		for i := range hinted {
			r.dirty[hinted[i].Page] = hinted[i].DirtyEpoch
		}
	}
	var leaves []PageID
	for page := range r.dirty {
		leaves = append(leaves, page)
	}
	above := func() error {
		rows, err := k.pagesOf(ctx, leaves)
		if err != nil {
			return err
		}
		for len(rows) > 0 {
			var up []PageID
			for i := range rows {
				if rows[i].Parent != 0 {
					up = append(up, rows[i].Parent)
				}
			}
			if err := r.each(ctx, "inner pages", up, 4, r.nodes); err != nil {
				return err
			}
			if rows, err = k.pagesOf(ctx, up); err != nil {
				return err
			}
		}
		return nil
	}
	switch {
	case w.NoRekey:
	case w.NoAncestors:
		err = r.each(ctx, "leaves", leaves, rekeyBatch, r.leaves)
	case w.AncestorFirst:
		if err = above(); err == nil {
			err = r.each(ctx, "leaves", leaves, rekeyBatch, r.leaves)
		}
	default:
		err = r.rekey(ctx, "")
	}
	if err == nil && w.Verify {
		err = r.verify(ctx)
	}
	if err != nil {
		return fmt.Errorf("before the switch: %w", err)
	}
	if err := r.switchRoot(ctx, h); err != nil {
		return err
	}
	_, err = k.EraseDue(ctx)
	return err
}

// PageUntil is how long the key of a page is kept in memory, by the Keyring's clock, and
// ends that earlier, unless until is 0. ok: it is in memory.
func PageUntil(k *Keyring, page PageID, until int64) (was int64, ok bool) {
	k.pages.mu.Lock()
	defer k.pages.mu.Unlock()
	key := k.pages.m[page]
	if key == nil {
		return 0, false
	}
	was = key.expires
	if until != 0 {
		sooner := *key
		sooner.expires = until
		k.pages.m[page] = &sooner
	}
	return was, true
}
