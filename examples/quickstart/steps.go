package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/kms/localkms"
)

const (
	sealBatch = 500   // rows of one transaction: what a killed run can lose
	openBatch = 1_000 // rows opened together: their keys are fetched at once
)

// demo is one run over one table.
type demo struct {
	*screen
	keys      *keys
	table     *table
	customers *lethe.Sealer[Customer]
	people    []person
	leaving   []person // who asks to be forgotten
	rows      int      // in the table, once everybody is sealed
	progress  io.Writer
}

// show runs all steps and prints them on one screen.
func show(ctx context.Context, cfg config, k *keys, t *table, people []person, stdout, stderr io.Writer) error {
	customers, err := lethe.For[Customer](k.ring)
	if err != nil {
		return err
	}
	d := &demo{screen: &screen{out: stdout}, keys: k, table: t, customers: customers, people: people, leaving: pickLeaving(people), progress: stderr}
	d.printf("%s customers from %s go into %s\n\n", count(len(people)), clip(cfg.source(), 40), cfg.database())
	start := time.Now()
	for _, step := range []func(context.Context) error{d.seal, d.intrude, d.find, d.mask, d.rotate, d.forget, d.openAll} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	what := "Key file and ledger"
	if cfg.kms != "" {
		what = "Ledger"
	}
	d.printf("\nDone in %s. %s: %s\n", duration(time.Since(start)), what, clip(cfg.dir, 50))
	d.printf("Run it again: nobody is sealed twice, and who was forgotten stays forgotten.\n")
	return d.err
}

// pickLeaving picks three people from all over the file, and never the first,
// who is searched for.
func pickLeaving(people []person) []person {
	var out []person
	for quarter := 1; quarter <= 3; quarter++ {
		at := len(people) * quarter / 4
		if at > 0 && (len(out) == 0 || out[len(out)-1].id != people[at].id) {
			out = append(out, people[at])
		}
	}
	return out
}

// seal seals whoever is not in the table yet, a transaction per batch, so that
// a run that was killed goes on where it stopped.
func (d *demo) seal(ctx context.Context) error {
	start := time.Now()
	there, err := d.table.ids(ctx)
	if err != nil {
		return err
	}
	var missing []Customer
	for i := range d.people {
		if !there[d.people[i].id] {
			missing = append(missing, d.people[i].customer())
		}
	}
	bar := newProgress(d.progress, "sealing", len(missing))
	var written int64
	refused := 0
	for batch := range slices.Chunk(missing, sealBatch) {
		size := len(batch)
		err := d.customers.SealSlice(ctx, batch)
		if errors.Is(err, lethe.ErrForgotten) {
			batch, err = d.sealOthers(ctx, batch)
		}
		if err != nil {
			return fmt.Errorf("seal: %w", err)
		}
		n, err := d.table.insert(ctx, batch)
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		written += n
		refused += size - len(batch)
		bar.add(size)
	}
	d.rows = len(there) + int(written)
	text := fmt.Sprintf("%s of %s people sealed, %s were already", count(written), count(len(d.people)), count(len(d.people)-len(missing)))
	if refused > 0 {
		text += fmt.Sprintf(", %s are forgotten and stay out", count(refused))
	}
	d.title("Seal", text, time.Since(start))
	return nil
}

// sealOthers seals the rows of a batch one by one and leaves out the forgotten.
func (d *demo) sealOthers(ctx context.Context, batch []Customer) ([]Customer, error) {
	sealed := batch[:0:0]
	for i := range batch {
		err := d.customers.Seal(ctx, &batch[i])
		if errors.Is(err, lethe.ErrForgotten) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sealed = append(sealed, batch[i])
	}
	return sealed, nil
}

// intrude prints what a copy of the database is worth without keys.
func (d *demo) intrude(ctx context.Context) error {
	rows, err := d.table.steal(ctx, 3)
	if err != nil {
		return err
	}
	d.title("Intruder", "reads the table, without keys", 0)
	widths := []int{12, 17, 17, 17, 17}
	d.row(widths, "id", "name", "email", "card", "iban", "plan")
	for _, r := range rows {
		d.row(widths, r.id, bytesOf(r.name), bytesOf(r.email), bytesOf(r.card), bytesOf(r.iban), r.plan)
	}
	return nil
}

