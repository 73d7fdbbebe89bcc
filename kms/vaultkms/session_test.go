package vaultkms_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	"github.com/hashicorp/vault/api/auth/kubernetes"
	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/vaultkms"
)

func appRole(t *testing.T) api.AuthMethod {
	t.Helper()
	auth, err := approle.NewAppRoleAuth("role", &approle.SecretID{FromString: "SECRET-ID-do-not-print"})
	require.NoError(t, err)
	return auth
}

// warnings collects what Warn is told.
type warnings struct {
	mu   sync.Mutex
	list []error
}

func (w *warnings) add(err error) { w.mu.Lock(); defer w.mu.Unlock(); w.list = append(w.list, err) }

func (w *warnings) all() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]error(nil), w.list...)
}

func TestLoginMethods(t *testing.T) {
	kube, err := kubernetes.NewKubernetesAuth("lethe", kubernetes.WithServiceAccountToken("JWT-do-not-print"))
	require.NoError(t, err)
	for name, auth := range map[string]api.AuthMethod{
		"approle": appRole(t), "kubernetes": kube,
		"token": vaultkms.Token(func(context.Context) (string, error) { return goodToken, nil }),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeVault()
			defer f.Close()
			client := clientOf(t, f)
			client.SetToken("caller-token")
			k, err := vaultkms.New(t.Context(), client, "k", vaultkms.Options{Auth: auth})
			require.NoError(t, err)
			require.NoError(t, k.Ping(t.Context()))
			require.Equal(t, "caller-token", client.Token(), "the caller's client is the caller's")
			f.mu.Lock()
			for _, head := range f.heads {
				require.NotEqual(t, "caller-token", head.Get("X-Vault-Token"))
			}
			f.mu.Unlock()
			require.NoError(t, k.Close())
			_, err = k.EncryptWithContext(t.Context(), plaintext, row)
			require.ErrorIs(t, err, vaultkms.ErrClosed)
			require.False(t, kms.Retryable(err))
		})
	}
}

func TestLoginRefused(t *testing.T) {
	f := newFakeVault()
	defer f.Close()
	for code, want := range map[int]error{400: kms.ErrDenied, 403: kms.ErrDenied, 404: kms.ErrDenied, 429: kms.ErrUnavailable, 500: kms.ErrUnavailable, 503: kms.ErrUnavailable} {
		f.set(func() { f.noLogin = code }) // its message repeats the secret id
		_, err := vaultkms.New(t.Context(), clientOf(t, f), "k", vaultkms.Options{Auth: appRole(t)})
		require.ErrorIs(t, err, want, "%d", code)
		silent(t, err)
	}
	for _, answer := range []string{``, `{}`, `{"auth":null}`, `{"auth":{"client_token":""}}`, `{"auth":{"client_token":"x","lease_duration":-1}}`, `{"auth":{"client_token":"x","lease_duration":9223372036854775807}}`, `{"auth":{"client_token":1}}`} {
		f.lie("/login", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) })
		_, err := vaultkms.New(t.Context(), clientOf(t, f), "k", vaultkms.Options{Auth: appRole(t)})
		require.ErrorIs(t, err, kms.ErrUnavailable, answer)
	}
	f.honest()
	_, err := vaultkms.New(t.Context(), clientOf(t, f), "k", vaultkms.Options{Auth: vaultkms.Token(func(context.Context) (string, error) { return goodToken + "\n", nil })})
	require.ErrorIs(t, err, kms.ErrDenied)
	require.ErrorContains(t, err, "line end")
	silent(t, err)
	_, err = vaultkms.New(t.Context(), clientOf(t, f), "k", vaultkms.Options{Auth: vaultkms.Token(func(context.Context) (string, error) { return "wrong-do-not-print", nil })})
	require.ErrorIs(t, err, kms.ErrDenied)
	silent(t, err)
	_, err = vaultkms.New(t.Context(), clientOf(t, f), "k", vaultkms.Options{Auth: vaultkms.Token(func(context.Context) (string, error) { return "", errors.New("do not print") })})
	require.ErrorIs(t, err, kms.ErrUnavailable)
	silent(t, err)
}

