package transittest_test

import (
	"crypto/rand"
	"database/sql"
	"encoding/pem"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms/vaultkms/transittest"
)

// quickstart builds examples/quickstart and returns what runs it.
func quickstart(t *testing.T, s *transittest.Server) func(args ...string) (string, error) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "quickstart")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Dir = filepath.Join("..", "..", "..", "examples", "quickstart")
	build.Env = append(os.Environ(), "GOWORK=off")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))

	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	return func(args ...string) (string, error) {
		run := exec.CommandContext(t.Context(), binary, args...)
		run.Env = append(os.Environ(), "VAULT_TOKEN="+transittest.UpdateOnly, "VAULT_CACERT="+ca)
		out, err := run.CombinedOutput()
		return string(out), err
	}
}

// testDatabase makes a database of the test's own, if there is a PostgreSQL.
func testDatabase(t *testing.T) (dsn string) {
	t.Helper()
	server := os.Getenv("LETHE_TEST_POSTGRES")
	if server == "" {
		t.Skip("LETHE_TEST_POSTGRES is not set: PostgreSQL is NOT tested")
	}
	admin, err := sql.Open("pgx", server)
	require.NoError(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	name := "lethe_vault_" + strings.ToLower(rand.Text()[:10])
	_, err = admin.Exec("CREATE DATABASE " + name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := admin.Exec("DROP DATABASE " + name + " WITH (FORCE)")
		require.NoError(t, err)
	})
	u, err := url.Parse(server)
	require.NoError(t, err)
	u.Path = "/" + name
	return u.String()
}

func TestQuickstart(t *testing.T) {
	for _, database := range []string{"SQLite", "PostgreSQL"} {
		t.Run(database, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			s := transittest.NewServer(t, true)
			s.MakeKey(t, "customers")
			s.MakeKey(t, "other")
			host := strings.TrimPrefix(s.URL, "https://")
			flags := func(key string) []string {
				return []string{"-dir", dir, "-kms", "hcvault://" + host + "/transit/keys/" + key}
			}
			if database == "PostgreSQL" {
				dsn := testDatabase(t)
				plain := flags
				flags = func(key string) []string { return append(plain(key), "-db", dsn) }
			}
			run := quickstart(t, s)

			out, err := run(flags("customers")...)
			require.NoError(t, err, out)
			require.Contains(t, out, "go into "+database)
			require.Contains(t, out, "10,000 of 10,000 people sealed, 0 were already")
			require.Contains(t, out, "10,000 rows: 9,997 open, as in the file, 3 forgotten ")
			require.NoFileExists(t, filepath.Join(dir, "kek.json"))
			out, err = run(flags("customers")...)
			require.NoError(t, err, out)
			require.Contains(t, out, "0 of 10,000 people sealed, 10,000 were already")
			require.Contains(t, out, "10,000 rows: 9,997 open, as in the file, 3 forgotten ")

			out, err = run(flags("other")...)
			require.Error(t, err)
			require.Contains(t, out, "not the one this key store was made with")
			out, err = run(flags("missing")...)
			require.Error(t, err)
			require.Contains(t, out, "no such key")
			require.False(t, s.KeyExists(t, "missing"))
			s.Seal(true)
			out, err = run(flags("customers")...)
			require.Error(t, err)
			require.Contains(t, out, "sealed")
			s.Seal(false)
			s.DeleteKey(t, "customers")
			out, err = run(flags("customers")...)
			require.Error(t, err)
			require.Contains(t, out, "no such key")
			require.NotContains(t, out, transittest.UpdateOnly)
		})
	}
}

// Plain http needs to be asked for, and goes to loopback addresses only.
func TestQuickstartPlainHTTP(t *testing.T) {
	s := transittest.NewServer(t, false)
	s.MakeKey(t, "customers")
	file := filepath.Join(t.TempDir(), "one.csv")
	require.NoError(t, os.WriteFile(file, []byte("id,name,email,phone,card,iban,born,note,plan\n1,Ada,ada@example.com,,,,1990-01-01,,free\n"), 0o600))
	binary := quickstart(t, transittest.NewServer(t, true))
	uri := "hcvault://" + strings.TrimPrefix(s.URL, "http://") + "/transit/keys/customers"
	out, err := binary("-dir", t.TempDir(), "-in", file, "-kms", uri+"?tls=off")
	require.NoError(t, err, out)
	require.Contains(t, out, "1 rows: 1 open")
	out, err = binary("-dir", t.TempDir(), "-in", file, "-kms", uri)
	require.Error(t, err)
	require.Contains(t, out, "does not speak TLS")
}
