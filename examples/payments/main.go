// Command payments is a payment team's day with tokens, on made-up cards and with
// nothing to install:
//
//	go run ./examples/payments
//	go run ./examples/payments -n 1000000
//
// It writes a CSV file of payments in two shops, tokenizes it in batches, turns the
// tokens back and compares, joins the shops' files on tokens without a card
// number in sight, and mistreats random tokens in every way to show what each
// gives.
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
	"time"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/tokenize"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "payments:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("payments", flag.ContinueOnError)
	flags.SetOutput(stderr)
	n := flags.Int("n", 100_000, "number of payments")
	dir := flags.String("dir", "", "empty `directory` to keep all files in (default: one that is removed at the end)")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // Parse has said why
	}
	if flags.NArg() > 0 || *n < 1 {
		return errors.New("write -n with a positive number, and -dir; see -help")
	}
	if *dir == "" {
		temp, err := os.MkdirTemp("", "lethe-payments")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
		*dir = temp
	} else if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}
	k, err := openRing(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	s := show{dir: *dir, n: *n, keys: lethe.TokenKeys(k.ring), ring: k.ring, out: stdout, progress: stderr}
	return s.run(ctx)
}

// timed runs a step and prints what it did, how fast.
func (s *show) timed(what string, step func() (int, error)) error {
	start := time.Now()
	n, err := step()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	took := time.Since(start)
	s.printf("%s: %s in %v, %s a second\n", what, count(n), took.Round(time.Millisecond), count(int(float64(n)/took.Seconds())))
	return nil
}

func (s *show) printf(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format, args...) }

func (s *show) path(name string) string { return filepath.Join(s.dir, name) }

// newCards makes the tokenizer of the CSV file: tokens keep BIN and last four, fail
// the Luhn check, and are the same in every shop of the tenant, to be joined on.
// So none of them can be forgotten alone, which the program says it knows.
func newCards(keys tokenize.Keys) (*tokenize.FormatPreserving, error) {
	format, err := tokenize.CardFormat(tokenize.CardOptions{KeepBIN: 6, KeepLast4: true})
	if err != nil {
		return nil, err
	}
	return tokenize.NewFormatPreserving(tokenize.FormatPreservingOptions{
		Name: "pan", Format: format, Keys: keys, Purpose: "payments",
		Scope: tokenize.ScopeTenant, AcknowledgeUnforgettable: true,
	})
}
