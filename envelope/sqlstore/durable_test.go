package sqlstore

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/internal/testdb"
)

func TestPostgresCommitsAreDurable(t *testing.T) {
	for asked, want := range map[string]string{"off": "on", "local": "local", "remote_apply": "remote_apply"} {
		s, err := OpenPostgres(t.Context(), testdb.PostgresURL(t, "synchronous_commit="+asked))
		require.NoError(t, err)
		var mode string
		require.NoError(t, s.db.QueryRowContext(t.Context(), "SHOW synchronous_commit").Scan(&mode))
		require.Equal(t, want, mode)
		require.NoError(t, s.Close())
	}
}
