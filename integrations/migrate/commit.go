package migrate

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/lethe-go/lethe"
)

// ErrContended means that the service changed a row again and again while the job
// tried to write it.
var ErrContended = errors.New("migrate: the row changed whenever the job was about to write it; run the job again")

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
	args = p.l.withTenant(args)
	rows, err := tx.QueryContext(ctx, p.l.pgUpdate(), args...)
	if err != nil {
		return nil, quiet(err)
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
	return lost, quiet(rows.Err())
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
		args = p.l.withTenant(append(args, p.meta[i].raw...))
		done, err := one(stmt.ExecContext(ctx, args...))
		if err != nil {
			return nil, quiet(err)
		}
		if !done {
			lost = append(lost, i)
		}
	}
	return lost, nil
}

// updateEach is update for rows one of which the database refuses: it goes on after
// such a row, and lists it.
func (p *page) updateEach(ctx context.Context, tx *sql.Tx, write []int) (lost []int, bad []rowFailure, err error) {
	savepoint := func(query string) error {
		if p.l.Dialect != lethe.Postgres { // an error ends the statement alone
			return nil
		}
		_, err := tx.ExecContext(ctx, query)
		return err
	}
	for at, i := range write {
		if err := savepoint("SAVEPOINT lethe_row"); err != nil {
			return nil, nil, err
		}
		gone, err := p.update(ctx, tx, write[at:at+1])
		switch {
		case err == nil:
			lost = append(lost, gone...)
			err = savepoint("RELEASE SAVEPOINT lethe_row")
		case ofValues(err):
			bad = append(bad, rowFailure{p.meta[i].key, err})
			err = savepoint("ROLLBACK TO SAVEPOINT lethe_row")
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if len(bad) > 1 && len(bad) == p.len() {
		return nil, nil, fmt.Errorf("migrate: every row of a page was refused: %w", bad[0].err)
	}
	return lost, bad, nil
}

// ofValues reports whether an error of the database is about the values of a row: a
// constraint, a trigger, or a type that does not take one.
func ofValues(err error) bool {
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		s := e.SQLState()
		return strings.HasPrefix(s, "22") || strings.HasPrefix(s, "23") || strings.HasPrefix(s, "P0")
	}
	e, ok := errors.AsType[interface {
		error
		Code() int
	}](err)
	return ok && e.Code()&0xff == 19 // SQLITE_CONSTRAINT, RAISE among them
}

// refused is an error of the database about what a statement was given: its message
// may hold values, and is not shown. It unwraps to nothing for that reason.
type refused struct{ state string }

func (e refused) Error() string {
	return "migrate: the database refused a value (SQLSTATE " + e.state + "); its log or its triggers say why"
}

// SQLState returns the code of the error.
func (e refused) SQLState() string { return e.state }

// sqliteTrigger is SQLITE_CONSTRAINT_TRIGGER: what RAISE says, which may be made of values.
const sqliteTrigger = 19 | 7<<8

// quiet returns err, or what may be shown of it.
func quiet(err error) error {
	if e, ok := errors.AsType[interface {
		error
		Code() int
	}](err); ok && e.Code() == sqliteTrigger {
		return refused{"P0001"} // as PostgreSQL calls it
	}
	e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err)
	if !ok {
		return err
	}
	s := e.SQLState()
	if s == "22001" { // too long: of the column's type, and no value
		return err
	}
	for _, class := range []string{"08", "23", "25", "40", "42", "53", "55", "57", "58"} { // of objects, and of the server
		if strings.HasPrefix(s, class) {
			return err
		}
	}
	return refused{s}
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
