package main

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
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

// customer is the struct of the service whose table the program works on.
type customer struct {
	Keys     lethe.Keys           `db:"sealed_keys" lethe:"customers"`
	ID       string               `db:"id" lethe:"subject=customer"`
	Email    lethe.Secret[string] `db:"email" lethe:"email,mask=email"`
	EmailIdx lethe.BlindIndex     `db:"email_idx" lethe:"email_idx,of=email,norm=email/1,bits=32"`
	Note     lethe.Secret[string] `db:"note" lethe:"note,purpose=support"`
}

const tablesYAML = `tables:
  customers:
    key: [id]
    columns:
      sealed_keys: {type: keys, lethe: customers}
      id:          {type: string, lethe: "subject=customer"}
      email:       {type: secret string, lethe: "email,mask=email"}
      email_idx:   {type: index, lethe: "email_idx,of=email,norm=email/1,bits=32"}
      note:        {type: secret string, lethe: "note,purpose=support"}
`

// secret is in every place where a credential may be.
const secret = "hunter2secret"

// site is a service's keys and table, and the program beside it.
type site struct {
	t   *testing.T
	dir string
	env []string
}

func (s *site) file(name string) string { return filepath.Join(s.dir, name) }

// newSite is one on SQLite, with a configuration file.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.write("lethe.yaml", "store: sqlite:keys.db\nkms: local://kek.json\nledger: file:forgets.ledger\ndatabase: sqlite:app.db\nreceipt_key: receipts.pem\n"+tablesYAML)
	s.env = []string{"LETHE_CONFIG=" + s.file("lethe.yaml")}
	s.write("app.db", "")
	s.must("receipt", "keygen", "--out", s.file("receipts.pem"), "--public", s.file("pub.pem"))
	return s
}

// newPostgresSite is one on PostgreSQL, each part in a schema of its own.
func newPostgresSite(t *testing.T) *site {
	t.Helper()
	dsn := os.Getenv("LETHE_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("SKIPPED: LETHE_TEST_POSTGRES is not set")
	}
	s := &site{t: t, dir: t.TempDir()}
	s.write("lethe.yaml", "kms: local://kek.json\nreceipt_key: receipts.pem\n"+tablesYAML)
	s.env = []string{"LETHE_CONFIG=" + s.file("lethe.yaml")}
	db, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	for _, name := range []string{"store", "ledger", "database"} {
		schema := fmt.Sprintf("lethe_cli_%s_%d", name, time.Now().UnixNano())
		_, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+schema)
		require.NoError(t, err)
		t.Cleanup(func() { _, _ = db.ExecContext(context.Background(), "DROP SCHEMA "+schema+" CASCADE") })
		u, err := url.Parse(dsn)
		require.NoError(t, err)
		q := u.Query()
		q.Set("search_path", schema)
		u.RawQuery = q.Encode()
		u.User = url.UserPassword(u.User.Username(), secret) // which a server that trusts does not ask for
		s.env = append(s.env, "LETHE_"+strings.ToUpper(name)+"="+u.String())
	}
	s.must("receipt", "keygen", "--out", s.file("receipts.pem"), "--public", s.file("pub.pem"))
	return s
}

func (s *site) write(name, text string) {
	s.t.Helper()
	require.NoError(s.t, os.WriteFile(s.file(name), []byte(text), 0o600))
}

// result is how the program ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs the program with the site's environment and nothing else of LETHE_….
func (s *site) run(stdin string, args ...string) result {
	s.t.Helper()
	code, stdout, stderr := cliIn(s.t, stdin, s.env, args...)
	require.NotContains(s.t, stdout+stderr, secret, "%v", args)
	return result{code, stdout, stderr}
}

func environ(extra []string) []string {
	out := slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, "LETHE_") })
	return append(out, extra...)
}

// must is run for what must succeed; it returns standard output.
func (s *site) must(args ...string) string {
	s.t.Helper()
	r := s.run("", args...)
	require.Zero(s.t, r.code, "%v: %s%s", args, r.stdout, r.stderr)
	return r.stdout
}

