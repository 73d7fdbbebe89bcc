package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

type postgres struct{ db *sql.DB }

func (*postgres) name() string { return "postgres" }

func (d *postgres) conn(ctx context.Context) (*sql.Conn, error) { return d.db.Conn(ctx) }

func (*postgres) table(first int, columns []column) (string, []any) {
	var arrays, names []string
	var args []any
	for i, c := range columns {
		kind, arg := "text", any(c.texts)
		switch {
		case c.numbers != nil:
			kind, arg = "bigint", c.numbers
		case c.blobs != nil:
			kind, arg = "bytea", c.blobs
		}
		arrays = append(arrays, fmt.Sprintf("$%d::%s[]", first+i, kind))
		names = append(names, c.name)
		args = append(args, arg)
	}
	return "unnest(" + strings.Join(arrays, ", ") + ") AS given(" + strings.Join(names, ", ") + ")", args
}

const raceAttempts = 10

func (d *postgres) write(ctx context.Context, fn func(q querier) error) error {
	return retry(func() error {
		tx, err := d.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		if err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			if e := tx.Rollback(); !errors.Is(e, sql.ErrTxDone) {
				return errors.Join(err, e)
			}
			return err
		}
		return tx.Commit()
	})
}

func (d *postgres) single(_ context.Context, fn func(q querier) error) error {
	return retry(func() error { return fn(d.db) })
}

// retry runs what lost a race again.
func retry(fn func() error) error {
	for attempt := 1; ; attempt++ {
		err := fn()
		var e *pgconn.PgError
		lost := errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01") // serialization failure, deadlock
		if !lost || attempt == raceAttempts {
			return err
		}
	}
}

// lockKey is ours among the database's advisory locks: "lethtokn".
const lockKey = 0x6c657468746f6b6e

func (*postgres) lock(ctx context.Context, q querier) error {
	_, err := q.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lockKey))
	return err
}
