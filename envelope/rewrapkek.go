package envelope

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lethe-go/lethe/kms"
)

// RewrapKEK moves the key store under another KMS key, or a new version of the
// same one, and draws a fresh root. Pages that lost a key since they were last
// keyed are re-keyed on the way, with all above them, so that the new KMS key
// never protects a page that a forgotten key could be opened under.
//
// Records are not touched. Other processes follow when their copy of the root
// expires; give them the new key as Options.MoreKeys beforehand. Here the key takes
// the place of one with the same KeyURI, if any. The old root's
// wrap stays in the store, marked as retiring. One transaction writes it all:
// an interrupted call leaves the old root, or the new one, complete.
func (k *Keyring) RewrapKEK(ctx context.Context, key kms.Key) error {
	if k.closed.Load() {
		return ErrClosed
	}
	guarded, err := guard(key, k.opts)
	if err != nil {
		return err
	}
	k.forgetMu.Lock()
	defer k.forgetMu.Unlock()
	if err := k.catchUp(ctx); err != nil {
		return err
	}
	if err := k.completeSwitch(ctx); err != nil {
		return err
	}
	old, err := k.rootKey(ctx, true)
	if err != nil {
		return err
	}
	k.led.mu.RLock()
	epoch := max(k.led.begun, old.epoch) + 1
	k.led.mu.RUnlock()
	if err := k.appendLedger(ctx, &LedgerEntry{Kind: LedgerRootBegin, Tree: k.tree, Epoch: epoch, KMSHandle: keyURI(guarded)}); err != nil {
		return err
	}
	if err := k.catchUp(ctx); err != nil {
		return err
	}
	secret := newKey()
	defer clear(secret)
	row, err := wrapRoot(ctx, guarded, k.id, k.tree, epoch, k.opts, secret)
	if err != nil {
		return err
	}
	row.State = RootActive
	// Known from before the switch on, since its outcome may remain unknown.
	k.useKey(guarded)
	for attempt := 0; ; attempt++ {
		rekey, err := k.planRekey(ctx, old, row, secret)
		if err == nil {
			err = k.store.Rekey(ctx, *rekey)
		}
		if err == nil || k.switchedTo(ctx, &row) {
			break
		}
		if attempt == 10 || !errors.Is(err, ErrStoreConflict) && !errors.Is(err, errStalePage) {
			return storeErr(err)
		}
		tree, _, terr := k.store.Tree(ctx, k.tree)
		if terr != nil {
			return storeErr(terr)
		}
		if tree.ActiveEpoch != old.epoch {
			return fmt.Errorf("lethe: another process changed the root meanwhile: %w", ErrUnavailable)
		}
	}
	k.pages.purge()
	k.leaves.drop()
	ctx, cancel := k.bound(context.WithoutCancel(ctx), 2)
	defer cancel()
	if err := k.completeSwitch(ctx); err != nil {
		return err
	}
	if _, err := k.rootKey(ctx, true); err != nil {
		return err
	}
	return k.catchUp(ctx)
}

// useKey puts a KMS key before the others. It replaces one of the same URI, so
// that moving to new versions of one key does not pile up clients.
func (k *Keyring) useKey(key kms.Key) {
	k.keyMu.Lock()
	defer k.keyMu.Unlock()
	uri := keyURI(key)
	keys := []kms.Key{key}
	for _, old := range k.keys {
		if old != key && (uri == "" || keyURI(old) != uri) {
			keys = append(keys, old)
		}
	}
	k.keys = keys
}

// switchedTo reports whether a Rekey that failed was committed nevertheless.
func (k *Keyring) switchedTo(ctx context.Context, want *RootRow) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.opts.Timeout)
	defer cancel()
	tree, rows, err := k.store.Tree(ctx, k.tree)
	if err != nil || tree.ActiveEpoch != want.Epoch {
		return false
	}
	return slices.ContainsFunc(rows, func(r RootRow) bool {
		return r.Epoch == want.Epoch && bytes.Equal(r.Commit, want.Commit)
	})
}

// completeSwitch records in the ledger a root that the store has switched to.
func (k *Keyring) completeSwitch(ctx context.Context) error {
	tree, rows, err := k.activeTree(ctx)
	if err != nil {
		return err
	}
	k.led.mu.RLock()
	done := tree.ActiveEpoch == k.led.epoch || k.led.seq == 0
	k.led.mu.RUnlock()
	if done {
		return nil
	}
	secret, row, err := k.unwrapRoot(ctx, tree.ActiveEpoch, rows)
	if err != nil {
		return err
	}
	clear(secret)
	return k.appendLedger(ctx, &LedgerEntry{Kind: LedgerRootSwitch, Tree: k.tree, Epoch: row.Epoch, KMSHandle: row.KMSURI, RootCommit: row.Commit})
}

