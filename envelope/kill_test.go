//go:build unix

package envelope_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"golang.org/x/sync/errgroup"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/fileledger"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/kms/localkms"
)

// diskWorld is what a service keeps on disk: keys in SQLite, a ledger and a KMS
// key in files.
type diskWorld struct {
	dir    string
	ledger *fileledger.Ledger
	store  *sqlstore.Store
	key    *localkms.Key
}

func openDisk(t testing.TB, dir string) *diskWorld {
	t.Helper()
	w := &diskWorld{dir: dir}
	var err error
	w.ledger, err = fileledger.Open(t.Context(), filepath.Join(dir, "ledger"))
	require.NoError(t, err)
	w.store, err = sqlstore.OpenSQLite(t.Context(), filepath.Join(dir, "keys.db"))
	require.NoError(t, err)
	w.key, err = localkms.Open(filepath.Join(dir, "kek.json"), localkms.Options{})
	require.NoError(t, err)
	t.Cleanup(w.close)
	return w
}

func (w *diskWorld) close() { _, _ = w.store.Close(), w.ledger.Close() }

func newDisk(t testing.TB) *diskWorld {
	t.Helper()
	dir := t.TempDir()
	_, err := localkms.Create(filepath.Join(dir, "kek.json"), localkms.Options{})
	require.NoError(t, err)
	l, err := fileledger.Create(t.Context(), filepath.Join(dir, "ledger"))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	w := openDisk(t, dir)
	require.NoError(t, w.store.Migrate(t.Context()))
	require.NoError(t, envelope.Init(t.Context(), w.store, w.key, w.opts()))
	return w
}

// opts destroy the handles of all earlier epochs at every close.
func (w *diskWorld) opts() envelope.Options {
	return envelope.Options{Ledger: w.ledger, Epochs: envelope.EpochOptions{Window: -1}}
}

func (w *diskWorld) ring(t testing.TB, opts envelope.Options) *envelope.Keyring {
	t.Helper()
	k, err := envelope.NewKeyring(t.Context(), w.store, w.key, opts)
	require.NoError(t, err)
	return k
}

// copyDisk copies a world that nobody has open.
func copyDisk(t testing.TB, from, to string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(to, 0o700))
	for _, name := range []string{"keys.db", "ledger", "kek.json"} {
		b, err := os.ReadFile(filepath.Join(from, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(to, name), b, 0o600))
	}
}

// handles returns the handles that the key file of the world has.
func (w *diskWorld) handles(t testing.TB) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, "kek.json"))
	require.NoError(t, err)
	var file struct{ Keyset []byte }
	require.NoError(t, json.Unmarshal(b, &file))
	h, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(file.Keyset)))
	require.NoError(t, err)
	var out []string
	for i := range h.Len() {
		e, err := h.Entry(i)
		require.NoError(t, err)
		if !e.IsPrimary() {
			out = append(out, fmt.Sprintf("k%08x", e.KeyID()))
		}
	}
	return out
}

// rawKIDs reads the key table as who has the file does.
func (w *diskWorld) rawKIDs(t testing.TB) map[envelope.KeyID]bool {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(w.dir, "keys.db"))
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(t.Context(), "SELECT kid FROM lethe_key")
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	out := map[envelope.KeyID]bool{}
	for rows.Next() {
		var b []byte
		require.NoError(t, rows.Scan(&b))
		out[envelope.KeyID(b)] = true
	}
	require.NoError(t, rows.Err())
	return out
}

// killScene is a world on disk in which an operation is about to begin.
type killScene struct {
	op              string
	dir             string
	live, forgotten []envelope.Record // before the operation
	victim          []envelope.Record // whom it forgets; none otherwise
	lost            []envelope.Record // newer than the backup
}

// newKillScene: n people in epoch 1, whose handle waits for its destruction, some
// of them forgotten in it, and more in epoch 2. For a restore the key table is
// that of epoch 1.
func newKillScene(t *testing.T, op string, n int) killScene {
	w := newDisk(t)
	opts := w.opts()
	opts.Epochs.Window = 0
	k := w.ring(t, opts)
	defer k.Close()
	e := &epochWorld{t: t}
	recs := e.seal(k, "a", n)
	s := killScene{op: op, dir: w.dir}
	forget := func(recs []envelope.Record) {
		for i := range recs {
			_, err := k.Forget(t.Context(), recs[i].Scopes[0].Subject)
			require.NoError(t, err)
		}
		s.forgotten = append(s.forgotten, recs...)
	}
	forget(recs[:3])
	backup := func() []byte {
		to := filepath.Join(t.TempDir(), "backup.db")
		db, err := sql.Open("sqlite", filepath.Join(w.dir, "keys.db"))
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), "VACUUM INTO ?", to)
		require.NoError(t, err)
		require.NoError(t, db.Close())
		b, err := os.ReadFile(to)
		require.NoError(t, err)
		return b
	}
	first := backup()
	forget(recs[3:6])
	_, err := k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	if op == "restore" {
		s.lost = e.seal(k, "later", 5)
	}
	forget(recs[n-3:])
	s.live = recs[6 : n-3]
	if op == "forget" {
		s.victim, s.live = s.live[:1], s.live[1:]
	}
	k.Close()
	w.close()
	if op == "restore" {
		for _, suffix := range []string{"-wal", "-shm"} {
			_ = os.Remove(filepath.Join(w.dir, "keys.db"+suffix))
		}
		require.NoError(t, os.WriteFile(filepath.Join(w.dir, "keys.db"), first, 0o600))
	}
	for _, suffix := range []string{"-wal"} {
		info, err := os.Stat(filepath.Join(w.dir, "keys.db"+suffix))
		require.True(t, err != nil || info.Size() == 0, "the copies have no log")
	}
	return s
}

