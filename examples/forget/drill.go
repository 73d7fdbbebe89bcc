package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/fileledger"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/localkms"
	"github.com/lethe-go/lethe/kms/vaultkms"
)

// Person is a row of the service's table. Whoever has a backup of the table has
// these rows as they are sealed.
type Person struct {
	Keys lethe.Keys           `lethe:"people"`
	ID   string               `lethe:"subject=person"`
	Name lethe.Secret[string] `lethe:"name"`
}

const forgotten = 3

// drill is one run.
type drill struct {
	cfg    config
	out    io.Writer
	report io.Writer
	place  *place
	key    kms.Key
	stop   []func() error

	people []Person // sealed: the table, and every backup of it
	tried  []attempt
}

// attempt is one line of the table at the end.
type attempt struct {
	what       string
	result     string
	gone, rest int // how many of the forgotten, and of the others, it opened
	must       int // of the others
}

func newDrill(ctx context.Context, cfg config, out, report io.Writer) (_ *drill, err error) {
	d := &drill{cfg: cfg, out: out, report: report}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.place, err = newPlace(cfg); err != nil {
		return nil, err
	}
	d.stop = append(d.stop, func() error { return d.place.close(context.WithoutCancel(ctx)) })
	if cfg.kms == "" {
		d.key, err = localkms.Create(filepath.Join(cfg.dir, "kek.json"), localkms.Options{})
		return d, err
	}
	var mux kms.Mux
	if err := mux.Register(vaultkms.Scheme, vaultkms.Opener(vaultkms.OpenerOptions{})); err != nil {
		return nil, err
	}
	if d.key, err = mux.Open(ctx, cfg.kms); err != nil {
		return nil, err
	}
	if c, ok := d.key.(io.Closer); ok {
		d.stop = append(d.stop, c.Close)
	}
	return d, nil
}

func (d *drill) close() error {
	var errs []error
	for _, stop := range slices.Backward(d.stop) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

func (d *drill) printf(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format, args...) }

func (d *drill) options(ledger envelope.Ledger) envelope.Options {
	o := envelope.Options{Ledger: ledger}
	if o.Epochs.Window = d.cfg.window; d.cfg.window == 0 {
		o.Epochs.Window = -1
	}
	return o
}

// ring opens a key store with a ledger file.
func (d *drill) ring(ctx context.Context, store, ledger string) (*envelope.Keyring, error) {
	s, err := d.place.open(ctx, store)
	if err != nil {
		return nil, err
	}
	d.stop = append(d.stop, s.Close)
	l, err := fileledger.Open(ctx, filepath.Join(d.cfg.dir, ledger))
	if err != nil {
		return nil, err
	}
	d.stop = append(d.stop, l.Close)
	ring, err := envelope.NewKeyring(ctx, s, d.key, d.options(l))
	if err != nil {
		return nil, err
	}
	d.stop = append(d.stop, func() error { ring.Close(); return nil })
	return ring, nil
}

func (d *drill) run(ctx context.Context) error {
	ring, err := d.prepare(ctx)
	if err != nil {
		return err
	}
	if err := d.forget(ctx, ring); err != nil {
		return err
	}
	erasable := ring.Promise().None == ""
	if err := d.closeEpoch(ctx, ring); err != nil {
		return err
	}
	if err := d.after(ctx, ring); err != nil {
		return err
	}
	status, err := ring.Status(ctx)
	if err != nil {
		return err
	}
	d.printf("\n%s", status)
	return d.judge(erasable)
}