// open opens the site as the service does.
func (s *site) open() *config.Stack {
	s.t.Helper()
	env := slices.DeleteFunc(slices.Clone(s.env), func(pair string) bool { return strings.HasPrefix(pair, "LETHE_CONFIG=") })
	cfg, err := config.Read(s.file("lethe.yaml"), env)
	require.NoError(s.t, err)
	var mux kms.Mux
	require.NoError(s.t, mux.Register("local", localkms.Opener(localkms.Options{})))
	stack, err := cfg.Open(s.t.Context(), &mux)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = stack.Close() })
	return stack
}

func email(i int) string { return fmt.Sprintf("person%d@example.com", i) }
func id(i int) string    { return fmt.Sprintf("cus_%d", i) }

// fill makes the table with n rows, sealed as the service does.
func (s *site) fill(n int) {
	s.t.Helper()
	stack := s.open()
	blob := "BLOB"
	if stack.Dialect == lethe.Postgres {
		blob = "BYTEA"
	}
	_, err := stack.DB.ExecContext(s.t.Context(), strings.ReplaceAll("CREATE TABLE customers (id TEXT PRIMARY KEY NOT NULL, sealed_keys BLOB, email BLOB, email_idx BLOB, note BLOB)", "BLOB", blob))
	require.NoError(s.t, err)
	sealer, err := lethe.For[customer](stack.Keyring)
	require.NoError(s.t, err)
	rows := make([]customer, n)
	for i := range rows {
		rows[i] = customer{ID: id(i), Email: lethe.Of(email(i)), Note: lethe.Of("note")}
	}
	require.NoError(s.t, sealer.SealSlice(s.t.Context(), rows))
	for i := range rows {
		c := &rows[i]
		_, err := stack.DB.ExecContext(s.t.Context(), "INSERT INTO customers (id, sealed_keys, email, email_idx, note) VALUES ($1, $2, $3, $4, $5)", c.ID, c.Keys, c.Email, c.EmailIdx, c.Note)
		require.NoError(s.t, err)
	}
	require.NoError(s.t, stack.Close())
}

// read opens row i as the service does.
func (s *site) read(i int) customer {
	s.t.Helper()
	stack := s.open()
	defer func() { _ = stack.Close() }()
	sealer, err := lethe.For[customer](stack.Keyring)
	require.NoError(s.t, err)
	var c customer
	row := stack.DB.QueryRowContext(s.t.Context(), "SELECT id, sealed_keys, email, email_idx, note FROM customers WHERE id = $1", id(i))
	require.NoError(s.t, row.Scan(&c.ID, &c.Keys, &c.Email, &c.EmailIdx, &c.Note))
	require.NoError(s.t, sealer.Open(s.t.Context(), &c))
	return c
}

func (s *site) opens(i int) {
	s.t.Helper()
	c := s.read(i)
	got, err := c.Email.Reveal()
	require.NoError(s.t, err)
	require.Equal(s.t, email(i), got)
}

// decode reads a JSON answer strictly.
func decodeAnswer[T any](t *testing.T, text string) (v T) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&v), text)
	return v
}

func TestDaySQLite(t *testing.T)   { day(t, newSite(t)) }
func TestDayPostgres(t *testing.T) { day(t, newPostgresSite(t)) }

