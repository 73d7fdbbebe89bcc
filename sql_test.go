package lethe_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

// Customer is the struct of the README; TestREADMEShowsTheTestedStruct compares them.
type Customer struct {
	Keys     lethe.Keys           `db:"sealed_keys" lethe:"customers"`
	ID       string               `db:"id"          lethe:"subject=customer"`
	Email    lethe.Secret[string] `db:"email"       lethe:"email,mask=email"`
	EmailIdx lethe.BlindIndex     `db:"email_idx"   lethe:"email_idx,of=email,norm=email/1,bits=32"`
	Plan     string               `db:"plan"`
}

const (
	customerDDL     = `CREATE TABLE customers (sealed_keys BLOB NOT NULL, id TEXT PRIMARY KEY, email BLOB, email_idx BLOB, plan TEXT NOT NULL)`
	customerInsert  = `INSERT INTO customers (sealed_keys, id, email, email_idx, plan) VALUES ($1, $2, $3, $4, $5)`
	customerSelect  = `SELECT sealed_keys, id, email, email_idx, plan FROM customers`
	customerByID    = customerSelect + ` WHERE id = $1`
	customerSave    = `UPDATE customers SET sealed_keys = $1, email = $2, email_idx = $3, plan = $4 WHERE id = $5`
	customerByOrder = customerSelect + ` ORDER BY id`
)

// database is SQLite or PostgreSQL behind database/sql.
type database struct {
	*sql.DB
	dialect lethe.Dialect
}

// q writes a statement, given with $1 and BLOB, for the dialect.
func (d database) q(statement string) string {
	if d.dialect == lethe.Postgres {
		return strings.ReplaceAll(statement, " BLOB", " BYTEA")
	}
	return strings.ReplaceAll(statement, "$", "?")
}

func (d database) exec(t *testing.T, statement string, args ...any) int64 {
	t.Helper()
	res, err := d.ExecContext(t.Context(), d.q(statement), args...)
	require.NoError(t, err)
	n, err := res.RowsAffected()
	require.NoError(t, err)
	return n
}

func (d database) count(t *testing.T, table string) int {
	t.Helper()
	var n int
	require.NoError(t, d.QueryRowContext(t.Context(), `SELECT count(*) FROM `+table).Scan(&n))
	return n
}

// onBoth runs a test on SQLite and on PostgreSQL, each with tables of its own.
func onBoth(t *testing.T, test func(t *testing.T, db database)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "rows.db"))
		require.NoError(t, err)
		db.SetMaxOpenConns(1)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		test(t, database{db, lethe.SQLite})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		db := stdlib.OpenDB(*postgresSchema(t))
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		test(t, database{db, lethe.Postgres})
	})
}

// postgresSchema makes a schema, dropped when the test ends, and returns how to connect to it.
func postgresSchema(t *testing.T) *pgx.ConnConfig {
	t.Helper()
	dsn := os.Getenv("LETHE_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("NOT TESTED ON POSTGRESQL: set LETHE_TEST_POSTGRES to the URL of a scratch server, such as postgres://user@127.0.0.1:5432/postgres")
	}
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	random := make([]byte, 8)
	_, err = rand.Read(random)
	require.NoError(t, err)
	schema := "lethe_root_" + hex.EncodeToString(random)
	admin := func(ctx context.Context, statement string) {
		conn, err := pgx.ConnectConfig(ctx, cfg.Copy())
		require.NoError(t, err)
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, statement)
		require.NoError(t, err)
	}
	admin(t.Context(), `CREATE SCHEMA `+schema)
	t.Cleanup(func() { admin(context.WithoutCancel(t.Context()), `DROP SCHEMA `+schema+` CASCADE`) })
	own := cfg.Copy()
	own.RuntimeParams["search_path"] = schema
	return own
}

func customersOf(t *testing.T) (*lethe.Sealer[Customer], *envelope.Keyring) {
	t.Helper()
	ring := envelopetest.NewKeyring(t)
	s, err := lethe.For[Customer](ring)
	require.NoError(t, err)
	return s, ring
}

func newCustomer(i int) Customer {
	return Customer{ID: fmt.Sprintf("cus_%02d", i), Email: lethe.Of(fmt.Sprintf("ada%d@example.com", i)), Plan: "free"}
}

// insertCustomers seals and inserts n customers and returns them, sealed.
func insertCustomers(t *testing.T, db database, s *lethe.Sealer[Customer], n int) []Customer {
	t.Helper()
	db.exec(t, customerDDL)
	rows := make([]Customer, n)
	for i := range rows {
		rows[i] = newCustomer(i)
	}
	require.NoError(t, s.SealSlice(t.Context(), rows))
	for _, c := range rows {
		db.exec(t, customerInsert, c.Keys, c.ID, c.Email, c.EmailIdx, c.Plan)
	}
	return rows
}

