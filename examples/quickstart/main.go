// Command quickstart shows what Lethe does, on 10,000 made-up customers or on
// your own file, with nothing to install:
//
//	go run ./examples/quickstart
//
// or with the key in HashiCorp Vault or OpenBao and the data in PostgreSQL:
//
//	go run ./examples/quickstart -kms hcvault://vault.example.com:8200/transit/keys/customers -db postgres://…
//
// It seals them into SQLite, shows the table as an intruder sees it, finds a
// customer by e-mail, shows the support desk's masks, rotates keys, forgets
// three people, and opens everything again to show who is gone and who is not.
// Run it again: what is sealed is not sealed again, and who was forgotten stays so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
)

// config is what the command line says.
type config struct {
	in       string // CSV file; "" is the built-in sample
	dir      string // holds the key file, the ledger and the SQLite files
	keyFile  string
	kms      string // URI of the key in a KMS; "" is the key file
	postgres string // where customers and key store are kept; "" is SQLite in dir
}

func (c config) source() string {
	if c.in == "" {
		return "the built-in sample"
	}
	return filepath.Base(c.in)
}

// key says where the key is that all others are sealed under.
func (c config) key() string {
	if c.kms != "" {
		return "the key " + c.kms
	}
	return "the key file " + c.keyFile
}

func (c config) database() string {
	if c.postgres != "" {
		return "PostgreSQL"
	}
	return "SQLite"
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	cfg, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	people, err := readFile(cfg.in)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.dir, 0o700); err != nil {
		return err
	}
	k, err := openKeys(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	t, err := openTable(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.db.Close()) }()
	return show(ctx, cfg, k, t, people, stdout, stderr)
}

func openTable(ctx context.Context, cfg config) (*table, error) {
	if cfg.postgres != "" {
		return openPostgres(ctx, cfg.postgres)
	}
	return openSQLite(ctx, filepath.Join(cfg.dir, "customers.db"))
}

func parseFlags(args []string, stderr io.Writer) (config, error) {
	var cfg config
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.in, "in", "", "`file` with your customers: CSV, UTF-8, with the columns id,name,email,phone,card,iban,born,note,plan")
	flags.StringVar(&cfg.dir, "dir", "", "`directory` for the key file, the ledger and SQLite's files (default lethe-quickstart; -kms and -postgres are put behind it with -kms and -db)")
	flags.StringVar(&cfg.keyFile, "key", "", "key `file`, made on the first run, rotated by every run (default kek.json in the directory)")
	flags.StringVar(&cfg.kms, "kms", "", "use this key in HashiCorp Vault or OpenBao instead of a key file: `hcvault://HOST:PORT/transit/keys/NAME` (?tls=off for a local server without TLS), with VAULT_TOKEN, VAULT_CACERT and so on from the environment")
	flags.StringVar(&cfg.postgres, "db", "", "keep customers and key store in this PostgreSQL database: `postgres://…`")
	if err := flags.Parse(args); err != nil {
		return cfg, flag.ErrHelp // Parse has said why
	}
	if flags.NArg() > 0 {
		return cfg, errors.New("arguments come as flags; see -help")
	}
	if cfg.kms != "" && cfg.keyFile != "" {
		return cfg, errors.New("-kms and -key name two keys; give one")
	}
	if cfg.dir == "" {
		cfg.dir = "lethe-quickstart"
		if cfg.kms != "" {
			cfg.dir += "-kms"
		}
		if cfg.postgres != "" {
			cfg.dir += "-postgres"
		}
	}
	if cfg.keyFile == "" {
		cfg.keyFile = filepath.Join(cfg.dir, "kek.json")
	}
	return cfg, nil
}
