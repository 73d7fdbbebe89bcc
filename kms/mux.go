package kms

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// Opener makes a Key from a KEK URI whose scheme it was registered for. It gets
// the whole URI, scheme included, and honours ctx. The Key outlives ctx.
type Opener func(ctx context.Context, uri string) (Key, error)

// Mux opens Keys by the scheme of their URI: "local://…", "hcvault://…",
// "pkcs11:…". A program registers the drivers it links; nothing registers
// itself. The zero Mux is ready for use and safe for concurrent use; it must
// not be copied.
type Mux struct {
	mu      sync.RWMutex
	openers map[string]Opener
}

// Register makes open serve the URIs of scheme, which is what stands before the
// first ':' and is compared without regard to case. It returns an error for an
// empty or malformed scheme, one that is registered already, and a nil Opener.
func (m *Mux) Register(scheme string, open Opener) error {
	if scheme == "" {
		return errors.New("kms: register: the scheme is empty")
	}
	if !validScheme(scheme) {
		return fmt.Errorf("kms: register: %q is no URI scheme (letters, digits, '+', '-', '.'; a letter first; no ':')", scheme)
	}
	if open == nil {
		return fmt.Errorf("kms: register: the opener for scheme %q is nil", scheme)
	}
	scheme = strings.ToLower(scheme)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, dup := m.openers[scheme]; dup {
		return fmt.Errorf("kms: register: scheme %q is registered already", scheme)
	}
	if m.openers == nil {
		m.openers = make(map[string]Opener)
	}
	m.openers[scheme] = open
	return nil
}

// Schemes lists the registered schemes in alphabetical order.
func (m *Mux) Schemes() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := make([]string, 0, len(m.openers))
	for scheme := range m.openers {
		s = append(s, scheme)
	}
	slices.Sort(s)
	return s
}

// Open opens the Key that uri names with the Opener registered for its scheme.
//
// The error for an unknown scheme lists the registered ones. No error text
// repeats a credential written into the URI (user info or a PKCS #11
// pin-value): an Opener's error that does is withheld, though errors.Is still
// sees through it.
func (m *Mux) Open(ctx context.Context, uri string) (Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	scheme, rest, found := strings.Cut(uri, ":")
	if !found || !validScheme(scheme) {
		return nil, fmt.Errorf("kms: open: the key URI has no scheme; %s", m.registered())
	}
	scheme = strings.ToLower(scheme)
	m.mu.RLock()
	open := m.openers[scheme]
	m.mu.RUnlock()
	if open == nil {
		// In "user:password@host" what looks like a scheme is half a credential.
		if !strings.HasPrefix(rest, "//") && strings.Contains(rest, "@") {
			return nil, fmt.Errorf("kms: open: no driver is registered for the key URI's scheme; %s", m.registered())
		}
		return nil, fmt.Errorf("kms: open: no driver is registered for scheme %q; %s", scheme, m.registered())
	}
	key, err := open(ctx, uri)
	if err != nil {
		return nil, fmt.Errorf("kms: open %q: %w", scheme, withhold(err, uri))
	}
	if key == nil {
		return nil, fmt.Errorf("kms: open %q: the driver returned no key and no error", scheme)
	}
	return key, nil
}

func (m *Mux) registered() string {
	s := m.Schemes()
	if len(s) == 0 {
		return "no scheme is registered"
	}
	return "registered: " + strings.Join(s, ", ")
}

// validScheme follows RFC 3986, section 3.1.
func validScheme(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return s != ""
}

// withhold hides the text of an error that repeats a credential of uri.
func withhold(err error, uri string) error {
	text := err.Error()
	for _, c := range credentials(uri) {
		if strings.Contains(text, c) {
			return &withheldError{err}
		}
	}
	return err
}

// credentials lists the parts of uri that must not be printed, as written and
// percent-decoded. It does not rely on the URI being well formed.
func credentials(uri string) []string {
	var found []string
	add := func(s string, decode func(string) (string, error)) {
		if s == "" {
			return
		}
		found = append(found, s)
		if d, err := decode(s); err == nil && d != "" && d != s {
			found = append(found, d)
		}
	}
	_, rest, _ := strings.Cut(uri, ":")
	// The last '@' ends the user info even where a password has a raw '@', '/' or '?' in it.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		info := strings.TrimPrefix(rest[:at], "//")
		add(info, url.PathUnescape)
		user, password, _ := strings.Cut(info, ":")
		add(user, url.PathUnescape)
		add(password, url.PathUnescape)
	}
	for _, attr := range strings.FieldsFunc(rest, func(r rune) bool { return r == '?' || r == '&' || r == ';' }) {
		if v, ok := strings.CutPrefix(attr, "pin-value="); ok {
			add(v, url.PathUnescape)
		}
	}
	return found
}

// withheldError keeps an error's identity and hides its text.
type withheldError struct{ err error }

func (*withheldError) Error() string {
	return "failed (the driver's message is withheld: it repeats a credential of the URI)"
}

// Is reports what the hidden error is, without handing it out.
func (e *withheldError) Is(target error) bool { return errors.Is(e.err, target) }
