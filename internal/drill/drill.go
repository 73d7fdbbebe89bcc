package drill

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/fileledger"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/kms"
)

// Run is the drill. On a PostgreSQL cluster of its own it seals 200 customers,
// keeps a base backup, the archive of the log and logical dumps from before three
// of them are forgotten, and closes the epoch. Then a sceptic restores all of it,
// with the KMS as it is then, and with the ledger as it is and as it was. After a
// close that destroys the earlier handle nothing opens the three; while the window
// of a close is still open, Restore brings back everybody else.
//
// newKey returns a KEK without handles, which must be destroyed at once when that
// is ordered. Run skips without PostgreSQL's server programs.
func Run(t *testing.T, newKey func(t *testing.T) kms.Eraser) {
	t.Run("after the window", func(t *testing.T) { afterWindow(t, newKey(t)) })
	t.Run("within the window", func(t *testing.T) { withinWindow(t, newKey(t)) })
}

// customer is a row of the application.
type customer struct {
	Keys  lethe.Keys           `lethe:"customers"`
	ID    string               `lethe:"subject=customer"`
	Email lethe.Secret[string] `lethe:"email"`
	News  lethe.Secret[string] `lethe:"news,purpose=marketing"`
}

const (
	people      = 200
	beforePoint = "before_forget"
	customerDDL = `CREATE TABLE customers (sealed_keys BYTEA NOT NULL, id TEXT PRIMARY KEY, email BYTEA NOT NULL, news BYTEA NOT NULL)`
)

// The first two are in the base backup, the third came after it.
var forgotten = map[string]bool{"cus_3": true, "cus_77": true, "cus_150": true}

func email(id string) string { return id + "@example.com" }

// world is an application, its key store, and all that was ever copied of them.
type world struct {
	t       *testing.T
	ctx     context.Context //nolint:containedctx // the test's
	cluster *Cluster
	key     kms.Eraser
	opts    envelope.Options
	ring    *envelope.Keyring
	rows    *Rows // every row the key store was ever given

	base              string             // a base backup from before the forget
	keysDump, appDump string             // logical dumps from before the forget
	oldLedger         *fileledger.Ledger // a copy of the ledger from before the forget
	dead              map[envelope.KeyID]bool
}

func newWorld(t *testing.T, key kms.Eraser, epochs envelope.EpochOptions) *world {
	w := &world{t: t, ctx: t.Context(), cluster: NewMachine(t).NewCluster(), key: key, rows: NewRows()}
	dir := t.TempDir()
	ledger, err := fileledger.Create(w.ctx, filepath.Join(dir, "ledger"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = ledger.Close() })
	w.opts = envelope.Options{Ledger: ledger, Epochs: epochs}
	w.cluster.Exec("postgres", "CREATE DATABASE keys", "CREATE DATABASE app")
	w.cluster.Exec("app", customerDDL)
	store := w.store(w.cluster, "keys")
	require.NoError(t, store.Migrate(w.ctx))
	recorder := &Recorder{store, w.rows}
	require.NoError(t, envelope.Init(w.ctx, recorder, key, w.opts))
	w.ring, err = envelope.NewKeyring(w.ctx, recorder, key, w.opts)
	require.NoError(t, err)
	t.Cleanup(w.ring.Close)

	w.insert(0, people/2)
	w.base = w.cluster.BaseBackup("base")
	w.insert(people/2, people)
	w.check(w.ring, w.cluster, "app", people, nil)
	require.NoError(t, w.rows.Collect(w.ctx, store))
	w.keysDump, w.appDump = w.cluster.Dump("keys", "keys.sql"), w.cluster.Dump("app", "app.sql")
	copied, err := os.ReadFile(filepath.Join(dir, "ledger"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "old"), copied, 0o600))
	w.oldLedger, err = fileledger.Open(w.ctx, filepath.Join(dir, "old"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.oldLedger.Close() })
	w.cluster.Exec("postgres", "SELECT pg_create_restore_point('"+beforePoint+"')")

	for id := range forgotten {
		_, err := w.ring.Forget(w.ctx, lethe.Subject{Kind: "customer", ID: id})
		require.NoError(t, err)
	}
	w.dead = Dead(t, ledger)
	require.Len(t, w.dead, 2*len(forgotten), "a key for each purpose")
	w.requireReach(w.rows, true, "before the close deletion protects nothing")
	return w
}

