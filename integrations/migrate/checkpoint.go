package migrate

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/lethe-go/lethe"
)

// Jobs are rows of the table lethe_job, in the database of the table they are on:
// a batch and how far the job is are committed together.
const createJobs = `CREATE TABLE IF NOT EXISTS lethe_job (
	name TEXT NOT NULL PRIMARY KEY,
	owner TEXT NOT NULL,
	lease BIGINT NOT NULL,
	updated BIGINT NOT NULL,
	state TEXT NOT NULL
)`

// Migrate makes the table lethe_job, in which jobs keep how far they are. It has
// the primary key of one row per unfinished job, and of rows that failed, but none
// of their data. Call it once; it does nothing if the table is there.
func Migrate(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, createJobs); err != nil {
		return fmt.Errorf("migrate: making the table lethe_job: %w", err)
	}
	return nil
}

var (
	// ErrRunning means that another process runs the job, or ran it until a moment
	// ago: if it was killed, its lease ends within Options.Lease.
	ErrRunning = errors.New("migrate: another process runs this job")
	// ErrLeaseLost means that another process took the job over, since this one did
	// not renew its lease in time. Nothing it did afterwards was committed.
	ErrLeaseLost = errors.New("migrate: another process took this job over")
)

// state is what a job keeps between batches, and between processes.
type state struct {
	Kind     string       `json:"kind"`
	Table    string       `json:"table"`
	Tenant   string       `json:"tenant,omitempty"`
	Key      []string     `json:"key"`
	Done     bool         `json:"done"`
	Pass     int          `json:"pass"`
	Position []string     `json:"position,omitempty"` // the last row of the pass that is done; none: it begins
	Started  time.Time    `json:"started"`
	All      Counts       `json:"all"`                // of all passes
	This     Counts       `json:"pass_counts"`        // of this pass
	Failures []failureRow `json:"failures,omitempty"` // of this pass
	// Contended is whether a row of this pass was given up for others' writes.
	Contended bool `json:"contended,omitempty"`
}

type failureRow struct {
	Key   []string `json:"key"`
	Error string   `json:"error"`
}

// keyText writes a key so that it can be read back with its types.
func keyText(key []any) []string {
	out := make([]string, len(key))
	for i, v := range key {
		switch v := v.(type) {
		case int64:
			out[i] = "i" + strconv.FormatInt(v, 10)
		case float64:
			out[i] = "f" + strconv.FormatFloat(v, 'g', -1, 64)
		case []byte:
			out[i] = "b" + base64.StdEncoding.EncodeToString(v)
		case string:
			out[i] = "s" + v
			if !utf8.ValidString(v) { // JSON would change it; SQLite takes any bytes for text
				out[i] = "t" + base64.StdEncoding.EncodeToString([]byte(v))
			}
		case bool:
			out[i] = "i0"
			if v {
				out[i] = "i1"
			}
		}
	}
	return out
}

var errPosition = errors.New("migrate: the checkpoint in lethe_job is damaged; run the job with Options.Restart")

func parseKey(text []string, n int) ([]any, error) {
	if text == nil {
		return nil, nil
	}
	if len(text) != n {
		return nil, errPosition
	}
	out := make([]any, n)
	for i, s := range text {
		if s == "" {
			return nil, errPosition
		}
		var err error
		switch rest := s[1:]; s[0] {
		case 'i':
			out[i], err = strconv.ParseInt(rest, 10, 64)
		case 'f':
			out[i], err = strconv.ParseFloat(rest, 64)
		case 'b':
			out[i], err = base64.StdEncoding.DecodeString(rest)
		case 's':
			out[i] = rest
		case 't':
			var b []byte
			b, err = base64.StdEncoding.DecodeString(rest)
			out[i] = string(b)
		default:
			err = errPosition
		}
		if err != nil {
			return nil, errPosition
		}
	}
	return out, nil
}

// shown is a key column as the operator is shown it.
func shown(text []string) []string {
	out := make([]string, len(text))
	for i, s := range text {
		if s != "" {
			out[i] = s[1:]
		}
	}
	return out
}

// leases are the statements on a job's row.
type leases struct {
	db    *sql.DB
	pg    bool
	name  string
	owner string
	lease time.Duration
}

// now is the database's clock in Unix milliseconds, by which leases go.
func (l *leases) now() string {
	if l.pg {
		return "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
	}
	return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
}

