package clustertest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	"github.com/hashicorp/vault/api/auth/kubernetes"
	"github.com/hashicorp/vault/helper/testhelpers"
	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
	"github.com/lethe-go/lethe/kms/vaultkms"
)

func TestSuite(t *testing.T) {
	c := start(t)
	n := 0
	newKey := func(t *testing.T, node int) *vaultkms.Key {
		n++
		name := fmt.Sprintf("key-%d", n)
		c.makeKey(t, name)
		return c.open(t, node, "any-key", name)
	}
	for node, what := range []string{"leader", "standby"} {
		t.Run(what, func(t *testing.T) {
			kmstest.Run(t, kmstest.Factory{
				New: func(t *testing.T) kms.Key { return newKey(t, node) },
				Away: func(t *testing.T) (kms.Key, func(), func()) {
					return newKey(t, node), func() { c.leave(t) }, func() { c.comeBack(t) }
				},
				AwayTimeout: time.Minute,
			})
		})
	}
}

func TestPolicies(t *testing.T) {
	c := start(t)
	try := func(token string, opts vaultkms.Options) (*vaultkms.Key, error) {
		return vaultkms.New(t.Context(), c.client(t, 0, token), "customers", opts)
	}

	_, err := try(c.RootToken, vaultkms.Options{AllowUnverified: true})
	require.ErrorIs(t, err, vaultkms.ErrUpsert)
	_, err = try(c.policyToken(t, "may-create"), vaultkms.Options{AllowUnverified: true})
	require.ErrorIs(t, err, vaultkms.ErrUpsert)

	// Without the default policy a token may not ask for its capabilities.
	bare := func(policy string) string {
		return c.token(t, &api.TokenCreateRequest{Policies: []string{policy}, NoDefaultPolicy: true})
	}
	_, err = try(bare("may-create"), vaultkms.Options{})
	require.ErrorIs(t, err, vaultkms.ErrUnverified)
	_, err = try(bare("minimal"), vaultkms.Options{AllowUnverified: true})
	require.ErrorIs(t, err, vaultkms.ErrUnverified, "not even the key can be seen")
	var warned error
	_, err = try(bare("may-create"), vaultkms.Options{AllowUnverified: true, Warn: func(err error) { warned = err }})
	require.NoError(t, err)
	require.ErrorIs(t, warned, vaultkms.ErrUnverified)

	for _, policy := range []string{"update-only", "minimal"} {
		k, err := try(c.policyToken(t, policy), vaultkms.Options{})
		require.NoError(t, err, policy)
		require.NoError(t, k.Ping(t.Context()))
		c.deleteKey(t, "customers")
		_, err = k.EncryptWithContext(t.Context(), []byte("data key"), nil)
		require.ErrorIs(t, err, kms.ErrDenied)
		require.False(t, c.keyExists(t, "customers"))
		require.ErrorIs(t, k.Ping(t.Context()), kms.ErrRejected)
		_, err = try(c.policyToken(t, policy), vaultkms.Options{})
		require.Error(t, err)
		require.False(t, c.keyExists(t, "customers"))
		c.makeKey(t, "customers")
		require.ErrorIs(t, k.Ping(t.Context()), kms.ErrRejected, "another key of the same name")
	}

	c.write(t, "transit/config/keys", map[string]any{"disable_upsert": true})
	k, err := try(c.RootToken, vaultkms.Options{})
	require.NoError(t, err)
	c.deleteKey(t, "customers")
	_, err = k.EncryptWithContext(t.Context(), []byte("data key"), nil)
	require.ErrorIs(t, err, kms.ErrRejected)
	require.False(t, c.keyExists(t, "customers"))
	c.makeKey(t, "customers")

	_, err = try("hvs.nobody", vaultkms.Options{})
	require.ErrorIs(t, err, kms.ErrDenied)
	require.NotContains(t, err.Error(), "hvs.nobody")
	k, err = try(bare("update-only"), vaultkms.Options{})
	require.NoError(t, err, "config/keys is readable and says that upsert is disabled")
	info, err := k.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, vaultkms.Info{Type: "aes256-gcm96", LatestVersion: 1, MinDecryptionVersion: 1}, info)
}

