package vaultkms

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/hashicorp/vault/api"

	"github.com/lethe-go/lethe/kms"
)

// Sentinel errors of [New] and an [Opener], to be tested with errors.Is.
var (
	// ErrUpsert: a deleted key would be made anew silently. Set disable_upsert=true
	// on the mount, or give the token no "create" on the encrypt path.
	ErrUpsert = errors.New(`transit would silently make a deleted key anew: run "vault write MOUNT/config/keys disable_upsert=true", or give the token only "update" on MOUNT/encrypt/NAME`)
	// ErrUnverified: the token may not see whether a deleted key would be made
	// anew. Let it read MOUNT/config/keys, or set Options.AllowUnverified. The
	// error matches [kms.ErrDenied] too, for a token that is not valid sees nothing either.
	ErrUnverified = errors.New(`the token may not see whether transit would make a deleted key anew: let it read MOUNT/config/keys or update sys/capabilities-self, or set AllowUnverified`)
	// ErrUnsuitable: the transit key cannot bind associated data as is needed, or the engine ignores it.
	ErrUnsuitable = errors.New("the transit key is unsuitable")
	// ErrClosed: the Key was closed.
	ErrClosed = errors.New("the key is closed")
)

var (
	errNoClient = errors.New("vaultkms: the client is nil")
	// errAnswer: whatever answered is not the transit engine as it is known.
	errAnswer   = errors.New("the answer is not what transit answers")
	errTooBig   = errors.New("the answer is longer than transit's can be")
	errRedirect = errors.New("it redirects, which is not followed: name the active node, or a load balancer in front")
	errToken    = errors.New("the token is empty, or has a line end, a space or another character that tokens do not have")
	errTimeout  = errors.New("no answer within Options.Timeout")
)

// statusError is an HTTP status of 400 and above.
type statusError struct {
	code   int
	reason string // of the table below; may be empty
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("Vault answered %d", e.code)
	if e.reason != "" {
		s += ", " + e.reason
	}
	return s
}

const (
	reasonTooOld   = "the key version is below min_decryption_version or was trimmed"
	reasonBadToken = "the token is invalid or expired"
)

// reasons are the messages of Vault that are worth telling apart. Ours is
// printed, never Vault's: a message from elsewhere may repeat what it was sent.
var reasons = []struct{ theirs, ours string }{
	{"encryption key not found", "the transit key does not exist"},
	{"disallowed by policy (too old)", reasonTooOld},
	{"vault is sealed", "it is sealed"},
	{"in standby mode", "the node is a standby"},
	{"no handler for route", "nothing is mounted at this path in this namespace"},
	{"invalid token", reasonBadToken},
	{"permission denied", "permission denied"},
	{"request body too large", "the request is too large"},
	{"lease count quota exceeded", "a quota is exceeded"},
	{"rate limit quota exceeded", "a quota is exceeded"},
}

func newStatusError(code int, body []byte) *statusError {
	var answer struct {
		Errors []string `json:"errors"`
	}
	if json.Unmarshal(body, &answer) != nil {
		answer.Errors = nil
	}
	return &statusError{code: code, reason: reasonOf(answer.Errors)}
}

func reasonOf(messages []string) string {
	for _, r := range reasons {
		for _, text := range messages {
			if strings.Contains(strings.ToLower(text), r.theirs) {
				return r.ours
			}
		}
	}
	return ""
}

// kind sorts an HTTP status.
func kind(code int) error {
	switch {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return kms.ErrDenied
	case code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code == http.StatusTooEarly,
		code == http.StatusPreconditionFailed, // a replica that lags behind
		code == 472 || code == 473,            // a disaster-recovery secondary, a performance standby
		code >= 500:
		return kms.ErrUnavailable
	case code >= 400:
		return kms.ErrRejected
	}
	return kms.ErrUnavailable
}

// classify makes the error of an operation. cause may carry anything; what is
// returned carries nothing that the other side could have put secrets into.
func classify(ctx context.Context, op, key string, cause error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if status, ok := errors.AsType[*statusError](cause); ok {
		return &kms.Error{Op: op, Key: key, Kind: kind(status.code), Err: status}
	}
	for _, ours := range []error{ErrClosed, errToken} {
		if errors.Is(cause, ours) {
			return kms.Denied(op, key, ours)
		}
	}
	if already, ok := errors.AsType[*kms.Error](cause); ok {
		return already
	}
	return kms.Unavailable(op, key, harmless(cause))
}

// harmless keeps of a transport's error what stems from this side or from
// before anything was sent, and hides the rest: net/http quotes answers that
// are not HTTP, and such an answer may echo the request.
func harmless(err error) error {
	for _, known := range []error{errAnswer, errTooBig, errRedirect} {
		if errors.Is(err, known) {
			return known
		}
	}
	var (
		dns    *net.DNSError
		verify *tls.CertificateVerificationError
		record tls.RecordHeaderError
		name   x509.HostnameError
		alert  tls.AlertError
		errno  syscall.Errno
		path   *fs.PathError
		t      interface{ Timeout() bool }
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errTimeout
	case errors.As(err, &dns):
		return dns
	case errors.As(err, &verify):
		return verify
	case errors.As(err, &name):
		return name
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return errors.New("the server does not speak TLS")
	case errors.As(err, &alert):
		return alert
	case errors.As(err, &errno):
		return errno
	case errors.As(err, &path):
		return path
	case errors.As(err, &t) && t.Timeout():
		return errTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the connection was closed")
	}
	return errors.New("the request failed")
}

// statusOf finds the HTTP status in an error of package api.
func statusOf(err error) *statusError {
	if status, ok := errors.AsType[*statusError](err); ok {
		return status
	}
	if answer, ok := errors.AsType[*api.ResponseError](err); ok {
		return &statusError{code: answer.StatusCode, reason: reasonOf(answer.Errors)}
	}
	return nil
}
