package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/fileledger"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/kms/localkms"
)

// keyring is a new Keyring and what it stands on.
type keyring struct {
	ring *envelope.Keyring
	stop []func() error
}

func (k *keyring) close() error {
	var errs []error
	for _, stop := range slices.Backward(k.stop) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// openRing makes a Keyring in an empty directory: a key file, a ledger and a key
// store in SQLite.
func openRing(ctx context.Context, dir string) (_ *keyring, err error) {
	k := &keyring{}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.close())
		}
	}()
	key, err := localkms.Create(filepath.Join(dir, "kek.json"), localkms.Options{})
	if err != nil {
		return nil, fmt.Errorf("-dir must be empty: %w", err)
	}
	ledger, err := fileledger.Create(ctx, filepath.Join(dir, "forgets.ledger"))
	if err != nil {
		return nil, err
	}
	k.stop = append(k.stop, ledger.Close)
	store, err := sqlstore.OpenSQLite(ctx, filepath.Join(dir, "keys.db"))
	if err != nil {
		return nil, err
	}
	k.stop = append(k.stop, store.Close)
	if err := store.Migrate(ctx); err != nil {
		return nil, err
	}
	opts := envelope.Options{Ledger: ledger}
	if err := envelope.Init(ctx, store, key, opts); err != nil {
		return nil, err
	}
	k.ring, err = envelope.NewKeyring(ctx, store, key, opts)
	if err != nil {
		return nil, err
	}
	k.stop = append(k.stop, func() error { k.ring.Close(); return nil })
	return k, nil
}
