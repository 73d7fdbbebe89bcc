package sqlstore_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/fileledger"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/kms/localkms"
)

// service is what a program keeps on disk: keys in SQLite, a ledger and a KMS key in files.
type service struct {
	ledger *fileledger.Ledger
	store  *sqlstore.Store
	key    *localkms.Key
}

func openService(t *testing.T, dir string) service {
	t.Helper()
	var s service
	var err error
	s.ledger, err = fileledger.Open(t.Context(), filepath.Join(dir, "ledger"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.ledger.Close() })
	s.store, err = sqlstore.OpenSQLite(t.Context(), filepath.Join(dir, "keys.db"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.store.Close() })
	s.key, err = localkms.Open(filepath.Join(dir, "kek.json"), localkms.Options{})
	require.NoError(t, err)
	return s
}

func newService(t *testing.T) (dir string, s service) {
	t.Helper()
	dir = t.TempDir()
	_, err := localkms.Create(filepath.Join(dir, "kek.json"), localkms.Options{})
	require.NoError(t, err)
	l, err := fileledger.Create(t.Context(), filepath.Join(dir, "ledger"))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	s = openService(t, dir)
	require.NoError(t, s.store.Migrate(t.Context()))
	require.NoError(t, envelope.Init(t.Context(), s.store, s.key, envelope.Options{Ledger: s.ledger}))
	return dir, s
}

func (s service) ring(t *testing.T) *envelope.Keyring {
	t.Helper()
	ring, err := envelope.NewKeyring(t.Context(), s.store, s.key, envelope.Options{Ledger: s.ledger})
	require.NoError(t, err)
	t.Cleanup(ring.Close)
	return ring
}

const crashDir = "SQLSTORE_CRASH_DIR"

// sealForever seals batches of new people, says so, and forgets the first of
// each, now and then under a new root, until it is killed.
func sealForever(t *testing.T, dir string) {
	t.Helper()
	s := openService(t, dir)
	ring := s.ring(t)
	for batch := 0; ; batch++ {
		recs := make([]envelope.Record, 100)
		for i := range recs {
			recs[i] = envelope.Record{
				Name: "r", Scopes: []envelope.Scope{{Subject: envelope.Subject{Kind: "c", ID: fmt.Sprintf("%d-%d-%d", os.Getpid(), batch, i)}}},
				Cells: []envelope.Cell{{Field: "a", Plain: []byte("one")}},
			}
		}
		require.NoError(t, ring.SealRecords(t.Context(), recs))
		line, err := json.Marshal(recs)
		require.NoError(t, err)
		fmt.Println("sealed", base64.StdEncoding.EncodeToString(line))
		_, err = ring.Forget(t.Context(), recs[0].Scopes[0].Subject)
		require.NoError(t, err)
		fmt.Println("forgot", recs[0].Scopes[0].Subject.ID)
		if batch%3 == 2 {
			if err := ring.RewrapKEK(t.Context(), s.key); err != nil { // the other process was first
				require.ErrorIs(t, err, envelope.ErrUnavailable)
			}
		}
	}
}

// runAndKill runs sealForever in a process of its own, kills it some time after
// its first batch, and sends what it acknowledged.
func runAndKill(t *testing.T, dir string, after time.Duration, acknowledged chan<- acknowledgement) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcesses$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	go func() {
		var a acknowledgement
		var timer *time.Timer
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			if b, ok := strings.CutPrefix(lines.Text(), "sealed "); ok {
				var recs []envelope.Record
				text, err := base64.StdEncoding.DecodeString(b)
				a.err = errors.Join(a.err, err, json.Unmarshal(text, &recs))
				a.sealed = append(a.sealed, recs...)
				if timer == nil {
					timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
				}
			} else if id, ok := strings.CutPrefix(lines.Text(), "forgot "); ok {
				a.forgotten = append(a.forgotten, id)
			} else {
				a.rest += lines.Text() + "\n"
			}
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			a.err = errors.Join(a.err, fmt.Errorf("not killed: %w\n%s", err, a.rest))
		}
		acknowledged <- a
	}()
}

// acknowledgement is what a killed process had done before.
type acknowledgement struct {
	sealed    []envelope.Record
	forgotten []string
	rest      string // of its output
	err       error
}

// Two processes work on one store. After they were killed at any moment, all
// they acknowledged holds, and what they were doing is undone or completed by
// the next start.
func TestKilledProcesses(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		sealForever(t, dir)
		return
	}
	dir, _ := newService(t)
	var sealed []envelope.Record
	forgotten := map[string]bool{}
	for round := range 6 {
		acknowledged := make(chan acknowledgement)
		for i := range 2 {
			runAndKill(t, dir, time.Duration(60+47*round+31*i)*time.Millisecond, acknowledged)
		}
		for range 2 {
			a := <-acknowledged
			require.NoError(t, a.err)
			sealed = append(sealed, a.sealed...)
			for _, id := range a.forgotten {
				forgotten[id] = true
			}
		}
		ring := openService(t, dir).ring(t)
		for i := range sealed {
			for j := range sealed[i].Cells {
				sealed[i].Cells[j].Plain = nil
			}
		}
		require.NoError(t, ring.OpenRecords(t.Context(), sealed))
		for i := range sealed {
			id, err := sealed[i].Scopes[0].Subject.ID, sealed[i].Cells[0].Err
			switch {
			case forgotten[id]:
				require.ErrorIs(t, err, envelope.ErrForgotten)
			case err != nil: // its forget was under way
				require.ErrorIs(t, err, envelope.ErrForgotten)
				require.True(t, strings.HasSuffix(id, "-0"))
				forgotten[id] = true
			default:
				require.Equal(t, "one", string(sealed[i].Cells[0].Plain))
			}
		}
		ring.Close()
	}
	require.NotEmpty(t, forgotten)
}

// A populated store opened with another key file is refused and left as it was.
func TestAnotherKeyFileIsRefused(t *testing.T) {
	dir, s := newService(t)
	ring := s.ring(t)
	recs := records(3)
	require.NoError(t, ring.SealRecords(t.Context(), recs))
	other, err := localkms.Create(filepath.Join(dir, "other.json"), localkms.Options{})
	require.NoError(t, err)
	opts := envelope.Options{Ledger: s.ledger}
	_, err = envelope.NewKeyring(t.Context(), s.store, other, opts)
	require.ErrorIs(t, err, envelope.ErrWrongKey)
	require.ErrorIs(t, envelope.Init(t.Context(), s.store, other, opts), envelope.ErrStoreExists)
	again := openService(t, dir).ring(t)
	require.NoError(t, again.OpenRecords(t.Context(), recs))
	require.NoError(t, recs[2].Cells[1].Err)
}
