package drill_test

import (
	"testing"

	"github.com/lethe-go/lethe/internal/drill"
)

func TestDrill(t *testing.T) { drill.Run(t, newKey) }
