package migrate_test

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/integrations/migrate"
)

// person is a row with a plaintext column, whose subject is not its key.
type person struct {
	Owner string               `db:"owner" lethe:"subject=person"`
	Keys  lethe.Keys           `db:"sealed_keys" lethe:"people"`
	Email lethe.Secret[string] `db:"email_sealed" lethe:"email"`
	Plain *string              `db:"email" lethe:"plain=email"`
}

// people is a table of them.
type people struct {
	*moving
	people *lethe.Sealer[person]
	table  migrate.Table
}

const peopleDDL = `CREATE TABLE people (id KEYTYPE NOT NULL PRIMARY KEY, tenant TEXT NOT NULL DEFAULT 'a',
	owner TEXT NOT NULL, email TEXT, sealed_keys BYTEA, email_sealed BYTEA)`

// newPeople makes the table; replace are pairs that change its definition. between
// is called once, between the reading of a page and its writing.
func newPeople(t testing.TB, d lethe.Dialect, between func(p *people), replace ...string) *people {
	t.Helper()
	p := &people{moving: &moving{db: openDB(t, d), dialect: d, ring: envelopetest.NewKeyring(t)}}
	now := time.Now
	if between != nil {
		now = func() time.Time {
			if do := between; do != nil && p.people != nil {
				between = nil
				do(p)
			}
			return time.Now()
		}
	}
	var err error
	p.people, err = lethe.For[person](p.ring, lethe.Options{Now: now, Migrations: map[string]lethe.Migration{"email": {Until: time.Now().Add(time.Hour)}}})
	require.NoError(t, err)
	ddl := strings.NewReplacer(append(replace, "KEYTYPE", "BIGINT")...).Replace(peopleDDL)
	if d == lethe.SQLite {
		ddl = strings.ReplaceAll(ddl, "BYTEA", "BLOB")
	}
	p.exec(t, ddl)
	require.NoError(t, migrate.Migrate(t.Context(), p.db))
	p.table = migrate.Table{Name: "people", Key: []string{"id"}, DB: p.db, Dialect: d, Rows: p.people.Rows()}
	return p
}

func (p *people) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	_, err := p.db.ExecContext(t.Context(), query, args...)
	require.NoError(t, err)
}

func (p *people) job(t testing.TB, k migrate.Kind, o migrate.Options) (migrate.Report, error) {
	t.Helper()
	j, err := migrate.NewJob(t.Context(), k, p.table, fast(o))
	require.NoError(t, err)
	return j.Run(t.Context(), nil)
}

// opened returns the e-mail address of a row, from where it counts.
func (p *people) opened(t testing.TB, s *lethe.Sealer[person], id any) string {
	t.Helper()
	var r person
	require.NoError(t, p.db.QueryRowContext(t.Context(), "SELECT owner, sealed_keys, email_sealed, email FROM people WHERE id = $1", id).Scan(&r.Owner, &r.Keys, &r.Email, &r.Plain))
	require.NoError(t, s.Open(t.Context(), &r))
	got, err := r.Email.Reveal()
	require.NoError(t, err)
	return got
}

func dialects(t *testing.T, test func(t *testing.T, d lethe.Dialect)) {
	t.Run("SQLite", func(t *testing.T) { test(t, lethe.SQLite) })
	t.Run("Postgres", func(t *testing.T) { test(t, lethe.Postgres) })
}