func (w *world) store(c *Cluster, database string) *sqlstore.Store {
	w.t.Helper()
	s, err := sqlstore.OpenPostgres(w.ctx, c.DSN(database))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = s.Close() })
	return s
}

// insert seals customers from up to before to, and keeps them.
func (w *world) insert(from, to int) {
	w.t.Helper()
	sealer, err := lethe.For[customer](w.ring)
	require.NoError(w.t, err)
	var rows []customer
	for i := from; i < to; i++ {
		id := fmt.Sprint("cus_", i)
		rows = append(rows, customer{ID: id, Email: lethe.Of(email(id)), News: lethe.Of("news for " + id)})
	}
	require.NoError(w.t, sealer.SealSlice(w.ctx, rows))
	db := w.cluster.Open("app")
	defer func() { _ = db.Close() }()
	for _, r := range rows {
		_, err := db.ExecContext(w.ctx, `INSERT INTO customers VALUES ($1, $2, $3, $4)`, r.Keys, r.ID, r.Email, r.News)
		require.NoError(w.t, err)
	}
}

func (w *world) customers(c *Cluster, database string) (out []customer) {
	w.t.Helper()
	db := c.Open(database)
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(w.ctx, `SELECT sealed_keys, id, email, news FROM customers ORDER BY id`)
	require.NoError(w.t, err)
	defer func(rows *sql.Rows) { _ = rows.Close() }(rows)
	for rows.Next() {
		var r customer
		require.NoError(w.t, rows.Scan(&r.Keys, &r.ID, &r.Email, &r.News))
		out = append(out, r)
	}
	require.NoError(w.t, rows.Err())
	return out
}

// check opens all customers of an application's database: those in gone are
// forgotten, all others open and say what was sealed.
func (w *world) check(ring *envelope.Keyring, c *Cluster, database string, total int, gone map[string]bool) {
	w.t.Helper()
	sealer, err := lethe.For[customer](ring)
	require.NoError(w.t, err)
	rows := w.customers(c, database)
	require.Len(w.t, rows, total)
	require.NoError(w.t, sealer.OpenSlice(w.ctx, rows))
	seen := 0
	for i := range rows {
		r := &rows[i]
		address, err := r.Email.Reveal()
		news, newsErr := r.News.Reveal()
		if gone[r.ID] {
			seen++
			require.ErrorIs(w.t, err, lethe.ErrForgotten, r.ID)
			require.ErrorIs(w.t, newsErr, lethe.ErrForgotten, r.ID)
			continue
		}
		require.NoError(w.t, err, r.ID)
		require.NoError(w.t, newsErr, r.ID)
		require.Equal(w.t, email(r.ID), address)
		require.Equal(w.t, "news for "+r.ID, news)
	}
	require.Len(w.t, gone, seen, "their ciphertext is there")
}

// requireReach holds what the adversary opens with rows against what they should be
// able to open: all keys that are alive, and the dead ones or not.
func (w *world) requireReach(rows *Rows, dead bool, why string) {
	w.t.Helper()
	reached, err := rows.Reach(w.ctx, w.key)
	require.NoError(w.t, err)
	for kid := range rows.KIDs() {
		require.Equal(w.t, dead || !w.dead[kid], reached[kid], "key %x, dead: %t: %s", kid, w.dead[kid], why)
	}
}

// restored is a backup that was put back: two databases.
type restored struct {
	name      string
	c         *Cluster
	keys, app string
}

// backups puts the base backup and the dumps back, as of before the forget.
func (w *world) backups(visit func(r restored)) {
	w.t.Helper()
	w.cluster.Load("keys_dump", w.keysDump)
	w.cluster.Load("app_dump", w.appDump)
	visit(restored{"the dumps", w.cluster, "keys_dump", "app_dump"})
	c := w.cluster.Restore(w.base, "before", beforePoint)
	visit(restored{"the base backup, replayed to before the forget", c, "keys", "app"})
	c.Stop()
}