// prepare seals the people and makes the backups.
func (d *drill) prepare(ctx context.Context) (*envelope.Keyring, error) {
	if err := d.place.create(ctx, "keys"); err != nil {
		return nil, err
	}
	store, err := d.place.open(ctx, "keys")
	if err != nil {
		return nil, err
	}
	defer func() { _ = store.Close() }()
	if err := store.Migrate(ctx); err != nil {
		return nil, err
	}
	ledger, err := fileledger.Create(ctx, filepath.Join(d.cfg.dir, "ledger"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = ledger.Close() }()
	if err := envelope.Init(ctx, store, d.key, d.options(ledger)); err != nil {
		return nil, err
	}
	ring, err := d.ring(ctx, "keys", "ledger")
	if err != nil {
		return nil, err
	}
	people, err := lethe.For[Person](ring)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	bar := newProgress(d.report, "sealing", d.cfg.n)
	for at := 0; at < d.cfg.n; at += 500 {
		var batch []Person
		for i := at; i < min(d.cfg.n, at+500); i++ {
			batch = append(batch, Person{ID: strconv.Itoa(i), Name: lethe.Of("Name of person " + strconv.Itoa(i))})
		}
		if err := people.SealSlice(ctx, batch); err != nil {
			return nil, err
		}
		d.people = append(d.people, batch...)
		bar.add(len(batch))
	}
	d.printf("%d people sealed in %v\n", d.cfg.n, time.Since(start).Round(time.Millisecond))
	if err := d.place.copy(ctx, "keys", "backup"); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(d.cfg.dir, "ledger"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(d.cfg.dir, "old-ledger"), text, 0o600); err != nil {
		return nil, err
	}
	d.printf("backups made: the table, the key store, and (as nobody should) the ledger\n")
	return ring, nil
}

// forget forgets the first people.
func (d *drill) forget(ctx context.Context, ring *envelope.Keyring) error {
	start := time.Now()
	died := 0
	for i := range forgotten {
		receipt, err := ring.Forget(ctx, envelope.Subject{Kind: "person", ID: strconv.Itoa(i)})
		if err != nil {
			return err
		}
		died += len(receipt.KeyIDs)
	}
	d.printf("%d people forgotten in %v: %d keys died\n\n", forgotten, time.Since(start).Round(time.Millisecond), died)
	if err := d.try(ctx, "the live system, at once", ring, nil); err != nil {
		return err
	}
	// The backup is opened where it lies, with the ledger of its time, so that
	// nothing tells that somebody was forgotten since.
	old, err := d.ring(ctx, "backup", "old-ledger")
	if err != nil {
		return err
	}
	return d.try(ctx, "BEFORE the close: the old backup with the old ledger", old, nil)
}

// closeEpoch ends the epoch, and shows the recovery window if there is one.
func (d *drill) closeEpoch(ctx context.Context, ring *envelope.Keyring) error {
	closed, err := ring.CloseEpoch(ctx, envelope.CloseOptions{})
	if err != nil {
		return err
	}
	d.printf("epoch closed in %v: %d pages re-keyed, %d keys wrapped anew, %d pages checked\n", closed.Took.Round(time.Millisecond), closed.Pages, closed.Keys, closed.Checked)
	if d.cfg.window == 0 {
		return nil
	}
	if err := d.restore(ctx); err != nil {
		return err
	}
	seconds := int(d.cfg.window/time.Second) + 2
	bar := newProgress(d.report, "waiting for the end of the recovery window, seconds", seconds)
	for range seconds {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
			bar.add(1)
		}
	}
	_, err = ring.EraseDue(ctx)
	return err
}

// restore puts a copy of the backup in the place of the key store, inside the
// window. It is a copy of the ledger that notes it, since the live store goes on.
func (d *drill) restore(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(d.cfg.dir, "ledger"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.cfg.dir, "drill-ledger"), text, 0o600); err != nil {
		return err
	}
	if err := d.place.copy(ctx, "backup", "restored"); err != nil {
		return err
	}
	store, err := d.place.open(ctx, "restored")
	if err != nil {
		return err
	}
	d.stop = append(d.stop, store.Close)
	ledger, err := fileledger.Open(ctx, filepath.Join(d.cfg.dir, "drill-ledger"))
	if err != nil {
		return err
	}
	d.stop = append(d.stop, ledger.Close)
	opts := d.options(ledger)
	opts.Epochs.Window = time.Hour // the drill's restore destroys nothing of the live store's
	if _, err := envelope.Restore(ctx, store, d.key, opts, envelope.RestoreOptions{}); err != nil {
		return err
	}
	ring, err := envelope.NewKeyring(ctx, store, d.key, opts)
	if err != nil {
		return err
	}
	d.stop = append(d.stop, func() error { ring.Close(); return nil })
	return d.try(ctx, "inside the window: the backup after Restore", ring, nil)
}

