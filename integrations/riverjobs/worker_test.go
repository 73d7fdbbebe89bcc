package riverjobs_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/integrations/migrate"
	"github.com/lethe-go/lethe/integrations/riverjobs"
)

type customer struct {
	ID       int64                `db:"id"`
	Owner    string               `db:"owner" lethe:"subject=customer"`
	Keys     lethe.Keys           `db:"sealed_keys" lethe:"customers"`
	Email    lethe.Secret[string] `db:"email_sealed" lethe:"email"`
	Index    lethe.BlindIndex     `db:"email_idx" lethe:"email_idx,of=email,norm=email/1"`
	OldEmail *string              `db:"email" lethe:"plain=email"`
}

const customers = 200

// awayStore is a key store that may be away.
type awayStore struct {
	envelope.Store

	away atomic.Bool
}

func (s *awayStore) Keys(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef) ([]envelope.KeyRow, []envelope.PageRow, error) {
	if s.away.Load() {
		return nil, nil, errors.New("connection refused")
	}
	return s.Store.Keys(ctx, tree, refVer, srefs)
}

// world is a table of customers with plaintext, River beside it, and what seals.
type world struct {
	schema string
	db     *sql.DB
	pool   *pgxpool.Pool
	store  *awayStore
	ring   *envelope.Keyring
	sealer *lethe.Sealer[customer]
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dsn := os.Getenv("LETHE_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("LETHE_TEST_POSTGRES is not set: nothing was tested on PostgreSQL")
	}
	w := &world{schema: fmt.Sprintf("riverjobs_%x", rand.Uint64())}
	admin, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	_, err = admin.ExecContext(t.Context(), "CREATE SCHEMA "+w.schema)
	require.NoError(t, err)
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	q := u.Query()
	q.Set("search_path", w.schema)
	u.RawQuery = q.Encode()
	w.db, err = sql.Open("pgx", u.String())
	require.NoError(t, err)
	w.pool, err = pgxpool.New(t.Context(), u.String())
	require.NoError(t, err)
	t.Cleanup(func() {
		w.pool.Close()
		_ = w.db.Close()
		_, err := admin.ExecContext(context.WithoutCancel(t.Context()), "DROP SCHEMA "+w.schema+" CASCADE")
		require.NoError(t, err)
		_ = admin.Close()
	})
	m, err := rivermigrate.New(riverpgxv5.New(w.pool), &rivermigrate.Config{Schema: w.schema})
	require.NoError(t, err)
	_, err = m.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	require.NoError(t, err)
	require.NoError(t, migrate.Migrate(t.Context(), w.db))
	_, err = w.db.ExecContext(t.Context(), `CREATE TABLE customers (id BIGINT NOT NULL PRIMARY KEY, owner TEXT NOT NULL,
		sealed_keys BYTEA, email_sealed BYTEA, email_idx BYTEA, email TEXT)`)
	require.NoError(t, err)
	_, err = w.db.ExecContext(t.Context(), `INSERT INTO customers (id, owner, email) SELECT i, 'cus_' || i, 'c' || i || '@example.com' FROM generate_series(1, $1::bigint) i`, customers)
	require.NoError(t, err)

	w.store = &awayStore{Store: memstore.New()}
	key, opts := envelopetest.NewKey(t), envelope.Options{Ledger: &memledger.Ledger{}}
	require.NoError(t, envelope.Init(t.Context(), w.store, key, opts))
	w.ring, err = envelope.NewKeyring(t.Context(), w.store, key, opts)
	require.NoError(t, err)
	t.Cleanup(w.ring.Close)
	w.sealer, err = lethe.For[customer](w.ring, lethe.Options{Migrations: map[string]lethe.Migration{"email": {Until: time.Now().Add(time.Hour)}}})
	require.NoError(t, err)
	return w
}

func (w *world) options() riverjobs.Options {
	table := migrate.Table{Name: "customers", Key: []string{"id"}, DB: w.db, Dialect: lethe.Postgres, Rows: w.sealer.Rows()}
	broken := table
	broken.Name = "orders"
	return riverjobs.Options{
		Tables: []migrate.Table{table, broken}, Slice: time.Millisecond,
		Job: migrate.Options{Rate: migrate.Unlimited, BatchSize: 20, Workers: 2, Lease: time.Second, Patience: -1},
	}
}

// client starts River with a worker, and returns what it says of jobs.
func (w *world) client(t *testing.T, o riverjobs.Options) (*river.Client[pgx.Tx], <-chan *river.Event) {
	t.Helper()
	worker, err := riverjobs.NewWorker(o)
	require.NoError(t, err)
	workers := river.NewWorkers()
	river.AddWorker(workers, worker)
	client, err := river.NewClient(riverpgxv5.New(w.pool), &river.Config{
		Workers: workers, Schema: w.schema, FetchPollInterval: 50 * time.Millisecond, FetchCooldown: 10 * time.Millisecond,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}}, RescueStuckJobsAfter: 10 * time.Minute, TestOnly: true,
	})
	require.NoError(t, err)
	events, cancel := client.Subscribe(river.EventKindJobCompleted, river.EventKindJobFailed, river.EventKindJobCancelled)
	t.Cleanup(cancel)
	require.NoError(t, client.Start(t.Context()))
	t.Cleanup(func() { _ = client.StopAndCancel(context.WithoutCancel(t.Context())) })
	return client, events
}

