package measure

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/lethe-go/lethe/envelope/sqlstore"
)

// place is where the key store and the tables are: SQLite files, or a schema of a
// PostgreSQL database.
type place struct {
	store    *sqlstore.Store
	db       *sql.DB // the tables of records and of plain wrapped keys
	keys     *sql.DB // the key store's database, to be asked for its size
	version  string
	admin    *sql.DB // PostgreSQL only
	schema   string
	postgres bool
}

func openPlace(ctx context.Context, dir, dsn string) (p *place, err error) {
	p = &place{postgres: dsn != ""}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close(context.WithoutCancel(ctx)))
			p = nil
		}
	}()
	if p.postgres {
		err = p.openPostgres(ctx, dsn)
	} else {
		err = p.openSQLite(ctx, dir)
	}
	if err != nil {
		return p, err
	}
	if err := p.store.Migrate(ctx); err != nil {
		return p, err
	}
	blob := "BLOB"
	if p.postgres {
		blob = "BYTEA"
	}
	for _, table := range []string{
		"CREATE TABLE records (id TEXT PRIMARY KEY, keys X NOT NULL, c0 X, c1 X, c2 X, c3 X, c4 X)",
		"CREATE TABLE plainkeys (id TEXT PRIMARY KEY, wrapped X NOT NULL)",
	} {
		if _, err := p.db.ExecContext(ctx, strings.ReplaceAll(table, " X", " "+blob)); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p *place) openSQLite(ctx context.Context, dir string) error {
	path := filepath.Join(dir, "keys.db")
	var err error
	if p.store, err = sqlstore.OpenSQLite(ctx, path); err != nil {
		return err
	}
	source := func(path string) string {
		return "file:" + url.PathEscape(path) + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	}
	if p.keys, err = sql.Open("sqlite", source(path)); err != nil {
		return err
	}
	if p.db, err = sql.Open("sqlite", source(filepath.Join(dir, "records.db"))); err != nil {
		return err
	}
	var version string
	err = p.db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version)
	p.version = "SQLite " + version
	return err
}

func (p *place) openPostgres(ctx context.Context, dsn string) error {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return errors.New("the database's address is not one of PostgreSQL: give postgres://user@host:5432/database")
	}
	if p.admin, err = sql.Open("pgx", dsn); err != nil {
		return err
	}
	schema := "lethe_bench_" + strings.ToLower(rand.Text())
	if _, err := p.admin.ExecContext(ctx, "CREATE SCHEMA "+schema); err != nil {
		return err
	}
	p.schema = schema
	query := u.Query()
	query.Set("search_path", schema)
	u.RawQuery = query.Encode()
	if p.store, err = sqlstore.OpenPostgres(ctx, u.String()); err != nil {
		return err
	}
	if p.db, err = sql.Open("pgx", u.String()); err != nil {
		return err
	}
	p.keys = p.db
	var version string
	err = p.db.QueryRowContext(ctx, "SHOW server_version").Scan(&version)
	number, _, _ := strings.Cut(version, " ")
	p.version = "PostgreSQL " + number
	return err
}

func (p *place) close(ctx context.Context) error {
	var errs []error
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	if p.keys != nil && p.keys != p.db {
		errs = append(errs, p.keys.Close())
	}
	if p.db != nil {
		errs = append(errs, p.db.Close())
	}
	if p.schema != "" {
		_, err := p.admin.ExecContext(ctx, "DROP SCHEMA "+p.schema+" CASCADE")
		errs = append(errs, err)
	}
	if p.admin != nil {
		errs = append(errs, p.admin.Close())
	}
	return errors.Join(errs...)
}

// bind writes parameters as the database does: $1, or ?1.
func (p *place) bind(query string) string {
	if p.postgres {
		return query
	}
	return strings.ReplaceAll(query, "$", "?")
}

// storeBytes is the size of the key store's tables with their indexes.
func (p *place) storeBytes(ctx context.Context) (n float64, err error) {
	if p.postgres {
		err = p.keys.QueryRowContext(ctx, `SELECT COALESCE(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname LIKE 'lethe\_%'`, p.schema).Scan(&n)
		return n, err
	}
	return sqliteBytes(ctx, p.keys)
}

// plainKeyBytes is the size of the table of plain wrapped keys with its index.
func (p *place) plainKeyBytes(ctx context.Context) (n float64, err error) {
	if p.postgres {
		err = p.db.QueryRowContext(ctx, "SELECT pg_total_relation_size('plainkeys')").Scan(&n)
		return n, err
	}
	return sqliteBytes(ctx, p.db)
}

// sqliteBytes is what the pages in use take.
func sqliteBytes(ctx context.Context, db *sql.DB) (float64, error) {
	var pages, free, size float64
	err := db.QueryRowContext(ctx, "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size").Scan(&pages, &free, &size)
	if err != nil {
		return 0, fmt.Errorf("the size of the database: %w", err)
	}
	return (pages - free) * size, nil
}
