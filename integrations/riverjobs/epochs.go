package riverjobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"github.com/lethe-go/lethe/envelope"
)

// EpochArgs is a look at the epochs of a key store: see [Epochs]. There is one at a
// time.
type EpochArgs struct{}

// Kind implements river.JobArgs.
func (EpochArgs) Kind() string { return "lethe_epochs" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (EpochArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: unfinished()}}
}

// PeriodicEpochs inserts EpochArgs every so often, and when a client starts: each is
// a look at what is due, so every few minutes does for epochs of a day.
func PeriodicEpochs(every time.Duration) *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(every), func() (river.JobArgs, *river.InsertOpts) {
		return EpochArgs{}, nil
	}, &river.PeriodicJobOpts{ID: EpochArgs{}.Kind(), RunOnStart: true})
}

// EpochOptions of Epochs. Functions may be nil.
type EpochOptions struct {
	// Timeout is what one look, with a close in it, may take. An hour by default.
	Timeout time.Duration
	// Forgotten is told of the deferred forgets that were carried out, whose receipts
	// are not handed out again. It must not fail.
	Forgotten func([]envelope.Receipt)
	// Closed is told of an epoch that was closed.
	Closed func(envelope.Closed)
}

// Epochs does once, as a job, what envelope.Keyring.RunEpochs does for ever: it
// carries out the deferred forgets that are due, closes the epoch if it is as old as
// the keyring's Options.Epochs.Every and something was forgotten in it, and destroys
// the handles whose Window has passed. Use one of the two. Everything is idempotent,
// so errors are retried as River does by default.
type Epochs struct {
	river.WorkerDefaults[EpochArgs]

	ring *envelope.Keyring
	opts EpochOptions
}

// NewEpochs returns the worker: register it with river.AddWorker.
func NewEpochs(ring *envelope.Keyring, o EpochOptions) *Epochs {
	if o.Timeout <= 0 {
		o.Timeout = time.Hour
	}
	return &Epochs{ring: ring, opts: o}
}

// Timeout implements river.Worker.
func (e *Epochs) Timeout(*river.Job[EpochArgs]) time.Duration { return e.opts.Timeout }

// Work implements river.Worker. What fails does not keep the rest from being done.
func (e *Epochs) Work(ctx context.Context, _ *river.Job[EpochArgs]) error {
	receipts, forgetErr := e.ring.ForgetDue(ctx)
	if len(receipts) > 0 && e.opts.Forgotten != nil {
		e.opts.Forgotten(receipts)
	}
	closeErr := e.close(ctx)
	_, eraseErr := e.ring.EraseDue(ctx)
	return errors.Join(
		wrap("the deferred forgets", forgetErr),
		wrap("the close of the epoch", closeErr),
		wrap("the erasure of handles", eraseErr),
	)
}

func (e *Epochs) close(ctx context.Context) error {
	status, err := e.ring.Status(ctx)
	if err != nil || !status.Overdue {
		return err
	}
	closed, err := e.ring.CloseEpoch(ctx, envelope.CloseOptions{})
	switch {
	case errors.Is(err, envelope.ErrLeased): // another process is at it
		return nil
	case err == nil && e.opts.Closed != nil:
		e.opts.Closed(closed)
	}
	return err
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("riverjobs: %s: %w", what, err)
}
