package sqlstore_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/internal/testdb"
	"github.com/lethe-go/lethe/tokenize"
	"github.com/lethe-go/lethe/tokenize/sqlstore"
	"github.com/lethe-go/lethe/tokenize/storetest"
)

type opener func(t testing.TB) *sqlstore.Store

func newSQLite(t testing.TB) opener {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens & more?.db")
	return func(t testing.TB) *sqlstore.Store {
		t.Helper()
		s, err := sqlstore.OpenSQLite(t.Context(), path)
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
}

func newPostgres(t testing.TB) opener {
	t.Helper()
	mine := testdb.Postgres(t)
	return func(t testing.TB) *sqlstore.Store {
		t.Helper()
		s, err := sqlstore.OpenPostgres(t.Context(), mine)
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
}

// onEach runs a test on each engine.
func onEach(t *testing.T, test func(t *testing.T, open opener)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, newSQLite(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, newPostgres(t)) })
}

func TestSuite(t *testing.T) {
	for name, fresh := range map[string]func(t testing.TB) opener{"sqlite": newSQLite, "postgres": newPostgres} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) (tokenize.Store, func(t *testing.T) tokenize.Store) {
				open := fresh(t)
				s := open(t)
				require.NoError(t, s.Migrate(t.Context()))
				return s, func(t *testing.T) tokenize.Store { return open(t) }
			})
		})
	}
}

func TestMigrate(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		s := open(t)
		_, err := s.Insert(t.Context(), []tokenize.Entry{{Token: "t"}})
		require.Error(t, err, "nothing makes tables by itself")
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := open(t).Migrate(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.NoError(t, s.Migrate(t.Context()))
	})
}

func TestOpenErrorsKeepTheDSN(t *testing.T) {
	_, err := sqlstore.OpenPostgres(t.Context(), "postgres://u:hunter2@[::1")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
	for _, path := range []string{"", ":memory:", "file:x", filepath.Join(t.TempDir(), "no", "such", "dir", "x.db")} {
		_, err := sqlstore.OpenSQLite(t.Context(), path)
		require.Error(t, err)
	}
}