// The last row of a pass is the last in the order of the key, and not in that of its text.
func TestKeysOrderedUnlikeTheirText(t *testing.T) {
	for _, typ := range []string{"NUMERIC", "DOUBLE PRECISION", "mood"} {
		t.Run(typ, func(t *testing.T) {
			p := &people{moving: &moving{db: openDB(t, lethe.Postgres), dialect: lethe.Postgres, ring: envelopetest.NewKeyring(t)}}
			p.exec(t, "CREATE TYPE mood AS ENUM ('9', '10', '20', '100')")
			var err error
			p.people, err = lethe.For[person](p.ring, lethe.Options{Migrations: map[string]lethe.Migration{"email": {Until: time.Now().Add(time.Hour)}}})
			require.NoError(t, err)
			p.exec(t, strings.ReplaceAll(peopleDDL, "KEYTYPE", typ))
			require.NoError(t, migrate.Migrate(t.Context(), p.db))
			p.table = migrate.Table{Name: "people", Key: []string{"id"}, DB: p.db, Dialect: lethe.Postgres, Rows: p.people.Rows()}
			for _, id := range []string{"9", "10", "20", "100"} {
				p.exec(t, "INSERT INTO people (id, owner, email) VALUES ('"+id+"', 'o', 'e')")
			}
			r, err := p.job(t, migrate.Backfill, migrate.Options{BatchSize: 3, Workers: 1})
			require.NoError(t, err)
			require.EqualValues(t, 4, r.All.Changed)
		})
	}
}

// A value that its column is too short for is refused, not cut off.
func TestColumnsTooShort(t *testing.T) {
	for _, typ := range []string{"VARCHAR(20)", "short", "shorter"} {
		t.Run(typ, func(t *testing.T) {
			p := newPeople(t, lethe.Postgres, nil, "email_sealed BYTEA", "email_sealed TEXT")
			p.exec(t, "CREATE DOMAIN short AS VARCHAR(20)")
			p.exec(t, "CREATE DOMAIN shorter AS short")
			p.exec(t, "ALTER TABLE people ALTER email_sealed TYPE "+typ)
			p.exec(t, "INSERT INTO people (id, owner, email) VALUES (1, 'o', 'e@example.com'), (2, 'o', 'f@example.com')")
			_, err := p.job(t, migrate.Backfill, migrate.Options{})
			require.ErrorContains(t, err, "too long")
			require.Equal(t, "e@example.com", p.opened(t, p.people, 1))
		})
	}
}

// A row that becomes somebody else's while it is sealed is sealed for that one.
func TestOwnerChangesUnderBackfill(t *testing.T) {
	dialects(t, func(t *testing.T, d lethe.Dialect) {
		p := newPeople(t, d, func(p *people) {
			p.exec(t, "UPDATE people SET owner = 'bob'")
		})
		p.exec(t, "INSERT INTO people (id, owner, email) VALUES (1, 'alice', 'e@example.com')")
		r, err := p.job(t, migrate.Backfill, migrate.Options{})
		require.NoError(t, err)
		require.EqualValues(t, 1, r.All.Raced)
		require.Equal(t, "e@example.com", p.opened(t, p.people, 1))
	})
}

// A row that becomes another tenant's is none of the job's any more.
func TestTenantChangesUnderBackfill(t *testing.T) {
	for name, also := range map[string]string{"alone": "", "with its value": ", email = 'new'"} {
		t.Run(name, func(t *testing.T) {
			testTenantChanges(t, also)
		})
	}
}

func testTenantChanges(t *testing.T, also string) {
	t.Helper()
	dialects(t, func(t *testing.T, d lethe.Dialect) {
		p := newPeople(t, d, func(p *people) {
			p.exec(t, "UPDATE people SET tenant = 'b'"+also)
		})
		p.table.Tenant, p.table.TenantColumn = "a", "tenant"
		p.exec(t, "INSERT INTO people (id, owner, email) VALUES (1, 'alice', 'old')")
		r, err := p.job(t, migrate.Backfill, migrate.Options{})
		require.NoError(t, err)
		require.Zero(t, r.All.Changed)
		require.EqualValues(t, 1, r.All.Gone)
		var null bool
		require.NoError(t, p.db.QueryRowContext(t.Context(), "SELECT sealed_keys IS NULL FROM people").Scan(&null))
		require.True(t, null)
	})
}

