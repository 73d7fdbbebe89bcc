// Command forget is a drill for sceptics: it seals people, makes backups of
// everything, forgets some people, and then tries in many ways to open them with
// the backups, before the epoch is closed and after. Every attempt has a copy of
// the backup to itself. Nothing to install:
//
//	go run ./examples/forget
//	go run ./examples/forget -window 3s          the recovery window instead of none
//	go run ./examples/forget -db postgres://…    key store and table in PostgreSQL
//	go run ./examples/forget -kms 'hcvault://HOST/transit/keys/NAME?handles=versions'
//
// With -kms and a key that cannot be destroyed in part it shows that the old backup
// opens. It exits with 1 if anything else opens that must not, or if the attempts
// before the close, which show that the backup is worth something, open nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "forget:", err)
		os.Exit(1)
	}
}

// config is what the flags say.
type config struct {
	n      int
	window time.Duration
	dsn    string
	kms    string
	dir    string
	keep   bool
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	var cfg config
	flags := flag.NewFlagSet("forget", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&cfg.n, "n", 1000, "`number` of people, at least 10")
	flags.DurationVar(&cfg.window, "window", 0, "recovery window: how long backups stay usable after the close; 0: not at all")
	flags.StringVar(&cfg.dsn, "db", "", "PostgreSQL `URL`; schemas of its own are made there and dropped at the end (default: SQLite files)")
	flags.StringVar(&cfg.kms, "kms", "", "`URI` of a key in Vault or OpenBao (default: a key file)")
	flags.StringVar(&cfg.dir, "dir", "", "empty `directory` to keep all files in (default: one that is removed at the end)")
	flags.BoolVar(&cfg.keep, "keep", false, "remove nothing at the end: neither the files nor the schemas")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // Parse has said why
	}
	if flags.NArg() > 0 || cfg.n < 10 || cfg.window < 0 || cfg.window > 0 && cfg.window < time.Second {
		return errors.New("write -n with 10 or more, and -window with a second or more; see -help")
	}
	if cfg.dir == "" {
		temp, err := os.MkdirTemp("", "lethe-forget")
		if err != nil {
			return err
		}
		if !cfg.keep {
			defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
		}
		cfg.dir = temp
	} else if err := os.MkdirAll(cfg.dir, 0o700); err != nil {
		return err
	}
	d, err := newDrill(ctx, cfg, stdout, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if cfg.keep {
		d.printf("everything is kept in %s\n", d.kept())
	}
	return d.run(ctx)
}
