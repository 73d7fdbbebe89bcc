package envelope

import (
	"context"
	"fmt"

	"github.com/lethe-go/lethe/kms"
)

// maxIncarnation is more than a store is ever restored. Whoever writes the store can put
// any number in, and what is once in the ledger stays.
const maxIncarnation = 1<<32 - 1

// RestoreOptions of one restore.
type RestoreOptions struct {
	// Quick re-keys only what the ledger says was forgotten since the backup, and
	// does not read every key: for a store too large for that, whose backup nobody
	// could write to.
	Quick bool
	// LeaveDamaged goes on though rows do not open, and gives them up.
	LeaveDamaged bool
	// Progress is called from time to time.
	Progress func(CloseProgress)
}

// Restored says what a restore did.
type Restored struct {
	Behind      uint64 // entries of the ledger that the backup had not seen
	FromEpoch   uint64 // that the backup was in
	Incarnation uint64 // of the store now: the ledger gives each restore another
	Closed      Closed
}

// Restore makes a key store that was put back from a backup fit to be served: it
// applies what the ledger has and the backup has not, so that who was forgotten
// since stays forgotten, and closes an epoch with every page re-keyed, so that no
// key of the history that is now abandoned hangs on the new root.
//
// Put all tables of the key store back, from one backup, and stop every process
// that uses it first. NewKeyring refuses the store until Restore has returned nil
// (unless the backup is of the ledger's present epoch: then NewKeyring itself
// applies what is missing). Two stores of one backup must not both be served with one
// ledger: what is sealed in the one is missing in the other, never taken for something
// else, and once either closes an epoch the other is refused. Restore may be interrupted and called again. Keys
// made after the backup are lost, and what was sealed under them: back the key
// store up at least as often as the data.
//
// It returns ErrLedger if the ledger is not this store's, is behind it, or was
// forked; ErrWrongKey if the KMS handle of the backup's epoch is destroyed: the
// backup is older than the recovery window, and nobody can open it; ErrDecrypt or
// ErrKeyMissing if rows were damaged.
func Restore(ctx context.Context, store Store, key kms.Key, opts Options, ropts RestoreOptions) (Restored, error) {
	var out Restored
	k, err := open(ctx, store, key, opts)
	if err != nil {
		return out, explainRestore(ctx, store, opts, err)
	}
	defer k.Close()
	k.led.mu.Lock()
	k.led.restoring = true
	last, epoch, incarnation := k.led.seq, k.led.epoch, k.led.incarnation
	k.led.mu.Unlock()
	meta, err := store.Meta(ctx)
	if err != nil {
		return out, storeErr(err)
	}
	if meta.AppliedSeq == 0 {
		return out, fmt.Errorf("%w: the backup was made before Init had completed: use a later one", ErrStoreEmpty)
	}
	root, err := k.rootKey(ctx, true)
	if err != nil {
		return out, err
	}
	out.FromEpoch, out.Incarnation = root.epoch, meta.Incarnation
	if last > meta.AppliedSeq {
		out.Behind = last - meta.AppliedSeq
	}
	if root.epoch >= epoch { // a NewKeyring would have done the same
		if err := k.completeSwitch(ctx); err != nil {
			return out, err
		}
		return out, k.catchUp(ctx)
	}
	if meta.Incarnation > max(maxIncarnation, incarnation) {
		return out, fmt.Errorf("%w: lethe_meta of the key store says that it was restored %d times: it was changed: use another backup, or put a number in its place that can be", ErrDecrypt, meta.Incarnation)
	}
	// The ledger gives the number, which the backup cannot: it may be put back twice.
	e := &LedgerEntry{Kind: LedgerRestore, Tree: k.tree, Epoch: root.epoch}
	err = k.appendLedgerIf(ctx, e, func() error {
		k.led.mu.RLock()
		defer k.led.mu.RUnlock()
		e.Incarnation = max(meta.Incarnation, k.led.incarnation) + 1
		return nil
	})
	if err != nil {
		return out, err
	}
	if err := store.Reincarnate(ctx, meta.Incarnation, e.Incarnation); err != nil {
		return out, storeErr(err)
	}
	out.Incarnation = e.Incarnation
	k.keyMu.RLock()
	kek := k.keys[0]
	k.keyMu.RUnlock()
	out.Closed, err = k.closeEpoch(ctx, closing{
		CloseOptions: CloseOptions{All: !ropts.Quick, LeaveDamaged: ropts.LeaveDamaged, Progress: ropts.Progress},
		key:          kek, force: true,
	})
	return out, err
}

// explainRestore says when a root that does not open is one whose handle the
// ledger calls destroyed. The ledger cannot be checked before the root is open,
// so this only words the error.
func explainRestore(ctx context.Context, store Store, opts Options, failure error) error {
	if opts.Ledger == nil {
		return failure
	}
	tree, _, err := store.Tree(ctx, defaultTree)
	if err != nil {
		return failure
	}
	entries, err := opts.Ledger.Read(ctx, 0)
	if err != nil {
		return failure
	}
	for i := range entries {
		if e := &entries[i]; e.Kind == LedgerErased && e.Epoch == tree.ActiveEpoch {
			return fmt.Errorf("lethe: this backup is of epoch %d, whose KMS handle was destroyed on %s: nobody can open it any more; use a later backup: %w",
				e.Epoch, unixTime(e.Time).Format("2006-01-02"), failure)
		}
	}
	return failure
}
