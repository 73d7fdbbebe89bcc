package sqlstore_test

import (
	"database/sql"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope/sqlstore"
)

func TestSQLiteOpenedByManyAtOnce(t *testing.T) {
	for range 5 {
		path := filepath.Join(t.TempDir(), "keys.db")
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				s, err := sqlstore.OpenSQLite(t.Context(), path)
				if err == nil {
					err = s.Migrate(t.Context())
				}
				if err == nil {
					err = s.Close()
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

// A rollback journal that is kept, or none, would keep deleted keys or half a write.
func TestSQLiteRefusesUnsafeJournals(t *testing.T) {
	for _, mode := range []string{"PERSIST", "MEMORY", "OFF", "DELETE"} {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "keys.db")+"?_pragma=journal_mode("+mode+")")
		require.NoError(t, err)
		require.ErrorContains(t, sqlstore.NewSQLite(db).Migrate(t.Context()), "journal_mode", mode)
		require.NoError(t, db.Close())
	}
}
