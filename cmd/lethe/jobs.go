package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/integrations/config"
	"github.com/lethe-go/lethe/integrations/migrate"
)

// jobFlags are those of every job over a table.
type jobFlags struct {
	Table        string `arg:"" predictor:"table" help:"Table, by its name in the configuration."`
	Tenant       string `placeholder:"TENANT" help:"Tenant whose rows they are, where there are any."`
	TenantColumn string `placeholder:"COLUMN" help:"Column that says whose a row is, where tenants share the table."`
	Rate         int    `placeholder:"ROWS" xor:"rate" help:"Rows written a second; 2000 if left out."`
	Unlimited    bool   `xor:"rate" help:"As fast as it goes: for a service that is stopped."`
	Workers      int    `placeholder:"N" help:"Pages worked on at once; one per CPU, up to 8, if left out."`
	Batch        int    `placeholder:"ROWS" help:"Rows read and written at once; at most 1000 on PostgreSQL, 100 on SQLite if left out."`
	Restart      bool   `help:"Begin from the first row. Without, a job that was stopped goes on where it was."`
	DryRun       bool   `help:"Look at a sample of the rows, say what would be done and how long it would take, and write nothing."`

	keep bool // plaintext columns stay filled
}

// jobResult is the answer of a job.
type jobResult struct {
	Job      string             `json:"job"`
	Table    string             `json:"table"`
	Done     bool               `json:"done"`
	Resumed  bool               `json:"resumed"`
	Passes   int                `json:"passes"`
	Last     migrate.Counts     `json:"last_pass"`
	All      migrate.Counts     `json:"all_passes"`
	Seconds  float64            `json:"seconds"`
	Rate     float64            `json:"rows_per_second"`
	Failures []rowFailure       `json:"failures"`           // the first 100
	Estimate *estimateResult    `json:"estimate,omitempty"` // of a dry run, which has no counts
	Receipts []envelope.Receipt `json:"receipts,omitempty"`
}

// estimateResult is what a dry run found.
type estimateResult struct {
	Rows    int64          `json:"rows"`
	Sampled int64          `json:"sampled"`
	Sample  migrate.Counts `json:"sample"`
	Change  int64          `json:"change"`
	Bytes   int64          `json:"bytes"`
	Seconds float64        `json:"seconds,omitempty"`
}

type rowFailure struct {
	Key   []string `json:"key"` // of the row, a text per column
	Error string   `json:"error"`
}

func (r *jobResult) text() string {
	if e := r.Estimate; e != nil {
		text := fmt.Sprintf("%s %s, not run: %d of %d rows were looked at; about %d are to be changed, %d bytes", r.Job, r.Table, e.Sampled, e.Rows, e.Change, e.Bytes)
		if e.Seconds > 0 {
			text += fmt.Sprintf(", in %v at this rate", time.Duration(e.Seconds*float64(time.Second)).Round(time.Second))
		}
		return text + "\n"
	}
	var b strings.Builder
	word := "stopped"
	if r.Done {
		word = "done"
	}
	if r.Resumed {
		word += " (resumed)"
	}
	fmt.Fprintf(&b, "%s %s: %s after %d passes in %.1f s, %.0f rows/s\n", r.Job, r.Table, word, r.Passes, r.Seconds, r.Rate)
	fmt.Fprintf(&b, "  changed %d", r.All.Changed)
	for _, c := range []struct {
		n    int64
		what string
	}{
		{r.Last.Unchanged, "needed nothing"}, {r.Last.Unsealed, "never sealed"}, {r.Last.Forgotten, "forgotten, left as they are"},
		{r.Last.Suspended, "suspended, left as they are"}, {r.Last.Failed, "failed, left as they are"}, {r.All.Raced, "done again, since the service had written"},
	} {
		if c.n > 0 {
			fmt.Fprintf(&b, "; %d %s", c.n, c.what)
		}
	}
	b.WriteString("\n")
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "  row (%s): %s\n", strings.Map(harmless, strings.Join(f.Key, ", ")), f.Error)
	}
	return b.String()
}

