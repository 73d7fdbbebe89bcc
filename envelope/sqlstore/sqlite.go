package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	sqlitedriver "modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"github.com/lethe-go/lethe/envelope"
)

type sqlite struct {
	db     *sql.DB
	writer chan struct{} // one write at a time in this process; others wait in SQLite
}

func (*sqlite) name() string             { return "sqlite" }
func (*sqlite) bind(query string) string { return query }

func (*sqlite) inBlobs(values [][]byte) (string, any) {
	texts := make([]string, len(values))
	for i := range values {
		texts[i] = hex.EncodeToString(values[i])
	}
	list, _ := json.Marshal(texts) //nolint:errchkjson // strings always encode
	return "IN (SELECT unhex(value) FROM json_each(?))", string(list)
}

func (*sqlite) inInts(values []int64) (string, any) {
	list, _ := json.Marshal(values) //nolint:errchkjson // integers always encode
	return "IN (SELECT value FROM json_each(?))", string(list)
}

func (*sqlite) keysOf() string {
	return `json_each(?) AS want
		CROSS JOIN lethe_key k ON k.tree = ? AND k.ref_ver = ? AND k.sref = unhex(want.value)
		LEFT JOIN lethe_page p ON p.tree = k.tree AND p.page = k.page`
}

func (d *sqlite) write(ctx context.Context, fn func(q querier) error) error {
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
	// On the caller's connection too, whatever its data source says.
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
		return fmt.Errorf("the SQLite database has journal_mode %s, which is not safe for keys: use OpenSQLite, or open a file with _pragma=journal_mode(WAL)", mode)
	}
	return transact(ctx, conn, "BEGIN IMMEDIATE", fn)
}

func (d *sqlite) snapshot(ctx context.Context, fn func(q querier) error) error {
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
func (d *sqlite) conn(ctx context.Context) (*sql.Conn, error) {
	for start := time.Now(); ; {
		conn, err := d.db.Conn(ctx)
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

func transact(ctx context.Context, conn *sql.Conn, begin string, fn func(q querier) error) error {
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

func (*sqlite) lock(context.Context, querier, envelope.TreeID, bool) error { return nil } // BEGIN IMMEDIATE locks all

func (*sqlite) noTable(err error) bool {
	return err != nil && strings.Contains(err.Error(), "no such table")
}

// wipe empties the write-ahead log, which still has the pages as they were. A
// reader in the way delays that until the next one.
func (d *sqlite) wipe(ctx context.Context) {
	// The write is committed: a caller that left must not keep its traces.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wipeTimeout)
	defer cancel()
	conn, err := d.db.Conn(ctx)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	var patience int
	if err := conn.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&patience); err != nil {
		return
	}
	restore := "PRAGMA busy_timeout = " + strconv.Itoa(patience)
	for _, pragma := range []string{"PRAGMA busy_timeout = 200", "PRAGMA wal_checkpoint(TRUNCATE)", restore} {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), pragma)
	}
}

const wipeTimeout = 2 * time.Second
