package migrate

import (
	"context"
	"errors"

	"github.com/lethe-go/lethe/envelope"
)

// Retryable reports whether a job that ended with err, or that NewJob could not
// make, is worth running again later as it is: the database, the key store or the KMS
// was away, another process has the job, or rows still changed in the last pass.
// Otherwise somebody must change something first: the table, the Options or the
// program.
func Retryable(err error) bool {
	for _, of := range []error{ErrRunning, ErrLeaseLost, ErrNotDone, context.Canceled, context.DeadlineExceeded, envelope.ErrClosed} {
		if errors.Is(err, of) {
			return true
		}
	}
	return err != nil && transient(err)
}
