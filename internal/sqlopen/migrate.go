package sqlopen

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Migrate brings tables up to date, in one transaction. files has a folder
// migrations/<Database.Name> of SQL files "1_name.sql", "2_name.sql", …, in which
// every statement ends with a semicolon at the end of a line. The version is kept
// in the table named versions; lock is the Lock of migrations. It may run at any
// time and in many processes at once; tables of a later version than the files
// are refused.
func Migrate(ctx context.Context, d Database, files fs.FS, versions string, lock int64) error {
	names, err := fs.Glob(files, "migrations/"+d.Name()+"/*.sql")
	if err != nil || len(names) == 0 {
		return fmt.Errorf("no migrations for %s: %w", d.Name(), err)
	}
	return d.Write(ctx, func(q Querier) error {
		if err := d.Lock(ctx, q, lock, false); err != nil {
			return err
		}
		if _, err := q.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS "+versions+" (version BIGINT PRIMARY KEY)"); err != nil {
			return err
		}
		var at sql.NullInt64
		if err := q.QueryRowContext(ctx, "SELECT MAX(version) FROM "+versions).Scan(&at); err != nil {
			return err
		}
		if at.Int64 > int64(len(names)) {
			return fmt.Errorf("the tables are of version %d and this program knows %d: deploy the newer program", at.Int64, len(names))
		}
		for i, name := range names[at.Int64:] {
			version := at.Int64 + int64(i) + 1
			if err := apply(ctx, q, files, name, version); err != nil {
				return fmt.Errorf("migration %d: %w", version, err)
			}
			if _, err := q.ExecContext(ctx, "INSERT INTO "+versions+" (version) VALUES ($1)", version); err != nil {
				return err
			}
		}
		return nil
	})
}

func apply(ctx context.Context, q Querier, files fs.FS, name string, version int64) error {
	base := name[strings.LastIndexByte(name, '/')+1:]
	if n, err := strconv.ParseInt(strings.SplitN(base, "_", 2)[0], 10, 64); err != nil || n != version {
		return errors.New(base + " is out of order")
	}
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return err
	}
	for statement := range strings.SplitSeq(strings.ReplaceAll(string(text), "\r\n", "\n"), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := q.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
