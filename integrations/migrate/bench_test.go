package migrate_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/integrations/migrate"
)

// oneSealed is a row of the backfill benchmark.
type oneSealed struct {
	ID    int64                `db:"id" lethe:"id"`
	Owner string               `db:"owner" lethe:"subject=customer"`
	Keys  lethe.Keys           `db:"sealed_keys" lethe:"bench"`
	Email lethe.Secret[string] `db:"email_sealed" lethe:"email"`
	Old   *string              `db:"email" lethe:"plain=email"`
}

// BenchmarkJob: go test -run '^$' -bench Job -benchtime 1x -rows 200000. Its figures
// are rows a second on PostgreSQL without a limit, the server on the same machine.
func BenchmarkJob(b *testing.B) {
	for _, batch := range []int{0, 250, 4000} {
		o := migrate.Options{Rate: migrate.Unlimited, BatchSize: batch}
		b.Run(fmt.Sprintf("rewrap/batch=%d", batch), func(b *testing.B) { benchSealed(b, migrate.Rewrap, o) })
	}
	o := migrate.Options{Rate: migrate.Unlimited}
	b.Run("reseal", func(b *testing.B) { benchSealed(b, migrate.Reseal, o) })
	b.Run("backfill", func(b *testing.B) { benchBackfill(b, o) })
}

func benchSealed(b *testing.B, k migrate.Kind, o migrate.Options) {
	w := &world{dialect: lethe.Postgres, ring: envelopetest.NewKeyring(b)}
	w.db, _ = openPostgres(b)
	require.NoError(b, migrate.Migrate(b.Context(), w.db))
	p := &proof{world: w}
	var err error
	p.slim, err = lethe.For[slim](w.ring)
	require.NoError(b, err)
	p.fill(b, *proofRows)
	for b.Loop() {
		b.StopTimer()
		p.rotateAll(b)
		b.StartTimer()
		benchRun(b, k, p.table(), o)
	}
}

func benchBackfill(b *testing.B, o migrate.Options) {
	w := &world{dialect: lethe.Postgres, ring: envelopetest.NewKeyring(b)}
	w.db, _ = openPostgres(b)
	require.NoError(b, migrate.Migrate(b.Context(), w.db))
	s, err := lethe.For[oneSealed](w.ring, lethe.Options{Migrations: map[string]lethe.Migration{"email": {Until: time.Now().Add(time.Hour)}}})
	require.NoError(b, err)
	for b.Loop() {
		b.StopTimer()
		w.exec(b, "DROP TABLE IF EXISTS bench")
		w.exec(b, "CREATE TABLE bench (id BIGINT PRIMARY KEY, owner TEXT NOT NULL, email TEXT, sealed_keys BYTEA, email_sealed BYTEA)")
		w.exec(b, "INSERT INTO bench SELECT i, 'cus_' || i % 1000, 'c' || i || '@example.com' FROM generate_series(1, $1::bigint) i", *proofRows)
		w.exec(b, "ANALYZE bench")
		b.StartTimer()
		benchRun(b, migrate.Backfill, migrate.Table{Name: "bench", Key: []string{"id"}, DB: w.db, Dialect: lethe.Postgres, Rows: s.Rows()}, o)
	}
}

// benchRun runs a job but for the pass that finds nothing to do.
func benchRun(b *testing.B, k migrate.Kind, table migrate.Table, o migrate.Options) {
	j, err := migrate.NewJob(b.Context(), k, table, o)
	require.NoError(b, err)
	began := time.Now()
	var first, all time.Duration
	for p, err := range j.Batches(b.Context()) {
		require.NoError(b, err)
		if all = time.Since(began); p.Pass == 1 {
			first = all
		}
		if p.Done {
			require.Equal(b, *proofRows, p.All.Changed)
		}
	}
	b.ReportMetric(float64(*proofRows)/first.Seconds(), "rows/s")
	b.ReportMetric(float64(*proofRows)/all.Seconds(), "rows/s-with-last-pass")
}