func next(t *testing.T, events <-chan *river.Event) *river.Event {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(30 * time.Second):
		require.FailNow(t, "no event of a job")
		return nil
	}
}

// requireMoved checks that every row reads as it was written, from the sealed columns.
func (w *world) requireMoved(t *testing.T) {
	t.Helper()
	rows, err := w.db.QueryContext(t.Context(), "SELECT id, owner, sealed_keys, email_sealed, email_idx, email FROM customers")
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	n := 0
	for ; rows.Next(); n++ {
		var c customer
		require.NoError(t, rows.Scan(&c.ID, &c.Owner, &c.Keys, &c.Email, &c.Index, &c.OldEmail))
		require.Nil(t, c.OldEmail)
		require.NoError(t, w.sealer.Open(t.Context(), &c))
		email, err := c.Email.Reveal()
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("c%d@example.com", c.ID), email)
	}
	require.NoError(t, rows.Err())
	require.Equal(t, customers, n)
}

var backfill = riverjobs.Args{Job: "backfill", Table: "customers"}

func TestAJobTakesTurns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	var reports []migrate.Report
	o := w.options()
	o.Done = func(_ context.Context, a riverjobs.Args, r migrate.Report) error {
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, "customers", a.Table)
		reports = append(reports, r)
		return nil
	}
	batches := atomic.Int64{}
	o.Progress = func(riverjobs.Args, migrate.Progress) { batches.Add(1); time.Sleep(2 * time.Millisecond) }
	client, events := w.client(t, o)
	_, err := client.Insert(t.Context(), backfill, nil)
	require.NoError(t, err)
	e := next(t, events)
	require.Equal(t, river.EventKindJobCompleted, e.Kind)
	require.Equal(t, 1, e.Job.Attempt, "turns are no attempts")
	require.Empty(t, e.Job.Errors)
	require.Contains(t, string(e.Job.Metadata), `"snoozes"`)
	var output migrate.Progress
	require.NoError(t, json.Unmarshal(e.Job.Output(), &output))
	require.True(t, output.Done)
	require.EqualValues(t, customers, output.All.Changed)
	require.Greater(t, batches.Load(), int64(customers/20))
	require.Len(t, reports, 1)
	require.EqualValues(t, customers, reports[0].All.Changed)
	require.True(t, reports[0].Resumed)
	w.requireMoved(t)

	// Afterwards the same Args begin anew, and other kinds go their own way.
	for i := range customers {
		_, err = w.ring.Rotate(t.Context(), lethe.Subject{Kind: "customer", ID: "cus_" + strconv.Itoa(i+1)})
		require.NoError(t, err)
	}
	for _, job := range []string{"rewrap", "backfill", "reindex"} {
		inserted, err := client.Insert(t.Context(), riverjobs.Args{Job: job, Table: "customers"}, nil)
		require.NoError(t, err)
		require.False(t, inserted.UniqueSkippedAsDuplicate, job)
		require.Equal(t, river.EventKindJobCompleted, next(t, events).Kind, job)
	}
	require.Len(t, reports, 4)
	require.EqualValues(t, customers, reports[1].All.Changed, "rewrapped")
	require.Zero(t, reports[2].All.Changed)
	w.requireMoved(t)
}

func TestAJobIsThereOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options()
	release := make(chan struct{})
	started := make(chan struct{}, 100)
	o.Progress = func(riverjobs.Args, migrate.Progress) { started <- struct{}{}; <-release }
	client, events := w.client(t, o)
	_, err := client.Insert(t.Context(), backfill, nil)
	require.NoError(t, err)
	<-started
	again, err := client.Insert(t.Context(), backfill, nil)
	require.NoError(t, err)
	require.True(t, again.UniqueSkippedAsDuplicate)
	other, err := client.Insert(t.Context(), riverjobs.Args{Job: "backfill", Table: "customers", Tenant: "t"}, nil)
	require.NoError(t, err)
	require.False(t, other.UniqueSkippedAsDuplicate)
	close(release)
	kinds := map[river.EventKind]int{}
	for range 2 {
		kinds[next(t, events).Kind]++
	}
	require.NotZero(t, kinds[river.EventKindJobCompleted])
}

