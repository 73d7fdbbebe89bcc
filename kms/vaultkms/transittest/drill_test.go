package transittest_test

import (
	"testing"

	"github.com/lethe-go/lethe/internal/drill"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/vaultkms/transittest"
)

// Backups of PostgreSQL from before a forget, restored with what Vault's transit
// still has.
func TestDrill(t *testing.T) {
	for _, handles := range allHandles {
		t.Run(string(handles), func(t *testing.T) {
			drill.Run(t, func(t *testing.T) kms.Eraser {
				s := transittest.NewServer(t, true)
				s.MakeKey(t, "customers")
				return eraser(t, s, transittest.Eraser, "customers", handles)
			})
		})
	}
}
