package lethe_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
)

// connectPgx connects with pgx's own interface, which asks other codecs of our
// types than database/sql does.
func connectPgx(t *testing.T, mode pgx.QueryExecMode) *pgx.Conn {
	t.Helper()
	cfg := postgresSchema(t)
	cfg.DefaultQueryExecMode = mode
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) })
	_, err = conn.Exec(t.Context(), strings.ReplaceAll(customerDDL, "BLOB", "BYTEA"))
	require.NoError(t, err)
	return conn
}

func collect(t *testing.T, conn *pgx.Conn, query string, args ...any) []Customer {
	t.Helper()
	rows, err := conn.Query(t.Context(), query, args...)
	require.NoError(t, err)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[Customer])
	require.NoError(t, err)
	return out
}

func pgxCount(t *testing.T, conn *pgx.Conn) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM customers`).Scan(&n))
	return n
}

func TestPgxInEveryExecMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			conn := connectPgx(t, mode)
			s, _ := customersOf(t)
			c := newCustomer(1)
			_, err := conn.Exec(t.Context(), customerInsert, c.Keys, c.ID, c.Email, c.EmailIdx, c.Plan)
			require.ErrorIs(t, err, lethe.ErrNotSealed)
			require.NotContains(t, err.Error(), "ada1")
			require.Zero(t, pgxCount(t, conn))

			null := Customer{ID: "null"}
			for _, row := range []*Customer{&c, &null} {
				require.NoError(t, s.Seal(t.Context(), row))
				_, err = conn.Exec(t.Context(), customerInsert, row.Keys, row.ID, row.Email, row.EmailIdx, row.Plan)
				require.NoError(t, err)
			}
			var n int
			require.NoError(t, conn.QueryRow(t.Context(), `SELECT octet_length(email) FROM customers WHERE id = $1`, c.ID).Scan(&n))
			require.Equal(t, len("ada1@example.com")+29, n)

			var got Customer
			require.NoError(t, conn.QueryRow(t.Context(), customerByID, c.ID).Scan(&got.Keys, &got.ID, &got.Email, &got.EmailIdx, &got.Plan))
			require.NoError(t, s.Open(t.Context(), &got))
			require.Equal(t, "ada1@example.com", reveal(t, got.Email))
			rows := collect(t, conn, customerByOrder)
			require.Len(t, rows, 2)
			require.NoError(t, s.OpenSlice(t.Context(), rows))
			require.Equal(t, "ada1@example.com", reveal(t, rows[0].Email))
			require.Equal(t, lethe.StatusNull, rows[1].Email.Status())
			require.True(t, rows[0].EmailIdx.Equal(c.EmailIdx))

			got.Email = lethe.Of("new@example.com")
			require.NoError(t, s.Seal(t.Context(), &got))
			tag, err := conn.Exec(t.Context(), `UPDATE customers SET email = $1, email_idx = $2 WHERE id = $3 AND sealed_keys = $4`, got.Email, got.EmailIdx, got.ID, c.Keys)
			require.NoError(t, err)
			require.EqualValues(t, 1, tag.RowsAffected())
			q, err := s.Query(t.Context(), "email_idx", "NEW@example.com")
			require.NoError(t, err)
			cond, args := q.In(lethe.Postgres, "email_idx", 1)
			found := collect(t, conn, customerSelect+` WHERE `+cond, args...)
			require.Len(t, found, 1)
			require.NoError(t, s.OpenSlice(t.Context(), found))
			require.Equal(t, "new@example.com", reveal(t, found[0].Email))
		})
	}
}

func TestPgxTextColumns(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			conn := connectPgx(t, mode)
			_, err := conn.Exec(t.Context(), `DROP TABLE customers`)
			require.NoError(t, err)
			_, err = conn.Exec(t.Context(), strings.ReplaceAll(customerDDL, "BLOB", "TEXT"))
			require.NoError(t, err)
			s, _ := customersOf(t)
			full, null := newCustomer(1), Customer{ID: "null"}
			for _, c := range []*Customer{&full, &null} {
				require.NoError(t, s.Seal(t.Context(), c))
				_, err = conn.Exec(t.Context(), customerInsert, lethe.Text(c.Keys), c.ID, lethe.Text(c.Email), lethe.Text(c.EmailIdx), c.Plan)
				require.NoError(t, err)
			}
			rows := collect(t, conn, customerByOrder)
			require.NoError(t, s.OpenSlice(t.Context(), rows))
			require.Equal(t, "ada1@example.com", reveal(t, rows[0].Email))
			require.Equal(t, lethe.StatusNull, rows[1].Email.Status())

			// Without lethe.Text the bytes do not fit a text column. What must never
			// happen is that a String method's "[sealed]" takes the ciphertext's place.
			_, err = conn.Exec(t.Context(), customerInsert, full.Keys, "bare", full.Email, full.EmailIdx, full.Plan)
			if mode == pgx.QueryExecModeCacheStatement {
				require.Error(t, err)
				return
			}
			require.NoError(t, err, "pgx writes bytes of unknown type in PostgreSQL's hex form")
			var email string
			require.NoError(t, conn.QueryRow(t.Context(), `SELECT email FROM customers WHERE id = 'bare'`).Scan(&email))
			b, err := full.Email.MarshalBinary()
			require.NoError(t, err)
			require.Equal(t, `\x`+hex.EncodeToString(b), email)
		})
	}
}

func TestPgxCopyFromBatchAndANY(t *testing.T) {
	t.Parallel()
	conn := connectPgx(t, pgx.QueryExecModeCacheStatement)
	s, ring := customersOf(t)
	columns := []string{"sealed_keys", "id", "email", "email_idx", "plan"}
	copyIn := func(rows []Customer) (int64, error) {
		return conn.CopyFrom(t.Context(), pgx.Identifier{"customers"}, columns, pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
			c := &rows[i]
			return []any{c.Keys, c.ID, c.Email, c.EmailIdx, c.Plan}, nil
		}))
	}
	rows := make([]Customer, 40)
	for i := range rows {
		rows[i] = newCustomer(i)
	}
	rows[9].Email = lethe.Secret[string]{}
	require.NoError(t, s.SealSlice(t.Context(), rows[:39]))
	_, err := copyIn(rows)
	require.ErrorContains(t, err, "not sealed", "one unsealed row stops the COPY") // pgx keeps the message only
	require.NotContains(t, err.Error(), "example.com")
	require.Zero(t, pgxCount(t, conn), "and none of it is written")
	require.NoError(t, s.Seal(t.Context(), &rows[39]))
	n, err := copyIn(rows)
	require.NoError(t, err)
	require.EqualValues(t, 40, n)

	// A batch: updates of several rows, then one SELECT of several terms.
	var batch pgx.Batch
	for i := range 3 {
		rows[i].Email = lethe.Of(fmt.Sprintf("batch%d@example.com", i))
		require.NoError(t, s.Seal(t.Context(), &rows[i]))
		batch.Queue(`UPDATE customers SET email = $1, email_idx = $2 WHERE id = $3 AND sealed_keys = $4`, rows[i].Email, rows[i].EmailIdx, rows[i].ID, rows[i].Keys)
	}
	results := conn.SendBatch(t.Context(), &batch)
	for range 3 {
		tag, err := results.Exec()
		require.NoError(t, err)
		require.EqualValues(t, 1, tag.RowsAffected())
	}
	require.NoError(t, results.Close())

	var terms [][]byte
	for _, email := range []string{"BATCH1@example.com", "ada5@example.com", "ada1@example.com"} {
		q, err := s.Query(t.Context(), "email_idx", email)
		require.NoError(t, err)
		terms = append(terms, q.Terms()...)
	}
	found := collect(t, conn, customerSelect+` WHERE email_idx = ANY($1) ORDER BY id`, terms)
	require.Len(t, found, 2)
	require.NoError(t, s.OpenSlice(t.Context(), found))
	require.Equal(t, "batch1@example.com", reveal(t, found[0].Email))
	require.Equal(t, "ada5@example.com", reveal(t, found[1].Email))

	for _, id := range []string{"cus_04", "cus_31"} {
		_, err := ring.Forget(t.Context(), lethe.Subject{Kind: "customer", ID: id})
		require.NoError(t, err)
	}
	list := collect(t, conn, customerByOrder)
	require.Len(t, list, 40)
	require.NoError(t, s.OpenSlice(t.Context(), list))
	for i := range list {
		switch i {
		case 4, 31:
			require.Equal(t, lethe.StatusForgotten, list[i].Email.Status())
		case 9:
			require.Equal(t, lethe.StatusNull, list[i].Email.Status())
		default:
			require.NotEmpty(t, reveal(t, list[i].Email))
		}
	}
	_, err = conn.Exec(t.Context(), `TRUNCATE customers`)
	require.NoError(t, err)
	n, err = copyIn(list)
	require.NoError(t, err, "opened and forgotten rows are copied as ciphertext")
	require.EqualValues(t, 40, n)
	again := collect(t, conn, customerByOrder)
	for i := range again {
		require.True(t, again[i].Keys.Equal(list[i].Keys))
		if i != 9 {
			require.True(t, again[i].Email.Equal(rows[i].Email))
		}
	}
}

// Plaintext in the column is refused by the scan, and the error does not show it.
func TestPgxScanRefusesPlaintext(t *testing.T) {
	t.Parallel()
	conn := connectPgx(t, pgx.QueryExecModeCacheStatement)
	s, _ := customersOf(t)
	c := newCustomer(1)
	require.NoError(t, s.Seal(t.Context(), &c))
	_, err := conn.Exec(t.Context(), customerInsert, c.Keys, c.ID, []byte("plain@example.com"), c.EmailIdx, c.Plan)
	require.NoError(t, err)
	var got Customer
	err = conn.QueryRow(t.Context(), `SELECT email FROM customers`).Scan(&got.Email)
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	require.NotContains(t, err.Error(), "plain@")
	require.Equal(t, lethe.StatusUnset, got.Email.Status())
}
