package config

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Address says where something is: a file, a database, a KMS key. It may carry a
// credential, which no form of printing shows; URL returns it whole.
type Address struct {
	url string
}

// URL is the address as it was given, with its credentials. Of a relative path the
// absolute one is returned.
func (a Address) URL() string { return a.url }

// IsZero reports whether there is none.
func (a Address) IsZero() bool { return a.url == "" }

// Scheme is what stands before the first colon, in lower case.
func (a Address) Scheme() string {
	scheme, _, ok := strings.Cut(a.url, ":")
	if !ok {
		return ""
	}
	return strings.ToLower(scheme)
}

// path is what follows the scheme of a file's address.
func (a Address) path() string {
	_, path, _ := strings.Cut(a.url, ":")
	return strings.TrimPrefix(path, "//")
}

// String returns the address without user, password and parameters.
func (a Address) String() string {
	switch a.Scheme() {
	case "":
		return ""
	case "sqlite", "file", "local":
		return a.url
	}
	u, err := url.Parse(a.url)
	if err != nil {
		return a.Scheme() + ":[hidden]"
	}
	if u.Opaque != "" { // pkcs11:…, whose attributes may hold a PIN
		return a.Scheme() + ":" + strings.SplitN(u.Opaque, "?", 2)[0]
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// Format writes String, for every verb.
func (a Address) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, a.String()) }

// MarshalText returns String, so that no encoding of a Config shows a credential.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// sameDatabase reports whether two addresses lead to the same tables: whoever asks,
// and by whatever name of a file.
func sameDatabase(a, b Address) bool {
	if a.Scheme() != b.Scheme() {
		return a.path() == b.path()
	}
	if a.Scheme() == "postgres" {
		u, err := url.Parse(a.url)
		v, err2 := url.Parse(b.url)
		return err == nil && err2 == nil && u.Host == v.Host && u.Path == v.Path &&
			u.Query().Get("host") == v.Query().Get("host") && u.Query().Get("search_path") == v.Query().Get("search_path")
	}
	if a.path() == b.path() {
		return true
	}
	x, err := os.Stat(a.path())
	y, err2 := os.Stat(b.path())
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// credentials are the secret parts of an address, to keep them out of messages.
func (a Address) credentials() []string {
	u, err := url.Parse(a.url)
	if err != nil {
		return []string{a.url}
	}
	var out []string
	if password, ok := u.User.Password(); ok {
		out = append(out, password, url.PathEscape(password), url.QueryEscape(password), a.rawPassword())
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil { // what was left out of query may be one
		out = append(out, u.RawQuery)
	}
	for name, values := range query {
		if secretParameter(name) {
			for _, v := range values {
				out = append(out, v, url.QueryEscape(v))
			}
		}
	}
	return out
}

// rawPassword is the password as it is written in the address.
func (a Address) rawPassword() string {
	_, rest, _ := strings.Cut(a.url, "://")
	user, _, _ := strings.Cut(rest, "@")
	_, password, _ := strings.Cut(user, ":")
	return password
}

func secretParameter(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "password") || strings.Contains(name, "pin-value") || strings.Contains(name, "token") || strings.Contains(name, "secret")
}

// where an address may lead, and the forms to name in an error.
type addressKind struct {
	schemes []string
	forms   string
}

func (k addressKind) parse(text, base string) (Address, error) {
	a := Address{url: text}
	scheme := a.Scheme()
	known := len(k.schemes) == 0 && scheme != ""
	for _, s := range k.schemes {
		known = known || s == scheme
	}
	if !known {
		return Address{}, fmt.Errorf("is to be %s", k.forms)
	}
	switch scheme {
	case "sqlite", "file", "local":
		path := a.path()
		if path == "" || strings.HasPrefix(path, ":memory:") {
			return Address{}, errors.New("names no file")
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(base, path)
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return Address{}, err
		}
		a.url = scheme + ":" + abs
		if scheme == "local" {
			a.url = scheme + "://" + abs
		}
		return a, nil
	case "postgres", "postgresql":
		rest := text[len(scheme):]
		if !strings.HasPrefix(rest, "://") { // "host=… password=…" too
			return Address{}, fmt.Errorf("is to be %s", k.forms)
		}
		a.url = "postgres" + rest
	}
	if _, err := url.Parse(a.url); err != nil {
		return Address{}, errors.New("is not a URL that parses: write special characters of a password as %XX")
	}
	return a, nil
}

// The kinds.
var (
	storeAddress  = addressKind{[]string{"sqlite", "postgres", "postgresql"}, "sqlite:FILE or postgres://USER@HOST:PORT/DATABASE"}
	ledgerAddress = addressKind{[]string{"file", "sqlite", "postgres", "postgresql"}, "file:FILE, sqlite:FILE or postgres://USER@HOST:PORT/DATABASE"}
	kmsAddress    = addressKind{nil, "the URI of a key, such as local://FILE or hcvault://HOST/transit/keys/NAME"}
)
