package fileledger

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// lockedByte lies far behind the end: a locked range cannot be read by others.
const lockedByte = 0x7fffffff

// lock takes the file's lock, which other processes see, waiting for it until
// ctx ends. The system drops it with the process.
func lock(ctx context.Context, f *os.File, path string) (unlock func(), err error) {
	h := windows.Handle(f.Fd())
	at := &windows.Overlapped{OffsetHigh: lockedByte}
	for {
		err := windows.LockFileEx(h, windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
		if err == nil {
			return func() { _ = windows.UnlockFileEx(h, 0, 1, 0, at) }, nil
		}
		if !errors.Is(err, windows.ERROR_LOCK_VIOLATION) && !errors.Is(err, windows.ERROR_IO_PENDING) {
			return nil, &os.PathError{Op: "lock", Path: path, Err: err}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}
