package envelope

import (
	"context"
	"errors"
	"time"
)

// EpochEvents are told what RunEpochs does, by the goroutine that runs it, which waits
// for them to return. Each may be nil.
type EpochEvents struct {
	Closed func(Closed) // an epoch was closed
	Failed func(error)  // a close, an erasure or a deferred forget failed; it is tried again
	// Forgot has the receipt of a deferred forget that came due; Asked says which
	// request it answers. It is called once for each, in the process that carried it
	// out; if that dies before, [Keyring.Receipt] makes it again from the ledger.
	Forgot func(Receipt)
}

// RunEpochs closes epochs when they are as old as Options.Epochs.Every and
// something was forgotten in them, destroys handles when their Window has passed,
// and carries out the deferred forgets that are due (ForgetDue), until ctx ends;
// then it returns nil. A service runs it in one line:
//
//	go ring.RunEpochs(ctx, envelope.EpochEvents{Failed: logIt})
//
// Any number of processes may run it for one store: one closes, the others look
// again later. It returns ErrClosed after Close.
func (k *Keyring) RunEpochs(ctx context.Context, events EpochEvents) error {
	wait, failures := time.Duration(0), 0
	for {
		if err := pause(ctx, wait); err != nil {
			return nil //nolint:nilerr // ctx ended, as announced
		}
		did, err := k.runEpoch(ctx, events.Forgot)
		switch {
		case errors.Is(err, ErrClosed):
			return err
		case ctx.Err() != nil:
			return nil //nolint:nilerr // ctx ended, as announced
		case errors.Is(err, ErrLeased):
			err = nil
		}
		if did != nil && events.Closed != nil {
			events.Closed(*did)
		}
		wait, failures = k.pollEvery(), failures+1
		if err == nil {
			failures = 0
			continue
		}
		wait = min(wait, time.Second<<min(failures, 10))
		if events.Failed != nil {
			events.Failed(err)
		}
	}
}

// pollEvery is how often RunEpochs looks: a twentieth of an epoch, a minute at
// most and 100 ms at least.
func (k *Keyring) pollEvery() time.Duration {
	return min(max(k.opts.Epochs.Every/20, 100*time.Millisecond), time.Minute)
}

// runEpoch does what is due now. A forget that fails does not keep an epoch open.
func (k *Keyring) runEpoch(ctx context.Context, forgot func(Receipt)) (*Closed, error) {
	receipts, due := k.ForgetDue(ctx)
	for i := range receipts {
		if forgot != nil {
			forgot(receipts[i])
		}
	}
	closed, err := k.closeDue(ctx)
	if err == nil {
		err = due
	}
	return closed, err
}

func (k *Keyring) closeDue(ctx context.Context) (*Closed, error) {
	st, err := k.Status(ctx)
	if err != nil {
		return nil, err
	}
	if !st.Overdue {
		_, err := k.EraseDue(ctx)
		return nil, err
	}
	out, err := k.CloseEpoch(ctx, CloseOptions{})
	if out.NoOp || err != nil && out.Took == 0 { // it did not come to the end
		return nil, err
	}
	return &out, err
}
