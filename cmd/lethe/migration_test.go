package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
)

const plainYAML = `  people:
    key: [id]
    columns:
      id:           {type: int, lethe: "subject=customer"}
      sealed_keys:  {type: keys, lethe: people}
      email:        {type: plain string, lethe: "plain=email"}
      email_sealed: {type: secret string, lethe: "email,mask=email"}
      points:       {type: plain int, lethe: "plain=points"}
      points_sealed: {type: secret int, lethe: "points"}
`

func TestBackfillAndUnsealSQLite(t *testing.T)   { thereAndBack(t, newSite(t)) }
func TestBackfillAndUnsealPostgres(t *testing.T) { thereAndBack(t, newPostgresSite(t)) }

// thereAndBack moves a plaintext table into sealed columns, and back.
func thereAndBack(t *testing.T, s *site) {
	text, err := readInput(s.file("lethe.yaml"))
	require.NoError(t, err)
	s.write("lethe.yaml", string(text)+plainYAML)
	s.must("init")
	stack := s.open()
	blob := "BLOB"
	if stack.Dialect == lethe.Postgres {
		blob = "BYTEA"
	}
	_, err = stack.DB.ExecContext(t.Context(), "CREATE TABLE people (id BIGINT NOT NULL PRIMARY KEY, email TEXT, points BIGINT, sealed_keys "+blob+", email_sealed "+blob+", points_sealed "+blob+")")
	require.NoError(t, err)
	for i := range 20 {
		_, err = stack.DB.ExecContext(t.Context(), "INSERT INTO people (id, email, points) VALUES ($1, $2, $3)", i+1, email(i), i*i)
		require.NoError(t, err)
	}
	count := func(where string) (n int) {
		require.NoError(t, stack.DB.QueryRowContext(t.Context(), "SELECT count(*) FROM people WHERE "+where).Scan(&n))
		return n
	}
	dry := decodeAnswer[jobResult](t, s.must("backfill", "people", "--dry-run", "--json"))
	require.EqualValues(t, 20, dry.Estimate.Change)
	require.Zero(t, count("sealed_keys IS NOT NULL"))
	require.Equal(t, exitTrouble, s.run("", "backfill", "people").code, "without --yes")
	require.Equal(t, exitTrouble, s.run("", "unseal", "people").code, "without --yes")
	require.Equal(t, exitTrouble, s.run("", "backfill", "customers", "--yes").code, "it has no plaintext column")

	job := decodeAnswer[jobResult](t, s.must("backfill", "people", "--keep", "--json"))
	require.EqualValues(t, 20, job.All.Changed)
	require.Equal(t, 20, count("email IS NOT NULL AND email_sealed IS NOT NULL AND points_sealed IS NOT NULL"))
	s.must("backfill", "people", "--yes")
	require.Equal(t, 20, count("email IS NULL AND points IS NULL AND email_sealed IS NOT NULL"))
	require.Contains(t, s.must("inventory", "people"), "| people | email_sealed")

	// What a forget leaves in plaintext is no success.
	stop := s.run("", "forget", "--kind", "customer", "--id", "20", "--yes")
	require.Zero(t, stop.code)
	require.Contains(t, stop.stderr, "is not erased")
	_, err = stack.DB.ExecContext(t.Context(), "UPDATE people SET email = 'left@example.com' WHERE id = 20")
	require.NoError(t, err)
	left := s.run("", "backfill", "people", "--yes")
	require.Equal(t, exitPartly, left.code, left.stderr)
	require.Contains(t, left.stderr, "still hold their plaintext")
	_, err = stack.DB.ExecContext(t.Context(), "DELETE FROM people WHERE id = 20")
	require.NoError(t, err)
	s.must("backfill", "people", "--yes")

	s.must("unseal", "people", "--yes")
	require.Equal(t, 19, count("email_sealed IS NULL AND points IS NOT NULL AND sealed_keys IS NULL"))
	var got string
	require.NoError(t, stack.DB.QueryRowContext(t.Context(), "SELECT email FROM people WHERE id = 8 AND points = 49").Scan(&got))
	require.Equal(t, email(7), got)
}
