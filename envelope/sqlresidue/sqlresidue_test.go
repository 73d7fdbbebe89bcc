package sqlresidue_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/sqlresidue"
	"github.com/lethe-go/lethe/internal/testdb"
)

// databases runs a test on SQLite and on PostgreSQL, each with a table of its own.
func databases(t *testing.T, idType string, test func(t *testing.T, db *sql.DB, table string)) {
	run := func(t *testing.T, driver, dsn, blob string) {
		db, err := sql.Open(driver, dsn)
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		table := fmt.Sprintf(`Odd "table" %d`, time.Now().UnixNano())
		quoted := `"` + strings.ReplaceAll(table, `"`, `""`) + `"`
		_, err = db.ExecContext(t.Context(), `CREATE TABLE `+quoted+` ("Who" `+idType+`, tenant TEXT, email_idx `+blob+`, name_idx `+blob+`, other TEXT)`)
		require.NoError(t, err)
		t.Cleanup(func() { _, _ = db.Exec("DROP TABLE " + quoted) })
		for _, row := range []struct{ id, tenant any }{{"1", nil}, {"1", "acme"}, {"2", nil}} {
			_, err := db.ExecContext(t.Context(), `INSERT INTO `+quoted+` VALUES ($1, $2, $3, $4, 'stays')`, row.id, row.tenant, []byte("e"), []byte("n"))
			require.NoError(t, err)
		}
		test(t, db, table)
	}
	t.Run("sqlite", func(t *testing.T) { run(t, "sqlite", filepath.Join(t.TempDir(), "app.db"), "BLOB") })
	t.Run("postgres", func(t *testing.T) {
		run(t, "pgx", testdb.Postgres(t), "BYTEA")
	})
}

// left counts, over all rows, the values that are there.
func left(t *testing.T, db *sql.DB, table string) (emails, names, others int) {
	t.Helper()
	require.NoError(t, db.QueryRow(`SELECT count(email_idx), count(name_idx), count(other) FROM "`+strings.ReplaceAll(table, `"`, `""`)+`"`).Scan(&emails, &names, &others))
	return emails, names, others
}

func table(name string) sqlresidue.Table {
	return sqlresidue.Table{
		Name: name, Kind: "customer", SubjectColumn: "Who", TenantColumn: "tenant",
		Columns: []sqlresidue.Column{{Name: "email_idx"}, {Name: "name_idx", Purpose: "billing"}},
	}
}

func TestForgotten(t *testing.T) {
	for _, idType := range []string{"TEXT", "BIGINT"} {
		t.Run(idType, func(t *testing.T) {
			databases(t, idType, func(t *testing.T, db *sql.DB, name string) {
				r, err := sqlresidue.New(db, table(name))
				require.NoError(t, err)
				who := envelope.Subject{Kind: "customer", ID: "1"}

				got, err := r.Forgotten(t.Context(), envelope.Subject{Kind: "supplier", ID: "1"}, "", true)
				require.NoError(t, err)
				require.Empty(t, got)
				got, err = r.Forgotten(t.Context(), who, "marketing", false)
				require.NoError(t, err)
				require.Empty(t, got)

				got, err = r.Forgotten(t.Context(), who, "billing", false)
				require.NoError(t, err)
				require.Equal(t, []envelope.Residual{{Kind: envelope.ResidualColumns, Name: name, Count: 1, Note: "made NULL: name_idx"}}, got)
				emails, names, others := left(t, db, name)
				require.Equal(t, []int{3, 2, 3}, []int{emails, names, others}, "no other tenant's, no other person's")

				got, err = r.Forgotten(t.Context(), who, "", true)
				require.NoError(t, err)
				require.EqualValues(t, 1, got[0].Count)
				got, err = r.Forgotten(t.Context(), who, "", true)
				require.NoError(t, err)
				require.Zero(t, got[0].Count, "it was done")
				got, err = r.Forgotten(t.Context(), envelope.Subject{Tenant: "acme", Kind: "customer", ID: "1"}, "", true)
				require.NoError(t, err)
				require.EqualValues(t, 1, got[0].Count)
				emails, names, others = left(t, db, name)
				require.Equal(t, []int{1, 1, 3}, []int{emails, names, others})
			})
		})
	}
}