// The token lives 2 seconds and is renewed up to 5, then there is another; no call fails meanwhile.
func TestRenewalAndNewLogin(t *testing.T) {
	t.Parallel()
	f := newFakeVault()
	defer f.Close()
	f.lease, f.maxLease = 2*time.Second, 5*time.Second
	var warned warnings
	k, err := vaultkms.New(t.Context(), clientOf(t, f), "k", vaultkms.Options{Auth: appRole(t), Warn: warned.add})
	require.NoError(t, err)
	defer func() { _ = k.Close() }()
	for end := time.Now().Add(9 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		_, err := k.EncryptWithContext(t.Context(), plaintext, row)
		require.NoError(t, err)
	}
	logins, renewals := f.counts()
	require.GreaterOrEqual(t, logins, 2)
	require.LessOrEqual(t, logins, 8)
	require.GreaterOrEqual(t, renewals, 2)
	require.Empty(t, warned.all())

	// The server refuses logins: a warning, in time a denial, and recovery.
	f.set(func() { f.noLogin = 403 })
	require.Eventually(t, func() bool { return len(warned.all()) > 0 }, 15*time.Second, 50*time.Millisecond)
	for _, err := range warned.all() {
		silent(t, err)
	}
	require.Eventually(t, func() bool {
		_, err := k.EncryptWithContext(t.Context(), plaintext, row)
		return errors.Is(err, kms.ErrDenied)
	}, 15*time.Second, 50*time.Millisecond)
	f.set(func() { f.noLogin = 0 })
	require.Eventually(t, func() bool {
		_, err := k.EncryptWithContext(t.Context(), plaintext, row)
		return err == nil
	}, 15*time.Second, 50*time.Millisecond)
}

// A token that dies before its time is replaced by whoever meets that first, once for all.
func TestRevokedTokenIsReplaced(t *testing.T) {
	t.Parallel()
	f := newFakeVault()
	defer f.Close()
	k, err := vaultkms.New(t.Context(), clientOf(t, f), "k", vaultkms.Options{Auth: appRole(t)})
	require.NoError(t, err)
	defer func() { _ = k.Close() }()
	time.Sleep(1100 * time.Millisecond) // a fresh token is not replaced
	f.set(func() { clear(f.tokens) })
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := k.EncryptWithContext(t.Context(), plaintext, row); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	logins, _ := f.counts()
	require.Equal(t, 2, logins)
}

// Where the policy is at fault, logging in again does not help and is not repeated for every call.
func TestDenialIsNoLoginStorm(t *testing.T) {
	t.Parallel()
	f := newFakeVault()
	defer f.Close()
	k, err := vaultkms.New(t.Context(), clientOf(t, f), "k", vaultkms.Options{Auth: appRole(t)})
	require.NoError(t, err)
	defer func() { _ = k.Close() }()
	f.set(func() { f.denied = true })
	calls := 0
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		calls++
		_, err := k.EncryptWithContext(t.Context(), plaintext, row)
		require.ErrorIs(t, err, kms.ErrDenied)
	}
	logins, _ := f.counts()
	require.Greater(t, calls, 50)
	require.LessOrEqual(t, logins, 4)
	f.set(func() { f.denied = false })
	_, err = k.EncryptWithContext(t.Context(), plaintext, row)
	require.NoError(t, err)
}

