package localkms_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/localkms"
)

func tempDir() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "localkms")
	if err != nil {
		panic(err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }
}

// Once, when the application is set up. The passphrase is optional.
func ExampleCreate() {
	dir, remove := tempDir()
	defer remove()
	key, err := localkms.Create(filepath.Join(dir, "app.key"), localkms.Options{Passphrase: []byte("from a secret store")})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(key.Ping(context.Background()))
	// Output: <nil>
}

// At every start.
func ExampleOpen() {
	ctx := context.Background()
	dir, remove := tempDir()
	defer remove()
	path := filepath.Join(dir, "app.key")
	if _, err := localkms.Create(path, localkms.Options{}); err != nil {
		fmt.Println(err)
		return
	}

	key, err := localkms.Open(path, localkms.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	wrapped, err := key.EncryptWithContext(ctx, []byte("data key"), []byte("context"))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := key.Rotate(ctx); err != nil { // old ciphertexts still open
		fmt.Println(err)
		return
	}
	plain, err := key.DecryptWithContext(ctx, wrapped, []byte("context"))
	fmt.Println(string(plain), err)
	// Output: data key <nil>
}

func ExampleOpener() {
	ctx := context.Background()
	dir, remove := tempDir()
	defer remove()
	path := filepath.Join(dir, "app.key")
	if _, err := localkms.Create(path, localkms.Options{}); err != nil {
		fmt.Println(err)
		return
	}

	var mux kms.Mux
	if err := mux.Register("local", localkms.Opener(localkms.Options{})); err != nil {
		fmt.Println(err)
		return
	}
	key, err := mux.Open(ctx, "local://"+path)
	fmt.Println(key != nil, err)
	// Output: true <nil>
}
