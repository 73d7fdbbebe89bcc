package envelope

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lethe-go/lethe/kms"
)

// Erasure is what became of the KMS handle of an earlier epoch.
type Erasure struct {
	Epoch     uint64
	URI       string // of the KMS key the handle belongs to
	Handle    string
	Semantics string    // "": it cannot be erased
	Retired   time.Time // when a later root took its place
	Due       time.Time // when its destruction is ordered
	Ordered   time.Time // zero: not yet
	Until     time.Time // when the KMS will have done it; zero: unknown
	Destroyed time.Time // zero: not yet confirmed
	Err       error     // why it could not be destroyed now
}

func (s *epochState) erasure() Erasure {
	return Erasure{
		Epoch: s.epoch, URI: s.uri, Handle: s.handle, Semantics: s.semantics, Retired: unixTime(s.retired),
		Due: unixTime(s.due), Ordered: unixTime(s.ordered), Until: unixTime(s.until), Destroyed: unixTime(s.erased),
	}
}

// Handles lists the KMS handle of every epoch that the ledger knows, oldest first: the
// one in use, whose Retired is zero, and those of all earlier epochs, destroyed or not. It
// asks the ledger, not the KMS.
//
// A close makes a handle and then records it. If it dies in between, or cannot write
// the ledger, the handle stays at the KMS and in no list here. Nothing was wrapped under
// it, so it keeps nothing alive. A KMS that names its keys by label gives it to the next
// close, and where handles are versions of one key it goes with a later one: never
// destroy such a version by hand, since the earlier ones, among them the one in use, would
// go with it. Where each handle is a key, destroy by hand what the KMS lists and Handles
// does not (localkms: Key.Handles; elsewhere by label, which begins with the first 12
// hexadecimal digits of StoreID and a hyphen), while no epoch is being closed, and where no
// other key store shares the KMS key.
func (k *Keyring) Handles(ctx context.Context) ([]Erasure, error) {
	if k.closed.Load() {
		return nil, ErrClosed
	}
	ctx, cancel := k.bound(ctx, 1)
	defer cancel()
	if err := k.syncLedger(ctx); err != nil {
		return nil, err
	}
	k.led.mu.RLock()
	defer k.led.mu.RUnlock()
	out := make([]Erasure, 0, len(k.led.epochs))
	for _, s := range k.led.epochs {
		out = append(out, s.erasure())
	}
	slices.SortFunc(out, func(a, b Erasure) int { return cmp.Compare(a.Epoch, b.Epoch) })
	return out, nil
}

