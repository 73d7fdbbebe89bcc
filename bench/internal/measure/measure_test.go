package measure

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/bench/internal/model"
	"github.com/lethe-go/lethe/envelope"
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

// A run that is interrupted leaves nothing behind.
func TestRunCleansUp(t *testing.T) {
	for name, dsn := range map[string]string{"sqlite": "", "postgres": os.Getenv("LETHE_TEST_POSTGRES")} {
		t.Run(name, func(t *testing.T) {
			if name == "postgres" && dsn == "" {
				t.Skip("LETHE_TEST_POSTGRES is not set: PostgreSQL is NOT tested")
			}
			tmp := t.TempDir()
			t.Setenv("TMPDIR", tmp)
			ctx, cancel := context.WithCancel(t.Context())
			_, err := Run(ctx, Options{Budget: time.Second, Postgres: dsn, Progress: func(_ string, done float64) {
				if done > 0.3 {
					cancel()
				}
			}})
			require.Error(t, err)
			left, err := os.ReadDir(tmp)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

// T of the model is T of the library.
func TestPromiseIsTheLibrarys(t *testing.T) {
	b, err := open(t.Context(), Options{Budget: time.Second})
	require.NoError(t, err)
	defer func() { require.NoError(t, b.close(t.Context())) }()
	const day = 24 * time.Hour
	for _, e := range []envelope.EpochOptions{
		{Every: day, Window: 7 * day, CloseTime: time.Hour},
		{Every: time.Minute, Window: time.Second, CloseTime: 3 * time.Hour},
		{Every: 20 * day, Window: 30 * day, CloseTime: day, ReplicaLag: time.Hour, Long: true},
		{Every: time.Minute, Window: -1, CloseTime: time.Second, ReplicaLag: 6 * day},
	} {
		for _, ttl := range []time.Duration{time.Second, day} {
			ring, err := envelope.NewKeyring(t.Context(), b.place.store, b.key, envelope.Options{Ledger: b.ledger, CacheTTL: ttl, Epochs: e})
			require.NoError(t, err)
			promise := ring.Promise()
			ring.Close()
			s := model.Service{Epoch: e.Every, CloseTime: e.CloseTime, Window: max(0, e.Window), ReplicaLag: e.ReplicaLag, Cache: model.Cache{TTL: ttl}}
			require.Equal(t, promise.Backups, s.Promise())
			require.Equal(t, promise.Everywhere, s.Everywhere())
		}
	}
}
