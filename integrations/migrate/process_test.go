package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/fileledger"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/integrations/migrate"
	"github.com/lethe-go/lethe/kms/localkms"
)

// disk is a world that several processes share: keys and ledger in files, data in
// SQLite or PostgreSQL.
type disk struct {
	dir, dsn string // dsn "": SQLite
}

func newDisk(t testing.TB, d lethe.Dialect) disk {
	t.Helper()
	out := disk{dir: t.TempDir()}
	if d == lethe.Postgres {
		_, out.dsn = openPostgres(t)
	}
	for _, name := range []string{"kek.json", "kek2.json"} {
		_, err := localkms.Create(filepath.Join(out.dir, name), localkms.Options{})
		require.NoError(t, err)
	}
	ledger, err := fileledger.Create(t.Context(), filepath.Join(out.dir, "ledger"))
	require.NoError(t, err)
	require.NoError(t, ledger.Close())
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(out.dir, "keys.db"))
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	key, opts, closeLedger := out.key(t)
	require.NoError(t, envelope.Init(t.Context(), store, key, opts))
	closeLedger()
	require.NoError(t, store.Close())
	w := out.open(t)
	w.create(t)
	return out
}

func (d disk) key(t testing.TB) (*localkms.Key, envelope.Options, func()) {
	t.Helper()
	ledger, err := fileledger.Open(t.Context(), filepath.Join(d.dir, "ledger"))
	require.NoError(t, err)
	key, err := localkms.Open(filepath.Join(d.dir, "kek.json"), localkms.Options{})
	require.NoError(t, err)
	next, err := localkms.Open(filepath.Join(d.dir, "kek2.json"), localkms.Options{})
	require.NoError(t, err)
	opts := envelope.Options{Ledger: ledger, CacheTTL: time.Minute, Timeout: 30 * time.Second}
	opts.MoreKeys = append(opts.MoreKeys, next)
	return key, opts, func() { _ = ledger.Close() }
}

// open opens the world in this process.
func (d disk) open(t testing.TB) *world {
	t.Helper()
	w := &world{dialect: lethe.Postgres}
	if d.dsn == "" {
		w.dialect, w.db = lethe.SQLite, openSQLite(t, filepath.Join(d.dir, "data.db"))
	} else {
		w.db = openDSN(t, d.dsn)
	}
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(d.dir, "keys.db"))
	require.NoError(t, err)
	key, opts, closeLedger := d.key(t)
	w.ring, err = envelope.NewKeyring(t.Context(), store, key, opts)
	require.NoError(t, err)
	t.Cleanup(func() { w.ring.Close(); closeLedger(); _ = store.Close() })
	w.sealer, err = lethe.For[customer](w.ring)
	require.NoError(t, err)
	return w
}

const workerEnv = "MIGRATE_TEST_WORKER"

// worker starts this test binary again, to run jobs on a world: kinds, separated by
// commas, or "proof". It ends with status 0 when all are done.
func (d disk) worker(t testing.TB, work string, rate int) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.Command(self, "-test.run", "^TestWorker$", "-test.timeout", "30m")
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%s|%d", workerEnv, d.dir, d.dsn, work, rate))
	c.Stderr = os.Stderr
	return c
}

// TestWorker is the other process; alone it does nothing.
func TestWorker(t *testing.T) {
	env := os.Getenv(workerEnv)
	if env == "" {
		t.Skip("it is run by other tests, in a process of its own")
	}
	parts := strings.Split(env, "|")
	var rate int
	_, err := fmt.Sscan(parts[3], &rate)
	require.NoError(t, err)
	d := disk{dir: parts[0], dsn: parts[1]}
	if parts[2] == "proof" {
		proofWorker(t, d, rate)
		return
	}
	w := d.open(t)
	for work := range strings.SplitSeq(parts[2], ",") {
		kind := map[string]migrate.Kind{"rewrap": migrate.Rewrap, "reseal": migrate.Reseal}[work]
		o := migrate.Options{Rate: rate, Lease: time.Second}
		if w.dialect == lethe.SQLite {
			o.BatchSize = 10
		}
		j, err := migrate.NewJob(t.Context(), kind, w.table(), o)
		require.NoError(t, err)
		if isDone(t, w, j.Name()) {
			continue
		}
		for {
			r, err := j.Run(t.Context(), nil)
			if errors.Is(err, migrate.ErrRunning) { // that of a killed one has not ended yet
				time.Sleep(100 * time.Millisecond)
				continue
			}
			require.NoError(t, err)
			require.Empty(t, r.Failures)
			break
		}
	}
}

// isDone reports whether a job is done, so that a worker that is started again does not begin it anew.
func isDone(t testing.TB, w *world, name string) bool {
	t.Helper()
	all, err := migrate.Status(t.Context(), w.db, w.dialect)
	require.NoError(t, err)
	for _, j := range all {
		if j.Name == name {
			return j.Done
		}
	}
	return false
}

