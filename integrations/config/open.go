package config

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/fileledger"
	"github.com/lethe-go/lethe/envelope/sqlledger"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/kms"
)

// Stack is what a Config leads to. Its parts are safe for concurrent use; Close it
// when done with all of them.
type Stack struct {
	Keyring *envelope.Keyring
	Store   envelope.Store
	Ledger  envelope.Ledger
	Key     kms.Key
	MoreKMS []kms.Key
	DB      *sql.DB       // of the application; nil if none is configured
	Dialect lethe.Dialect // of DB

	stop []func() error
}

// Close closes everything, the last that was opened first.
func (s *Stack) Close() error {
	var errs []error
	for _, stop := range slices.Backward(s.stop) {
		errs = append(errs, stop())
	}
	s.stop = nil
	return errors.Join(errs...)
}

// Open opens what the configuration names: the key store, the KMS key with the
// opener that mux has for its URI, the ledger, a Keyring over them, and the
// application's database. It makes nothing: see Init. Files that are not there are
// an error that matches fs.ErrNotExist.
//
// Errors match those of envelope.NewKeyring. None shows a credential.
func (c *Config) Open(ctx context.Context, mux *kms.Mux) (*Stack, error) {
	return c.open(ctx, mux, func(s *Stack) error {
		var err error
		s.Keyring, err = envelope.NewKeyring(ctx, s.Store, s.Key, c.options(s))
		if err != nil {
			return err
		}
		s.stop = append(s.stop, func() error { s.Keyring.Close(); return nil })
		return c.openDatabase(ctx, s)
	})
}

// Restore makes a key store that was put back from a backup fit to be served: see
// envelope.Restore. Stop every process that uses it first.
func (c *Config) Restore(ctx context.Context, mux *kms.Mux, opts envelope.RestoreOptions) (envelope.Restored, error) {
	var out envelope.Restored
	s, err := c.open(ctx, mux, func(s *Stack) (err error) {
		out, err = envelope.Restore(ctx, s.Store, s.Key, c.options(s), opts)
		return err
	})
	if err != nil {
		return out, err
	}
	return out, c.hide(s.Close())
}

// options are those of the Keyring.
func (c *Config) options(s *Stack) envelope.Options {
	return envelope.Options{
		Ledger: s.Ledger, MoreKeys: s.MoreKMS, Suite: c.Suite, CacheTTL: c.CacheTTL, CacheSize: c.CacheSize,
		Timeout: c.Timeout, RotateAfter: c.RotateAfter, Epochs: c.Epochs,
	}
}

func (c *Config) open(ctx context.Context, mux *kms.Mux, then func(*Stack) error) (*Stack, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	s := &Stack{}
	err := c.openStore(ctx, s, false)
	if err == nil {
		err = c.openLedger(ctx, s, false)
	}
	if err == nil {
		err = c.openKeys(ctx, mux, s)
	}
	if err == nil {
		err = then(s)
	}
	if err != nil {
		return nil, c.hide(errors.Join(err, s.Close()))
	}
	return s, nil
}

// migrator is a store or ledger whose tables are made by Migrate.
type migrator interface {
	Migrate(ctx context.Context) error
	Close() error
}

// openStore opens the key store; with create it may make the file and the tables.
func (c *Config) openStore(ctx context.Context, s *Stack, create bool) error {
	var store interface {
		envelope.Store
		migrator
	}
	var err error
	if c.Store.Scheme() == "sqlite" {
		if err := present(c.Store, create); err != nil {
			return fmt.Errorf("key store: %w", err)
		}
		store, err = sqlstore.OpenSQLite(ctx, c.Store.path())
	} else {
		store, err = sqlstore.OpenPostgres(ctx, c.Store.URL())
	}
	if err != nil {
		return fmt.Errorf("key store %s: %w", c.Store, unavailable(c.Store, err))
	}
	s.Store, s.stop = store, append(s.stop, store.Close)
	if create {
		if err := store.Migrate(ctx); err != nil {
			return fmt.Errorf("key store %s: %w", c.Store, err)
		}
	}
	return nil
}

