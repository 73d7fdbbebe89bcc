package config_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/integrations/config"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/localkms"
)

const whole = `store: sqlite:keys.db
kms: local://kek.json
more_kms: [local://old.json, "hcvault://vault:8200/transit/keys/old"]
kms_passphrase: {file: kek.pass}
ledger: file:forgets.ledger
database: postgres://app@db2:5432/shop?sslmode=disable
receipt_key: receipts.pem
suite: xchacha20-poly1305
cache: {ttl: 5m, size: 1000}
timeout: 7s
rotate_after: 90d
epochs: {every: 12h, window: 3d, close_time: 30m, replica_lag: 2s, long: true}
tables:
  customers:
    table: shop.customers
    key: [id]
    columns:
      sealed_keys: {type: keys, lethe: customers}
      id:          {type: string, lethe: "subject=customer"}
      email:       {type: secret string, lethe: "email,mask=email"}
      email_idx:   {type: index, lethe: "email_idx,of=email,norm=email/1,bits=32"}
  notes:
    key: id
    columns:
      id: {type: int}
`

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestWholeFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "kek.pass", "open sesame\n")
	c, err := config.Read(write(t, dir, "lethe.yaml", whole), nil)
	require.NoError(t, err)
	require.Equal(t, "sqlite:"+filepath.Join(dir, "keys.db"), c.Store.URL())
	require.Equal(t, "local://"+filepath.Join(dir, "kek.json"), c.KMS.URL())
	require.Len(t, c.MoreKMS, 2)
	require.Equal(t, "hcvault://vault:8200/transit/keys/old", c.MoreKMS[1].URL())
	require.Equal(t, []byte("open sesame"), c.KMSPassphrase())
	require.Equal(t, "file:"+filepath.Join(dir, "forgets.ledger"), c.Ledger.URL())
	require.Equal(t, "postgres://db2:5432/shop", c.Database.String())
	require.Equal(t, filepath.Join(dir, "receipts.pem"), c.ReceiptKey)
	require.Equal(t, envelope.SuiteXChaCha, c.Suite)
	require.Equal(t, 5*time.Minute, c.CacheTTL)
	require.Equal(t, 1000, c.CacheSize)
	require.Equal(t, 7*time.Second, c.Timeout)
	require.Equal(t, 90*24*time.Hour, c.RotateAfter)
	require.Equal(t, envelope.EpochOptions{Every: 12 * time.Hour, Window: 72 * time.Hour, CloseTime: 30 * time.Minute, ReplicaLag: 2 * time.Second, Long: true}, c.Epochs)
	require.Len(t, c.Tables, 2)
	require.Equal(t, "notes", c.Tables[1].SQL)
	require.Equal(t, []string{"id"}, c.Tables[1].Key)
	_, err = c.Table("none")
	require.ErrorContains(t, err, "customers, notes")
}

// A struct made of a description is what the one in the program is.
func TestTableType(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "kek.pass", "x")
	c, err := config.Read(write(t, dir, "lethe.yaml", whole), nil)
	require.NoError(t, err)
	table, err := c.Table("customers")
	require.NoError(t, err)
	typ, err := table.Type()
	require.NoError(t, err)
	want := reflect.TypeFor[struct {
		SealedKeys lethe.Keys           `db:"sealed_keys" lethe:"customers"`
		Id         string               `db:"id" lethe:"subject=customer"`
		Email      lethe.Secret[string] `db:"email" lethe:"email,mask=email"`
		EmailIdx   lethe.BlindIndex     `db:"email_idx" lethe:"email_idx,of=email,norm=email/1,bits=32"`
	}]()
	require.Equal(t, want, typ)
	_, err = config.Table{Columns: []config.Column{{Name: "a_b", Type: "int"}, {Name: "a__b", Type: "int"}}}.Type()
	require.ErrorContains(t, err, "differ in case or underscores")
	_, err = config.Table{Columns: []config.Column{{Name: `a" lethe:"x`, Type: "int"}}}.Type()
	require.ErrorContains(t, err, "no plain SQL name")
}

