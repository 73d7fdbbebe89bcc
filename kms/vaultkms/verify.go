package vaultkms

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/lethe-go/lethe/kms"
)

// verify checks the set-up before anything is wrapped, in an order that cannot
// itself make a key: see the package documentation.
func (k *Key) verify(ctx context.Context, opts Options) error {
	info, derived, err := k.info(ctx)
	seen := err == nil
	var status *statusError
	switch {
	case seen && derived:
		return fmt.Errorf("vaultkms: open %s: %w: it is derived, which needs a context with every request; make a key without derived=true", k.uri, ErrUnsuitable)
	case seen && !slices.Contains(aeadTypes, info.Type):
		return fmt.Errorf("vaultkms: open %s: %w: its type is not one of %v", k.uri, ErrUnsuitable, aeadTypes)
	case errors.As(err, &status) && status.code == http.StatusNotFound:
		return kms.Rejected("open", k.uri, fmt.Errorf("there is no such key, mount or namespace; \"vault write -f %s/keys/%s\" makes the key", k.mount, k.name))
	case !seen && !refusedToken(err):
		return classify(ctx, "open", k.uri, err)
	}

	safe, err := k.upsertImpossible(ctx)
	if err != nil && (!errors.Is(err, ErrUnverified) || !opts.AllowUnverified) {
		return err
	}
	if !safe && !seen {
		// The probe below could be what makes the key.
		return kms.Denied("open", k.uri, fmt.Errorf("the token may not even see whether the key exists; let it read %s/keys/%s: %w", k.mount, k.name, ErrUnverified))
	}
	if err := k.makeProbe(ctx); err != nil {
		return err
	}
	if err != nil {
		opts.Warn(err)
	}
	return nil
}

// upsertImpossible reports whether transit would refuse to encrypt under a key
// that does not exist. Where that cannot be seen the error matches [ErrUnverified].
func (k *Key) upsertImpossible(ctx context.Context) (bool, error) {
	answer, err := k.send(ctx, http.MethodGet, k.mount+"/config/keys", nil)
	if err == nil {
		disabled, err := parseUpsertDisabled(answer)
		if err != nil {
			return false, classify(ctx, "open", k.uri, err)
		}
		if disabled {
			return true, nil
		}
	} else if !hidden(err) {
		return false, classify(ctx, "open", k.uri, err)
	}

	path := k.mount + "/encrypt/" + k.name
	answer, err = k.post(ctx, "sys/capabilities-self", map[string][]string{"paths": {path}})
	if hidden(err) {
		if status, ok := errors.AsType[*statusError](err); ok && status.reason == reasonBadToken {
			return false, kms.Denied("open", k.uri, status)
		}
		return false, kms.Denied("open", k.uri, ErrUnverified)
	}
	if err != nil {
		return false, classify(ctx, "open", k.uri, err)
	}
	mayUpdate, mayCreate, err := parseCapabilities(answer, path)
	switch {
	case err != nil:
		return false, classify(ctx, "open", k.uri, err)
	case mayCreate:
		return false, fmt.Errorf("vaultkms: open %s: %w", k.uri, ErrUpsert)
	case !mayUpdate:
		return false, kms.Denied("open", k.uri, fmt.Errorf("the token has no \"update\" on %s", path))
	}
	return true, nil
}

// hidden reports whether a path is refused to the token or unknown to the server.
func hidden(err error) bool {
	var status *statusError
	if !errors.As(err, &status) {
		return false
	}
	switch status.code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
		return true
	}
	return false
}

// probe is a wrapped random plaintext, to see later whether the key is still the same.
type probe struct {
	plaintext, associatedData, wrapped []byte
}

// makeProbe wraps a probe and sees that transit binds associated data.
func (k *Key) makeProbe(ctx context.Context) error {
	p := &probe{plaintext: make([]byte, 32), associatedData: make([]byte, 32)}
	_, _ = rand.Read(p.plaintext) // never fails
	_, _ = rand.Read(p.associatedData)
	var err error
	if p.wrapped, err = k.encrypt(ctx, "open", p.plaintext, p.associatedData); err != nil {
		return err
	}
	if err := k.tryProbe(ctx, "open", p); err != nil {
		return err
	}
	other := bytes.Clone(p.associatedData)
	other[0] ^= 1
	opened, err := k.decrypt(ctx, "open", p.wrapped, other)
	clear(opened)
	if err == nil {
		return fmt.Errorf("vaultkms: open %s: %w: the server opens a ciphertext with other associated data than it was made with; it is too old, or something between drops it", k.uri, ErrUnsuitable)
	}
	if !errors.Is(err, kms.ErrRejected) {
		return err
	}
	k.probe.Store(p)
	return nil
}

func (k *Key) tryProbe(ctx context.Context, op string, p *probe) error {
	opened, err := k.decrypt(ctx, op, p.wrapped, p.associatedData)
	if err != nil {
		return err
	}
	defer clear(opened)
	if subtle.ConstantTimeCompare(opened, p.plaintext) != 1 {
		return kms.Unavailable(op, k.uri, errAnswer)
	}
	return nil
}

// Ping checks that transit unwraps what it wrapped when the Key was opened. It
// fails with [kms.ErrRejected] if the key was deleted since, even where another
// of the same name was made.
func (k *Key) Ping(ctx context.Context) error {
	err := k.tryProbe(ctx, "ping", k.probe.Load())
	var status *statusError
	if errors.As(err, &status) && status.reason == reasonTooOld {
		return k.makeProbe(ctx) // the key exists: nothing is made anew
	}
	return err
}
