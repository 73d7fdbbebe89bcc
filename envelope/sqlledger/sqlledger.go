// Package sqlledger is a ledger in SQLite or PostgreSQL: one row an entry,
// appended and never changed.
//
// It must be another database than the key store's, on another server or at least
// in another backup set, and its backups must be newer than the key store's can
// ever be. A ledger restored together with the key store forgets the same
// forgets, and the people in them are back; in one database every restore does
// that. The database needs no more than one small row for each forget, and must
// lose none: replicate it synchronously where the loss of a disk matters.
//
// Apply the table with Migrate, once per version; nothing else creates or changes
// it. A database, or a schema of PostgreSQL, holds the ledger of one key store.
// Triggers refuse to change or delete rows. They guard against accidents: what
// shows a change is the chain of MACs, which the Keyring checks. Rows hold keyed
// pseudonyms and key ids, no subject's id and no key.
package sqlledger

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/internal/ledgerline"
	"github.com/lethe-go/lethe/internal/sqlopen"
)

// Ledger is an envelope.Ledger in a database. It is safe for concurrent use, by
// many processes too.
type Ledger struct {
	db    *sql.DB
	d     sqlopen.Database
	owned bool
}

var _ envelope.Ledger = (*Ledger)(nil)

// OpenSQLite opens a ledger in a file of its own, made with mode 0600 if it does
// not exist. Call Migrate before its first use. Package fileledger needs no
// database and can be read with a pager.
func OpenSQLite(ctx context.Context, path string) (*Ledger, error) {
	d, err := sqlopen.OpenSQLite(ctx, path, "package memledger keeps a ledger in memory", sqlopen.Durable)
	if err != nil {
		return nil, fmt.Errorf("sqlledger: %w", err)
	}
	return &Ledger{db: d.DB, d: d, owned: true}, nil
}

// OpenPostgres opens a ledger in PostgreSQL 13 or later; dsn is a URL or key=value
// pairs as libpq takes them, of another database than the key store's. Call
// Migrate before its first use. A standby is refused: of several hosts the primary
// is used. No error repeats the dsn.
func OpenPostgres(ctx context.Context, dsn string) (*Ledger, error) {
	d, err := sqlopen.OpenPostgres(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("sqlledger: %w", err)
	}
	return &Ledger{db: d.DB, d: d, owned: true}, nil
}

// NewSQLite uses an open database of the driver "sqlite" (modernc.org/sqlite). Set
// _pragma=busy_timeout(10000) and _pragma=journal_mode(WAL) in the data source's
// name; Append fails in another journal mode and sets synchronous=FULL.
func NewSQLite(db *sql.DB) *Ledger {
	return &Ledger{db: db, d: sqlopen.NewSQLite(db, sqlopen.Durable)}
}

// NewPostgres uses an open database of pgx/v5/stdlib. It must connect to the
// primary, never to a standby.
func NewPostgres(db *sql.DB) *Ledger {
	return &Ledger{db: db, d: &sqlopen.Postgres{DB: db}}
}

// Close closes the database if the Ledger opened it.
func (l *Ledger) Close() error {
	if !l.owned {
		return nil
	}
	return l.db.Close()
}

//go:embed migrations
var migrations embed.FS

// lockKey is ours among the database's advisory locks: "lethledg".
const lockKey = 0x6c6574686c656467

// Migrate creates or updates the table, in one transaction. It may be called at
// any time and by many processes at once; a ledger that is up to date is not
// touched. A table of a newer version of this package is refused.
func (l *Ledger) Migrate(ctx context.Context) error {
	return l.fail(ctx, sqlopen.Migrate(ctx, l.d, migrations, "lethe_ledger_schema", lockKey))
}

// Append implements envelope.Ledger. The commit waits for the disk, also where the
// database's own default does not. An error other than envelope.ErrLedgerConflict
// may come after the entry was written: read the ledger before trying again.
func (l *Ledger) Append(ctx context.Context, e envelope.LedgerEntry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	line, err := ledgerline.Append(nil, &e)
	if err != nil {
		return fmt.Errorf("sqlledger: %w", err)
	}
	if e.Seq > math.MaxInt64 {
		return envelope.ErrLedgerConflict // the one before it cannot be there
	}
	return l.fail(ctx, l.d.Write(ctx, func(q sqlopen.Querier) error {
		if err := l.commitDurably(ctx, q); err != nil {
			return err
		}
		// The unique seq decides between two that append at once.
		res, err := q.ExecContext(ctx, `INSERT INTO lethe_ledger (seq, line)
			SELECT $1, $2 WHERE $1 = (SELECT COALESCE(MAX(seq), 0) + 1 FROM lethe_ledger) ON CONFLICT DO NOTHING`,
			int64(e.Seq), strings.TrimSuffix(string(line), "\n"))
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err == nil && n == 0 {
			return envelope.ErrLedgerConflict
		}
		return err
	}))
}

// commitDurably makes the end of a transaction wait for the disk. In SQLite the
// connection does.
func (l *Ledger) commitDurably(ctx context.Context, q sqlopen.Querier) error {
	if l.d.Name() == "sqlite" {
		return nil
	}
	_, err := q.ExecContext(ctx, `SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'`)
	return err
}

// Read implements envelope.Ledger. A row that is damaged or missing is an error
// that names its seq.
func (l *Ledger) Read(ctx context.Context, after uint64) ([]envelope.LedgerEntry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out, err := l.read(ctx, after)
	if err != nil {
		return nil, l.fail(ctx, err)
	}
	return out, nil
}

func (l *Ledger) read(ctx context.Context, after uint64) (out []envelope.LedgerEntry, err error) {
	last := int64(min(after, math.MaxInt64))
	rows, err := l.db.QueryContext(ctx, "SELECT seq, line FROM lethe_ledger WHERE seq > $1 ORDER BY seq", last)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for want := last + 1; rows.Next(); want++ {
		var seq int64
		var line []byte
		if err := rows.Scan(&seq, &line); err != nil {
			return nil, err
		}
		if seq != want {
			return nil, fmt.Errorf("entry %d is missing: restore the ledger from a copy", want)
		}
		e, err := ledgerline.Parse(append(line, '\n'))
		if err == nil && e.Seq != uint64(seq) {
			err = fmt.Errorf("entry %d is in its place", e.Seq)
		}
		if err != nil {
			return nil, fmt.Errorf("the row of entry %d is damaged: %w; restore the ledger from a copy", seq, err)
		}
		out = append(out, e)
	}
	return out, rows.Err()
}

// fail names the package in an error that is not of the Ledger's contract.
func (l *Ledger) fail(ctx context.Context, err error) error {
	switch {
	case err == nil, errors.Is(err, envelope.ErrLedgerConflict):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case l.d.NoTable(err):
		return fmt.Errorf("sqlledger: the database has no ledger: call Migrate: %w", err)
	}
	return fmt.Errorf("sqlledger: %w", err)
}
