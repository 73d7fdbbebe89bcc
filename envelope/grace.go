package envelope

import (
	"context"
	"errors"
	"fmt"
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
// request each answers: two answer one for a purpose that has token keys, whose
// forget is an entry of its own. RunEpochs calls it. Any number of processes may call it: a
// forget happens once. An error leaves the others done and this one to the next
// call, also of one that died in between.
//
// It goes by this process's clock, and by the time of the ledger's last entry
// where the clock is behind that. The ledger knows pseudonyms only, so what needs
// to know whose keys they were (a [Residue], say, that cleans up indexes by the
// subject's id) is left to who asked for the forget: call Forget once more when it
// is due. Receipts say so where there are residues.
func (k *Keyring) ForgetDue(ctx context.Context) ([]Receipt, error) {
	if k.closed.Load() {
		return nil, ErrClosed
	}
	return k.forgetWaiting(ctx, nil)
}

// forgetWaiting is ForgetDue for all subjects, or for one, whose residues run too.
func (k *Keyring) forgetWaiting(ctx context.Context, s *Subject) ([]Receipt, error) {
	var only *party
	if s != nil {
		p := k.party(*s)
		only = &p
	}
	if err := k.syncDue(ctx); err != nil {
		return nil, err
	}
	var out []Receipt
	var errs []error
	for _, w := range k.led.due(k.ledgerTime(), only) {
		receipts, err := k.forgetOne(ctx, w)
		if err == nil && len(receipts) > 0 {
			last := &receipts[len(receipts)-1]
			var found []Residual
			found, err = k.residuesOf(ctx, w, s)
			last.Residuals = append(last.Residuals, found...)
		}
		out = append(out, receipts...)
		if errors.Is(err, errNotDue) { // another process did it, or it was undone
			continue
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

// residuesOf runs the residues of a forget that was deferred, if it is known whose
// it is.
func (k *Keyring) residuesOf(ctx context.Context, w waiting, s *Subject) ([]Residual, error) {
	if s == nil {
		return k.residues.notRun(), nil
	}
	name, ok := k.purposeName(w.pid)
	if w.pid != 0 && !ok {
		return k.residues.notRun(), nil
	}
	return k.residues.forgotten(ctx, *s, name, w.pid == 0)
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

// forgetOne carries out one deferred forget. The token keys of a purpose go first:
// the forget of the purpose itself is what ends the waiting.
func (k *Keyring) forgetOne(ctx context.Context, w waiting) (out []Receipt, err error) {
	pids := []PID{w.pid}
	if w.pid != 0 {
		tokens, err := k.tokensOf(ctx, w.pid)
		if err != nil {
			return nil, err
		}
		if tokens != 0 && !k.led.forbids(w.sref, tokens) {
			pids = []PID{tokens, w.pid}
		}
	}
	for _, pid := range pids {
		r, err := k.forgetBy(ctx, w.sref, pid, &w, func() { k.uncacheParties(map[SRef]struct{}{w.sref: {}}) })
		if err == nil {
			var full Receipt
			if full, err = k.fill(ctx, r, w.sref); err == nil {
				full.Asked = r.Asked
				r = full
			}
		}
		if r.Seq != 0 {
			out = append(out, r)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// ledgerTime is the time that holds and grace periods are judged by. It does not go
// back when a clock does.
func (k *Keyring) ledgerTime() int64 {
	k.led.mu.RLock()
	defer k.led.mu.RUnlock()
	return max(k.now().Unix(), k.led.time)
}
