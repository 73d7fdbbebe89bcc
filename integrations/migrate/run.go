package migrate

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/lethe-go/lethe"
)

// ErrNotDone means that rows still needed the job in the last of Options.Passes,
// mostly since another process of the service still writes with old keys: run it
// again when all have followed, after Options.CacheTTL of their keyrings.
var ErrNotDone = errors.New("migrate: rows still needed a change in the last pass")

// run is one run of a job by this process.
type run struct {
	*Job
	limit *rate.Limiter
	out   chan Progress
	began time.Time
	total int64
	start int64 // rows seen before this process

	cursorMu sync.Mutex
	after    []any // the last row that was read
	last     []any // the last row of the pass
	ended    bool
	seq      int

	stateMu  sync.Mutex // of what follows, and on SQLite of every transaction
	state    state
	failures []RowError
	ends     map[int][]string // batches that are done, but not all before them
	next     int              // the first that is not
	flushed  time.Time
	dirty    bool // the state is ahead of the database's
	resumed  bool
}

// Batches runs the job, and yields how far it is after every batch that was
// committed. To stop is to break: what was committed stays, and the next run goes on
// from there. An error is yielded last, together with how far it came.
func (j *Job) Batches(ctx context.Context) iter.Seq2[Progress, error] {
	return func(yield func(Progress, error) bool) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		r := &run{Job: j, out: make(chan Progress), began: time.Now(), ends: map[int][]string{}}
		if err := r.begin(ctx); err != nil {
			yield(Progress{Kind: j.kind, Table: j.layout.Name}, err)
			return
		}
		defer r.leave(ctx)
		beat := make(chan struct{})
		go func() { defer close(beat); r.heartbeat(ctx, cancel) }()
		defer func() { cancel(nil); <-beat }()
		done := make(chan error, 1)
		go func() {
			err := r.passes(ctx)
			close(r.out)
			done <- err
		}()
		stopped := false
		for p := range r.out { // until the workers have stopped
			if !stopped && !yield(p, nil) {
				stopped = true
				cancel(nil)
			}
		}
		err := <-done
		if stopped {
			return
		}
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		if err != nil {
			yield(r.progress(), err)
		}
	}
}

// begin takes the job, and what an earlier process left of it.
func (r *run) begin(ctx context.Context) error {
	kept, err := r.leases.take(ctx)
	if err != nil {
		return err
	}
	if err = r.resume(kept); err == nil {
		r.total, err = r.layout.count(ctx)
	}
	if err == nil {
		err = r.leases.keep(ctx, r.layout.DB, &r.state)
	}
	if err != nil {
		r.leave(ctx)
	}
	return err
}

func (r *run) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if r.dirty {
		_ = r.leases.keep(ctx, r.layout.DB, &r.state) // or pages that needed nothing are visited again
	}
	_ = r.leases.leave(ctx) // or the lease ends by itself
}

func (r *run) resume(kept string) error {
	fresh := state{Kind: r.kind.String(), Table: r.layout.Name, Key: r.layout.Key, Pass: 1, Started: time.Now().UTC()}
	r.state = fresh
	r.setFailures(nil)
	if kept == "" || r.opts.Restart {
		return nil
	}
	var old state
	if err := json.Unmarshal([]byte(kept), &old); err != nil {
		return errPosition
	}
	if old.Kind != fresh.Kind || old.Table != fresh.Table || !slices.Equal(old.Key, fresh.Key) {
		return fmt.Errorf("migrate: job %q was begun as %s of %q by (%v); use another Options.Name, or Options.Restart", r.opts.Name, old.Kind, old.Table, old.Key)
	}
	if old.Done {
		return nil
	}
	if _, err := parseKey(old.Position, len(r.layout.keys)); err != nil {
		return err
	}
	r.state, r.resumed, r.start = old, true, old.All.Seen
	for _, f := range old.Failures {
		r.failures = append(r.failures, RowError{key: shown(f.Key), err: f.Error})
	}
	r.setFailures(slices.Clone(r.failures))
	return nil
}