// A deferred forget that comes due knows the pseudonym only. A table that has it is
// cleaned then; another at the next Forget, and until then the receipt and the status
// say that it is not.
func TestADeferredForget(t *testing.T) {
	databases(t, "TEXT", func(t *testing.T, db *sql.DB, name string) {
		ring := envelopetest.NewKeyring(t)
		quoted := `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		kind := "BLOB"
		if strings.HasSuffix(t.Name(), "postgres") {
			kind = "BYTEA"
		}
		_, err := db.ExecContext(t.Context(), "ALTER TABLE "+quoted+" ADD COLUMN who_ref "+kind)
		require.NoError(t, err)
		who := envelope.Subject{Kind: "customer", ID: "1"}
		ref, err := ring.Pseudonym(who)
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), "UPDATE "+quoted+` SET who_ref = $1 WHERE "Who" = $2 AND tenant IS NULL`, ref[:], "1")
		require.NoError(t, err)
		by := table(name)
		by.PseudonymColumn = "who_ref"
		r, err := sqlresidue.New(db, by)
		require.NoError(t, err)
		ring.AddResidue(r)

		require.NoError(t, ring.Hold(t.Context(), who, time.Now().Add(time.Second), "case"))
		receipt, err := ring.Forget(t.Context(), who)
		require.NoError(t, err)
		require.True(t, receipt.Deferred)
		emails, names, _ := left(t, db, name)
		require.Equal(t, []int{3, 3}, []int{emails, names}, "it is held")
		require.Eventually(t, func() bool {
			done, err := ring.ForgetDue(t.Context())
			require.NoError(t, err)
			if len(done) == 1 {
				require.Contains(t, done[0].Residuals, envelope.Residual{Kind: envelope.ResidualColumns, Name: name, Count: 1, Note: "made NULL: email_idx, name_idx"})
			}
			return len(done) == 1
		}, 10*time.Second, 100*time.Millisecond)
		emails, names, others := left(t, db, name)
		require.Equal(t, []int{2, 2, 3}, []int{emails, names, others})

		// Without the column.
		plain, err := sqlresidue.New(db, table(name))
		require.NoError(t, err)
		_, err = plain.ForgottenPseudonym(t.Context(), ref, "", true)
		require.ErrorIs(t, err, errors.ErrUnsupported)
	})
}

func TestATableOfOneTenant(t *testing.T) {
	databases(t, "TEXT", func(t *testing.T, db *sql.DB, name string) {
		one := table(name)
		one.TenantColumn, one.Tenant = "", "acme"
		r, err := sqlresidue.New(db, one)
		require.NoError(t, err)
		got, err := r.Forgotten(t.Context(), envelope.Subject{Kind: "customer", ID: "2"}, "", true)
		require.NoError(t, err)
		require.Empty(t, got)
		emails, _, _ := left(t, db, name)
		require.Equal(t, 3, emails)
		got, err = r.Forgotten(t.Context(), envelope.Subject{Tenant: "acme", Kind: "customer", ID: "2"}, "", true)
		require.NoError(t, err)
		require.EqualValues(t, 1, got[0].Count)
	})
}

// A column that is not there is an error, not a text that happens to be equal.
func TestAMisspeltColumn(t *testing.T) {
	databases(t, "TEXT", func(t *testing.T, db *sql.DB, name string) {
		for _, change := range []func(t *sqlresidue.Table){
			func(t *sqlresidue.Table) { t.SubjectColumn = "whom" },
			func(t *sqlresidue.Table) { t.TenantColumn = "tenants" },
			func(t *sqlresidue.Table) { t.Columns[0].Name = "mail_idx" },
			func(t *sqlresidue.Table) { t.Name = "no such" },
		} {
			bad := table(name)
			change(&bad)
			r, err := sqlresidue.New(db, bad)
			require.NoError(t, err)
			_, err = r.Forgotten(t.Context(), envelope.Subject{Tenant: "tenants", Kind: "customer", ID: "whom"}, "", true)
			require.Error(t, err)
			emails, _, _ := left(t, db, name)
			require.Equal(t, 3, emails)
		}
	})
}

func TestNewListsMistakes(t *testing.T) {
	_, err := sqlresidue.New(nil, sqlresidue.Table{Name: "a\x00", Schema: strings.Repeat("s", 64), TenantColumn: "t", Tenant: "x"})
	for _, part := range []string{"database", "Name", "Schema", "SubjectColumn", "Kind", "Columns", "Tenant is for"} {
		require.ErrorContains(t, err, part)
	}
}

func TestNoTenantIsNullOrEmpty(t *testing.T) {
	databases(t, "TEXT", func(t *testing.T, db *sql.DB, name string) {
		_, err := db.Exec(`UPDATE "` + strings.ReplaceAll(name, `"`, `""`) + `" SET tenant = '' WHERE tenant IS NULL AND "Who" = '1'`)
		require.NoError(t, err)
		r, err := sqlresidue.New(db, table(name))
		require.NoError(t, err)
		for _, id := range []string{"1", "2"} {
			got, err := r.Forgotten(t.Context(), envelope.Subject{Kind: "customer", ID: id}, "", true)
			require.NoError(t, err)
			require.EqualValues(t, 1, got[0].Count, id)
		}
		emails, _, _ := left(t, db, name)
		require.Equal(t, 1, emails, "the tenant's stays")
	})
}

