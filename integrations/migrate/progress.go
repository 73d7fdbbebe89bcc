package migrate

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Counts are of rows. A row that a later pass visits again counts again.
type Counts struct {
	Seen      int64 `json:"seen"`      // visited; the sum of those below but Raced
	Changed   int64 `json:"changed"`   // written
	Unchanged int64 `json:"unchanged"` // needed nothing
	Unsealed  int64 `json:"unsealed"`  // have no Keys: were never sealed
	Forgotten int64 `json:"forgotten"` // left as they are, since a person they are about was forgotten
	Suspended int64 `json:"suspended"` // left as they are, since a person they are about is suspended
	Failed    int64 `json:"failed"`    // left as they are: see Report.Failures
	Gone      int64 `json:"gone"`      // deleted while the job worked on them
	Raced     int64 `json:"raced"`     // times a row had been changed by the service in between, and was done again
}

func (c *Counts) add(d Counts) {
	c.Seen += d.Seen
	c.Changed += d.Changed
	c.Unchanged += d.Unchanged
	c.Unsealed += d.Unsealed
	c.Forgotten += d.Forgotten
	c.Suspended += d.Suspended
	c.Failed += d.Failed
	c.Gone += d.Gone
	c.Raced += d.Raced
}

// Progress is how far a job is. Of a job that was resumed it counts from its
// beginning, but for Elapsed and Rate, which are of this process.
type Progress struct {
	Kind    Kind          `json:"-"`
	Table   string        `json:"table"`
	Pass    int           `json:"pass"`  // 1 is the first
	Total   int64         `json:"total"` // rows there were when this process began, as the database estimates them
	This    Counts        `json:"this"`  // of this pass
	All     Counts        `json:"all"`   // of all passes
	Rate    float64       `json:"rate"`  // rows seen a second
	Elapsed time.Duration `json:"elapsed"`
	Resumed bool          `json:"resumed"` // goes on where an earlier process stopped
	Done    bool          `json:"done"`    // nothing is left to do but what the counts of this pass say
}

// String is one line: "rewrap customers: pass 1, 40,000 of 1,000,000 rows, …".
func (p Progress) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: pass %d, %d of %d rows", p.Kind, p.Table, p.Pass, p.This.Seen, max(p.Total, p.This.Seen))
	fmt.Fprintf(&b, ", %d changed", p.This.Changed)
	for _, n := range []struct {
		n    int64
		what string
	}{{p.This.Unsealed, "unsealed"}, {p.This.Forgotten, "forgotten"}, {p.This.Suspended, "suspended"}, {p.This.Failed, "failed"}, {p.This.Gone, "gone"}, {p.This.Raced, "raced"}} {
		if n.n > 0 {
			fmt.Fprintf(&b, ", %d %s", n.n, n.what)
		}
	}
	fmt.Fprintf(&b, ", %.0f rows/s", p.Rate)
	if p.Done {
		b.WriteString(", done")
	}
	return b.String()
}

// Report is how a job ended.
type Report struct {
	Progress
	// Failures lists the rows of the last pass that failed, the first Options.Failures of them.
	Failures []RowError `json:"-"`
}

// RowError is a row that a job left as it is. Printing it does not show which row
// it is, since a key may say whose it is; Key does.
type RowError struct {
	key []string
	err string
	is  error
}

// Error says what was wrong, and not with which row.
func (e RowError) Error() string { return e.err }

// Unwrap returns the sentinel error it was: one of package lethe, ErrContended,
// ErrRefused, or nil for another, or of a row that an earlier process failed on.
func (e RowError) Unwrap() error { return e.is }

// Key returns the row's primary key, a text per column: bytes are in base64.
func (e RowError) Key() []string { return append([]string(nil), e.key...) }

// Format writes Error, for every verb.
func (e RowError) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, e.err) }
