package migrate_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/integrations/migrate"
	"github.com/lethe-go/lethe/kms/localkms"
)

// The proof at full size:
//
//	go test ./integrations/migrate -run Proof -v -rows 1000000 -timeout 1h
var (
	proofRows  = flag.Int64("rows", 20_000, "rows of the proof's table")
	proofRate  = flag.Int("rate", -2, "rows written a second by each job of the proof: 0 is the default rate, -1 no limit, -2 none for a large table and for a small one what lets the job last as long as the kills")
	proofKills = flag.Int("kills", 10, "how often the proof kills the worker")
	proofPause = flag.Duration("pause", 2*time.Millisecond, "between two operations of a writer or reader of the proof")
)

const proofSubjects = 1000

func proofOwner(i int64) string { return fmt.Sprint("cus_", i%proofSubjects) }

// slim is a row of the proof.
type slim struct {
	ID    int64                `db:"id" lethe:"id"`
	Owner string               `db:"owner" lethe:"subject=customer"`
	Keys  lethe.Keys           `db:"sealed_keys" lethe:"proof"`
	Email lethe.Secret[string] `db:"email" lethe:"email"`
	Name  lethe.Secret[string] `db:"name" lethe:"name"`
}

// proof is a service with its load, and what it knows of every row.
type proof struct {
	*world
	d       disk
	slim    *lethe.Sealer[slim]
	written []atomic.Int64 // the version of each row that was written last
	mu      sync.Mutex
	during  map[string][]time.Duration
	phase   atomic.Pointer[string]
}

func (p *proof) table() migrate.Table {
	return migrate.Table{Name: "proof", Key: []string{"id"}, DB: p.db, Dialect: p.dialect, Rows: p.slim.Rows()}
}

func openProof(t testing.TB, d disk) *proof {
	t.Helper()
	p := &proof{world: d.open(t), d: d, during: map[string][]time.Duration{}}
	var err error
	p.slim, err = lethe.For[slim](p.ring)
	require.NoError(t, err)
	return p
}

func (p *proof) fill(t testing.TB, n int64) {
	t.Helper()
	p.exec(t, "CREATE TABLE proof (id BIGINT PRIMARY KEY, owner TEXT NOT NULL, sealed_keys BYTEA NOT NULL, email BYTEA NOT NULL, name BYTEA NOT NULL, version BIGINT NOT NULL DEFAULT 0) WITH (fillfactor = 50)")
	const size = 5000
	for from := int64(1); from <= n; from += size {
		rows := make([]slim, 0, size)
		for i := from; i < min(from+size, n+1); i++ {
			rows = append(rows, slim{ID: i, Owner: proofOwner(i), Email: lethe.Of(email(i, 0)), Name: lethe.Of("Ada Lovelace")})
		}
		require.NoError(t, p.slim.SealSlice(t.Context(), rows))
		ids, owners, keys, emails, names := []int64{}, []string{}, [][]byte{}, [][]byte{}, [][]byte{}
		for i := range rows {
			e, err := rows[i].Email.MarshalBinary()
			require.NoError(t, err)
			m, err := rows[i].Name.MarshalBinary()
			require.NoError(t, err)
			ids, owners, keys, emails, names = append(ids, rows[i].ID), append(owners, rows[i].Owner), append(keys, rows[i].Keys.Bytes()), append(emails, e), append(names, m)
		}
		p.exec(t, "INSERT INTO proof SELECT i, o, k, e, n FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::bytea[], $5::bytea[]) AS v(i, o, k, e, n)", ids, owners, keys, emails, names)
	}
	p.exec(t, "ANALYZE proof")
}

func (p *proof) rotateAll(t testing.TB) {
	t.Helper()
	for i := range int64(proofSubjects) {
		_, err := p.ring.Rotate(t.Context(), lethe.Subject{Kind: "customer", ID: proofOwner(i)})
		require.NoError(t, err)
	}
}

func (p *proof) load(ctx context.Context, id int64) (r slim, version int64, err error) {
	err = p.db.QueryRowContext(ctx, "SELECT id, owner, sealed_keys, email, name, version FROM proof WHERE id = $1", id).Scan(&r.ID, &r.Owner, &r.Keys, &r.Email, &r.Name, &version)
	return r, version, err
}

