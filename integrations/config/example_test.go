package config_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/integrations/config"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/localkms"
)

// A service opens its keyring from the file that the command lethe uses too.
func ExampleConfig_Open() {
	dir, err := os.MkdirTemp("", "config")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "lethe.yaml")
	if err := os.WriteFile(path, []byte("store: sqlite:keys.db\nkms: local://kek.json\nledger: file:forgets.ledger\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	ctx := context.Background()
	cfg, err := config.Load(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	local := localkms.Options{Passphrase: cfg.KMSPassphrase()}
	var mux kms.Mux
	if err := mux.Register("local", localkms.Opener(local)); err != nil {
		fmt.Println(err)
		return
	}

	// Once, or by hand: lethe init.
	err = cfg.Init(ctx, &mux, config.InitOptions{NewKey: func(_ context.Context, uri string) error {
		_, err := localkms.Create(strings.TrimPrefix(uri, "local://"), local)
		return err
	}})
	if err != nil {
		fmt.Println(err)
		return
	}

	stack, err := cfg.Open(ctx, &mux)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = stack.Close() }()
	_, err = lethe.For[struct {
		Keys  lethe.Keys           `db:"sealed_keys" lethe:"customers"`
		ID    string               `db:"id" lethe:"subject=customer"`
		Email lethe.Secret[string] `db:"email" lethe:"email,mask=email"`
	}](stack.Keyring)
	fmt.Println("ready", err)
	// Output: ready <nil>
}
