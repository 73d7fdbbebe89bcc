package sqlstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/storetest"
)

func TestSuite(t *testing.T) {
	for name, fresh := range map[string]func(t testing.TB) database{"sqlite": newSQLite, "postgres": newPostgres} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Backend {
				d := fresh(t)
				require.NoError(t, d.open(t).Migrate(t.Context()))
				return storetest.Backend{Open: func(t *testing.T) envelope.Store { return d.open(t) }}
			})
		})
	}
}
