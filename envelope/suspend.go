package envelope

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Sentinel errors of suspensions, to be tested with errors.Is.
var (
	// ErrSuspended says that the subject, or this purpose of it, is suspended, or waits to be
	// forgotten: nothing is opened or sealed for it, and its keys are kept.
	ErrSuspended = errors.New("lethe: suspended")
	// ErrNotSuspended is returned by Resume for what is not suspended.
	ErrNotSuspended = errors.New("lethe: not suspended")

	errUnchanged = errors.New("envelope: the ledger says so already")
)

// Suspend stops all use of the subject's keys until Resume: whatever is opened or
// sealed for it, tokens under its own key included, gives ErrSuspended. Tokens that are
// made with a tenant's key (tokenize.ScopeTenant) go on: nothing about them is the
// subject's, and who asks for them need not say whose they are. Unlike Forget it destroys
// nothing. It holds in this process when it returns, in others after at most
// Options.CacheTTL, and across restarts and restores, since the ledger records it;
// the store need not answer. Calls under way when it returns may still finish.
//
// It is idempotent. ErrForgotten: the subject is forgotten already. A suspension
// outlasts a Forget and a Readmit. RewrapRecords, RewrapKEK and CloseEpoch go on.
func (k *Keyring) Suspend(ctx context.Context, s Subject) error {
	return k.suspend(ctx, s, 0)
}

// SuspendPurpose is Suspend for one purpose of the subject, its token keys
// included: a consent withdrawn that may be given again.
func (k *Keyring) SuspendPurpose(ctx context.Context, s Subject, purpose string) error {
	if strings.HasPrefix(purpose, "\x00") {
		return errReserved
	}
	pid, err := k.ensurePurpose(ctx, purpose)
	if err != nil {
		return err
	}
	return k.suspend(ctx, s, pid)
}

func (k *Keyring) suspend(ctx context.Context, s Subject, pid PID) error {
	e := &LedgerEntry{Kind: LedgerSuspend, PID: pid}
	return unlessUnchanged(k.restrain(ctx, s, e, func(r *restraint, _ int64) error {
		if k.led.forbids(e.SRef, pid) {
			return fmt.Errorf("%w already, for good: there is nothing to suspend", ErrForgotten)
		}
		if r != nil {
			if _, already := r.suspended[pid]; already {
				return errUnchanged
			}
		}
		return nil
	}))
}

// Resume ends a Suspend of the whole subject, and only that: purposes that were
// suspended one by one stay so. Others follow after at most Options.CacheTTL.
//
// ErrNotSuspended: it is not suspended. ErrSuspended: it waits to be forgotten,
// and nothing was changed; Unforget ends that, while it can be undone.
func (k *Keyring) Resume(ctx context.Context, s Subject) error {
	return k.resume(ctx, s, 0)
}

// ResumePurpose is Resume for a SuspendPurpose. It does not lift a Suspend of the
// whole subject.
func (k *Keyring) ResumePurpose(ctx context.Context, s Subject, purpose string) error {
	if _, ok := k.purposeID(purpose); !ok { // another process may have made it
		if err := k.readPurposes(ctx); err != nil {
			return err
		}
	}
	return k.resume(ctx, s, k.pidOf(purpose))
}

func (k *Keyring) resume(ctx context.Context, s Subject, pid PID) error {
	return k.restrain(ctx, s, &LedgerEntry{Kind: LedgerResume, PID: pid}, func(r *restraint, _ int64) error {
		if w, waits := r.waits(pid); waits {
			return fmt.Errorf("%w by ledger entry %d, which asks for a forget: Unforget it first, if it can be undone", ErrSuspended, w.seq)
		}
		if r == nil {
			return ErrNotSuspended
		}
		if _, ok := r.suspended[pid]; !ok {
			return ErrNotSuspended
		}
		return nil
	})
}

func unlessUnchanged(err error) error {
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

// withoutSuspended leaves out the keys that are suspended; ErrSuspended if no other
// is left.
func (k *Keyring) withoutSuspended(sref SRef, rows []KeyRow) ([]KeyRow, error) {
	var out []KeyRow
	for i := range rows {
		name, _ := k.purposeName(rows[i].PID)
		if !k.suspended(party{refVersion, sref}, name) {
			out = append(out, rows[i])
		}
	}
	if len(out) == 0 && len(rows) > 0 {
		return nil, ErrSuspended
	}
	return out, nil
}
