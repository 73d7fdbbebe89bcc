package memledger_test

import (
	"testing"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/ledgertest"
	"github.com/lethe-go/lethe/envelope/memledger"
)

func TestSuite(t *testing.T) {
	ledgertest.Run(t, func(*testing.T) ledgertest.Backend {
		l := &memledger.Ledger{}
		return ledgertest.Backend{Open: func(*testing.T) envelope.Ledger { return l }, Volatile: true}
	})
}
