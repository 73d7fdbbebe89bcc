package main

import (
	"context"
	"database/sql"
	"database/sql/driver"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
)

type secret = lethe.Secret[string]

// The rows differ in their number of sealed fields.
type (
	row1 struct {
		Keys lethe.Keys `lethe:"rows"`
		ID   string     `lethe:"subject=customer"`
		A    secret     `lethe:"a"`
	}
	row2 struct {
		Keys lethe.Keys `lethe:"rows"`
		ID   string     `lethe:"subject=customer"`
		A    secret     `lethe:"a"`
		B    secret     `lethe:"b"`
	}
	five struct {
		A secret `lethe:"a"`
		B secret `lethe:"b"`
		C secret `lethe:"c"`
		D secret `lethe:"d"`
		E secret `lethe:"e"`
	}
	row5 struct {
		Keys lethe.Keys `lethe:"rows"`
		ID   string     `lethe:"subject=customer"`
		A    five       `lethe:"a"`
	}
	row10 struct {
		Keys lethe.Keys `lethe:"rows"`
		ID   string     `lethe:"subject=customer"`
		A    five       `lethe:"a"`
		B    five       `lethe:"b"`
	}
	row20 struct {
		Keys lethe.Keys `lethe:"rows"`
		ID   string     `lethe:"subject=customer"`
		A    five       `lethe:"a"`
		B    five       `lethe:"b"`
		C    five       `lethe:"c"`
		D    five       `lethe:"d"`
	}
	row50 struct {
		Keys lethe.Keys `lethe:"rows"`
		ID   string     `lethe:"subject=customer"`
		A    five       `lethe:"a"`
		B    five       `lethe:"b"`
		C    five       `lethe:"c"`
		D    five       `lethe:"d"`
		E    five       `lethe:"e"`
		F    five       `lethe:"f"`
		G    five       `lethe:"g"`
		H    five       `lethe:"h"`
		I    five       `lethe:"i"`
		J    five       `lethe:"j"`
	}
)

func (f *five) secrets() []*secret { return []*secret{&f.A, &f.B, &f.C, &f.D, &f.E} }

func join(parts ...*five) []*secret {
	var all []*secret
	for _, f := range parts {
		all = append(all, f.secrets()...)
	}
	return all
}

// parts gives what a row is made of.
type parts[T any] func(row *T) (keys *lethe.Keys, id *string, secrets []*secret)

func parts1(r *row1) (*lethe.Keys, *string, []*secret) { return &r.Keys, &r.ID, []*secret{&r.A} }
func parts2(r *row2) (*lethe.Keys, *string, []*secret) { return &r.Keys, &r.ID, []*secret{&r.A, &r.B} }
func parts5(r *row5) (*lethe.Keys, *string, []*secret) { return &r.Keys, &r.ID, join(&r.A) }
func parts10(r *row10) (*lethe.Keys, *string, []*secret) {
	return &r.Keys, &r.ID, join(&r.A, &r.B)
}

func parts20(r *row20) (*lethe.Keys, *string, []*secret) {
	return &r.Keys, &r.ID, join(&r.A, &r.B, &r.C, &r.D)
}

func parts50(r *row50) (*lethe.Keys, *string, []*secret) {
	return &r.Keys, &r.ID, join(&r.A, &r.B, &r.C, &r.D, &r.E, &r.F, &r.G, &r.H, &r.I, &r.J)
}

// table makes rows of one type, and rows as they come from a database.
type table[T any] struct {
	sealer *lethe.Sealer[T]
	parts  parts[T]
	value  string
}

func newTable[T any](ring *envelope.Keyring, p parts[T], value string) (*table[T], error) {
	sealer, err := lethe.For[T](ring)
	if err != nil {
		return nil, err
	}
	return &table[T]{sealer, p, value}, nil
}

// plain sets row to a new one of a subject.
func (t *table[T]) plain(row *T, id string) {
	var zero T
	*row = zero
	_, at, secrets := t.parts(row)
	*at = id
	for _, s := range secrets {
		*s = lethe.Of(t.value)
	}
}

// sealed returns a stored row of each subject.
func (t *table[T]) sealed(ctx context.Context, ids []string) ([]T, error) {
	rows := make([]T, len(ids))
	for i := range rows {
		t.plain(&rows[i], ids[i])
	}
	const batch = 10_000
	for from := 0; from < len(rows); from += batch {
		if err := t.sealer.SealSlice(ctx, rows[from:min(from+batch, len(rows))]); err != nil {
			return nil, err
		}
	}
	for i := range rows {
		var stored T
		if err := t.scan(&stored, &rows[i]); err != nil {
			return nil, err
		}
		rows[i] = stored
	}
	return rows, nil
}

// scan sets row to what a database returns of a sealed one.
func (t *table[T]) scan(row, from *T) error {
	var zero T
	*row = zero
	keys, id, secrets := t.parts(row)
	fromKeys, fromID, fromSecrets := t.parts(from)
	*id = *fromID
	if err := move(fromKeys, keys); err != nil {
		return err
	}
	for i, s := range secrets {
		if err := move(fromSecrets[i], s); err != nil {
			return err
		}
	}
	return nil
}

func move(from driver.Valuer, to sql.Scanner) error {
	v, err := from.Value()
	if err != nil {
		return err
	}
	return to.Scan(v)
}
