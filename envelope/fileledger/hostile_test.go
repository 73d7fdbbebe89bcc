package fileledger_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

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
