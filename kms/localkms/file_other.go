//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package localkms

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// lock takes the lock that writers hold, waiting for it until ctx ends. Here the
// lock is the file's existence, so a crash leaves it behind.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			return func() { _ = f.Close(); _ = os.Remove(path) }, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s exists, so another process is writing, or one crashed and the file must be removed: %w", path, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// keepOwner has nothing to do: files inherit their access here.
func keepOwner(_, _ string) error { return nil }
