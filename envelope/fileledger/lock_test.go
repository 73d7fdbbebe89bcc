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

	"github.com/lethe-go/lethe/envelope"
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
	fresh, err := fileledger.Open(t.Context(), path)
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

// A line is no entry before its writer has synced it and let go of the lock: a
// writer that fails takes it back.
func TestALineBeingWrittenIsNotRead(t *testing.T) {
	l, path := create(t)
	require.NoError(t, l.Append(t.Context(), entry(1)))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	other, path2 := create(t) // for the bytes of a second line
	require.NoError(t, other.Append(t.Context(), entry(1)))
	require.NoError(t, other.Append(t.Context(), entry(2)))
	both, err := os.ReadFile(path2)
	require.NoError(t, err)

	writer, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, writer.Close()) }()
	require.NoError(t, syscall.Flock(int(writer.Fd()), syscall.LOCK_EX))
	_, err = writer.WriteAt(both[len(whole):], int64(len(whole)))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = l.Read(ctx, 0)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, writer.Truncate(int64(len(whole)))) // its sync failed
	require.NoError(t, syscall.Flock(int(writer.Fd()), syscall.LOCK_UN))
	got, err := l.Read(t.Context(), 0)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.NoError(t, l.Append(t.Context(), entry(2)))
}

// All names of one file are one ledger, under one lock.
func TestLinksAreTheSameLedger(t *testing.T) {
	l, path := create(t)
	require.NoError(t, os.Symlink(path, path+".symlink"))
	require.NoError(t, os.Link(path, path+".hardlink"))
	soft, hard := open(t, path+".symlink"), open(t, path+".hardlink")
	require.NoError(t, l.Append(t.Context(), entry(1)))
	require.ErrorIs(t, soft.Append(t.Context(), entry(1)), envelope.ErrLedgerConflict)
	require.NoError(t, soft.Append(t.Context(), entry(2)))
	require.ErrorIs(t, hard.Append(t.Context(), entry(2)), envelope.ErrLedgerConflict)
	require.NoError(t, hard.Append(t.Context(), entry(3)))
	got, err := l.Read(t.Context(), 0)
	require.NoError(t, err)
	require.Len(t, got, 3)
}
