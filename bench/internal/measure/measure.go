// Package measure takes the costs that package model plans with, on this machine,
// with Lethe itself: a key store, a ledger and a table of sealed records in a
// directory or a PostgreSQL schema of its own, which it removes.
package measure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/bench/internal/model"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/fileledger"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/localkms"
)

// Options say what is measured.
type Options struct {
	// Postgres is where the key store and the table are; "" is SQLite in a directory for temporary files.
	Postgres string
	// KMS is measured by calls of Encrypt and Decrypt only: no key version is made,
	// and none destroyed, in a KMS that is in use. nil: the key file is measured.
	KMS     kms.Key
	KMSName string // for the report: no address, no credential
	// Budget is about how long it may all take.
	Budget time.Duration
	// Progress is told how much of it is done, 0 to 1. nil: nobody is.
	Progress func(step string, done float64)
}

// step is a part of the measurement, with its share of the budget.
type step struct {
	name  string
	share float64
	run   func(*bench, context.Context) error
}

var steps = []step{
	{"making subjects and sealing their records", 0.20, (*bench).fill},
	{"sealing for new subjects", 0.04, (*bench).newSubjects},
	{"sealing and opening, keys in memory", 0.08, (*bench).warm},
	{"sealing and opening, keys not in memory", 0.18, (*bench).cold},
	{"AES-GCM alone", 0.04, (*bench).cells},
	{"reading a wrapped key", 0.06, (*bench).keyRead},
	{"calling the KMS", 0.06, (*bench).kms},
	{"memory of cached keys", 0.04, (*bench).memory},
	{"rotating subject keys and wrapping records anew", 0.12, (*bench).rotate},
	{"sealing records anew", 0.08, (*bench).reseal},
	{"forgetting, and closing epochs", 0.10, (*bench).forget},
}

// Run measures. It writes nothing that stays, in a database that is in use too,
// and stops soon after ctx ends.
func Run(ctx context.Context, opts Options) (costs *model.Costs, err error) {
	if opts.Budget < time.Second {
		return nil, fmt.Errorf("the budget of %v is too short to measure anything: give a second at least, a minute for figures to plan by", opts.Budget)
	}
	b, err := open(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close(context.WithoutCancel(ctx))) }()
	done := 0.0
	for _, s := range steps {
		b.began, b.share = time.Now(), time.Duration(s.share*float64(opts.Budget))
		b.tell = func(part float64) {
			if opts.Progress != nil {
				opts.Progress(s.name, done+s.share*min(1, part))
			}
		}
		b.tell(0)
		if err := s.run(b, ctx); err != nil {
			return nil, fmt.Errorf("measuring, at %q: %w", s.name, err)
		}
		done += s.share
	}
	if opts.Progress != nil {
		opts.Progress("measured", 1)
	}
	return &b.costs, nil
}

// bench is what is measured with.
type bench struct {
	opts   Options
	dir    string
	place  *place
	key    *countedKey
	ledger *fileledger.Ledger
	ring   *envelope.Keyring
	sealer *lethe.Sealer[record]
	n      int // subjects with a record in the table
	fresh  int // number of the next subject

	costs model.Costs
	began time.Time
	share time.Duration
	tell  func(part float64)
}

func open(ctx context.Context, opts Options) (b *bench, err error) {
	b = &bench{opts: opts}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close(context.WithoutCancel(ctx)))
		}
	}()
	if b.dir, err = os.MkdirTemp("", "lethe-bench-"); err != nil {
		return b, err
	}
	if b.place, err = openPlace(ctx, b.dir, opts.Postgres); err != nil {
		return b, err
	}
	key, err := localkms.Create(filepath.Join(b.dir, "kek.json"), localkms.Options{})
	if err != nil {
		return b, err
	}
	b.key = &countedKey{Eraser: key}
	if b.ledger, err = fileledger.Create(ctx, filepath.Join(b.dir, "forgets.ledger")); err != nil {
		return b, err
	}
	if err := envelope.Init(ctx, b.place.store, b.key, b.ringOptions()); err != nil {
		return b, err
	}
	b.ring, b.sealer, err = b.start(ctx, b.place.store)
	b.costs = model.Costs{
		Machine: machine(), Database: b.place.version, KMS: "key file", Taken: time.Now().UTC().Truncate(time.Second),
		Budget: opts.Budget, Fields: fields, PlainBytes: plainBytes,
	}
	return b, err
}

// ringOptions: no window, so that a close destroys the handle before it and all
// calls to the KMS that an epoch costs are counted.
func (b *bench) ringOptions() envelope.Options {
	return envelope.Options{Ledger: b.ledger, CacheTTL: 24 * time.Hour, CacheSize: 1 << 20, Epochs: envelope.EpochOptions{Window: -1, Long: true}}
}

// start is a process that starts.
func (b *bench) start(ctx context.Context, store envelope.Store) (*envelope.Keyring, *lethe.Sealer[record], error) {
	ring, err := envelope.NewKeyring(ctx, store, b.key, b.ringOptions())
	if err != nil {
		return nil, nil, err
	}
	sealer, err := lethe.For[record](ring)
	if err != nil {
		ring.Close()
		return nil, nil, err
	}
	return ring, sealer, nil
}

func (b *bench) close(ctx context.Context) error {
	var errs []error
	if b.ring != nil {
		b.ring.Close()
	}
	if b.ledger != nil {
		errs = append(errs, b.ledger.Close())
	}
	if b.place != nil {
		errs = append(errs, b.place.close(ctx))
	}
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	return errors.Join(errs...)
}

// over reports whether part of the step's time has passed, and the progress.
func (b *bench) over(from, part float64) bool {
	passed := float64(time.Since(b.began)) / float64(b.share)
	b.tell(passed)
	return passed >= from+part
}