func TestMistakesNameTheirLine(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":        {"store: sqlite:a\nstor: x\n", `lethe.yaml:2: "stor" is no key; there are cache, database, epochs`},
		"unknown inner key":  {"epochs:\n  every: 1h\n  windw: 1h\n", `lethe.yaml:3: "epochs.windw" is no key; there are close_time, every, long, replica_lag, window`},
		"twice":              {"store: sqlite:a\nkms: local://a\nstore: sqlite:b\n", `lethe.yaml:3: "store" stands in line 1 already`},
		"bad duration":       {"\n\ntimeout: soon\n", "lethe.yaml:3: timeout is to be a length of time"},
		"negative duration":  {"timeout: -3s\n", "timeout is to be a length of time"},
		"bad number":         {"cache: {size: many}\n", "lethe.yaml:1: cache.size is to be a number"},
		"bad bool":           {"epochs: {long: perhaps}\n", "is to be true or false"},
		"bad suite":          {"suite: rot13\n", "is to be aes-256-gcm or"},
		"scheme":             {"store: mysql://h/d\n", "lethe.yaml:1: store is to be sqlite:FILE or"},
		"no scheme":          {"kms: kek.json\n", "kms is to be the URI of a key"},
		"memory":             {"store: 'sqlite::memory:'\n", "names no file"},
		"mapping for scalar": {"timeout: {a: b}\n", "lethe.yaml:1: timeout is to be one value"},
		"scalar for mapping": {"cache: 5\n", "is to be a mapping"},
		"sequence at top":    {"- a\n", "is to be a mapping"},
		"syntax":             {"store: [\n", "lethe.yaml: line"},
		"two documents":      {"store: sqlite:a\n---\nkms: local://a\n", "more than one document"},
		"password":           {"\nstore: postgres://u:hunter2@h/d\n", "lethe.yaml:2: store holds a secret, which does not belong in this file"},
		"password parameter": {"store: postgres://u@h/d?password=hunter2\n", "holds a secret"},
		"unparsable":         {"store: 'postgres://u:hunter2%zz@h/d'\n", "holds a secret"},
		"passphrase":         {"kms_passphrase: hunter2\n", "kms_passphrase holds a secret"},
		"pin":                {"kms: 'pkcs11:token=x?pin-value=hunter2'\n", "holds a secret"},
		"secret in a list":   {"more_kms: [local://a, 'x://u:hunter2@h/k']\n", "holds a secret"},
		"no such file":       {"kms_passphrase: {file: none}\n", "lethe.yaml:1: kms_passphrase: stat"},
		"reference":          {"kms_passphrase: {env: X}\n", "is to be a value or {file: PATH}"},
		"empty reference":    {"store: {}\n", "is to be a value or {file: PATH}"},
		"table key":          {"tables:\n  a:\n    kee: id\n", `lethe.yaml:3: "kee" is no key of a table`},
		"column key":         {"tables:\n  a:\n    key: id\n    columns:\n      id: {tipe: int}\n", `lethe.yaml:5: "tipe" is no key of a column`},
		"column type":        {"tables:\n  a:\n    key: id\n    columns:\n      id: {type: varchar}\n", `lethe.yaml:5: column id has the type "varchar"; there are bytes,`},
		"key not a column":   {"tables:\n  a:\n    key: id\n    columns:\n      no: {type: int}\n", "lethe.yaml:2: table a: the key column id is not among the columns"},
		"no key":             {"tables:\n  a:\n    columns:\n      no: {type: int}\n", "lethe.yaml:2: table a has no key"},
		"SQL":                {"tables:\n  a:\n    table: a; drop table b\n    key: id\n    columns:\n      id: {type: int}\n", "is no plain SQL name"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Read(write(t, t.TempDir(), "lethe.yaml", c.text), nil)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
	// All at once.
	_, err := config.Read(write(t, t.TempDir(), "lethe.yaml", "a: 1\nb: 2\ntimeout: x\n"), []string{"LETHE_NO=1", "LETHE_CACHE_SIZE=x"})
	for _, want := range []string{":1:", ":2:", ":3:", "LETHE_NO", "LETHE_CACHE_SIZE: cache.size"} {
		require.ErrorContains(t, err, want)
	}
	_, err = config.Read(filepath.Join(t.TempDir(), "none.yaml"), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestEnvironmentWins(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "lethe.yaml", "store: sqlite:a.db\ntimeout: 1s\n")
	secret := write(t, dir, "ledger.url", "postgres://u:hunter2@h/ledger\r\n")
	c, err := config.Read(path, []string{
		"LETHE_STORE=postgres://u:p%40ss@h/keys", "LETHE_LEDGER_FILE=" + secret, "LETHE_EPOCHS_WINDOW=none",
		"LETHE_MORE_KMS=local:///a, local:///b", "LETHE_TEST_POSTGRES=x", "LETHE_CONFIG=y", "PATH=z",
		"LETHE_PORT=tcp://10.0.0.1:80", "LETHE_PORT_80_TCP=x", "LETHE_SERVICE_HOST=10.0.0.1",
	})
	require.NoError(t, err)
	require.Equal(t, "postgres://u:p%40ss@h/keys", c.Store.URL())
	require.Equal(t, "postgres://h/keys", c.Store.String())
	require.Equal(t, "postgres://u:hunter2@h/ledger", c.Ledger.URL())
	require.Equal(t, time.Second, c.Timeout)
	require.Negative(t, c.Epochs.Window)
	require.Len(t, c.MoreKMS, 2)

	for _, env := range [][]string{
		{"LETHE_STROE=sqlite:a"}, {"LETHE_STORE=sqlite:a", "LETHE_STORE_FILE=" + secret}, {"LETHE_STORE="},
		{"LETHE_STORE_FILE=" + filepath.Join(dir, "none")}, {"LETHE_TIMEOUT_FILE=" + secret}, {"LETHE_TABLES=x"},
	} {
		_, err := config.Read("", env)
		require.Error(t, err, env)
	}
}

// Every setting of the documentation is one, and the other way round.
func TestDocumentationNamesEverySetting(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	for _, name := range config.SettingNames() {
		require.Regexp(t, `\b`+name+`\b`, string(doc))
	}
	names := strings.Join(config.SettingNames(), " ")
	for _, env := range regexp.MustCompile(`LETHE_[A-Z_]+[A-Z]`).FindAllString(string(doc), -1) {
		if env != "LETHE_CONFIG" && env != "LETHE_STORE_FILE" && env != "LETHE_TEST" {
			require.Contains(t, names, env)
		}
	}
}

// No way of printing shows a password.
func TestNothingShowsASecret(t *testing.T) {
	c, err := config.Read("", []string{"LETHE_STORE=postgres://u:hunter2@h/d?sslpassword=hunter3", "LETHE_KMS_PASSPHRASE=hunter4", "LETHE_KMS=pkcs11:token=t?pin-value=hunter5"})
	require.NoError(t, err)
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		_, _ = fmt.Fprintf(&out, verb+verb+verb, c, c.Store, *c.KMSAddress())
		_, _ = fmt.Fprintf(&out, verb, struct{ C *config.Config }{c})
	}
	data, err := json.Marshal(c)
	require.NoError(t, err)
	_, _ = out.Write(data)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "c", c, "a", c.Store)
	require.NotRegexp(t, `hunter\d`, out.String())
	require.Equal(t, "a [hidden] b [hidden]", c.Hide("a hunter2 b hunter4"))
}

