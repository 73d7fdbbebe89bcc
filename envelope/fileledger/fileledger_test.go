package fileledger_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/fileledger"
	"github.com/lethe-go/lethe/envelope/memstore"
)

func entry(seq uint64) envelope.LedgerEntry {
	return envelope.LedgerEntry{
		Seq: seq, Prev: make([]byte, 32), Time: 1_700_000_000 + int64(seq), Store: envelope.StoreID{1, 2, 3}, Kind: envelope.LedgerForget,
		Tree: 1, Epoch: 7, RefVer: 1, SRef: envelope.SRef{9, byte(seq)}, PID: 3, KIDs: []envelope.KeyID{{1}, {2, 255}},
		Pages: []envelope.PageID{1, 1<<63 - 1}, KMSHandle: "v1 <&> é", RootCommit: []byte(strings.Repeat("r", 32)), MAC: []byte(strings.Repeat("m", 32)),
	}
}

func create(t *testing.T) (*fileledger.Ledger, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "forgets.ledger")
	l, err := fileledger.Create(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l, path
}

func open(t *testing.T, path string) *fileledger.Ledger {
	t.Helper()
	l, err := fileledger.Open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestCreateNeverReplaces(t *testing.T) {
	l, path := create(t)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	require.NoError(t, l.Append(t.Context(), entry(1)))
	_, err = fileledger.Create(t.Context(), path)
	require.ErrorIs(t, err, fs.ErrExist)
	got, err := open(t, path).Read(t.Context(), 0)
	require.NoError(t, err)
	require.Len(t, got, 1)
}

func TestOpenRefusesWhatIsNoLedger(t *testing.T) {
	dir := t.TempDir()
	_, err := fileledger.Open(t.Context(), filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "Create")
	_, err = fileledger.Open(t.Context(), dir)
	require.ErrorContains(t, err, "not a regular file")
	for name, content := range map[string]string{"empty": "", "foreign": "hello\n", "newer": `{"format":"lethe-ledger","version":2}` + "\n"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := fileledger.Open(t.Context(), path)
		require.ErrorContains(t, err, "not a ledger", name)
	}
}

func TestATornLineIsNoEntry(t *testing.T) {
	l, path := create(t)
	require.NoError(t, l.Append(t.Context(), entry(1)))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(`{"seq":2,"prev":"00`)
	require.NoError(t, errors.Join(err, f.Close()))
	other := open(t, path)
	got, err := other.Read(t.Context(), 0)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.NoError(t, other.Append(t.Context(), entry(2)))
	got, err = l.Read(t.Context(), 0)
	require.NoError(t, err)
	require.Len(t, got, 2)
	now, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(whole), string(now[:len(whole)]))
}

func TestDamageIsNamed(t *testing.T) {
	l, path := create(t)
	for i := range uint64(3) {
		require.NoError(t, l.Append(t.Context(), entry(i+1)))
	}
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := strings.SplitAfter(string(good), "\n")
	for name, bad := range map[string]string{
		"a damaged line":       lines[0] + lines[1] + "x" + lines[2][1:] + lines[3],
		"a line missing":       lines[0] + lines[1] + lines[3],
		"a line twice":         lines[0] + lines[1] + lines[1] + lines[2],
		"an unknown member":    lines[0] + lines[1] + strings.Replace(lines[2], `{"seq"`, `{"new":1,"seq"`, 1),
		"a short hash":         lines[0] + lines[1] + strings.Replace(lines[2], `"prev":"00`, `"prev":"`, 1),
		"upper-case":           lines[0] + lines[1] + strings.Replace(lines[2], `"02ff`, `"02FF`, 1),
		"two entries in a row": lines[0] + lines[1] + strings.TrimSpace(lines[2]) + lines[3],
	} {
		require.NoError(t, os.WriteFile(path, []byte(bad), 0o600))
		_, err := fileledger.Open(t.Context(), path)
		require.ErrorContains(t, err, "line 3", name)
	}
}

func TestAReplacedFileIsNoticed(t *testing.T) {
	l, path := create(t)
	require.NoError(t, l.Append(t.Context(), entry(1)))
	copied, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, l.Append(t.Context(), entry(2)))
	require.NoError(t, os.WriteFile(path, copied, 0o600)) // truncated
	_, err = l.Read(t.Context(), 0)
	require.ErrorIs(t, err, fileledger.ErrReplaced)
	require.ErrorIs(t, l.Append(t.Context(), entry(3)), fileledger.ErrReplaced)

	l = open(t, path)
	require.NoError(t, os.WriteFile(path+".new", copied, 0o600))
	require.NoError(t, os.Rename(path+".new", path))
	_, err = l.Read(t.Context(), 0)
	require.ErrorIs(t, err, fileledger.ErrReplaced)
}

func TestAClosedLedgerFails(t *testing.T) {
	l, _ := create(t)
	require.NoError(t, l.Append(t.Context(), entry(1)))
	require.NoError(t, l.Close())
	require.Error(t, l.Append(t.Context(), entry(2)))
	_, err := l.Read(t.Context(), 0)
	require.Error(t, err)
}

// Every entry that was acknowledged survives a killed process.
func TestKilledWriter(t *testing.T) {
	if path := os.Getenv("FILELEDGER_WRITER"); path != "" {
		l, err := fileledger.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		for seq := uint64(1); ; seq++ {
			if err := l.Append(t.Context(), entry(seq)); err != nil {
				t.Fatal(err)
			}
			fmt.Println("appended", seq)
		}
	}
	_, path := create(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
	cmd.Env = append(os.Environ(), "FILELEDGER_WRITER="+path)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	last := 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if n, ok := strings.CutPrefix(lines.Text(), "appended "); ok {
			last, err = strconv.Atoi(n)
			require.NoError(t, err)
		}
		if last == 30 {
			require.NoError(t, cmd.Process.Kill())
		}
	}
	_ = cmd.Wait()
	require.GreaterOrEqual(t, last, 30)
	got, err := open(t, path).Read(t.Context(), 0)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(got), last)
	require.LessOrEqual(t, len(got), last+1)
}

// A person forgotten stays forgotten after a restart, whatever the process remembers.
func TestAKeyringOverAFile(t *testing.T) {
	l, path := create(t)
	store, key := memstore.New(), envelopetest.NewKey(t)
	require.NoError(t, envelope.Init(t.Context(), store, key, envelope.Options{Ledger: l}))
	ring, err := envelope.NewKeyring(t.Context(), store, key, envelope.Options{Ledger: l})
	require.NoError(t, err)
	recs := []envelope.Record{{Name: "r", Scopes: []envelope.Scope{{Subject: envelope.Subject{Kind: "p", ID: "1"}}}, Cells: []envelope.Cell{{Field: "f", Plain: []byte("x")}}}}
	require.NoError(t, ring.SealRecords(t.Context(), recs))
	_, err = ring.Forget(t.Context(), recs[0].Scopes[0].Subject)
	require.NoError(t, err)
	ring.Close()

	_, err = envelope.NewKeyring(t.Context(), store, key, envelope.Options{Ledger: func() envelope.Ledger { n, _ := create(t); return n }()})
	require.ErrorIs(t, err, envelope.ErrLedger, "an empty ledger does not fit a populated store")
	ring, err = envelope.NewKeyring(t.Context(), store, key, envelope.Options{Ledger: open(t, path)})
	require.NoError(t, err)
	defer ring.Close()
	require.NoError(t, ring.OpenRecords(t.Context(), recs))
	require.ErrorIs(t, recs[0].Cells[0].Err, envelope.ErrForgotten)
}