// planRekey computes every row that changes: fresh keys for dirty leaves and
// all their ancestors, new wraps for the children of each, and new wraps for
// what hangs on the root.
func (k *Keyring) planRekey(ctx context.Context, old *rootKey, row RootRow, secret []byte) (*Rekey, error) {
	rekey := &Rekey{Tree: k.tree, OldEpoch: old.epoch, Root: row, PageChildren: map[PageID]int{}}
	k.led.mu.RLock()
	ids := make([]PageID, 0, len(k.led.dirty))
	for id := range k.led.dirty {
		ids = append(ids, id)
	}
	k.led.mu.RUnlock()
	hinted, err := k.store.DirtyPages(ctx, k.tree)
	if err != nil {
		return nil, storeErr(err)
	}
	for _, p := range hinted {
		ids = append(ids, p.Page)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	marked := map[PageID]PageRow{} // pages that get a fresh key
	pages, err := k.store.Pages(ctx, k.tree, ids)
	if err != nil {
		return nil, storeErr(err)
	}
	level := pages[:0]
	for _, p := range pages {
		k.led.mu.RLock()
		dirty := k.led.dirty[p.Page] >= p.Gen || p.DirtyEpoch != 0
		k.led.mu.RUnlock()
		if dirty {
			level = append(level, p)
		}
	}
	for len(level) > 0 {
		var up []PageID
		for _, p := range level {
			marked[p.Page] = p
			if _, there := marked[p.Parent]; p.Parent != 0 && !there {
				up = append(up, p.Parent)
			}
		}
		slices.Sort(up)
		if level, err = k.store.Pages(ctx, k.tree, slices.Compact(up)); err != nil {
			return nil, storeErr(err)
		}
	}
	fresh := map[PageID][]byte{}
	defer func() {
		for _, s := range fresh {
			clear(s)
		}
	}()
	for id := range marked {
		fresh[id] = newKey()
	}
	rewrap := func(p PageRow) error {
		under, suite, gen := secret, row.Suite, row.Epoch
		if p.Parent != 0 {
			under, suite = fresh[p.Parent], marked[p.Parent].Suite
		}
		next := p
		next.ParentGen = gen
		key := fresh[p.Page]
		if key != nil {
			next.Gen, next.DirtyEpoch = row.Epoch, 0
		} else {
			if key, err = k.pageSecret(ctx, p); err != nil {
				return err
			}
			defer clear(key)
		}
		if next.Wrapped, err = suite.wrapKey(under, key, next.appendAAD(nil, k.id)); err != nil {
			return err
		}
		rekey.Pages = append(rekey.Pages, next)
		return nil
	}
	top, err := k.store.ChildPages(ctx, k.tree, 0)
	if err != nil {
		return nil, storeErr(err)
	}
	rekey.RootChildren = len(top)
	for _, p := range top {
		if err := rewrap(p); err != nil {
			return nil, err
		}
	}
	for id, p := range marked {
		if p.Level > 0 {
			children, err := k.store.ChildPages(ctx, k.tree, id)
			if err != nil {
				return nil, storeErr(err)
			}
			rekey.PageChildren[id] = len(children)
			for _, c := range children {
				if err := rewrap(c); err != nil {
					return nil, err
				}
			}
			continue
		}
		rows, err := k.store.KeysOfPage(ctx, k.tree, id)
		if err != nil {
			return nil, storeErr(err)
		}
		if err := k.learnPurposes(ctx, rows); err != nil {
			return nil, err
		}
		rekey.PageChildren[id] = len(rows)
		resolved, err := k.resolvePages(ctx, []PageRow{p})
		if err != nil {
			return nil, err
		}
		for _, kr := range rows {
			if k.led.isDead(kr.KID) {
				return nil, ErrStoreConflict // a forget is half way, or a dead row was pasted back: never carry it over
			}
			old, err := k.unwrapRow(&kr, resolved)
			if err != nil {
				return nil, err
			}
			name, _ := k.purposeName(kr.PID)
			kr.PageGen = row.Epoch
			kr.Wrapped, err = p.Suite.wrapKey(fresh[id], old, kr.appendAAD(nil, k.id, name))
			clear(old)
			if err != nil {
				return nil, err
			}
			rekey.Keys = append(rekey.Keys, kr)
		}
	}
	return rekey, nil
}

// pageSecret unwraps the key of a page itself, to wrap it again.
func (k *Keyring) pageSecret(ctx context.Context, p PageRow) ([]byte, error) {
	root, err := k.rootKey(ctx, false)
	if err != nil {
		return nil, err
	}
	suite, aead, gen := root.suite, root.aead, root.epoch
	if p.Parent != 0 {
		parents, err := k.store.Pages(ctx, k.tree, []PageID{p.Parent})
		if err != nil {
			return nil, storeErr(err)
		}
		resolved, err := k.resolvePages(ctx, parents)
		if err != nil {
			return nil, err
		}
		parent := resolved[p.Parent]
		if parent == nil {
			return nil, fmt.Errorf("%w: page %d names a parent the store does not have", ErrKeyMissing, p.Page)
		}
		suite, aead, gen = parent.suite, parent.aead, parent.gen
	}
	if p.ParentGen != gen {
		return nil, errStalePage
	}
	secret, err := suite.openKey(aead, p.Wrapped, p.appendAAD(nil, k.id))
	if err != nil {
		return nil, fmt.Errorf("%w: page %d of the key store was changed", ErrDecrypt, p.Page)
	}
	return secret, nil
}
