package fileledger_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/ledgertest"
)

func TestSuite(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T) ledgertest.Backend {
		_, path := create(t)
		return ledgertest.Backend{
			Open: func(t *testing.T) envelope.Ledger { return open(t, path) },
			Away: func(t *testing.T) envelope.Ledger {
				l := open(t, path)
				require.NoError(t, os.Remove(path))
				return l
			},
		}
	})
}
