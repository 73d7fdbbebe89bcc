package migrate_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/integrations/migrate"
)

// A description that does not fit is refused, with every mistake at once.
func TestWrongTable(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		bad := func(change func(*migrate.Table), want ...string) {
			t.Helper()
			table := w.table()
			change(&table)
			_, err := migrate.NewJob(t.Context(), migrate.Reseal, table, migrate.Options{})
			for _, s := range want {
				require.ErrorContains(t, err, s)
			}
		}
		bad(func(b *migrate.Table) { *b = migrate.Table{} }, "Table.DB", "Table.Dialect", "Table.Rows", "Table.Key", "Table.Name")
		bad(func(b *migrate.Table) { b.Name = "nobody" }, "no table")
		bad(func(b *migrate.Table) { b.Name = "a.b.c" }, "Table.Name")
		bad(func(b *migrate.Table) { b.Name = `customers"; DROP TABLE customers; --` }, "no table")
		bad(func(b *migrate.Table) { b.Dialect = lethe.MySQL }, "lethe.Postgres or lethe.SQLite")
		bad(func(b *migrate.Table) { b.Key = []string{"nothing", "id", "id"} }, `no column "nothing"`, "twice")
		bad(func(b *migrate.Table) { b.Key = []string{"owner"} }, "no unique index")
		bad(func(b *migrate.Table) { b.Key = []string{"id", "friend"} }) // and is right but for the NULL
		bad(func(b *migrate.Table) { b.TenantColumn = "tenant" }, "needs Table.Tenant")
		bad(func(b *migrate.Table) {
			b.TenantColumn, b.Tenant, b.Columns = "tenant", "acme", map[string]string{"Email": "mail", "Born": "told", "Nobody": "note", "Keys": "id"}
			b.Key = []string{"owner"}
		}, "TenantColumn", `no column "mail"`, "Born and Told have one column", `no tagged field "Nobody"`, "no unique index")
		w.exec(t, "CREATE VIEW a_view AS SELECT id FROM customers")
		if w.dialect == lethe.Postgres {
			bad(func(b *migrate.Table) { b.Name = "a_view" }, "not a table")
			bad(func(b *migrate.Table) { b.Columns = map[string]string{"Told": "version"} }, "cannot hold sealed values")
			bad(func(b *migrate.Table) { b.Key = []string{"id", "friend"} }, "NULL")
		}
		_, err := migrate.NewJob(t.Context(), 0, w.table(), migrate.Options{})
		require.ErrorContains(t, err, "no kind")
		_, err = migrate.NewJob(t.Context(), migrate.Backfill, w.table(), migrate.Options{})
		require.ErrorContains(t, err, "no field is tagged plain=")
		_, err = migrate.NewJob(t.Context(), migrate.Rewrap, w.table(), migrate.Options{Rate: -2, Workers: -1, BatchSize: 1 << 20, Lease: 1, Passes: -1})
		for _, s := range []string{"Rate", "Workers", "BatchSize", "Lease", "Passes"} {
			require.ErrorContains(t, err, s)
		}
		w.exec(t, "DROP TABLE lethe_job")
		_, err = w.job(t, migrate.Rewrap, migrate.Options{}).Run(t.Context(), nil)
		require.ErrorContains(t, err, "Migrate makes it")
	})
}

// odd is a row of a table with all that is unusual: a key of two columns, of text
// and bytes or of a type of the database's own, names that need quotes, sealed values
// in text columns, tenants, and a struct behind a pointer.
type odd struct {
	Keys lethe.Keys           `db:"the keys" lethe:"odd"`
	ID   string               `lethe:"subject=odd"`
	Name lethe.Secret[string] `db:"Select" lethe:"name"`
	Idx  lethe.BlindIndex     `db:"a\"b" lethe:"idx,of=name,norm=exact/1"`
	Home *oddHome             `lethe:"home"`
}

type oddHome struct {
	Street lethe.Secret[string] `db:"street" lethe:"street"`
}