func selectCustomers(t *testing.T, db database, query string, args ...any) []Customer {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), db.q(query), args...)
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	var out []Customer
	for rows.Next() {
		var c Customer
		require.NoError(t, rows.Scan(&c.Keys, &c.ID, &c.Email, &c.EmailIdx, &c.Plan))
		out = append(out, c)
	}
	require.NoError(t, rows.Err())
	return out
}

func one(t *testing.T, rows []Customer) Customer {
	t.Helper()
	require.Len(t, rows, 1)
	return rows[0]
}

func TestSQLNothingUnsealedIsWritten(t *testing.T) {
	onBoth(t, func(t *testing.T, db database) {
		s, _ := customersOf(t)
		db.exec(t, customerDDL)
		c := newCustomer(1)
		_, err := db.ExecContext(t.Context(), db.q(customerInsert), c.Keys, c.ID, c.Email, c.EmailIdx, c.Plan)
		require.ErrorIs(t, err, lethe.ErrNotSealed)
		require.Zero(t, db.count(t, "customers"))

		sealed := newCustomer(2)
		require.NoError(t, s.Seal(t.Context(), &sealed))
		for name, args := range map[string][]any{
			"field": {sealed.Keys, c.ID, c.Email, sealed.EmailIdx, c.Plan},
			"keys":  {c.Keys, c.ID, sealed.Email, sealed.EmailIdx, c.Plan},
			"index": {sealed.Keys, c.ID, sealed.Email, c.EmailIdx, c.Plan},
			"text":  {sealed.Keys, c.ID, lethe.Text(c.Email), sealed.EmailIdx, c.Plan},
		} {
			_, err := db.ExecContext(t.Context(), db.q(customerInsert), args...)
			require.ErrorIs(t, err, lethe.ErrNotSealed, name)
			require.NotContains(t, err.Error(), "example.com", name)
		}
		require.Zero(t, db.count(t, "customers"))
	})
}

// What no type can stop, a statement with a bare value, the column's CHECK stops:
// the two are those of SECURITY.md.
func TestSQLCheckRefusesBareValues(t *testing.T) {
	onBoth(t, func(t *testing.T, db database) {
		s, _ := customersOf(t)
		check := map[lethe.Dialect]string{
			lethe.SQLite:   `CHECK (email IS NULL OR typeof(email) = 'blob' AND length(email) >= 29 AND hex(substr(email, 1, 1)) BETWEEN '10' AND '1F')`,
			lethe.Postgres: `CHECK (length(email) >= 29 AND get_byte(email, 0) BETWEEN 16 AND 31)`,
		}[db.dialect]
		security, err := os.ReadFile("SECURITY.md")
		require.NoError(t, err)
		require.Contains(t, string(security), "\n  "+check+"\n")
		db.exec(t, strings.Replace(customerDDL, "email BLOB", "email BLOB "+check, 1))
		c := newCustomer(1)
		require.NoError(t, s.Seal(t.Context(), &c))
		for name, bare := range map[string]any{
			"text": "ada@example.com, who lives at 12 St James's Square", "bytes": []byte("ada@example.com, who lives at 12 St James's Square"), "empty": []byte{}, "short": []byte{0x11},
		} {
			_, err := db.ExecContext(t.Context(), db.q(customerInsert), c.Keys, c.ID, bare, c.EmailIdx, c.Plan)
			require.Error(t, err, name)
		}
		db.exec(t, customerInsert, c.Keys, c.ID, c.Email, c.EmailIdx, c.Plan)
		empty := Customer{ID: "cus_2", Email: lethe.Of("")}
		none := Customer{ID: "cus_3"}
		rows := []Customer{empty, none}
		require.NoError(t, s.SealSlice(t.Context(), rows))
		for i := range rows {
			db.exec(t, customerInsert, rows[i].Keys, rows[i].ID, rows[i].Email, rows[i].EmailIdx, rows[i].Plan)
		}
		require.Equal(t, 3, db.count(t, "customers"))
	})
}

func TestSQLSealStoreOpen(t *testing.T) {
	onBoth(t, func(t *testing.T, db database) {
		s, _ := customersOf(t)
		insertCustomers(t, db, s, 3)
		var email, index []byte
		require.NoError(t, db.QueryRowContext(t.Context(), db.q(`SELECT email, email_idx FROM customers WHERE id = $1`), "cus_01").Scan(&email, &index))
		require.Len(t, email, len("ada1@example.com")+29)
		require.Len(t, index, 2+4)
		require.False(t, bytes.Contains(email, []byte("ada1")))

		rows := selectCustomers(t, db, customerByOrder)
		require.Len(t, rows, 3)
		_, err := rows[0].Email.Reveal()
		require.ErrorIs(t, err, lethe.ErrSealed)
		require.NoError(t, s.OpenSlice(t.Context(), rows))
		for i := range rows {
			require.Equal(t, fmt.Sprintf("ada%d@example.com", i), reveal(t, rows[i].Email))
			require.Equal(t, "a***@example.com", rows[i].Email.Masked())
			require.Equal(t, "free", rows[i].Plan)
		}
	})
}

