package main

import (
	"bufio"
	"crypto/rand"
	"database/sql"
	"encoding/csv"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rivo/uniseg"
	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms/localkms"
)

// asProgram makes the test binary run the program instead of the tests.
const asProgram = "LETHE_QUICKSTART_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// somePeople are people of the sample under ids of their own.
func somePeople(t *testing.T, n int) []person {
	t.Helper()
	people, err := readFile("")
	require.NoError(t, err)
	people = people[len(people)-n:]
	for i := range people {
		people[i].id = fmt.Sprintf("own/%05d", i+1)
	}
	return people
}

func writeCSV(t *testing.T, people []person) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "own.csv")
	f, err := os.Create(path)
	require.NoError(t, err)
	w := csv.NewWriter(f)
	require.NoError(t, w.Write(header))
	for _, p := range people {
		require.NoError(t, w.Write([]string{p.id, p.name, p.email, p.phone, p.card, p.iban, p.born.Format(time.DateOnly), p.note, p.plan}))
	}
	w.Flush()
	require.NoError(t, w.Error())
	require.NoError(t, f.Close())
	return path
}

func quickstart(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out, progress strings.Builder
	err = run(t.Context(), args, &out, &progress)
	return out.String(), err
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := quickstart(t, args...)
	require.NoError(t, err, out)
	return out
}

func TestRunTwice(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "with space")
	people := somePeople(t, 250)
	file := writeCSV(t, people[:200])

	out := mustRun(t, "-dir", dir, "-in", file)
	require.Contains(t, out, "200 of 200 people sealed, 0 were already")
	require.Contains(t, out, "1 of 1 index hits")
	require.Contains(t, out, people[0].email)
	require.Contains(t, out, "200 rows: 197 open, as in the file, 3 forgotten ")
	require.Equal(t, 3, strings.Count(out, "now: [forgotten]"))
	require.Equal(t, 3, strings.Count(out, "0 by e-mail"))
	require.NotContains(t, out, "before this run")
	require.LessOrEqual(t, strings.Count(out, "\n"), 45)
	for line := range strings.Lines(out) {
		require.LessOrEqual(t, uniseg.StringWidth(strings.TrimSuffix(line, "\n")), 100, line)
	}
	for _, p := range people[1:] {
		require.NotContains(t, out, p.email)
		require.NotContains(t, out, p.card)
		require.NotContains(t, out, p.iban)
	}

	out = mustRun(t, "-dir", dir, "-in", file)
	require.Contains(t, out, "0 of 200 people sealed, 200 were already")
	require.Contains(t, out, "200 rows: 197 open, as in the file, 3 forgotten ")
	require.Equal(t, 3, strings.Count(out, "before this run"))

	// The row of a forgotten person is deleted: nothing may bring it back.
	db, err := sql.Open("sqlite", filepath.Join(dir, "customers.db"))
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(t.Context(), `DELETE FROM quickstart_customers WHERE id = ?`, people[50].id)
	require.NoError(t, err)
	out = mustRun(t, "-dir", dir, "-in", file)
	require.Contains(t, out, "0 of 200 people sealed, 199 were already, 1 are forgotten and stay out")
	require.Contains(t, out, "199 rows: 197 open, as in the file, 2 forgotten ")
	require.Contains(t, out, "no row")

	// The file grew, and a line of it changed.
	people[3].note += " changed"
	out = mustRun(t, "-dir", dir, "-in", writeCSV(t, people))
	require.Contains(t, out, "50 of 250 people sealed")
	require.Contains(t, out, "249 rows: 243 open, as in the file, 5 forgotten, 1 open, unlike the file")
}

func TestIntruderFindsNoPlaintext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	people := somePeople(t, 200)
	mustRun(t, "-dir", dir, "-in", writeCSV(t, people))

	var stolen []byte
	require.NoError(t, filepath.WalkDir(dir, func(path string, f fs.DirEntry, err error) error {
		if err != nil || f.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		stolen = append(stolen, data...)
		return err
	}))
	haystack := strings.ToLower(string(stolen))
	for _, p := range people {
		require.Contains(t, haystack, p.id, "the search itself must work")
		for _, secret := range []string{p.name, p.email, p.phone, p.card, p.iban, p.note, p.born.Format(time.DateOnly)} {
			if secret != "" {
				require.NotContains(t, haystack, strings.ToLower(secret))
			}
		}
	}
}

