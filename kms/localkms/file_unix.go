//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// lock takes the lock that writers hold, waiting for it until ctx ends. The
// lock file stays: removing it would let two writers hold two locks. The system
// drops the lock with the process.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(&os.PathError{Op: "lock", Path: path, Err: err}, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// keepOwner gives temp the owner of path, so that root rotating a service's
// key does not lock the service out.
func keepOwner(path, temp string) error {
	was, err := os.Stat(path)
	if err != nil {
		return err
	}
	now, err := os.Stat(temp)
	if err != nil {
		return err
	}
	w, ok1 := was.Sys().(*syscall.Stat_t)
	n, ok2 := now.Sys().(*syscall.Stat_t)
	if !ok1 || !ok2 || w.Uid == n.Uid && w.Gid == n.Gid {
		return nil
	}
	if err := os.Chown(temp, int(w.Uid), int(w.Gid)); err != nil && w.Uid != n.Uid {
		return err // a mere change of group is no loss: the mode gives it nothing
	}
	return nil
}
