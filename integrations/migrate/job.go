package migrate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/lethe-go/lethe"
)

// Defaults of Options.
const (
	DefaultRate     = 2000
	DefaultLease    = 30 * time.Second
	DefaultPatience = time.Minute
	DefaultPasses   = 10
	DefaultRetries  = 10
	DefaultFailures = 100
	// Unlimited is no limit: Options.Rate.
	Unlimited = -1
)

// Options of a job. The zero value of each field means its default.
type Options struct {
	// Name is the job's in the table lethe_job, and what makes it one job: two
	// processes with one name do not run at once, and one goes on where the other
	// stopped. "rewrap customers" by default, with the tenant behind it if there is one.
	Name string
	// Workers read, change and write pages at once. GOMAXPROCS, 8 at most, by default.
	Workers int
	// BatchSize is how many rows are read and written at once: at most 1000 on
	// PostgreSQL and 100 on SQLite by default, which has one writer, and no more than
	// a tenth of Rate.
	BatchSize int
	// Rate is how many rows are written a second; rows that are only read go by at ten
	// times the rate. DefaultRate by default; Unlimited for none.
	Rate int
	// Lease is how long the job stays this process's after it was killed. 1 s at
	// least; DefaultLease by default.
	Lease time.Duration
	// Patience is how long an outage of the database, the key store or the KMS is
	// waited for before the job stops. DefaultPatience by default; negative: not at all.
	Patience time.Duration
	// Passes is how often the table is gone through at most until a pass finds
	// nothing to change. DefaultPasses by default.
	Passes int
	// Retries is how often a row is done again that the service had changed in
	// between. DefaultRetries by default.
	Retries int
	// Failures is how many rows that failed are listed. DefaultFailures by default.
	Failures int
	// Restart begins from the first row, whatever an earlier process left.
	Restart bool
}

func (o *Options) setDefaults(t *Table, k Kind) error {
	var errs []error
	number := func(name string, n *int, byDefault int) {
		if *n == 0 {
			*n = byDefault
		}
		if *n < 1 {
			errs = append(errs, errors.New(name+" is not positive"))
		}
	}
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	if o.Rate < Unlimited {
		errs = append(errs, fmt.Errorf("Options.Rate %d is neither positive nor Unlimited", o.Rate))
	}
	size := 1000
	if t.Dialect == lethe.SQLite {
		size = 100
	}
	if o.Rate > 0 {
		size = max(1, min(size, o.Rate/10))
	}
	number("Options.BatchSize", &o.BatchSize, size)
	number("Options.Workers", &o.Workers, min(8, runtime.GOMAXPROCS(0)))
	number("Options.Passes", &o.Passes, DefaultPasses)
	number("Options.Retries", &o.Retries, DefaultRetries)
	number("Options.Failures", &o.Failures, DefaultFailures)
	if o.BatchSize > 10_000 {
		errs = append(errs, errors.New("Options.BatchSize is over 10000"))
	}
	if o.Lease == 0 {
		o.Lease = DefaultLease
	}
	if o.Lease < time.Second {
		errs = append(errs, fmt.Errorf("Options.Lease %v is under a second", o.Lease))
	}
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	if o.Name == "" {
		o.Name = k.String() + " " + t.Name
		if t.Tenant != "" {
			o.Name += " " + t.Tenant
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Job goes through a table and changes its rows. Run it, or drive it with Batches,
// by one goroutine at a time.
type Job struct {
	kind   Kind
	layout *layout
	opts   Options
	leases leases

	mu       sync.Mutex
	failures []RowError
}

// NewJob checks the table against the real one, and returns a job on it. The error
// lists all mistakes at once. Nothing is written before the job is run.
func NewJob(ctx context.Context, kind Kind, table Table, opts Options) (*Job, error) {
	if !kind.valid() {
		return nil, fmt.Errorf("migrate: %d is no kind of job", kind)
	}
	l, err := table.check(ctx, kind)
	if err != nil {
		return nil, err
	}
	if err := opts.setDefaults(&table, kind); err != nil {
		return nil, err
	}
	return &Job{kind: kind, layout: l, opts: opts, leases: leases{
		db: table.DB, pg: table.Dialect == lethe.Postgres, name: opts.Name, owner: rand.Text(), lease: opts.Lease,
	}}, nil
}

// Name returns the job's name in the table lethe_job.
func (j *Job) Name() string { return j.opts.Name }

// Failures lists the rows that failed in the last pass so far, the first
// Options.Failures of them. It may be called at any time.
func (j *Job) Failures() []RowError {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]RowError(nil), j.failures...)
}

func (j *Job) setFailures(all []RowError) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failures = all
}

// Run runs the job until it is done. progress, if not nil, is called after every
// batch. Rows that failed are no error of Run: see Report.Failures.
//
// After an error, or when ctx ends, what was committed stays, and the next run goes
// on from there. ErrRunning: another process has the job. ErrNotDone: rows still
// changed in the last of Options.Passes.
func (j *Job) Run(ctx context.Context, progress func(Progress)) (Report, error) {
	var last Progress
	for p, err := range j.Batches(ctx) {
		last = p
		if err != nil {
			return Report{last, j.Failures()}, err
		}
		if progress != nil {
			progress(p)
		}
	}
	return Report{last, j.Failures()}, nil
}
