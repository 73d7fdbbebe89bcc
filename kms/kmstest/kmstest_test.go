package kmstest_test

import (
	"testing"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
)

func TestFake(t *testing.T) {
	kmstest.Run(t, kmstest.Factory{
		New: func(*testing.T) kms.Key { return kmstest.NewFake() },
		Away: func(*testing.T) (kms.Key, func(), func()) {
			f := kmstest.NewFake()
			return f, func() { f.SetOutage(true) }, func() { f.SetOutage(false) }
		},
	})
}