func (c *Config) openLedger(ctx context.Context, s *Stack, create bool) error {
	var ledger interface {
		envelope.Ledger
		Close() error
	}
	var err error
	switch c.Ledger.Scheme() {
	case "file":
		ledger, err = fileledger.Open(ctx, c.Ledger.path())
		if create && errors.Is(err, fs.ErrNotExist) {
			ledger, err = fileledger.Create(ctx, c.Ledger.path())
		}
	case "sqlite":
		if err := present(c.Ledger, create); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		ledger, err = sqlledger.OpenSQLite(ctx, c.Ledger.path())
	default:
		ledger, err = sqlledger.OpenPostgres(ctx, c.Ledger.URL())
	}
	if err != nil {
		return fmt.Errorf("ledger %s: %w", c.Ledger, unavailable(c.Ledger, err))
	}
	s.Ledger, s.stop = ledger, append(s.stop, ledger.Close)
	if m, ok := ledger.(migrator); ok && create {
		if err := m.Migrate(ctx); err != nil {
			return fmt.Errorf("ledger %s: %w", c.Ledger, err)
		}
	}
	return nil
}

// present is an error where a file of SQLite is not there, since opening it would
// make it: a mistyped path must not start a new store.
func present(a Address, create bool) error {
	if create {
		return nil
	}
	if _, err := os.Stat(a.path()); err != nil {
		return err
	}
	return nil
}

// unavailable marks the error of a database server that did not answer.
func unavailable(a Address, err error) error {
	if a.Scheme() == "postgres" && !errors.Is(err, envelope.ErrUnavailable) {
		return fmt.Errorf("%w: %w", envelope.ErrUnavailable, err)
	}
	return err
}

func (c *Config) openKeys(ctx context.Context, mux *kms.Mux, s *Stack) error {
	var err error
	if s.Key, err = s.openKey(ctx, mux, c.KMS); err != nil {
		return err
	}
	for _, a := range c.MoreKMS {
		key, err := s.openKey(ctx, mux, a)
		if err != nil {
			return err
		}
		s.MoreKMS = append(s.MoreKMS, key)
	}
	return nil
}

func (s *Stack) openKey(ctx context.Context, mux *kms.Mux, a Address) (kms.Key, error) {
	key, err := mux.Open(ctx, a.URL())
	if err != nil {
		return nil, fmt.Errorf("KMS key %s: %w", a, err)
	}
	if closer, ok := key.(io.Closer); ok {
		s.stop = append(s.stop, closer.Close)
	}
	return key, nil
}

// NamedKey is a KMS key and the address it was opened at.
type NamedKey struct {
	Key     kms.Key
	Address Address
}

// OpenKey opens a further KMS key, for instance the one to move to. It is closed
// with the Stack. A relative path starts from the working directory.
func (s *Stack) OpenKey(ctx context.Context, mux *kms.Mux, uri string) (NamedKey, error) {
	a, err := kmsAddress.parse(uri, "")
	if err != nil {
		return NamedKey{}, fmt.Errorf("the KMS key %w", err)
	}
	key, err := s.openKey(ctx, mux, a)
	return NamedKey{key, a}, err
}

// openDatabase opens the application's database. SQLite's file is not made, and its
// journal mode stays as it is.
func (c *Config) openDatabase(ctx context.Context, s *Stack) error {
	var err error
	switch c.Database.Scheme() {
	case "":
		return nil
	case "sqlite":
		s.Dialect = lethe.SQLite
		s.DB, err = openSQLite(c.Database)
	default:
		s.Dialect = lethe.Postgres
		s.DB, err = openPostgres(c.Database)
	}
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	s.stop = append(s.stop, s.DB.Close)
	if err := s.DB.PingContext(ctx); err != nil {
		return fmt.Errorf("database %s: %w", c.Database, unavailable(c.Database, err))
	}
	return nil
}

func openSQLite(a Address) (*sql.DB, error) {
	if err := present(a, false); err != nil {
		return nil, err
	}
	path := filepath.ToSlash(a.path())
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a drive letter is not a host
	}
	name := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{"mode": {"rw"}, "_pragma": {"busy_timeout(10000)"}}.Encode()}
	return sql.Open("sqlite", name.String())
}

func openPostgres(a Address) (*sql.DB, error) {
	conf, err := pgx.ParseConfig(a.URL())
	if err != nil {
		return nil, errors.New("the URL does not parse; write postgres://user@host:5432/database?sslmode=verify-full")
	}
	return stdlib.OpenDB(*conf), nil
}