// find finds the first customer by an e-mail address typed another way.
func (d *demo) find(ctx context.Context) error {
	start := time.Now()
	typed := shout(d.people[0].email)
	found, hits, err := d.search(ctx, typed)
	if err != nil {
		return err
	}
	d.title("Find by e-mail", fmt.Sprintf("%s: %d of %d index hits", clip(typed, 40), len(found), hits), time.Since(start))
	widths := []int{12, 34, 20}
	for i := range found {
		c := &found[i]
		email, err := c.Email.Reveal()
		if err != nil {
			return err
		}
		phone, err := c.Phone.Reveal()
		if err != nil {
			return err
		}
		name, err := c.Name.Reveal()
		if err != nil {
			return err
		}
		d.row(widths, c.ID, email, phone, name)
	}
	return nil
}

// shout writes ASCII letters as capitals, as if with caps lock on.
func shout(text string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' {
			return c - 'a' + 'A'
		}
		return c
	}, text)
}

// search returns the customers with this e-mail address, opened. The index may
// hit others too, whose hashes begin alike: Match drops them.
func (d *demo) search(ctx context.Context, email string) (found []Customer, hits int, err error) {
	q, err := d.customers.Query(ctx, "email_idx", email)
	if err != nil {
		return nil, 0, err
	}
	rows, err := d.table.find(ctx, q)
	if err != nil {
		return nil, 0, err
	}
	if err := d.customers.OpenSlice(ctx, rows); err != nil {
		return nil, 0, err
	}
	for i := range rows {
		match, err := q.Match(&rows[i])
		if err != nil {
			return nil, 0, err
		}
		if match {
			found = append(found, rows[i])
		}
	}
	return found, len(rows), nil
}

// mask prints what the support desk needs to recognise a caller.
func (d *demo) mask(ctx context.Context) error {
	start := time.Now()
	rows, err := d.open(ctx, d.people[:min(4, len(d.people))], lethe.Masks()) // values never get here
	if err != nil {
		return err
	}
	d.title("Support desk", "sees masks", time.Since(start))
	widths := []int{11, 17, 11, 11, 11, 11} // of "[forgotten]" and more
	d.row(widths, "id", "email", "phone", "card", "iban", "born", "name")
	for i := range rows {
		c := &rows[i]
		d.row(widths, c.ID, c.Email.Masked(), c.Phone.Masked(), c.Card.Masked(), c.IBAN.Masked(), c.Born.Masked(), c.Name.Masked())
	}
	return nil
}

// open reads and opens the rows of some people.
func (d *demo) open(ctx context.Context, people []person, opts ...lethe.OpenOption) ([]Customer, error) {
	rows, err := d.table.byIDs(ctx, idsOf(people))
	if err != nil {
		return nil, err
	}
	return rows, d.customers.OpenSlice(ctx, rows, opts...)
}

func idsOf(people []person) []string {
	ids := make([]string, len(people))
	for i := range people {
		ids[i] = people[i].id
	}
	return ids
}

// rotate gives some people new keys, and the key store a new root under a new
// version of the key. No sealed field is touched.
func (d *demo) rotate(ctx context.Context) error {
	start := time.Now()
	leaving := idsOf(d.leaving)
	var ids []string
	for i := 0; i < len(d.people) && len(ids) < 5; i++ {
		id := d.people[i].id
		if slices.Contains(leaving, id) {
			continue
		}
		_, err := d.keys.ring.Rotate(ctx, lethe.Subject{Kind: "customer", ID: id})
		if errors.Is(err, lethe.ErrForgotten) {
			continue // in an earlier run
		}
		if err != nil {
			return fmt.Errorf("rotate: %w", err)
		}
		ids = append(ids, id)
	}
	rows, err := d.table.byIDs(ctx, ids)
	if err != nil {
		return err
	}
	if _, err := d.customers.RewrapSlice(ctx, rows); err != nil {
		return fmt.Errorf("rewrap: %w", err)
	}
	if err := d.table.saveKeys(ctx, rows); err != nil {
		return err
	}
	if kek, ok := d.keys.kek.(*localkms.Key); ok { // a KMS rotates its keys itself
		if err := kek.Rotate(ctx); err != nil {
			return err
		}
	}
	if err := d.keys.ring.RewrapKEK(ctx, d.keys.kek); err != nil {
		return fmt.Errorf("rewrap the key store: %w", err)
	}
	d.title("Rotate", fmt.Sprintf("new keys for %d people, their rows rewrapped; a new root for all", len(rows)), time.Since(start))
	return nil
}

