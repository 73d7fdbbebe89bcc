package drill_test

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/internal/drill"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/localkms"
)

func newKey(t *testing.T) kms.Eraser { return newKeyAt(t, filepath.Join(t.TempDir(), "kek.json")) }

func newKeyAt(t testing.TB, path string) kms.Eraser {
	key, err := localkms.Create(path, localkms.Options{})
	require.NoError(t, err)
	return key
}

func TestScanner(t *testing.T) {
	b := make([]byte, 60)
	rand.Read(b)
	other := make([]byte, 60)
	rand.Read(other)
	s := drill.NewScanner([]drill.Needle{{Group: "a", Bytes: b}, {Group: "b", Bytes: other}})
	split := slices.Concat(b[:30], make([]byte, 24), b[30:])
	shifted := func(n int) string {
		return base64.StdEncoding.EncodeToString(slices.Concat([]byte("xyz")[:n], b, []byte("tail")))
	}
	for name, text := range map[string]string{
		"raw": "before" + string(b) + "after", "split": string(split), "first half": string(split[:40]), "second half": string(split[40:]),
		"hex": `\x` + hex.EncodeToString(b), "upper hex": "X'" + strings.ToUpper(hex.EncodeToString(b)) + "'",
		"base64": shifted(0), "base64, shifted": shifted(1), "base64, shifted by two": shifted(2),
		"base64 for URLs": base64.URLEncoding.EncodeToString(b),
	} {
		found := map[int]bool{}
		s.Scan([]byte(text), found)
		require.Equal(t, map[int]bool{0: true}, found, name)
	}
	found := map[int]bool{}
	s.Scan(bytes.Repeat(b[:20], 10), found)
	require.Empty(t, found, "a third of it is not it")
}

// history is a key store of which people were forgotten.
type history struct {
	t    *testing.T
	rows *drill.Rows
	key  kms.Eraser
	led  *memledger.Ledger
	ring *envelope.Keyring
	recs []envelope.Record
}

func newHistory(t *testing.T, store envelope.Store, people int) *history {
	return newHistoryUnder(t, newKey(t), store, people)
}

func newHistoryUnder(t *testing.T, key kms.Eraser, store envelope.Store, people int) *history {
	h := &history{t: t, rows: drill.NewRows(), key: key, led: &memledger.Ledger{}}
	rec := &drill.Recorder{Store: store, Rows: h.rows}
	opts := envelope.Options{Ledger: h.led}
	require.NoError(t, envelope.Init(t.Context(), rec, h.key, opts))
	var err error
	h.ring, err = envelope.NewKeyring(t.Context(), rec, h.key, opts)
	require.NoError(t, err)
	t.Cleanup(h.ring.Close)
	for i := range people {
		h.recs = append(h.recs, envelope.Record{
			Name: "r", Scopes: []envelope.Scope{{Subject: envelope.Subject{Kind: "person", ID: strconv.Itoa(i)}}},
			Cells: []envelope.Cell{{Field: "f", Plain: []byte("value")}},
		})
	}
	require.NoError(t, h.ring.SealRecords(t.Context(), h.recs))
	require.NoError(t, h.rows.Collect(t.Context(), store))
	return h
}

// forget forgets every 25th person and returns all keys that are dead.
func (h *history) forget() map[envelope.KeyID]bool {
	for i := 0; i < len(h.recs); i += 25 {
		_, err := h.ring.Forget(h.t.Context(), h.recs[i].Scopes[0].Subject)
		require.NoError(h.t, err)
	}
	return drill.Dead(h.t, h.led)
}

// useless shows that every row ever written opens the dead keys before the close
// and none of them after, and the living ones always.
func (h *history) useless(dead map[envelope.KeyID]bool) {
	all := h.rows.KIDs()
	reached, err := h.rows.Reach(h.t.Context(), h.key)
	require.NoError(h.t, err)
	require.Equal(h.t, all, reached, "before the close deletion alone protects nothing: the adversary is as good as the rows")
	closed, err := h.ring.CloseEpoch(h.t.Context(), envelope.CloseOptions{Immediate: true})
	require.NoError(h.t, err)
	require.Len(h.t, closed.Erasures, 1)
	require.False(h.t, closed.Erasures[0].Destroyed.IsZero())
	reached, err = h.rows.Reach(h.t.Context(), h.key)
	require.NoError(h.t, err)
	undead := 0
	for kid := range all {
		require.Equal(h.t, !dead[kid], reached[kid], "key %x, dead: %t", kid, dead[kid])
		if dead[kid] && reached[kid] {
			undead++
		}
	}
	h.t.Logf("adversary with every row ever written and the KMS as it is: %d of %d dead keys, %d of %d live ones", undead, len(dead), len(reached)-undead, len(all)-len(dead))
}

// place is somewhere that wrapped keys may have survived.
type place struct {
	name  string
	paths []string
}

