package migrate_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/integrations/migrate"
)

// A job needs no more than one connection.
func TestOneConnection(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.db.SetMaxOpenConns(1)
		w.insert(t, 1, 101)
		w.rotate(t)
		require.EqualValues(t, 100, w.run(t, migrate.Rewrap, migrate.Options{}).All.Changed)
		require.EqualValues(t, 100, w.run(t, migrate.Reseal, migrate.Options{}).All.Changed)
		w.check(t, 100)
	})
}

// A pass that always finds something is not repeated for ever.
func TestNotDone(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.insert(t, 1, 11)
		w.rotate(t)
		_, err := w.job(t, migrate.Rewrap, migrate.Options{Passes: 1}).Run(t.Context(), nil)
		require.ErrorIs(t, err, migrate.ErrNotDone)
		w.rotate(t)
		passes := 0
		r, err := w.job(t, migrate.Rewrap, migrate.Options{Passes: 3}).Run(t.Context(), func(p migrate.Progress) {
			if p.This.Seen == 10 && p.Pass > passes {
				passes = p.Pass
				w.rotate(t)
			}
		})
		require.ErrorIs(t, err, migrate.ErrNotDone)
		require.Equal(t, 3, r.Pass)
		require.False(t, r.Done)
		require.Zero(t, w.run(t, migrate.Rewrap, migrate.Options{}).This.Changed)
	})
}

func TestProgress(t *testing.T) {
	w := newWorld(t, lethe.SQLite)
	w.insert(t, 1, 31)
	w.rotate(t)
	_, err := w.ring.Forget(t.Context(), lethe.Subject{Kind: "customer", ID: owner(3)})
	require.NoError(t, err)
	var lines []string
	var seen int64
	r, err := w.job(t, migrate.Rewrap, migrate.Options{Workers: 1, BatchSize: 10}).Run(t.Context(), func(p migrate.Progress) {
		lines = append(lines, p.String())
		if p.Pass == 1 {
			require.GreaterOrEqual(t, p.This.Seen, seen)
			seen = p.This.Seen
		}
	})
	require.NoError(t, err)
	require.Regexp(t, `^rewrap customers: pass 1, 10 of 30 rows, 9 changed, 1 forgotten, \d+ rows/s$`, lines[0])
	require.Regexp(t, `^rewrap customers: pass 2, 30 of 30 rows, 0 changed, 3 forgotten, \d+ rows/s, done$`, lines[len(lines)-1])
	text, err := json.Marshal(r)
	require.NoError(t, err)
	require.Contains(t, string(text), `"forgotten":3`)
}

// A checkpoint that is none is refused, and Restart gets over it.
func TestDamagedCheckpoint(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.insert(t, 1, 11)
		w.run(t, migrate.Rewrap, migrate.Options{})
		for _, position := range []string{`["i5","i6"]`, `[""]`, `["x5"]`, `["iOne"]`, `5`} {
			w.exec(t, "UPDATE lethe_job SET state = $1", `{"kind":"rewrap","table":"customers","key":["id"],"pass":1,"position":`+position+`}`)
			_, err := w.job(t, migrate.Rewrap, migrate.Options{}).Run(t.Context(), nil)
			require.ErrorContains(t, err, "checkpoint in lethe_job is damaged")
			require.NotErrorIs(t, err, migrate.ErrRunning)
		}
		w.run(t, migrate.Rewrap, migrate.Options{Restart: true})
	})
}

// A rate holds a job back.
func TestRate(t *testing.T) {
	w := newWorld(t, lethe.SQLite)
	w.insert(t, 1, 101)
	w.rotate(t)
	r := w.run(t, migrate.Rewrap, migrate.Options{Rate: 100, BatchSize: 10})
	require.Greater(t, r.Elapsed.Seconds(), 0.7)
	require.Less(t, r.Elapsed.Seconds(), 10.0)
}

// A row that the database refuses is listed, and the others of its batch are written.
func TestRefused(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.insert(t, 1, 31)
		require.NoError(t, w.ring.RotateIndexKey(t.Context(), "", "customers", "email_idx"))
		before := w.read(t)
		w.exec(t, "CREATE UNIQUE INDEX one ON customers (email_idx)")
		// Row 5 has what row 6 will have.
		rows := []customer{before[5].customer}
		require.NoError(t, w.sealer.Reindex(t.Context(), rows))
		w.exec(t, "UPDATE customers SET email_idx = $1, sealed_keys = NULL WHERE id = 5", rows[0].Index)
		r := w.run(t, migrate.Reindex, migrate.Options{})
		require.EqualValues(t, 28, r.All.Changed)
		require.EqualValues(t, 1, r.This.Unsealed)
		require.EqualValues(t, 1, r.This.Failed)
		require.Len(t, r.Failures, 1)
		require.ErrorIs(t, r.Failures[0], migrate.ErrRefused)
		require.Equal(t, []string{"6"}, r.Failures[0].Key())
		t.Log(r.Failures[0])

		// One that refuses every row ends the job.
		w.rotate(t)
		w.exec(t, "DROP INDEX one")
		if w.dialect == lethe.Postgres {
			w.exec(t, "ALTER TABLE customers ADD CONSTRAINT frozen CHECK (version > 0) NOT VALID")
		} else {
			w.exec(t, "CREATE TRIGGER frozen BEFORE UPDATE ON customers BEGIN SELECT RAISE(ABORT, 'frozen'); END")
		}
		_, err := w.job(t, migrate.Rewrap, migrate.Options{}).Run(t.Context(), nil)
		require.ErrorIs(t, err, migrate.ErrRefused)
	})
}
