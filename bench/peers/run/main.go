// Command run runs the benchmarks of package peers in rounds, so that whatever
// else the machine does meets all of them alike, and writes what was printed, a
// table of medians and ratios, the same as JSON, and a chart:
//
//	go run ./run -n 10
//
// Run it in the folder of package peers. The files go to ../results, in a folder
// named by date and CPU; the chart to ../results/peers.svg. benchstat reads
// peers.txt, too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"

	"github.com/lethe-go/lethe/bench/peers/internal/machine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	rounds := flag.Int("n", 10, "rounds: how often every benchmark runs")
	benchtime := flag.String("benchtime", "200ms", "time of a benchmark in one round")
	pattern := flag.String("bench", ".", "which benchmarks")
	results := flag.String("results", filepath.Join("..", "results"), "folder of the results")
	redo := flag.String("redo", "", "do not run anything: make tables and chart of the peers.txt in this folder anew")
	flag.Parse()
	if *redo != "" {
		return redoReport(*redo, *results)
	}

	started := time.Now()
	m := machine.Describe(ctx, started.UTC().Format(time.RFC3339))
	work, err := os.MkdirTemp("", "peers")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	binary := filepath.Join(work, "peers.test")
	if err := command(ctx, os.Stderr, "go", "test", "-c", "-o", binary, "."); err != nil {
		return fmt.Errorf("the benchmarks do not build: %w", err)
	}

	dir := filepath.Join(*results, started.UTC().Format(time.DateOnly)+"-"+m.Slug())
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	raw, err := os.Create(filepath.Join(dir, "peers.txt"))
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }()
	for round := range *rounds {
		load, known := machine.Load()
		if known {
			m.Loads = append(m.Loads, load)
		}
		fmt.Fprintf(os.Stderr, "round %d of %d, load %.2f\n", round+1, *rounds, load)
		if err := command(ctx, raw, binary, "-test.run", "^$", "-test.bench", *pattern, "-test.benchtime", *benchtime, "-test.timeout", "0"); err != nil {
			return fmt.Errorf("round %d: %w; see %s", round+1, err, raw.Name())
		}
	}
	if err := raw.Close(); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "took", time.Since(started).Round(time.Second))
	return report(dir, *results, Setup{Machine: m, Rounds: *rounds, Benchtime: *benchtime})
}

func command(ctx context.Context, out *os.File, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the go command, and the program it just built
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return errors.New(filepath.Base(name) + " ended with " + strconv.Itoa(exit.ExitCode()))
	}
	return err
}