// PostgreSQL says what it could not read as a number.
func TestNoErrorRepeatsTheID(t *testing.T) {
	databases(t, "BIGINT", func(t *testing.T, db *sql.DB, name string) {
		wrong := table(name)
		wrong.Columns = append(wrong.Columns, sqlresidue.Column{Name: "absent"})
		for _, spec := range []sqlresidue.Table{table(name), wrong} {
			r, err := sqlresidue.New(db, spec)
			require.NoError(t, err)
			if _, err = r.Forgotten(t.Context(), envelope.Subject{Kind: "customer", ID: "ada@example.com"}, "", true); err != nil {
				require.NotContains(t, err.Error(), "example.com")
				require.Contains(t, err.Error(), "the database refused it")
			}
		}
		r, err := sqlresidue.New(db, table(name))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = r.Forgotten(ctx, envelope.Subject{Kind: "customer", ID: "1"}, "", true)
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestCheck(t *testing.T) {
	for _, idType := range []string{"TEXT", "BIGINT"} {
		databases(t, idType, func(t *testing.T, db *sql.DB, name string) {
			r, err := sqlresidue.New(db, table(name))
			require.NoError(t, err)
			require.NoError(t, r.Check(t.Context()))
			one := table(name)
			one.TenantColumn, one.Tenant = "", "acme"
			r, err = sqlresidue.New(db, one)
			require.NoError(t, err)
			require.NoError(t, r.Check(t.Context()))
			emails, names, others := left(t, db, name)
			require.Equal(t, []int{3, 3, 3}, []int{emails, names, others}, "it changes nothing")
			for _, change := range []struct {
				says []string
				do   func(t *sqlresidue.Table)
			}{
				{[]string{"whom", "SubjectColumn"}, func(t *sqlresidue.Table) { t.SubjectColumn = "whom" }},
				{[]string{"tenants", "TenantColumn"}, func(t *sqlresidue.Table) { t.TenantColumn = "tenants" }},
				{[]string{"mail_idx", "nam_idx", "Table.Columns"}, func(t *sqlresidue.Table) { t.Columns[0].Name, t.Columns[1].Name = "mail_idx", "nam_idx" }},
				{[]string{"no such", "Table.Name"}, func(t *sqlresidue.Table) { t.Name = "no such" }},
				{[]string{"elsewhere", "Table.Schema"}, func(t *sqlresidue.Table) { t.Schema = "elsewhere" }},
			} {
				bad := table(name)
				change.do(&bad)
				r, err := sqlresidue.New(db, bad)
				require.NoError(t, err)
				err = r.Check(t.Context())
				for _, says := range change.says {
					require.ErrorContains(t, err, says)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, r.Check(ctx), context.Canceled)
		})
	}
}

// A role that may read the table but not write it could not forget.
func TestCheckSeesMissingRights(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	_, err = db.Exec(`CREATE TABLE people ("Who" TEXT, tenant TEXT, email_idx BLOB, name_idx BLOB)`)
	require.NoError(t, err)
	reader, err := sql.Open("sqlite", "file:"+path+"?_pragma=query_only(1)")
	require.NoError(t, err)
	t.Cleanup(func() { _ = reader.Close() })
	r, err := sqlresidue.New(reader, table("people"))
	require.NoError(t, err)
	require.ErrorContains(t, r.Check(t.Context()), "grant UPDATE")
}
