package testdb

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Disk is a small file system of its own, which can be filled up.
type Disk struct {
	Dir string // readable by everybody, as a database server is somebody else

	filler string
}

// SmallDisk mounts one of size bytes until the test ends. The test is skipped where
// the process may not mount.
func SmallDisk(t testing.TB, size int) *Disk {
	t.Helper()
	dir, err := os.MkdirTemp("", "lethe-disk-") //nolint:usetesting // the test's own folder lets nobody else in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the server has to get there
		t.Fatal(err)
	}
	err = syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=755,size="+strconv.Itoa(size))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOSYS) {
		t.Skip("a FULL DISK is NOT tested: this process may not mount a file system; run the tests as root")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return &Disk{Dir: dir, filler: filepath.Join(dir, "filler")}
}

// Fill leaves room for left bytes, rounded to the pages of the file system.
func (d *Disk) Fill(t testing.TB, left int64) {
	t.Helper()
	f, err := os.Create(d.filler)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	zeros := make([]byte, 4096)
	var written int64
	for {
		n, err := f.Write(zeros)
		written += int64(n)
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(max(0, written-left)); err != nil {
		t.Fatal(err)
	}
}

// Free makes room again.
func (d *Disk) Free(t testing.TB) {
	t.Helper()
	if err := os.Remove(d.filler); err != nil {
		t.Fatal(err)
	}
}