// day is what an operator does, from nothing to a proof of forgetting.
func day(t *testing.T, s *site) {
	r := s.run("", "status")
	require.NotZero(t, r.code)
	require.Contains(t, r.stderr, "lethe init")

	require.Contains(t, s.must("init"), "made the key file")
	require.True(t, decodeAnswer[initResult](t, s.must("init", "--json")).Already)
	require.True(t, decodeAnswer[configResult](t, s.must("config", "check", "--open", "--json")).Opened)
	const n = 40
	s.fill(n)

	// New keys for one person, and their row under them.
	require.Contains(t, s.must("rotate", "subject", "--kind", "customer", "--id", id(1)), "2 new key versions")
	dry := decodeAnswer[jobResult](t, s.must("rewrap", "customers", "--json", "--dry-run"))
	require.EqualValues(t, 1, dry.Estimate.Change)
	require.Contains(t, s.must("rewrap", "customers", "--dry-run"), "about 1 are to be changed")
	job := decodeAnswer[jobResult](t, s.must("rewrap", "customers", "--json", "--unlimited"))
	require.True(t, job.Done)
	require.EqualValues(t, 1, job.All.Changed)
	s.opens(1)

	// New data keys for all.
	before := s.read(2).Keys
	job = decodeAnswer[jobResult](t, s.must("reseal", "customers", "--json", "--unlimited", "--workers", "2", "--batch", "7"))
	require.EqualValues(t, n, job.All.Changed)
	require.False(t, s.read(2).Keys.Equal(before))
	s.opens(2)

	// A new index key, and the old one ended.
	s.must("rotate", "index", "customers", "email_idx")
	job = decodeAnswer[jobResult](t, s.must("reindex", "customers", "--json", "--unlimited", "--retire", "--yes"))
	require.EqualValues(t, n, job.All.Changed)
	require.Len(t, job.Receipts, 1)
	require.Len(t, job.Receipts[0].KeyIDs, 1)

	require.Contains(t, s.must("rotate", "kek", "--yes"), "the root of epoch 2")
	s.opens(3)

	// Held, then forgotten with the release.
	s.must("hold", "--kind", "customer", "--id", id(4), "--reason", "case-7")
	r = s.run(id(4)+"\n", "forget", "--kind", "customer", "--yes", "--json")
	require.Zero(t, r.code, r.stderr)
	require.True(t, decodeAnswer[forgetResult](t, r.stdout).Receipt.Deferred)
	released := decodeAnswer[receiptsResult](t, s.must("release", "--kind", "customer", "--id", id(4), "--reason", "case-7", "--json"))
	require.Len(t, released.Receipts, 1)
	require.Equal(t, exitVerdict, s.run("", "release", "--kind", "customer", "--id", id(4), "--reason", "case-7").code)

	// Forgotten for good, with a receipt that anybody can verify.
	receipt := s.file("receipt.json")
	r = s.run(id(5)+"\n", "forget", "--kind", "customer", "--now", "--yes", "--receipt", receipt, "--json")
	require.Zero(t, r.code, r.stderr)
	forgot := decodeAnswer[forgetResult](t, r.stdout)
	require.True(t, forgot.Receipt.Complete)
	require.NotNil(t, forgot.Signed)
	require.EqualValues(t, 3, forgot.Closed.Epoch)
	require.NotContains(t, r.stdout+r.stderr, id(5))
	require.Contains(t, s.must("receipt", "verify", "--key", s.file("pub.pem"), receipt), "Verified")
	require.Equal(t, lethe.StatusForgotten, s.read(5).Email.Status())
	again := decodeAnswer[forgetResult](t, s.must("receipt", "issue", strconv.FormatUint(forgot.Receipt.Seq, 10), "--json"))
	require.True(t, again.Receipt.Complete)

	// One purpose.
	s.must("forget", "--kind", "customer", "--id", id(6), "--purpose", "support", "--yes")
	six := s.read(6)
	require.Equal(t, lethe.StatusForgotten, six.Note.Status())
	require.Equal(t, lethe.StatusOpen, six.Email.Status())
	job = decodeAnswer[jobResult](t, s.must("rewrap", "customers", "--json", "--unlimited"))
	require.Positive(t, job.Last.Forgotten)

	// A grace period that is used, suspensions, a readmission.
	s.must("forget", "--kind", "customer", "--id", id(7), "--after", "24h", "--yes")
	require.Equal(t, lethe.StatusDenied, s.read(7).Email.Status())
	s.must("unforget", "--kind", "customer", "--id", id(7))
	s.opens(7)
	s.must("suspend", "--kind", "customer", "--id", id(8), "--purpose", "support")
	require.Equal(t, lethe.StatusDenied, s.read(8).Note.Status())
	s.must("resume", "--kind", "customer", "--id", id(8), "--purpose", "support")
	s.must("readmit", "--kind", "customer", "--id", id(5))
	require.Empty(t, decodeAnswer[receiptsResult](t, s.must("forget-due", "--json")).Receipts)

	closed := decodeAnswer[closedResult](t, s.must("epoch", "close", "--json"))
	require.EqualValues(t, 4, closed.Epoch)
	require.True(t, decodeAnswer[closedResult](t, s.must("epoch", "close", "--json")).NoOp)
	require.Contains(t, s.must("epoch", "erase-due"), "is to be destroyed from")
	st := decodeAnswer[statusResult](t, s.must("status", "--check", "--json"))
	require.EqualValues(t, 4, st.Epoch)
	require.Positive(t, st.Promise.BackupsSeconds)

	require.Contains(t, s.must("restore", "--yes"), "restored from a backup of epoch 4")
	s.opens(9)
}

