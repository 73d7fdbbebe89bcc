package clustertest

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	kubeauth "github.com/hashicorp/vault-plugin-auth-kubernetes"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/helper/testhelpers"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/vault"
	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms/vaultkms"
)

// Policies for the key "customers" at transit.
const (
	// updateOnly is what the package documentation tells to write.
	updateOnly = `
path "transit/encrypt/customers" { capabilities = ["update"] }
path "transit/decrypt/customers" { capabilities = ["update"] }
path "transit/keys/customers"    { capabilities = ["read"] }
path "transit/config/keys"       { capabilities = ["read"] }`
	minimal = `
path "transit/encrypt/customers" { capabilities = ["update"] }
path "transit/decrypt/customers" { capabilities = ["update"] }`
	mayCreate = `
path "transit/encrypt/customers" { capabilities = ["create", "update"] }
path "transit/decrypt/customers" { capabilities = ["update"] }
path "transit/keys/customers"    { capabilities = ["read"] }`
	anyKey = `
path "transit/encrypt/+" { capabilities = ["update"] }
path "transit/decrypt/+" { capabilities = ["update"] }
path "transit/keys/+"    { capabilities = ["read"] }`
)

var policies = map[string]string{"update-only": updateOnly, "minimal": minimal, "may-create": mayCreate, "any-key": anyKey}

// cluster is three nodes with the transit engine and the key "customers".
type cluster struct {
	*vault.TestCluster
	root *api.Client // of whatever node leads at the start
}

func start(t *testing.T) *cluster {
	t.Helper()
	core := &vault.CoreConfig{
		Logger:             hclog.NewNullLogger(),
		LogicalBackends:    map[string]logical.Factory{"transit": transit.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory, "kubernetes": kubeauth.Factory},
	}
	c := &cluster{TestCluster: vault.NewTestCluster(t, core, &vault.TestClusterOptions{HandlerFunc: vaulthttp.Handler, Logger: hclog.NewNullLogger()})}
	t.Cleanup(c.Cleanup)
	require.Len(t, c.Cores, 3)
	vault.TestWaitActive(t, c.Cores[0].Core)
	c.root = c.Cores[0].Client
	require.NoError(t, c.root.Sys().Mount("transit", &api.MountInput{Type: "transit"}))
	c.makeKey(t, "customers")
	for name, text := range policies {
		require.NoError(t, c.root.Sys().PutPolicy(name, text))
	}
	return c
}

func (c *cluster) write(t *testing.T, path string, data map[string]any) *api.Secret {
	t.Helper()
	secret, err := c.root.Logical().Write(path, data)
	require.NoError(t, err)
	return secret
}

func (c *cluster) makeKey(t *testing.T, name string) {
	t.Helper()
	c.write(t, "transit/keys/"+name, map[string]any{})
}

func (c *cluster) deleteKey(t *testing.T, name string) {
	t.Helper()
	c.write(t, "transit/keys/"+name+"/config", map[string]any{"deletion_allowed": true})
	_, err := c.root.Logical().Delete("transit/keys/" + name)
	require.NoError(t, err)
}

func (c *cluster) keyExists(t *testing.T, name string) bool {
	t.Helper()
	secret, err := c.root.Logical().Read("transit/keys/" + name)
	require.NoError(t, err)
	return secret != nil
}

func (c *cluster) token(t *testing.T, request *api.TokenCreateRequest) string {
	t.Helper()
	secret, err := c.root.Auth().Token().Create(request)
	require.NoError(t, err)
	return secret.Auth.ClientToken
}

// client makes a client of a node as a program would: from its address and the cluster's CA.
func (c *cluster) client(t *testing.T, node int, token string) *api.Client {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, c.CACertPEM, 0o600))
	config := api.DefaultConfig()
	config.Address = c.Cores[node].Client.Address()
	require.NoError(t, config.ConfigureTLS(&api.TLSConfig{CACert: ca}))
	client, err := api.NewClient(config)
	require.NoError(t, err)
	client.SetToken(token)
	return client
}

// policyToken makes a token with one policy of the table.
func (c *cluster) policyToken(t *testing.T, policy string) string {
	t.Helper()
	return c.token(t, &api.TokenCreateRequest{Policies: []string{policy}})
}

func (c *cluster) open(t *testing.T, node int, policy, name string) *vaultkms.Key {
	t.Helper()
	k, err := vaultkms.New(t.Context(), c.client(t, node, c.policyToken(t, policy)), name, vaultkms.Options{})
	require.NoError(t, err)
	return k
}

// leave seals all nodes; comeBack unseals them.
func (c *cluster) leave(t *testing.T) { t.Helper(); c.EnsureCoresSealed(t) }

func (c *cluster) comeBack(t *testing.T) {
	t.Helper()
	testhelpers.EnsureCoresUnsealed(t, c.TestCluster)
	testhelpers.WaitForActiveNode(t, c.TestCluster)
}

// use is work that goes on in several goroutines until stop is closed, and what
// came of it.
type use struct {
	mu      sync.Mutex
	wrapped map[string][]byte
	errs    []error
	done    int
	stop    chan struct{}
	wg      sync.WaitGroup
}

func (u *use) run(t *testing.T, each func(i int) error) {
	t.Helper()
	for range 4 {
		u.wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-u.stop:
					return
				default:
				}
				err := each(i)
				u.mu.Lock()
				if u.done++; err != nil {
					u.errs = append(u.errs, err)
				}
				u.mu.Unlock()
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
}

func (u *use) count() int { u.mu.Lock(); defer u.mu.Unlock(); return u.done }

func numbered(prefix string, i int) []byte { return fmt.Appendf(nil, "%s %d", prefix, i) }
