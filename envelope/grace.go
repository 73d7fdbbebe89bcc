package envelope

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// maxGrace keeps a grace period one that somebody will see the end of.
const maxGrace = 3660 * 24 * time.Hour

// ForgetAfter is Forget with a grace period, of up to ten years: the subject is
// suspended at once, so nothing opens, and forgotten by ForgetDue once grace has
// passed and no hold is in the way. Until then Unforget undoes it. The ledger
// records it, so that it survives restarts and restores.
//
// The receipt says Deferred. If a forget waits already, the earlier of the two
// counts; a Forget meanwhile forgets at once. Grace is kept in whole seconds.
func (k *Keyring) ForgetAfter(ctx context.Context, s Subject, grace time.Duration) (Receipt, error) {
	if grace <= 0 || grace > maxGrace {
		return Receipt{}, fmt.Errorf("envelope: a grace period of %v is not positive or is over ten years: to forget at once call Forget", grace)
	}
	if err := s.Validate(); err != nil {
		return Receipt{}, err
	}
	if k.closed.Load() {
		return Receipt{}, ErrClosed
	}
	ctx, cancel := k.bound(ctx, 2)
	defer cancel()
	if err := k.syncLedger(ctx); err != nil {
		return Receipt{}, err
	}
	p := k.party(s)
	now := k.ledgerTime()
	r, err := k.deferForget(ctx, p, 0, now+int64((grace+time.Second-1)/time.Second), false)
	k.uncache(s, 0)
	return r, err
}

// Unforget undoes a ForgetAfter whose grace has not passed: the subject is in use
// again as it was, here at once, elsewhere after at most Options.CacheTTL.
//
// ErrNotForgotten: no forget waits. ErrForgotten: it is forgotten, or the grace has
// passed, or a Forget was asked for that waits for a hold only; that is final.
func (k *Keyring) Unforget(ctx context.Context, s Subject) error {
	e := &LedgerEntry{Kind: LedgerForgetUndo}
	return k.restrain(ctx, s, e, func(r *restraint, now int64) error {
		var w waiting
		if r != nil {
			w = r.waiting[0]
		}
		switch {
		case w.seq == 0 && k.led.forbids(e.SRef, 0):
			return fmt.Errorf("%w: it cannot be undone any more", ErrForgotten)
		case w.seq == 0:
			return ErrNotForgotten
		case w.due <= now:
			return fmt.Errorf("%w by ledger entry %d: its grace has passed, or it had none; it is carried out as soon as no hold is in the way, and cannot be undone", ErrForgotten, w.seq)
		}
		return nil
	})
}

// ForgetDue carries out the forgets that were deferred, whose grace has passed and
// that no hold is in the way of, and returns their receipts; Asked says which
// request each answers. RunEpochs calls it. Any number of processes may call it: a
// forget happens once. An error leaves the others done and this one to the next
// call, also of one that died in between.
//
// It goes by this process's clock, and by the time of the ledger's last entry
// where the clock is behind that.
//
// The ledger knows pseudonyms only. So a [PseudonymResidue] runs here, again at every
// call until it succeeds, and another [Residue] does not: it is on the receipt as
// ResidualPending, and Status counts the forget among its Residues until somebody who
// knows the subject calls Forget again, which finds the keys gone and runs them all.
func (k *Keyring) ForgetDue(ctx context.Context) ([]Receipt, error) {
	if k.closed.Load() {
		return nil, ErrClosed
	}
	out, err := k.forgetWaiting(ctx, nil)
	if ctx.Err() != nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrLedger) {
		return out, err
	}
	return out, errors.Join(err, k.retryResidues(ctx))
}