func TestBatch(t *testing.T) {
	c := start(t)
	k := c.open(t, 1, "update-only", "customers")
	items := make([]vaultkms.BatchItem, 1200)
	for i := range items {
		items[i] = vaultkms.BatchItem{Data: numbered("data key", i), AssociatedData: numbered("row", i)}
	}
	wrapped, err := k.EncryptBatch(t.Context(), items)
	require.NoError(t, err)
	back := make([]vaultkms.BatchItem, len(items))
	for i := range items {
		require.NoError(t, wrapped[i].Err)
		back[i] = vaultkms.BatchItem{Data: wrapped[i].Data, AssociatedData: items[i].AssociatedData}
	}
	back[1].AssociatedData = nil
	opened, err := k.DecryptBatch(t.Context(), back)
	require.NoError(t, err)
	for i := range items {
		if i == 1 {
			require.ErrorIs(t, opened[i].Err, kms.ErrRejected)
			continue
		}
		require.NoError(t, opened[i].Err)
		require.Equal(t, items[i].Data, opened[i].Data)
	}
	opened, err = k.DecryptBatch(t.Context(), back[1:2])
	require.NoError(t, err)
	require.ErrorIs(t, opened[0].Err, kms.ErrRejected)
}

// works uses a Key for a while and wants no call to fail.
func works(t *testing.T, k kms.Key, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		wrapped, err := k.EncryptWithContext(t.Context(), []byte("data key"), []byte("row"))
		require.NoError(t, err)
		opened, err := k.DecryptWithContext(t.Context(), wrapped, []byte("row"))
		require.NoError(t, err)
		require.Equal(t, "data key", string(opened))
	}
}

// denied wants a Key to be denied soon.
func denied(t *testing.T, k kms.Key) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := k.EncryptWithContext(t.Context(), []byte("data key"), []byte("row"))
		return errors.Is(err, kms.ErrDenied) && !kms.Retryable(err)
	}, 20*time.Second, 100*time.Millisecond)
}

func TestTokens(t *testing.T) {
	c := start(t)
	renewable := true

	t.Run("expires", func(t *testing.T) {
		token := c.token(t, &api.TokenCreateRequest{Policies: []string{"update-only"}, TTL: "2s", ExplicitMaxTTL: "2s"})
		client := c.client(t, 0, token)
		k, err := vaultkms.New(t.Context(), client, "customers", vaultkms.Options{})
		require.NoError(t, err)
		denied(t, k)
		client.SetToken(c.policyToken(t, "update-only")) // the caller has another
		works(t, k, 0)
	})

	t.Run("renewed to its end", func(t *testing.T) {
		token := c.token(t, &api.TokenCreateRequest{Policies: []string{"update-only"}, TTL: "3s", ExplicitMaxTTL: "9s", Renewable: &renewable})
		fresh := token
		var mu sync.Mutex
		var warned []error
		k, err := vaultkms.New(t.Context(), c.client(t, 0, ""), "customers", vaultkms.Options{
			Auth: vaultkms.Token(func(context.Context) (string, error) { mu.Lock(); defer mu.Unlock(); return fresh, nil }),
			Warn: func(err error) { mu.Lock(); defer mu.Unlock(); warned = append(warned, err) },
		})
		require.NoError(t, err)
		defer func() { _ = k.Close() }()
		works(t, k, 6*time.Second) // twice its TTL
		denied(t, k)               // it has had its time
		another := c.policyToken(t, "update-only")
		mu.Lock()
		for _, err := range warned {
			require.NotContains(t, err.Error(), token)
		}
		fresh = another // an agent writes another to the file
		mu.Unlock()
		require.Eventually(t, func() bool { return k.Ping(t.Context()) == nil }, 30*time.Second, 100*time.Millisecond)
	})

	t.Run("revoked", func(t *testing.T) {
		token := c.policyToken(t, "update-only")
		k, err := vaultkms.New(t.Context(), c.client(t, 0, token), "customers", vaultkms.Options{})
		require.NoError(t, err)
		require.NoError(t, c.root.Auth().Token().RevokeTree(token))
		denied(t, k)
	})
}

