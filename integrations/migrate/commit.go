package migrate

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/lethe-go/lethe"
)

// ErrContended means that the service changed a row again and again while the job
// tried to write it.
var ErrContended = errors.New("migrate: the row changed whenever the job was about to write it; run the job again")

// ErrRefused means that the database does not take what a row would become, for
// instance since a unique index has the value already. What follows it is the code.
var ErrRefused = errors.New("migrate: the database refuses the row")

// refusal returns the code of an error that is about the values of a row; "" for
// any other. The database's own text may show a value.
func refusal(err error) string {
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		if s := e.SQLState(); strings.HasPrefix(s, "22") || strings.HasPrefix(s, "23") {
			return "SQLSTATE " + s
		}
		return ""
	}
	if e, ok := errors.AsType[interface {
		error
		Code() int
	}](err); ok && e.Code()&0xff == 19 { // SQLITE_CONSTRAINT
		return "SQLite error " + strconv.Itoa(e.Code())
	}
	return ""
}

// update writes rows of a page in a transaction, and returns those that are not any
// more as they were read, which it leaves.
func (p *page) update(ctx context.Context, tx *sql.Tx, write []int) (lost []int, err error) {
	if len(write) == 0 {
		return nil, nil
	}
	if p.l.Dialect == lethe.Postgres {
		return p.updatePostgres(ctx, tx, write)
	}
	return p.updateSQLite(ctx, tx, write)
}

func (p *page) updatePostgres(ctx context.Context, tx *sql.Tx, write []int) ([]int, error) {
	ordinals := newArray(asInt, len(write))
	for _, i := range write {
		if err := ordinals.add(int64(i)); err != nil {
			return nil, err
		}
	}
	args := []any{ordinals.arg()}
	take := func(form form, value func(i int) (any, error)) error {
		a := newArray(form, len(write))
		for _, i := range write {
			v, err := value(i)
			if err != nil {
				return err
			}
			if err := a.add(v); err != nil {
				return err
			}
		}
		args = append(args, a.arg())
		return nil
	}
	for k := range p.l.keys {
		if err := take(p.l.keys[k].form, func(i int) (any, error) { return p.meta[i].key[k], nil }); err != nil {
			return nil, err
		}
	}
	n := 0
	for c := range p.l.columns {
		if p.l.columns[c].use&guards == 0 {
			continue
		}
		at := n
		n++
		if err := take(p.l.columns[c].form, func(i int) (any, error) { return p.meta[i].raw[at], nil }); err != nil {
			return nil, err
		}
	}
	n = 0
	for c := range p.l.columns {
		c := &p.l.columns[c]
		at := n
		if c.use&guards != 0 {
			n++
		}
		if c.use&writes == 0 {
			continue
		}
		if err := take(c.form, func(i int) (any, error) { return c.value(p.rows.Index(i), p.meta[i].raw[at]) }); err != nil {
			return nil, err
		}
	}
	rows, err := tx.QueryContext(ctx, p.l.pgUpdate(), args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	written := make([]bool, p.len())
	for rows.Next() {
		var i int
		if err := rows.Scan(&i); err != nil {
			return nil, err
		}
		written[i] = true
	}
	var lost []int
	for _, i := range write {
		if !written[i] {
			lost = append(lost, i)
		}
	}
	return lost, rows.Err()
}

func (p *page) updateSQLite(ctx context.Context, tx *sql.Tx, write []int) (lost []int, err error) {
	stmt, err := tx.PrepareContext(ctx, p.l.sqliteUpdate())
	if err != nil {
		return nil, err
	}
	defer func() { _ = stmt.Close() }()
	var args []any
	for _, i := range write {
		args = args[:0]
		n := 0
		for c := range p.l.columns {
			c := &p.l.columns[c]
			at := n
			if c.use&guards != 0 {
				n++
			}
			if c.use&writes == 0 {
				continue
			}
			v, err := c.value(p.rows.Index(i), p.meta[i].raw[at])
			if err != nil {
				return nil, err
			}
			args = append(args, v)
		}
		args = append(args, p.meta[i].key...)
		args = append(args, p.meta[i].raw...)
		done, err := one(stmt.ExecContext(ctx, args...))
		if err != nil {
			return nil, err
		}
		if !done {
			lost = append(lost, i)
		}
	}
	return lost, nil
}

// transient reports whether an error of the database may be gone in a moment: the
// connection or the server, or a conflict with another transaction.
func transient(err error) bool {
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, lethe.ErrUnavailable) {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		s := e.SQLState()
		conflict := s == "40001" || s == "40P01" || s == "55P03" // a deadlock and a lock among them
		// Of the connection; resources; the operator stops the server.
		return conflict || strings.HasPrefix(s, "08") || strings.HasPrefix(s, "53") || strings.HasPrefix(s, "57P")
	}
	if e, ok := errors.AsType[interface {
		error
		Code() int
	}](err); ok {
		return e.Code()&0xff == 5 || e.Code()&0xff == 6 // SQLITE_BUSY, SQLITE_LOCKED
	}
	return strings.Contains(err.Error(), "database is locked")
}
