package drill

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

// Dead returns the keys that a ledger calls forgotten.
func Dead(t testing.TB, ledger envelope.Ledger) map[envelope.KeyID]bool {
	t.Helper()
	entries, err := ledger.Read(t.Context(), 0)
	require.NoError(t, err)
	out := map[envelope.KeyID]bool{}
	for i := range entries {
		for _, kid := range entries[i].KIDs {
			out[kid] = true
		}
	}
	return out
}