func TestOddTable(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		kind := "TEXT"
		if w.dialect == lethe.Postgres {
			kind = "UUID"
		}
		w.exec(t, `CREATE TABLE "Odd Table" (tenant TEXT NOT NULL, "no." `+kind+` NOT NULL, part `+w.bytesType()+` NOT NULL, owner TEXT, "the keys" TEXT, "Select" TEXT, "a""b" TEXT, street `+w.bytesType()+`, PRIMARY KEY (tenant, "no.", part))`)
		ring := envelopetest.NewKeyring(t)
		all, err := lethe.For[odd](ring, lethe.Options{RequireTenant: true})
		require.NoError(t, err)
		const n = 40
		for _, tenant := range []string{"acme", "globex"} {
			s := all.Tenant(tenant)
			for i := range n {
				row := odd{ID: fmt.Sprint("o", i%4), Name: lethe.Of(fmt.Sprint(tenant, i)), Home: &oddHome{lethe.Of("street")}}
				if i%5 == 0 {
					row.Home = nil
				}
				require.NoError(t, s.Seal(t.Context(), &row))
				var street any
				if row.Home != nil {
					street = row.Home.Street
				}
				w.exec(t, `INSERT INTO "Odd Table" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
					tenant, fmt.Sprintf("%08d-0000-4000-8000-000000000000", i/2), []byte{byte(i % 2), 0xff}, row.ID, lethe.Text(row.Keys), lethe.Text(row.Name), lethe.Text(row.Idx), street)
			}
			for i := range 4 {
				_, err := ring.Rotate(t.Context(), lethe.Subject{Tenant: tenant, Kind: "odd", ID: fmt.Sprint("o", i)})
				require.NoError(t, err)
			}
		}
		table := migrate.Table{
			Name: "Odd Table", Key: []string{"tenant", "no.", "part"}, DB: w.db, Dialect: w.dialect, Rows: all.Rows(),
			Columns: map[string]string{"ID": "owner"}, Tenant: "acme", TenantColumn: "tenant",
		}
		run := func(k migrate.Kind, table migrate.Table) migrate.Report {
			j, err := migrate.NewJob(t.Context(), k, table, fast(migrate.Options{}))
			require.NoError(t, err)
			r, err := j.Run(t.Context(), nil)
			require.NoError(t, err)
			require.Empty(t, r.Failures)
			return r
		}
		r := run(migrate.Rewrap, table)
		require.EqualValues(t, n, r.All.Changed)
		require.EqualValues(t, n, r.Total)
		require.EqualValues(t, n, run(migrate.Reseal, table).All.Changed)
		require.Zero(t, run(migrate.Rewrap, table).All.Changed)
		table.Tenant = "globex"
		require.EqualValues(t, n, run(migrate.Rewrap, table).All.Changed, "they were left alone")
		require.Zero(t, run(migrate.Reindex, table).All.Changed)

		rows, err := w.db.QueryContext(t.Context(), `SELECT tenant, owner, "the keys", "Select", "a""b", street FROM "Odd Table"`)
		require.NoError(t, err)
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var tenant, keys string
			row := odd{Home: &oddHome{}}
			require.NoError(t, rows.Scan(&tenant, &row.ID, &keys, &row.Name, &row.Idx, &row.Home.Street))
			require.NoError(t, row.Keys.Scan(keys))
			require.NotEqual(t, byte(1), keys[0], "text stays text")
			require.NoError(t, all.Tenant(tenant).Open(t.Context(), &row))
			got, err := row.Name.Reveal()
			require.NoError(t, err)
			require.Contains(t, got, tenant)
		}
		require.NoError(t, rows.Err())
		table.Tenant = ""
		_, err = migrate.NewJob(t.Context(), migrate.Rewrap, table, migrate.Options{})
		require.ErrorContains(t, err, "TenantColumn needs")
	})
}

// Rows that fail are listed, in the order of nothing but themselves, and stop nothing.
func TestFailures(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.insert(t, 1, 51)
		w.exec(t, "UPDATE customers SET email = (SELECT email FROM customers WHERE id = 2) WHERE id = 1")
		w.exec(t, "UPDATE customers SET sealed_keys = $1 WHERE id = 7", append([]byte{1}, make([]byte, 200)...))
		w.exec(t, "UPDATE customers SET email = $1 WHERE id = 9", []byte("plain@example.com"))
		w.exec(t, "UPDATE customers SET owner = '' WHERE id = 11")
		w.exec(t, "UPDATE customers SET sealed_keys = NULL WHERE id = 13")
		r := w.run(t, migrate.Reseal, migrate.Options{})
		require.Equal(t, migrate.Counts{Seen: 50, Changed: 45, Failed: 4, Unsealed: 1}, r.All)
		byKey := map[string]error{}
		for _, f := range r.Failures {
			require.Len(t, f.Key(), 1)
			byKey[f.Key()[0]] = f
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
				require.NotContains(t, fmt.Sprintf(verb, f), "cus_")
				require.NotContains(t, fmt.Sprintf(verb, f), "plain@")
			}
		}
		require.Len(t, byKey, 4)
		require.ErrorIs(t, byKey["1"], lethe.ErrDecrypt)
		require.ErrorIs(t, byKey["7"], lethe.ErrDecrypt)
		require.ErrorIs(t, byKey["9"], lethe.ErrNotSealed)
		require.ErrorIs(t, byKey["11"], lethe.ErrNoSubject)

		w.rotate(t)
		r = w.run(t, migrate.Rewrap, migrate.Options{})
		require.EqualValues(t, 2, r.This.Failed)
		require.EqualValues(t, 1, r.This.Unsealed)

		denied, err := lethe.For[customer](w.ring, lethe.Options{Policy: func(context.Context, lethe.Access) lethe.Decision { return lethe.Deny }})
		require.NoError(t, err)
		table := w.table()
		table.Rows = denied.Rows()
		j, err := migrate.NewJob(t.Context(), migrate.Reseal, table, fast(migrate.Options{Failures: 5}))
		require.NoError(t, err)
		r, err = j.Run(t.Context(), nil)
		require.NoError(t, err)
		require.EqualValues(t, 49, r.All.Failed)
		require.Len(t, r.Failures, 5)
		require.Len(t, j.Failures(), 5)
	})
}

func TestEstimate(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.insert(t, 1, 101)
		e, err := w.job(t, migrate.Rewrap, migrate.Options{Rate: 10}).Estimate(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 100, e.Rows)
		require.Zero(t, e.Change)
		w.rotate(t)
		before := w.read(t)
		e, err = w.job(t, migrate.Rewrap, migrate.Options{Rate: 10}).Estimate(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 100, e.Change)
		require.False(t, e.Estimated)
		require.InDelta(t, 100*300, e.Bytes, 100*100)
		require.InDelta(t, 11, e.Duration.Seconds(), 0.5)
		e, err = w.job(t, migrate.Reseal, migrate.Options{}).Estimate(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 100, e.Change)
		t.Log(e)
		for i, s := range w.read(t) {
			require.True(t, s.Keys.Equal(before[i].Keys), "nothing was written")
		}
		all, err := migrate.Status(t.Context(), w.db, w.dialect)
		require.NoError(t, err)
		require.Empty(t, all)
	})
}

func TestEmptyTable(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		r := w.run(t, migrate.Rewrap, migrate.Options{})
		require.Zero(t, r.All)
		e, err := w.job(t, migrate.Rewrap, migrate.Options{}).Estimate(t.Context())
		require.NoError(t, err)
		require.Zero(t, e.Rows)
	})
}
