package testdb_test

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/internal/testdb"
)

func TestSmallDisk(t *testing.T) {
	d := testdb.SmallDisk(t, 1<<20)
	d.Fill(t, 8192)
	file := filepath.Join(d.Dir, "file")
	require.ErrorIs(t, os.WriteFile(file, bytes.Repeat([]byte{1}, 8193), 0o600), syscall.ENOSPC)
	require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte{1}, 8192), 0o600))
	d.Free(t)
	require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte{1}, 100_000), 0o600))
}
