package envelope

import (
	"errors"
	"fmt"
)

// staleError is an errStalePage that says which rows do not fit together.
type staleError struct {
	page         PageID // the parent; 0: the root
	names, there uint64 // the generation its child names, and the one it has
}

func (e *staleError) Error() string {
	if e.page == 0 {
		return fmt.Sprintf("a page was wrapped under the root of epoch %d, and the root is of epoch %d", e.names, e.there)
	}
	return fmt.Sprintf("a row was wrapped under generation %d of page %d, which is of generation %d", e.names, e.page, e.there)
}

// Is reports that it is an errStalePage.
func (e *staleError) Is(target error) bool { return target == errStalePage }

// staleWatch tells a re-key between two reads, which the next read is past, from rows
// that do not fit together however often they are read.
type staleWatch struct {
	last staleError
	same int
}

// see notes the error of one read.
func (w *staleWatch) see(err error) {
	var stale *staleError
	switch {
	case !errors.As(err, &stale):
		w.same = 0
	case *stale == w.last:
		w.same++
	default:
		w.last, w.same = *stale, 1
	}
}

// explain words the error of the last read, given up on. served: the store is in use,
// and it may be a replica that lags.
func (w *staleWatch) explain(err error, served bool) error {
	const advice = "the tables of the key store do not fit together: some, or some rows, are of another moment than the rest; put all of them back from one backup, then call envelope.Restore"
	switch {
	case w.same < loadAttempts:
		return fmt.Errorf("lethe: %w: %w", ErrUnavailable, err)
	case served:
		return fmt.Errorf("lethe: %w: %w; if a replica that lags is not the reason, %s", ErrUnavailable, err, advice)
	}
	return fmt.Errorf("lethe: %s: %w: %w", advice, err, ErrDecrypt)
}
