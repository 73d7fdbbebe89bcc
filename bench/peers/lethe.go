package peers

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"slices"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
)

type letheRow struct {
	Keys  lethe.Keys           `lethe:"customers"`
	ID    string               `lethe:"subject=customer"`
	Name  lethe.Secret[string] `lethe:"name"`
	Email lethe.Secret[string] `lethe:"email"`
	Phone lethe.Secret[string] `lethe:"phone"`
	IBAN  lethe.Secret[string] `lethe:"iban"`
	Note  lethe.Secret[string] `lethe:"note"`
}

func (row *letheRow) set(id string, in *Record) {
	*row = letheRow{
		ID: id, Name: lethe.Of(in.Name), Email: lethe.Of(in.Email), Phone: lethe.Of(in.Phone),
		IBAN: lethe.Of(in.IBAN), Note: lethe.Of(in.Note),
	}
}

// store sets out to the values a database gets.
func (row *letheRow) store(out *Stored) error {
	for i, column := range [6]driver.Valuer{row.Keys, row.Name, row.Email, row.Phone, row.IBAN, row.Note} {
		v, err := column.Value()
		if err != nil {
			return err
		}
		b, ok := v.([]byte)
		if !ok {
			return errType
		}
		out.Columns[i] = b
	}
	return nil
}

// load scans the values a database has.
func (row *letheRow) load(id string, in *Stored) error {
	*row = letheRow{ID: id}
	for i, column := range [6]sql.Scanner{&row.Keys, &row.Name, &row.Email, &row.Phone, &row.IBAN, &row.Note} {
		if err := column.Scan(in.Columns[i]); err != nil {
			return err
		}
	}
	return nil
}

func (row *letheRow) reveal(out *Record) (err error) {
	if out.Name, err = row.Name.Reveal(); err != nil {
		return err
	}
	if out.Email, err = row.Email.Reveal(); err != nil {
		return err
	}
	if out.Phone, err = row.Phone.Reveal(); err != nil {
		return err
	}
	if out.IBAN, err = row.IBAN.Reveal(); err != nil {
		return err
	}
	out.Note, err = row.Note.Reveal()
	return err
}

type letheAdapter struct {
	*kek
	ring   *envelope.Keyring
	sealer *lethe.Sealer[letheRow]
	ids    []string
	rows   []letheRow
}

func newLethe(ctx context.Context) (Adapter, error) {
	key, err := newKEK()
	if err != nil {
		return nil, err
	}
	store, opts := memstore.New(), envelope.Options{Ledger: &memledger.Ledger{}}
	if err := envelope.Init(ctx, store, key, opts); err != nil {
		return nil, err
	}
	ring, err := envelope.NewKeyring(ctx, store, key, opts)
	if err != nil {
		return nil, err
	}
	sealer, err := lethe.For[letheRow](ring)
	if err != nil {
		ring.Close()
		return nil, err
	}
	a := &letheAdapter{kek: key, ring: ring, sealer: sealer, ids: subjectIDs()}
	warm := make([]letheRow, Subjects)
	for i := range warm {
		warm[i].set(a.ids[i], &Sample)
	}
	if err := sealer.SealSlice(ctx, warm); err != nil {
		ring.Close()
		return nil, err
	}
	return a, nil
}

func (a *letheAdapter) Close() { a.ring.Close() }

func (a *letheAdapter) Seal(ctx context.Context, subject int, in *Record, out *Stored) error {
	var row letheRow
	row.set(a.ids[subject], in)
	if err := a.sealer.Seal(ctx, &row); err != nil {
		return err
	}
	return row.store(out)
}

func (a *letheAdapter) Open(ctx context.Context, subject int, in *Stored, out *Record) error {
	var row letheRow
	if err := row.load(a.ids[subject], in); err != nil {
		return err
	}
	if err := a.sealer.Open(ctx, &row); err != nil {
		return err
	}
	return row.reveal(out)
}

func (a *letheAdapter) SealSlice(ctx context.Context, subjects []int, in []Record, out []Stored) error {
	rows := a.scratch(len(subjects))
	for i, subject := range subjects {
		rows[i].set(a.ids[subject], &in[i])
	}
	if err := a.sealer.SealSlice(ctx, rows); err != nil {
		return err
	}
	for i := range rows {
		if err := rows[i].store(&out[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *letheAdapter) OpenSlice(ctx context.Context, subjects []int, in []Stored, out []Record) error {
	rows := a.scratch(len(subjects))
	for i, subject := range subjects {
		if err := rows[i].load(a.ids[subject], &in[i]); err != nil {
			return err
		}
	}
	if err := a.sealer.OpenSlice(ctx, rows); err != nil {
		return err
	}
	for i := range rows {
		if err := rows[i].reveal(&out[i]); err != nil {
			return err
		}
	}
	return nil
}

// scratch is the slice a service would read its rows into, again and again.
func (a *letheAdapter) scratch(n int) []letheRow {
	a.rows = slices.Grow(a.rows[:0], n)[:n]
	return a.rows
}