// The key store moves to another KMS key, and the configuration after it.
func TestRotateToAnotherKey(t *testing.T) {
	s := newSite(t)
	s.must("init")
	s.fill(2)
	to := "local://" + s.file("new.json")
	require.Equal(t, exitTrouble, s.run("", "rotate", "kek", "--to", to, "--yes").code, "there is no such file")
	require.Equal(t, exitTrouble, s.run("", "rotate", "kek", "--to", to, "--create").code, "without --yes")
	require.NoFileExists(t, s.file("new.json"))
	res := decodeAnswer[rotateKEKResult](t, s.must("rotate", "kek", "--to", to, "--create", "--yes", "--json"))
	require.True(t, res.Moved)
	require.EqualValues(t, 2, res.Epoch)

	require.Equal(t, exitDamage, s.run("", "status").code, "the configuration has the old key")
	s.env = append(s.env, "LETHE_KMS="+to, "LETHE_MORE_KMS=local://"+s.file("kek.json"))
	st := decodeAnswer[statusResult](t, s.must("status", "--json"))
	require.EqualValues(t, 2, st.Epoch)
	require.Equal(t, exitTrouble, s.run("", "rotate", "kek", "--to", "local://"+s.file("kek.json"), "--create", "--yes").code, "it is there already")
	s.opens(1)
}

// A backup that was put back does not bring the forgotten back.
func TestRestore(t *testing.T) {
	s := newSite(t)
	s.must("init")
	s.fill(3)
	backup, err := os.ReadFile(s.file("keys.db"))
	require.NoError(t, err)
	s.must("forget", "--kind", "customer", "--id", id(0), "--yes")
	s.must("epoch", "close")
	for _, name := range []string{"keys.db-wal", "keys.db-shm"} {
		_ = os.Remove(s.file(name))
	}
	require.NoError(t, os.WriteFile(s.file("keys.db"), backup, 0o600))
	r := s.run("", "status")
	require.Equal(t, exitDamage, r.code, r.stderr)
	require.Equal(t, exitTrouble, s.run("", "restore").code, "without --yes")
	res := decodeAnswer[restoreResult](t, s.must("restore", "--yes", "--json"))
	require.Positive(t, res.Behind)
	require.Equal(t, lethe.StatusForgotten, s.read(0).Email.Status())
	s.opens(1)
}

