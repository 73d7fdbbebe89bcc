package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/fileledger"
)

// binary is the program itself, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "lethe")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "lethe.exe")
	if out, err := exec.CommandContext(context.Background(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		panic(string(out))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func cli(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return cliIn(t, stdin, nil, args...)
}

// cliIn runs the program with these variables of LETHE_… and no others.
func cliIn(t *testing.T, stdin string, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, errs bytes.Buffer
	cmd.Env = environ(env)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// files are a key pair that the program made, a ledger, and a receipt of a forget in it.
type files struct {
	dir, key, pub, ledger, receipt string
	text                           []byte
}

func newFiles(t *testing.T) files {
	t.Helper()
	dir := t.TempDir()
	f := files{dir: dir, key: filepath.Join(dir, "key.pem"), pub: filepath.Join(dir, "pub.pem"), ledger: filepath.Join(dir, "forgets.ledger"), receipt: filepath.Join(dir, "receipt.json")}
	code, _, stderr := cli(t, "", "receipt", "keygen", "--out", f.key, "--public", f.pub)
	require.Zero(t, code, stderr)

	ledger, err := fileledger.Create(t.Context(), f.ledger)
	require.NoError(t, err)
	ring := envelopetest.NewKeyring(t, envelope.Options{Ledger: ledger})
	r, err := ring.Forget(t.Context(), envelope.Subject{Kind: "customer", ID: "cus_1"})
	require.NoError(t, err)
	require.NoError(t, ledger.Close())

	data, err := os.ReadFile(f.key)
	require.NoError(t, err)
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	signed, err := envelope.SignReceipt(r, key.(ed25519.PrivateKey))
	require.NoError(t, err)
	f.text, err = json.Marshal(signed)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(f.receipt, f.text, 0o600))
	return f
}

func TestVerify(t *testing.T) {
	f := newFiles(t)
	code, stdout, stderr := cli(t, "", "receipt", "verify", "--key", f.pub, "--ledger", f.ledger, f.receipt)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "Verified")
	require.Contains(t, stdout, "fits the ledger")
	require.NotContains(t, stdout, "cus_1")

	code, stdout, stderr = cli(t, string(f.text), "receipt", "verify", "--json", "--key", f.pub, "-")
	require.Zero(t, code, stderr)
	var answer verified
	require.NoError(t, json.Unmarshal([]byte(stdout), &answer))
	require.True(t, answer.Verified)
	require.False(t, answer.Ledger)
	require.EqualValues(t, 2, answer.Receipt.Seq)
}

func TestNotVerified(t *testing.T) {
	f, other := newFiles(t), newFiles(t)
	changed := bytes.Clone(f.text)
	changed[len(changed)/2] ^= 1
	for name, c := range map[string]struct {
		stdin string
		args  []string
	}{
		"changed":        {string(changed), []string{"--key", f.pub, "-"}},
		"another key":    {string(f.text), []string{"--key", other.pub, "-"}},
		"another ledger": {string(f.text), []string{"--key", f.pub, "--ledger", other.ledger, "-"}},
		"no JSON":        {"x", []string{"--key", f.pub, "-"}},
		"empty":          {"", []string{"--key", f.pub, "-"}},
	} {
		code, stdout, stderr := cli(t, c.stdin, append([]string{"receipt", "verify"}, c.args...)...)
		require.Equal(t, exitVerdict, code, name)
		require.Empty(t, stdout, name)
		require.Contains(t, stderr, "not verified", name)

		code, stdout, _ = cli(t, c.stdin, append([]string{"receipt", "verify", "--json"}, c.args...)...)
		require.Equal(t, exitVerdict, code, name)
		var answer verified
		require.NoError(t, json.Unmarshal([]byte(stdout), &answer), name)
		require.False(t, answer.Verified, name)
		require.Nil(t, answer.Receipt, name)
		require.NotEmpty(t, answer.Error, name)
	}
}

func TestTrouble(t *testing.T) {
	f := newFiles(t)
	for _, args := range [][]string{
		{},
		{"receipt"},
		{"nonsense"},
		{"receipt", "verify", f.receipt},
		{"receipt", "verify", "--key", f.pub},
		{"receipt", "verify", "--key", f.pub, filepath.Join(f.dir, "none.json")},
		{"receipt", "verify", "--key", filepath.Join(f.dir, "none.pem"), f.receipt},
		{"receipt", "verify", "--key", f.key, f.receipt}, // the private half
		{"receipt", "verify", "--key", f.receipt, f.receipt},
		{"receipt", "verify", "--key", f.pub, "--ledger", f.receipt, f.receipt},
		{"receipt", "show"},
		{"receipt", "keygen", "--out", filepath.Join(f.dir, "new.pem")},
	} {
		code, stdout, stderr := cli(t, "", args...)
		require.Equal(t, exitTrouble, code, args)
		require.Empty(t, stdout, args)
		require.NotEmpty(t, stderr, args)
	}
	code, stdout, _ := cli(t, "", "receipt", "--help")
	require.Zero(t, code)
	require.Contains(t, stdout, "keygen")
}

func TestShowSaysThatNothingWasChecked(t *testing.T) {
	f := newFiles(t)
	code, stdout, stderr := cli(t, "", "receipt", "show", f.receipt)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "NOT VERIFIED")
	require.Contains(t, stdout, "ledger entry   2")
	code, stdout, _ = cli(t, "", "receipt", "show", "--json", f.receipt)
	require.Zero(t, code)
	var answer verified
	require.NoError(t, json.Unmarshal([]byte(stdout), &answer))
	require.False(t, answer.Verified)
	require.EqualValues(t, 2, answer.Receipt.Seq)
}

func TestKeygenNeverOverwrites(t *testing.T) {
	f := newFiles(t)
	before, err := os.ReadFile(f.key)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		info, err := os.Stat(f.key)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	code, _, _ := cli(t, "", "receipt", "keygen", "--out", f.key, "--public", filepath.Join(f.dir, "p2.pem"))
	require.Equal(t, exitTrouble, code)
	require.NoFileExists(t, filepath.Join(f.dir, "p2.pem"))

	fresh := filepath.Join(f.dir, "k2.pem")
	code, _, _ = cli(t, "", "receipt", "keygen", "--out", fresh, "--public", f.pub)
	require.Equal(t, exitTrouble, code)
	require.NoFileExists(t, fresh, "half a pair is none")
	after, err := os.ReadFile(f.key)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// What a receipt says reaches a terminal as text only.
func TestErrorsAreHarmless(t *testing.T) {
	f := newFiles(t)
	bad := filepath.Join(f.dir, "bad.json")
	require.NoError(t, os.WriteFile(bad, []byte(`{"\u001b[2J":1}`), 0o600))
	code, _, stderr := cli(t, "", "receipt", "verify", "--key", f.pub, bad)
	require.Equal(t, 1, code)
	require.NotContains(t, stderr, "\x1b")
	code, _, stderr = cli(t, "", "receipt", "verify", "--key", "\x1b[2J", bad)
	require.Equal(t, 2, code)
	require.NotContains(t, stderr, "\x1b")
}
