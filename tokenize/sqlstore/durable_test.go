package sqlstore

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPostgresCommitsAreDurable(t *testing.T) {
	dsn := os.Getenv("LETHE_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("LETHE_TEST_POSTGRES is not set: PostgreSQL is NOT tested")
	}
	separator := "?"
	if strings.Contains(dsn, "?") {
		separator = "&"
	}
	for asked, want := range map[string]string{"off": "on", "remote_apply": "remote_apply"} {
		s, err := OpenPostgres(t.Context(), dsn+separator+"synchronous_commit="+asked)
		require.NoError(t, err)
		var mode string
		require.NoError(t, s.db.QueryRowContext(t.Context(), "SHOW synchronous_commit").Scan(&mode))
		require.Equal(t, want, mode)
		require.NoError(t, s.Close())
	}
}
