package lethe

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lethe-go/lethe/envelope"
)

// Sentinel errors, to be tested with errors.Is. None carries a value, a key or a credential.
var (
	// ErrForgotten: the person, or this purpose of theirs, was forgotten.
	ErrForgotten = envelope.ErrForgotten
	// ErrSuspended: the person, or this purpose of theirs, is suspended: nothing opens until it is resumed.
	ErrSuspended = envelope.ErrSuspended
	// ErrKeyMissing: the key store does not have the key and never recorded it as forgotten.
	ErrKeyMissing = envelope.ErrKeyMissing
	// ErrDecrypt: damaged, or sealed for another row, column, tenant or purpose.
	ErrDecrypt = envelope.ErrDecrypt
	// ErrUnavailable: the KMS or the key store is away; retry.
	ErrUnavailable = envelope.ErrUnavailable
	// ErrNoSubject: the row does not say whose data it is.
	ErrNoSubject = envelope.ErrNoSubject
	// ErrDenied: the policy did not allow this field to be opened.
	ErrDenied = errors.New("lethe: denied by the policy")
	// ErrNotSealed: a codec met a value that was not sealed, or plaintext where a sealed value belongs.
	ErrNotSealed = errors.New("lethe: not sealed")
	// ErrSealed: the value is sealed: open it to read it, and never seal it again.
	ErrSealed = errors.New("lethe: sealed")
	// ErrMigrationOver: the time is over in which a field may be read from its plaintext column.
	ErrMigrationOver = errors.New("lethe: the migration is over")
	// ErrPlainDiffers: the plaintext column holds another value than the sealed one.
	ErrPlainDiffers = errors.New("lethe: the plaintext column differs from the sealed one: something wrote it alone; decide which value counts")
	// ErrNull: the value is NULL.
	ErrNull = errors.New("lethe: null")
)

// Subject is whose data it is: envelope.Subject.
type Subject = envelope.Subject

// RowError is what went wrong with one field of one row.
type RowError struct {
	Index int    // of the row in the slice; 0 for a single row
	Field string // stable name
	Err   error  // ErrDecrypt, ErrKeyMissing, ErrNoSubject, …
}

// RowErrors lists the fields that did not open, or that SealPlain and Unseal left
// as they were. All other fields of all rows did.
type RowErrors struct {
	Errors []RowError
}

// Error names the first few fields.
func (e *RowErrors) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "lethe: %d of the fields did not open: ", len(e.Errors))
	for i, r := range e.Errors {
		if i == 3 {
			fmt.Fprintf(&b, "; and %d more", len(e.Errors)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "row %d, field %q: %v", r.Index, r.Field, r.Err)
	}
	return b.String()
}

// Unwrap makes errors.Is and errors.As see every field's error.
func (e *RowErrors) Unwrap() []error {
	out := make([]error, len(e.Errors))
	for i := range e.Errors {
		out[i] = e.Errors[i].Err
	}
	return out
}

// add works on nil, so that a call without errors makes none.
func (e *RowErrors) add(row int, field string, err error) *RowErrors {
	if e == nil {
		e = &RowErrors{}
	}
	e.Errors = append(e.Errors, RowError{Index: row, Field: field, Err: err})
	return e
}

// list works on nil too.
func (e *RowErrors) list() []RowError {
	if e == nil {
		return nil
	}
	return e.Errors
}

func (e *RowErrors) orNil() error {
	if e == nil {
		return nil
	}
	return e
}