// count returns how many rows there are: on PostgreSQL what it last estimated for
// a table that is not small.
func (l *layout) count(ctx context.Context) (n int64, err error) {
	if l.Dialect == lethe.Postgres && l.tenant == "" {
		if err := l.DB.QueryRowContext(ctx, "SELECT reltuples::bigint FROM pg_catalog.pg_class WHERE oid = to_regclass($1)", l.name).Scan(&n); err != nil || n > 100_000 {
			return n, err
		}
	}
	var where []string
	var args []any
	if l.tenant != "" {
		where, args = append(where, l.tenantIs(1)), append(args, l.Tenant)
	}
	from := l.name
	if l.Dialect == lethe.Postgres {
		from += " AS r"
	}
	err = l.DB.QueryRowContext(ctx, "SELECT count(*) FROM "+from+whereAll(where), args...).Scan(&n)
	return n, err
}

// heartbeat renews the lease, and ends the run when another process has it.
func (r *run) heartbeat(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(r.opts.Lease / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.leases.renew(ctx); errors.Is(err, ErrLeaseLost) {
			cancel(err)
			return
		}
	}
}

// passes goes through the table until there is nothing left to do.
func (r *run) passes(ctx context.Context) error {
	if r.opts.Rate > 0 {
		r.limit = rate.NewLimiter(rate.Limit(r.opts.Rate), max(r.opts.BatchSize, 1))
	}
	for {
		if err := r.pass(ctx); err != nil {
			return err
		}
		r.stateMu.Lock()
		s := &r.state
		clean := s.This.Changed == 0 && !r.contended()
		finished := clean || !r.kind.repeats()
		var err error
		switch {
		case finished:
			s.Done, s.Position = true, nil
		case s.Pass >= r.opts.Passes:
			s.Done, s.Position, err = true, nil, ErrNotDone
		default:
			s.Pass, s.Position, s.This, s.Failures, r.failures = s.Pass+1, nil, Counts{}, nil, nil
		}
		kept := r.patient(ctx, func() error { return r.leases.keep(ctx, r.layout.DB, s) })
		p := r.progressLocked()
		p.Done = finished
		r.stateMu.Unlock()
		if err := errors.Join(kept, err); err != nil {
			return err
		}
		if !r.send(ctx, p) {
			return context.Cause(ctx)
		}
		if finished {
			return nil
		}
		r.setFailures(nil)
	}
}

// contended reports whether a row of the pass was given up for others' writes.
func (r *run) contended() bool {
	return slices.ContainsFunc(r.failures, func(e RowError) bool { return errors.Is(e.is, ErrContended) })
}

// pass goes through the table once, or through the rest of it.
func (r *run) pass(ctx context.Context) (err error) {
	if r.after, err = parseKey(r.state.Position, len(r.layout.keys)); err != nil {
		return err
	}
	if err := r.patient(ctx, func() (err error) { r.last, err = r.layout.lastKey(ctx); return err }); err != nil {
		return err
	}
	r.ended, r.seq, r.next = r.last == nil, 0, 0
	clear(r.ends)
	all, ctx := errgroup.WithContext(ctx)
	for range r.opts.Workers {
		all.Go(func() error {
			for {
				p, seq, err := r.read(ctx)
				if err != nil || p == nil {
					return err
				}
				cost, err := r.batch(ctx, p, seq)
				if err != nil {
					return err
				}
				if err := r.wait(ctx, cost); err != nil {
					return err
				}
			}
		})
	}
	return all.Wait()
}

// wait holds a worker back before it reads on, not between reading and writing.
func (r *run) wait(ctx context.Context, cost int) error {
	if r.limit == nil {
		return nil
	}
	for cost > 0 {
		n := min(cost, r.limit.Burst())
		if err := r.limit.WaitN(ctx, n); err != nil {
			return err
		}
		cost -= n
	}
	return nil
}

// read returns the next page and its number; nil after the last.
func (r *run) read(ctx context.Context) (p *page, seq int, err error) {
	r.cursorMu.Lock()
	defer r.cursorMu.Unlock()
	if r.ended {
		return nil, 0, nil
	}
	if err := r.patient(ctx, func() (err error) {
		p, err = r.layout.next(ctx, r.after, r.last, r.opts.BatchSize)
		return err
	}); err != nil {
		return nil, 0, err
	}
	if r.ended = len(p.keys) < r.opts.BatchSize; len(p.keys) == 0 {
		return nil, 0, nil
	}
	r.after = p.keys[len(p.keys)-1]
	r.seq++
	return p, r.seq - 1, nil
}