// table scans places and logs what each has, by group.
func (h *history) table(s *drill.Scanner, total map[string]int, places ...place) map[string]map[string]int {
	h.t.Helper()
	groups := []string{"dead keys", "live keys", "pages", "roots"}
	var b strings.Builder
	fmt.Fprintf(&b, "wrapped keys ever written, and where they are found now\n%-36s %6s", "", "files")
	for _, g := range groups {
		fmt.Fprintf(&b, " %10s", g)
	}
	fmt.Fprintf(&b, "\n%-36s %6s", "ever written", "")
	for _, g := range groups {
		fmt.Fprintf(&b, " %10d", total[g])
	}
	out := map[string]map[string]int{}
	for _, p := range places {
		found, files, err := s.ScanFiles(p.paths...)
		require.NoError(h.t, err)
		out[p.name] = s.Count(found)
		fmt.Fprintf(&b, "\n%-36s %6d", p.name, files)
		for _, g := range groups {
			fmt.Fprintf(&b, " %10d", out[p.name][g])
		}
	}
	h.t.Log(b.String())
	return out
}

func (h *history) scanner(dead map[envelope.KeyID]bool) (*drill.Scanner, map[string]int) {
	needles, total := h.rows.Needles(dead), map[string]int{}
	for _, n := range needles {
		total[n.Group]++
	}
	require.GreaterOrEqual(h.t, total["dead keys"], len(dead))
	return drill.NewScanner(needles), total
}

func TestRemanenceSQLite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	store, err := sqlstore.OpenSQLite(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	require.NoError(t, store.Migrate(t.Context()))
	h := newHistory(t, store, 500)
	backup := filepath.Join(t.TempDir(), "backup.db")
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "VACUUM INTO ?", backup)
	require.NoError(t, err)
	require.NoError(t, db.Close())

	dead := h.forget()
	require.Len(t, dead, 20)
	h.useless(dead)
	s, total := h.scanner(dead)
	found := h.table(s, total, place{"database", []string{path}}, place{"database -wal, -shm", []string{path + "-wal", path + "-shm"}}, place{"backup from before", []string{backup}})
	require.Equal(t, len(dead), found["backup from before"]["dead keys"], "the scanner does not find what is there")
	require.NotZero(t, found["database"]["live keys"])
	require.Zero(t, found["database"]["dead keys"])
	require.Zero(t, found["database -wal, -shm"]["dead keys"])
}

// A copy of the KMS from before the close, which localkms's erase semantics warn
// of, opens everything again. So the adversary fails for the want of the handle and
// of nothing else.
func TestAdversaryWithACopyOfTheKMS(t *testing.T) {
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "keys.db"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	require.NoError(t, store.Migrate(t.Context()))
	dir := t.TempDir()
	path, stolen := filepath.Join(dir, "kek.json"), filepath.Join(dir, "stolen.json")
	h := newHistoryUnder(t, newKeyAt(t, path), store, 100)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(stolen, content, 0o600))
	dead := h.forget()
	h.useless(dead)
	key, err := localkms.Open(stolen, localkms.Options{})
	require.NoError(t, err)
	reached, err := h.rows.Reach(t.Context(), key)
	require.NoError(t, err)
	for kid := range dead {
		require.True(t, reached[kid])
	}
}

func TestRemanencePostgres(t *testing.T) {
	m := drill.NewMachine(t)
	c := m.NewCluster()
	c.Exec("postgres", "CREATE DATABASE keys")
	store, err := sqlstore.OpenPostgres(t.Context(), c.DSN("keys"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	require.NoError(t, store.Migrate(t.Context()))
	replica := c.Replica()
	h := newHistory(t, store, 500)
	base := c.BaseBackup("base")
	dump := c.Dump("keys", "keys.sql")

	dead := h.forget()
	require.Len(t, dead, 20)
	c.ArchiveAll()
	s, total := h.scanner(dead)
	h.table(s, total, place{"heap, before the close", []string{filepath.Join(c.Data, "base")}})
	h.useless(dead)
	c.ArchiveAll()
	replica.Follow(c)
	s, total = h.scanner(dead)
	in := func(dir, sub string) []string { return []string{filepath.Join(dir, sub)} }
	places := []place{
		{"heap, after a checkpoint", in(c.Data, "base")}, {"write-ahead log", in(c.Data, "pg_wal")},
		{"archive of the log", []string{c.Archive}}, {"base backup from before", in(base, "base")},
		{"dump from before", []string{dump}}, {"replica's heap", in(replica.Data, "base")}, {"replica's log", in(replica.Data, "pg_wal")},
	}
	found := h.table(s, total, places...)
	for _, name := range []string{"write-ahead log", "archive of the log", "base backup from before", "dump from before"} {
		require.GreaterOrEqual(t, found[name]["dead keys"], len(dead), "the scanner does not find what is there: %s", name)
	}
	require.NotZero(t, found["heap, after a checkpoint"]["live keys"])
	require.NotZero(t, found["replica's heap"]["live keys"])

	// What an operator could do, and how little it is.
	c.Exec("keys", "VACUUM FULL")
	c.ArchiveAll()
	replica.Follow(c)
	for i := range places {
		places[i].name += ", VACUUM FULL"
	}
	found = h.table(s, total, places...)
	require.Zero(t, found["heap, after a checkpoint, VACUUM FULL"]["dead keys"])
	require.GreaterOrEqual(t, found["archive of the log, VACUUM FULL"]["dead keys"], len(dead))
}