// forget destroys the keys of three people, and prints them before and after.
func (d *demo) forget(ctx context.Context) error {
	start := time.Now()
	var lines [][]string
	for _, p := range d.leaving {
		line, err := d.forgetOne(ctx, p)
		if err != nil {
			return fmt.Errorf("forget: %w", err)
		}
		lines = append(lines, line)
	}
	what := fmt.Sprintf("%d people: their keys are destroyed", len(lines))
	if len(lines) == 0 {
		what = "nobody: the only customer stays"
	}
	d.title("Forget", what, time.Since(start))
	for _, line := range lines {
		d.row([]int{12, 20, 16, 12}, line...)
	}
	return nil
}

func (d *demo) forgetOne(ctx context.Context, p person) ([]string, error) {
	before, err := d.open(ctx, []person{p})
	if err != nil {
		return nil, err
	}
	receipt, err := d.keys.ring.Forget(ctx, lethe.Subject{Kind: "customer", ID: p.id})
	if err != nil {
		return nil, err
	}
	if err := d.table.dropIndex(ctx, p.id); err != nil {
		return nil, err
	}
	after, err := d.open(ctx, []person{p})
	if err != nil {
		return nil, err
	}
	found, _, err := d.search(ctx, p.email)
	if err != nil {
		return nil, err
	}
	line := []string{p.id, "no row", "", fmt.Sprintf("%d by e-mail", len(found)), fmt.Sprintf("ledger entry %d", receipt.Seq)}
	if len(before) > 0 && len(after) > 0 {
		if _, err := after[0].Email.Reveal(); !errors.Is(err, lethe.ErrForgotten) {
			return nil, fmt.Errorf("a forgotten row gives %w instead of ErrForgotten", err)
		}
		line[1], line[2] = before[0].Email.Masked(), "now: "+after[0].Email.Masked()
	}
	if receipt.Already {
		line[4] = fmt.Sprintf("entry %d, before this run", receipt.Seq)
	}
	return line, nil
}

// openAll opens every row and compares it with the file.
func (d *demo) openAll(ctx context.Context) error {
	start := time.Now()
	inFile := make(map[string]*person, len(d.people))
	for i := range d.people {
		inFile[d.people[i].id] = &d.people[i]
	}
	bar := newProgress(d.progress, "opening", d.rows)
	var total, equal, other, gone, damaged int
	for last := ""; ; {
		rows, err := d.table.after(ctx, last, openBatch)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		var bad *lethe.RowErrors
		if err := d.customers.OpenSlice(ctx, rows); err != nil && !errors.As(err, &bad) {
			return fmt.Errorf("open: %w", err)
		}
		for i := range rows {
			p := inFile[rows[i].ID]
			switch {
			case rows[i].Email.Status() == lethe.StatusForgotten:
				gone++
			case failed(bad, i):
				damaged++
			case p != nil && p.same(&rows[i]):
				equal++
			default:
				other++
			}
		}
		total += len(rows)
		last = rows[len(rows)-1].ID
		bar.add(len(rows))
	}
	text := fmt.Sprintf("%s rows: %s open, as in the file, %s forgotten", count(total), count(equal), count(gone))
	if other > 0 {
		text += fmt.Sprintf(", %s open, unlike the file", count(other))
	}
	d.title("Open everything", text, time.Since(start))
	if damaged > 0 {
		return fmt.Errorf("%s rows do not open: they are damaged, or were sealed with another key store", count(damaged))
	}
	return nil
}

func failed(bad *lethe.RowErrors, row int) bool {
	return bad != nil && slices.ContainsFunc(bad.Errors, func(e lethe.RowError) bool { return e.Index == row })
}
