package fileledger_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/fileledger"
)

func TestReadCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forgets.ledger")
	ledger, err := fileledger.Create(t.Context(), path)
	require.NoError(t, err)
	defer func() { _ = ledger.Close() }()
	ring := envelopetest.NewKeyring(t, envelope.Options{Ledger: ledger})
	_, err = ring.Forget(t.Context(), envelope.Subject{Kind: "customer", ID: "ada"})
	require.NoError(t, err)
	want, err := ledger.Read(t.Context(), 0)
	require.NoError(t, err)

	data, err := os.ReadFile(path)
	require.NoError(t, err)
	copied := filepath.Join(t.TempDir(), "copy")
	for name, c := range map[string]struct {
		data    string
		entries int // -1: an error
	}{
		"whole":       {string(data), len(want)},
		"cut off":     {string(data[:len(data)-3]), len(want) - 1},
		"damaged":     {string(data[:len(data)-3]) + "\n", -1},
		"no ledger":   {"{}\n", -1},
		"empty":       {"", -1},
		"header only": {`{"format":"lethe-ledger","version":1}` + "\n", 0},
	} {
		_ = os.Remove(copied)
		require.NoError(t, os.WriteFile(copied, []byte(c.data), 0o400))
		got, err := fileledger.ReadCopy(copied)
		if c.entries < 0 {
			require.Error(t, err, name)
			continue
		}
		require.NoError(t, err, name)
		require.Len(t, got, c.entries, name)
		if c.entries > 0 {
			require.Equal(t, want[:c.entries], got, name)
		}
	}
	_, err = fileledger.ReadCopy(copied + "2")
	require.ErrorIs(t, err, os.ErrNotExist)
}
