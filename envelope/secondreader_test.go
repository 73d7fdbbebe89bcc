package envelope_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	secondReader = "testdata/reader/vectors.mjs"
	vectors      = "testdata/vectors"
)

// verdict is what the second reader says of a vector file.
type verdict struct {
	File    string `json:"file"`
	Opened  int    `json:"opened"`
	Refused int    `json:"refused"`
	Failed  string `json:"failed"`
}

// readWithNode runs the reader of testdata/reader, which shares no code and no
// language with this package.
func readWithNode(t *testing.T, dir string) ([]verdict, error) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed: THE SECOND READER OF THE FORMAT DID NOT RUN; install nodejs 20 or newer")
	}
	cmd := exec.CommandContext(t.Context(), node, secondReader, dir)
	cmd.Stderr = os.Stderr
	out, runErr := cmd.Output()
	var all []verdict
	for line := range bytes.Lines(out) {
		var v verdict
		require.NoError(t, json.Unmarshal(line, &v), "%s", line)
		all = append(all, v)
	}
	return all, runErr
}

// cells counts what a vector file states, by the error it states or the lack of one.
func cells(t *testing.T, path string) (opened, refused int, ofRecord bool) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var v struct {
		Header *string `json:"header"`
		Cells  []struct {
			Error string `json:"error"`
		} `json:"cells"`
	}
	require.NoError(t, json.Unmarshal(data, &v))
	for _, c := range v.Cells {
		if c.Error == "" {
			opened++
		} else {
			refused++
		}
	}
	return opened, refused, v.Header != nil
}

func TestSecondReader(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(vectors)
	require.NoError(t, err)
	require.NotEmpty(t, files)
	verdicts, err := readWithNode(t, vectors)
	byFile := map[string]verdict{}
	for _, v := range verdicts {
		require.Empty(t, v.Failed, v.File)
		byFile[v.File] = v
	}
	require.NoError(t, err)
	require.Len(t, verdicts, len(files))
	for _, f := range files {
		v, visited := byFile[f.Name()]
		require.True(t, visited, f.Name())
		opened, refused, ofRecord := cells(t, filepath.Join(vectors, f.Name()))
		if ofRecord {
			require.Equal(t, verdict{File: f.Name(), Opened: opened, Refused: refused}, v)
		} else {
			require.Positive(t, v.Opened, f.Name())
		}
	}
}

// The second reader says so when a vector does not hold: each file here is one
// with its expectation, or a byte of what it is about, altered.
func TestSecondReaderNoticesAlteredVectors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	altered := []struct{ file, old, altered string }{
		{"record_s1_ok_one_scope", `"plain": "61`, `"plain": "62`},
		{"record_s1_ok_one_scope", `"codec": 1`, `"codec": 9`},
		{"record_s1_ok_one_scope", `"plain": "616461406578616d706c652e636f6d"`, `"error": "decrypt"`},
		{"record_s1_ok_one_scope", `"dek": "c0`, `"dek": "c1`},
		{"record_s1_ok_one_scope", `"record_digest": "ae`, `"record_digest": "af`},
		{"record_s1_ok_one_scope", `"id": "ada"`, `"id": "eve"`},
		{"record_s1_wrong_field", `"error": "decrypt"`, `"error": "malformed"`},
		{"record_s2_key_missing", `"error": "key-missing"`, `"error": "forgotten"`},
		{"record_s2_forgotten", `"error": "forgotten"`, `"error": "key-missing"`},
		{"record_s2_cell_empty", `"error": "malformed"`, `"error": "decrypt"`},
		{"record_s2_wrong_field", `"error": "decrypt"`, `"plain": ""`},
		{"sref", `"sref": "ecc3`, `"sref": "ecc4`},
		{"blind_index", `"index_value": "000160"`, `"index_value": "000161"`},
		{"keystore_small", `"ledger_head": "d9`, `"ledger_head": "da`},
		{"keystore_small", `"key": "e3c6`, `"key": "e3c7`},
		{"keystore_deep", `"applied_seq": 8`, `"applied_seq": 9`},
		{"keystore_deep", `"index_value": "0002`, `"index_value": "0001`},
		{"accumulated", `"cases": 10000`, `"cases": 10`},
	}
	for i, c := range altered {
		data, err := os.ReadFile(filepath.Join(vectors, c.file+".json"))
		require.NoError(t, err)
		text := strings.ReplaceAll(string(data), c.old, c.altered)
		require.NotEqual(t, string(data), text, "%s is not in %s", c.old, c.file)
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d.json", i)), []byte(text), 0o600))
	}
	verdicts, err := readWithNode(t, dir)
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 1, exit.ExitCode())
	require.Len(t, verdicts, len(altered))
	for i, v := range verdicts {
		require.NotEmpty(t, v.Failed, "%s with %s", altered[i].file, altered[i].altered)
	}
}
