package envelope

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lethe-go/lethe/kms"
)

// CloseOptions of one close. The zero value is the regular one.
type CloseOptions struct {
	// Immediate destroys the handles of all earlier epochs as soon as the close is
	// done, for one urgent forget: no earlier backup of the key store can be
	// restored from then on.
	Immediate bool
	// All gives every page a fresh key, not only those that lost a child. It also
	// kills key rows that somebody who writes the store hid from a forget. It reads
	// and writes every key: run it now and then, and after an intrusion.
	All bool
	// LeaveDamaged closes though rows do not open, and gives them up. Without it
	// they are an error, while a backup still has good copies.
	LeaveDamaged bool
	// Progress is called from time to time, by the goroutine that closes.
	Progress func(CloseProgress)
}

// CloseProgress says how far a close is.
type CloseProgress struct {
	Epoch uint64
	Step  string // "leaves", "inner pages", "check"
	Done  int    // pages
	Total int    // 0: unknown
}

// Closed says what a close did.
type Closed struct {
	Epoch       uint64 // the active epoch afterwards
	NoOp        bool   // nothing had been removed: there was nothing to close
	Pages, Keys int    // re-keyed, and wrapped anew
	Checked     int    // pages unwrapped before the old root was given up
	Dropped     int    // rows of forgotten keys that somebody had put back
	Damaged     []PageID
	DamagedKeys []KeyID
	Erasures    []Erasure // of handles of earlier epochs, as of now
	Took        time.Duration
}

// CloseEpoch makes the keys forgotten since the last close unreachable from
// backups: every page that lost a key gets a fresh one, up to the root, which is
// wrapped under a fresh KMS handle; the handles before it are destroyed Window
// later (see [EpochOptions], and [Keyring.EraseDue], which does that).
//
// The store stays in use: the work is done in small transactions, the tree is whole
// after each. It is idempotent, does nothing where nothing was removed, and may be
// interrupted at any point: the next call does what is left. The store stays under
// the KMS key it is under, if that is configured; [Keyring.RewrapKEK] moves it. Of several closers one
// wins; the others get ErrLeased, or ErrUnavailable if they were overtaken.
//
// A close that dies may leave a handle at the KMS that is in no ledger; see
// [Keyring.Handles].
//
// It returns ErrDecrypt or ErrKeyMissing if rows of the store were damaged,
// ErrUnavailable if the store or the KMS is away, ErrLedger if the ledger cannot
// be written. The old root stays the active one then.
func (k *Keyring) CloseEpoch(ctx context.Context, opts CloseOptions) (Closed, error) {
	return k.closeEpoch(ctx, closing{CloseOptions: opts})
}

// keyOfRoot is the configured KMS key that a root hangs on, or the first one: a
// process that prefers another key must not undo a RewrapKEK by the way.
func (k *Keyring) keyOfRoot(uri string) kms.Key {
	k.keyMu.RLock()
	defer k.keyMu.RUnlock()
	for _, key := range k.keys {
		if keyURI(key) == uri {
			return key
		}
	}
	return k.keys[0]
}

// closing is a close: on request, to move to another KMS key, or of a restore.
type closing struct {
	CloseOptions

	key   kms.Key // guarded; nil: the one the active root hangs on
	force bool    // also if nothing was removed
}

