package measure

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/bench/internal/model"
)

// checkCosts: every figure was taken, and those that must be in an order are.
func checkCosts(t *testing.T, c *model.Costs) {
	t.Helper()
	for name, d := range map[string]model.Dist{
		"SealWarm": c.SealWarm, "SealSubjectCold": c.SealSubjectCold, "SealPageCold": c.SealPageCold, "SealProcessCold": c.SealProcessCold,
		"SealNewSubject": c.SealNewSubject, "OpenWarm": c.OpenWarm, "OpenSubjectCold": c.OpenSubjectCold, "OpenPageCold": c.OpenPageCold,
		"OpenProcessCold": c.OpenProcessCold, "CellsSeal": c.CellsSeal, "CellsOpen": c.CellsOpen, "CellsSealKey": c.CellsSealKey,
		"CellsOpenKey": c.CellsOpenKey, "KeyRead": c.KeyRead, "KMSEncrypt": c.KMSEncrypt, "KMSDecrypt": c.KMSDecrypt, "Forget": c.Forget,
	} {
		require.Positive(t, d.P50, name)
		require.GreaterOrEqual(t, d.P99, d.P50, name)
		require.Positive(t, d.Count, name)
	}
	for name, d := range map[string]time.Duration{
		"Rewrap": c.Rewrap, "Reseal": c.Reseal, "RotateSubject": c.RotateSubject, "RewrapKEK": c.RewrapKEK,
	} {
		require.Positive(t, d, name)
	}
	require.Equal(t, 110, c.HeaderBytes)
	require.Equal(t, 29, c.CellOverhead)
	require.Positive(t, c.WrappedDEK)
	require.Positive(t, c.KMSCallsStart)
	require.Greater(t, c.KMSCallsClose, c.KMSCallsStart)
	require.Greater(t, c.KeyStoreBytes, 60.0)
	require.Greater(t, c.PlainKeyBytes, 60.0)
	require.Less(t, c.CellsOpen.P50, c.OpenWarm.P50)
	require.Less(t, c.OpenWarm.P50, c.OpenSubjectCold.P50)
}

func TestRun(t *testing.T) {
	var last float64
	c, err := Run(t.Context(), Options{Budget: time.Second, Progress: func(step string, done float64) {
		require.NotEmpty(t, step)
		require.GreaterOrEqual(t, done+1e-9, last)
		last = done
	}})
	require.NoError(t, err)
	require.InDelta(t, 1, last, 1e-9)
	checkCosts(t, c)
}

func TestRunPostgres(t *testing.T) {
	dsn := os.Getenv("LETHE_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("LETHE_TEST_POSTGRES is not set: PostgreSQL is NOT tested")
	}
	c, err := Run(t.Context(), Options{Budget: time.Second, Postgres: dsn})
	require.NoError(t, err)
	checkCosts(t, c)
}

func TestRunRefusesNoTime(t *testing.T) {
	_, err := Run(t.Context(), Options{Budget: time.Millisecond})
	require.ErrorContains(t, err, "too short")
}

func TestSharesAreAll(t *testing.T) {
	sum := 0.0
	for _, s := range steps {
		sum += s.share
	}
	require.InDelta(t, 1, sum, 1e-9)
}
