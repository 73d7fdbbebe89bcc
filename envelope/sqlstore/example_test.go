package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/sqlstore"
)

// A key store in a file of its own. Migrate makes its tables; envelope.Init, once,
// its first keys.
func ExampleOpenSQLite() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()

	store, err := sqlstore.OpenSQLite(ctx, filepath.Join(dir, "keys.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = store.Close() }()
	if err := store.Migrate(ctx); err != nil {
		fmt.Println(err)
		return
	}
	_, err = store.Meta(ctx)
	fmt.Println("needs Init:", errors.Is(err, envelope.ErrStoreEmpty))
	// Output: needs Init: true
}