// What passes by itself is tried again; what does not cancels the job.
func TestErrorsOfJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, events := w.client(t, w.options())
	w.store.away.Store(true)
	_, err := client.Insert(t.Context(), backfill, nil)
	require.NoError(t, err)
	e := next(t, events)
	require.Equal(t, river.EventKindJobFailed, e.Kind)
	require.Contains(t, []rivertype.JobState{rivertype.JobStateRetryable, rivertype.JobStateAvailable}, e.Job.State)
	require.Less(t, time.Until(e.Job.ScheduledAt), 5*time.Second)
	require.NotContains(t, e.Job.Errors[0].Error, "cus_")
	w.store.away.Store(false)
	for e.Kind == river.EventKindJobFailed {
		e = next(t, events)
	}
	require.Equal(t, river.EventKindJobCompleted, e.Kind)
	w.requireMoved(t)

	for name, args := range map[string]riverjobs.Args{
		"no such kind":         {Job: "vacuum", Table: "customers"},
		"no such table":        {Job: "rewrap", Table: "people"},
		"not in the database":  {Job: "rewrap", Table: "orders"},
		"nothing to be called": {},
	} {
		_, err := client.Insert(t.Context(), args, nil)
		require.NoError(t, err)
		e := next(t, events)
		require.Equal(t, river.EventKindJobCancelled, e.Kind, name)
		require.NotEmpty(t, e.Job.Errors[0].Error, name)
	}
}

// A job whose process stops goes on in another, and one that another process runs waits.
func TestAJobMovesToAnotherProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options()
	o.Slice = time.Hour
	batch := make(chan struct{}, 1000)
	o.Progress = func(riverjobs.Args, migrate.Progress) {
		batch <- struct{}{}
		time.Sleep(100 * time.Millisecond)
	}
	first, _ := w.client(t, o)
	_, err := first.Insert(t.Context(), backfill, nil)
	require.NoError(t, err)
	<-batch
	<-batch
	require.NoError(t, first.StopAndCancel(t.Context()))
	var left int
	require.NoError(t, w.db.QueryRowContext(t.Context(), "SELECT count(*) FROM customers WHERE email IS NOT NULL").Scan(&left))
	require.Positive(t, left)
	require.Less(t, left, customers)

	// Somebody runs it by hand for a moment.
	o = w.options()
	job, err := migrate.NewJob(t.Context(), migrate.Backfill, o.Tables[0], o.Job)
	require.NoError(t, err)
	release, taken := make(chan struct{}), make(chan struct{})
	var once sync.Once
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, err := range job.Batches(t.Context()) {
			if err != nil {
				t.Error(err)
			}
			once.Do(func() { close(taken) })
			<-release
			break
		}
	}()
	<-taken
	reports := make(chan migrate.Report, 1)
	o.Done = func(_ context.Context, _ riverjobs.Args, r migrate.Report) error { reports <- r; return nil }
	_, events := w.client(t, o)
	time.Sleep(300 * time.Millisecond)
	close(release)
	<-done
	e := next(t, events)
	require.Equal(t, river.EventKindJobCompleted, e.Kind)
	require.Empty(t, e.Job.Errors, "a stop is no error, and neither is to wait")
	require.True(t, (<-reports).Resumed)
	w.requireMoved(t)
}

// The job of a process that was killed is running for River, and half done.
func TestAJobOfAKilledProcessIsRescued(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options()
	job, err := migrate.NewJob(t.Context(), migrate.Backfill, o.Tables[0], o.Job)
	require.NoError(t, err)
	n := 0
	for _, err := range job.Batches(t.Context()) {
		require.NoError(t, err)
		if n++; n == 3 {
			break
		}
	}
	_, err = w.db.ExecContext(t.Context(), "UPDATE lethe_job SET owner = 'killed', lease = (extract(epoch FROM now()) * 1000)::bigint + 1000")
	require.NoError(t, err)
	inserter, err := river.NewClient(riverpgxv5.New(w.pool), &river.Config{Schema: w.schema})
	require.NoError(t, err)
	_, err = inserter.Insert(t.Context(), backfill, nil)
	require.NoError(t, err)
	_, err = w.db.ExecContext(t.Context(), "UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now() - interval '11 minutes', attempted_by = '{killed}'")
	require.NoError(t, err)
	_, events := w.client(t, o)
	e := next(t, events)
	require.Equal(t, river.EventKindJobCompleted, e.Kind)
	require.Equal(t, 2, e.Job.Attempt)
	w.requireMoved(t)
}

func TestNewWorkerListsEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := riverjobs.NewWorker(riverjobs.Options{Slice: -1, Job: migrate.Options{Restart: true}})
	for _, word := range []string{"Tables is empty", "Restart", "negative"} {
		require.ErrorContains(t, err, word)
	}
	tables := []migrate.Table{{Name: "a"}, {Name: "a", Tenant: "t"}, {Name: "a"}}
	_, err = riverjobs.NewWorker(riverjobs.Options{Tables: tables})
	require.ErrorContains(t, err, "twice")
	w, err := riverjobs.NewWorker(riverjobs.Options{Tables: tables[:2]})
	require.NoError(t, err)
	require.Equal(t, riverjobs.DefaultSlice+migrate.DefaultPatience+time.Minute, w.Timeout(nil))
	job := &river.Job[riverjobs.Args]{JobRow: &rivertype.JobRow{}}
	for range 40 {
		wait := time.Until(w.NextRetry(job))
		require.Positive(t, wait)
		require.LessOrEqual(t, wait, 10*time.Minute)
		job.Errors = append(job.Errors, rivertype.AttemptError{})
	}
	require.GreaterOrEqual(t, time.Until(w.NextRetry(job)), 5*time.Minute-time.Second)
}
