package migrate

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/lethe-go/lethe"
)

// sqlState returns the code of an error of PostgreSQL.
func sqlState(err error) (state string, ok bool) {
	e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err)
	if !ok {
		return "", false
	}
	return e.SQLState(), true
}

// sqliteCode returns the extended result code of an error of SQLite.
func sqliteCode(err error) (code int, ok bool) {
	e, ok := errors.AsType[interface {
		error
		Code() int
	}](err)
	if !ok {
		return 0, false
	}
	return e.Code(), true
}

// ErrRefused means that the database does not take what a row would become, for
// instance since a unique index has the value already. What follows it says why.
var ErrRefused = errors.New("migrate: the database refuses the row")

// refusal returns why the database refuses the values of a row, with the code; "" for
// any other error. The database's own text may show a value.
func refusal(err error) string {
	if state, ok := sqlState(err); ok {
		return refusedState(state)
	}
	if code, ok := sqliteCode(err); ok && code&0xff == 19 { // SQLITE_CONSTRAINT
		return "a constraint (SQLite error " + strconv.Itoa(code) + ")"
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
	if code, ok := sqliteCode(err); ok && code == sqliteTrigger {
		return refused{"P0001"} // as PostgreSQL calls it
	}
	s, ok := sqlState(err)
	if !ok {
		return err
	}
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
	if s, ok := sqlState(err); ok {
		conflict := s == "40001" || s == "40P01" || s == "55P03" // a deadlock and a lock among them
		// Of the connection; resources; the operator stops the server.
		return conflict || strings.HasPrefix(s, "08") || strings.HasPrefix(s, "53") || strings.HasPrefix(s, "57P")
	}
	if code, ok := sqliteCode(err); ok {
		return code&0xff == 5 || code&0xff == 6 // SQLITE_BUSY, SQLITE_LOCKED
	}
	return strings.Contains(err.Error(), "database is locked")
}
