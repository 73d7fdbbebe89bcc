package memstore_test

import (
	"testing"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/envelope/storetest"
)

func TestSuite(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Backend {
		s := memstore.New()
		return storetest.Backend{Open: func(*testing.T) envelope.Store { return s }, Volatile: true}
	})
}
