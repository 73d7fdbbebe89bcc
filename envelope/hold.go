package envelope

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Sentinel errors of holds, to be tested with errors.Is.
var (
	// ErrNotHeld is returned by Release for a hold that is not there.
	ErrNotHeld = errors.New("lethe: not held")

	errHeld   = errors.New("envelope: held")
	errNotDue = errors.New("envelope: the forget does not wait any more, or is held again")
)

// Hold keeps the subject from being forgotten, a legal hold: until the hold has
// ended, Forget, ForgetPurpose and ForgetAfter destroy nothing. The forget is
// recorded, the subject suspended at once, and the receipt says Deferred; it is
// carried out by Release, or by ForgetDue once until has passed. A subject that is
// held and that nobody wants to forget is used as ever.
//
// A zero until means until Release; it is kept in whole seconds. reason is a code
// of 1 to 64 of the characters a-z A-Z 0-9 . _ - / : (the number of the case). It
// stands in the ledger in the clear, so nothing personal may be in it. A subject
// can be held for several reasons: the last hold to end counts. Hold for a reason
// that is there already replaces its until.
//
// ErrForgotten: the subject is forgotten already, and nothing is left to hold.
// Purposes that were forgotten before stay so. A hold ends by the clock of the
// process that looks, and by the ledger's last entry if that is later: keep clocks
// right. Against someone who can append to the ledger a hold is no protection.
func (k *Keyring) Hold(ctx context.Context, s Subject, until time.Time, reason string) error {
	if err := validReason(reason); err != nil {
		return err
	}
	e := &LedgerEntry{Kind: LedgerHold, Scope: reason}
	if !until.IsZero() {
		e.Until = until.Unix()
		if until.Nanosecond() > 0 {
			e.Until++
		}
	}
	return unlessUnchanged(k.restrain(ctx, s, e, func(r *restraint, now int64) error {
		switch {
		case !until.IsZero() && e.Until <= now:
			return fmt.Errorf("envelope: a hold until %s has passed already", until.UTC().Format(time.RFC3339))
		case k.led.forbids(e.SRef, 0):
			return fmt.Errorf("%w already, for good: there is nothing left to hold", ErrForgotten)
		}
		if r != nil {
			if end, already := r.holds[reason]; already && end == e.Until {
				return errUnchanged
			}
		}
		return nil
	}))
}

// Release ends the subject's hold for a reason and, if that was the last, carries
// out the forgets it deferred that are due, with every [Residue]; the receipts are
// theirs. ErrNotHeld:
// there is no such hold. After another error the release may be recorded and a
// forget not carried out: ForgetDue does what is left.
func (k *Keyring) Release(ctx context.Context, s Subject, reason string) ([]Receipt, error) {
	if err := validReason(reason); err != nil {
		return nil, err
	}
	err := k.restrain(ctx, s, &LedgerEntry{Kind: LedgerRelease, Scope: reason}, func(r *restraint, _ int64) error {
		if r == nil {
			return ErrNotHeld
		}
		if _, ok := r.holds[reason]; !ok {
			return ErrNotHeld
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return k.forgetWaiting(ctx, &s)
}

func validReason(reason string) error {
	if len(reason) == 0 || len(reason) > 64 {
		return fmt.Errorf("envelope: the reason of a hold is %d bytes, 1 to 64 are allowed", len(reason))
	}
	for _, c := range []byte(reason) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '.', c == '_', c == '-', c == '/', c == ':':
		default:
			return errors.New("envelope: the reason of a hold is a code of the characters a-z A-Z 0-9 . _ - / : only")
		}
	}
	return nil
}

// commitForget appends the entry that commits a forget, or the one that defers it
// where the subject is held: no hold can come between the look and the entry.
func (k *Keyring) commitForget(ctx context.Context, e *LedgerEntry, asked *waiting) (*Receipt, error) {
	p := party{e.RefVer, e.SRef}
	for range loadAttempts {
		err := k.appendLedgerIf(ctx, e, func() error {
			r, now := k.restraintNow(p)
			_, _, held := r.heldUntil(now)
			switch {
			case asked == nil && held:
				return errHeld
			case asked != nil && (held || r == nil || r.waiting[asked.pid].seq != asked.seq || asked.due > now):
				return errNotDue
			}
			return nil
		})
		if !errors.Is(err, errHeld) {
			return nil, err
		}
		receipt, err := k.deferForget(ctx, p, e.PID, 0, true)
		if !errors.Is(err, ErrNotHeld) {
			return &receipt, err
		}
	}
	return nil, fmt.Errorf("lethe: the subject's holds keep changing: %w", ErrUnavailable)
}

// deferForget records a forget that is due at a time (0: at once). With whileHeld
// it does so only if the subject is held; ErrNotHeld otherwise. The earlier of two
// forgets that wait counts.
func (k *Keyring) deferForget(ctx context.Context, p party, pid PID, due int64, whileHeld bool) (Receipt, error) {
	e := &LedgerEntry{Kind: LedgerForgetLater, Tree: k.tree, RefVer: p.refVer, SRef: p.sref, PID: pid, Until: due}
	out := Receipt{Store: k.id, Tree: k.tree, Deferred: true}
	err := k.appendLedgerIf(ctx, e, func() error {
		r, now := k.restraintNow(p)
		until, forever, held := r.heldUntil(now)
		if whileHeld && !held {
			return ErrNotHeld
		}
		if k.led.forbids(p.sref, pid) {
			out.Seq = k.led.forgotBy(p, pid)
			return ErrForgotten
		}
		at := due
		w, waits := r.waits(pid)
		if waits && w.due <= due {
			at, out.Seq, out.Already = w.due, w.seq, true
		}
		if !forever {
			out.Due = unixTime(max(at, until))
		}
		if out.Already {
			return errUnchanged
		}
		return nil
	})
	switch {
	case errors.Is(err, ErrForgotten):
		return Receipt{Store: k.id, Tree: k.tree, Seq: out.Seq, Already: true}, nil
	case errors.Is(err, errUnchanged):
		return out, nil
	case err != nil:
		return Receipt{}, err
	}
	out.Seq, out.Time = e.Seq, unixTime(e.Time)
	return out, nil
}
