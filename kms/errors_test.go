package kms_test

import (
	"context"
	"errors"
	"testing"

	"github.com/lethe-go/lethe/kms"
)

func TestRetryableTellsOutageFromRefusal(t *testing.T) {
	cause := errors.New("cause")
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{kms.Unavailable("decrypt", "local:1", cause), true},
		{kms.Rejected("decrypt", "local:1", cause), false},
		{kms.Denied("decrypt", "local:1", nil), false},
		{context.Canceled, false},
		{context.DeadlineExceeded, true},
		{cause, false},
	} {
		if got := kms.Retryable(c.err); got != c.want {
			t.Errorf("Retryable(%v) = %v", c.err, got)
		}
	}
	if err := kms.Unavailable("decrypt", "", cause); !errors.Is(err, cause) || !errors.Is(err, kms.ErrUnavailable) {
		t.Error("Error does not match its kind and cause")
	}
}
