package main

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
)

// counts are how many of the forgotten an attempt opened, and of the others.
type counts [2]string

// table reads the lines of the table at the end.
func table(t *testing.T, out string) map[string]counts {
	t.Helper()
	lines := map[string]counts{}
	for _, m := range regexp.MustCompile(`(?m)^(.+?)  .* (\d+) of 3 +(\d+)$`).FindAllStringSubmatch(out, -1) {
		require.NotContains(t, lines, m[1])
		lines[m[1]] = counts{m[2], m[3]}
	}
	return lines
}

func TestDrill(t *testing.T) {
	for name, more := range map[string][]string{"SQLite": nil, "PostgreSQL": {"-db", os.Getenv("LETHE_TEST_POSTGRES")}} {
		t.Run(name, func(t *testing.T) {
			if more != nil && more[1] == "" {
				t.Skip("LETHE_TEST_POSTGRES is not set: PostgreSQL is NOT tested")
			}
			want := map[string]counts{
				"the live system, at once":                               {"0", "197"},
				"BEFORE the close: old backup, today's ledger":           {"0", "197"},
				"BEFORE the close: old backup, old ledger":               {"3", "197"},
				"BEFORE the close: roots of the backup, raw, to the KMS": {"3", "197"},
				"old backup, today's ledger":                             {"0", "0"},
				"old backup, old ledger":                                 {"0", "0"},
				"old backup after Restore, today's ledger":               {"0", "0"},
				"old backup after Restore, old ledger":                   {"0", "0"},
				"roots of the backup, raw, to the KMS":                   {"0", "0"},
				"the live system, at the end":                            {"0", "197"},
			}
			for _, window := range []string{"0", "3s"} {
				var out, progress bytes.Buffer
				require.NoError(t, run(t.Context(), append([]string{"-n", "200", "-window", window}, more...), &out, &progress))
				if window != "0" {
					want["inside the window: the backup after Restore"] = counts{"0", "197"}
					want["inside the window: old backup, old ledger"] = counts{"3", "197"}
				}
				require.Equal(t, want, table(t, out.String()))
				require.Contains(t, out.String(), "everybody else can")
				require.Contains(t, out.String(), "T: a person forgotten now")
				require.True(t, strings.HasPrefix(progress.String(), "sealing"), progress.String())
			}
			if more != nil {
				db, err := sql.Open("pgx", more[1])
				require.NoError(t, err)
				defer func() { require.NoError(t, db.Close()) }()
				var left int
				require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'lethe\_drill\_%'`).Scan(&left))
				require.Zero(t, left, "schemas were left")
			}
		})
	}
}

// plain hides that a key is a kms.Eraser.
type plain struct{ kms.Key }

// With a key that cannot be destroyed in part the old backup opens, and the drill
// says so; nothing else may open for all that.
func TestNoEraser(t *testing.T) {
	var out bytes.Buffer
	d, err := newDrill(t.Context(), config{n: 100, dir: t.TempDir()}, &out, &bytes.Buffer{})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.close()) }()
	d.key = plain{d.key}
	require.NoError(t, d.run(t.Context()))
	lines := table(t, out.String())
	for what, want := range map[string]counts{
		"old backup, today's ledger":               {"0", "0"},
		"old backup, old ledger":                   {"3", "97"},
		"old backup after Restore, today's ledger": {"0", "97"},
		"old backup after Restore, old ledger":     {"3", "97"},
		"roots of the backup, raw, to the KMS":     {"3", "97"},
		"the live system, at the end":              {"0", "97"},
	} {
		require.Equal(t, want, lines[what], "%s\n%s", what, out.String())
	}
	require.Contains(t, out.String(), "opens them, as the table shows")
	require.NotContains(t, out.String(), "Nobody who was forgotten")
}

// silent is a KMS that is away, which is no proof that a key is gone.
type silent struct{ kms.Key }

func (silent) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, kms.Unavailable("decrypt", "silent", os.ErrDeadlineExceeded)
}

func TestRawNeedsAnAnswer(t *testing.T) {
	d, err := newDrill(t.Context(), config{n: 10, dir: t.TempDir()}, &bytes.Buffer{}, &bytes.Buffer{})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.close()) }()
	require.NoError(t, d.prepare(t.Context()))
	d.key = silent{d.key}
	require.ErrorContains(t, d.tryRaw(t.Context(), "raw", never), "shows nothing")
}

func TestKeep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kept")
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-n", "10", "-dir", dir}, &out, &bytes.Buffer{}))
	require.FileExists(t, filepath.Join(dir, "backup.db"))
	require.Error(t, run(t.Context(), []string{"-n", "10", "-dir", dir}, &out, &bytes.Buffer{}), "a directory in use is left as it is")

	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	require.NoError(t, run(t.Context(), []string{"-n", "10"}, &out, &bytes.Buffer{}))
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoError(t, run(t.Context(), []string{"-n", "10", "-keep"}, &out, &bytes.Buffer{}))
	left, err = os.ReadDir(temp)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Contains(t, out.String(), "kept in "+filepath.Join(temp, left[0].Name()))
}

// A drill that is broken off still removes what it made.
func TestBrokenOff(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithCancel(t.Context())
	timer := time.AfterFunc(time.Second, cancel) // in the wait for the window
	defer timer.Stop()
	require.Error(t, run(ctx, []string{"-n", "10", "-window", "1m"}, &bytes.Buffer{}, &bytes.Buffer{}))
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{{"-n", "2"}, {"-window", "1ms"}, {"-window", "-1s"}, {"more"}, {"-kms", "nothing://x"}, {"-db", "mysql://x"}} {
		require.Error(t, run(t.Context(), args, &bytes.Buffer{}, &bytes.Buffer{}))
	}
}

// What must not open and does is an error, with every kind of key; so is a control
// that opens nothing.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		a        attempt
		erasable bool
		want     string
	}{
		{attempt{what: "a", gone: 1}, true, "a: opened people who are forgotten"},
		{attempt{what: "a", gone: 1}, false, "a: opened people who are forgotten"},
		{attempt{what: "b", gone: 1, expect: leftover}, true, "b: opened people who are forgotten"},
		{attempt{what: "b", gone: 1, expect: leftover}, false, ""},
		{attempt{what: "c", gone: 2, expect: threat}, true, "c: did not open the forgotten"},
		{attempt{what: "c", gone: 3, expect: threat}, true, ""},
		{attempt{what: "d", must: 2, rest: 1}, true, "d: not everybody else opened"},
	} {
		d := &drill{out: &bytes.Buffer{}, tried: []attempt{c.a}}
		if err := d.judge(c.erasable); c.want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, c.want)
		}
	}
}
