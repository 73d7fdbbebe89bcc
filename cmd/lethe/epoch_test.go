package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A handle that was due and is still there is no success, and what was done is said
// all the same: that the epoch is closed, and that the configuration must follow.
func TestHandlesThatStay(t *testing.T) {
	s := newSite(t)
	s.must("init")
	s.fill(3)
	to := "local://" + s.file("new.json")
	s.must("rotate", "kek", "--to", to, "--create", "--yes")
	s.env = append(s.env, "LETHE_KMS="+to) // and the old key is not configured

	r := s.run("", "epoch", "close", "--immediate", "--yes", "--json")
	require.Equal(t, exitPartly, r.code, r.stderr)
	require.Contains(t, decodeAnswer[failure](t, r.stderr).Error, "erase-due")
	closed := decodeAnswer[closedResult](t, r.stdout)
	require.EqualValues(t, 3, closed.Epoch)
	require.NotEmpty(t, closed.Erasures[0].Error)

	r = s.run("", "epoch", "erase-due")
	require.Equal(t, exitPartly, r.code, r.stderr)
	require.Contains(t, r.stdout, "could not be destroyed")

	r = s.run("", "forget", "--kind", "customer", "--id", id(0), "--now", "--yes", "--json")
	require.Equal(t, exitPartly, r.code, r.stderr)
	forgot := decodeAnswer[forgetResult](t, r.stdout)
	require.EqualValues(t, 4, forgot.Closed.Epoch)
	require.EqualValues(t, 4, forgot.Receipt.ClosedEpoch)

	third := "local://" + s.file("third.json")
	r = s.run("", "rotate", "kek", "--to", third, "--create", "--yes", "--json")
	require.Equal(t, exitPartly, r.code, r.stderr)
	moved := decodeAnswer[rotateKEKResult](t, r.stdout)
	require.True(t, moved.Moved)
	require.EqualValues(t, 5, moved.Epoch)
	s.env[len(s.env)-1] = "LETHE_KMS=" + third
	s.opens(1)
}
