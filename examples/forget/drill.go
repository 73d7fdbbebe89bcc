package main

import (
	"context"
	"database/sql"
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
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/localkms"
	"github.com/lethe-go/lethe/kms/vaultkms"
)

const forgotten = 3

// drill is one run.
type drill struct {
	cfg    config
	out    io.Writer
	report io.Writer
	place  *place
	key    kms.Key
	stop   []func() error

	live   *envelope.Keyring
	tried  []attempt
	copies int
}

// attempt is one line of the table at the end.
type attempt struct {
	what       string
	result     string
	gone, rest int // how many of the forgotten, and of the others, it opened
	must       int // of the others
	expect     expectation
}

// expectation is what an attempt may do with those who are forgotten.
type expectation int

const (
	never    expectation = iota // open one of them
	threat                      // must open all: it shows that the backup is worth protecting against
	leftover                    // as never, but what a KMS key that is no Eraser leaves open
)

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

// kept says where the files and schemas are.
func (d *drill) kept() string {
	if d.cfg.dsn == "" {
		return d.cfg.dir
	}
	return d.cfg.dir + " and the schemas " + d.place.prefix + "…"
}

// copyLedger copies a ledger's file.
func (d *drill) copyLedger(from, to string) error {
	text, err := os.ReadFile(filepath.Join(d.cfg.dir, from))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.cfg.dir, to), text, 0o600)
}

// stolen makes a copy of the backup of the key store and one of a ledger. Every
// attempt has its own, so that none undoes what another would have opened.
func (d *drill) stolen(ctx context.Context, ledger string) (*sqlstore.Store, envelope.Options, error) {
	d.copies++
	name := "copy" + strconv.Itoa(d.copies)
	if err := d.copyLedger(ledger, name+"-ledger"); err != nil {
		return nil, envelope.Options{}, err
	}
	if err := d.place.copy(ctx, "backup", name); err != nil {
		return nil, envelope.Options{}, err
	}
	return d.opened(ctx, name, name+"-ledger")
}

// opened opens a key store and a ledger until the end of the drill.
func (d *drill) opened(ctx context.Context, store, ledger string) (*sqlstore.Store, envelope.Options, error) {
	s, err := d.place.open(ctx, store)
	if err != nil {
		return nil, envelope.Options{}, err
	}
	d.stop = append(d.stop, s.Close)
	l, err := fileledger.Open(ctx, filepath.Join(d.cfg.dir, ledger))
	if err != nil {
		return nil, envelope.Options{}, err
	}
	d.stop = append(d.stop, l.Close)
	return s, d.options(l), nil
}

// ring makes a keyring that is closed at the end of the drill.
func (d *drill) ring(ctx context.Context, store envelope.Store, opts envelope.Options) (*envelope.Keyring, error) {
	ring, err := envelope.NewKeyring(ctx, store, d.key, opts)
	if err != nil {
		return nil, err
	}
	d.stop = append(d.stop, func() error { ring.Close(); return nil })
	return ring, nil
}

func (d *drill) run(ctx context.Context) error {
	if err := d.prepare(ctx); err != nil {
		return err
	}
	if err := d.forget(ctx); err != nil {
		return err
	}
	erasable := d.live.Promise().None == ""
	if err := d.closeEpoch(ctx); err != nil {
		return err
	}
	if err := d.after(ctx); err != nil {
		return err
	}
	status, err := d.live.Status(ctx)
	if err != nil {
		return err
	}
	d.printf("\n%s", status)
	for _, caveat := range status.Promise.Caveats {
		d.printf("   but: %s\n", caveat)
	}
	return d.judge(erasable)
}

// prepare seals the people and makes the backups.
func (d *drill) prepare(ctx context.Context) error {
	for _, name := range []string{"keys", "table"} {
		if err := d.place.create(ctx, name); err != nil {
			return err
		}
	}
	if err := createTable(ctx, d.place, "table"); err != nil {
		return err
	}
	made, err := fileledger.Create(ctx, filepath.Join(d.cfg.dir, "ledger"))
	if err != nil {
		return err
	}
	if err := made.Close(); err != nil {
		return err
	}
	store, opts, err := d.opened(ctx, "keys", "ledger")
	if err != nil {
		return err
	}
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	if err := envelope.Init(ctx, store, d.key, opts); err != nil {
		return err
	}
	if d.live, err = d.ring(ctx, store, opts); err != nil {
		return err
	}
	if err := d.seal(ctx); err != nil {
		return err
	}
	start := time.Now()
	if err := d.place.copy(ctx, "keys", "backup"); err != nil {
		return err
	}
	if err := d.place.copy(ctx, "table", "table_backup"); err != nil {
		return err
	}
	d.printf("backups made in %v: the table, the key store, and (as nobody should) the ledger\n", time.Since(start).Round(time.Millisecond))
	return d.copyLedger("ledger", "old-ledger")
}