func TestExitCodes(t *testing.T) {
	s := newSite(t)
	s.must("init")
	s.fill(2)
	s.must("forget", "--kind", "customer", "--id", id(0), "--yes")
	away := func(pair string) *site { return &site{t: t, dir: s.dir, env: append(slices.Clone(s.env), pair)} }
	other := newSite(t)
	other.must("init")
	for name, c := range map[string]struct {
		site *site
		args string
		code int
		want string
	}{
		"fine":                     {s, "status", 0, ""},
		"forgotten already":        {s, "suspend --kind customer --id " + id(0), 1, "forgotten"},
		"not held":                 {s, "release --kind customer --id x --reason r", 1, "not held"},
		"not forgotten":            {s, "readmit --kind customer --id x", 1, "not forgotten"},
		"no key":                   {s, "rotate subject --kind customer --id x", 1, "there is no key"},
		"nonsense":                 {s, "nonsense", 2, "see lethe --help"},
		"no kind":                  {s, "forget --id x --yes", 2, "--kind"},
		"an id in the wrong place": {s, "suspend --kind customer cus_private", 2, "--id"},
		"socket that is not there": {away("LETHE_STORE=postgres:///keys?host=/none"), "status", 3, "unavailable"},
		"no id":                    {s, "forget --kind customer --yes", 2, "standard input ended"},
		"bad kind":                 {s, "suspend --kind \t --id x", 2, ""},
		"no such table":            {s, "rewrap orders", 2, `no table "orders"; there are customers`},
		"no such index":            {s, "rotate index customers phone", 2, "there are email_idx"},
		"both":                     {s, "forget --kind customer --id x --after 1h --now --yes", 2, "--after"},
		"two rates":                {s, "rewrap customers --rate 5 --unlimited", 2, "--rate"},
		"bad time":                 {s, "hold --kind customer --id x --reason r --until tomorrow", 2, "is no time"},
		"bad shell":                {s, "completion tcsh", 2, ""},
		"needs --yes: forget":      {s, "forget --kind customer --id " + id(1), 2, "--yes is needed"},
		"needs --yes: immediate":   {s, "epoch close --immediate", 2, "--yes is needed"},
		"needs --yes: kek":         {s, "rotate kek", 2, "--yes is needed"},
		"needs --yes: restore":     {s, "restore", 2, "--yes is needed"},
		"needs --yes: retire":      {s, "reindex customers --retire", 2, "--yes is needed"},
		"no config":                {s, "status -c none.yaml", 2, "none.yaml"},
		"a folder":                 {s, "config check -c " + s.dir, 2, "directory"},
		"half a configuration":     {&site{t: t, dir: s.dir}, "config check", 2, "store is missing"},
		"no store":                 {away("LETHE_STORE=sqlite:" + s.file("none.db")), "status", 2, "none.db"},
		"unknown scheme":           {away("LETHE_KMS=abc://x"), "status", 2, "abc"},
		"unknown setting":          {away("LETHE_STROE=x"), "status", 2, "LETHE_STROE"},
		"KMS away":                 {away("LETHE_KMS=hcvault://127.0.0.1:1/transit/keys/x?tls=off"), "status", 3, "unavailable"},
		"store away":               {away("LETHE_STORE=postgres://lethe@127.0.0.1:1/keys"), "status", 3, "unavailable"},
		"database away":            {away("LETHE_DATABASE=postgres://lethe@127.0.0.1:1/app"), "rewrap customers", 3, "unavailable"},
		"another's key":            {away("LETHE_KMS=local://" + other.file("kek.json")), "status", 5, "does not open this key store"},
		"another's ledger":         {away("LETHE_LEDGER=file:" + other.file("forgets.ledger")), "status", 5, "ledger"},
		"no receipt":               {s, "receipt issue 1", 5, ""},
		"not verified":             {s, "receipt show " + s.file("lethe.yaml"), 1, "not verified"},
		"nothing sealed":           {s, "inspect abcdef", 1, "neither"},
		"receipt without a signer": {other, "receipt issue 1 --receipt x", 5, ""},
	} {
		r := c.site.run("", strings.Split(c.args, " ")...)
		require.Equal(t, c.code, r.code, "%s: %s", name, r.stderr)
		require.Contains(t, r.stderr, c.want, name)
		require.NotContains(t, r.stderr, "cus_private")
		require.False(t, r.code == exitUnavailable && strings.Contains(r.stderr, "lethe init"), name)
		if c.code != 0 {
			require.Empty(t, r.stdout, name)
			// The same as JSON.
			r = c.site.run("", append(strings.Split(c.args, " "), "--json")...)
			require.Equal(t, c.code, decodeAnswer[failure](t, r.stderr).Exit, name)
		}
	}
	s.opens(1) // nothing that was refused did anything
}

