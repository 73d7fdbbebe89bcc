package vaultkms

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/lethe-go/lethe/kms"
)

// Scheme is the scheme of transit's key URIs, as in Tink.
const Scheme = "hcvault"

// location is what a key URI says.
type location struct {
	address   string // "https://host:port"
	mount     string
	name      string
	namespace string // "" if the URI names none
	handles   Handles
}

var errURI = errors.New("vaultkms: the key URI is not hcvault://HOST[:PORT]/MOUNT/keys/NAME[?namespace=NS][&handles=versions|keys][&tls=off], without credentials or escapes")

// parseURI reads a key URI. Its errors do not repeat the URI.
func parseURI(uri string) (location, error) {
	u, err := url.Parse(uri)
	if err != nil || !strings.EqualFold(u.Scheme, Scheme) || u.Opaque != "" || u.User != nil || u.Fragment != "" ||
		strings.Contains(uri, "#") || strings.Contains(uri, "%") || u.Hostname() == "" {
		return location{}, errURI
	}
	mount, name, ok := cutLast(strings.TrimPrefix(u.Path, "/"), "/keys/")
	if !ok {
		return location{}, errURI
	}
	l := location{address: "https://" + strings.ToLower(u.Host), mount: mount, name: name}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || u.ForceQuery {
		return location{}, errURI
	}
	for key, values := range query {
		switch {
		case len(values) != 1:
			return location{}, errURI
		case key == "namespace":
			l.namespace = values[0]
			if err := checkPath("namespace", l.namespace); err != nil {
				return location{}, err
			}
		case key == "handles" && (values[0] == string(HandleVersions) || values[0] == string(HandleKeys)):
			l.handles = Handles(values[0])
		case key == "tls" && values[0] == "off":
			l.address = "http://" + strings.ToLower(u.Host)
		default:
			return location{}, errURI
		}
	}
	if err := errors.Join(checkPath("mount path", mount), checkName(name)); err != nil {
		return location{}, err
	}
	return l, checkAddress(l.address)
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+len(sep):], true
}

// checkAddress refuses an address to which no secret may be sent.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("vaultkms: the client's address is not https://HOST[:PORT]")
	case u.User != nil:
		return errors.New("vaultkms: the client's address carries a credential; use a token or an Auth method")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("vaultkms: plain http to %q is refused, it would show tokens and keys to the network; use https (http is for loopback addresses only)", clip(u.Hostname()))
	}
	return fmt.Errorf("vaultkms: the client's address has the scheme %q; use https", clip(u.Scheme))
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// keyURI names a KEK. It is what Opener takes if the address has no path.
func keyURI(address, mount, name, namespace string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", errors.New("vaultkms: the client's address is malformed")
	}
	host := strings.ToLower(u.Host)
	if h, port, err := net.SplitHostPort(host); err == nil && (port == "" || u.Scheme == "https" && port == "443") {
		host = h
		if strings.Contains(h, ":") {
			host = "[" + h + "]"
		}
	}
	uri := Scheme + "://" + host + strings.TrimSuffix(u.Path, "/") + "/" + mount + "/keys/" + name
	if namespace != "" {
		uri += "?namespace=" + namespace
	}
	return uri, nil
}

// OpenerOptions configures an [Opener].
type OpenerOptions struct {
	// Options are those of every Key that is opened. Mount must be empty, for the
	// URI names it; Namespace may be empty or must be the URI's if that names one.
	Options
	// NewClient makes the client for an address, "https://HOST[:PORT]" (or http
	// to a loopback address); it is called once per URI opened. Nil takes TLS
	// settings, token and namespace from the VAULT_* environment variables, as
	// the vault command does, and never the address.
	NewClient func(address string) (*api.Client, error)
}

// Opener opens keys for a [kms.Mux], to be registered under [Scheme]:
//
//	hcvault://HOST[:PORT]/MOUNT/keys/NAME[?namespace=NS][&handles=versions|keys][&tls=off]
//
// handles is Options.Handles, and must not differ where both are set.
// tls=off speaks plain http and is refused but for a loopback address. Nothing
// is shared between the Keys it opens but what NewClient and opts.Auth share.
// They are *[Key] and should be closed where opts.Auth is set.
func Opener(opts OpenerOptions) kms.Opener {
	return func(ctx context.Context, uri string) (kms.Key, error) {
		l, err := parseURI(uri)
		if err != nil {
			return nil, err
		}
		o := opts.Options
		if o.Mount != "" {
			return nil, errors.New("vaultkms: Options.Mount is set for an Opener; the URI names the mount")
		}
		o.Mount = l.mount
		if l.namespace != "" && o.Namespace != "" && strings.Trim(o.Namespace, "/") != l.namespace {
			return nil, errors.New("vaultkms: the URI and Options.Namespace name different namespaces")
		}
		if l.namespace != "" {
			o.Namespace = l.namespace
		}
		if l.handles != NoHandles && o.Handles != NoHandles && l.handles != o.Handles {
			return nil, errors.New("vaultkms: the URI and Options.Handles name different handles")
		}
		if l.handles != NoHandles {
			o.Handles = l.handles
		}
		newClient := opts.NewClient
		if newClient == nil {
			newClient = clientFromEnvironment
		}
		client, err := newClient(l.address)
		if err != nil {
			return nil, fmt.Errorf("vaultkms: make a client: %w", err)
		}
		if client == nil {
			return nil, errNoClient
		}
		if err := sameAddress(client.Address(), l.address); err != nil {
			return nil, err
		}
		k, err := New(ctx, client, l.name, o)
		if err != nil {
			return nil, err
		}
		return k, nil
	}
}

// sameAddress sees that NewClient made a client for the URI's host and no other.
func sameAddress(got, want string) error {
	g, err := keyURI(got, "m", "n", "")
	if err != nil {
		return err
	}
	w, err := keyURI(want, "m", "n", "")
	if err != nil {
		return err
	}
	if g != w || strings.HasPrefix(got, "https:") != strings.HasPrefix(want, "https:") {
		return errors.New("vaultkms: OpenerOptions.NewClient made a client for another address than the URI's")
	}
	return nil
}

// clientFromEnvironment is api.NewClient with the address given.
func clientFromEnvironment(address string) (*api.Client, error) {
	config := api.DefaultConfig()
	if config == nil {
		return nil, errors.New("the VAULT_* environment variables cannot be read")
	}
	if config.Error != nil {
		return nil, config.Error
	}
	config.Address, config.AgentAddress = address, "" // the URI rules
	return api.NewClient(config)
}