func (d *drill) seal(ctx context.Context) error {
	people, err := lethe.For[Person](d.live)
	if err != nil {
		return err
	}
	start := time.Now()
	bar := newProgress(d.report, "sealing", d.cfg.n)
	err = d.place.withDB("table", func(db *sql.DB) error {
		for at := 0; at < d.cfg.n; at += 500 {
			var batch []Person
			for i := at; i < min(d.cfg.n, at+500); i++ {
				batch = append(batch, Person{ID: strconv.Itoa(i), Name: lethe.Of(nameOf(strconv.Itoa(i)))})
			}
			if err := people.SealSlice(ctx, batch); err != nil {
				return err
			}
			if err := insert(ctx, db, batch); err != nil {
				return err
			}
			bar.add(len(batch))
		}
		return nil
	})
	if err == nil {
		d.printf("%d people sealed in %v\n", d.cfg.n, time.Since(start).Round(time.Millisecond))
	}
	return err
}

func nameOf(id string) string { return "Name of person " + id }

// forget forgets the first people, and shows what that reaches before the close.
func (d *drill) forget(ctx context.Context) error {
	for i := range forgotten {
		start := time.Now()
		receipt, err := d.live.Forget(ctx, envelope.Subject{Kind: "person", ID: strconv.Itoa(i)})
		if err != nil {
			return err
		}
		d.printf("forgotten in %v: receipt %d of %s, keys that died: %d\n", time.Since(start).Round(10*time.Microsecond), receipt.Seq, receipt.Time.UTC().Format(time.RFC3339), len(receipt.KeyIDs))
	}
	if err := d.tryLive(ctx, "the live system, at once"); err != nil {
		return err
	}
	if err := d.tryKeyring(ctx, "BEFORE the close: old backup, today's ledger", "ledger", never); err != nil {
		return err
	}
	if err := d.tryKeyring(ctx, "BEFORE the close: old backup, old ledger", "old-ledger", threat); err != nil {
		return err
	}
	// It shows that the same attempt after the close could succeed.
	return d.tryRaw(ctx, "BEFORE the close: roots of the backup, raw, to the KMS", threat)
}