func (k *Keyring) closeEpoch(ctx context.Context, c closing) (out Closed, err error) {
	if k.closed.Load() {
		return out, ErrClosed
	}
	started := time.Now()
	k.closeMu.Lock()
	defer k.closeMu.Unlock()
	if err := k.catchUp(ctx); err != nil {
		return out, err
	}
	old, err := k.rootKey(ctx, true)
	if err != nil {
		return out, err
	}
	// After the root was read, so that the ledger knows that it was the active one.
	if err := k.completeSwitch(ctx); err != nil {
		return out, err
	}
	out.Epoch = old.epoch
	if c.key == nil {
		c.key = k.keyOfRoot(old.uri)
	}
	r := &rekeyer{k: k, old: old, opts: c.CloseOptions, out: &out, damaged: map[PageID]bool{}}
	survey, err := r.noteDirty(ctx)
	if err != nil {
		return out, err
	}
	broken := k.led.brokenOff(old.epoch)
	urgent := c.Immediate && len(k.led.pendingErasures()) > 0
	if survey.pending == 0 && !survey.unknown && !broken && !c.force && !c.All && !urgent {
		out.NoOp = true
		out.Erasures, err = k.EraseDue(ctx)
		out.Took = time.Since(started)
		return out, err
	}
	if err := r.renew(ctx, "begin"); err != nil {
		return out, err
	}
	defer func() {
		ctx, cancel := k.bound(context.WithoutCancel(ctx), 1)
		defer cancel()
		// Given back early; if that fails it runs out.
		_ = k.store.Claim(ctx, Lease{Tree: k.tree, Epoch: r.epoch, Step: "done", Owner: k.owner, Until: k.now()}, k.now())
	}()
	scope := ""
	switch {
	case c.All:
		scope = "all"
	case survey.unknown || broken:
		scope = "inner"
	}
	h, err := k.beginEpoch(ctx, r, c, scope)
	if err != nil {
		return out, err
	}
	if err := k.catchUp(ctx); err != nil { // so that what was forgotten until the beginning is gone from the store
		return out, err
	}
	if err := r.takeDirty(ctx); err != nil {
		return out, err
	}
	if err := r.rekey(ctx, scope); err != nil {
		return out, err
	}
	if err := r.verify(ctx); err != nil {
		return out, err
	}
	if err := r.switchRoot(ctx, h); err != nil {
		return out, err
	}
	out.Epoch = r.epoch
	if out.Erasures, err = k.EraseDue(ctx); err != nil {
		err = fmt.Errorf("lethe: the epoch is closed; a handle of an earlier one could not be destroyed yet: %w", err)
	}
	out.Took = time.Since(started)
	return out, err
}

// beginEpoch makes the new epoch's handle and records it, with a number that no
// other closer has, before anything is wrapped under it.
func (k *Keyring) beginEpoch(ctx context.Context, r *rekeyer, c closing, scope string) (rootHandle, error) {
	window := int64(k.opts.Epochs.window() / time.Second)
	if c.Immediate {
		window = 0
	}
	for range 10 {
		k.led.mu.RLock()
		r.epoch = max(k.led.begun, k.led.epoch, r.old.epoch) + 1
		k.led.mu.RUnlock()
		h, err := newHandle(ctx, c.key, k.id, r.epoch, k.opts)
		if err != nil {
			return h, err
		}
		if h.semantics == "" && r.old.semantics != "" && h.uri == r.old.uri {
			return h, fmt.Errorf("%w: the key store hangs on a handle of the KMS key %q, which is configured here without handles: what it wraps could not be destroyed, and might be with a handle; configure it as in the other processes", ErrWrongKey, h.uri)
		}
		e := &LedgerEntry{Kind: LedgerRootBegin, Tree: k.tree, Epoch: r.epoch, KMSHandle: h.handle, Window: window, Scope: scope}
		if h.semantics != "" {
			e.KMSURI, e.Semantics = h.uri, h.semantics
		}
		err = k.appendLedgerIf(ctx, e, func() error {
			k.led.mu.RLock()
			defer k.led.mu.RUnlock()
			if k.led.begun >= r.epoch {
				return errOvertaken
			}
			return nil
		})
		if !errors.Is(err, errOvertaken) {
			return h, err
		}
	}
	return rootHandle{}, errOvertaken
}

