// Package fileledger is a ledger in a file: one JSON object a line, appended
// under a lock and synced before Append returns. Keep the file outside the key
// store and outside the key store's backups: restoring both together would
// bring forgotten people back. It holds keyed pseudonyms and key ids, no
// subject's id and no key.
package fileledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/internal/ledgerline"
)

// header is the first line of every ledger file.
const header = `{"format":"lethe-ledger","version":1}` + "\n"

// ErrReplaced means that the file under an open ledger is shorter than it was,
// or another file. Restore the ledger, or open it anew if that was on purpose.
var ErrReplaced = errors.New("fileledger: the ledger file was truncated or replaced while it was open")

// Ledger is an envelope.Ledger in a file. It is safe for concurrent use, by
// many processes too.
type Ledger struct {
	path string

	mu      sync.Mutex
	f       *os.File
	info    fs.FileInfo
	end     int64 // behind the last complete line read
	entries []envelope.LedgerEntry
}

var _ envelope.Ledger = (*Ledger)(nil)

// Create makes a new ledger file with mode 0600 and opens it. It never replaces
// a file: that gives an error for which errors.Is(err, fs.ErrExist) holds.
func Create(ctx context.Context, path string) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("fileledger: %w", err)
	}
	_, err = f.WriteString(header)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("fileledger: %w", errors.Join(err, os.Remove(path)))
	}
	return Open(ctx, path)
}

// Open opens a ledger that Create made and reads it whole; ctx bounds the wait for
// a process that appends, 10 seconds at most. A damaged line is an error that
// names it; a line that a crash cut off is no entry.
func Open(ctx context.Context, path string) (*Ledger, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("fileledger: %w; Create makes a new ledger", err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("fileledger: %s is not a regular file", path)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("fileledger: %w", err)
	}
	l := &Ledger{path: path, f: f}
	if l.info, err = f.Stat(); err == nil {
		err = l.readHeader()
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, openPatience)
		defer cancel()
		err = l.refresh(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

// openPatience is how long Open waits for a process that appends.
const openPatience = 10 * time.Second

// Close closes the file. Calls after it fail.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}

func (l *Ledger) readHeader() error {
	got := make([]byte, len(header))
	if _, err := l.f.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("fileledger: %w", err)
	}
	if string(got) != header {
		return fmt.Errorf("fileledger: %s is not a ledger of version 1", l.path)
	}
	l.end = int64(len(header))
	return nil
}

// Read implements envelope.Ledger. Errors other than the context's mean that the
// file is away, damaged or replaced. Where there is something new it waits for
// the lock until ctx ends.
func (l *Ledger) Read(ctx context.Context, after uint64) ([]envelope.LedgerEntry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx); err != nil {
		return nil, err
	}
	if after >= uint64(len(l.entries)) {
		return nil, nil
	}
	out := slices.Clone(l.entries[after:])
	for i := range out {
		out[i] = clone(out[i])
	}
	return out, nil
}

// Append implements envelope.Ledger. It waits for the lock until ctx ends. When
// it fails, the file is as it was, or ends in a line without an end, which is
// no entry and which the next Append removes.
func (l *Ledger) Append(ctx context.Context, e envelope.LedgerEntry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	line, err := ledgerline.Append(nil, &e)
	if err != nil {
		return fmt.Errorf("fileledger: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.catchUp(); err != nil {
		return err
	}
	if e.Seq != uint64(len(l.entries))+1 {
		return envelope.ErrLedgerConflict
	}
	if err := l.f.Truncate(l.end); err != nil { // what a crash left of a line
		return fmt.Errorf("fileledger: %w", err)
	}
	_, err = l.f.WriteAt(line, l.end)
	if err == nil {
		err = l.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("fileledger: the entry was not written: %w", errors.Join(err, l.f.Truncate(l.end)))
	}
	l.end += int64(len(line))
	l.entries = append(l.entries, clone(e))
	return nil
}

func (l *Ledger) lock(ctx context.Context) (unlock func(), err error) {
	if unlock, err = lock(ctx, l.f, l.path); err != nil {
		return nil, fmt.Errorf("fileledger: waiting for the lock: %w", err)
	}
	return unlock, nil
}

// refresh reads what other processes appended. It never looks at a line that is
// being written: its writer may yet fail, and take it back.
func (l *Ledger) refresh(ctx context.Context) error {
	if size, err := l.size(); err != nil || size == l.end {
		return err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return l.catchUp()
}

// size returns the file's, which must be the one that was opened.
func (l *Ledger) size() (int64, error) {
	if _, err := l.f.Stat(); err != nil { // closed
		return 0, fmt.Errorf("fileledger: %w", err)
	}
	now, err := os.Stat(l.path)
	if err != nil {
		return 0, fmt.Errorf("fileledger: %w", err)
	}
	if !os.SameFile(now, l.info) || now.Size() < l.end {
		return 0, ErrReplaced
	}
	return now.Size(), nil
}

// catchUp reads the complete lines other processes appended. The lock is held.
func (l *Ledger) catchUp() error {
	size, err := l.size()
	if err != nil || size == l.end {
		return err
	}
	// A writer that died before its sync may have left a whole line, which must be
	// durable before anyone acts on it.
	if err := l.f.Sync(); err != nil {
		return fmt.Errorf("fileledger: %w", err)
	}
	more := make([]byte, size-l.end)
	n, err := l.f.ReadAt(more, l.end)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("fileledger: %w", err)
	}
	more = more[:n]
	for {
		length := bytes.IndexByte(more, '\n') + 1
		if length == 0 {
			return nil
		}
		e, err := ledgerline.Parse(more[:length])
		if err == nil && e.Seq != uint64(len(l.entries))+1 {
			err = fmt.Errorf("entry %d is in the place of entry %d", e.Seq, len(l.entries)+1)
		}
		if err != nil {
			return fmt.Errorf("fileledger: %s is damaged in line %d: %w; restore it from a copy", l.path, len(l.entries)+2, err)
		}
		l.entries = append(l.entries, e)
		l.end += int64(length)
		more = more[length:]
	}
}

func clone(e envelope.LedgerEntry) envelope.LedgerEntry {
	e.Prev, e.MAC, e.RootCommit = slices.Clone(e.Prev), slices.Clone(e.MAC), slices.Clone(e.RootCommit)
	e.KIDs, e.Pages = slices.Clone(e.KIDs), slices.Clone(e.Pages)
	return e
}

// syncDir makes a new file's name durable. Windows has no such call.
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
