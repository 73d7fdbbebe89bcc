package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lethe-go/lethe/envelope"
)

type postgres struct{ db *sql.DB }

func (*postgres) name() string { return "postgres" }

func (*postgres) bind(query string) string {
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(query, "?") {
		if n > 0 {
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}

func (*postgres) inBlobs(values [][]byte) (string, any) { return "= ANY(?::bytea[])", values }
func (*postgres) inInts(values []int64) (string, any)   { return "= ANY(?::bigint[])", values }

func (*postgres) keysOf() string {
	return `unnest(?::bytea[]) AS want(sref)
		CROSS JOIN LATERAL (SELECT * FROM lethe_key WHERE tree = ? AND ref_ver = ? AND sref = want.sref OFFSET 0) k
		LEFT JOIN LATERAL (SELECT * FROM lethe_page WHERE tree = k.tree AND page = k.page OFFSET 0) p ON true`
}

const raceAttempts = 10

func (d *postgres) write(ctx context.Context, fn func(q querier) error) error {
	for attempt := 1; ; attempt++ {
		err := d.once(ctx, fn)
		var e *pgconn.PgError
		lost := errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01") // serialization failure, deadlock
		if !lost || attempt == raceAttempts {
			return err
		}
	}
}

// once never relies on the default isolation level: in a stricter one, an Insert
// that waited for a Forget's lock would read the tombs as they were before it.
func (d *postgres) once(ctx context.Context, fn func(q querier) error) error {
	return inTx(ctx, d.db, &sql.TxOptions{Isolation: sql.LevelReadCommitted}, fn)
}

func (d *postgres) snapshot(ctx context.Context, fn func(q querier) error) error {
	return inTx(ctx, d.db, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}, fn)
}

func inTx(ctx context.Context, db *sql.DB, opts *sql.TxOptions, fn func(q querier) error) error {
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	return tx.Commit()
}

// ignoreDone drops the error of rolling back what is over already.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// lockClass sets our advisory locks apart from the application's: "leth".
const lockClass = 0x6c657468

func (*postgres) lock(ctx context.Context, q querier, tree envelope.TreeID, shared bool) error {
	name := "pg_advisory_xact_lock"
	if shared {
		name += "_shared"
	}
	_, err := q.ExecContext(ctx, "SELECT "+name+"($1)", int64(lockClass)<<32|int64(tree))
	return err
}

func (*postgres) noTable(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "42P01"
}

func (*postgres) wipe(context.Context) {} // only VACUUM FULL and the end of the WAL archive do
