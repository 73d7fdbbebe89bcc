package config

import (
	"context"
	"errors"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/kms"
)

// InitOptions of one Init.
type InitOptions struct {
	// NewKey is called before the KMS key is opened, and only where the key store is
	// empty: it may make the key that uri names. A key made beside a store in use
	// would open nothing. May be nil.
	NewKey func(ctx context.Context, uri string) error
}

// Init makes the tables of the key store and the ledger, or brings them up to date,
// and writes the first rows of an empty store: see envelope.Init. Of a store that
// is in use the error matches envelope.ErrStoreExists; its tables were brought up
// to date, and nothing else was changed.
func (c *Config) Init(ctx context.Context, mux *kms.Mux, opts InitOptions) (err error) {
	if err := c.Check(); err != nil {
		return err
	}
	s := &Stack{}
	defer func() { err = c.hide(errors.Join(err, s.Close())) }()
	if err := c.openStore(ctx, s, true); err != nil {
		return err
	}
	meta, err := s.Store.Meta(ctx)
	empty := errors.Is(err, envelope.ErrStoreEmpty)
	if err != nil && !empty {
		return err
	}
	// A ledger that is gone is not made anew beside a store in use.
	inUse := !empty && meta.AppliedSeq != 0
	if err := c.openLedger(ctx, s, !inUse); err != nil {
		return err
	}
	if inUse {
		if m, ok := s.Ledger.(migrator); ok {
			if err := m.Migrate(ctx); err != nil {
				return err
			}
		}
		return envelope.ErrStoreExists
	}
	if empty && opts.NewKey != nil {
		if err := opts.NewKey(ctx, c.KMS.URL()); err != nil {
			return err
		}
	}
	if err := c.openKeys(ctx, mux, s); err != nil {
		return err
	}
	return envelope.Init(ctx, s.Store, s.Key, c.options(s))
}