func TestAppRole(t *testing.T) {
	c := start(t)
	require.NoError(t, c.root.Sys().EnableAuthWithOptions("approle", &api.EnableAuthOptions{Type: "approle"}))
	c.write(t, "auth/approle/role/lethe", map[string]any{"token_policies": "update-only", "token_ttl": "3s", "token_max_ttl": "7s"})
	roleID, err := c.root.Logical().Read("auth/approle/role/lethe/role-id")
	require.NoError(t, err)
	secretID := c.write(t, "auth/approle/role/lethe/secret-id", nil)
	role, _ := roleID.Data["role_id"].(string)
	id, _ := secretID.Data["secret_id"].(string)
	auth, err := approle.NewAppRoleAuth(role, &approle.SecretID{FromString: id})
	require.NoError(t, err)

	k, err := vaultkms.New(t.Context(), c.client(t, 1, ""), "customers", vaultkms.Options{Auth: auth})
	require.NoError(t, err)
	defer func() { _ = k.Close() }()
	works(t, k, 12*time.Second) // past renewal and past the maximum

	// All its tokens are revoked: it logs in again by itself.
	_, err = c.root.Logical().Write("sys/leases/revoke-prefix/auth/approle", nil)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return k.Ping(t.Context()) == nil }, 10*time.Second, 100*time.Millisecond)

	// The secret id is gone: denied once the last token has had its time.
	c.write(t, "auth/approle/role/lethe/secret-id/destroy", map[string]any{"secret_id": id})
	denied(t, k)
	_, err = vaultkms.New(t.Context(), c.client(t, 1, ""), "customers", vaultkms.Options{Auth: auth})
	require.ErrorIs(t, err, kms.ErrDenied)
	require.NotContains(t, err.Error(), id)
}

// kubernetesAPI answers token reviews as Kubernetes does.
func kubernetesAPI(t *testing.T, accepted string) *httptest.Server {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct{ Token string }
		}
		if r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" || r.Header.Get("Authorization") != "Bearer reviewer" ||
			json.NewDecoder(r.Body).Decode(&review) != nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		status := map[string]any{"authenticated": false}
		if review.Spec.Token == accepted {
			status = map[string]any{"authenticated": true, "user": map[string]any{
				"username": "system:serviceaccount:shop:lethe", "uid": "uid-1", "groups": []string{"system:serviceaccounts", "system:authenticated"},
			}}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status})
	}))
	t.Cleanup(s.Close)
	return s
}

// serviceAccountToken is a JWT as far as Vault looks into it; the review decides.
func serviceAccountToken(t *testing.T, signature string) string {
	t.Helper()
	claims, err := json.Marshal(map[string]any{
		"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:shop:lethe", "iat": time.Now().Unix(), "nbf": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"kubernetes.io/serviceaccount/namespace": "shop", "kubernetes.io/serviceaccount/service-account.name": "lethe",
		"kubernetes.io/serviceaccount/service-account.uid": "uid-1", "kubernetes.io/serviceaccount/secret.name": "token",
	})
	require.NoError(t, err)
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + encode(claims) + "." + encode([]byte(signature))
}

func TestKubernetes(t *testing.T) {
	c := start(t)
	jwt := serviceAccountToken(t, "signature")
	cluster := kubernetesAPI(t, jwt)
	require.NoError(t, c.root.Sys().EnableAuthWithOptions("kubernetes", &api.EnableAuthOptions{Type: "kubernetes"}))
	c.write(t, "auth/kubernetes/config", map[string]any{
		"kubernetes_host": cluster.URL, "token_reviewer_jwt": "reviewer", "disable_local_ca_jwt": true,
		"kubernetes_ca_cert": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cluster.Certificate().Raw})),
	})
	c.write(t, "auth/kubernetes/role/lethe", map[string]any{
		"bound_service_account_names": "lethe", "bound_service_account_namespaces": "shop",
		"token_policies": "update-only", "token_ttl": "2s", "token_max_ttl": "5s",
	})
	auth, err := kubernetes.NewKubernetesAuth("lethe", kubernetes.WithServiceAccountToken(jwt))
	require.NoError(t, err)
	k, err := vaultkms.New(t.Context(), c.client(t, 0, ""), "customers", vaultkms.Options{Auth: auth})
	require.NoError(t, err)
	defer func() { _ = k.Close() }()
	works(t, k, 8*time.Second)

	forged := serviceAccountToken(t, "forged")
	auth, err = kubernetes.NewKubernetesAuth("lethe", kubernetes.WithServiceAccountToken(forged))
	require.NoError(t, err)
	_, err = vaultkms.New(t.Context(), c.client(t, 0, ""), "customers", vaultkms.Options{Auth: auth})
	require.ErrorIs(t, err, kms.ErrDenied)
	require.NotContains(t, err.Error(), forged)
}

