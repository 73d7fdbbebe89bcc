package sqlstore

import (
	"context"
	"embed"

	"github.com/lethe-go/lethe/internal/sqlopen"
)

//go:embed migrations
var migrations embed.FS

// Migrate creates or updates the tables, in one transaction. It may be called at
// any time and by many processes at once; a store that is up to date is not
// touched. Tables of a newer version of this package are refused. A process of an
// earlier version that is still running loses nothing it has written, and then fails
// at rows that it cannot read or write: replace it.
func (s *Store) Migrate(ctx context.Context) error {
	return fail(ctx, sqlopen.Migrate(ctx, s.d, migrations, "lethe_schema", lockKey(0)))
}
