package migrate_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/integrations/migrate"
)

// mover is a row with plaintext columns of many types.
type mover struct {
	ID       string                  `db:"id" lethe:"subject=mover,id"`
	Keys     lethe.Keys              `db:"sealed_keys" lethe:"movers"`
	Email    lethe.Secret[string]    `db:"email_sealed" lethe:"email"`
	Index    lethe.BlindIndex        `db:"email_idx" lethe:"email_idx,of=email,norm=email/1"`
	Born     lethe.Secret[time.Time] `db:"born_sealed" lethe:"born"`
	Points   lethe.Secret[int64]     `db:"points_sealed" lethe:"points"`
	Scan     lethe.Secret[[]byte]    `db:"scan_sealed" lethe:"scan"`
	Other    lethe.Secret[string]    `db:"other" lethe:"other"`
	OldEmail *string                 `db:"email" lethe:"plain=email"`
	OldBorn  sql.Null[time.Time]     `db:"born" lethe:"plain=born"`
	OldPoint *int64                  `db:"points" lethe:"plain=points"`
	OldScan  *[]byte                 `db:"scan" lethe:"plain=scan"`
}

type moving struct {
	db      *sql.DB
	dialect lethe.Dialect
	ring    *envelope.Keyring
	sealer  *lethe.Sealer[mover]
}

func newMoving(t testing.TB, d lethe.Dialect, keep bool) *moving {
	t.Helper()
	m := &moving{db: openDB(t, d), dialect: d, ring: envelopetest.NewKeyring(t)}
	var err error
	one := lethe.Migration{Until: time.Now().Add(time.Hour), Keep: keep}
	m.sealer, err = lethe.For[mover](m.ring, lethe.Options{Migrations: map[string]lethe.Migration{"email": one, "born": one, "points": one, "scan": one}})
	require.NoError(t, err)
	ddl := `CREATE TABLE movers (id TEXT NOT NULL PRIMARY KEY, email TEXT, born TIMESTAMPTZ, points BIGINT, scan BYTEA,
		sealed_keys BYTEA, email_sealed BYTEA, email_idx BYTEA, born_sealed BYTEA, points_sealed BYTEA, scan_sealed BYTEA, other BYTEA)`
	if d == lethe.SQLite {
		ddl = strings.NewReplacer("BYTEA", "BLOB", "TIMESTAMPTZ", "TIMESTAMP").Replace(ddl)
	}
	_, err = m.db.ExecContext(t.Context(), ddl)
	require.NoError(t, err)
	require.NoError(t, migrate.Migrate(t.Context(), m.db))
	return m
}

func (m *moving) run(t testing.TB, k migrate.Kind) migrate.Report {
	t.Helper()
	j, err := migrate.NewJob(t.Context(), k, migrate.Table{Name: "movers", Key: []string{"id"}, DB: m.db, Dialect: m.dialect, Rows: m.sealer.Rows()}, fast(migrate.Options{}))
	require.NoError(t, err)
	r, err := j.Run(t.Context(), nil)
	require.NoError(t, err)
	return r
}

const plainColumns = "SELECT id, email, born, points, scan FROM movers ORDER BY id"

// dump is the plaintext columns of the table.
func (m *moving) dump(t testing.TB, query string) (all [][5]any) {
	t.Helper()
	rows, err := m.db.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r [5]any
		require.NoError(t, rows.Scan(&r[0], &r[1], &r[2], &r[3], &r[4]))
		if at, ok := r[2].(time.Time); ok {
			r[2] = at.UTC()
		}
		all = append(all, r)
	}
	require.NoError(t, rows.Err())
	return all
}

func bothMoving(t *testing.T, keep bool, test func(t *testing.T, m *moving)) {
	t.Run("SQLite", func(t *testing.T) { test(t, newMoving(t, lethe.SQLite, keep)) })
	t.Run("Postgres", func(t *testing.T) { test(t, newMoving(t, lethe.Postgres, keep)) })
}