// perform does the operation, with every call a step.
func (s *killScene) perform(t testing.TB, w *diskWorld, step stepFunc) error {
	on := s.op == "restore"
	if step == nil {
		step = func(_ string, call func() error) error { return call() }
	}
	when := func(name string, call func() error) error {
		if !on {
			return call()
		}
		return step(name, call)
	}
	opts := w.opts()
	opts.Ledger = steppedLedger{w.ledger, when}
	store, key := steppedStore{w.store, when}, steppedKMS{w.key, when}
	if s.op == "restore" {
		_, err := envelope.Restore(t.Context(), store, key, opts, envelope.RestoreOptions{})
		return err
	}
	k, err := envelope.NewKeyring(t.Context(), store, key, opts)
	if err != nil {
		return err
	}
	defer k.Close()
	on = true
	switch s.op {
	case "forget":
		_, err = k.Forget(t.Context(), epochRecord("a6").Scopes[0].Subject)
	case "close":
		_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	case "immediate":
		_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true, All: true})
	}
	return err
}

const killEnv = "LETHE_TEST_KILL"

// performAndDie is the child: it dies by SIGKILL behind the step of that number.
func performAndDie(t *testing.T, arg string) {
	parts := strings.SplitN(arg, ",", 3) // step, operation, directory
	at, err := strconv.Atoi(parts[0])
	require.NoError(t, err)
	s := killScene{op: parts[1]}
	n := 0
	var names []string
	err = s.perform(t, openDisk(t, parts[2]), func(name string, call func() error) error {
		err := call()
		n++
		names = append(names, name)
		if n == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return err
	})
	require.NoError(t, err)
	fmt.Println("STEPS", strings.Join(names, ","))
}

// runKilled performs the operation on a copy of the scene in a process that dies
// behind step at, and returns the copy; where the operation came to its end, the
// steps too.
func (s *killScene) runKilled(t *testing.T, at int) (dir string, steps []string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "w")
	copyDisk(t, s.dir, dir)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillMatrix$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d,%s,%s", killEnv, at, s.op, dir))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, io.Discard
	err := cmd.Run()
	if err == nil {
		_, line, ok := strings.Cut(out.String(), "STEPS ")
		require.True(t, ok, out.String())
		line, _, _ = strings.Cut(line, "\n")
		return dir, strings.Split(line, ",")
	}
	require.ErrorContains(t, err, "signal: killed", out.String())
	return dir, nil
}

// releaseLease is the minute after which a dead closer's lease is another's.
func releaseLease(t testing.TB, store envelope.Store) {
	t.Helper()
	now := time.Now()
	require.NoError(t, store.Claim(t.Context(), envelope.Lease{Tree: 1, Owner: "test", Until: now}, now.Add(2*time.Minute)))
}