func afterWindow(t *testing.T, key kms.Eraser) {
	w := newWorld(t, key, envelope.EpochOptions{})
	closed, err := w.ring.CloseEpoch(w.ctx, envelope.CloseOptions{Immediate: true})
	require.NoError(t, err)
	require.Len(t, closed.Erasures, 1)
	require.False(t, closed.Erasures[0].Destroyed.IsZero(), "the KMS must destroy at once")
	w.insert(people, people+1)
	w.check(w.ring, w.cluster, "app", people+1, forgotten)
	w.cluster.ArchiveAll()

	w.backups(func(r restored) {
		had := NewRows()
		require.NoError(t, had.Collect(w.ctx, w.store(r.c, r.keys)))
		for kid := range w.dead {
			require.True(t, had.KIDs()[kid], "%s holds the wrapped keys of the forgotten", r.name)
		}
		reached, err := had.Reach(w.ctx, w.key)
		require.NoError(t, err)
		require.Empty(t, reached, "%s: what hung on the destroyed handle", r.name)

		old := w.opts
		old.Ledger = w.oldLedger
		for ledger, opts := range map[string]envelope.Options{"the ledger": w.opts, "the ledger as it was": old} {
			_, err = envelope.NewKeyring(w.ctx, w.store(r.c, r.keys), w.key, opts)
			require.ErrorIs(t, err, envelope.ErrWrongKey, "%s, %s", r.name, ledger)
			_, err = envelope.Restore(w.ctx, w.store(r.c, r.keys), w.key, opts, envelope.RestoreOptions{})
			require.ErrorIs(t, err, envelope.ErrWrongKey, "%s, %s", r.name, ledger)
		}
		w.check(w.ring, r.c, r.app, people, forgotten) // the old rows under the present keys
		require.NoError(t, w.rows.Collect(w.ctx, w.store(r.c, r.keys)))
		t.Logf("%s: %d of %d keys open; the present key store opens %d of its %d customers",
			r.name, len(reached), len(had.KIDs()), people-len(forgotten), people)
	})

	end := w.cluster.Restore(w.base, "end", "")
	ring, err := envelope.NewKeyring(w.ctx, w.store(end, "keys"), w.key, w.opts)
	require.NoError(t, err)
	defer ring.Close()
	w.check(ring, end, "app", people+1, forgotten)
	require.NoError(t, w.rows.Collect(w.ctx, w.store(end, "keys")))
	w.requireReach(w.rows, false, "every row ever written, from every backup, and the KMS as it is")
	t.Logf("the base backup, replayed to its end: %d of %d customers open; every row ever written: none of %d dead keys, all %d others",
		people+1-len(forgotten), people+1, len(w.dead), len(w.rows.KIDs())-len(w.dead))
}

func withinWindow(t *testing.T, key kms.Eraser) {
	w := newWorld(t, key, envelope.EpochOptions{Window: time.Hour})
	closed, err := w.ring.CloseEpoch(w.ctx, envelope.CloseOptions{})
	require.NoError(t, err)
	require.Len(t, closed.Erasures, 1)
	require.True(t, closed.Erasures[0].Ordered.IsZero())
	w.cluster.ArchiveAll()
	w.ring.Close()

	w.backups(func(r restored) {
		w.requireReach(w.rows, true, "within the window who goes around the library opens a backup")
		store := &Recorder{w.store(r.c, r.keys), w.rows}
		_, err := envelope.NewKeyring(w.ctx, store, w.key, w.opts)
		require.ErrorIs(t, err, envelope.ErrLedger, "%s is served without Restore", r.name)
		done, err := envelope.Restore(w.ctx, store, w.key, w.opts, envelope.RestoreOptions{})
		require.NoError(t, err, r.name)
		require.EqualValues(t, 1, done.FromEpoch)
		ring, err := envelope.NewKeyring(w.ctx, store, w.key, w.opts)
		require.NoError(t, err, r.name)
		defer ring.Close()
		w.check(ring, r.c, r.app, people, forgotten)
		sealer, err := lethe.For[customer](ring)
		require.NoError(t, err)
		for id := range forgotten {
			require.ErrorIs(t, sealer.Seal(w.ctx, &customer{ID: id, Email: lethe.Of("again")}), lethe.ErrForgotten)
		}
		t.Logf("%s, within the window: restored from epoch %d, %d entries behind; %d of %d customers open",
			r.name, done.FromEpoch, done.Behind, people-len(forgotten), people)
		if r.c == w.cluster {
			return
		}
		closed, err := ring.CloseEpoch(w.ctx, envelope.CloseOptions{Immediate: true})
		require.NoError(t, err)
		for _, e := range closed.Erasures {
			require.False(t, e.Destroyed.IsZero(), "epoch %d", e.Epoch)
		}
		w.check(ring, r.c, r.app, people, forgotten)
		w.requireReach(w.rows, false, "the window is closed")
		t.Logf("and closed at once: every row ever written: none of %d dead keys, all %d others", len(w.dead), len(w.rows.KIDs())-len(w.dead))
	})
}
