package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

//go:embed migrations
var migrations embed.FS

// Migrate creates or updates the table, in one transaction. It may be called at
// any time and by many processes at once; a store that is up to date is not
// touched. A table of a newer version of this package is refused.
func (s *Store) Migrate(ctx context.Context) error {
	files, err := fs.Glob(migrations, "migrations/"+s.d.name()+"/*.sql")
	if err != nil || len(files) == 0 {
		return fmt.Errorf("sqlstore: no migrations for %s: %w", s.d.name(), err)
	}
	return fail(ctx, s.d.write(ctx, func(q querier) error {
		if err := s.d.lock(ctx, q); err != nil {
			return err
		}
		if _, err := q.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS lethe_token_schema (version BIGINT PRIMARY KEY)"); err != nil {
			return err
		}
		var at sql.NullInt64
		if err := q.QueryRowContext(ctx, "SELECT MAX(version) FROM lethe_token_schema").Scan(&at); err != nil {
			return err
		}
		if at.Int64 > int64(len(files)) {
			return fmt.Errorf("the table is of version %d and this program knows %d: deploy the newer program", at.Int64, len(files))
		}
		for i, file := range files[at.Int64:] {
			version := at.Int64 + int64(i) + 1
			if err := apply(ctx, q, file, version); err != nil {
				return fmt.Errorf("migration %d: %w", version, err)
			}
		}
		return nil
	}))
}

func apply(ctx context.Context, q querier, file string, version int64) error {
	base := file[strings.LastIndexByte(file, '/')+1:]
	if n, err := strconv.ParseInt(strings.SplitN(base, "_", 2)[0], 10, 64); err != nil || n != version {
		return errors.New(base + " is out of order")
	}
	text, err := migrations.ReadFile(file)
	if err != nil {
		return err
	}
	for statement := range strings.SplitSeq(string(text), ";") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := q.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	_, err = q.ExecContext(ctx, "INSERT INTO lethe_token_schema (version) VALUES ($1)", version)
	return err
}
