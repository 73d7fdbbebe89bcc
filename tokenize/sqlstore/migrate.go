package sqlstore

import (
	"context"
	"embed"

	"github.com/lethe-go/lethe/internal/sqlopen"
)

//go:embed migrations
var migrations embed.FS

// lockKey is ours among the database's advisory locks: "lethtokn".
const lockKey = 0x6c657468746f6b6e

// Migrate creates or updates the table, in one transaction. It may be called at
// any time and by many processes at once; a store that is up to date is not
// touched. A table of a newer version of this package is refused.
func (s *Store) Migrate(ctx context.Context) error {
	return fail(ctx, sqlopen.Migrate(ctx, s.d, migrations, "lethe_token_schema", lockKey))
}
