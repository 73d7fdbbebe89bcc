package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	sqlitedriver "modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

type sqlite struct {
	db     *sql.DB
	writer chan struct{} // one write at a time in this process; others wait in SQLite
}

func newSQLite(db *sql.DB) *sqlite { return &sqlite{db: db, writer: make(chan struct{}, 1)} }

// create makes the file of a new database, readable by its owner only. An
// existing one is not opened: closing it would drop SQLite's locks in this process.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func sqliteName(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a drive letter is not a host
	}
	query := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "secure_delete(ON)"}}
	name := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	return name.String()
}

func (*sqlite) name() string { return "sqlite" }

// table passes all rows as one JSON array of arrays, blobs in hexadecimal.
func (*sqlite) table(first int, columns []column) (string, []any) {
	n := 0
	var selected []string
	for i, c := range columns {
		value := fmt.Sprintf("value ->> %d", i)
		if c.blobs != nil {
			value = "unhex(" + value + ")"
		}
		selected = append(selected, value+" AS "+c.name)
		n = max(n, len(c.texts), len(c.numbers), len(c.blobs))
	}
	rows := make([][]any, n)
	for i := range rows {
		for _, c := range columns {
			switch {
			case c.numbers != nil:
				rows[i] = append(rows[i], c.numbers[i])
			case c.blobs != nil && c.blobs[i] == nil:
				rows[i] = append(rows[i], nil)
			case c.blobs != nil:
				rows[i] = append(rows[i], hex.EncodeToString(c.blobs[i]))
			default:
				rows[i] = append(rows[i], c.texts[i])
			}
		}
	}
	text, _ := json.Marshal(rows) //nolint:errchkjson // strings and integers always encode
	return fmt.Sprintf("(SELECT %s FROM json_each($%d)) AS given", strings.Join(selected, ", "), first), []any{string(text)}
}

func (d *sqlite) single(ctx context.Context, fn func(q querier) error) error { return d.write(ctx, fn) }

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
	return transact(ctx, conn, fn)
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
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(5 * time.Millisecond):
		return nil
	}
}

func transact(ctx context.Context, conn *sql.Conn, fn func(q querier) error) error {
	for {
		_, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE")
		if err == nil {
			break
		}
		if !busy(err) {
			rollback(ctx, conn) // a cancelled BEGIN may have begun
			return err
		}
		if err := pause(ctx); err != nil {
			return err
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

// rollback ends a transaction that may be open; a connection in doubt is closed.
func rollback(ctx context.Context, conn *sql.Conn) {
	if _, err := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}

func busy(err error) bool {
	var e *sqlitedriver.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlitelib.SQLITE_BUSY || e.Code()&0xff == sqlitelib.SQLITE_LOCKED)
}

func (*sqlite) lock(context.Context, querier) error { return nil } // BEGIN IMMEDIATE locks all