func TestKilledRunResumes(t *testing.T) {
	t.Parallel()
	const n = 8_000
	dir := t.TempDir()
	file := writeCSV(t, somePeople(t, n))
	program := exec.CommandContext(t.Context(), os.Args[0], "-dir", dir, "-in", file)
	program.Env = append(os.Environ(), asProgram+"=1")
	progress, err := program.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, program.Start())
	lines := bufio.NewScanner(progress)
	require.True(t, lines.Scan())
	require.Equal(t, "sealing: 2,000 of 8,000", lines.Text())
	require.NoError(t, program.Process.Kill())
	require.Error(t, program.Wait(), "it must not have finished")

	db, err := sql.Open("sqlite", filepath.Join(dir, "customers.db"))
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	var there int
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM quickstart_customers`).Scan(&there))
	require.GreaterOrEqual(t, there, 2_000)
	require.Less(t, there, n)
	require.Zero(t, there%sealBatch)

	out := mustRun(t, "-dir", dir, "-in", file)
	require.Contains(t, out, fmt.Sprintf("%s of 8,000 people sealed, %s were already", count(n-there), count(there)))
	require.Contains(t, out, "8,000 rows: 7,997 open, as in the file, 3 forgotten ")
}

func TestWrongKeyIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := writeCSV(t, somePeople(t, 20))
	mustRun(t, "-dir", dir, "-in", file)

	other := filepath.Join(t.TempDir(), "other.json")
	_, err := localkms.Create(other, localkms.Options{})
	require.NoError(t, err)
	_, err = quickstart(t, "-dir", dir, "-in", file, "-key", other)
	require.ErrorContains(t, err, "not the one this key store was made with")

	kek, away := filepath.Join(dir, "kek.json"), filepath.Join(dir, "away.json")
	require.NoError(t, os.Rename(kek, away))
	_, err = quickstart(t, "-dir", dir, "-in", file)
	require.ErrorContains(t, err, "put the file back")
	require.NoFileExists(t, kek, "no new key may appear beside old data")

	require.NoError(t, os.Rename(away, kek))
	require.Contains(t, mustRun(t, "-dir", dir, "-in", file), "20 rows: 17 open, as in the file, 3 forgotten ")
}

// Another key store than the rows were sealed with opens nothing, and the run says so.
func TestLostKeyStoreIsReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := writeCSV(t, somePeople(t, 20))
	mustRun(t, "-dir", dir, "-in", file)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), "customers") {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, f.Name())))
		}
	}
	_, err = quickstart(t, "-dir", dir, "-in", file)
	require.Error(t, err)
}

func TestFewPeople(t *testing.T) {
	t.Parallel()
	people := somePeople(t, 5)
	for n, want := range map[int]string{1: "1 rows: 1 open, as in the file, 0 forgotten", 2: "2 rows: 1 open, as in the file, 1 forgotten", 3: "3 rows: 1 open, as in the file, 2 forgotten", 5: "5 rows: 2 open, as in the file, 3 forgotten"} {
		require.Contains(t, mustRun(t, "-dir", t.TempDir(), "-in", writeCSV(t, people[:n])), want)
	}
}

func TestBadInputChangesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	file := filepath.Join(t.TempDir(), "bad.csv")
	require.NoError(t, os.WriteFile(file, []byte(titles+"1,Ada,nowhere,,,,,,\n"), 0o600))
	for want, args := range map[string][]string{
		file + ": line 2: column email": {"-in", file},
		"no such file":                  {"-in", file + "x"},
		"-help":                         {"more"},
		"give one":                      {"-kms", "hcvault://127.0.0.1/transit/keys/k", "-key", "k.json"},
	} {
		_, err := quickstart(t, append([]string{"-dir", dir}, args...)...)
		require.ErrorContains(t, err, want)
		require.NoDirExists(t, dir)
	}
	_, err := quickstart(t, "-dir", t.TempDir(), "-kms", "hcvault://someone:hunter2@127.0.0.1/transit/keys/k", "-in", writeCSV(t, somePeople(t, 3)))
	require.ErrorContains(t, err, "hcvault://HOST")
	require.NotContains(t, err.Error(), "hunter2")
	_, err = quickstart(t, "-dir", dir, "-db", "postgres://someone:hunter2@[broken/")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	server := os.Getenv("LETHE_TEST_POSTGRES")
	if server == "" {
		t.Skip("LETHE_TEST_POSTGRES is not set: PostgreSQL is NOT tested")
	}
	admin, err := sql.Open("pgx", server)
	require.NoError(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	name := "lethe_quickstart_" + strings.ToLower(rand.Text()[:10])
	_, err = admin.ExecContext(t.Context(), "CREATE DATABASE "+name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := admin.Exec("DROP DATABASE " + name + " WITH (FORCE)") // the test's context is over
		require.NoError(t, err)
	})
	dsn, err := url.Parse(server)
	require.NoError(t, err)
	dsn.Path = "/" + name

	dir := t.TempDir()
	file := writeCSV(t, somePeople(t, 200))
	out := mustRun(t, "-dir", dir, "-db", dsn.String(), "-in", file)
	require.Contains(t, out, "200 of 200 people sealed, 0 were already")
	require.Contains(t, out, "1 of 1 index hits")
	require.Contains(t, out, "200 rows: 197 open, as in the file, 3 forgotten ")
	out = mustRun(t, "-dir", dir, "-db", dsn.String(), "-in", file)
	require.Contains(t, out, "0 of 200 people sealed, 200 were already")
	require.Contains(t, out, "200 rows: 197 open, as in the file, 3 forgotten ")

	// The key file stays with who runs it: another directory has none for this store.
	_, err = quickstart(t, "-dir", t.TempDir(), "-db", dsn.String(), "-in", file)
	require.ErrorContains(t, err, "put the file back")
}
