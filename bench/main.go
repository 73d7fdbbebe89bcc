// Command bench is the planner: how often to rotate keys, and what it costs.
//
//	go run ./bench                                          # measures for about a minute
//	go run ./bench --config bench/examples/shop.yaml
//	go run ./bench --db postgres://… --kms hcvault://… --records 5e6 --subjects 4e5
//
// It measures on this machine, with Lethe itself, what sealing, opening, rotating,
// forgetting and closing epochs cost; prints a decision table and advice; and writes
// report.html and report.json. MODEL.md has every formula.
//
// Exit codes: 0 it ran; 1 nothing keeps to every limit that was given; 2 it could not run.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"

	"github.com/lethe-go/lethe/bench/internal/input"
	"github.com/lethe-go/lethe/bench/internal/presets"
	"github.com/lethe-go/lethe/bench/internal/report"
)

// Exit codes, which scripts rely on.
const (
	exitOK      = 0
	exitVerdict = 1
	exitTrouble = 2
)

// flags are all flags; a file given by --config has those of input.Service, and the others.
type flags struct {
	Config   kong.ConfigFlag `help:"YAML file with any of these flags; see bench/examples." placeholder:"FILE"`
	DB       string          `name:"db" help:"Measure on this PostgreSQL database, in a schema that is removed at the end; SQLite otherwise." placeholder:"postgres://…"`
	KMS      string          `name:"kms" help:"Measure this KMS key with at most 400 calls of Encrypt and Decrypt: hcvault://HOST/transit/keys/NAME or local:///FILE." placeholder:"URI"`
	Budget   time.Duration   `help:"About how long to measure." default:"1m"`
	Measured string          `help:"Do not measure: take the figures of this report.json." placeholder:"FILE"`
	Out      string          `help:"Directory for report.html and report.json." default:"." placeholder:"DIR"`

	input.Service `embed:""`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	say := func(err error) int {
		_, _ = fmt.Fprintln(stderr, "bench:", err)
		return exitTrouble
	}
	var f flags
	exited := -1
	parser, err := kong.New(&f, kong.Name("bench"), kong.Configuration(input.Load),
		kong.Description("How often to rotate keys, and what it costs: measured on this machine, with Lethe itself."),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		return say(err)
	}
	_, err = parser.Parse(args)
	if exited == 0 { // --help was answered
		return exitOK
	}
	if err != nil {
		return say(fmt.Errorf("%w; see --help", err))
	}
	r, err := plan(ctx, &f, stderr)
	if err == nil {
		err = errors.Join(r.Text(stdout), write(r, f.Out, stdout))
	}
	switch {
	case err != nil:
		return say(err)
	case !r.Advice.Fits:
		return exitVerdict
	}
	return exitOK
}

// plan takes or reads the costs, and plans with them.
func plan(ctx context.Context, f *flags, stderr io.Writer) (*report.Report, error) {
	if err := f.Check(f.KMS != ""); err != nil { // before a minute is spent
		return nil, err
	}
	costs, err := costs(ctx, f, stderr)
	if err != nil {
		return nil, err
	}
	service, err := f.Resolve(costs, f.KMS != "")
	if err != nil {
		return nil, err
	}
	preset, _ := presets.Get(f.KMSPreset) // Resolve has found it
	return report.New(service, costs, preset, f.Given()), nil
}

// write puts the files where they belong, whole or not at all.
func write(r *report.Report, dir string, stdout io.Writer) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for name, render := range map[string]func(io.Writer) error{"report.html": r.HTML, "report.json": r.JSON} {
		path := filepath.Join(dir, name)
		if err := writeFile(path, render); err != nil {
			return fmt.Errorf("%s was not written: %w", path, err)
		}
	}
	_, err := fmt.Fprintf(stdout, "\nwrote %s and %s\n", filepath.Join(dir, "report.html"), filepath.Join(dir, "report.json"))
	return err
}

func writeFile(path string, render func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := render(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
