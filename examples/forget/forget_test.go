package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// line is a line of the table: how many of the forgotten opened, and of the others.
func line(t *testing.T, out, what string) (gone, others string) {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(what) + ` .* (\d+) of 3 +(\d+)$`).FindStringSubmatch(out)
	require.NotNil(t, m, "%s\n%s", what, out)
	return m[1], m[2]
}

func TestDrill(t *testing.T) {
	for name, more := range map[string][]string{"SQLite": nil, "PostgreSQL": {"-db", os.Getenv("LETHE_TEST_POSTGRES")}} {
		t.Run(name, func(t *testing.T) {
			if more != nil && more[1] == "" {
				t.Skip("LETHE_TEST_POSTGRES is not set: PostgreSQL is NOT tested")
			}
			var out, progress bytes.Buffer
			require.NoError(t, run(t.Context(), append([]string{"-n", "200", "-window", "1s", "-dir", t.TempDir()}, more...), &out, &progress))
			for what, want := range map[string][2]string{
				"the live system, at once":                             {"0", "197"},
				"BEFORE the close: the old backup with the old ledger": {"3", "197"},
				"inside the window: the backup after Restore":          {"0", "197"},
				"the live system":                                      {"0", "197"},
				"the old backup with today's ledger":                   {"0", "0"},
				"the old backup with the old ledger":                   {"0", "0"},
				"the old backup after Restore, old ledger":             {"0", "0"},
				"every root of the backup, raw, to the KMS":            {"0", "0"},
			} {
				gone, others := line(t, out.String(), what)
				require.Equal(t, want, [2]string{gone, others}, what)
			}
			require.Contains(t, out.String(), "everybody else can")
			require.True(t, strings.HasPrefix(progress.String(), "sealing"), progress.String())
		})
	}
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{{"-n", "2"}, {"-window", "1ms"}, {"more"}, {"-kms", "nothing://x"}} {
		require.Error(t, run(t.Context(), args, &bytes.Buffer{}, &bytes.Buffer{}))
	}
}

// What must not open and does is an error, so that the drill can fail.
func TestJudge(t *testing.T) {
	d := &drill{out: &bytes.Buffer{}, tried: []attempt{{what: "a", gone: 1}}}
	require.ErrorContains(t, d.judge(true), "a: opened people who are forgotten")
	d.tried = []attempt{{what: "b", must: 2, rest: 1}}
	require.ErrorContains(t, d.judge(true), "b: not everybody else opened")
}
