package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/bench/internal/model"
	"github.com/lethe-go/lethe/bench/internal/report"
	"github.com/lethe-go/lethe/kms/localkms"
)

var update = flag.Bool("update", false, "write the golden advice anew")

// bench runs the program.
func bench(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// It measures, says how far it is, and writes both files.
func TestMeasuresAndWrites(t *testing.T) {
	dir := t.TempDir()
	code, out, errs := bench(t, "--budget", "1s", "--out", dir)
	require.Equal(t, exitOK, code, errs)
	require.Contains(t, out, "Advice")
	require.GreaterOrEqual(t, strings.Count(errs, "%"), 10, "progress, a line for every step")
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	require.NoError(t, err)
	require.Contains(t, string(page), "<svg ")
	data, err := os.ReadFile(filepath.Join(dir, "report.json"))
	require.NoError(t, err)
	var r report.Report
	require.NoError(t, json.Unmarshal(data, &r))
	require.Positive(t, r.Costs.OpenWarm.P50)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 2)

	// What it wrote can be planned with again.
	code, _, errs = bench(t, "--measured", filepath.Join(dir, "report.json"), "--out", dir)
	require.Equal(t, exitOK, code, errs)
}

// The advice for three services, from figures measured once: a change of the model
// that changes the advice is seen here.
func TestGoldenAdvice(t *testing.T) {
	for name, want := range map[string]model.Granularity{"shop": model.PerRecord, "bank": model.PerRecord, "adlog": model.PerTenant} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			code, _, errs := bench(t, "--measured", "testdata/measured.json", "--config", "examples/"+name+".yaml", "--out", dir)
			require.Equal(t, exitOK, code, errs)
			data, err := os.ReadFile(filepath.Join(dir, "report.json"))
			require.NoError(t, err)
			var r report.Report
			require.NoError(t, json.Unmarshal(data, &r))
			require.Equal(t, want, r.Advice.Candidates[r.Advice.Best].Plan.Granularity)

			var words strings.Builder
			for _, part := range r.Words() {
				_, _ = fmt.Fprintf(&words, "%s\n%s\n\n", part.Title, strings.Join(part.Lines, "\n"))
			}
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(words.String()), 0o600))
			}
			text, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(text), words.String(), "run go test ./bench -run Golden -update if this is meant")
		})
	}
}

// A flag wins over the file, and the file over the default.
func TestFlagOverFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "s.yaml")
	require.NoError(t, os.WriteFile(file, []byte("records: 5e6\nreads: 7\nkms:\n  preset: aws\n  latency: 9ms\n"), 0o600))
	code, _, errs := bench(t, "--measured", "testdata/measured.json", "--config", file, "--reads", "11", "--growth", "0", "--out", dir)
	require.Equal(t, exitOK, code, errs)
	data, err := os.ReadFile(filepath.Join(dir, "report.json"))
	require.NoError(t, err)
	var r report.Report
	require.NoError(t, json.Unmarshal(data, &r))
	require.InDelta(t, 5e6, r.Service.Records, 0)
	require.InDelta(t, 11, r.Service.Reads, 0)
	require.Equal(t, "AWS KMS", r.Service.KMS.Name)
	require.Equal(t, []string{"kms-latency"}, r.Given)
}

// Nothing that fits is an answer of its own.
func TestNothingFits(t *testing.T) {
	code, out, _ := bench(t, "--measured", "testdata/measured.json", "--deadline", "1d", "--out", t.TempDir())
	require.Equal(t, exitVerdict, code)
	require.Contains(t, out, "Nothing keeps to every limit")
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "s.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no latency":     {[]string{"--kms-preset", "aws"}, "--kms-latency"},
		"no price":       {[]string{"--kms-preset", "azure", "--kms-latency", "9ms"}, "give --kms-price"},
		"no quota":       {[]string{"--kms-preset", "gcp", "--kms-latency", "9ms"}, "give --kms-quota"},
		"mistyped name":  {[]string{"--config", file("recrods: 5")}, "recrods"},
		"a list":         {[]string{"--config", file("records: [1, 2]")}, "no single value"},
		"not YAML":       {[]string{"--config", file("records: : :")}, "not YAML"},
		"no time":        {[]string{"--window", "soon"}, "no time"},
		"negative":       {[]string{"--window=-3h"}, "no time"},
		"no preset":      {[]string{"--kms-preset", "ibm"}, "ibm"},
		"both":           {[]string{"--measured", "testdata/measured.json", "--db", "postgres://x"}, "one or the other"},
		"not a report":   {[]string{"--measured", file("{}")}, "no measured costs"},
		"short":          {[]string{"--budget", "10ms"}, "too short"},
		"not PostgreSQL": {[]string{"--db", "mysql://root:secret@host/db"}, "not one of PostgreSQL"},
		"not a KMS":      {[]string{"--kms", "ftp://u:secret@host/x"}, "ftp"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errs := bench(t, append(c.args, "--out", dir)...)
			require.Equal(t, exitTrouble, code)
			require.Contains(t, errs, c.says)
			require.NotContains(t, errs, "secret")
		})
	}
}

// The key file that --kms names is measured, and not changed.
func TestMeasuresAKMS(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "kek.json")
	_, err := localkms.Create(path, localkms.Options{})
	require.NoError(t, err)
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	code, out, errs := bench(t, "--budget", "1s", "--kms", "local://"+path, "--kms-preset", "vault", "--kms-quota", "0", "--kms-price", "0", "--kms-key-price", "0", "--out", dir)
	require.Equal(t, exitOK, code, errs)
	require.NotContains(t, out, path)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestHelp(t *testing.T) {
	code, out, _ := bench(t, "--help")
	require.Equal(t, exitOK, code)
	require.Contains(t, out, "--kms-latency")
}
