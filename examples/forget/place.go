package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/lethe-go/lethe/envelope/sqlstore"
)

// place is where the key stores and the tables are: SQLite files in a directory,
// or schemas of a PostgreSQL database.
type place struct {
	dir    string
	dsn    string // "" means SQLite
	keep   bool   // the schemas
	admin  *sql.DB
	prefix string
	made   []string // schemas
}

func newPlace(cfg config) (*place, error) {
	p := &place{dir: cfg.dir, dsn: cfg.dsn, keep: cfg.keep}
	if cfg.dsn == "" {
		return p, nil
	}
	if u, err := url.Parse(cfg.dsn); err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New("-db is not a PostgreSQL address like postgres://user@host:5432/database")
	}
	p.prefix = fmt.Sprintf("lethe_drill_%x_", time.Now().UnixNano())
	var err error
	p.admin, err = sql.Open("pgx", cfg.dsn)
	return p, err
}

func (p *place) close(ctx context.Context) error {
	if p.admin == nil {
		return nil
	}
	var errs []error
	for _, schema := range p.made {
		if p.keep {
			break
		}
		_, err := p.admin.ExecContext(ctx, "DROP SCHEMA "+schema+" CASCADE")
		errs = append(errs, err)
	}
	return errors.Join(append(errs, p.admin.Close())...)
}

func (p *place) file(name string) string { return filepath.Join(p.dir, name+".db") }

// open opens the key store of a name: the one in use, or a copy of it.
func (p *place) open(ctx context.Context, name string) (*sqlstore.Store, error) {
	if p.admin == nil {
		return sqlstore.OpenSQLite(ctx, p.file(name))
	}
	dsn, err := p.url(name)
	if err != nil {
		return nil, err
	}
	return sqlstore.OpenPostgres(ctx, dsn)
}

// db opens a database with the application's table.
func (p *place) db(name string) (*sql.DB, error) {
	if p.admin == nil {
		return sql.Open("sqlite", p.file(name))
	}
	dsn, err := p.url(name)
	if err != nil {
		return nil, err
	}
	return sql.Open("pgx", dsn)
}

// url is the database, with the schema of a name as the only one that is looked in.
func (p *place) url(name string) (string, error) {
	u, err := url.Parse(p.dsn)
	if err != nil {
		return "", errors.New("the URL of the database cannot be parsed")
	}
	q := u.Query()
	q.Set("search_path", p.prefix+name)
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// create makes room for a key store or a table.
func (p *place) create(ctx context.Context, name string) error {
	if p.admin == nil {
		return nil
	}
	_, err := p.admin.ExecContext(ctx, "CREATE SCHEMA "+p.prefix+name)
	if err == nil {
		p.made = append(p.made, p.prefix+name)
	}
	return err
}

// copy is a backup, and its restoration: every table, from one moment. In SQLite
// it is VACUUM INTO; in PostgreSQL copies of the tables, with their constraints, in
// a further schema, which for an intruder is as good as a dump.
func (p *place) copy(ctx context.Context, from, to string) (err error) {
	if p.admin == nil {
		db, err := p.db(from)
		if err != nil {
			return err
		}
		_, err = db.ExecContext(ctx, "VACUUM INTO ?", p.file(to))
		return errors.Join(err, db.Close())
	}
	if err := p.create(ctx, to); err != nil {
		return err
	}
	tx, err := p.admin.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return err
	}
	defer func() {
		if rolledBack := tx.Rollback(); !errors.Is(rolledBack, sql.ErrTxDone) {
			err = errors.Join(err, rolledBack)
		}
	}()
	var tables string
	if err := tx.QueryRowContext(ctx, "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = $1", p.prefix+from).Scan(&tables); err != nil {
		return err
	}
	for table := range strings.SplitSeq(tables, ",") {
		a, b := p.prefix+from+"."+table, p.prefix+to+"."+table
		if _, err := tx.ExecContext(ctx, "CREATE TABLE "+b+" (LIKE "+a+" INCLUDING ALL)"); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO "+b+" SELECT * FROM "+a); err != nil { //nolint:gosec,unqueryvet // a backup has every column; the names are our own
			return err
		}
	}
	return tx.Commit()
}