func TestSQLTextColumns(t *testing.T) {
	onBoth(t, func(t *testing.T, db database) {
		s, _ := customersOf(t)
		db.exec(t, strings.ReplaceAll(customerDDL, "BLOB", "TEXT"))
		rows := []Customer{newCustomer(0), {ID: "cus_01", Plan: "pro"}}
		require.NoError(t, s.SealSlice(t.Context(), rows))
		for _, c := range rows {
			db.exec(t, customerInsert, lethe.Text(c.Keys), c.ID, lethe.Text(c.Email), lethe.Text(c.EmailIdx), c.Plan)
		}
		var keys string
		var email, index sql.NullString
		require.NoError(t, db.QueryRowContext(t.Context(), db.q(`SELECT sealed_keys, email, email_idx FROM customers WHERE id = $1`), "cus_01").Scan(&keys, &email, &index))
		require.Regexp(t, `^[A-Za-z0-9_-]+$`, keys)
		require.False(t, email.Valid)
		require.False(t, index.Valid)

		got := selectCustomers(t, db, customerByOrder)
		require.NoError(t, s.OpenSlice(t.Context(), got))
		require.Equal(t, "ada0@example.com", reveal(t, got[0].Email))
		require.Equal(t, lethe.StatusNull, got[1].Email.Status())
		require.True(t, got[0].Keys.Equal(rows[0].Keys))
		require.True(t, got[0].EmailIdx.Equal(rows[0].EmailIdx))

		// Plaintext somebody wrote past the library is refused, not shown.
		db.exec(t, `UPDATE customers SET email = 'plain@example.com' WHERE id = 'cus_00'`)
		var c Customer
		err := db.QueryRowContext(t.Context(), `SELECT email FROM customers WHERE id = 'cus_00'`).Scan(&c.Email)
		require.ErrorIs(t, err, lethe.ErrNotSealed)
		require.NotContains(t, err.Error(), "plain@")
	})
}

func TestSQLNull(t *testing.T) {
	onBoth(t, func(t *testing.T, db database) {
		s, _ := customersOf(t)
		db.exec(t, customerDDL)
		never, null, empty := Customer{ID: "a"}, Customer{ID: "b", Email: lethe.Null[string]()}, Customer{ID: "c", Email: lethe.Of("")}
		for _, c := range []*Customer{&never, &null, &empty} {
			require.NoError(t, s.Seal(t.Context(), c))
			db.exec(t, customerInsert, c.Keys, c.ID, c.Email, c.EmailIdx, c.Plan)
		}
		var nulls int
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM customers WHERE email IS NULL AND email_idx IS NULL`).Scan(&nulls))
		require.Equal(t, 2, nulls)
		rows := selectCustomers(t, db, customerByOrder)
		require.NoError(t, s.OpenSlice(t.Context(), rows))
		for i := range 2 {
			_, err := rows[i].Email.Reveal()
			require.ErrorIs(t, err, lethe.ErrNull)
		}
		require.Empty(t, reveal(t, rows[2].Email), "an empty string is not NULL")

		// A NULL column can be given a value under the keys the row has, and lose it again.
		rows[0].Email = lethe.Of("late@example.com")
		require.NoError(t, s.Seal(t.Context(), &rows[0]))
		require.EqualValues(t, 1, db.exec(t, customerSave, rows[0].Keys, rows[0].Email, rows[0].EmailIdx, rows[0].Plan, rows[0].ID))
		got := one(t, selectCustomers(t, db, customerByID, "a"))
		require.NoError(t, s.Open(t.Context(), &got))
		require.Equal(t, "late@example.com", reveal(t, got.Email))
		got.Email = lethe.Null[string]()
		require.NoError(t, s.Seal(t.Context(), &got))
		db.exec(t, customerSave, got.Keys, got.Email, got.EmailIdx, got.Plan, got.ID)
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM customers WHERE email IS NULL AND email_idx IS NULL`).Scan(&nulls))
		require.Equal(t, 2, nulls)
	})
}

