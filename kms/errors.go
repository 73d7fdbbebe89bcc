package kms

import (
	"context"
	"errors"
	"io"
	"net"
)

// Sentinel errors, to be tested with errors.Is.
var (
	// ErrUnavailable: the service did not answer or asked to be called later. A retry may succeed.
	ErrUnavailable = errors.New("unavailable, retry later")
	// ErrRejected: the service answered that this ciphertext, with this associated data
	// and key, does not open, or that the request is malformed. A retry cannot succeed.
	ErrRejected = errors.New("rejected by the KMS")
	// ErrDenied: the credential may not use the key. A retry cannot succeed before
	// someone changes a permission.
	ErrDenied = errors.New("denied by the KMS")
)

// Error is a failure of one KMS operation. It matches its Kind (one of the
// sentinel errors) and its cause with errors.Is.
type Error struct {
	Op   string // "encrypt", "decrypt", "ping", "open"
	Key  string // the KEK's URI, without credentials; may be empty
	Kind error  // ErrUnavailable, ErrRejected or ErrDenied
	Err  error  // the cause, free of secrets; may be nil
}

func (e *Error) Error() string {
	s := "kms: " + e.Op
	if e.Key != "" {
		s += " with " + e.Key
	}
	s += ": " + e.Kind.Error()
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives errors.Is and errors.As the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// Unavailable makes a retryable error.
func Unavailable(op, key string, cause error) error {
	return &Error{Op: op, Key: key, Kind: ErrUnavailable, Err: cause}
}

// Rejected makes a final error about the data.
func Rejected(op, key string, cause error) error {
	return &Error{Op: op, Key: key, Kind: ErrRejected, Err: cause}
}

// Denied makes a final error about permission.
func Denied(op, key string, cause error) error {
	return &Error{Op: op, Key: key, Kind: ErrDenied, Err: cause}
}

// HTTP statuses, without all of net/http.
const (
	requestTimeout  = 408
	tooManyRequests = 429
)

// Retryable reports whether the failed operation may succeed when repeated
// unchanged. Errors of a Key that does not use this package's kinds (a Tink
// client as it stands) count as retryable when they are of the network, a
// connection that ended, a timeout, or an HTTP status that asks to come again
// (408, 429, 5xx), as the AWS and Azure SDKs report it; all others are final.
// Context cancellation is never retryable.
func Retryable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, ErrRejected) || errors.Is(err, ErrDenied) {
		return false
	}
	if errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	var status interface{ HTTPStatusCode() int }
	if errors.As(err, &status) {
		code := status.HTTPStatusCode()
		return code >= 500 || code == requestTimeout || code == tooManyRequests
	}
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
