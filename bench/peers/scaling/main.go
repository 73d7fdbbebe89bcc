// Command scaling measures what a record costs as the number of subjects, the
// fields of a record, their size, the goroutines and the share of keys found in
// memory change, and draws the curves:
//
//	go run ./scaling
//
// Run it in the folder of package peers. scaling.json and scaling.md go to
// ../results, in a folder named by date and CPU, the charts to ../results, after
// each curve. Curves of the day that are not measured again stay as they were.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lethe-go/lethe/bench/peers/internal/machine"
)

// config is how much is measured.
type config struct {
	rounds   int
	records  int // per point and round, about
	subjects int // the largest number of them
	table    int // of the curves by something else
	work     string
	progress func(format string, args ...any)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "scaling:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	rounds := flag.Int("n", 7, "rounds: how often every point is measured")
	records := flag.Int("records", 5000, "records sealed or opened for a point in one round")
	subjects := flag.Int("subjects", 1_000_000, "the largest number of subjects, at least 1000")
	only := flag.String("curves", "", "the curves to measure, with commas between; all by default; none draws those of the day anew")
	results := flag.String("results", filepath.Join("..", "results"), "folder of the results")
	flag.Parse()

	work, err := os.MkdirTemp("", "scaling")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	started := time.Now()
	m := machine.Describe(ctx, started.UTC().Format(time.RFC3339))
	c := config{
		rounds: *rounds, records: *records, subjects: *subjects, table: 10_000, work: work,
		progress: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) },
	}
	dir := filepath.Join(*results, started.UTC().Format(time.DateOnly)+"-"+m.Slug())
	r, err := resume(dir, m)
	if err != nil {
		return err
	}
	for _, curve := range []struct {
		name    string
		measure func(context.Context, config) (Curve, error)
	}{
		{"subjects", bySubjects}, {"fields", byFields}, {"size", bySize}, {"goroutines", byGoroutines}, {"hits", byHits},
	} {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), curve.name) {
			continue
		}
		load, _ := machine.Load()
		c.progress("%s, %s", curve.name, time.Since(started).Round(time.Second))
		measured, err := curve.measure(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", curve.name, err)
		}
		measured.Load, measured.Rounds, measured.Records, measured.Commit = load, c.rounds, c.records, m.Commit
		if err := r.add(measured, dir, *results); err != nil {
			return err
		}
	}
	c.progress("took %s", time.Since(started).Round(time.Second))
	if err := r.redraw(dir, *results); err != nil {
		return err
	}
	fmt.Print(r.table()) //nolint:forbidigo // the program's result
	return nil
}
