package main

import (
	"context"
	"errors"
	"io/fs"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/kms"
)

// Exit codes, which scripts rely on.
const (
	exitOK          = 0
	exitVerdict     = 1   // it ran, and the answer is no; or it was refused, and nothing was changed
	exitTrouble     = 2   // it could not run: called wrongly, a mistake in the configuration, a file that cannot be read
	exitUnavailable = 3   // the KMS, a database, or another process in the way: the same call may succeed later
	exitPartly      = 4   // the rest was done: what was left is listed
	exitDamage      = 5   // key store, ledger, KMS key and data do not fit together: somebody must look
	exitInterrupted = 130 // by a signal; what was done stays, and the same call goes on
)

// verdictError is an answer, not a failure of the program.
type verdictError struct{ error }

func (e verdictError) Unwrap() error { return e.error }

// partlyError is the end of work of which some was left.
type partlyError struct{ error }

func (e partlyError) Unwrap() error { return e.error }

// exitCode says what an error means to a script.
func exitCode(err error) int {
	is := func(targets ...error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
	var verdict verdictError
	var partly partlyError
	var file *fs.PathError
	switch {
	case err == nil:
		return exitOK
	case is(context.Canceled):
		return exitInterrupted
	case errors.As(err, &verdict):
		return exitVerdict
	case errors.As(err, &partly):
		return exitPartly
	case is(envelope.ErrWrongKey, envelope.ErrLedger, envelope.ErrDecrypt, envelope.ErrKeyMissing, envelope.ErrScopes):
		return exitDamage
	case is(envelope.ErrForgotten, envelope.ErrSuspended, envelope.ErrNotForgotten, envelope.ErrNotHeld, envelope.ErrNotSuspended, envelope.ErrNotVerified):
		return exitVerdict
	case is(envelope.ErrUnavailable, envelope.ErrLeased, envelope.ErrStoreConflict, context.DeadlineExceeded):
		return exitUnavailable
	case is(fs.ErrNotExist, fs.ErrExist, fs.ErrPermission) || errors.As(err, &file):
		return exitTrouble
	case kms.Retryable(err): // a database that went away meanwhile
		return exitUnavailable
	}
	return exitTrouble
}
