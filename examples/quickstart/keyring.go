package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/fileledger"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/localkms"
	"github.com/lethe-go/lethe/kms/vaultkms"
)

// keys is everything that must be there to seal and open.
type keys struct {
	ring *envelope.Keyring
	kek  kms.Key // what the key store itself is sealed under
	stop []func() error
}

func (k *keys) close() error {
	var errs []error
	for _, stop := range slices.Backward(k.stop) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// openKeys opens the key store, its key and its ledger. It makes them when the
// key store is empty, and only then: a new key beside old data would open nothing.
func openKeys(ctx context.Context, cfg config) (_ *keys, err error) {
	k := &keys{}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.close())
		}
	}()
	store, err := openStore(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("key store: %w", err)
	}
	k.stop = append(k.stop, store.Close)
	if err := store.Migrate(ctx); err != nil {
		return nil, fmt.Errorf("key store: %w", err)
	}
	_, err = store.Meta(ctx)
	empty := errors.Is(err, envelope.ErrStoreEmpty)
	if err != nil && !empty {
		return nil, fmt.Errorf("key store: %w", err)
	}

	k.kek, err = openKEK(ctx, cfg, empty)
	if err != nil {
		return nil, err
	}
	if c, ok := k.kek.(io.Closer); ok {
		k.stop = append(k.stop, c.Close)
	}

	path := filepath.Join(cfg.dir, "forgets.ledger")
	ledger, err := fileledger.Open(path)
	if empty && errors.Is(err, fs.ErrNotExist) {
		ledger, err = fileledger.Create(path)
	}
	if err != nil {
		return nil, err
	}

	opts := envelope.Options{Ledger: ledger}
	err = envelope.Init(ctx, store, k.kek, opts)
	if err == nil || errors.Is(err, envelope.ErrStoreExists) {
		k.ring, err = envelope.NewKeyring(ctx, store, k.kek, opts)
	}
	if errors.Is(err, envelope.ErrWrongKey) {
		return nil, fmt.Errorf("%s is not the one this key store was made with; nothing was changed: %w", cfg.key(), err)
	}
	if err != nil {
		return nil, err
	}
	k.stop = append(k.stop, func() error { k.ring.Close(); return nil })
	return k, nil
}

// openKEK opens the key that -kms names, or else the key file.
func openKEK(ctx context.Context, cfg config, empty bool) (kms.Key, error) {
	if cfg.kms != "" {
		var mux kms.Mux
		if err := mux.Register(vaultkms.Scheme, vaultkms.Opener(vaultkms.OpenerOptions{})); err != nil {
			return nil, err
		}
		return mux.Open(ctx, cfg.kms)
	}
	key, err := localkms.Open(cfg.keyFile, localkms.Options{})
	if empty && errors.Is(err, fs.ErrNotExist) {
		key, err = localkms.Create(cfg.keyFile, localkms.Options{})
	}
	if errors.Is(err, fs.ErrNotExist) && !empty {
		return nil, fmt.Errorf("the key file %s is not there and the key store is in use: put the file back, or name it with -key", cfg.keyFile)
	}
	if err != nil {
		return nil, err
	}
	return key, nil
}

func openStore(ctx context.Context, cfg config) (*sqlstore.Store, error) {
	if cfg.postgres != "" {
		return sqlstore.OpenPostgres(ctx, cfg.postgres)
	}
	return sqlstore.OpenSQLite(ctx, filepath.Join(cfg.dir, "keys.db"))
}
