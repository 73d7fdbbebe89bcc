package fileledger_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lethe-go/lethe/envelope/fileledger"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "forgets.ledger")

	ledger, err := fileledger.Create(ctx, path) // once
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = ledger.Close() }()
	_, err = fileledger.Create(ctx, path)
	fmt.Println("never replaced:", errors.Is(err, fs.ErrExist))

	again, err := fileledger.Open(ctx, path) // at every start
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = again.Close() }()
	entries, err := again.Read(ctx, 0)
	fmt.Println(len(entries), err)
	// Output:
	// never replaced: true
	// 0 <nil>
}