// Rows that fail are listed, and do not stop a job.
func TestJobLeavesWhatFails(t *testing.T) {
	s := newSite(t)
	s.must("init")
	s.fill(5)
	stack := s.open()
	_, err := stack.DB.ExecContext(t.Context(), "UPDATE customers SET email = (SELECT email FROM customers WHERE id = 'cus_1') WHERE id = 'cus_0'")
	require.NoError(t, err)
	require.NoError(t, stack.Close())
	r := s.run("", "reseal", "customers", "--json")
	require.Equal(t, exitPartly, r.code, r.stderr)
	res := decodeAnswer[jobResult](t, r.stdout)
	require.EqualValues(t, 4, res.All.Changed)
	require.Equal(t, []string{"cus_0"}, res.Failures[0].Key)
	r = s.run("", "reseal", "customers", "--restart")
	require.Equal(t, exitPartly, r.code)
	require.Contains(t, r.stdout, "row (cus_0): ")
	require.NotContains(t, r.stderr, "cus_0")
}

// No output of any command shows a credential. That goes for every run of a site.
func TestSecretsStayHidden(t *testing.T) {
	s := newSite(t)
	s.must("init")
	s.write("secret", secret+"\n")
	s.write("bad.yaml", "store: postgres://lethe:"+secret+"@127.0.0.1:1/keys\n")
	u := "postgres://lethe:" + secret + "@127.0.0.1:1/keys?sslpassword=" + secret
	for _, env := range [][]string{
		{"LETHE_STORE=" + u}, {"LETHE_LEDGER=" + u}, {"LETHE_DATABASE=" + u}, {"LETHE_STORE=postgres://lethe:" + secret + "%zz@127.0.0.1:1/keys"},
		{"LETHE_STORE=postgres://lethe:" + secret + "@127.0.0.1:99999999/keys"}, {"LETHE_KMS=hcvault://user:" + secret + "@127.0.0.1:1/transit/keys/x"},
		{"LETHE_KMS=hcvault://127.0.0.1:1/transit/keys/x?tls=off", "VAULT_TOKEN=" + secret}, {"LETHE_KMS_PASSPHRASE=" + secret},
		{"LETHE_KMS_PASSPHRASE_FILE=" + s.file("secret")}, {"LETHE_KMS=pkcs11:token=x?pin-value=" + secret}, {"LETHE_CONFIG=" + s.file("bad.yaml")},
	} {
		at := &site{t: t, dir: s.dir, env: append(slices.Clone(s.env), env...)}
		for _, args := range [][]string{
			{"status"}, {"config", "check"}, {"config", "check", "--open", "--json"}, {"init"}, {"rewrap", "customers"},
			{"forget", "--kind", "customer", "--id", "x", "--yes", "--json"}, {"restore", "--yes"},
		} {
			r := at.run("", args...)
			require.NotContains(t, r.stdout+r.stderr, secret, "%v %v", env, args)
			require.NotContains(t, r.stdout+r.stderr, url.QueryEscape(secret))
		}
	}
}

