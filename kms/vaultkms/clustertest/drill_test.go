package clustertest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/internal/drill"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/vaultkms"
)

// eraserPolicy is what the package documentation tells to write for a program that
// closes epochs, for keys of any name.
const eraserPolicy = `
path "transit/encrypt/*"   { capabilities = ["update"] }
path "transit/decrypt/*"   { capabilities = ["update"] }
path "transit/config/keys" { capabilities = ["read"] }
path "transit/keys/*"      { capabilities = ["read", "update"] }`

// Backups of PostgreSQL from before a forget, restored with what a cluster of Vault
// still has; the program talks to a node that does not lead. Handles that are keys
// are drilled on transit alone, in transittest, which takes less time.
func TestDrill(t *testing.T) {
	c := start(t)
	require.NoError(t, c.root.Sys().PutPolicy("eraser", eraserPolicy))
	n := 0
	drill.Run(t, func(t *testing.T) kms.Eraser {
		n++
		name := fmt.Sprint("drill-", n)
		c.makeKey(t, name)
		token := c.policyToken(t, "eraser")
		k, err := vaultkms.New(t.Context(), c.client(t, 1, token), name, vaultkms.Options{Handles: vaultkms.HandleVersions})
		require.NoError(t, err)
		return k
	})
}