// Without Auth, the token is the client's at each call.
func TestCallersToken(t *testing.T) {
	f := newFakeVault()
	defer f.Close()
	client := clientOf(t, f)
	t.Setenv("VAULT_TOKEN", "environment-token")
	k, err := vaultkms.New(t.Context(), client, "k", vaultkms.Options{})
	require.NoError(t, err)
	f.set(func() { clear(f.tokens); f.tokens["another"] = time.Time{} })
	_, err = k.EncryptWithContext(t.Context(), plaintext, row)
	require.ErrorIs(t, err, kms.ErrDenied)
	require.ErrorContains(t, err, "invalid or expired")
	silent(t, err)
	for _, token := range []string{"another\n", "an other", "\x00", "ä"} {
		client.SetToken(token)
		_, err = k.EncryptWithContext(t.Context(), plaintext, row)
		require.ErrorIs(t, err, kms.ErrDenied)
		require.ErrorContains(t, err, "token")
		require.False(t, kms.Retryable(err))
	}
	client.SetToken("another")
	_, err = k.EncryptWithContext(t.Context(), plaintext, row)
	require.NoError(t, err)
	for _, head := range f.heads {
		require.NotEqual(t, "environment-token", head.Get("X-Vault-Token"))
	}
}

func TestNamespaceAndMount(t *testing.T) {
	f := newFakeVault()
	defer f.Close()
	client := clientOf(t, f)
	host := f.URL[len("https://"):]
	for want, opts := range map[string]vaultkms.Options{
		"hcvault://" + host + "/transit/keys/k":                     {},
		"hcvault://" + host + "/secrets/transit/keys/k?namespace=a": {Mount: "/secrets/transit/", Namespace: "a"},
		"hcvault://" + host + "/transit/keys/k?namespace=team/a":    {Namespace: "/team/a/"},
	} {
		k, err := vaultkms.New(t.Context(), client, "k", opts)
		require.NoError(t, err)
		require.Equal(t, want, k.KeyURI())
		f.mu.Lock()
		head, path := f.heads[len(f.heads)-1], f.paths[len(f.paths)-1]
		f.mu.Unlock()
		require.Equal(t, strings.Trim(opts.Namespace, "/"), strings.Trim(head.Get("X-Vault-Namespace"), "/"))
		if opts.Mount != "" {
			require.Equal(t, "/v1/secrets/transit/decrypt/k", path)
		}
	}
	client.SetNamespace("theirs")
	k, err := vaultkms.New(t.Context(), client, "k", vaultkms.Options{})
	require.NoError(t, err)
	require.Equal(t, "hcvault://"+host+"/transit/keys/k?namespace=theirs", k.KeyURI())
	t.Setenv("VAULT_NAMESPACE", "environment")
	k, err = vaultkms.New(t.Context(), client, "k", vaultkms.Options{})
	require.NoError(t, err)
	require.Equal(t, "hcvault://"+host+"/transit/keys/k?namespace=theirs", k.KeyURI())
}

func TestBadArguments(t *testing.T) {
	f := newFakeVault()
	defer f.Close()
	client := clientOf(t, f)
	_, err := vaultkms.New(t.Context(), nil, "k", vaultkms.Options{})
	require.Error(t, err)
	for _, name := range []string{"", ".", "..", "a/b", "../sys/seal", "a%2fb", "a b", "a?b", "a#b", "-a", "a-", "ä", "a\n", "a\x00b"} {
		_, err := vaultkms.New(t.Context(), client, name, vaultkms.Options{})
		require.Error(t, err, name)
		for _, opts := range []vaultkms.Options{{Mount: name + "/x"}, {Namespace: "x/" + name}} {
			if name == "a/b" || name == "" {
				continue
			}
			_, err := vaultkms.New(t.Context(), client, "k", opts)
			require.Error(t, err, name)
		}
	}
	_, err = vaultkms.New(t.Context(), client, "k", vaultkms.Options{Timeout: -1})
	require.ErrorContains(t, err, "Timeout")
	require.Empty(t, f.paths, "nothing was asked of the server")

	for _, address := range []string{"http://vault.example.com:8200", "http://10.0.0.1", "http://localhost.example.com", "https://user:hunter2@127.0.0.1", "ftp://127.0.0.1", "127.0.0.1:8200"} {
		config := api.DefaultConfig()
		config.Address = address
		other, err := api.NewClient(config)
		if err != nil {
			continue
		}
		_, err = vaultkms.New(t.Context(), other, "k", vaultkms.Options{})
		require.Error(t, err, address)
		require.NotErrorIs(t, err, kms.ErrUnavailable, address)
		require.NotContains(t, err.Error(), "hunter2")
	}

	config := api.DefaultConfig()
	config.Address = f.URL
	config.HttpClient = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	careless, err := api.NewClient(config)
	require.NoError(t, err)
	_, err = vaultkms.New(t.Context(), careless, "k", vaultkms.Options{})
	require.ErrorContains(t, err, "does not verify")

	config.HttpClient = &http.Client{Transport: &http.Transport{}} // does not know the test's CA
	strict, err := api.NewClient(config)
	require.NoError(t, err)
	_, err = vaultkms.New(t.Context(), strict, "k", vaultkms.Options{})
	require.ErrorIs(t, err, kms.ErrUnavailable)
	require.ErrorContains(t, err, "certificate")
}

