// Package testdb gives tests databases and disks of their own. It imports no driver:
// a test brings "pgx" (github.com/jackc/pgx/v5/stdlib) along.
package testdb

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// PostgresEnv is the variable with the URL of a scratch server.
const PostgresEnv = "LETHE_TEST_POSTGRES"

// PostgresURL is the scratch server's, with settings such as "deadlock_timeout=1h"
// for every connection. The test is skipped where there is none.
func PostgresURL(t testing.TB, settings ...string) string {
	t.Helper()
	dsn := os.Getenv(PostgresEnv)
	if dsn == "" {
		t.Skip(PostgresEnv + " is not set: PostgreSQL is NOT tested; set it to the URL of a scratch server, such as postgres://user@127.0.0.1:5432/postgres")
	}
	for _, s := range settings {
		separator := "?"
		if strings.Contains(dsn, "?") {
			separator = "&"
		}
		dsn += separator + s
	}
	return dsn
}

// Postgres makes a schema on the scratch server that goes when the test ends, and
// returns the URL of connections that use it.
func Postgres(t testing.TB, settings ...string) string {
	t.Helper()
	admin, err := sql.Open("pgx", PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	schema := "lethe_test_" + random()
	if _, err := admin.ExecContext(t.Context(), "CREATE SCHEMA "+schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.ExecContext(context.WithoutCancel(t.Context()), "DROP SCHEMA "+schema+" CASCADE"); err != nil {
			t.Error(err)
		}
		if err := admin.Close(); err != nil {
			t.Error(err)
		}
	})
	return PostgresURL(t, append(settings, "search_path="+schema)...)
}

func random() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