// rekey gives every page that needs it a fresh key.
func (r *rekeyer) rekey(ctx context.Context, scope string) error {
	k := r.k
	leaves := slices.Collect(maps.Keys(r.dirty))
	var inner [][]PageID // by level, from 1
	if scope != "" {
		err := r.scan(ctx, func(rows []PageRow) error {
			for i := range rows {
				p := &rows[i]
				if p.Level == 0 && r.opts.All {
					leaves = append(leaves, p.Page)
				}
				for p.Level > 0 && len(inner) < int(p.Level) {
					inner = append(inner, nil)
				}
				if p.Level > 0 {
					inner[p.Level-1] = append(inner[p.Level-1], p.Page)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	slices.Sort(leaves)
	leaves = slices.Compact(leaves)
	defer k.leaves.drop()
	rows, err := k.pagesOf(ctx, leaves)
	if err != nil {
		return err
	}
	var todo []PageID // most that ever were dirty have been re-keyed by earlier closes
	for i := range rows {
		if r.toRekey(&rows[i]) {
			todo = append(todo, rows[i].Page)
		}
	}
	if err := r.each(ctx, "leaves", todo, rekeyBatch, r.leaves); err != nil {
		return err
	}
	for _, level := range inner {
		if err := r.each(ctx, "inner pages", level, 4, r.nodes); err != nil {
			return err
		}
	}
	return r.inner(ctx, leaves)
}

// switchRoot draws the new root, wraps what hangs on the root under it, and makes
// it the active one, in one short transaction.
func (r *rekeyer) switchRoot(ctx context.Context, h rootHandle) error {
	k := r.k
	expires := k.clock.now() + int64(k.opts.CacheTTL)
	secret := newKey()
	defer clear(secret)
	row, err := wrapRoot(ctx, h, k.id, k.tree, r.epoch, k.opts, secret)
	if err != nil {
		return err
	}
	row.State = RootActive
	fresh := &rootKey{epoch: row.Epoch, uri: row.KMSURI, handle: row.KMSHandle, semantics: row.Semantics, suite: row.Suite, expires: expires}
	copy(fresh.commit[:], row.Commit)
	if fresh.aead, err = row.Suite.aead(secret); err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		rekey, err := r.planSwitch(ctx, fresh, row)
		if err == nil {
			err = k.store.Rekey(ctx, *rekey)
		}
		if err == nil || k.switchedTo(ctx, &row) {
			break
		}
		if attempt == 50 || !errors.Is(err, ErrStoreConflict) && !errors.Is(err, errStalePage) {
			return storeErr(err)
		}
		if err := r.still(ctx); err != nil {
			return err
		}
		if err := pause(ctx, time.Duration(attempt)*time.Millisecond); err != nil {
			return err
		}
	}
	// The switch has happened: the caller's cancellation no longer counts.
	ctx, cancel := k.bound(context.WithoutCancel(ctx), 4)
	defer cancel()
	k.leaves.drop()
	k.rootMu.Lock()
	k.root = fresh
	k.rootMu.Unlock()
	if err := k.appendLedger(ctx, &LedgerEntry{Kind: LedgerRootSwitch, Tree: k.tree, Epoch: row.Epoch, KMSHandle: row.KMSHandle, RootCommit: row.Commit}); err != nil {
		return err
	}
	if err := k.catchUp(ctx); err != nil {
		return err
	}
	return k.noteRetired(ctx)
}

// planSwitch wraps the keys of the pages that hang on the root under the new one.
func (r *rekeyer) planSwitch(ctx context.Context, fresh *rootKey, row RootRow) (*Rekey, error) {
	k := r.k
	rekey := &Rekey{Tree: k.tree, OldEpoch: r.old.epoch, Root: row, PageChildren: map[PageID]int{}, Seen: map[PageID][]byte{}}
	top, err := k.store.ChildPages(ctx, k.tree, 0)
	if err != nil {
		return nil, storeErr(err)
	}
	rekey.RootChildren = len(top)
	under := &pageKey{gen: r.old.epoch, suite: r.old.suite, aead: r.old.aead}
	for _, p := range top {
		key, err := r.childKey(&p, under)
		if errors.Is(err, errStalePage) && !r.opts.LeaveDamaged {
			return nil, err
		}
		if err != nil {
			if err := r.leave(p.Page, fmt.Errorf("%w: page %d does not open under the root", ErrDecrypt, p.Page)); err != nil {
				return nil, err
			}
			continue
		}
		rekey.Seen[p.Page] = p.Wrapped
		p.ParentGen = row.Epoch
		p.Wrapped = row.Suite.seal(fresh.aead, nil, key, p.appendAAD(nil, k.id))
		clear(key)
		rekey.Pages = append(rekey.Pages, p)
	}
	return rekey, nil
}

// noteRetired writes into the store when the handles of earlier epochs are to be
// destroyed: for people who look; the ledger decides.
func (k *Keyring) noteRetired(ctx context.Context) error {
	roots, err := k.store.Roots(ctx, k.tree)
	if err != nil {
		return storeErr(err)
	}
	var changed []RootRow
	for _, row := range roots {
		s, ok := k.led.epochOf(row.Epoch)
		if !ok || s.retired == 0 || row.State == RootActive {
			continue
		}
		next := row
		next.State, next.DestroyAfter, next.DestroyedAt = RootRetiring, unixTime(max(s.due, s.until)), unixTime(s.erased)
		if s.erased != 0 {
			next.State = RootDestroyed
		}
		if next.State != row.State || !next.DestroyAfter.Equal(row.DestroyAfter) || !next.DestroyedAt.Equal(row.DestroyedAt) {
			changed = append(changed, next)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return storeErr(k.store.UpdateRoots(ctx, changed))
}