// forgetWaiting carries out the forgets that are due: of all subjects, or of one,
// who is known by more than the pseudonym then.
func (k *Keyring) forgetWaiting(ctx context.Context, s *Subject) ([]Receipt, error) {
	if err := k.syncDue(ctx); err != nil {
		return nil, err
	}
	var only *party
	if s != nil {
		p := k.party(*s)
		only = &p
	}
	var out []Receipt
	var errs []error
	for _, w := range k.led.due(k.ledgerTime(), only) {
		r, err := k.forgetOne(ctx, w, s)
		if errors.Is(err, errNotDue) { // another process did it, or it was undone
			continue
		}
		if r.Seq != 0 {
			out = append(out, r)
		}
		if err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrLedger) {
			break
		}
	}
	return out, errors.Join(errs...)
}

// syncDue learns what other processes asked for, and completes in the store what
// one that died left.
func (k *Keyring) syncDue(ctx context.Context) error {
	ctx, cancel := k.bound(ctx, 4)
	defer cancel()
	if err := k.syncLedger(ctx); err != nil {
		return err
	}
	if k.led.settled() {
		return nil
	}
	return k.catchUp(ctx)
}

// forgetOne carries out one deferred forget, and that of a purpose's token keys
// with it: these wait by an entry of their own, so that none is left if the process
// dies in between.
func (k *Keyring) forgetOne(ctx context.Context, w waiting, s *Subject) (Receipt, error) {
	purpose, unnamed := k.nameOf(ctx, w.pid)
	if unnamed != nil && !errors.Is(unnamed, ErrKeyMissing) {
		return Receipt{}, unnamed
	}
	uncache := func() { k.uncacheParties(map[SRef]struct{}{w.sref: {}}) }
	r, err := k.forgetBy(ctx, w.sref, w.pid, &w, uncache)
	if err != nil {
		return r, err
	}
	if err := k.forgetTokensOf(ctx, w, uncache); err != nil {
		return r, err
	}
	var found []Residual
	var failed error
	switch {
	case !k.owesResidues(w.pid):
	case unnamed != nil: // the store was put back from before its first use
		failed = fmt.Errorf("lethe: the keys are gone, and what else must go with them is not: %w", unnamed)
	default:
		found, failed = k.settleResidues(ctx, forgotten{w.refVer, w.sref, w.pid}, purpose, s)
	}
	r, err = k.fill(ctx, r, w.sref)
	r.Residuals = append(r.Residuals, found...)
	return r, errors.Join(err, failed)
}

// forgetTokensOf forgets the token keys of the purpose that w is about, if there are any.
func (k *Keyring) forgetTokensOf(ctx context.Context, w waiting, uncache func()) error {
	if w.pid == 0 {
		return nil
	}
	if err := k.readPurposes(ctx); err != nil {
		return err
	}
	name, _ := k.purposeName(w.pid)
	pid, used := k.purposeID(tokenPurpose + name)
	if !used || k.led.forbids(w.sref, pid) {
		return nil
	}
	k.led.mu.RLock()
	var asked *waiting // nil: made elsewhere since, by a process that did not know
	if r := k.led.restraints[w.party]; r != nil {
		if own, waits := r.waiting[pid]; waits {
			asked = &own
		}
	}
	k.led.mu.RUnlock()
	_, err := k.forgetBy(ctx, w.sref, pid, asked, uncache)
	if errors.Is(err, errNotDue) { // done by another process
		return nil
	}
	return err
}

// ledgerAhead is how far the ledger's last entry is dated ahead of the clock.
func (k *Keyring) ledgerAhead() time.Duration {
	k.led.mu.RLock()
	defer k.led.mu.RUnlock()
	seconds := min(k.led.time-k.now().Unix(), int64(math.MaxInt64/time.Second)) // 292 years
	return max(time.Duration(seconds)*time.Second, 0)
}

// ledgerTime is the time that holds and grace periods are judged by. It does not go
// back when a clock does.
func (k *Keyring) ledgerTime() int64 {
	k.led.mu.RLock()
	defer k.led.mu.RUnlock()
	return max(k.now().Unix(), k.led.time)
}