// after tries everything that could bring them back.
func (d *drill) after(ctx context.Context, live *envelope.Keyring) error {
	if err := d.try(ctx, "the live system", live, nil); err != nil {
		return err
	}
	for _, ledger := range []string{"ledger", "old-ledger"} {
		what := "the old backup with today's ledger"
		if ledger == "old-ledger" {
			what = "the old backup with the old ledger"
		}
		ring, err := d.ring(ctx, "backup", ledger)
		if err := d.try(ctx, what, ring, err); err != nil {
			return err
		}
	}
	store, err := d.place.open(ctx, "backup")
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	ledger, err := fileledger.Open(ctx, filepath.Join(d.cfg.dir, "old-ledger"))
	if err != nil {
		return err
	}
	defer func() { _ = ledger.Close() }()
	_, err = envelope.Restore(ctx, store, d.key, d.options(ledger), envelope.RestoreOptions{})
	if err == nil {
		ring, rerr := d.ring(ctx, "backup", "old-ledger")
		err = d.try(ctx, "the old backup after Restore, old ledger", ring, rerr)
	} else {
		err = d.try(ctx, "the old backup after Restore, old ledger", nil, err)
	}
	if err != nil {
		return err
	}
	opened, tried, err := rawRoots(ctx, store, d.key)
	if err != nil {
		return err
	}
	a := attempt{what: "every root of the backup, raw, to the KMS", result: fmt.Sprintf("%d of %d unwrap", opened, tried)}
	if opened > 0 {
		a.gone = forgotten // all hangs on the root
	}
	d.tried = append(d.tried, a)
	return nil
}

// try opens everybody with a keyring, or notes that there is none.
func (d *drill) try(ctx context.Context, what string, ring *envelope.Keyring, failure error) error {
	a := attempt{what: what, result: "opens"}
	switch {
	case failure != nil && (errors.Is(failure, envelope.ErrLedger) || errors.Is(failure, envelope.ErrWrongKey)):
		a.result = "refused: " + reason(failure)
		d.tried = append(d.tried, a)
		return nil
	case failure != nil:
		return failure
	}
	people, err := lethe.For[Person](ring)
	if err != nil {
		return err
	}
	rows := slices.Clone(d.people)
	if err := people.OpenSlice(ctx, rows); err != nil {
		return err
	}
	a.must = d.cfg.n - forgotten
	for i := range rows {
		name, err := rows[i].Name.Reveal()
		switch {
		case errors.Is(err, lethe.ErrForgotten):
		case err != nil:
			return err
		case name != "Name of person "+strconv.Itoa(i):
			return fmt.Errorf("person %d has another name than was sealed", i)
		case i < forgotten:
			a.gone++
		default:
			a.rest++
		}
	}
	d.tried = append(d.tried, a)
	return nil
}

func reason(err error) string {
	if errors.Is(err, envelope.ErrLedger) {
		return "the ledger knows better"
	}
	return "the KMS cannot unwrap its root"
}

// judge prints the table and says whether the promise held.
func (d *drill) judge(erasable bool) error {
	d.printf("\n%-56s %-40s %9s %7s\n%s\n", "What was tried", "What came of it", "forgotten", "others", strings.Repeat("-", 115))
	var broken []string
	for i, a := range d.tried {
		d.printf("%-56s %-40s %4d of %d %7d\n", a.what, a.result, a.gone, forgotten, a.rest)
		if a.rest != a.must && a.must > 0 {
			broken = append(broken, a.what+": not everybody else opened")
		}
		if i != 1 && a.gone > 0 { // line 1 shows the threat
			broken = append(broken, a.what+": opened people who are forgotten")
		}
	}
	switch {
	case !erasable:
		d.printf("\nT: none. This KMS key cannot be destroyed in part, so whoever has an old backup of the key store\nand the use of the key opens it. Use a key file, or Vault with ?handles=versions.\n")
	case len(broken) == 0:
		d.printf("\nNobody who was forgotten can be opened any more, with whatever backup; everybody else can.\n")
	default:
		return errors.New(strings.Join(broken, "; "))
	}
	return nil
}
