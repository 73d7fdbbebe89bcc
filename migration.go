package lethe

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// MaxMigration is how far ahead [Migration].Until may be.
const MaxMigration = 90 * 24 * time.Hour

// Migration lets one field be read from its plaintext column, tagged plain=, while
// rows are moved to the sealed one. It is a mode for a while: [Sealer.MigrationStats]
// shows whether anything still needs it, and after Until the Sealer refuses to work
// with the column. Put an alert on Until: what calls the Sealer then fails.
//
// The order that loses nothing, each step everywhere before the next:
//
//  1. Add the sealed columns, and deploy with Keep: new rows have both columns, and
//     programs of the old version go on with the plaintext. From here on nothing
//     else may write the plaintext column alone.
//  2. Deploy without Keep, when nothing reads the plaintext column itself any more,
//     and run [Sealer.SealPlain] over all rows: what is plaintext is sealed, what is in
//     both is compared and the plaintext set to NULL, what differs is reported.
//  3. When PlainReads stays still, remove the field tagged plain= and drop its column.
//
// While it runs:
//
//   - A sealed column that is not NULL is what counts; the plaintext is read only
//     beside a sealed column that is NULL and was selected.
//   - Policy, Fields, Masks, suspension and forgetting hold for both alike. That
//     goes for the Secret: the field tagged plain= is the program's own, and has the
//     plaintext whoever it is of. Select it only for the Sealer.
//   - A forget does not erase a plaintext column. Erase it with the row, or set it
//     to NULL, before the person is readmitted: it would be read again.
//   - A row that is not moved yet has no blind index. Search the plaintext too:
//     WHERE email_idx IN (…) OR email_sealed IS NULL AND lower(email) = $2
//     with Match on what was found and opened, as always.
type Migration struct {
	// Until ends it: in the future when For is called, at most MaxMigration ahead.
	Until time.Time
	// Keep has Seal write the plaintext column as well, for readers that do not know
	// the sealed one yet. Without it Seal sets the column to NULL.
	Keep bool
}

// MigrationStat says how the migration of one field goes, for one Sealer and its
// Tenant views, since For.
type MigrationStat struct {
	Field       string    `json:"field"` // stable name
	Until       time.Time `json:"until"`
	Keep        bool      `json:"keep"`
	PlainReads  uint64    `json:"plain_reads"`  // values opened, or masked, from the plaintext column
	SealedReads uint64    `json:"sealed_reads"` // values opened, or masked, from the sealed column
	Backfilled  uint64    `json:"backfilled"`   // values sealed from the plaintext column, by SealPlain or Seal
}

// migrations are the modes of a Sealer's plaintext columns, by their place in
// plan.plains. Tenant views share them.
type migrations struct {
	now    func() time.Time
	fields []migrating
}

type migrating struct {
	Migration
	plainReads, sealedReads, backfilled atomic.Uint64
}

// MigrationStats returns how far the migration of each field with a plaintext
// column is; none has an empty result. It is cheap, and safe for concurrent use.
func (s *Sealer[T]) MigrationStats() []MigrationStat {
	if s.migrations == nil {
		return nil
	}
	out := make([]MigrationStat, len(s.plan.plains))
	for i := range out {
		m := &s.migrations.fields[i]
		out[i] = MigrationStat{
			Field: s.plan.fields[s.plan.plains[i].field].name, Until: m.Until, Keep: m.Keep,
			PlainReads: m.plainReads.Load(), SealedReads: m.sealedReads.Load(), Backfilled: m.backfilled.Load(),
		}
	}
	return out
}

// newMigrations checks that every plaintext column has a Migration, and every
// Migration a column; nil if there is none.
func newMigrations(p *plan, opts *Options) (*migrations, error) {
	all := maps.Clone(opts.Migrations)
	if len(p.plains) == 0 && len(all) == 0 {
		return nil, nil
	}
	m := &migrations{now: opts.Now, fields: make([]migrating, len(p.plains))}
	if m.now == nil {
		m.now = time.Now
	}
	now := m.now()
	var errs []error
	for i := range p.plains {
		name := p.fields[p.plains[i].field].name
		one, ok := all[name]
		delete(all, name)
		m.fields[i].Migration = one
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s: plain=%s needs an entry in Options.Migrations, which says until when", p.plains[i].label, name))
		case one.Until.IsZero():
			errs = append(errs, fmt.Errorf("%s: the Migration of %q needs Until", p.plains[i].label, name))
		case !one.Until.After(now):
			errs = append(errs, fmt.Errorf("%s: the Migration of %q ended at %s: %w", p.plains[i].label, name, one.Until.Format(time.RFC3339), errMigrationOver))
		case one.Until.After(now.Add(MaxMigration)):
			errs = append(errs, fmt.Errorf("%s: the Migration of %q may end %d days from now at the latest, not at %s", p.plains[i].label, name, MaxMigration/(24*time.Hour), one.Until.Format(time.RFC3339)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		errs = append(errs, fmt.Errorf("Options.Migrations has %q, which no field tagged plain= names", name))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("lethe: the migrations of %s are wrong:\n%w", p.typ, errors.Join(errs...))
	}
	return m, nil
}

// errMigrationOver says what to do with ErrMigrationOver.
var errMigrationOver = fmt.Errorf("%w: finish it with SealPlain and remove the field tagged plain=, or deploy with a later Until", ErrMigrationOver)

// over fails if a plaintext column would be touched after its Until. touched is nil
// for all of them.
func (s *core) over(touched []Decision) error {
	now := s.migrations.now()
	for i := range s.plan.plains {
		c := &s.plan.plains[i]
		if m := &s.migrations.fields[i]; !now.Before(m.Until) && (touched == nil || touched[c.field] != skip) {
			return fmt.Errorf("field %q, until %s: %w", s.plan.fields[c.field].name, m.Until.Format(time.RFC3339), errMigrationOver)
		}
	}
	return nil
}
