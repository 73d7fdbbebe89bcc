package migrate_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/integrations/migrate"
)

// load is a service that goes on reading and writing while jobs run. Every write
// sets the row's version, and the e-mail address that belongs to it, guarded by the
// Keys it was sealed under, as the documentation says.
type load struct {
	*world
	rows    int64
	next    atomic.Int64 // the row to insert next
	writes  atomic.Int64
	lost    atomic.Int64 // writes that another came before
	reads   atomic.Int64
	sparing time.Duration // between two operations
}

func (l *load) start(t testing.TB, writers, readers int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all errgroup.Group
	for range writers {
		all.Go(func() error { return l.loop(ctx, l.write) })
	}
	for range readers {
		all.Go(func() error { return l.loop(ctx, l.readOne) })
	}
	return func() {
		cancel()
		require.NoError(t, all.Wait())
		t.Logf("the service: %d reads, %d writes, of which %d came second", l.reads.Load(), l.writes.Load(), l.lost.Load())
	}
}

func (l *load) loop(ctx context.Context, do func(ctx context.Context) error) error {
	for ctx.Err() == nil {
		if err := do(context.WithoutCancel(ctx)); err != nil { // what was begun is ended, so that it is known
			return err
		}
		time.Sleep(l.sparing)
	}
	return nil
}

func (l *load) pick() int64 { return 1 + rand.Int64N(l.rows) }

const oneRow = "SELECT id, owner, sealed_keys, email, email_idx, version FROM customers WHERE id = $1"

func (l *load) load(ctx context.Context, id int64) (c customer, version int64, err error) {
	err = l.db.QueryRowContext(ctx, oneRow, id).Scan(&c.ID, &c.Owner, &c.Keys, &c.Email, &c.Index, &version)
	return c, version, err
}

func (l *load) write(ctx context.Context) error {
	if l.next.Load() > 0 && rand.IntN(20) == 0 {
		return l.insertOne(ctx)
	}
	id := l.pick()
	c, version, err := l.load(ctx, id)
	if err != nil {
		return err
	}
	old := c.Keys
	c.Email = lethe.Of(email(id, version+1))
	if err := l.sealer.Seal(ctx, &c); err != nil {
		return err
	}
	r, err := l.db.ExecContext(ctx, "UPDATE customers SET sealed_keys = $1, email = $2, email_idx = $3, version = $4 WHERE id = $5 AND sealed_keys = $6 AND version = $7",
		c.Keys, c.Email, c.Index, version+1, id, old, version)
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	l.writes.Add(n)
	l.lost.Add(1 - n)
	return err
}

func (l *load) insertOne(ctx context.Context) error {
	c := newCustomer(l.next.Add(1) - 1)
	if err := l.sealer.Seal(ctx, &c); err != nil {
		return err
	}
	_, err := l.db.ExecContext(ctx, "INSERT INTO customers (id, owner, sealed_keys, email, email_idx, born, friend, told, note) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		c.ID, c.Owner, c.Keys, c.Email, c.Index, c.Born, c.Friend, c.Told, c.Note)
	l.writes.Add(1)
	return err
}

var errWrongValue = errors.New("a row did not open to what it was written as")

func (l *load) readOne(ctx context.Context) error {
	c, version, err := l.load(ctx, l.pick())
	if err != nil {
		return err
	}
	if err := l.sealer.Open(ctx, &c); err != nil {
		return err
	}
	got, err := c.Email.Reveal()
	if err == nil && got != email(c.ID, version) {
		err = errWrongValue
	}
	l.reads.Add(1)
	return err
}

// Whatever jobs run beside the service, every row ends with its last written value.
func TestLiveTable(t *testing.T) {
	const n = 300
	both(t, func(t *testing.T, w *world) {
		w.insert(t, 1, n+1)
		l := &load{world: w, rows: n, sparing: time.Millisecond}
		l.next.Store(n + 1)
		stop := l.start(t, 4, 2)
		w.rotate(t)
		require.NoError(t, w.ring.RotateIndexKey(t.Context(), "", "customers", "email_idx"))
		var raced atomic.Int64
		jobs, ctx := errgroup.WithContext(t.Context())
		for _, k := range []migrate.Kind{migrate.Rewrap, migrate.Reseal, migrate.Reindex, migrate.Reseal} {
			jobs.Go(func() error {
				o := fast(migrate.Options{Name: k.String() + time.Now().String(), BatchSize: 20, Workers: 2, Retries: 50, Rate: 400})
				j, err := migrate.NewJob(ctx, k, w.table(), o)
				if err != nil {
					return err
				}
				r, err := j.Run(ctx, nil)
				t.Log(r)
				raced.Add(r.All.Raced)
				if len(r.Failures) > 0 {
					return r.Failures[0]
				}
				return err
			})
		}
		require.NoError(t, jobs.Wait())
		stop()
		require.Positive(t, l.writes.Load())
		w.check(t, int(l.next.Load()-1))
		require.Positive(t, raced.Load(), "nothing was tried: no row changed under a job")
		r := w.run(t, migrate.Rewrap, migrate.Options{})
		require.Zero(t, r.All.Changed, "all keys are the newest")
	})
}

// A service that changes every row between reading and writing costs a job its
// retries and nothing else. The service is inside the policy: it is asked between the two.
func TestLostRaces(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.insert(t, 1, 11)
		times := 2
		service := w.sealer
		var err error
		w.sealer, err = lethe.For[customer](w.ring, lethe.Options{Policy: func(ctx context.Context, _ lethe.Access) lethe.Decision {
			if times--; times >= 0 {
				l := &load{world: &world{db: w.db, sealer: service}}
				for id := range int64(10) {
					require.NoError(t, l.overwrite(ctx, id+1))
				}
			}
			return lethe.Allow
		}})
		require.NoError(t, err)
		r := w.run(t, migrate.Reseal, migrate.Options{Workers: 1, BatchSize: 10})
		require.EqualValues(t, 10, r.All.Changed)
		require.EqualValues(t, 10, r.All.Raced)
		require.EqualValues(t, 10, r.All.Seen)

		times = 1 << 20
		r = w.run(t, migrate.Reseal, migrate.Options{Workers: 1, BatchSize: 10, Retries: 2, Failures: 3})
		require.Equal(t, migrate.Counts{Seen: 10, Failed: 10, Raced: 20}, r.All)
		require.Len(t, r.Failures, 3)
		require.ErrorIs(t, r.Failures[0], migrate.ErrContended)
		w.sealer = service
		w.check(t, 10)
	})
}

func (l *load) overwrite(ctx context.Context, id int64) error {
	c, version, err := l.load(ctx, id)
	if err != nil {
		return err
	}
	c.Email = lethe.Of(email(id, version+1))
	if err := l.sealer.Seal(ctx, &c); err != nil {
		return err
	}
	_, err = l.db.ExecContext(ctx, "UPDATE customers SET sealed_keys = $1, email = $2, email_idx = $3, version = $4 WHERE id = $5", c.Keys, c.Email, c.Index, version+1, id)
	return err
}
