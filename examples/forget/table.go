package main

import (
	"context"
	"database/sql"
	"errors"

	"github.com/lethe-go/lethe"
)

// Person is a row of the service's table. Whoever has a backup of the table has
// these rows as they are sealed.
type Person struct {
	Keys lethe.Keys           `lethe:"people"`
	ID   string               `lethe:"subject=person"`
	Name lethe.Secret[string] `lethe:"name"`
}

// createTable makes the application's table.
func createTable(ctx context.Context, p *place, name string) error {
	bytes := "BLOB"
	if p.admin != nil {
		bytes = "BYTEA"
	}
	return p.withDB(name, func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, "CREATE TABLE people (id TEXT PRIMARY KEY, sealed_keys "+bytes+" NOT NULL, name "+bytes+")")
		return err
	})
}

// insert writes sealed rows in one transaction.
func insert(ctx context.Context, db *sql.DB, rows []Person) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	stmt, err := tx.PrepareContext(ctx, "INSERT INTO people (id, sealed_keys, name) VALUES ($1, $2, $3)")
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	for i := range rows {
		if _, err := stmt.ExecContext(ctx, rows[i].ID, rows[i].Keys, rows[i].Name); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// readTable reads every row, still sealed.
func readTable(ctx context.Context, p *place, name string) (out []Person, err error) {
	err = p.withDB(name, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, "SELECT id, sealed_keys, name FROM people")
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var one Person
			if err := rows.Scan(&one.ID, &one.Keys, &one.Name); err != nil {
				return err
			}
			out = append(out, one)
		}
		return rows.Err()
	})
	return out, err
}

func (p *place) withDB(name string, do func(*sql.DB) error) error {
	db, err := p.db(name)
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}