// closeEpoch ends the epoch, and shows the recovery window if there is one.
func (d *drill) closeEpoch(ctx context.Context) error {
	closed, err := d.live.CloseEpoch(ctx, envelope.CloseOptions{Immediate: d.cfg.window == 0})
	if err != nil {
		return err
	}
	d.printf("epoch closed in %v: %d pages re-keyed, %d keys wrapped anew, %d pages checked\n", closed.Took.Round(time.Millisecond), closed.Pages, closed.Keys, closed.Checked)
	if d.cfg.window == 0 {
		return nil
	}
	if err := d.tryRestore(ctx, "inside the window: the backup after Restore", "ledger", never, d.cfg.n-forgotten); err != nil {
		return err
	}
	if err := d.tryKeyring(ctx, "inside the window: old backup, old ledger", "old-ledger", threat); err != nil {
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
	_, err = d.live.EraseDue(ctx)
	return err
}

// after tries everything that could bring them back.
func (d *drill) after(ctx context.Context) error {
	if err := d.tryKeyring(ctx, "old backup, today's ledger", "ledger", never); err != nil {
		return err
	}
	if err := d.tryKeyring(ctx, "old backup, old ledger", "old-ledger", leftover); err != nil {
		return err
	}
	if err := d.tryRestore(ctx, "old backup after Restore, today's ledger", "ledger", never, 0); err != nil {
		return err
	}
	if err := d.tryRestore(ctx, "old backup after Restore, old ledger", "old-ledger", leftover, 0); err != nil {
		return err
	}
	if err := d.tryRaw(ctx, "roots of the backup, raw, to the KMS", leftover); err != nil {
		return err
	}
	return d.tryLive(ctx, "the live system, at the end")
}

func (d *drill) tryLive(ctx context.Context, what string) error {
	return d.try(ctx, attempt{what: what, must: d.cfg.n - forgotten}, "table", d.live)
}

// tryKeyring opens a copy of the backup with a copy of a ledger.
func (d *drill) tryKeyring(ctx context.Context, what, ledger string, expect expectation) error {
	store, opts, err := d.stolen(ctx, ledger)
	if err != nil {
		return err
	}
	a := attempt{what: what, expect: expect}
	ring, err := d.ring(ctx, store, opts)
	if err != nil {
		return d.refused(a, err)
	}
	return d.try(ctx, a, "table_backup", ring)
}

// tryRestore restores a copy of the backup. A copy of the ledger notes it, since
// the live store goes on. must is how many of the others it has to open.
func (d *drill) tryRestore(ctx context.Context, what, ledger string, expect expectation, must int) error {
	store, opts, err := d.stolen(ctx, ledger)
	if err != nil {
		return err
	}
	a := attempt{what: what, expect: expect, must: must}
	opts.Epochs.Window = time.Hour // the close of this restore destroys nothing of the live store's
	if _, err := envelope.Restore(ctx, store, d.key, opts, envelope.RestoreOptions{}); err != nil {
		return d.refused(a, err)
	}
	ring, err := d.ring(ctx, store, opts)
	if err != nil {
		return d.refused(a, err)
	}
	return d.try(ctx, a, "table_backup", ring)
}

// tryRaw goes around the library's checks.
func (d *drill) tryRaw(ctx context.Context, what string, expect expectation) error {
	backup, err := d.place.open(ctx, "backup")
	if err != nil {
		return err
	}
	defer func() { _ = backup.Close() }()
	live, err := d.place.open(ctx, "keys")
	if err != nil {
		return err
	}
	defer func() { _ = live.Close() }()
	unwrapped, tried, err := rawRoots(ctx, backup, live, d.key)
	if err != nil {
		return err
	}
	a := attempt{what: what, expect: expect, result: fmt.Sprintf("%d of %d unwrap", unwrapped, tried)}
	if unwrapped > 0 {
		a.result += ": every key hangs on them"
		a.gone, a.rest = forgotten, d.cfg.n-forgotten
	}
	d.tried = append(d.tried, a)
	return nil
}

// refused notes that an attempt had no keyring. Any other failure than the refusals
// looked for ends the drill: it would show nothing.
func (d *drill) refused(a attempt, failure error) error {
	if !errors.Is(failure, envelope.ErrLedger) && !errors.Is(failure, envelope.ErrWrongKey) {
		return failure
	}
	a.result = "refused: " + reason(failure)
	d.tried = append(d.tried, a)
	return nil
}

// try opens everybody in a table with a keyring.
func (d *drill) try(ctx context.Context, a attempt, table string, ring *envelope.Keyring) error {
	people, err := lethe.For[Person](ring)
	if err != nil {
		return err
	}
	rows, err := readTable(ctx, d.place, table)
	if err != nil {
		return err
	}
	if len(rows) != d.cfg.n {
		return fmt.Errorf("the table has %d rows of %d", len(rows), d.cfg.n)
	}
	if err := people.OpenSlice(ctx, rows); err != nil {
		return err
	}
	for i := range rows {
		name, err := rows[i].Name.Reveal()
		number, notNumber := strconv.Atoi(rows[i].ID)
		switch {
		case notNumber != nil:
			return errors.New("the table has a row that was not put there")
		case errors.Is(err, lethe.ErrForgotten):
		case err != nil:
			return err
		case name != nameOf(rows[i].ID):
			return errors.New("a person has another name than was sealed")
		case number < forgotten:
			a.gone++
		default:
			a.rest++
		}
	}
	a.result = "opens"
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
	d.printf("\n%-54s  %-38s %9s %7s\n%s\n", "What was tried", "What came of it", "forgotten", "others", strings.Repeat("-", 111))
	var broken []string
	open := false
	for _, a := range d.tried {
		d.printf("%-54s  %-38s %4d of %d %7d\n", a.what, a.result, a.gone, forgotten, a.rest)
		if a.rest < a.must {
			broken = append(broken, a.what+": not everybody else opened")
		}
		switch {
		case a.expect == threat:
			if a.gone != forgotten {
				broken = append(broken, a.what+": did not open the forgotten, so that the drill shows nothing")
			}
		case a.gone > 0 && a.expect == leftover && !erasable:
			open = true
		case a.gone > 0:
			broken = append(broken, a.what+": opened people who are forgotten")
		}
	}
	if !erasable {
		d.printf("\nT: none. This KMS key cannot be destroyed in part: the live system refuses who was forgotten, but whoever\nhas an old backup of the key store and the use of the key ")
		if open {
			d.printf("opens them, as the table shows.\n")
		} else {
			d.printf("may open them, though nothing here did.\n")
		}
		d.printf("Use a key file, or Vault or OpenBao with handles=versions or handles=keys in the URI.\n")
	}
	if len(broken) > 0 {
		return errors.New(strings.Join(broken, "; "))
	}
	if erasable {
		d.printf("\nNobody who was forgotten can be opened any more, with either backup; everybody else can.\n")
	}
	return nil
}