func TestSQLFullSaveAfterAPartialSelectWipesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, db database) {
		s, _ := customersOf(t)
		sealed := insertCustomers(t, db, s, 1)[0]
		var c Customer
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT sealed_keys, id, plan FROM customers`).Scan(&c.Keys, &c.ID, &c.Plan))
		c.Plan = "pro"
		require.NoError(t, s.Seal(t.Context(), &c), "there is nothing to seal, and nothing that was not selected")
		_, err := db.ExecContext(t.Context(), db.q(customerSave), c.Keys, c.Email, c.EmailIdx, c.Plan, c.ID)
		require.ErrorIs(t, err, lethe.ErrNotSealed)
		got := one(t, selectCustomers(t, db, customerSelect))
		require.True(t, got.Email.Equal(sealed.Email))
		require.True(t, got.EmailIdx.Equal(sealed.EmailIdx))
		require.Equal(t, "free", got.Plan)

		// Nor can a save that lost the Keys: everything would be unreadable.
		c = Customer{ID: got.ID, Email: got.Email, EmailIdx: got.EmailIdx}
		_, err = db.ExecContext(t.Context(), db.q(customerSave), c.Keys, c.Email, c.EmailIdx, c.Plan, c.ID)
		require.ErrorIs(t, err, lethe.ErrNotSealed)
		require.ErrorIs(t, s.Seal(t.Context(), &c), lethe.ErrSealed)
	})
}

func TestSQLUpdateOfOneColumn(t *testing.T) {
	onBoth(t, func(t *testing.T, db database) {
		s, _ := customersOf(t)
		sealed := insertCustomers(t, db, s, 1)[0]
		const update = `UPDATE customers SET email = $1, email_idx = $2 WHERE id = $3 AND sealed_keys = $4`
		row := one(t, selectCustomers(t, db, customerSelect))
		stale := row
		row.Email = lethe.Of("new@example.com")
		require.NoError(t, s.Seal(t.Context(), &row))
		require.True(t, row.Keys.Equal(sealed.Keys), "the header stays")
		require.EqualValues(t, 1, db.exec(t, update, row.Email, row.EmailIdx, row.ID, row.Keys))
		got := one(t, selectCustomers(t, db, customerSelect))
		require.NoError(t, s.Open(t.Context(), &got))
		require.Equal(t, "new@example.com", reveal(t, got.Email))

		// Another writer gives the row new keys; an update sealed under the old ones must not land.
		require.NoError(t, s.Reseal(t.Context(), &got))
		require.EqualValues(t, 1, db.exec(t, customerSave, got.Keys, got.Email, got.EmailIdx, got.Plan, got.ID))
		stale.Email = lethe.Of("late@example.com")
		require.NoError(t, s.Seal(t.Context(), &stale))
		require.Zero(t, db.exec(t, update, stale.Email, stale.EmailIdx, stale.ID, stale.Keys), "optimistic conflict")
		got = one(t, selectCustomers(t, db, customerSelect))
		require.NoError(t, s.Open(t.Context(), &got))
		require.Equal(t, "new@example.com", reveal(t, got.Email))
	})
}

func TestSQLQueryIn(t *testing.T) {
	onBoth(t, func(t *testing.T, db database) {
		s, _ := customersOf(t)
		q, err := s.Query(t.Context(), "email_idx", "nobody@example.com")
		require.NoError(t, err)
		insertCustomers(t, db, s, 5)
		find := func(q *lethe.Query[Customer]) []Customer {
			cond, args := q.In(db.dialect, "customers.email_idx", 2)
			return selectCustomers(t, db, customerSelect+` WHERE plan = $1 AND `+cond, append([]any{"free"}, args...)...)
		}
		require.Empty(t, find(q), "no index key yet: the condition is false")
		q, err = s.Query(t.Context(), "email_idx", " ADA3@Example.com ")
		require.NoError(t, err)
		got := one(t, find(q))
		require.Equal(t, "cus_03", got.ID)
		require.NoError(t, s.Open(t.Context(), &got))
		ok, err := q.Match(&got)
		require.NoError(t, err)
		require.True(t, ok)
		q, err = s.Query(t.Context(), "email_idx", "nobody@example.com")
		require.NoError(t, err)
		require.Empty(t, find(q))
		require.NotContains(t, fmt.Sprintf("%v %+v", q, *q), "nobody")
	})
}

// With 8 bits many rows collide: the database returns them, Match drops them.
func TestSQLMatchDropsCollisions(t *testing.T) {
	type coarse struct {
		Keys     lethe.Keys           `lethe:"coarse"`
		ID       string               `lethe:"subject=customer"`
		Email    lethe.Secret[string] `lethe:"email"`
		EmailIdx lethe.BlindIndex     `lethe:"email_idx,of=email,norm=email/1,bits=8"`
	}
	onBoth(t, func(t *testing.T, db database) {
		s, err := lethe.For[coarse](envelopetest.NewKeyring(t))
		require.NoError(t, err)
		db.exec(t, `CREATE TABLE coarse (sealed_keys BLOB NOT NULL, id TEXT PRIMARY KEY, email BLOB, email_idx BLOB)`)
		rows := make([]coarse, 3000)
		for i := range rows {
			rows[i] = coarse{ID: fmt.Sprint("c", i), Email: lethe.Of(fmt.Sprintf("a%d@example.com", i))}
		}
		require.NoError(t, s.SealSlice(t.Context(), rows))
		collides := 0
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		for i, r := range rows {
			if same := r.EmailIdx.Equal(rows[0].EmailIdx); !same && i > 100 {
				continue
			} else if same && i > 0 {
				collides++
			}
			_, err := tx.ExecContext(t.Context(), db.q(`INSERT INTO coarse VALUES ($1, $2, $3, $4)`), r.Keys, r.ID, r.Email, r.EmailIdx)
			require.NoError(t, err)
		}
		require.NoError(t, tx.Commit())
		require.NotZero(t, collides, "3000 rows in 256 buckets collide")

		q, err := s.Query(t.Context(), "email_idx", "A0@example.com")
		require.NoError(t, err)
		cond, args := q.In(db.dialect, "email_idx", 1)
		found, err := db.QueryContext(t.Context(), `SELECT sealed_keys, id, email FROM coarse WHERE `+cond, args...)
		require.NoError(t, err)
		defer func() { _ = found.Close() }()
		var got []coarse
		for found.Next() {
			var r coarse
			require.NoError(t, found.Scan(&r.Keys, &r.ID, &r.Email))
			got = append(got, r)
		}
		require.NoError(t, found.Err())
		require.Len(t, got, 1+collides)
		require.NoError(t, s.OpenSlice(t.Context(), got))
		var matched []string
		for i := range got {
			ok, err := q.Match(&got[i])
			require.NoError(t, err)
			if ok {
				matched = append(matched, got[i].ID)
			}
		}
		require.Equal(t, []string{"c0"}, matched)
	})
}

// entry is a row of one subject among several, bound to its own id.
type entry struct {
	Keys   lethe.Keys           `lethe:"entries"`
	ID     int64                `lethe:"id"`
	Owner  string               `lethe:"subject=owner"`
	Title  lethe.Secret[string] `lethe:"title"`
	Body   lethe.Secret[string] `lethe:"body"`
	Advert lethe.Secret[string] `lethe:"advert,purpose=marketing"`
}

const (
	entryDDL    = `CREATE TABLE entries (tenant TEXT, sealed_keys BLOB, id BIGINT, owner TEXT, title BLOB, body BLOB, advert BLOB)`
	entryInsert = `INSERT INTO entries VALUES ($1, $2, $3, $4, $5, $6, $7)`
	entrySelect = `SELECT sealed_keys, id, owner, title, body, advert FROM entries WHERE tenant = $1 ORDER BY id`
)

func insertEntries(t *testing.T, db database, s *lethe.Sealer[entry], tenant string, n int) {
	t.Helper()
	rows := make([]entry, n)
	for i := range rows {
		rows[i] = entry{ID: int64(i + 1), Owner: fmt.Sprint("o", i/2), Title: lethe.Of("title"), Body: lethe.Of("body"), Advert: lethe.Of("advert")}
	}
	require.NoError(t, s.SealSlice(t.Context(), rows))
	for _, e := range rows {
		db.exec(t, entryInsert, tenant, e.Keys, e.ID, e.Owner, e.Title, e.Body, e.Advert)
	}
}

func selectEntries(t *testing.T, db database, tenant string) []entry {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), db.q(entrySelect), tenant)
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	var out []entry
	for rows.Next() {
		var e entry
		require.NoError(t, rows.Scan(&e.Keys, &e.ID, &e.Owner, &e.Title, &e.Body, &e.Advert))
		out = append(out, e)
	}
	require.NoError(t, rows.Err())
	return out
}

// Whoever can write the table cannot move a value to where it does not belong.
// Rows 1 and 2 belong to o0, rows 3 and 4 to o1.
func TestSQLSwappedCiphertextFails(t *testing.T) {
	swap := func(column string, a, b int) func(*testing.T, database) {
		return func(t *testing.T, db database) {
			read := db.q(`SELECT ` + column + ` FROM entries WHERE tenant = 'acme' AND id = $1`)
			var ofA, ofB []byte
			require.NoError(t, db.QueryRowContext(t.Context(), read, a).Scan(&ofA))
			require.NoError(t, db.QueryRowContext(t.Context(), read, b).Scan(&ofB))
			write := `UPDATE entries SET ` + column + ` = $1 WHERE tenant = 'acme' AND id = $2`
			require.EqualValues(t, 1, db.exec(t, write, ofB, a))
			require.EqualValues(t, 1, db.exec(t, write, ofA, b))
		}
	}
	run := func(statements ...string) func(*testing.T, database) {
		return func(t *testing.T, db database) {
			for _, s := range statements {
				require.NotZero(t, db.exec(t, s))
			}
		}
	}
	cell := func(row int, field string) []lethe.RowError {
		return []lethe.RowError{{Index: row - 1, Field: field, Err: lethe.ErrDecrypt}}
	}
	row := func(row int, err error) []lethe.RowError {
		return []lethe.RowError{{Index: row - 1, Field: "title", Err: err}, {Index: row - 1, Field: "body", Err: err}, {Index: row - 1, Field: "advert", Err: err}}
	}
	tests := map[string]struct {
		move func(*testing.T, database)
		want [][]lethe.RowError
	}{
		"cells of two people":       {swap("title", 1, 3), [][]lethe.RowError{cell(1, "title"), cell(3, "title")}},
		"cells of one person":       {swap("title", 1, 2), [][]lethe.RowError{cell(1, "title"), cell(2, "title")}},
		"columns of a row":          {run(`UPDATE entries SET title = body, body = title WHERE id = 1`), [][]lethe.RowError{cell(1, "title"), cell(1, "body")}},
		"a copy of a column":        {run(`UPDATE entries SET title = body WHERE id = 1`), [][]lethe.RowError{cell(1, "title")}},
		"purposes of a row":         {run(`UPDATE entries SET body = advert, advert = body WHERE id = 1`), [][]lethe.RowError{cell(1, "body"), cell(1, "advert")}},
		"ids of one person's rows":  {run(`UPDATE entries SET id = 3 - id WHERE id IN (1, 2)`), [][]lethe.RowError{row(1, lethe.ErrDecrypt), row(2, lethe.ErrDecrypt)}},
		"keys of one person's rows": {swap("sealed_keys", 1, 2), [][]lethe.RowError{row(1, lethe.ErrDecrypt), row(2, lethe.ErrDecrypt)}},
		"keys of two people":        {swap("sealed_keys", 1, 3), [][]lethe.RowError{row(1, lethe.ErrKeyMissing), row(3, lethe.ErrKeyMissing)}},
		"the owner":                 {run(`UPDATE entries SET owner = 'o1' WHERE id = 1`), [][]lethe.RowError{row(1, lethe.ErrKeyMissing)}},
		"a cell of another tenant": {run(`UPDATE entries SET title = (SELECT title FROM entries WHERE id = 1 AND tenant = 'umbrella') WHERE id = 1 AND tenant = 'acme'`),
			[][]lethe.RowError{cell(1, "title")}},
		"a row of another tenant": {run(`DELETE FROM entries WHERE id = 1 AND tenant = 'acme'`, `UPDATE entries SET tenant = 'acme' WHERE id = 1 AND tenant = 'umbrella'`),
			[][]lethe.RowError{row(1, lethe.ErrKeyMissing)}},
	}
	onBoth(t, func(t *testing.T, db database) {
		all, err := lethe.For[entry](envelopetest.NewKeyring(t), lethe.Options{RequireTenant: true})
		require.NoError(t, err)
		acme := all.Tenant("acme")
		for name, test := range tests {
			db.exec(t, entryDDL)
			insertEntries(t, db, acme, "acme", 4)
			insertEntries(t, db, all.Tenant("umbrella"), "umbrella", 4)
			untouched := selectEntries(t, db, "acme")
			require.NoError(t, acme.OpenSlice(t.Context(), untouched), name)
			test.move(t, db)
			rows := selectEntries(t, db, "acme")
			require.Len(t, rows, 4, name)
			var failed *lethe.RowErrors
			require.ErrorAs(t, acme.OpenSlice(t.Context(), rows), &failed, name)
			want := slices.Concat(test.want...)
			require.Equal(t, want, failed.Errors, name)
			for i := range rows {
				for field, cell := range map[string]lethe.Secret[string]{"title": rows[i].Title, "body": rows[i].Body, "advert": rows[i].Advert} {
					at := slices.IndexFunc(want, func(e lethe.RowError) bool { return e.Index == i && e.Field == field })
					if at < 0 {
						require.Equal(t, field, reveal(t, cell), "%s: all others open", name)
						continue
					}
					require.Equal(t, lethe.StatusFailed, cell.Status(), name)
					_, err := cell.Reveal()
					require.ErrorIs(t, err, want[at].Err, name)
				}
			}
			db.exec(t, `DROP TABLE entries`)
		}
	})
}

func TestSQLListWithForgottenPeople(t *testing.T) {
	onBoth(t, func(t *testing.T, db database) {
		s, ring := customersOf(t)
		sealed := insertCustomers(t, db, s, 50)
		for _, id := range []string{"cus_07", "cus_42"} {
			_, err := ring.Forget(t.Context(), lethe.Subject{Kind: "customer", ID: id})
			require.NoError(t, err)
		}
		rows := selectCustomers(t, db, customerByOrder)
		require.Len(t, rows, 50)
		require.NoError(t, s.OpenSlice(t.Context(), rows))
		for i := range rows {
			require.Equal(t, "free", rows[i].Plan)
			if i != 7 && i != 42 {
				require.Equal(t, fmt.Sprintf("ada%d@example.com", i), reveal(t, rows[i].Email))
				continue
			}
			require.Equal(t, lethe.StatusForgotten, rows[i].Email.Status())
			_, err := rows[i].Email.Reveal()
			require.ErrorIs(t, err, lethe.ErrForgotten)
		}

		// Their rows can be saved as they are, found by what is clear, and deleted.
		gone := rows[7]
		gone.Plan = "closed"
		require.EqualValues(t, 1, db.exec(t, customerSave, gone.Keys, gone.Email, gone.EmailIdx, gone.Plan, gone.ID))
		again := one(t, selectCustomers(t, db, customerSelect+` WHERE plan = $1`, "closed"))
		require.True(t, again.Keys.Equal(sealed[7].Keys))
		require.True(t, again.Email.Equal(sealed[7].Email), "the ciphertext did not change")
		require.True(t, again.EmailIdx.Equal(sealed[7].EmailIdx))
		require.NoError(t, s.Open(t.Context(), &again))
		require.Equal(t, lethe.StatusForgotten, again.Email.Status())

		// Nothing new of theirs can be stored.
		again.Email = lethe.Of("back@example.com")
		require.ErrorIs(t, s.Seal(t.Context(), &again), lethe.ErrForgotten)
		_, err := db.ExecContext(t.Context(), db.q(customerSave), again.Keys, again.Email, again.EmailIdx, again.Plan, again.ID)
		require.ErrorIs(t, err, lethe.ErrNotSealed)
		require.EqualValues(t, 1, db.exec(t, `DELETE FROM customers WHERE id = $1`, gone.ID))
		require.Equal(t, 49, db.count(t, "customers"))
	})
}

func TestSQLRewrapUpdatesTheKeysOnly(t *testing.T) {
	onBoth(t, func(t *testing.T, db database) {
		s, ring := customersOf(t)
		sealed := insertCustomers(t, db, s, 3)
		_, err := ring.Rotate(t.Context(), lethe.Subject{Kind: "customer", ID: "cus_01"})
		require.NoError(t, err)
		rows := selectCustomers(t, db, customerByOrder)
		changed, err := s.RewrapSlice(t.Context(), rows)
		require.NoError(t, err)
		require.Equal(t, []int{1}, changed)
		const update = `UPDATE customers SET sealed_keys = $1 WHERE id = $2 AND sealed_keys = $3`
		for _, i := range changed {
			require.EqualValues(t, 1, db.exec(t, update, rows[i].Keys, rows[i].ID, sealed[i].Keys))
		}
		rows = selectCustomers(t, db, customerByOrder)
		require.False(t, rows[1].Keys.Equal(sealed[1].Keys))
		require.True(t, rows[1].Email.Equal(sealed[1].Email))
		require.NoError(t, s.OpenSlice(t.Context(), rows))
		require.Equal(t, "ada1@example.com", reveal(t, rows[1].Email))
		changed, err = s.RewrapSlice(t.Context(), rows)
		require.NoError(t, err)
		require.Empty(t, changed)

		// A list with forgotten people in it can be rewrapped as well.
		_, err = ring.Forget(t.Context(), lethe.Subject{Kind: "customer", ID: "cus_00"})
		require.NoError(t, err)
		_, err = ring.Rotate(t.Context(), lethe.Subject{Kind: "customer", ID: "cus_02"})
		require.NoError(t, err)
		changed, err = s.RewrapSlice(t.Context(), rows)
		require.NoError(t, err)
		require.Equal(t, []int{2}, changed)
		require.True(t, rows[0].Keys.Equal(sealed[0].Keys))
	})
}

// Keys live in another store, so Seal comes before Begin; a rollback leaves nothing.
func TestSQLTransactions(t *testing.T) {
	onBoth(t, func(t *testing.T, db database) {
		s, _ := customersOf(t)
		db.exec(t, customerDDL)
		c := newCustomer(1)
		require.NoError(t, s.Seal(t.Context(), &c))
		insert := func(commit bool) {
			tx, err := db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(t.Context(), db.q(customerInsert), c.Keys, c.ID, c.Email, c.EmailIdx, c.Plan)
			require.NoError(t, err)
			if commit {
				require.NoError(t, tx.Commit())
			} else {
				require.NoError(t, tx.Rollback())
			}
		}
		insert(false)
		require.Zero(t, db.count(t, "customers"))
		insert(true)

		// An unsealed row inside a transaction fails before it reaches the database.
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		bad := newCustomer(2)
		_, err = tx.ExecContext(t.Context(), db.q(customerInsert), bad.Keys, bad.ID, bad.Email, bad.EmailIdx, bad.Plan)
		require.ErrorIs(t, err, lethe.ErrNotSealed)
		_, err = tx.ExecContext(t.Context(), db.q(`UPDATE customers SET plan = $1`), "pro")
		require.NoError(t, err, "the transaction is still usable")
		require.NoError(t, tx.Commit())
		got := one(t, selectCustomers(t, db, customerSelect))
		require.NoError(t, s.Open(t.Context(), &got))
		require.Equal(t, "ada1@example.com", reveal(t, got.Email))
		require.Equal(t, "pro", got.Plan)
	})
}

// message has fields of two people, and of one of them for two purposes.
type message struct {
	Keys     lethe.Keys           `lethe:"messages"`
	Receiver string               `lethe:"subject=user"`
	Sender   string               `lethe:"subject=user,group=sender"`
	Body     lethe.Secret[string] `lethe:"body,group=sender"`
	Reply    lethe.Secret[string] `lethe:"reply"`
	Topics   lethe.Secret[string] `lethe:"topics,purpose=ads"`
}

func TestSQLSeveralSubjectsAndPurposes(t *testing.T) {
	onBoth(t, func(t *testing.T, db database) {
		ring := envelopetest.NewKeyring(t)
		all, err := lethe.For[message](ring)
		require.NoError(t, err)
		s := all.Tenant("acme")
		db.exec(t, `CREATE TABLE messages (sealed_keys BLOB, receiver TEXT, sender TEXT, body BLOB, reply BLOB, topics BLOB)`)
		rows := []message{
			{Receiver: "ada", Sender: "bob", Body: lethe.Of("hello"), Reply: lethe.Of("hi"), Topics: lethe.Of("greetings")},
			{Receiver: "bob", Sender: "ada", Body: lethe.Of("hello"), Reply: lethe.Of("hi"), Topics: lethe.Of("greetings")},
		}
		require.NoError(t, s.SealSlice(t.Context(), rows))
		for _, m := range rows {
			db.exec(t, `INSERT INTO messages VALUES ($1, $2, $3, $4, $5, $6)`, m.Keys, m.Receiver, m.Sender, m.Body, m.Reply, m.Topics)
		}
		open := func() []message {
			found, err := db.QueryContext(t.Context(), `SELECT sealed_keys, receiver, sender, body, reply, topics FROM messages ORDER BY receiver`)
			require.NoError(t, err)
			defer func() { _ = found.Close() }()
			var out []message
			for found.Next() {
				var m message
				require.NoError(t, found.Scan(&m.Keys, &m.Receiver, &m.Sender, &m.Body, &m.Reply, &m.Topics))
				out = append(out, m)
			}
			require.NoError(t, found.Err())
			require.NoError(t, s.OpenSlice(t.Context(), out))
			return out
		}
		ada := lethe.Subject{Tenant: "acme", Kind: "user", ID: "ada"}
		_, err = ring.ForgetPurpose(t.Context(), ada, "ads")
		require.NoError(t, err)
		got := open()
		require.Equal(t, lethe.StatusForgotten, got[0].Topics.Status())
		require.Equal(t, "hi", reveal(t, got[0].Reply), "the other purpose stays")
		require.Equal(t, "greetings", reveal(t, got[1].Topics), "and the other person's")

		_, err = ring.Forget(t.Context(), lethe.Subject{Tenant: "umbrella", Kind: "user", ID: "bob"})
		require.NoError(t, err)
		require.Equal(t, "hello", reveal(t, open()[0].Body), "another tenant's bob is another person")

		_, err = ring.Forget(t.Context(), lethe.Subject{Tenant: "acme", Kind: "user", ID: "bob"})
		require.NoError(t, err)
		got = open()
		require.Equal(t, lethe.StatusForgotten, got[0].Body.Status())
		require.Equal(t, "hi", reveal(t, got[0].Reply))
		require.Equal(t, lethe.StatusForgotten, got[1].Reply.Status())
		require.Equal(t, "hello", reveal(t, got[1].Body))

		// Tenants do not read each other's rows.
		for _, other := range []*lethe.Sealer[message]{all, all.Tenant("umbrella")} {
			m := got[1]
			var fresh message
			fresh.Receiver, fresh.Sender = m.Receiver, m.Sender
			require.NoError(t, fresh.Keys.Scan(m.Keys.Bytes()))
			b, err := m.Body.MarshalBinary()
			require.NoError(t, err)
			require.NoError(t, fresh.Body.Scan(b))
			err = other.Open(t.Context(), &fresh)
			require.True(t, errors.Is(err, lethe.ErrKeyMissing) || errors.Is(err, lethe.ErrDecrypt), "%v", err)
			require.Equal(t, lethe.StatusFailed, fresh.Body.Status())
		}
	})
}
