//go:build unix

package fileledger_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope/fileledger"
)

// hold locks the ledger as another process in Append would, until it is killed.
func hold(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	require.NoError(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	fmt.Println("held")
	time.Sleep(time.Minute)
}

// A full disk: nothing of the entry stays, and the ledger goes on when there is room.
func TestFullDisk(t *testing.T) {
	l, path := create(t)
	require.NoError(t, l.Append(t.Context(), entry(1)))
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	var was syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was))
	limit := was
	limit.Cur = uint64(len(before)) + 20
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	err = l.Append(t.Context(), entry(2))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was))
	require.ErrorContains(t, err, "not written")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.NoError(t, l.Append(t.Context(), entry(2)))
	fresh, err := fileledger.Open(path)
	require.NoError(t, err)
	got, err := fresh.Read(t.Context(), 0)
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.NoError(t, fresh.Close())
}

func TestALockedLedgerWaitsForTheContext(t *testing.T) {
	if path := os.Getenv("FILELEDGER_HOLDER"); path != "" {
		hold(t, path)
		return
	}
	l, path := create(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestALockedLedgerWaitsForTheContext$")
	cmd.Env = append(os.Environ(), "FILELEDGER_HOLDER="+path)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "held" {
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, l.Append(ctx, entry(1)), context.DeadlineExceeded)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.NoError(t, l.Append(t.Context(), entry(1)), "the lock went with its process")
}
