package measure

import (
	"context"
	"database/sql"
	"errors"
)

// batch is how many records are read, changed and written at once.
const batch = 500

const columns = "keys, c0, c1, c2, c3, c4"

// insert writes new records in one transaction.
func (p *place) insert(ctx context.Context, rows []record) error {
	return p.inTx(ctx, "INSERT INTO records (id, "+columns+") VALUES ($1, $2, $3, $4, $5, $6, $7)", func(exec func(args ...any) error) error {
		for i := range rows {
			header, cells, err := rows[i].bytes()
			if err == nil {
				err = exec(rows[i].ID, header, cells[0], cells[1], cells[2], cells[3], cells[4])
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// read returns the records whose ids follow after, in order.
func (p *place) read(ctx context.Context, after string, limit int) (out []record, err error) {
	rows, err := p.db.QueryContext(ctx, p.bind("SELECT id, "+columns+" FROM records WHERE id > $1 ORDER BY id LIMIT $2"), after, limit)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r record
		s := r.secrets()
		if err := rows.Scan(&r.ID, &r.Keys, s[0], s[1], s[2], s[3], s[4]); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// writeKeys writes the headers of records that were wrapped anew.
func (p *place) writeKeys(ctx context.Context, rows []record) error {
	if p.postgres {
		ids, keys := make([]string, len(rows)), make([][]byte, len(rows))
		for i := range rows {
			ids[i], keys[i] = rows[i].ID, rows[i].Keys.Bytes()
		}
		_, err := p.db.ExecContext(ctx, "UPDATE records r SET keys = n.keys FROM unnest($1::text[], $2::bytea[]) AS n(id, keys) WHERE r.id = n.id", ids, keys)
		return err
	}
	return p.inTx(ctx, "UPDATE records SET keys = $1 WHERE id = $2", func(exec func(args ...any) error) error {
		for i := range rows {
			if err := exec(rows[i].Keys.Bytes(), rows[i].ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// writeAll writes records that were sealed anew.
func (p *place) writeAll(ctx context.Context, rows []record) error {
	ids, keys := make([]string, len(rows)), make([][]byte, len(rows))
	var all [fields][][]byte
	for i := range rows {
		header, cells, err := rows[i].bytes()
		if err != nil {
			return err
		}
		ids[i], keys[i] = rows[i].ID, header
		for j := range cells {
			all[j] = append(all[j], cells[j])
		}
	}
	if p.postgres {
		_, err := p.db.ExecContext(ctx, `UPDATE records r SET keys = n.keys, c0 = n.c0, c1 = n.c1, c2 = n.c2, c3 = n.c3, c4 = n.c4
			FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[]) AS n(id, keys, c0, c1, c2, c3, c4) WHERE r.id = n.id`,
			ids, keys, all[0], all[1], all[2], all[3], all[4])
		return err
	}
	return p.inTx(ctx, "UPDATE records SET keys = $1, c0 = $2, c1 = $3, c2 = $4, c3 = $5, c4 = $6 WHERE id = $7", func(exec func(args ...any) error) error {
		for i := range ids {
			if err := exec(keys[i], all[0][i], all[1][i], all[2][i], all[3][i], all[4][i], ids[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// inTx runs one statement many times in a transaction.
func (p *place) inTx(ctx context.Context, query string, fn func(exec func(args ...any) error) error) (err error) {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			if undo := tx.Rollback(); undo != nil && !errors.Is(undo, sql.ErrTxDone) {
				err = errors.Join(err, undo)
			}
		}
	}()
	stmt, err := tx.PrepareContext(ctx, p.bind(query))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stmt.Close()) }()
	if err := fn(func(args ...any) error { _, err := stmt.ExecContext(ctx, args...); return err }); err != nil {
		return err
	}
	return tx.Commit()
}