func (m *moving) fill(t testing.TB, n int) {
	t.Helper()
	born := time.Date(1970, 1, 2, 3, 4, 5, 678901000, time.UTC)
	for i := range n {
		id := "mov_" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		row := []any{id, id + "@example.com", born.AddDate(0, i, 0), i - 5, []byte{0, 1, byte(i)}}
		if i%4 > 0 {
			row[i%5] = row[0]
			row[0] = id
			if i%5 != 0 {
				row[i%5] = nil
			}
		}
		_, err := m.db.ExecContext(t.Context(), "INSERT INTO movers (id, email, born, points, scan) VALUES ($1, $2, $3, $4, $5)", row...)
		require.NoError(t, err)
	}
}

// There and back: afterwards the table is what it was.
func TestBackfillAndUnseal(t *testing.T) {
	bothMoving(t, false, func(t *testing.T, m *moving) {
		m.fill(t, 60)
		before := m.dump(t, plainColumns)
		r := m.run(t, migrate.Backfill)
		require.EqualValues(t, 60, r.All.Changed)
		require.Equal(t, 2, r.Pass)
		for _, row := range m.dump(t, plainColumns) {
			require.Equal(t, [5]any{row[0], nil, nil, nil, nil}, row)
		}
		var emails uint64
		for _, row := range before {
			if row[1] != nil {
				emails++
			}
		}
		require.Equal(t, emails, m.sealer.MigrationStats()[0].Backfilled)
		q, err := m.sealer.Query(t.Context(), "email_idx", "MOV_aa@example.com")
		require.NoError(t, err)
		var found int
		require.NoError(t, m.db.QueryRowContext(t.Context(), "SELECT count(*) FROM movers WHERE email_idx = $1", q.Terms()[0]).Scan(&found))
		require.Equal(t, 1, found)
		require.Zero(t, m.run(t, migrate.Backfill).All.Changed)

		r = m.run(t, migrate.Unseal)
		require.EqualValues(t, 60, r.All.Changed)
		require.Equal(t, before, m.dump(t, plainColumns))
		for _, row := range m.dump(t, "SELECT sealed_keys, email_sealed, email_idx, born_sealed, scan_sealed FROM movers") {
			require.Equal(t, [5]any{}, row)
		}
	})
}

// With Keep the plaintext stays, and one pass more finds nothing to do.
func TestBackfillKeep(t *testing.T) {
	bothMoving(t, true, func(t *testing.T, m *moving) {
		m.fill(t, 20)
		before := m.dump(t, plainColumns)
		r := m.run(t, migrate.Backfill)
		require.EqualValues(t, 20, r.All.Changed)
		require.Equal(t, before, m.dump(t, plainColumns))
	})
}

// What cannot be moved is listed, and stays.
func TestBackfillFailures(t *testing.T) {
	bothMoving(t, false, func(t *testing.T, m *moving) {
		m.fill(t, 10)
		known := mover{ID: "mov_aa", Email: lethe.Of("x")}
		require.NoError(t, m.sealer.Seal(t.Context(), &known)) // there is somebody to forget
		_, err := m.ring.Forget(t.Context(), lethe.Subject{Kind: "mover", ID: "mov_aa"})
		require.NoError(t, err)
		differs := mover{ID: "mov_ab", Email: lethe.Of("another@example.com")}
		require.NoError(t, m.sealer.Seal(t.Context(), &differs))
		_, err = m.db.ExecContext(t.Context(), "UPDATE movers SET sealed_keys = $1, email_sealed = $2, email = 'one@example.com' WHERE id = 'mov_ab'", differs.Keys, differs.Email)
		require.NoError(t, err)
		r := m.run(t, migrate.Backfill)
		require.EqualValues(t, 1, r.This.Forgotten)
		require.EqualValues(t, 1, r.This.Failed)
		require.Len(t, r.Failures, 2)
		for _, f := range r.Failures {
			if errors.Is(f, lethe.ErrForgotten) {
				require.Equal(t, []string{"mov_aa"}, f.Key())
				continue
			}
			require.ErrorIs(t, f, lethe.ErrPlainDiffers)
			require.Equal(t, []string{"mov_ab"}, f.Key())
		}
		left := m.dump(t, plainColumns)
		require.Equal(t, "mov_aa@example.com", left[0][1])
		require.Equal(t, "one@example.com", left[1][1])
		require.Nil(t, left[2][1])
	})
}
