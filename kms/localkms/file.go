package localkms

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

const maxFileSize = 1 << 20

// readFile reads a key file, refusing what only looks like one or is open to others.
func readFile(path string) ([]byte, fs.FileInfo, error) {
	// Before opening: opening a named pipe would hang.
	if info, err := os.Stat(path); err != nil {
		return nil, nil, err
	} else if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return nil, nil, fmt.Errorf("%s has mode %04o, so its group or others may access it; run: chmod 600 %s", path, mode, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxFileSize {
		return nil, nil, fmt.Errorf("%s is larger than 1 MiB, so it is no key file", path)
	}
	return data, info, nil
}

// writeNew puts data at path, where nothing may exist.
func writeNew(path string, data []byte) (fs.FileInfo, error) {
	temp, info, err := writeTemp(path, data)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(temp) }()
	err = os.Link(temp, path) // unlike a rename, it never replaces
	if err != nil && !errors.Is(err, fs.ErrExist) {
		info, err = writeExclusive(path, data) // a file system without hard links
	}
	if err != nil {
		return nil, err
	}
	return info, syncDir(filepath.Dir(path))
}

// writeExclusive writes data in place. A crash can leave a partial file, which
// Open reports as damaged.
func writeExclusive(path string, data []byte) (fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := fill(f, data)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return info, nil
}

// replace puts data in the place of the file at path.
func replace(path string, data []byte) (fs.FileInfo, error) {
	temp, info, err := writeTemp(path, data)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(temp) }() // fails once it is renamed
	if err := keepOwner(path, temp); err != nil {
		return nil, err
	}
	if err := os.Rename(temp, path); err != nil {
		return nil, err
	}
	return info, syncDir(filepath.Dir(path))
}

// writeTemp writes and syncs a file of mode 0600 beside path.
func writeTemp(path string, data []byte) (string, fs.FileInfo, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return "", nil, err
	}
	info, err := fill(f, data)
	if err != nil {
		return "", nil, errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), info, nil
}

// fill writes, syncs and closes f.
func fill(f *os.File, data []byte) (fs.FileInfo, error) {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	var info fs.FileInfo
	if err == nil {
		info, err = f.Stat()
	}
	return info, errors.Join(err, f.Close())
}

// syncDir makes a new directory entry survive a crash. Windows cannot and need not.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