// rows seal and open the table's rows; with plain, with its plaintext columns too.
func rows(ring *envelope.Keyring, t config.Table, plain, keep bool) (*lethe.Rows, error) {
	typ, err := t.Type()
	var opts lethe.Options
	if plain {
		typ, err = t.MigrationType()
		// The program sets no end: it works on the columns while it runs, and reads
		// nothing for anybody.
		opts.Migrations = map[string]lethe.Migration{}
		for _, of := range t.PlainOf() {
			opts.Migrations[of] = lethe.Migration{Until: time.Now().Add(lethe.MaxMigration - time.Minute), Keep: keep}
		}
	}
	if err != nil {
		return nil, err
	}
	out, err := lethe.ForType(typ, ring, opts)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t.Name, err)
	}
	return out, nil
}

// job makes a job of a kind.
func (f *jobFlags) job(ctx context.Context, a *app, kind migrate.Kind) (*migrate.Job, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	t, err := cfg.Table(f.Table)
	if err != nil {
		return nil, err
	}
	if cfg.Database.IsZero() {
		return nil, errors.New("config: database is missing: set it in the file, or LETHE_DATABASE")
	}
	plain := kind == migrate.Backfill || kind == migrate.Unseal
	if plain && len(t.PlainOf()) == 0 {
		return nil, fmt.Errorf("config: table %s has no plaintext column: describe one with type: plain string and lethe: plain=FIELD", t.Name)
	}
	s, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	sealer, err := rows(s.Keyring, t, plain, f.keep)
	if err != nil {
		return nil, err
	}
	if !f.DryRun {
		if err := makeJobs(ctx, s.DB); err != nil {
			return nil, err
		}
	}
	if f.Rate < 0 {
		return nil, errors.New("--rate is not positive; --unlimited is for none")
	}
	if f.Unlimited {
		f.Rate = migrate.Unlimited
	}
	return migrate.NewJob(ctx, kind, migrate.Table{
		Name: t.SQL, Key: t.Key, DB: s.DB, Dialect: s.Dialect, Rows: sealer, Tenant: f.Tenant, TenantColumn: f.TenantColumn,
	}, migrate.Options{Workers: f.Workers, BatchSize: f.Batch, Rate: f.Rate, Restart: f.Restart})
}

// makeJobs makes the table that jobs keep their place in, unless it is there: who
// runs jobs need not be who may make tables.
func makeJobs(ctx context.Context, db *sql.DB) error {
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM lethe_job WHERE 1 = 0").Scan(&n); err == nil {
		return nil
	}
	return migrate.Migrate(ctx, db)
}

// run runs a job, and says how it ended.
func (f *jobFlags) run(ctx context.Context, a *app, kind migrate.Kind) (*jobResult, error) {
	job, err := f.job(ctx, a, kind)
	if err != nil {
		return nil, err
	}
	if f.DryRun {
		e, err := job.Estimate(ctx)
		if err != nil {
			return nil, err
		}
		return &jobResult{Job: kind.String(), Table: f.Table, Failures: []rowFailure{}, Estimate: &estimateResult{
			Rows: e.Rows, Sampled: e.Sampled, Sample: e.Sample, Change: e.Change, Bytes: e.Bytes, Seconds: seconds(e.Duration),
		}}, nil
	}
	p := newProgress(a)
	report, err := job.Run(ctx, func(at migrate.Progress) {
		p.show(fmt.Sprintf("%s %s, pass %d", at.Kind, at.Table, at.Pass), at.This.Seen, max(at.Total, at.This.Seen))
	})
	p.finish()
	if errors.Is(err, migrate.ErrRunning) {
		return nil, fmt.Errorf("%w: %w", envelope.ErrUnavailable, err)
	}
	res := &jobResult{
		Job: kind.String(), Table: f.Table, Done: err == nil, Resumed: report.Resumed, Passes: report.Pass, Last: report.This, All: report.All,
		Seconds: seconds(report.Elapsed), Rate: report.Rate, Failures: []rowFailure{},
	}
	for _, failure := range report.Failures {
		res.Failures = append(res.Failures, rowFailure{failure.Key(), strings.Map(harmless, a.hide(failure.Error()))})
	}
	if err == nil && report.This.Failed > 0 {
		err = partlyError{fmt.Errorf("%d rows were left as they are; the rest is done", report.This.Failed)}
	}
	if left := report.This.Forgotten; err == nil && kind == migrate.Backfill && left > 0 {
		err = partlyError{fmt.Errorf("%d rows of forgotten people still hold their plaintext: set it NULL, or delete the rows", left)}
	}
	if left := report.This.Suspended; err == nil && kind == migrate.Backfill && left > 0 {
		err = partlyError{fmt.Errorf("%d rows of suspended people still hold their plaintext: run it again after lethe resume", left)}
	}
	if errors.Is(err, migrate.ErrNotDone) {
		err = partlyError{err}
	}
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("stopped; the same command goes on from here: %w", err)
	}
	return res, err
}