// TestHelp holds the whole help to testdata/help.txt; UPDATE_GOLDEN=1 writes it.
func TestHelp(t *testing.T) {
	var b strings.Builder
	var visit func(path []string)
	commandLine := regexp.MustCompile(`(?m)^  (?:[a-z]+ )?([a-z-]+)  +\S`)
	visit = func(path []string) {
		code, stdout, stderr := cli(t, "", append(slices.Clone(path), "--help")...)
		require.Zero(t, code, stderr)
		fmt.Fprintf(&b, "$ lethe %s\n%s\n", strings.Join(append(slices.Clone(path), "--help"), " "), stdout)
		_, list, ok := strings.Cut(stdout, "\nCommands:\n")
		if !ok {
			return
		}
		for _, m := range commandLine.FindAllStringSubmatch(list, -1) {
			visit(append(slices.Clone(path), m[1]))
		}
	}
	visit(nil)
	golden := filepath.Join("testdata", "help.txt")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), b.String())

	// doc.go names every command.
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?m)^\$ lethe (.*) --help$`).FindAllStringSubmatch(b.String(), -1) {
		require.Contains(t, string(doc), "lethe "+m[1])
	}
}

// doc.go has every member of every answer.
func TestDocumentationNamesEveryMember(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	_, text, ok := strings.Cut(string(doc), "// # JSON")
	require.True(t, ok)
	names := map[string]bool{}
	for _, word := range regexp.MustCompile(`[a-z_A-Z]+`).FindAllString(text, -1) {
		names[word] = true
	}
	for _, answer := range []any{
		initResult{}, configResult{}, statusResult{}, promiseResult{}, erasureResult{}, forgetResult{}, receiptsResult{}, done{}, closedResult{},
		restoreResult{}, rotateKEKResult{}, rotatedResult{}, jobResult{}, rowFailure{}, estimateResult{}, inspected{}, scopeResult{}, memberResult{}, inventoryResult{},
		description{}, columnDescribed{}, verified{}, failure{}, envelope.SignedReceipt{},
	} {
		for f := range reflect.TypeOf(answer).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			require.True(t, !f.IsExported() || name == "" || names[name], "%T.%s", answer, name)
		}
	}
}

func TestInventory(t *testing.T) {
	s := newSite(t)
	md := s.must("inventory")
	require.Contains(t, md, "| customers | email  | customers | email | string | customer |       |         | email | email_idx (email/1, 32 bits) |")
	require.Contains(t, md, "| customers | note   | customers | note  | string | customer |       | support |       |                              |")
	res := decodeAnswer[inventoryResult](t, s.must("inventory", "customers", "--json"))
	require.Equal(t, columnDescribed{Column: "email", Field: "email", Type: "string", Subject: "customer", Mask: "email", Index: "email_idx", Norm: "email/1", Bits: 32}, res.Tables[0].Columns[0])

	s.write("lethe.yaml", "tables:\n  t:\n    key: id\n    columns:\n      id: {type: string, lethe: \"subject=customer\"}\n      e: {type: secret string, lethe: \"e,msk=x\"}\n")
	r := s.run("", "inventory")
	require.Equal(t, exitTrouble, r.code)
	require.Contains(t, r.stderr, "msk")
	require.Contains(t, r.stderr, "lethe.Keys")
	require.NotContains(t, r.stderr, "struct {")
}

func TestCompletion(t *testing.T) {
	s := newSite(t)
	for shell, want := range map[string]string{"bash": "complete -C ", "zsh": "bashcompinit", "fish": "complete -f -c lethe"} {
		script := s.must("completion", shell)
		require.Contains(t, script, want)
		require.Contains(t, script, binary)
		if path, err := exec.LookPath(shell); err == nil && runtime.GOOS != "windows" {
			out, err := exec.CommandContext(t.Context(), path, "-c", script).CombinedOutput()
			require.NoError(t, err, string(out))
		}
	}
	for line, want := range map[string][]string{
		"lethe sta":                {"status"},
		"lethe rotate ":            {"index", "kek", "subject"},
		"lethe rewrap ":            {"customers"},
		"lethe epoch close --imm":  {"--immediate"},
		"lethe receipt verify --l": {"--ledger"},
	} {
		at := &site{t: t, dir: s.dir, env: append(slices.Clone(s.env), "COMP_LINE="+line)}
		got := strings.Fields(at.must())
		slices.Sort(got)
		require.Equal(t, want, got, line)
	}
}

// The index keys of rows that could not be computed anew are not ended.
func TestRetireWaitsForTheSuspended(t *testing.T) {
	s := newSite(t)
	s.must("init")
	s.fill(3)
	s.must("suspend", "--kind", "customer", "--id", id(1))
	s.must("rotate", "index", "customers", "email_idx")
	r := s.run("", "reindex", "customers", "--retire", "--yes", "--json")
	require.Equal(t, exitPartly, r.code, r.stderr)
	require.Empty(t, decodeAnswer[jobResult](t, r.stdout).Receipts)
	s.must("resume", "--kind", "customer", "--id", id(1))
	require.Contains(t, s.must("reindex", "customers", "--retire", "--yes"), "older index keys ended: 1")
}

func TestInspect(t *testing.T) {
	s := newSite(t)
	s.must("init")
	s.fill(1)
	c := s.read(0)
	header, err := c.Keys.MarshalText()
	require.NoError(t, err)
	res := decodeAnswer[inspected](t, s.must("inspect", "--json", string(header)))
	require.Equal(t, "header", res.What)
	require.Equal(t, "aes-256-gcm", res.Suite)
	require.Len(t, res.Scopes, 2)
	require.ElementsMatch(t, []string{"default", "purpose support"}, []string{res.Scopes[0].Names, res.Scopes[1].Names})
	for _, form := range []string{hex.EncodeToString(c.Keys.Bytes()), fmt.Sprintf(`\x%X`, c.Keys.Bytes()), string(header) + "\n"} {
		require.Equal(t, res, decodeAnswer[inspected](t, s.must("inspect", "--json", form)))
	}
	r := s.run(string(c.Keys.Bytes()), "inspect", "--json")
	require.Equal(t, res, decodeAnswer[inspected](t, r.stdout), r.stderr)

	cell, err := c.Email.MarshalText()
	require.NoError(t, err)
	res = decodeAnswer[inspected](t, s.must("inspect", "--json", string(cell)))
	require.Equal(t, "cell", res.What)
	require.Equal(t, "bytes", res.Codec)
	require.Equal(t, len(email(0)), res.Lengths["aes-256-gcm"])

	doc, err := json.Marshal(c)
	require.NoError(t, err)
	r = s.run(string(doc), "inspect", "-")
	require.Zero(t, r.code, r.stderr)
	for _, want := range []string{"document", "  Keys:", "  EmailIdx:", "index value, 6 bytes: key version 1, up to 32 bits", "Nothing of this is authenticated", fmt.Sprintf("plaintext of %d bytes", len(email(0)))} {
		require.Contains(t, r.stdout, want)
	}
	// It needs no configuration.
	code, stdout, stderr := cliIn(t, "", nil, "inspect", string(header))
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "unknown group and purpose")
	require.Equal(t, exitVerdict, s.run("{}", "inspect").code)
}

// A signing key that does not sign, or a file in the way of the receipt, stops a
// forget before it begins.
func TestForgetChecksBeforeItDestroys(t *testing.T) {
	s := newSite(t)
	s.must("init")
	s.fill(1)
	s.write("r.json", "x")
	require.Equal(t, exitTrouble, s.run("", "forget", "--kind", "customer", "--id", id(0), "--yes", "--receipt", s.file("r.json")).code)
	require.Equal(t, exitTrouble, s.run("", "forget", "--kind", "customer", "--id", id(0), "--yes", "--receipt", s.file("none/r.json")).code)
	s.write("receipts.pem", "x")
	require.Equal(t, exitTrouble, s.run("", "forget", "--kind", "customer", "--id", id(0), "--yes", "--receipt", s.file("new.json")).code)
	s.opens(0)
}

// A forget whose receipt could not be printed was done, and says so.
func TestForgetIntoFullOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("SKIPPED: there is no /dev/full")
	}
	defer func() { _ = full.Close() }()
	s := newSite(t)
	s.must("init")
	s.fill(1)
	var errs strings.Builder
	cmd := exec.CommandContext(t.Context(), binary, "forget", "--kind", "customer", "--id", id(0), "--yes")
	cmd.Env, cmd.Stdout, cmd.Stderr = environ(s.env), full, &errs
	require.Error(t, cmd.Run())
	require.Equal(t, exitPartly, cmd.ProcessState.ExitCode(), errs.String())
	require.Contains(t, errs.String(), "lethe receipt issue")
	require.Equal(t, lethe.StatusForgotten, s.read(0).Email.Status())
}