func onDisk(t *testing.T, test func(t *testing.T, d disk)) {
	t.Run("SQLite", func(t *testing.T) { test(t, newDisk(t, lethe.SQLite)) })
	t.Run("Postgres", func(t *testing.T) { test(t, newDisk(t, lethe.Postgres)) })
}

// A job whose process is killed goes on where it was, and loses nothing.
func TestKilled(t *testing.T) {
	onDisk(t, func(t *testing.T, d disk) {
		const n = 1000
		w := d.open(t)
		w.insert(t, 1, n+1)
		l := &load{world: w, rows: n, sparing: 2 * time.Millisecond}
		stop := l.start(t, 2, 1)
		w.rotate(t)
		positions := map[int64]bool{}
		for range 3 {
			c := d.worker(t, "rewrap,reseal", 400)
			require.NoError(t, c.Start())
			before := w.seen(t)
			for deadline := time.Now().Add(20 * time.Second); w.seen(t) <= before+50 && time.Now().Before(deadline); {
				time.Sleep(10 * time.Millisecond)
			}
			require.NoError(t, c.Process.Kill())
			require.Error(t, c.Wait())
			positions[w.seen(t)] = true
		}
		require.Len(t, positions, 3, "every process went on")
		c := d.worker(t, "rewrap,reseal", migrate.Unlimited)
		out, err := c.Output()
		require.NoError(t, err, string(out))
		stop()
		w.check(t, n)
		all, err := migrate.Status(t.Context(), w.db, w.dialect)
		require.NoError(t, err)
		require.Len(t, all, 2)
		for _, j := range all {
			require.True(t, j.Done)
			require.False(t, j.Running)
			require.Zero(t, j.All.Failed)
			t.Logf("%s: %d passes, %+v", j.Name, j.Pass, j.All)
		}
	})
}

// seen is how far the jobs are together.
func (w *world) seen(t testing.TB) (n int64) {
	t.Helper()
	all, err := migrate.Status(t.Context(), w.db, w.dialect)
	require.NoError(t, err)
	for _, j := range all {
		n += j.All.Seen
	}
	return n
}

// Two processes do not run one job at once, and one takes over from a dead one.
func TestTwoProcesses(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.insert(t, 1, 101)
		w.rotate(t)
		first, second := w.job(t, migrate.Rewrap, migrate.Options{}), w.job(t, migrate.Rewrap, migrate.Options{})
		for p, err := range first.Batches(t.Context()) {
			require.NoError(t, err)
			require.Positive(t, p.All.Seen)
			_, err := second.Run(t.Context(), nil)
			require.ErrorIs(t, err, migrate.ErrRunning)
			break
		}
		r, err := second.Run(t.Context(), nil)
		require.NoError(t, err)
		require.True(t, r.Resumed)
		w.check(t, 101-1)

		// A process that was away for so long that another took over writes nothing more.
		w.rotate(t)
		var lost error
		n := 0
		for _, err := range first.Batches(t.Context()) {
			if lost = err; err != nil {
				break
			}
			if n++; n == 1 {
				w.exec(t, "UPDATE lethe_job SET owner = 'another'")
			}
		}
		require.ErrorIs(t, lost, migrate.ErrLeaseLost)
		_, err = second.Run(t.Context(), nil)
		require.ErrorIs(t, err, migrate.ErrRunning)
		w.exec(t, "UPDATE lethe_job SET lease = 1")
		r, err = second.Run(t.Context(), nil)
		require.NoError(t, err)
		require.True(t, r.Done)
		w.check(t, 100)
	})
}

// A job that is stopped, by its context or by break, leaves what it committed and
// goes on there.
func TestStopped(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.insert(t, 1, 201)
		w.rotate(t)
		var seen int64
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			r, err := w.job(t, migrate.Rewrap, migrate.Options{}).Run(ctx, func(migrate.Progress) { cancel() })
			require.ErrorIs(t, err, context.Canceled)
			require.Greater(t, r.All.Seen, seen, "a batch that was done before its predecessors is done again, and changes nothing")
			seen = r.All.Seen
			cancel()
		}
		for p, err := range w.job(t, migrate.Rewrap, migrate.Options{}).Batches(t.Context()) {
			require.NoError(t, err)
			seen = p.All.Seen
			break
		}
		r := w.run(t, migrate.Rewrap, migrate.Options{})
		require.True(t, r.Resumed)
		require.Greater(t, r.All.Seen, seen)
		require.GreaterOrEqual(t, r.All.Changed, int64(200))
		w.check(t, 200)

		r = w.run(t, migrate.Rewrap, migrate.Options{Restart: true})
		require.False(t, r.Resumed)
		_, err := w.job(t, migrate.Reseal, migrate.Options{Name: "rewrap customers"}).Run(t.Context(), nil)
		require.ErrorContains(t, err, "begun as rewrap")
	})
}
