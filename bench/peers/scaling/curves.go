package main

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/bench/peers"
	"github.com/lethe-go/lethe/envelope"
)

// fiftyThree characters, five times, are the 265 bytes of the other benchmarks.
var fiftyThree = strings.Repeat("x", 53)

// samplesBy collects what the rounds measured, by series and X.
type samplesBy map[string]map[float64][]sample

func (s samplesBy) add(series string, x float64, v sample) {
	if s[series] == nil {
		s[series] = map[float64][]sample{}
	}
	s[series][x] = append(s[series][x], v)
}

func (s samplesBy) series(name string, xs []float64) *Series {
	out := &Series{Name: name}
	for _, x := range xs {
		if samples := s[name][x]; len(samples) > 0 {
			out.Points = append(out.Points, pointOf(x, samples))
		}
	}
	return out
}

// sealAndOpen measures Seal and Open of single rows whose keys are in memory.
func sealAndOpen[T any](ctx context.Context, t *table[T], stored []T, n int, into samplesBy, x float64) error {
	at := order(len(stored))
	s, err := cost(n, func(row *T, i int) error {
		_, id, _ := t.parts(&stored[at[i%len(at)]])
		t.plain(row, *id)
		return nil
	}, oneByOne(ctx, t.sealer.Seal))
	if err != nil {
		return err
	}
	into.add("Seal", x, s)
	o, err := cost(n, func(row *T, i int) error { return t.scan(row, &stored[at[i%len(at)]]) },
		oneByOne(ctx, func(ctx context.Context, row *T) error { return t.sealer.Open(ctx, row) }))
	if err != nil {
		return err
	}
	into.add("Open", x, o)
	return nil
}

// bySubjects: 5 fields, 265 bytes; the keys of all subjects in memory, or of none.
func bySubjects(ctx context.Context, c config) (Curve, error) {
	const slice, most = 1000, 100_000 // rows in a cold slice; stored rows of one world, of all its subjects at random
	const warmSeal, warmOpen = "Seal, key in memory", "Open, key in memory"
	const cold, coldSQL, minted = "OpenSlice of 1,000, no key in memory", "the same, store in SQLite", "SealSlice, subjects never seen"
	all := samplesBy{}
	var xs []float64
	for n := 1000; n <= c.subjects; n *= 10 {
		xs = append(xs, float64(n))
		for _, sqlite := range []bool{false, true} {
			c.progress("  %d subjects, SQLite: %t", n, sqlite)
			err := func() error {
				w, err := newWorld(ctx, c, sqlite, n)
				if err != nil {
					return err
				}
				defer w.close()
				ring, err := w.ring(ctx)
				if err != nil {
					return err
				}
				defer ring.Close()
				t, err := newTable(ring, parts5, fiftyThree)
				if err != nil {
					return err
				}
				stored, took, err := mint(ctx, t, n, most)
				if err != nil {
					return err
				}
				if !sqlite {
					all.add(minted, float64(n), took)
				}
				for round := range c.rounds {
					if !sqlite {
						warm := samplesBy{}
						if err := sealAndOpen(ctx, t, stored, c.records, warm, float64(n)); err != nil {
							return err
						}
						all.add(warmSeal, float64(n), warm["Seal"][float64(n)][0])
						all.add(warmOpen, float64(n), warm["Open"][float64(n)][0])
					}
					fresh, err := w.ring(ctx)
					if err != nil {
						return err
					}
					s, err := coldSlice(ctx, fresh, t, stored, slice, round)
					fresh.Close()
					if err != nil {
						return err
					}
					if !sqlite {
						all.add(cold, float64(n), s)
					} else {
						all.add(coldSQL, float64(n), s)
					}
				}
				return nil
			}()
			if err != nil {
				return Curve{}, err
			}
			runtime.GC()
		}
	}
	return Curve{
		Name: "subjects", Title: "A record of 5 fields, 265 bytes, against the number of subjects", X: "subjects", Y: "µs of processor time a record", LogX: true, LogY: true,
		Series: []*Series{all.series(warmSeal, xs), all.series(warmOpen, xs), all.series(cold, xs), all.series(coldSQL, xs), all.series(minted, xs)},
	}, nil
}

// mint gives n subjects their keys, in slices of 10,000, and returns stored rows
// of at most some of them, spread evenly.
func mint(ctx context.Context, t *table[row5], n, most int) ([]row5, sample, error) {
	const batch = 10_000
	var stored []row5
	step := max(1, n/most)
	var total sample
	rows := make([]row5, min(batch, n))
	for from := 0; from < n; from += len(rows) {
		for i := range rows {
			t.plain(&rows[i], "cus_"+strconv.Itoa(from+i))
		}
		var m peers.Meter
		m.Start()
		err := t.sealer.SealSlice(ctx, rows)
		m.Stop()
		if err != nil {
			return nil, sample{}, err
		}
		wall, cpu := m.Times()
		total.wall, total.cpu = total.wall+float64(wall), total.cpu+float64(cpu)
		for i := 0; i < len(rows); i += step {
			var row row5
			if err := t.scan(&row, &rows[i]); err != nil {
				return nil, sample{}, err
			}
			stored = append(stored, row)
		}
	}
	return stored, sample{total.cpu / float64(n), total.wall / float64(n)}, nil
}

