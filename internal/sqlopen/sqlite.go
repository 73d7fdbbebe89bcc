package sqlopen

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	sqlitedriver "modernc.org/sqlite" // which registers the driver "sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

// SQLite is a Database in SQLite. Make one with OpenSQLite or NewSQLite.
type SQLite struct {
	DB *sql.DB

	writer chan struct{} // one write at a time in this process; others wait in SQLite
	guard  func(ctx context.Context, conn *sql.Conn) error
}

const sqliteConns = 8

// OpenSQLite opens a file of its own, made with mode 0600 if it does not exist.
// instead says in an error what to use for a database in memory. guard is as for
// NewSQLite.
func OpenSQLite(ctx context.Context, path, instead string, guard func(ctx context.Context, conn *sql.Conn) error) (*SQLite, error) {
	if path == "" || strings.HasPrefix(path, ":memory:") || strings.HasPrefix(path, "file:") {
		return nil, fmt.Errorf("OpenSQLite needs the path of a file, not %q; %s", path, instead)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := create(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", sqliteName(path))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(sqliteConns)
	db.SetMaxIdleConns(sqliteConns)
	d := NewSQLite(db, guard)
	conn, err := d.conn(ctx)
	if err == nil {
		err = conn.Close() // back to the pool
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return d, nil
}

// NewSQLite uses an open database of the driver "sqlite". guard, unless it is nil,
// prepares a connection for each write, or refuses it.
func NewSQLite(db *sql.DB, guard func(ctx context.Context, conn *sql.Conn) error) *SQLite {
	return &SQLite{DB: db, writer: make(chan struct{}, 1), guard: guard}
}

// Durable is a guard for what must neither be lost nor kept when it was deleted. It
// sets synchronous=FULL and secure_delete whatever the data source says, and
// refuses any journal mode but WAL: some keep deleted rows in a file, others cannot
// undo half a write.
func Durable(ctx context.Context, conn *sql.Conn) error {
	for _, pragma := range []string{"PRAGMA secure_delete = ON", "PRAGMA synchronous = FULL"} {
		if _, err := conn.ExecContext(ctx, pragma); err != nil {
			return err
		}
	}
	var mode string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("the SQLite database has journal_mode %s, which is not safe here: use OpenSQLite, or open a file with _pragma=journal_mode(WAL)", mode)
	}
	return nil
}

// Name implements Database.
func (*SQLite) Name() string { return "sqlite" }

// Write implements Database.
func (d *SQLite) Write(ctx context.Context, fn func(q Querier) error) error {
	select {
	case d.writer <- struct{}{}:
		defer func() { <-d.writer }()
	case <-ctx.Done():
		return ctx.Err()
	}
	conn, err := d.conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	if d.guard != nil {
		if err := d.guard(ctx, conn); err != nil {
			return err
		}
	}
	return transact(ctx, conn, "BEGIN IMMEDIATE", fn)
}

// Snapshot implements Database.
func (d *SQLite) Snapshot(ctx context.Context, fn func(q Querier) error) error {
	conn, err := d.conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return transact(ctx, conn, "BEGIN DEFERRED", fn)
}

// openPatience is how long a new connection is tried.
const openPatience = 10 * time.Second

// conn takes a connection from the pool. Where the first connections to a new
// file switch it to write-ahead logging at once, SQLite does not wait: it fails.
func (d *SQLite) conn(ctx context.Context) (*sql.Conn, error) {
	for start := time.Now(); ; {
		conn, err := d.DB.Conn(ctx)
		if err == nil || !busy(err) || time.Since(start) > openPatience {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func transact(ctx context.Context, conn *sql.Conn, begin string, fn func(q Querier) error) error {
	for {
		_, err := conn.ExecContext(ctx, begin)
		if err == nil {
			break
		}
		if !busy(err) {
			// A cancelled BEGIN may have begun, and its lock would outlive the caller.
			rollback(ctx, conn)
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	err := fn(conn)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		// Not cancelled half-way: a caller must be able to tell what became of it.
		if _, err = conn.ExecContext(context.WithoutCancel(ctx), "COMMIT"); err == nil {
			return nil
		}
	}
	rollback(ctx, conn)
	return err
}

// rollback ends a transaction that may be open. A connection in doubt is closed
// rather than given back to the pool: SQLite rolled back by itself (a full disk),
// or never began.
func rollback(ctx context.Context, conn *sql.Conn) {
	if _, err := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}

func busy(err error) bool {
	var e *sqlitedriver.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlitelib.SQLITE_BUSY || e.Code()&0xff == sqlitelib.SQLITE_LOCKED)
}

// Lock implements Database: BEGIN IMMEDIATE locks all.
func (*SQLite) Lock(context.Context, Querier, int64, bool) error { return nil }

// NoTable implements Database.
func (*SQLite) NoTable(err error) bool {
	return err != nil && strings.Contains(err.Error(), "no such table")
}