func (p *proof) pick() int64 { return 1 + rand.Int64N(int64(len(p.written))) }

func (p *proof) write(ctx context.Context) error {
	id := p.pick()
	r, version, err := p.load(ctx, id)
	if err != nil {
		return err
	}
	old := r.Keys
	r.Email = lethe.Of(email(id, version+1))
	if err := p.slim.Seal(ctx, &r); err != nil {
		return err
	}
	done, err := p.db.ExecContext(ctx, "UPDATE proof SET sealed_keys = $1, email = $2, version = $3 WHERE id = $4 AND sealed_keys = $5 AND version = $6", r.Keys, r.Email, version+1, id, old, version)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err == nil && n == 1 {
		p.written[id-1].Store(version + 1)
	}
	return nil
}

func (p *proof) read(ctx context.Context) error {
	r, version, err := p.load(ctx, p.pick())
	if err != nil {
		return err
	}
	if err := p.slim.Open(ctx, &r); err != nil {
		return err
	}
	if got, err := r.Email.Reveal(); err != nil || got != email(r.ID, version) {
		return errors.Join(err, errWrongValue)
	}
	return nil
}

// loop runs an operation until ctx ends, and takes how long it takes.
func (p *proof) loop(ctx context.Context, what string, do func(context.Context) error) error {
	took := map[string][]time.Duration{}
	for ctx.Err() == nil {
		phase := *p.phase.Load() + " " + what
		began := time.Now()
		if err := do(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		took[phase] = append(took[phase], time.Since(began))
		time.Sleep(*proofPause)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for phase, all := range took {
		p.during[phase] = append(p.during[phase], all...)
	}
	return nil
}

func (p *proof) enter(phase string) { p.phase.Store(&phase) }

// TestProof runs a rewrap, a reseal and the rotation of the KMS key at once in a
// worker that is killed again and again, while a service reads and writes, and then
// opens every row with the new KMS key alone.
func TestProof(t *testing.T) {
	d := newDisk(t, lethe.Postgres)
	p := openProof(t, d)
	n := *proofRows
	if testing.Short() {
		n = min(n, 2000)
	}
	rate := *proofRate
	switch {
	case rate == -2 && n < 200_000:
		rate = int(max(n/5, 100))
	case rate == -2:
		rate = migrate.Unlimited
	}
	began := time.Now()
	p.fill(t, n)
	p.written = make([]atomic.Int64, n)
	t.Logf("%d rows made in %v", n, time.Since(began).Round(time.Millisecond))

	p.enter("before")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var service errgroup.Group
	for range 4 {
		service.Go(func() error { return p.loop(ctx, "writes", p.write) })
		service.Go(func() error { return p.loop(ctx, "reads", p.read) })
	}
	time.Sleep(min(20*time.Second, 2*time.Second+time.Duration(n)*20*time.Microsecond))
	p.rotateAll(t)

	p.enter("during")
	slice := time.Duration(float64(n) / 10_000 / 10 * float64(time.Second))
	switch {
	case rate == 0:
		slice = time.Duration(float64(n) / migrate.DefaultRate / 6 * float64(time.Second))
	case rate > 0:
		slice = time.Duration(float64(n) / float64(rate) / 6 * float64(time.Second))
	}
	began = time.Now()
	kills := 0
	for kills < *proofKills {
		c := d.worker(t, "proof", rate)
		require.NoError(t, c.Start())
		done := make(chan error, 1)
		go func() { done <- c.Wait() }()
		select {
		case err := <-done:
			require.NoError(t, err)
			p.rotateAll(t) // there is something to do again
		case <-time.After(time.Second + rand.N(2*slice+time.Millisecond)):
			require.NoError(t, c.Process.Kill())
			require.Error(t, <-done)
			kills++
			t.Logf("killed for the %d. time, after %v: %s", kills, time.Since(began).Round(time.Millisecond), p.progress(t))
		}
	}
	out, err := d.worker(t, "proof", rate).Output()
	require.NoError(t, err, string(out))
	took := time.Since(began)
	for line := range strings.SplitSeq(string(out), "\n") {
		if strings.Contains(line, "rows/s") {
			t.Log("the last worker: ", line)
		}
	}
	p.enter("after")
	time.Sleep(2 * time.Second)
	cancel()
	require.NoError(t, service.Wait())
	t.Logf("jobs done in %v with %d kills: %s", took.Round(time.Millisecond), kills, p.progress(t))
	for _, what := range []string{"writes", "reads"} {
		for _, phase := range []string{"before", "during", "after"} {
			t.Logf("%-6s %-6s %s", what, phase, quantiles(p.during[phase+" "+what]))
		}
	}
	p.verify(t)
}

func quantiles(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	slices.Sort(all)
	at := func(q float64) time.Duration {
		return all[int(q*float64(len(all)-1))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("n=%d p50=%v p99=%v max=%v", len(all), at(.5), at(.99), at(1))
}

func (p *proof) progress(t testing.TB) string {
	t.Helper()
	all, err := migrate.Status(t.Context(), p.db, p.dialect)
	require.NoError(t, err)
	var out []string
	for _, j := range all {
		out = append(out, fmt.Sprintf("%s: pass %d, seen %d, changed %d, raced %d, done %v", j.Kind, j.Pass, j.All.Seen, j.All.Changed, j.All.Raced, j.Done))
	}
	return strings.Join(out, "; ")
}

// verify opens every row with a keyring that has the new KMS key only.
func (p *proof) verify(t testing.TB) {
	t.Helper()
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(p.d.dir, "keys.db"))
	require.NoError(t, err)
	defer func() { _ = store.Close() }()
	_, opts, closeLedger := p.d.key(t)
	defer closeLedger()
	opts.MoreKeys = nil
	next, err := localkms.Open(filepath.Join(p.d.dir, "kek2.json"), localkms.Options{})
	require.NoError(t, err)
	ring, err := envelope.NewKeyring(t.Context(), store, next, opts)
	require.NoError(t, err)
	defer ring.Close()
	s, err := lethe.For[slim](ring)
	require.NoError(t, err)
	rows, err := p.db.QueryContext(t.Context(), "SELECT id, owner, sealed_keys, email, name, version FROM proof")
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	var batch []slim
	var versions []int64
	total, writes := 0, int64(0)
	check := func() {
		require.NoError(t, s.OpenSlice(t.Context(), batch))
		for i := range batch {
			r := &batch[i]
			got, err := r.Email.Reveal()
			require.NoError(t, err)
			require.Equal(t, p.written[r.ID-1].Load(), versions[i])
			require.Equal(t, email(r.ID, versions[i]), got)
			name, err := r.Name.Reveal()
			require.NoError(t, err)
			require.Equal(t, "Ada Lovelace", name)
			writes += versions[i]
		}
		total += len(batch)
		batch, versions = batch[:0], versions[:0]
	}
	for rows.Next() {
		var r slim
		var version int64
		require.NoError(t, rows.Scan(&r.ID, &r.Owner, &r.Keys, &r.Email, &r.Name, &version))
		batch, versions = append(batch, r), append(versions, version)
		if len(batch) == 1000 {
			check()
		}
	}
	require.NoError(t, rows.Err())
	check()
	require.Equal(t, len(p.written), total)
	t.Logf("%d rows opened to their last written value, %d writes among them", total, writes)
}

// proofWorker is what the worker of the proof does.
func proofWorker(t *testing.T, d disk, rate int) {
	t.Helper()
	p := openProof(t, d)
	var all errgroup.Group
	for _, kind := range []migrate.Kind{migrate.Rewrap, migrate.Reseal} {
		all.Go(func() error {
			j, err := migrate.NewJob(t.Context(), kind, p.table(), migrate.Options{Rate: rate, Lease: time.Second, Workers: 2})
			if err != nil {
				return err
			}
			for {
				r, err := j.Run(t.Context(), nil)
				if !errors.Is(err, migrate.ErrRunning) {
					fmt.Println(r)
					if len(r.Failures) > 0 {
						err = r.Failures[0]
					}
					return err
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	all.Go(func() error {
		next, err := localkms.Open(filepath.Join(d.dir, "kek2.json"), localkms.Options{})
		if err != nil {
			return err
		}
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
			if err = p.ring.RewrapKEK(t.Context(), next); err == nil || time.Now().After(deadline) {
				return err
			}
		}
	})
	require.NoError(t, all.Wait())
}
