package sqlstore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope/sqlstore"
)

// A second handle in one process must leave the first one's locks: without
// them another process (sqlite3 3.40 does it) deletes the write-ahead log in
// use, and what is written later is lost.
func TestSQLiteLocksOutliveASecondOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	first, err := sqlstore.OpenSQLite(t.Context(), path)
	require.NoError(t, err)
	defer func() { _ = first.Close() }()
	initialise(t, first)
	before := locks(t, path)
	require.NotEmpty(t, before)
	second, err := sqlstore.OpenSQLite(t.Context(), path)
	require.NoError(t, err)
	defer func() { _ = second.Close() }()
	require.Equal(t, before, locks(t, path))
}

// locks lists the kernel's locks on a file.
func locks(t *testing.T, path string) (lines []string) {
	t.Helper()
	var info syscall.Stat_t
	require.NoError(t, syscall.Stat(path, &info))
	table, err := os.ReadFile("/proc/locks")
	require.NoError(t, err)
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, fmt.Sprintf(":%d ", info.Ino)) {
			_, lock, _ := strings.Cut(line, ":") // the number in front changes
			lines = append(lines, lock)
		}
	}
	return lines
}