// EraseDue destroys the handles of earlier epochs whose time has come, and asks
// the KMS after those ordered before. It returns all that are not confirmed yet,
// and those confirmed now. A handle that the KMS refuses to destroy, destroys
// late, or revives, stays on the list with its Err; so does one that the KMS calls
// destroyed and that still unwraps. The error joins them.
//
// CloseEpoch calls it; call it also when the last Window has passed
// ([Keyring.RunEpochs] does). It is idempotent and safe for concurrent use.
func (k *Keyring) EraseDue(ctx context.Context) ([]Erasure, error) {
	if k.closed.Load() {
		return nil, ErrClosed
	}
	if err := k.syncLedger(ctx); err != nil {
		return nil, err
	}
	// A closer may have died between the switch and its entry. Nothing retires the
	// earlier handles then, and no close need be due.
	if err := k.completeSwitch(ctx); err != nil {
		return nil, err
	}
	var out []Erasure
	var errs []error
	for _, s := range k.led.pendingErasures() {
		if s.semantics != "" && (s.atOnce || k.now().Unix() >= s.due) {
			if err := k.erase(ctx, &s); err != nil {
				e := s.erasure()
				e.Err = fmt.Errorf("lethe: the handle %q of epoch %d is not destroyed: %w", s.handle, s.epoch, err)
				errs = append(errs, e.Err)
				out = append(out, e)
				continue
			}
			if now, ok := k.led.epochOf(s.epoch); ok {
				s = now
			}
		}
		if s.active == 0 && s.semantics == "" {
			continue // a close that never switched, under a key that is not made for it
		}
		out = append(out, s.erasure())
	}
	if len(out) > 0 {
		if err := k.catchUp(ctx); err != nil {
			return out, errors.Join(append(errs, err)...)
		}
		if err := k.noteRetired(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

// erase destroys one handle, or asks what became of it.
func (k *Keyring) erase(ctx context.Context, s *epochState) error {
	e, key, err := k.eraserFor(s.uri)
	if err != nil {
		return err
	}
	if later, ok := k.led.plainAfter(s, k.now().Unix()); ok {
		return fmt.Errorf("epoch %d hangs on the whole KMS key %q, which may have wrapped its root under this very handle: close an epoch with a handle, and wait until that one is due too", later, s.uri)
	}
	tree, rows, err := k.store.Tree(ctx, k.tree)
	if err != nil {
		return storeErr(err)
	}
	for i := range rows {
		// Never the one in use, whatever the ledger says.
		if row := &rows[i]; row.Epoch == tree.ActiveEpoch && row.KMSURI == s.uri && row.KMSHandle == s.handle || tree.ActiveEpoch <= s.epoch {
			return fmt.Errorf("%w: the key store is in epoch %d, whose root needs it", ErrLedger, tree.ActiveEpoch)
		}
	}
	var got kms.Erasure
	if s.ordered != 0 {
		if err := askKMS(ctx, k.opts, func(ctx context.Context) (err error) { got, err = e.Erasure(ctx, s.handle); return err }); err != nil {
			return kmsErr("say what became of it", err)
		}
	}
	revived := s.ordered != 0 && got.State == kms.HandleLive
	if s.ordered == 0 || revived {
		if err := askKMS(ctx, k.opts, func(ctx context.Context) (err error) { got, err = e.Destroy(ctx, s.handle); return err }); err != nil {
			return kmsErr("destroy it", err)
		}
	}
	var until int64
	if !got.At.IsZero() {
		until = got.At.Unix()
	}
	if s.ordered == 0 || until > s.until {
		if err := k.appendLedger(ctx, &LedgerEntry{Kind: LedgerErase, Tree: k.tree, Epoch: s.epoch, KMSHandle: s.handle, Until: until}); err != nil {
			return err
		}
	}
	switch got.State {
	case kms.HandleScheduled:
		return nil
	case kms.HandleDestroyed:
	default:
		return fmt.Errorf("the KMS took the order and the handle is still %v: look who revives it", got.State)
	}
	if _, err := k.checkDestroyed(ctx, key, s); err != nil {
		return err
	}
	return k.appendLedger(ctx, &LedgerEntry{Kind: LedgerErased, Tree: k.tree, Epoch: s.epoch, KMSHandle: s.handle})
}

// checkDestroyed tries to unwrap a root of the epoch: a KMS that still can has
// destroyed nothing. tried: there was one, and the KMS refused.
func (k *Keyring) checkDestroyed(ctx context.Context, key kms.Key, s *epochState) (tried bool, err error) {
	roots, err := k.store.Roots(ctx, k.tree)
	if err != nil {
		return false, storeErr(err)
	}
	for i := range roots {
		row := &roots[i]
		if row.Epoch != s.epoch || len(row.Wrapped) == 0 {
			continue
		}
		secret, err := k.handles.of(key, row, k.opts).DecryptWithContext(ctx, row.Wrapped, row.appendAAD(nil, k.id))
		clear(secret)
		switch {
		case err == nil:
			return true, errors.New("the KMS says that it is destroyed, and it still unwraps")
		case !errors.Is(err, kms.ErrRejected): // away, or not allowed: it says nothing of the handle
			return true, kmsErr("show that it no longer unwraps", err)
		}
		tried = true
	}
	return tried, nil
}

// eraserFor finds the configured key that a handle belongs to.
func (k *Keyring) eraserFor(uri string) (kms.Eraser, kms.Key, error) {
	k.keyMu.RLock()
	keys := k.keys
	k.keyMu.RUnlock()
	for _, key := range keys {
		if e, ok := eraserOf(key); ok && keyURI(key) == uri {
			return e, key, nil
		}
	}
	return nil, nil, fmt.Errorf("no KMS key %q is configured that could: give it in Options.MoreKeys", uri)
}

// ConfirmErased records that the KMS key of an earlier epoch was destroyed by
// hand, where it is none that Lethe can destroy in part: one that was in use
// before handles were. It tries to unwrap that epoch's root with every key configured,
// and refuses while one can. The destroyed key must be among them, in Options.MoreKeys:
// that other keys do not unwrap it says nothing. Nobody can check it further: receipts
// say who to ask.
func (k *Keyring) ConfirmErased(ctx context.Context, epoch uint64) error {
	return k.confirmErased(ctx, epoch, false)
}

// ConfirmErasedUnseen is ConfirmErased for a key that cannot be configured any more,
// or whose wrap of the root the key store does not have: nothing is tried with it, so
// whoever calls this vouches for the destruction. Keys that are configured are tried.
func (k *Keyring) ConfirmErasedUnseen(ctx context.Context, epoch uint64) error {
	return k.confirmErased(ctx, epoch, true)
}

func (k *Keyring) confirmErased(ctx context.Context, epoch uint64, unseen bool) error {
	if k.closed.Load() {
		return ErrClosed
	}
	if err := k.syncLedger(ctx); err != nil {
		return err
	}
	s, ok := k.led.epochOf(epoch)
	switch {
	case !ok || s.retired == 0:
		return fmt.Errorf("envelope: epoch %d is not one that a later root took the place of", epoch)
	case s.erased != 0:
		return nil
	case s.semantics != "":
		return fmt.Errorf("envelope: epoch %d has a handle that EraseDue destroys", epoch)
	}
	k.keyMu.RLock()
	keys := k.keys
	k.keyMu.RUnlock()
	seen := false
	for _, key := range keys {
		tried, err := k.checkDestroyed(ctx, key, &s)
		if err != nil {
			return fmt.Errorf("envelope: epoch %d: %w", epoch, err)
		}
		seen = seen || tried && keyURI(key) == s.handle
	}
	if !seen && !unseen {
		return fmt.Errorf("envelope: epoch %d: its root was not tried with the KMS key %q, since that is not configured or the key store has no such root any more: give the key in Options.MoreKeys or, if it cannot be had, call ConfirmErasedUnseen and vouch for it", epoch, s.handle)
	}
	if err := k.appendLedger(ctx, &LedgerEntry{Kind: LedgerErased, Tree: k.tree, Epoch: epoch, KMSHandle: s.handle}); err != nil {
		return err
	}
	if err := k.catchUp(ctx); err != nil {
		return err
	}
	return k.noteRetired(ctx)
}
