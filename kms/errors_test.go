package kms_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"syscall"
	"testing"

	"github.com/lethe-go/lethe/kms"
)

// status is an error as the AWS and Azure SDKs make them.
type status int

func (s status) Error() string       { return "https response error" }
func (s status) HTTPStatusCode() int { return int(s) }

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
		{fmt.Errorf("a client as it stands: %w", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), true},
		{&url.Error{Op: "Post", URL: "https://kms", Err: io.ErrUnexpectedEOF}, true},
		{&net.DNSError{Err: "no such host"}, true},
		{status(503), true},
		{fmt.Errorf("operation error KMS: Decrypt: %w", status(429)), true},
		{status(400), false},
		{status(403), false},
	} {
		if got := kms.Retryable(c.err); got != c.want {
			t.Errorf("Retryable(%v) = %v", c.err, got)
		}
	}
	if err := kms.Unavailable("decrypt", "", cause); !errors.Is(err, cause) || !errors.Is(err, kms.ErrUnavailable) {
		t.Error("Error does not match its kind and cause")
	}
}