// What one URI asks for does not reach the next.
func TestOpenerSharesNothing(t *testing.T) {
	a, b := newFakeVault(), newFakeVault()
	defer a.Close()
	defer b.Close()
	byURL := map[string]*fakeVault{a.URL: a, b.URL: b}
	var mux kms.Mux
	require.NoError(t, mux.Register(vaultkms.Scheme, vaultkms.Opener(vaultkms.OpenerOptions{
		NewClient: func(address string) (*api.Client, error) { return clientOf(t, byURL[address]), nil },
	})))
	host := func(f *fakeVault) string { return f.URL[len("https://"):] }
	var keys []kms.Key
	for _, uri := range []string{
		"hcvault://" + host(a) + "/one/keys/k?namespace=ns",
		"hcvault://" + host(b) + "/two/keys/k",
		"hcvault://" + host(a) + "/transit/keys/k",
	} {
		k, err := mux.Open(t.Context(), uri)
		require.NoError(t, err)
		id, ok := k.(kms.Identified)
		require.True(t, ok)
		require.Equal(t, uri, id.KeyURI())
		keys = append(keys, k)
	}
	for i, want := range []string{"ns", "", ""} {
		_, err := keys[i].EncryptWithContext(t.Context(), plaintext, row)
		require.NoError(t, err)
		f := []*fakeVault{a, b, a}[i]
		require.Equal(t, want, f.heads[len(f.heads)-1].Get("X-Vault-Namespace"))
	}

	for _, opts := range []vaultkms.OpenerOptions{
		{Options: vaultkms.Options{Mount: "m"}},
		{Options: vaultkms.Options{Namespace: "other"}},
		{NewClient: func(string) (*api.Client, error) { return nil, nil }},
		{NewClient: func(string) (*api.Client, error) { return nil, errors.New("no") }},
		{NewClient: func(string) (*api.Client, error) { return clientOf(t, b), nil }},
	} {
		if opts.NewClient == nil {
			opts.NewClient = func(string) (*api.Client, error) { return clientOf(t, a), nil }
		}
		_, err := vaultkms.Opener(opts)(t.Context(), "hcvault://"+host(a)+"/transit/keys/k?namespace=ns")
		require.Error(t, err)
	}

	// By default the VAULT_* variables count, and never the address.
	t.Setenv("VAULT_ADDR", "https://vault.example.com")
	t.Setenv("VAULT_AGENT_ADDR", "https://agent.example.com")
	t.Setenv("VAULT_TOKEN", goodToken)
	_, err := vaultkms.Opener(vaultkms.OpenerOptions{})(t.Context(), "hcvault://"+host(a)+"/transit/keys/k")
	require.ErrorContains(t, err, "certificate", "it went to the URI's host, whose CA is not known")
}
