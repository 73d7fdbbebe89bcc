package riverjobs

import (
	"errors"
	"fmt"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/lethe-go/lethe/integrations/migrate"
)

// maxAttempts is high, since each outage in the life of a job counts, and jobs are
// retried every few minutes at most.
const maxAttempts = 1000

// Args say which job to run. There is one at a time with the same Args: to insert
// another while it waits or runs does nothing, afterwards it begins anew.
type Args struct {
	Job    string `json:"job"`   // a migrate.Kind: "rewrap", "backfill", …
	Table  string `json:"table"` // Name of one of Options.Tables
	Tenant string `json:"tenant,omitempty"`
}

// Kind implements river.JobArgs.
func (Args) Kind() string { return "lethe_migrate" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (Args) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: maxAttempts, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: unfinished()}}
}

// unfinished are the states of jobs that are still to be run.
func unfinished() []rivertype.JobState {
	return []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable,
		rivertype.JobStateRunning, rivertype.JobStateScheduled,
	}
}

// find returns what the Args mean.
func (a Args) find(tables []migrate.Table) (migrate.Kind, migrate.Table, error) {
	var errs []error
	kind := migrate.Kind(0)
	for k := migrate.Rewrap; k.String() != "unknown"; k++ {
		if k.String() == a.Job {
			kind = k
		}
	}
	if kind == 0 {
		errs = append(errs, fmt.Errorf("riverjobs: no kind of job is called %q", a.Job))
	}
	for _, t := range tables {
		if t.Name == a.Table && t.Tenant == a.Tenant {
			return kind, t, errors.Join(errs...)
		}
	}
	for _, t := range tables { // without a column all rows would be taken for the tenant's
		if t.Name == a.Table && t.Tenant == "" && t.TenantColumn != "" {
			t.Tenant = a.Tenant
			return kind, t, errors.Join(errs...)
		}
	}
	errs = append(errs, fmt.Errorf("riverjobs: Options.Tables has no table %q for this tenant", a.Table))
	return 0, migrate.Table{}, errors.Join(errs...)
}
