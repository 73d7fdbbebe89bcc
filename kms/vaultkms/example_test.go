package vaultkms_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	"github.com/hashicorp/vault/api/auth/kubernetes"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/vaultkms"
)

// exampleClient makes a client of a stand-in for Vault, as
// api.NewClient(api.DefaultConfig()) would of the server in VAULT_ADDR.
func exampleClient() (client *api.Client, stop func()) {
	server := newFakeVault()
	config := api.DefaultConfig()
	config.Address = server.URL
	config.HttpClient = server.Client()
	client, err := api.NewClient(config)
	if err != nil {
		panic(err)
	}
	client.SetToken(goodToken)
	return client, server.Close
}

// With the caller's own client and its token.
func ExampleNew() {
	ctx := context.Background()
	client, stop := exampleClient()
	defer stop()

	key, err := vaultkms.New(ctx, client, "customers", vaultkms.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	wrapped, err := key.EncryptWithContext(ctx, []byte("data key"), []byte("context"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(wrapped[:9]))
	plain, err := key.DecryptWithContext(ctx, wrapped, []byte("context"))
	fmt.Println(string(plain), err)
	// Output:
	// vault:v1:
	// data key <nil>
}

// Logging in with AppRole. The Key renews its token, and logs in again where
// renewal ends.
func ExampleNew_appRole() {
	ctx := context.Background()
	client, stop := exampleClient()
	defer stop()

	auth, err := approle.NewAppRoleAuth("role", &approle.SecretID{FromString: "secret"}) // better FromFile
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := vaultkms.New(ctx, client, "customers", vaultkms.Options{
		Auth: auth,
		Warn: func(err error) { slog.Warn("vault", "err", err) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = key.Close() }()
	fmt.Println(key.Ping(ctx))
	// Output: <nil>
}

// Logging in with the pod's service account.
func ExampleNew_kubernetes() {
	ctx := context.Background()
	client, stop := exampleClient()
	defer stop()

	// In a pod, the token is read from its usual place and needs no option.
	auth, err := kubernetes.NewKubernetesAuth("lethe", kubernetes.WithServiceAccountToken("service account token"))
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := vaultkms.New(ctx, client, "customers", vaultkms.Options{Auth: auth})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = key.Close() }()
	fmt.Println(key.Ping(ctx))
	// Output: <nil>
}

// A token that an agent writes to a file: it is renewed, and read again where
// that ends.
func ExampleToken() {
	ctx := context.Background()
	client, stop := exampleClient()
	defer stop()
	file, remove := exampleFile(goodToken + "\n")
	defer remove()

	key, err := vaultkms.New(ctx, client, "customers", vaultkms.Options{
		Auth: vaultkms.Token(func(context.Context) (string, error) {
			token, err := os.ReadFile(file)
			return strings.TrimSpace(string(token)), err
		}),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = key.Close() }()
	fmt.Println(key.Ping(ctx))
	// Output: <nil>
}

func exampleFile(text string) (name string, remove func()) {
	f, err := os.CreateTemp("", "token")
	if err != nil {
		panic(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteString(text); err != nil {
		panic(err)
	}
	return f.Name(), func() { _ = os.Remove(f.Name()) }
}

// By URI, with settings from the VAULT_* environment variables.
func ExampleOpener() {
	var mux kms.Mux
	if err := mux.Register(vaultkms.Scheme, vaultkms.Opener(vaultkms.OpenerOptions{})); err != nil {
		fmt.Println(err)
		return
	}
	_, err := mux.Open(context.Background(), "hcvault://user:password@vault.example.com/transit/keys/customers")
	fmt.Println(err)
	// Output: kms: open "hcvault": vaultkms: the key URI is not hcvault://HOST[:PORT]/MOUNT/keys/NAME[?namespace=NS][&handles=versions|keys][&tls=off], without credentials or escapes
}

// A batch: many data keys with one request.
func ExampleKey_EncryptBatch() {
	ctx := context.Background()
	client, stop := exampleClient()
	defer stop()
	key, err := vaultkms.New(ctx, client, "customers", vaultkms.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	results, err := key.EncryptBatch(ctx, []vaultkms.BatchItem{
		{Data: []byte("data key 1"), AssociatedData: []byte("row 1")},
		{Data: []byte("data key 2"), AssociatedData: []byte("row 2")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, r := range results {
		plain, err := key.DecryptWithContext(ctx, r.Data, fmt.Appendf(nil, "row %d", i+1))
		fmt.Println(string(plain), err, r.Err)
	}
	// Output:
	// data key 1 <nil> <nil>
	// data key 2 <nil> <nil>
}
