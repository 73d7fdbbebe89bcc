package migrate

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/lethe-go/lethe"
)

// Estimate is what a job would do, as a sample of the table says.
type Estimate struct {
	Rows      int64         `json:"rows"`      // in the table
	Sampled   int64         `json:"sampled"`   // of which so many were looked at
	Sample    Counts        `json:"sample"`    // and what the job would do with them
	Change    int64         `json:"change"`    // rows that the job would write
	Bytes     int64         `json:"bytes"`     // that it would write into their columns, without what the database adds
	Duration  time.Duration `json:"duration"`  // at the job's rate; with Unlimited 0, since nothing was written that would tell
	Estimated bool          `json:"estimated"` // Change and Bytes go by a sample
}

// String is one line.
func (e Estimate) String() string {
	s := fmt.Sprintf("%d rows, about %d to change, %d bytes to write", e.Rows, e.Change, e.Bytes)
	if e.Duration > 0 {
		s += ", about " + e.Duration.Round(time.Second).String()
	}
	return s
}

// sampleSize is how many rows Estimate looks at.
const sampleSize = 2000

// Estimate looks at up to 2000 rows from all over the table, and says what the job
// would do with all of them. It writes nothing: no row, no key, no checkpoint. For
// that, Rewrap and Reindex change rows in memory, Reseal and Backfill go by what the
// columns have, and whoever was forgotten counts as to be changed.
//
// To draw rows it reads the keys of all on SQLite, and on PostgreSQL a table of up
// to a million rows. Rows of one tenant in a shared table are the first ones.
func (j *Job) Estimate(ctx context.Context) (Estimate, error) {
	var e Estimate
	var err error
	if e.Rows, err = j.layout.count(ctx); err != nil {
		return e, err
	}
	keys, err := j.layout.sample(ctx, e.Rows)
	if err != nil || len(keys) == 0 {
		return e, err
	}
	var bytes int64
	for len(keys) > 0 {
		n := min(len(keys), j.opts.BatchSize)
		p, err := j.layout.again(ctx, keys[:n])
		if err != nil {
			return e, err
		}
		keys = keys[n:]
		out, size, err := j.try(ctx, p)
		if err != nil {
			return e, err
		}
		out.Seen = out.Changed + out.Unchanged + out.Unsealed + out.Forgotten + out.Suspended + out.Failed
		e.Sample.add(out)
		bytes += size
	}
	e.Sampled = e.Sample.Seen
	if e.Sampled == 0 {
		return e, nil
	}
	e.Estimated = e.Sampled < e.Rows
	part := float64(max(e.Rows, e.Sampled)) / float64(e.Sampled)
	e.Change = int64(part * float64(e.Sample.Changed))
	e.Bytes = int64(part * float64(bytes))
	if j.opts.Rate > 0 {
		reads := float64(e.Rows - e.Change)
		if j.kind.repeats() && e.Change > 0 {
			reads += float64(e.Rows) // the pass that finds nothing
		}
		e.Duration = time.Duration((float64(e.Change) + reads/10) / float64(j.opts.Rate) * float64(time.Second))
	}
	return e, nil
}

// try returns what the job would do with the rows of a page, and what it would write.
func (j *Job) try(ctx context.Context, p *page) (c Counts, size int64, err error) {
	var write []int
	if j.kind == Rewrap || j.kind == Reindex {
		out, err := j.kind.process(ctx, p)
		if err != nil {
			return c, 0, err
		}
		c, write = out.counts, out.write
	} else {
		c.Failed = int64(len(p.bad))
		for i := range p.len() {
			switch needs, sealed := j.needs(p, i); {
			case needs:
				write = append(write, i)
			case sealed:
				c.Unchanged++
			default:
				c.Unsealed++
			}
		}
	}
	c.Changed = int64(len(write))
	for _, i := range write {
		size += j.size(p, i)
	}
	return c, size, nil
}

// needs reports whether a row would be changed, by what its columns have, and
// whether it has Keys.
func (j *Job) needs(p *page, row int) (needs, sealed bool) {
	n := 0
	var plain, cells bool
	for i := range p.l.columns {
		c := &p.l.columns[i]
		if c.use&guards == 0 {
			continue
		}
		has := p.meta[row].raw[n] != nil
		n++
		switch {
		case c.field.Role == lethe.RoleKeys:
			sealed = has
		case c.field.Role == lethe.RolePlain:
			plain = plain || has
		case c.field.Role == lethe.RoleSecret && c.use&writes != 0:
			cells = cells || has
		}
	}
	switch j.kind {
	case Reseal:
		return sealed, sealed
	case Backfill:
		return plain, true
	default:
		return cells, true
	}
}

// overhead is what sealing adds to a value, and headerSize the Keys of one scope.
const (
	overhead   = 29
	headerSize = 110
)

// size is how many bytes the columns of a row that are written would have.
func (j *Job) size(p *page, row int) (size int64) {
	n := 0
	for i := range p.l.columns {
		c := &p.l.columns[i]
		if c.use&guards == 0 {
			continue
		}
		had := int64(0)
		switch v := p.meta[row].raw[n].(type) {
		case []byte:
			had = int64(len(v))
		case string:
			had = int64(len(v))
		case nil:
		default:
			had = 8
		}
		n++
		switch {
		case c.use&writes == 0, j.kind == Backfill && c.field.Role != lethe.RolePlain && c.field.Role != lethe.RoleKeys:
		case j.kind == Backfill && c.field.Role == lethe.RolePlain && had > 0:
			size += had + overhead
		case j.kind == Backfill && c.field.Role == lethe.RoleKeys:
			size += max(had, headerSize)
		case j.kind == Unseal && c.field.Role == lethe.RoleSecret:
			size += max(0, had-overhead)
		case j.kind == Unseal:
		default:
			size += had
		}
	}
	return size
}

// sample returns the keys of up to sampleSize rows.
func (l *layout) sample(ctx context.Context, rows int64) (keys [][]any, err error) {
	var names, where []string
	var args []any
	for i := range l.keys {
		out := "+" + l.keys[i].name
		if l.Dialect == lethe.Postgres {
			out = l.keys[i].pgOut("")
		}
		names = append(names, out)
	}
	if l.tenant != "" {
		where, args = append(where, l.tenantIs(1)), append(args, l.Tenant)
	}
	from, order := l.name, ""
	if l.Dialect == lethe.Postgres {
		from += " AS r"
	}
	switch {
	case rows <= sampleSize:
	case l.Dialect == lethe.SQLite:
		order = " ORDER BY random()"
	case l.tenant == "":
		method := "BERNOULLI" // rows at random: it reads the table
		if rows > 1_000_000 {
			method = "SYSTEM" // pages at random
		}
		from += fmt.Sprintf(" TABLESAMPLE %s (%.6f)", method, min(100, 150*float64(sampleSize)/float64(rows)))
	}
	query := fmt.Sprintf("SELECT %s FROM %s%s%s LIMIT %d", strings.Join(names, ", "), from, whereAll(where), order, sampleSize) //nolint:gosec // quoted names
	found, err := l.DB.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = found.Close() }()
	return scanKeys(found, len(l.keys))
}

func scanKeys(rows *sql.Rows, n int) (keys [][]any, err error) {
	for rows.Next() {
		key, dest := make([]any, n), make([]any, n)
		for i := range key {
			dest[i] = &key[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}