// settle repeats the operation after a death and holds everything that must be
// so by then. It returns the handles that are alive and in no ledger.
func (s *killScene) settle(t *testing.T, dir string, repeat bool) (orphans []string) {
	t.Helper()
	e := &epochWorld{t: t}
	w := openDisk(t, dir)
	defer w.close()
	releaseLease(t, w.store)
	want := [3]int{len(s.live), len(s.forgotten), 0}
	if s.op == "restore" || repeat {
		require.NoError(t, s.perform(t, w, nil), "again")
	}
	k := w.ring(t, w.opts())
	defer func() { k.Close() }()
	look := func() {
		t.Helper()
		open, forgotten, missing := e.opened(k, append(slices.Clone(s.live), s.forgotten...))
		require.Equal(t, want, [3]int{open, forgotten, missing})
	}
	look()
	if len(s.victim) > 0 {
		open, forgotten, _ := e.opened(k, s.victim)
		require.Equal(t, 1, open+forgotten)
		if repeat {
			require.Equal(t, 1, forgotten)
		}
		_, err := k.Forget(t.Context(), s.victim[0].Scopes[0].Subject)
		require.NoError(t, err)
		_, forgotten, _ = e.opened(k, s.victim)
		require.Equal(t, 1, forgotten)
	}
	if len(s.lost) > 0 {
		open, _, missing := e.opened(k, s.lost)
		require.Equal(t, [2]int{0, len(s.lost)}, [2]int{open, missing})
	}
	if s.op == "close" && !repeat {
		_, err := k.CloseEpoch(t.Context(), envelope.CloseOptions{})
		require.NoError(t, err)
	}
	_, err := k.CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true})
	require.NoError(t, err)
	st, err := k.Status(t.Context())
	require.NoError(t, err)
	require.Zero(t, st.DirtyPages)
	require.Empty(t, st.Pending)
	look()
	e.seal(k, "after", 3)
	k.Close()
	k = w.ring(t, w.opts()) // which verifies the ledger
	look()

	// By the raw files.
	entries, err := w.ledger.Read(t.Context(), 0)
	require.NoError(t, err)
	known, active := map[string]bool{}, ""
	kids := w.rawKIDs(t)
	for i := range entries {
		for _, kid := range entries[i].KIDs {
			require.False(t, kids[kid], "a dead key is in the table")
		}
		if entries[i].KMSHandle != "" {
			known[entries[i].KMSHandle] = true
		}
		if entries[i].Kind == envelope.LedgerRootSwitch {
			active = entries[i].KMSHandle
		}
	}
	for _, h := range w.handles(t) {
		if !known[h] {
			orphans = append(orphans, h)
			continue
		}
		require.Equal(t, active, h, "a handle of an earlier epoch is alive")
	}
	require.Greater(t, len(known), 2)

	// What the table was before opens with no key that is left.
	b, err := os.ReadFile(filepath.Join(s.dir, "keys.db"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "old.db"), b, 0o600))
	old, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(dir, "old.db"))
	require.NoError(t, err)
	defer func() { _ = old.Close() }()
	_, err = envelope.Restore(t.Context(), old, w.key, w.opts(), envelope.RestoreOptions{})
	require.ErrorIs(t, err, envelope.ErrWrongKey)
	return orphans
}

// A process is killed behind every call of the store, the ledger and the KMS that
// an operation makes; before a call is behind the one before it. After each death
// another process finds everything in order, and can finish.
func TestKillMatrix(t *testing.T) {
	if arg := os.Getenv(killEnv); arg != "" {
		performAndDie(t, arg)
		return
	}
	reads := []string{"Meta", "Tree", "Pages", "ChildPages", "DirtyPages", "Keys", "KeysOfPage", "SystemKeys", "Evidence", "PagesAfter", "Roots", "Read", "EraseSemantics", "Erasure", "Decrypt", "Encrypt"}
	for _, c := range []struct {
		op     string
		n      int
		writes bool // die behind writes only
		small  bool // also with -short
		every  int  // of the deaths, one in so many; 0: all
	}{
		{op: "forget", n: 150, small: true},
		{op: "close", n: 150, small: true},
		{op: "immediate", n: 150, writes: true},
		{op: "restore", n: 150, small: true},
		{op: "close", n: 4300, writes: true},
		{op: "restore", n: 4300, writes: true, every: 3},
	} {
		t.Run(fmt.Sprintf("%s/%d", c.op, c.n), func(t *testing.T) {
			if testing.Short() && !c.small {
				t.Skip("long")
			}
			begun := time.Now()
			s := newKillScene(t, c.op, c.n)
			dir, steps := s.runKilled(t, 0)
			require.Empty(t, s.settle(t, dir, true), "undisturbed")
			var orphans atomic.Int32
			var g errgroup.Group
			g.SetLimit(4)
			deaths := 0
			for i, name := range steps {
				if (c.writes || testing.Short()) && slices.Contains(reads, name) {
					continue
				}
				if deaths++; c.every > 0 && deaths%c.every != 0 {
					continue
				}
				g.Go(func() error {
					t.Run(fmt.Sprintf("%d-%s", i+1, name), func(t *testing.T) {
						dir, left := s.runKilled(t, i+1)
						require.Nil(t, left, "it did not die")
						if o := s.settle(t, dir, i%2 == 0); len(o) > 0 {
							// Made, and never recorded: it wrapped nothing.
							require.Contains(t, []string{"NewHandle", "Read"}, name)
							require.Contains(t, steps[i:i+3], "Append root-begin")
							require.Len(t, o, 1)
							orphans.Add(1)
						}
					})
					return nil
				})
			}
			require.NoError(t, g.Wait())
			count := map[string]int{}
			for _, name := range steps {
				count[name]++
			}
			var kinds []string
			for _, name := range slices.Sorted(maps.Keys(count)) {
				kinds = append(kinds, fmt.Sprintf("%s %d", name, count[name]))
			}
			t.Logf("%d calls, %d deaths, %d orphans of the KMS, %v: %s", len(steps), deaths/max(c.every, 1), orphans.Load(), time.Since(begun).Round(time.Millisecond), strings.Join(kinds, ", "))
		})
	}
}