// param is parameter n.
func (l *leases) param(n int) string {
	if l.pg {
		return "$" + strconv.Itoa(n)
	}
	return "?" + strconv.Itoa(n)
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// take takes the job, and returns what was kept of it, if anything.
func (l *leases) take(ctx context.Context) (kept string, err error) {
	insert := "INSERT INTO lethe_job (name, owner, lease, updated, state) VALUES (" + l.param(1) + ", '', 0, 0, '') ON CONFLICT (name) DO NOTHING" //nolint:gosec // parameters only
	if _, err := l.db.ExecContext(ctx, insert, l.name); err != nil {
		return "", fmt.Errorf("migrate: taking the job: %w (is there a table lethe_job? Migrate makes it)", err)
	}
	take := "UPDATE lethe_job SET owner = " + l.param(1) + ", lease = " + l.now() + " + " + l.param(2) + " WHERE name = " + l.param(3) + " AND (owner = '' OR lease < " + l.now() + ")"
	taken, err := one(l.db.ExecContext(ctx, take, l.owner, l.lease.Milliseconds(), l.name))
	if err != nil {
		return "", fmt.Errorf("migrate: taking the job: %w", err)
	}
	if !taken {
		return "", fmt.Errorf("%w (%q); its lease ends within %v after it stops", ErrRunning, l.name, l.lease)
	}
	err = l.db.QueryRowContext(ctx, "SELECT state FROM lethe_job WHERE name = "+l.param(1), l.name).Scan(&kept)
	return kept, err
}

// keep writes the state, if the job is still this process's.
func (l *leases) keep(ctx context.Context, on execer, s *state) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	query := "UPDATE lethe_job SET state = " + l.param(1) + ", lease = " + l.now() + " + " + l.param(2) + ", updated = " + l.now() + " WHERE name = " + l.param(3) + " AND owner = " + l.param(4)
	return l.mine(one(on.ExecContext(ctx, query, string(text), l.lease.Milliseconds(), l.name, l.owner)))
}

// renew extends the lease.
func (l *leases) renew(ctx context.Context) error {
	query := "UPDATE lethe_job SET lease = " + l.now() + " + " + l.param(1) + " WHERE name = " + l.param(2) + " AND owner = " + l.param(3)
	return l.mine(one(l.db.ExecContext(ctx, query, l.lease.Milliseconds(), l.name, l.owner)))
}

// leave gives the job back.
func (l *leases) leave(ctx context.Context) error {
	query := "UPDATE lethe_job SET owner = '', lease = 0 WHERE name = " + l.param(1) + " AND owner = " + l.param(2) //nolint:gosec // parameters only
	_, err := l.db.ExecContext(ctx, query, l.name, l.owner)
	return err
}

func (l *leases) mine(is bool, err error) error {
	if err == nil && !is {
		return ErrLeaseLost
	}
	return err
}

func one(r sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n == 1, err
}

// JobStatus is what the database knows of a job.
type JobStatus struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"`
	Table    string    `json:"table"`
	Running  bool      `json:"running"` // a process holds it
	Done     bool      `json:"done"`
	Pass     int       `json:"pass"` // 1 is the first
	Started  time.Time `json:"started"`
	Updated  time.Time `json:"updated"`
	All      Counts    `json:"all"`      // of all passes
	Failures int       `json:"failures"` // rows of the last pass that are listed as failed
}

// Status lists the jobs that were ever begun in a database, by name. A job that is
// neither Running nor Done was stopped, and goes on where it was when it is run.
func Status(ctx context.Context, db *sql.DB, d lethe.Dialect) ([]JobStatus, error) {
	l := leases{pg: d == lethe.Postgres}
	query := "SELECT name, owner <> '' AND lease >= " + l.now() + ", updated, state FROM lethe_job WHERE state <> '' ORDER BY name" //nolint:gosec // no input
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w (is there a table lethe_job? Migrate makes it)", err)
	}
	defer func() { _ = rows.Close() }()
	var out []JobStatus
	for rows.Next() {
		var j JobStatus
		var updated int64
		var text string
		if err := rows.Scan(&j.Name, &j.Running, &updated, &text); err != nil {
			return nil, err
		}
		var s state
		if json.Unmarshal([]byte(text), &s) != nil {
			return nil, fmt.Errorf("job %q: %w", j.Name, errPosition)
		}
		j.Kind, j.Table, j.Done, j.Pass, j.Started, j.All, j.Failures = s.Kind, s.Table, s.Done, s.Pass, s.Started, s.All, len(s.Failures)
		j.Updated = time.UnixMilli(updated).UTC()
		out = append(out, j)
	}
	return out, rows.Err()
}
