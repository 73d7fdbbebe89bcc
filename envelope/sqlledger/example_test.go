package sqlledger_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lethe-go/lethe/envelope/sqlledger"
)

// A ledger in a file of its own, on another disk than the key store's. Migrate
// makes its table.
func ExampleOpenSQLite() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()

	ledger, err := sqlledger.OpenSQLite(ctx, filepath.Join(dir, "forgets.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = ledger.Close() }()
	if err := ledger.Migrate(ctx); err != nil {
		fmt.Println(err)
		return
	}
	entries, err := ledger.Read(ctx, 0)
	fmt.Println(len(entries), err)
	// Output: 0 <nil>
}