func coldSlice(ctx context.Context, ring *envelope.Keyring, t *table[row5], stored []row5, size, round int) (sample, error) {
	sealer, err := lethe.For[row5](ring)
	if err != nil {
		return sample{}, err
	}
	at := order(len(stored))
	rows := make([]row5, size)
	for i := range rows {
		if err := t.scan(&rows[i], &stored[at[(round*size+i)%len(at)]]); err != nil {
			return sample{}, err
		}
	}
	runtime.GC()
	var m peers.Meter
	m.Start()
	err = sealer.OpenSlice(ctx, rows)
	m.Stop()
	wall, cpu := m.Times()
	return sample{float64(cpu) / float64(size), float64(wall) / float64(size)}, err
}

// inTable returns a table with a stored row of each subject, whose keys are in
// memory until stop is called.
func inTable[T any](ctx context.Context, c config, p parts[T], value string, subjects int) (t *table[T], stored []T, stop func(), err error) {
	w, err := newWorld(ctx, c, false, subjects)
	if err != nil {
		return nil, nil, nil, err
	}
	ring, err := w.ring(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	if t, err = newTable(ring, p, value); err != nil {
		ring.Close()
		return nil, nil, nil, err
	}
	if stored, err = t.sealed(ctx, ids("cus_", subjects)); err != nil {
		ring.Close()
		return nil, nil, nil, err
	}
	return t, stored, ring.Close, nil
}

func fieldPoint[T any](ctx context.Context, c config, p parts[T], value string, subjects, n int, into samplesBy, x float64) error {
	t, stored, stop, err := inTable(ctx, c, p, value, subjects)
	if err != nil {
		return err
	}
	defer stop()
	for range c.rounds {
		if err := sealAndOpen(ctx, t, stored, n, into, x); err != nil {
			return err
		}
	}
	return nil
}

// byFields: fields of 53 bytes, 10,000 subjects.
func byFields(ctx context.Context, c config) (Curve, error) {
	all := samplesBy{}
	xs := []float64{1, 2, 5, 10, 20, 50}
	for i, measure := range []func() error{
		func() error { return fieldPoint(ctx, c, parts1, fiftyThree, c.table, c.records, all, 1) },
		func() error { return fieldPoint(ctx, c, parts2, fiftyThree, c.table, c.records, all, 2) },
		func() error { return fieldPoint(ctx, c, parts5, fiftyThree, c.table, c.records, all, 5) },
		func() error { return fieldPoint(ctx, c, parts10, fiftyThree, c.table, c.records, all, 10) },
		func() error { return fieldPoint(ctx, c, parts20, fiftyThree, c.table, c.records, all, 20) },
		func() error { return fieldPoint(ctx, c, parts50, fiftyThree, c.table, c.records/2, all, 50) },
	} {
		c.progress("  %g fields", xs[i])
		if err := measure(); err != nil {
			return Curve{}, err
		}
	}
	return Curve{
		Name: "fields", Title: "A record against its number of fields of 53 bytes", X: "fields", Y: "µs of processor time a record",
		Series: []*Series{all.series("Seal", xs), all.series("Open", xs)},
	}, nil
}

// bySize: one field, 1,000 subjects.
func bySize(ctx context.Context, c config) (Curve, error) {
	all := samplesBy{}
	xs := []float64{8, 64, 512, 4096, 16384, 65536}
	for _, size := range xs {
		c.progress("  %g bytes", size)
		n := c.records
		if size > 4096 {
			n = max(block, n/5)
		}
		if err := fieldPoint(ctx, c, parts1, strings.Repeat("x", int(size)), 1000, n, all, size); err != nil {
			return Curve{}, err
		}
	}
	return Curve{
		Name: "size", Title: "A record of one field against the field's size", X: "bytes", Y: "µs of processor time a record", LogX: true, LogY: true,
		Series: []*Series{all.series("Seal", xs), all.series("Open", xs)},
	}, nil
}

// byGoroutines: 5 fields, 10,000 subjects, one Sealer for all goroutines. On the
// wall a record costs the share of it that a goroutine adds.
func byGoroutines(ctx context.Context, c config) (Curve, error) {
	all := samplesBy{}
	var xs []float64
	for n := 1; n <= 2*runtime.GOMAXPROCS(0); n++ {
		xs = append(xs, float64(n))
	}
	t, stored, stop, err := inTable(ctx, c, parts5, fiftyThree, c.table)
	if err != nil {
		return Curve{}, err
	}
	defer stop()
	at := order(len(stored))
	// A goroutine has its rows ready before any starts, and takes them in turns.
	for range c.rounds {
		for _, x := range xs {
			for name, one := range map[string]struct {
				prepare func(*row5, int) error
				run     func(context.Context, *row5) error
			}{
				"Seal": {func(row *row5, i int) error { t.plain(row, stored[at[i]].ID); return nil }, t.sealer.Seal},
				"Open": {func(row *row5, i int) error { return t.scan(row, &stored[at[i]]) }, func(ctx context.Context, row *row5) error { return t.sealer.Open(ctx, row) }},
			} {
				s, err := together(int(x), len(stored), one.prepare, oneByOne(ctx, one.run))
				if err != nil {
					return Curve{}, err
				}
				all.add(name, x, s)
			}
		}
	}
	return Curve{
		Name: "goroutines", Title: fmt.Sprintf("A record of 5 fields, 265 bytes, against the goroutines on %d cores", runtime.GOMAXPROCS(0)), X: "goroutines", Y: "µs of processor time a record",
		Series: []*Series{all.series("Seal", xs), all.series("Open", xs)},
	}, nil
}

// together runs n rows in so many goroutines, each with a part of them.
func together(goroutines, n int, prepare func(*row5, int) error, run func([]row5) error) (sample, error) {
	rows := make([]row5, n)
	for i := range rows {
		if err := prepare(&rows[i], i); err != nil {
			return sample{}, err
		}
	}
	runtime.GC()
	errs := make([]error, goroutines)
	var done sync.WaitGroup
	var m peers.Meter
	m.Start()
	for g := range goroutines {
		done.Go(func() { errs[g] = run(rows[g*n/goroutines : (g+1)*n/goroutines]) })
	}
	done.Wait()
	m.Stop()
	for _, err := range errs {
		if err != nil {
			return sample{}, err
		}
	}
	wall, cpu := m.Times()
	return sample{float64(cpu) / float64(n), float64(wall) / float64(n)}, nil
}

// byHits: single Opens, of subjects whose keys are in memory and of some whose
// keys are not.
func byHits(ctx context.Context, c config) (Curve, error) {
	const inMemory, onDisk = "Open, store in memory", "Open, store in SQLite"
	all := samplesBy{}
	xs := []float64{0, 50, 80, 90, 95, 99, 100}
	for name, sqlite := range map[string]bool{inMemory: false, onDisk: true} {
		c.progress("  %s", name)
		err := func() error {
			w, err := newWorld(ctx, c, sqlite, c.table)
			if err != nil {
				return err
			}
			defer w.close()
			ring, err := w.ring(ctx)
			if err != nil {
				return err
			}
			t, err := newTable(ring, parts5, fiftyThree)
			if err != nil {
				ring.Close()
				return err
			}
			stored, err := t.sealed(ctx, ids("cus_", c.table))
			ring.Close()
			if err != nil {
				return err
			}
			n := min(c.records, c.table/2)
			for range c.rounds {
				for _, x := range xs {
					s, err := hits(ctx, w, t, stored, n, x/100)
					if err != nil {
						return err
					}
					all.add(name, x, s)
				}
			}
			return nil
		}()
		if err != nil {
			return Curve{}, err
		}
	}
	return Curve{
		Name: "hits", Title: "Open of single records against the share of keys found in memory", X: "% of keys in memory", Y: "µs of processor time a record", LogY: true,
		Series: []*Series{all.series(inMemory, xs), all.series(onDisk, xs)},
	}, nil
}

// hits opens n rows with a keyring that has the keys of the first half of the
// subjects; the share of them is that of the hits.
func hits(ctx context.Context, w *world, t *table[row5], stored []row5, n int, share float64) (sample, error) {
	ring, err := w.ring(ctx)
	if err != nil {
		return sample{}, err
	}
	defer ring.Close()
	sealer, err := lethe.For[row5](ring)
	if err != nil {
		return sample{}, err
	}
	half := len(stored) / 2
	warm := make([]row5, half)
	for i := range warm {
		if err := t.scan(&warm[i], &stored[i]); err != nil {
			return sample{}, err
		}
	}
	if err := sealer.OpenSlice(ctx, warm); err != nil {
		return sample{}, err
	}
	at := order(half)
	missed := 0.0
	return cost(n, func(row *row5, i int) error {
		from := at[i]
		if misses := float64(i+1) * (1 - share); misses >= missed+1-1e-9 {
			from = half + at[int(missed)]
			missed++
		}
		return t.scan(row, &stored[from])
	}, oneByOne(ctx, func(ctx context.Context, row *row5) error { return sealer.Open(ctx, row) }))
}
