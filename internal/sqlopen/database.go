// Package sqlopen opens the databases of the stores and ledgers, SQLite and
// PostgreSQL, runs their transactions and applies their migrations. Its errors
// name no package and repeat no connection string.
package sqlopen

import (
	"context"
	"database/sql"
)

// Querier is a database, a connection or a transaction.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// Database is what SQLite and PostgreSQL do differently for every store.
// Implementations are safe for concurrent use.
type Database interface {
	// Name is "sqlite" or "postgres".
	Name() string
	// Write runs fn in a transaction that commits before Write returns, again if it lost a
	// race. When it fails nothing was written, unless the connection broke at the end.
	Write(ctx context.Context, fn func(q Querier) error) error
	// Snapshot runs fn in a transaction that only reads and sees one moment.
	Snapshot(ctx context.Context, fn func(q Querier) error) error
	// Lock serializes the transaction with others that lock key: those that share with
	// those that do not, until its end.
	Lock(ctx context.Context, q Querier, key int64, shared bool) error
	// NoTable tells an error for a missing table.
	NoTable(err error) bool
}