// Vault seals, unseals and changes its leader while a Key is at work, on a node
// that leads and on ones that do not. Calls may fail meanwhile, but only as
// unavailable, and what was wrapped opens afterwards.
func TestSealAndLeaderChange(t *testing.T) {
	c := start(t)
	token := c.policyToken(t, "update-only")
	var keys []kms.Key
	for node := range c.Cores {
		k, err := vaultkms.New(t.Context(), c.client(t, node, token), "customers", vaultkms.Options{})
		require.NoError(t, err)
		keys = append(keys, k)
	}
	shielded, err := kms.NewResilient(keys[0], kms.ResilientOptions{})
	require.NoError(t, err)
	keys = append(keys, shielded)

	u := &use{wrapped: map[string][]byte{}, stop: make(chan struct{})}
	u.run(t, func(i int) error {
		k := keys[i%len(keys)]
		ad := numbered("row", i)
		wrapped, err := k.EncryptWithContext(t.Context(), numbered("data key", i), ad)
		if err != nil {
			return err
		}
		u.mu.Lock()
		u.wrapped[string(wrapped)] = ad
		u.mu.Unlock()
		opened, err := k.DecryptWithContext(t.Context(), wrapped, ad)
		if err == nil && !bytes.Equal(opened, numbered("data key", i)) {
			return errors.New("another plaintext")
		}
		return err
	})
	recovers := func(what string) {
		t.Helper()
		for node, k := range keys {
			require.Eventually(t, func() bool {
				wrapped, err := k.EncryptWithContext(t.Context(), []byte("data key"), nil)
				if err != nil {
					return false
				}
				_, err = k.DecryptWithContext(t.Context(), wrapped, nil)
				return err == nil
			}, time.Minute, 100*time.Millisecond, "%s: key %d", what, node)
		}
	}
	for _, step := range []struct {
		what string
		act  func()
	}{
		{"the leader steps down", func() {
			active := testhelpers.DeriveActiveCore(t, c.TestCluster)
			require.NoError(t, active.Client.Sys().StepDown())
			testhelpers.WaitForActiveNode(t, c.TestCluster)
		}},
		{"the leader seals, and another leads", func() {
			testhelpers.EnsureCoreSealed(t, testhelpers.DeriveActiveCore(t, c.TestCluster))
			testhelpers.WaitForActiveNode(t, c.TestCluster)
			time.Sleep(300 * time.Millisecond)
			c.comeBack(t)
		}},
		{"all seal", func() {
			c.leave(t)
			for _, k := range keys {
				_, err := k.EncryptWithContext(t.Context(), []byte("data key"), nil)
				require.ErrorIs(t, err, kms.ErrUnavailable)
				require.NotErrorIs(t, err, kms.ErrDenied)
			}
			c.comeBack(t)
		}},
	} {
		before := u.count()
		step.act()
		recovers(step.what)
		require.Greater(t, u.count(), before)
	}
	close(u.stop)
	u.wg.Wait()
	require.NotEmpty(t, u.errs, "something must have been noticed of it")
	for _, err := range u.errs {
		require.ErrorIs(t, err, kms.ErrUnavailable)
		require.NotErrorIs(t, err, kms.ErrRejected)
		require.NotErrorIs(t, err, kms.ErrDenied)
		require.True(t, kms.Retryable(err))
		require.NotContains(t, err.Error(), token)
	}
	require.NotEmpty(t, u.wrapped)
	for wrapped, ad := range u.wrapped {
		_, err := keys[1].DecryptWithContext(t.Context(), []byte(wrapped), ad)
		require.NoError(t, err)
	}
	t.Logf("%d rounds, %d of them unavailable, %d ciphertexts", u.done, len(u.errs), len(u.wrapped))
}
