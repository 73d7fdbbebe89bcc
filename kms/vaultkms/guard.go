package vaultkms

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"

	"github.com/hashicorp/vault/api"
)

// guard stands before a client's transport. It refuses redirects, so that a
// token goes to no other host, and bounds answers.
type guard struct{ base http.RoundTripper }

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		_ = resp.Body.Close()
		return nil, errRedirect
	}
	// An item comes back at most twice as long as it went, with fixed overhead.
	resp.Body = &bounded{ReadCloser: resp.Body, left: 1<<20 + 2*max(0, req.ContentLength)}
	return resp, nil
}

// CloseIdleConnections passes the call on.
func (g guard) CloseIdleConnections() {
	if c, ok := g.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// bounded fails once more than left bytes are read.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		return 0, errTooBig
	}
	b.left -= int64(n)
	return n, err
}

// guarded makes a client like the caller's that sends nothing to other hosts,
// does not retry, and has the namespace. It has no token. The caller's own
// client is not changed.
func guarded(client *api.Client, namespace string) (*api.Client, error) {
	config := client.CloneConfig()
	if config.HttpClient == nil || config.HttpClient.Transport == nil {
		return nil, errors.New("vaultkms: the client has no HTTP transport; make it with api.NewClient")
	}
	if err := checkVerifies(config.HttpClient.Transport); err != nil {
		return nil, err
	}
	config.Address, config.AgentAddress = client.Address(), "" // what it uses now, not what it was made with
	config.HttpClient.Transport = guard{config.HttpClient.Transport}
	config.HttpClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	config.DisableRedirects = true
	config.MaxRetries = 0 // kms.Resilient retries
	config.Timeout = 0    // each call has its own
	config.Logger = nil   // it would get URLs and errors
	config.SRVLookup = false
	private, err := api.NewClient(config)
	if err != nil {
		return nil, errors.New("vaultkms: the client cannot be copied; see its address and the VAULT_* environment variables")
	}
	// NewClient has read token, namespace and headers from the environment again.
	private.ClearToken()
	private.SetHeaders(client.Headers())
	if namespace != "" {
		private.SetNamespace(namespace)
	}
	private.SetWrappingLookupFunc(func(string, string) string { return "" })
	return private, nil
}

// checkVerifies refuses a transport that takes any certificate.
func checkVerifies(transport http.RoundTripper) error {
	t, ok := transport.(*http.Transport)
	if !ok || t.TLSClientConfig == nil || !skipsVerification(t.TLSClientConfig) {
		return nil
	}
	return errors.New("vaultkms: the client does not verify certificates (InsecureSkipVerify or VAULT_SKIP_VERIFY); give it the server's CA instead (VAULT_CACERT)")
}

func skipsVerification(c *tls.Config) bool {
	return c.InsecureSkipVerify && c.VerifyConnection == nil && c.VerifyPeerCertificate == nil
}
