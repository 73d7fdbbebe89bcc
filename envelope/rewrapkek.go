package envelope

import (
	"bytes"
	"context"
	"slices"

	"github.com/lethe-go/lethe/kms"
)

// RewrapKEK moves the key store under another KMS key, or a new version of the
// same one: it closes the epoch (see [Keyring.CloseEpoch]), also if nothing was
// forgotten in it, and wraps the fresh root under key, so that the new KMS key
// never protects a page that a forgotten key could be opened under.
//
// Records are not touched. Other processes follow when their copy of the root
// expires; give them the new key as Options.MoreKeys beforehand. Here the key takes
// the place of one with the same KeyURI, if any. The old root's wrap stays in the
// store, marked as retiring, until its handle is destroyed. An interrupted call
// leaves the old root, or the new one, complete.
func (k *Keyring) RewrapKEK(ctx context.Context, key kms.Key) error {
	if k.closed.Load() {
		return ErrClosed
	}
	guarded, err := guard(key, k.opts)
	if err != nil {
		return err
	}
	// Known from before the switch on, since its outcome may remain unknown.
	k.addKey(guarded)
	if _, err := k.closeEpoch(ctx, closing{key: guarded, force: true}); err != nil {
		return err
	}
	k.useKey(guarded)
	return nil
}

// keptTried is how many keys of moves that failed are kept.
const keptTried = 4

// addKey puts a KMS key behind the others, for a move that may fail: in place of an
// earlier one of the same URI that was added so, and of the oldest of too many. What is
// added is kept after a failure, since the switch may have happened, and since the handle
// that was made under it is to be destroyed.
func (k *Keyring) addKey(key kms.Key) {
	k.keyMu.Lock()
	defer k.keyMu.Unlock()
	if slices.Contains(k.keys, key) {
		return
	}
	k.keys = slices.Clone(k.keys)
	uri := keyURI(key)
	again := slices.IndexFunc(k.tried, func(old kms.Key) bool { return uri != "" && keyURI(old) == uri })
	if again < 0 && len(k.tried) == keptTried {
		again = 0
	}
	if again >= 0 {
		old := k.tried[again]
		k.tried = slices.Delete(k.tried, again, again+1)
		k.keys = slices.DeleteFunc(k.keys, func(key kms.Key) bool { return key == old })
	}
	k.keys, k.tried = append(k.keys, key), append(k.tried, key)
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
	k.tried = slices.DeleteFunc(k.tried, func(old kms.Key) bool { return !slices.Contains(keys[1:], old) })
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
	done := tree.ActiveEpoch <= k.led.epoch || k.led.seq == 0
	k.led.mu.RUnlock()
	if done {
		return nil
	}
	secret, row, err := k.unwrapRoot(ctx, tree.ActiveEpoch, rows)
	if err != nil {
		return err
	}
	clear(secret)
	return k.appendLedger(ctx, &LedgerEntry{Kind: LedgerRootSwitch, Tree: k.tree, Epoch: row.Epoch, KMSHandle: row.KMSHandle, RootCommit: row.Commit})
}