// Where a column takes two texts for one, a job still sees that the service wrote the other.
func TestCaseInsensitiveColumns(t *testing.T) {
	dialects(t, func(t *testing.T, d lethe.Dialect) {
		var p *people
		between := func(p *people) { p.exec(t, "UPDATE people SET email = 'Anna@example.com'") }
		if d == lethe.Postgres {
			p = newPeople(t, d, between)
			p.exec(t, "CREATE COLLATION ignoring (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
			p.exec(t, "ALTER TABLE people ALTER email TYPE TEXT COLLATE ignoring")
		} else {
			p = newPeople(t, d, between, "email TEXT,", "email TEXT COLLATE NOCASE,")
		}
		p.exec(t, "INSERT INTO people (id, owner, email) VALUES (1, 'alice', 'anna@example.com')")
		r, err := p.job(t, migrate.Backfill, migrate.Options{})
		require.NoError(t, err)
		require.EqualValues(t, 1, r.All.Raced)
		require.Equal(t, "Anna@example.com", p.opened(t, p.people, 1))
	})
}

// A value that does not fit its field fails its row, and is not in the error.
func TestErrorsDoNotShowValues(t *testing.T) {
	type numbered struct {
		Owner string              `db:"owner" lethe:"subject=person"`
		Keys  lethe.Keys          `db:"sealed_keys" lethe:"people"`
		Email lethe.Secret[int64] `db:"email_sealed" lethe:"email"`
		Plain *int64              `db:"email" lethe:"plain=email"`
	}
	dialects(t, func(t *testing.T, d lethe.Dialect) {
		p := newPeople(t, d, nil)
		s, err := lethe.For[numbered](p.ring, lethe.Options{Migrations: map[string]lethe.Migration{"email": {Until: time.Now().Add(time.Hour)}}})
		require.NoError(t, err)
		p.table.Rows = s.Rows()
		p.exec(t, "INSERT INTO people (id, owner, email) VALUES (1, 'alice', 'hunter2'), (2, 'bob', '17')")
		r, err := p.job(t, migrate.Backfill, migrate.Options{})
		require.NoError(t, err)
		require.EqualValues(t, 1, r.This.Failed)
		require.EqualValues(t, 1, r.All.Changed)
		require.Equal(t, []string{"1"}, r.Failures[0].Key())
		require.NotContains(t, r.Failures[0].Error(), "hunter2")
		require.Contains(t, r.Failures[0].Error(), "Plain")
		var state string
		require.NoError(t, p.db.QueryRowContext(t.Context(), "SELECT state FROM lethe_job").Scan(&state))
		require.NotContains(t, state, "hunter2")
	})
}

// What PostgreSQL says of a value is not passed on.
func TestDatabaseErrorsDoNotShowValues(t *testing.T) {
	p := newPeople(t, lethe.Postgres, nil)
	p.exec(t, "INSERT INTO people (id, owner, email) VALUES (1, 'alice', 'hunter2'), (2, 'alice', 'hunter2')")
	_, err := p.job(t, migrate.Backfill, migrate.Options{})
	require.NoError(t, err)
	p.exec(t, "ALTER TABLE people ALTER email TYPE integer USING NULL")
	p.table.Rows = p.people.Rows()
	_, err = p.job(t, migrate.Unseal, migrate.Options{})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
	require.Equal(t, "hunter2", p.opened(t, p.people, 1))
	p.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not %', NEW.email; END $$`)
	p.exec(t, "ALTER TABLE people ALTER email TYPE text")
	p.exec(t, "CREATE TRIGGER refuse BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION refuse()")
	_, err = p.job(t, migrate.Unseal, migrate.Options{})
	require.ErrorContains(t, err, "P0001")
	require.NotContains(t, err.Error(), "hunter2")
}

// A pool smaller than the number of workers makes a job slow, not stop for ever
// with the service's rows locked.
func TestSmallPool(t *testing.T) {
	p := newPeople(t, lethe.Postgres, nil)
	p.db.SetMaxOpenConns(1)
	for i := range 20 {
		p.exec(t, "DELETE FROM people")
		p.exec(t, "INSERT INTO people (id, owner, email) SELECT i, 'o', CASE WHEN i % 8 < 4 THEN 'e' END FROM generate_series(0, 63) AS i")
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		j, err := migrate.NewJob(ctx, migrate.Backfill, p.table, fast(migrate.Options{Name: strconv.Itoa(i), Workers: 8, BatchSize: 4}))
		require.NoError(t, err)
		_, err = j.Run(ctx, nil)
		cancel()
		require.NoError(t, err)
	}
}

// One name is one job, so it is not taken up for another tenant.
func TestNameOfAnotherTenantsJob(t *testing.T) {
	p := newPeople(t, lethe.SQLite, nil)
	p.table.TenantColumn = "tenant"
	p.exec(t, "INSERT INTO people (id, tenant, owner, email) VALUES (1, 'b', 'o', 'e'), (2, 'a', 'o', 'e'), (3, 'a', 'o', 'e')")
	run := func(tenant string) error {
		p.table.Tenant = tenant
		j, err := migrate.NewJob(t.Context(), migrate.Backfill, p.table, fast(migrate.Options{Name: "mine", BatchSize: 1, Workers: 1}))
		require.NoError(t, err)
		for pr, err := range j.Batches(t.Context()) {
			if err != nil {
				return err
			}
			if pr.All.Changed > 0 && tenant == "a" {
				break
			}
		}
		return nil
	}
	require.NoError(t, run("a"))
	require.ErrorContains(t, run("b"), "another Options.Name")
}

// A row that was given up for others' writes is visited again, whether it is among
// the failures that are listed or not, and by whichever process.
func TestContendedRowsAreVisitedAgain(t *testing.T) {
	for name, resumed := range map[string]bool{"here": false, "resumed": true} {
		t.Run(name, func(t *testing.T) {
			var racing atomic.Bool
			p := newPeople(t, lethe.SQLite, nil)
			now := func() time.Time {
				if racing.Load() {
					p.exec(t, "UPDATE people SET email = email || 'x' WHERE id = 2")
				}
				return time.Now()
			}
			var err error
			p.people, err = lethe.For[person](p.ring, lethe.Options{Now: now, Migrations: map[string]lethe.Migration{"email": {Until: time.Now().Add(time.Hour)}}})
			require.NoError(t, err)
			p.table.Rows = p.people.Rows()
			differs := person{Owner: "o", Email: lethe.Of("one")}
			require.NoError(t, p.people.Seal(t.Context(), &differs))
			p.exec(t, "INSERT INTO people (id, owner, email, sealed_keys, email_sealed) VALUES (1, 'o', 'another', $1, $2)", differs.Keys, differs.Email)
			p.exec(t, "INSERT INTO people (id, owner, email) VALUES (2, 'o', 'e'), (3, 'o', NULL)")
			racing.Store(true)
			o := fast(migrate.Options{Workers: 1, BatchSize: 2, Retries: 1, Failures: 1})
			for {
				stopped := false
				j, err := migrate.NewJob(t.Context(), migrate.Backfill, p.table, o)
				require.NoError(t, err)
				for pr, err := range j.Batches(t.Context()) {
					require.NoError(t, err)
					if racing.Load() && pr.This.Failed == 2 {
						racing.Store(false)
						if stopped = resumed; stopped {
							break
						}
					}
				}
				if !stopped {
					break
				}
			}
			require.Contains(t, p.opened(t, p.people, 2), "ex")
			var null bool
			require.NoError(t, p.db.QueryRowContext(t.Context(), "SELECT email IS NULL FROM people WHERE id = 2").Scan(&null))
			require.True(t, null, "the row was moved")
		})
	}
}

// A job does not wait for a row that others refer to meanwhile, also where it writes a
// column with a unique index, which takes a stronger lock.
func TestNoWaitForReferences(t *testing.T) {
	p := newPeople(t, lethe.Postgres, nil, "email_sealed BYTEA", "email_sealed BYTEA UNIQUE")
	p.exec(t, "CREATE TABLE orders (person BIGINT REFERENCES people (id))")
	p.exec(t, "INSERT INTO people (id, owner, email) VALUES (1, 'o', 'e')")
	tx, err := p.db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	_, err = tx.ExecContext(t.Context(), "INSERT INTO orders VALUES (1)")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	j, err := migrate.NewJob(ctx, migrate.Backfill, p.table, fast(migrate.Options{Retries: 1, Passes: 1}))
	require.NoError(t, err)
	_, err = j.Run(ctx, nil)
	require.ErrorIs(t, err, migrate.ErrNotDone)
	require.Len(t, j.Failures(), 1)
	require.ErrorIs(t, j.Failures()[0], migrate.ErrContended)
}

// A row that a constraint refuses is listed, and does not stop the job.
func TestRefusedRows(t *testing.T) {
	dialects(t, func(t *testing.T, d lethe.Dialect) {
		for _, size := range []int{1, 4, 8} {
			testRefusedRows(t, d, size)
		}
	})
}

func testRefusedRows(t *testing.T, d lethe.Dialect, size int) {
	t.Helper()
	p := newPeople(t, d, nil, "email_sealed BYTEA", "email_sealed BYTEA, CHECK (sealed_keys IS NULL OR id NOT IN (2, 5))")
	for i := range 8 {
		p.exec(t, "INSERT INTO people (id, owner, email) VALUES ($1, 'o', 'hunter2')", i)
	}
	r, err := p.job(t, migrate.Backfill, migrate.Options{BatchSize: size})
	require.NoError(t, err)
	require.EqualValues(t, 6, r.All.Changed)
	require.EqualValues(t, 2, r.This.Failed)
	require.Len(t, r.Failures, 2)
	require.ErrorContains(t, r.Failures[0], "onstraint")
	for i := range 8 {
		require.Equal(t, "hunter2", p.opened(t, p.people, i))
	}
}

// A checkpoint holds a key that is no UTF-8 as it is.
func TestKeysOfAnyBytes(t *testing.T) {
	p := newPeople(t, lethe.SQLite, nil, "KEYTYPE", "TEXT")
	for _, id := range []string{"61", "80", "81", "EFBFBD", "F0"} {
		p.exec(t, "INSERT INTO people (id, owner, email) VALUES (CAST(x'"+id+"' AS TEXT), 'o', 'e')")
	}
	for done := false; !done; {
		j, err := migrate.NewJob(t.Context(), migrate.Backfill, p.table, fast(migrate.Options{Workers: 1, BatchSize: 1}))
		require.NoError(t, err)
		for _, err := range j.Batches(t.Context()) {
			require.NoError(t, err)
			var left int // before it can begin anew
			require.NoError(t, p.db.QueryRowContext(t.Context(), "SELECT count(*) FROM people WHERE email IS NOT NULL").Scan(&left))
			done = left == 0
			break
		}
		all, err := migrate.Status(t.Context(), p.db, lethe.SQLite)
		require.NoError(t, err)
		require.True(t, done || all[0].Pass == 1, "a pass left a row behind")
	}
}

// A job whose time would be over before its rate lets it go on ends as one whose
// time is over, which is tried again.
func TestRateAndDeadline(t *testing.T) {
	p := newPeople(t, lethe.SQLite, nil)
	for i := range 40 {
		p.exec(t, "INSERT INTO people (id, owner, email) VALUES ($1, 'o', 'e')", i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	j, err := migrate.NewJob(ctx, migrate.Backfill, p.table, fast(migrate.Options{Rate: 1, BatchSize: 10, Workers: 1}))
	require.NoError(t, err)
	_, err = j.Run(ctx, nil)
	require.True(t, migrate.Retryable(err), err)
}