func mux(t *testing.T, c *config.Config) *kms.Mux {
	t.Helper()
	var m kms.Mux
	require.NoError(t, m.Register("local", localkms.Opener(localkms.Options{Passphrase: c.KMSPassphrase()})))
	return &m
}

// newKey makes the local key file that a URI names.
func newKey(c *config.Config) func(context.Context, string) error {
	return func(_ context.Context, uri string) error {
		_, err := localkms.Create(strings.TrimPrefix(uri, "local://"), localkms.Options{Passphrase: c.KMSPassphrase()})
		return err
	}
}

func testOpen(t *testing.T, env []string) {
	t.Helper()
	ctx := t.Context()
	c, err := config.Read("", env)
	require.NoError(t, err)
	m := mux(t, c)

	_, err = c.Open(ctx, m)
	require.Error(t, err, "Open makes nothing")
	require.NoError(t, c.Init(ctx, m, config.InitOptions{NewKey: newKey(c)}))
	require.ErrorIs(t, c.Init(ctx, m, config.InitOptions{NewKey: newKey(c)}), envelope.ErrStoreExists)

	s, err := c.Open(ctx, m)
	require.NoError(t, err)
	require.NotNil(t, s.Keyring)
	r, err := s.Keyring.Forget(ctx, lethe.Subject{Kind: "customer", ID: "1"})
	require.NoError(t, err)
	require.True(t, r.Unknown)
	if s.DB != nil {
		require.NoError(t, s.DB.PingContext(ctx))
	}
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err = s.Keyring.Status(ctx)
	require.ErrorIs(t, err, envelope.ErrClosed)

	restored, err := c.Restore(ctx, m, envelope.RestoreOptions{})
	require.NoError(t, err)
	require.Zero(t, restored.Behind)
	s, err = c.Open(ctx, m)
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

func TestOpenSQLite(t *testing.T) {
	dir := t.TempDir()
	app := filepath.Join(dir, "app.db")
	require.NoError(t, os.WriteFile(app, nil, 0o600))
	for _, ledger := range []string{"file:", "sqlite:"} {
		testOpen(t, []string{
			"LETHE_STORE=sqlite:" + filepath.Join(dir, ledger[:4]+"keys.db"), "LETHE_KMS=local://" + filepath.Join(dir, ledger[:4]+"kek.json"),
			"LETHE_KMS_PASSPHRASE=open sesame", "LETHE_LEDGER=" + ledger + filepath.Join(dir, ledger[:4]+"forgets"), "LETHE_DATABASE=sqlite:" + app,
		})
	}
}

func TestOpenPostgres(t *testing.T) {
	dsn := os.Getenv("LETHE_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("SKIPPED: LETHE_TEST_POSTGRES is not set")
	}
	testOpen(t, postgresEnv(t, dsn))
}

// postgresEnv makes schemas for a store and a ledger, that are dropped at the end.
func postgresEnv(t *testing.T, dsn string) []string {
	t.Helper()
	c, err := config.Read("", []string{"LETHE_DATABASE=" + dsn})
	require.NoError(t, err)
	db := config.OpenDatabase(t, c)
	env := []string{"LETHE_KMS=local://" + filepath.Join(t.TempDir(), "kek.json"), "LETHE_DATABASE=" + dsn}
	for _, name := range []string{"store", "ledger"} {
		schema := fmt.Sprintf("lethe_config_%s_%d", name, time.Now().UnixNano())
		_, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+schema)
		require.NoError(t, err)
		t.Cleanup(func() {
			_, err := db.ExecContext(context.Background(), "DROP SCHEMA "+schema+" CASCADE")
			require.NoError(t, err)
		})
		u, err := url.Parse(dsn)
		require.NoError(t, err)
		q := u.Query()
		q.Set("search_path", schema)
		u.RawQuery = q.Encode()
		env = append(env, "LETHE_"+strings.ToUpper(name)+"="+u.String())
	}
	return env
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	open := func(env ...string) error {
		c, err := config.Read("", env)
		require.NoError(t, err)
		_, err = c.Open(t.Context(), mux(t, c))
		require.Error(t, err)
		return err
	}
	err := open()
	for _, want := range []string{"store", "kms", "ledger"} {
		require.ErrorContains(t, err, want+" is missing")
	}
	require.ErrorContains(t, open("LETHE_STORE=sqlite:"+at("a"), "LETHE_LEDGER=sqlite:"+at("a"), "LETHE_KMS=local://"+at("k")), "one database")
	require.ErrorIs(t, open("LETHE_STORE=sqlite:"+at("a"), "LETHE_LEDGER=file:"+at("b"), "LETHE_KMS=local://"+at("k")), fs.ErrNotExist)
	require.NoFileExists(t, at("a"))

	err = open("LETHE_STORE=postgres://u:hunter2@127.0.0.1:1/d", "LETHE_LEDGER=file:"+at("b"), "LETHE_KMS=local://"+at("k"))
	require.ErrorIs(t, err, envelope.ErrUnavailable)
	require.NotContains(t, err.Error(), "hunter2")

	// A ledger that is gone is never made anew beside a store in use.
	env := []string{"LETHE_STORE=sqlite:" + at("s"), "LETHE_LEDGER=file:" + at("l"), "LETHE_KMS=local://" + at("k")}
	c, err := config.Read("", env)
	require.NoError(t, err)
	require.NoError(t, c.Init(t.Context(), mux(t, c), config.InitOptions{NewKey: newKey(c)}))
	require.NoError(t, os.Remove(at("l")))
	require.ErrorIs(t, c.Init(t.Context(), mux(t, c), config.InitOptions{}), fs.ErrNotExist)
	require.NoFileExists(t, at("l"))
	require.ErrorIs(t, open(env...), fs.ErrNotExist)
}

