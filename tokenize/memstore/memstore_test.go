package memstore_test

import (
	"testing"

	"github.com/lethe-go/lethe/tokenize"
	"github.com/lethe-go/lethe/tokenize/memstore"
	"github.com/lethe-go/lethe/tokenize/storetest"
)

func TestSuite(t *testing.T) {
	storetest.Run(t, func(*testing.T) (tokenize.Store, func(t *testing.T) tokenize.Store) { return memstore.New(), nil })
}
