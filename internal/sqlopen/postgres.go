package sqlopen

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Postgres is a Database in PostgreSQL.
type Postgres struct{ DB *sql.DB }

const postgresConns = 16

// OpenPostgres opens PostgreSQL 13 or later; dsn is a URL or key=value pairs as
// libpq takes them. A standby is refused: of several hosts the primary is used.
// Commits wait for the disk, also where the server's default is
// synchronous_commit=off. No error repeats the dsn.
func OpenPostgres(ctx context.Context, dsn string) (*Postgres, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the PostgreSQL connection string does not parse; write postgres://user@host:5432/database?sslmode=verify-full")
	}
	asked := config.ValidateConnect
	config.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if asked != nil {
			if err := asked(ctx, conn); err != nil {
				return err
			}
		}
		return pgconn.ValidateConnectTargetSessionAttrsPrimary(ctx, conn)
	}
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(commitDurably))
	db.SetMaxOpenConns(postgresConns)
	db.SetMaxIdleConns(postgresConns)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Postgres{DB: db}, nil
}

// commitDurably turns an asynchronous commit on a connection into a synchronous
// one: what a crash undoes was acted upon already.
func commitDurably(ctx context.Context, conn *pgx.Conn) error {
	var mode string
	if err := conn.QueryRow(ctx, "SHOW synchronous_commit").Scan(&mode); err != nil || mode != "off" {
		return err
	}
	_, err := conn.Exec(ctx, "SET synchronous_commit TO on")
	return err
}

// Name implements Database.
func (*Postgres) Name() string { return "postgres" }

const raceAttempts = 10

// Retry runs what lost a race again.
func (*Postgres) Retry(fn func() error) error {
	for attempt := 1; ; attempt++ {
		err := fn()
		var e *pgconn.PgError
		lost := errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01") // serialization failure, deadlock
		if !lost || attempt == raceAttempts {
			return err
		}
	}
}

// Write implements Database. It never relies on the default isolation level: in a
// stricter one, a statement after a lock would see what was there before it.
func (d *Postgres) Write(ctx context.Context, fn func(q Querier) error) error {
	return d.Retry(func() error {
		return inTx(ctx, d.DB, &sql.TxOptions{Isolation: sql.LevelReadCommitted}, fn)
	})
}

// Snapshot implements Database.
func (d *Postgres) Snapshot(ctx context.Context, fn func(q Querier) error) error {
	return inTx(ctx, d.DB, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}, fn)
}

func inTx(ctx context.Context, db *sql.DB, opts *sql.TxOptions, fn func(q Querier) error) error {
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	return tx.Commit()
}

// ignoreDone drops the error of rolling back what is over already.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// Lock implements Database.
func (*Postgres) Lock(ctx context.Context, q Querier, key int64, shared bool) error {
	name := "pg_advisory_xact_lock"
	if shared {
		name += "_shared"
	}
	_, err := q.ExecContext(ctx, "SELECT "+name+"($1)", key)
	return err
}

// NoTable implements Database.
func (*Postgres) NoTable(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "42P01"
}
