package riverjobs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/riverqueue/river"

	"github.com/lethe-go/lethe/integrations/migrate"
)

// DefaultSlice is how long a job works before it gives way to others.
const DefaultSlice = 30 * time.Second

// Options of a Worker.
type Options struct {
	// Tables are those that jobs may be inserted for. One with a TenantColumn and an
	// empty Tenant serves every tenant that Args name.
	Tables []migrate.Table
	// Job are the options of every job; its Name and Restart must be unset.
	Job migrate.Options
	// Slice is how long a job works before it gives way to others in the queue, and
	// about how long Client.Stop waits for it. DefaultSlice by default.
	Slice time.Duration
	// Pause is how long it then waits at least; nothing by default.
	Pause time.Duration
	// Progress, if not nil, is called after every batch, by several jobs at once.
	Progress func(Args, migrate.Progress)
	// Done, if not nil, is called when a job has nothing left to do: its Report lists
	// the rows that failed, which are no error. What it returns is.
	Done func(context.Context, Args, migrate.Report) error
}

// Worker runs migrate's jobs as River's: register it with river.AddWorker.
//
// A job that another process is running waits for the end of its lease. One that
// ends with an error that passes by itself (see [migrate.Retryable]) is retried,
// first after seconds, later every five minutes; any other error cancels the job:
// insert it again when what it says is mended, and it goes on from its checkpoint.
// The output of a job is its migrate.Progress.
type Worker struct {
	river.WorkerDefaults[Args]

	opts Options
}

// NewWorker checks the options, and not yet the tables, which each job does.
func NewWorker(o Options) (*Worker, error) {
	var errs []error
	if len(o.Tables) == 0 {
		errs = append(errs, errors.New("Options.Tables is empty"))
	}
	seen := map[[2]string]bool{}
	for _, t := range o.Tables {
		if seen[[2]string{t.Name, t.Tenant}] {
			errs = append(errs, fmt.Errorf("Options.Tables has %q twice", t.Name))
		}
		seen[[2]string{t.Name, t.Tenant}] = true
	}
	if o.Job.Name != "" || o.Job.Restart {
		errs = append(errs, errors.New("Options.Job.Name and Restart are one job's, and cannot be set for all"))
	}
	if o.Slice == 0 {
		o.Slice = DefaultSlice
	}
	if o.Slice < 0 || o.Pause < 0 {
		errs = append(errs, errors.New("Options.Slice and Pause must not be negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("riverjobs: %w", err)
	}
	return &Worker{opts: o}, nil
}

// Timeout implements river.Worker: a slice, with the outages it waits for, and a minute.
func (w *Worker) Timeout(*river.Job[Args]) time.Duration {
	patience := w.opts.Job.Patience
	if patience == 0 {
		patience = migrate.DefaultPatience
	}
	return w.opts.Slice + max(0, patience) + time.Minute
}

// NextRetry implements river.Worker: after 2, 4, 8 seconds, at most 5 minutes, and
// up to as much again.
func (w *Worker) NextRetry(job *river.Job[Args]) time.Time {
	wait := min(5*time.Minute, time.Second<<min(max(len(job.Errors)+1, 1), 20))
	return time.Now().Add(wait + rand.N(wait)) //nolint:gosec // no secret
}

// Work implements river.Worker.
func (w *Worker) Work(ctx context.Context, job *river.Job[Args]) error {
	kind, table, err := job.Args.find(w.opts.Tables)
	if err != nil {
		return river.JobCancel(err)
	}
	run, err := migrate.NewJob(ctx, kind, table, w.opts.Job)
	if err != nil {
		return w.outcome(ctx, err)
	}
	began := time.Now()
	var last migrate.Progress
	for p, err := range run.Batches(ctx) {
		last = p
		if err != nil {
			return w.outcome(ctx, err)
		}
		if w.opts.Progress != nil {
			w.opts.Progress(job.Args, p)
		}
		if !p.Done && time.Since(began) >= w.opts.Slice {
			break
		}
	}
	if !last.Done {
		if err := w.finished(ctx, kind, table, run.Name(), &last); err != nil {
			return w.outcome(ctx, err)
		}
	}
	if err := river.RecordOutput(ctx, last); err != nil {
		return err
	}
	if !last.Done {
		return river.JobSnooze(w.opts.Pause)
	}
	if w.opts.Done != nil {
		return w.opts.Done(ctx, job.Args, migrate.Report{Progress: last, Failures: run.Failures()})
	}
	return nil
}

// finished looks whether the job came to its end while its last turn was being
// broken off: then it would begin anew.
func (w *Worker) finished(ctx context.Context, kind migrate.Kind, table migrate.Table, name string, p *migrate.Progress) error {
	all, err := migrate.Status(ctx, table.DB, table.Dialect)
	if err != nil {
		return err
	}
	passes := w.opts.Job.Passes
	if passes == 0 {
		passes = migrate.DefaultPasses
	}
	for _, s := range all {
		// In its last pass it may have ended with ErrNotDone: then let it begin anew.
		if s.Name == name && s.Done && (kind == migrate.Reseal || s.Pass < passes) {
			p.Done, p.Pass, p.All = true, s.Pass, s.All
		}
	}
	return nil
}

// outcome is what River is told of an error.
func (w *Worker) outcome(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil: // stopped, cancelled or out of time: River knows which
		return context.Cause(ctx)
	case errors.Is(err, migrate.ErrRunning):
		lease := w.opts.Job.Lease
		if lease == 0 {
			lease = migrate.DefaultLease
		}
		return river.JobSnooze(lease)
	case migrate.Retryable(err):
		return err
	default:
		return river.JobCancel(err)
	}
}