// finish prints how a job ended, whatever its error.
func (r *jobResult) finish(out *output, err error) error {
	if r == nil {
		return err
	}
	return errors.Join(err, out.result(r, r.text()))
}

type rewrapCommand struct{ jobFlags }

// Run rewraps.
func (c *rewrapCommand) Run(ctx context.Context, a *app, out *output) error {
	res, err := c.run(ctx, a, migrate.Rewrap)
	return res.finish(out, err)
}

type resealCommand struct{ jobFlags }

// Run reseals.
func (c *resealCommand) Run(ctx context.Context, a *app, out *output) error {
	res, err := c.run(ctx, a, migrate.Reseal)
	return res.finish(out, err)
}

type reindexCommand struct {
	jobFlags
	Retire bool `help:"End the older versions of the index keys afterwards, if every row has been computed anew: values made with them match nothing from then on."`
}

// Run reindexes.
func (c *reindexCommand) Run(ctx context.Context, a *app, out *output) error {
	if c.Retire && !c.DryRun {
		if err := a.confirm("After the job this ends the older index keys of %s for good. Rows that a process still writes with them (until cache.ttl after the rotation) would not be found any more", c.Table); err != nil {
			return err
		}
	}
	res, err := c.run(ctx, a, migrate.Reindex)
	switch {
	case err != nil || !c.Retire || c.DryRun:
	case res.Last.Suspended > 0: // whose values would not be found once they are resumed
		err = partlyError{fmt.Errorf("the older index keys stay: %d rows of suspended people have values made with them; run it again after lethe resume, or when they are forgotten", res.Last.Suspended)}
	default:
		res.Receipts, err = c.retire(ctx, a)
	}
	err = res.finish(out, err)
	if res != nil && !out.json {
		for _, r := range res.Receipts {
			if err := out.result(nil, fmt.Sprintf("older index keys ended: %d, ledger entry %d\n", len(r.KeyIDs), r.Seq)); err != nil {
				return err
			}
		}
	}
	return err
}

func (c *reindexCommand) retire(ctx context.Context, a *app) ([]envelope.Receipt, error) {
	t, err := a.cfg.Table(c.Table)
	if err != nil {
		return nil, err
	}
	d, err := describe(t)
	if err != nil {
		return nil, err
	}
	var receipts []envelope.Receipt
	for _, index := range d.indexes() {
		r, err := a.stack.Keyring.RetireIndexKeys(ctx, c.Tenant, d.Record, index)
		if errors.Is(err, envelope.ErrKeyMissing) {
			continue // nothing was indexed
		}
		if err != nil {
			return receipts, err
		}
		receipts = append(receipts, r)
	}
	return receipts, nil
}

type backfillCommand struct {
	jobFlags
	Keep bool `help:"Leave the plaintext columns filled, for programs that still read them."`
}

// Run seals what is plaintext.
func (c *backfillCommand) Run(ctx context.Context, a *app, out *output) error {
	if !c.Keep && !c.DryRun {
		if err := a.confirm("This seals the plaintext columns of %s and makes them NULL: every program that reads them must know the sealed columns", c.Table); err != nil {
			return err
		}
	}
	c.keep = c.Keep
	res, err := c.run(ctx, a, migrate.Backfill)
	return res.finish(out, err)
}

type unsealCommand struct{ jobFlags }

// Run is the way out.
func (c *unsealCommand) Run(ctx context.Context, a *app, out *output) error {
	if !c.DryRun {
		if err := a.confirm("This writes the personal data of %s in plaintext, out of reach of any later forget", c.Table); err != nil {
			return err
		}
	}
	res, err := c.run(ctx, a, migrate.Unseal)
	return res.finish(out, err)
}
