package migrate

import (
	"context"
	"database/sql"
	"errors"

	"github.com/lethe-go/lethe"
)

// ErrContended means that the service changed a row again and again while the job
// tried to write it.
var ErrContended = errors.New("migrate: the row changed whenever the job was about to write it; run the job again")

// update writes rows of a page in a transaction, and returns those that are not any
// more as they were read, which it leaves.
func (p *page) update(ctx context.Context, tx *sql.Tx, write []int) (lost []int, err error) {
	if len(write) == 0 {
		return nil, nil
	}
	if p.l.Dialect == lethe.Postgres {
		return p.updatePostgres(ctx, tx, write)
	}
	return p.updateSQLite(ctx, tx, write)
}

func (p *page) updatePostgres(ctx context.Context, tx *sql.Tx, write []int) ([]int, error) {
	ordinals := newArray(asInt, len(write))
	for _, i := range write {
		if err := ordinals.add(int64(i)); err != nil {
			return nil, err
		}
	}
	args := []any{ordinals.arg()}
	take := func(form form, value func(i int) (any, error)) error {
		a := newArray(form, len(write))
		for _, i := range write {
			v, err := value(i)
			if err != nil {
				return err
			}
			if err := a.add(v); err != nil {
				return err
			}
		}
		args = append(args, a.arg())
		return nil
	}
	for k := range p.l.keys {
		if err := take(p.l.keys[k].form, func(i int) (any, error) { return p.meta[i].key[k], nil }); err != nil {
			return nil, err
		}
	}
	n := 0
	for c := range p.l.columns {
		if p.l.columns[c].use&guards == 0 {
			continue
		}
		at := n
		n++
		if err := take(p.l.columns[c].form, func(i int) (any, error) { return p.meta[i].raw[at], nil }); err != nil {
			return nil, err
		}
	}
	n = 0
	for c := range p.l.columns {
		c := &p.l.columns[c]
		at := n
		if c.use&guards != 0 {
			n++
		}
		if c.use&writes == 0 {
			continue
		}
		if err := take(c.form, func(i int) (any, error) { return c.value(p.rows.Index(i), p.meta[i].raw[at]) }); err != nil {
			return nil, err
		}
	}
	args = p.l.withTenant(args)
	rows, err := tx.QueryContext(ctx, p.l.pgUpdate(), args...)
	if err != nil {
		return nil, quiet(err)
	}
	defer func() { _ = rows.Close() }()
	written := make([]bool, p.len())
	for rows.Next() {
		var i int
		if err := rows.Scan(&i); err != nil {
			return nil, err
		}
		written[i] = true
	}
	var lost []int
	for _, i := range write {
		if !written[i] {
			lost = append(lost, i)
		}
	}
	return lost, quiet(rows.Err())
}

func (p *page) updateSQLite(ctx context.Context, tx *sql.Tx, write []int) (lost []int, err error) {
	stmt, err := tx.PrepareContext(ctx, p.l.sqliteUpdate())
	if err != nil {
		return nil, err
	}
	defer func() { _ = stmt.Close() }()
	var args []any
	for _, i := range write {
		args = args[:0]
		n := 0
		for c := range p.l.columns {
			c := &p.l.columns[c]
			at := n
			if c.use&guards != 0 {
				n++
			}
			if c.use&writes == 0 {
				continue
			}
			v, err := c.value(p.rows.Index(i), p.meta[i].raw[at])
			if err != nil {
				return nil, err
			}
			args = append(args, v)
		}
		args = append(args, p.meta[i].key...)
		args = p.l.withTenant(append(args, p.meta[i].raw...))
		done, err := one(stmt.ExecContext(ctx, args...))
		if err != nil {
			return nil, quiet(err)
		}
		if !done {
			lost = append(lost, i)
		}
	}
	return lost, nil
}