// patient calls fn until it succeeds or fails for good: outages are waited for.
func (r *run) patient(ctx context.Context, fn func() error) error {
	var since time.Time
	for {
		if err := fn(); err == nil || !r.waits(ctx, err, &since) {
			return err
		}
	}
}

// pause sleeps a random while that grows with n, at most for limit.
func pause(ctx context.Context, n int, limit time.Duration) error {
	d := min(limit, 5*time.Millisecond<<min(n, 12))
	t := time.NewTimer(d/2 + rand.N(d/2)) //nolint:gosec // no secret
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// pending is what was done to rows of a page and is not in the state yet.
type pending struct {
	counts Counts
	failed []rowFailure
}

// batch changes and writes the rows of a page, those that the service changed in
// between again, and returns what the limit is charged.
func (r *run) batch(ctx context.Context, p *page, seq int) (cost int, err error) {
	end := keyText(p.keys[len(p.keys)-1])
	var todo pending
	var outage time.Time
	again := func(keys [][]any) error {
		err := r.patient(ctx, func() (err error) { p, err = r.layout.again(ctx, keys); return err })
		if err == nil {
			todo.counts.Gone += int64(len(keys) - len(p.keys))
		}
		return err
	}
	for try := 0; ; {
		out, err := r.kind.process(ctx, p)
		if err != nil {
			if !r.waits(ctx, err, &outage) {
				return cost, err
			}
			if err := again(p.keys); err != nil { // rows in memory may have been changed in part
				return cost, err
			}
			continue
		}
		todo.counts.add(out.counts)
		todo.failed = append(todo.failed, out.failed...)
		last := try == r.opts.Retries
		cost += len(out.write) + (len(p.keys)-len(out.write))/10
		where := place{seq: seq, end: end, last: last}
		lost, err := r.commit(ctx, p, out.write, &todo, where)
		if refusal(err) != "" {
			lost, err = r.oneByOne(ctx, p, out.write, &todo, where)
		}
		switch {
		case err == nil:
			if len(lost) == 0 || last {
				return cost, nil
			}
			todo = pending{}
			try++
			_ = pause(ctx, try, time.Second)
		case !r.waits(ctx, err, &outage):
			return cost, err
		default:
			lost = out.write // or they were committed: what is there now says
		}
		keys := make([][]any, len(lost))
		for i, at := range lost {
			keys[i] = p.meta[at].key
		}
		if err := again(keys); err != nil {
			return cost, err
		}
	}
}

// waits sleeps a moment if an error is one of an outage that has not lasted too long.
func (r *run) waits(ctx context.Context, err error, since *time.Time) bool {
	// A driver may hand on the end of another call's context, with its connection.
	if ctx.Err() != nil || !transient(err) && !errors.Is(err, context.Canceled) {
		return false
	}
	if since.IsZero() {
		*since = time.Now()
	}
	return time.Since(*since) <= r.opts.Patience && pause(ctx, 7, time.Second) == nil
}

// oneByOne writes rows each in a transaction of its own, after the database refused
// one of them, and lists those that it refuses.
func (r *run) oneByOne(ctx context.Context, p *page, write []int, todo *pending, at place) (lost []int, err error) {
	var refused []rowFailure
	for _, i := range write {
		each := at
		each.partial = true
		l, err := r.commit(ctx, p, []int{i}, todo, each)
		switch code := refusal(err); {
		case code != "":
			refused = append(refused, rowFailure{p.meta[i].key, fmt.Errorf("%w: %s", ErrRefused, code)})
		case err != nil:
			return nil, err
		default:
			*todo = pending{}
			if lost = append(lost, l...); at.last && len(l) > 0 {
				lost = nil // they are counted as failures
			}
		}
	}
	if len(refused) == len(write) && len(write) > 1 {
		return nil, fmt.Errorf("migrate: every row of a page failed: %w", refused[0].err)
	}
	todo.counts.Failed += int64(len(refused))
	todo.failed = append(todo.failed, refused...)
	at.partial = len(lost) > 0
	_, err = r.commit(ctx, p, nil, todo, at)
	return lost, err
}

// place is a batch's, in the order of the pass.
type place struct {
	seq     int
	end     []string // the key of its last row
	last    bool     // the last try: rows that are lost are failures
	partial bool     // there is more of the batch to come
}

// flushEvery is how long counts of pages without a change stay in memory.
const flushEvery = time.Second

// commit writes rows and what the job keeps in one transaction. Rows that are not
// any more as they were read are lost; with the last try they are failures.
func (r *run) commit(ctx context.Context, p *page, write []int, todo *pending, at place) (lost []int, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	lock := sync.OnceFunc(r.stateMu.Lock)
	locked := false
	take := func() { lock(); locked = true }
	defer func() {
		if locked {
			if err != nil {
				delete(r.ends, at.seq) // see with: it is not done after all
			}
			r.stateMu.Unlock()
		}
	}()
	if r.layout.Dialect == lethe.SQLite || len(write) == 0 {
		take() // SQLite: one writer, and none that waits for the database's lock
	}
	if len(write) == 0 {
		s, next, failures := r.with(p, todo, nil, 0, at)
		if r.dirty = true; time.Since(r.flushed) >= flushEvery {
			if err := r.leases.keep(ctx, r.layout.DB, &s); err != nil {
				return nil, err
			}
			r.flushed, r.dirty = time.Now(), false
		}
		return nil, r.install(ctx, s, next, failures, &locked)
	}
	tx, err := r.layout.DB.BeginTx(ctx, r.isolation())
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	if lost, err = p.update(ctx, tx, write); err != nil {
		return nil, err
	}
	take()
	s, next, failures := r.with(p, todo, lost, len(write)-len(lost), at)
	if err := r.leases.keep(ctx, tx, &s); err != nil {
		return nil, err
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	r.flushed, r.dirty = time.Now(), false
	return lost, r.install(ctx, s, next, failures, &locked)
}

// isolation is that under which a row that changed is seen to have, whatever the
// database has by default.
func (r *run) isolation() *sql.TxOptions {
	if r.layout.Dialect == lethe.Postgres {
		return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	}
	return nil
}

// with returns the state with a batch in it, the first batch that is not done
// then, and all failures.
func (r *run) with(p *page, todo *pending, lost []int, changed int, at place) (s state, next int, failures []RowError) {
	s, next, failures = r.state, r.next, slices.Clip(r.failures)
	c := todo.counts
	c.Changed += int64(changed)
	failed := todo.failed
	if at.last {
		c.Failed += int64(len(lost))
		for _, i := range lost {
			failed = append(failed, rowFailure{p.meta[i].key, ErrContended})
		}
	} else {
		c.Raced += int64(len(lost))
	}
	c.Seen = c.Changed + c.Unchanged + c.Unsealed + c.Forgotten + c.Suspended + c.Failed + c.Gone
	s.All.add(c)
	s.This.add(c)
	s.Failures = slices.Clip(s.Failures)
	for _, f := range failed {
		if len(s.Failures) >= r.opts.Failures {
			break
		}
		key := keyText(f.key)
		s.Failures = append(s.Failures, failureRow{key, f.err.Error()})
		failures = append(failures, RowError{shown(key), f.err.Error(), sentinel(f.err)})
	}
	if !at.partial && (len(lost) == 0 || at.last) {
		r.ends[at.seq] = at.end
		for ; r.ends[next] != nil; next++ {
			s.Position = r.ends[next]
		}
	}
	return s, next, failures
}

// install makes a state that was committed this run's, and tells the caller.
func (r *run) install(ctx context.Context, s state, next int, failures []RowError, locked *bool) error {
	for ; r.next < next; r.next++ {
		delete(r.ends, r.next)
	}
	r.state, r.failures = s, failures
	p := r.progressLocked()
	r.setFailures(failures)
	r.stateMu.Unlock()
	*locked = false
	if !r.send(ctx, p) {
		return context.Cause(ctx)
	}
	return nil
}

func (r *run) send(ctx context.Context, p Progress) bool {
	select {
	case r.out <- p:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *run) progress() Progress {
	r.stateMu.Lock()
	defer r.stateMu.Unlock()
	return r.progressLocked()
}

func (r *run) progressLocked() Progress {
	p := Progress{
		Kind: r.kind, Table: r.layout.Name, Pass: r.state.Pass, Total: r.total,
		This: r.state.This, All: r.state.All, Elapsed: time.Since(r.began), Resumed: r.resumed,
	}
	p.Rate = float64(p.All.Seen-r.start) / max(p.Elapsed.Seconds(), 1e-3)
	return p
}
