//go:build !windows

package main

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
)

// screen is what a program writes to a terminal.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// talk runs the program on a terminal and types an answer for each prompt.
func (s *site) talk(answers [][2]string, args ...string) (code int, seen string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), binary, args...)
	cmd.Env = environ(s.env)
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 100})
	require.NoError(s.t, err)
	var out screen
	copied := make(chan struct{})
	go func() { defer close(copied); _, _ = io.Copy(&out, tty) }()
	for _, a := range answers {
		require.Eventually(s.t, func() bool { return strings.Contains(out.String(), a[0]) }, 20*time.Second, 5*time.Millisecond, "%s: %s", a[0], &out)
		_, err := io.WriteString(tty, a[1]+"\n")
		require.NoError(s.t, err)
	}
	_ = cmd.Wait()
	<-copied
	_ = tty.Close()
	return cmd.ProcessState.ExitCode(), out.String()
}

// On a terminal a person is asked, for the id too, and only yes goes on.
func TestAsksOnATerminal(t *testing.T) {
	s := newSite(t)
	s.must("init")
	s.fill(2)
	code, seen := s.talk([][2]string{{"id of the customer: ", id(0)}, {"Type yes to go on: ", "y"}}, "forget", "--kind", "customer")
	require.Equal(t, exitVerdict, code, seen)
	require.Contains(t, seen, "not confirmed: nothing was changed")
	s.opens(0)
	code, seen = s.talk([][2]string{{"id of the customer: ", id(0)}, {"This destroys the keys of this customer for good", "yes"}}, "forget", "--kind", "customer")
	require.Zero(t, code, seen)
	require.Contains(t, seen, "Receipt of a forget")
	require.Equal(t, lethe.StatusForgotten, s.read(0).Email.Status())
	code, seen = s.talk([][2]string{{"every backup of the key store there is now useless", "no"}}, "epoch", "close", "--immediate")
	require.Equal(t, exitVerdict, code, seen)
}

// A bar on a terminal, lines elsewhere; a job that is stopped goes on where it was.
func TestProgressAndResume(t *testing.T) {
	s := newSite(t)
	s.must("init")
	s.fill(30)
	code, seen := s.talk(nil, "reseal", "customers", "--rate", "40", "--workers", "1")
	require.Zero(t, code, seen)
	require.Contains(t, seen, "reseal customers, pass 1")
	require.Contains(t, seen, "%")

	cmd := exec.CommandContext(t.Context(), binary, "reseal", "customers", "--rate", "10", "--workers", "1", "--json")
	cmd.Env = environ(s.env)
	var out, errs screen
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Start())
	stack := s.open()
	require.Eventually(t, func() bool {
		var state string
		err := stack.DB.QueryRowContext(t.Context(), "SELECT state FROM lethe_job WHERE name LIKE 'reseal%'").Scan(&state)
		return err == nil && strings.Contains(state, `"position":`)
	}, 20*time.Second, 10*time.Millisecond)
	r := s.run("", "reseal", "customers")
	require.Equal(t, exitUnavailable, r.code, "another process has the job")
	require.Contains(t, r.stderr, "another process runs this job")
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	_ = cmd.Wait()
	require.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode(), errs.String())
	require.Contains(t, errs.String(), "goes on from here")
	stopped := decodeAnswer[jobResult](t, out.String())
	require.False(t, stopped.Done)
	require.Less(t, stopped.All.Seen, int64(30))

	resumed := decodeAnswer[jobResult](t, s.must("reseal", "customers", "--unlimited", "--json"))
	require.True(t, resumed.Resumed)
	require.True(t, resumed.Done)
	require.GreaterOrEqual(t, resumed.All.Seen, int64(30))
	for _, i := range []int{0, 15, 29} {
		s.opens(i)
	}
}