func TestSigner(t *testing.T) {
	dir := t.TempDir()
	c, err := config.Read("", nil)
	require.NoError(t, err)
	s, err := c.Signer()
	require.NoError(t, err)
	require.Nil(t, s)
	for _, text := range []string{"x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		c, err = config.Read("", []string{"LETHE_RECEIPT_KEY=" + write(t, dir, "k.pem", text)})
		require.NoError(t, err)
		_, err = c.Signer()
		require.Error(t, err)
		require.NotContains(t, err.Error(), "AAAA")
	}
	c, err = config.Read("", []string{"LETHE_RECEIPT_KEY=" + filepath.Join(dir, "none.pem")})
	require.NoError(t, err)
	_, err = c.Signer()
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	secret := write(t, dir, "pass", "x")
	at := func(env ...string) []string {
		c, err := config.Read("", env)
		require.NoError(t, err)
		return c.Warnings()
	}
	require.Empty(t, at())
	require.Empty(t, at("LETHE_STORE=sqlite:/a/keys.db", "LETHE_LEDGER=file:/b/forgets", "LETHE_KMS_PASSPHRASE_FILE="+secret))
	require.Len(t, at("LETHE_STORE=sqlite:/a/keys.db", "LETHE_LEDGER=file:/a/forgets"), 1)
	one := at("LETHE_STORE=postgres://u:hunter2@h/d?search_path=a", "LETHE_LEDGER=postgres://v@h/d?search_path=b")
	require.Len(t, one, 1)
	require.NotContains(t, one[0], "hunter2")
	if runtime.GOOS != "windows" {
		require.NoError(t, os.Chmod(secret, 0o640))
		one = at("LETHE_KMS_PASSPHRASE_FILE="+secret, "LETHE_RECEIPT_KEY="+secret)
		require.Len(t, one, 2)
		require.Contains(t, one[0], "chmod 600")
	}
}

func FuzzFile(f *testing.F) {
	f.Add(whole)
	f.Add("store: &a sqlite:x\nkms: *a\n")
	f.Add("tables: {a: {key: [id], columns: {id: {type: int}}}}")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "lethe.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		c, err := config.Read(path, nil)
		if err != nil {
			return
		}
		for _, table := range c.Tables {
			if _, err := table.Type(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
