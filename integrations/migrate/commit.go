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
// instance since a unique index has the value already. What follows it says why.
var ErrRefused = errors.New("migrate: the database refuses the row")

// refusal returns why the database refuses the values of a row, with the code; "" for
// any other error. The database's own text may show a value.
func refusal(err error) string {
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return refusedState(e.SQLState())
	}
	if e, ok := errors.AsType[interface {
		error
		Code() int
	}](err); ok && e.Code()&0xff == 19 { // SQLITE_CONSTRAINT
		return "a constraint (SQLite error " + strconv.Itoa(e.Code()) + ")"
	}
	return ""
}

// refusedState is refusal for PostgreSQL's codes.
func refusedState(state string) string {
	var why string
	switch {
	case state == "22001":
		why = "too long for its column"
	case strings.HasPrefix(state, "22"):
		why = "not of its column's type"
	case strings.HasPrefix(state, "23"):
		why = "a constraint"
	case strings.HasPrefix(state, "P0"):
		why = "a trigger"
	default:
		return ""
	}
	return why + " (SQLSTATE " + state + ")"
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
