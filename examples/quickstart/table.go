package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/lethe-go/lethe"
)

// The table's long name keeps it apart from tables that are in a PostgreSQL
// database already.
const (
	createTable = `CREATE TABLE IF NOT EXISTS quickstart_customers (
		id TEXT PRIMARY KEY, sealed_keys BLOB NOT NULL, name BLOB, email BLOB, email_idx BLOB,
		phone BLOB, card BLOB, iban BLOB, born BLOB, note BLOB, plan TEXT NOT NULL)`
	createIndex = `CREATE INDEX IF NOT EXISTS quickstart_customers_email ON quickstart_customers (email_idx)`
	insertRow   = `INSERT INTO quickstart_customers (` + fields + `) VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING`
	selectRows  = `SELECT ` + fields + ` FROM quickstart_customers WHERE `
	fields      = `id, sealed_keys, name, email, email_idx, phone, card, iban, born, note, plan`
)

// table is the customers in SQLite or PostgreSQL. It only moves bytes: what it
// reads and writes is sealed.
type table struct {
	db      *sql.DB
	dialect lethe.Dialect
}

func openSQLite(ctx context.Context, path string) (*table, error) {
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: "_pragma=busy_timeout(10000)"}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	return create(ctx, &table{db: db, dialect: lethe.SQLite})
}

func openPostgres(ctx context.Context, dsn string) (*table, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("-db is not a PostgreSQL address like postgres://user@host:5432/database")
	}
	return create(ctx, &table{db: stdlib.OpenDB(*config), dialect: lethe.Postgres})
}

func create(ctx context.Context, t *table) (*table, error) {
	for _, statement := range []string{createTable, createIndex} {
		if t.dialect == lethe.Postgres {
			statement = strings.ReplaceAll(statement, "BLOB", "BYTEA")
		}
		if _, err := t.db.ExecContext(ctx, statement); err != nil {
			return nil, errors.Join(fmt.Errorf("customers table: %w", err), t.db.Close())
		}
	}
	return t, nil
}

// sql writes a query for the dialect: PostgreSQL wants $1, $2, … for the ?s.
func (t *table) sql(query string) string {
	if t.dialect != lethe.Postgres {
		return query
	}
	parts := strings.Split(query, "?")
	for i := 1; i < len(parts); i++ {
		parts[i] = "$" + strconv.Itoa(i) + parts[i]
	}
	return strings.Join(parts, "")
}

// ids returns the ids of the rows that are there.
func (t *table) ids(ctx context.Context) (map[string]bool, error) {
	rows, err := t.db.QueryContext(ctx, `SELECT id FROM quickstart_customers`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	ids := map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids[id] = true
	}
	return ids, rows.Err()
}

// insert writes sealed rows in one transaction. A row that another run wrote
// meanwhile is left as it is. It returns how many were written.
func (t *table) insert(ctx context.Context, batch []Customer) (written int64, err error) {
	err = t.inTx(ctx, insertRow, func(insert *sql.Stmt) error {
		for i := range batch {
			c := &batch[i]
			done, err := insert.ExecContext(ctx, c.ID, c.Keys, c.Name, c.Email, c.EmailIdx, c.Phone, c.Card, c.IBAN, c.Born, c.Note, c.Plan)
			if err != nil {
				return err
			}
			n, err := done.RowsAffected()
			if err != nil {
				return err
			}
			written += n
		}
		return nil
	})
	return written, err
}

// saveKeys writes back the keys of rewrapped rows.
func (t *table) saveKeys(ctx context.Context, batch []Customer) error {
	return t.inTx(ctx, `UPDATE quickstart_customers SET sealed_keys = ? WHERE id = ?`, func(update *sql.Stmt) error {
		for i := range batch {
			if _, err := update.ExecContext(ctx, batch[i].Keys, batch[i].ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// dropIndex empties the blind index of a forgotten customer: whoever gets the
// index key could still test guesses against it.
func (t *table) dropIndex(ctx context.Context, id string) error {
	_, err := t.db.ExecContext(ctx, t.sql(`UPDATE quickstart_customers SET email_idx = NULL WHERE id = ?`), id)
	return err
}

func (t *table) inTx(ctx context.Context, statement string, do func(*sql.Stmt) error) error {
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	stmt, err := tx.PrepareContext(ctx, t.sql(statement))
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	if err := do(stmt); err != nil {
		return err
	}
	return tx.Commit()
}

// after returns up to n rows with ids beyond id, in order.
func (t *table) after(ctx context.Context, id string, n int) ([]Customer, error) {
	return t.query(ctx, t.sql(selectRows+`id > ? ORDER BY id LIMIT ?`), id, n)
}

// byIDs returns the rows with these ids, in their order; ids without a row are left out.
func (t *table) byIDs(ctx context.Context, ids []string) ([]Customer, error) {
	var out []Customer
	for _, id := range ids {
		rows, err := t.query(ctx, t.sql(selectRows+`id = ?`), id)
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}

// find returns the rows whose blind index has one of the terms of q.
func (t *table) find(ctx context.Context, q *lethe.Query[Customer]) ([]Customer, error) {
	condition, args := q.In(t.dialect, "email_idx", 1)
	return t.query(ctx, selectRows+condition, args...)
}

func (t *table) query(ctx context.Context, query string, args ...any) ([]Customer, error) {
	rows, err := t.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []Customer
	for rows.Next() {
		var c Customer
		if err := rows.Scan(&c.ID, &c.Keys, &c.Name, &c.Email, &c.EmailIdx, &c.Phone, &c.Card, &c.IBAN, &c.Born, &c.Note, &c.Plan); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// stolen is a row as someone without keys reads it.
type stolen struct {
	id, plan                string
	name, email, card, iban []byte
}

// steal reads rows the way an intruder with a copy of the database does.
func (t *table) steal(ctx context.Context, n int) ([]stolen, error) {
	rows, err := t.db.QueryContext(ctx, t.sql(`SELECT id, plan, name, email, card, iban FROM quickstart_customers ORDER BY id LIMIT ?`), n)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []stolen
	for rows.Next() {
		var s stolen
		if err := rows.Scan(&s.id, &s.plan, &s.name, &s.email, &s.card, &s.iban); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}
