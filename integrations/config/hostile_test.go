package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/integrations/config"
)

// Aliases make a small file large: it is refused before it takes the memory.
func TestAliasesAreCounted(t *testing.T) {
	var b strings.Builder
	b.WriteString("tables:\n  t0:\n    key: &k [c0")
	b.WriteString(strings.Repeat(", c0", 20000))
	b.WriteString("]\n    columns: &c\n")
	for i := range 10000 {
		fmt.Fprintf(&b, "      c%d: {type: string}\n", i)
	}
	for i := range 10000 {
		fmt.Fprintf(&b, "  t%d: {key: *k, columns: *c}\n", i+1)
	}
	start := time.Now()
	_, err := config.Read(write(t, t.TempDir(), "lethe.yaml", b.String()), nil)
	require.ErrorContains(t, err, "aliases")
	require.Less(t, time.Since(start), 20*time.Second)
	require.Less(t, len(err.Error()), 1000)
}

// A credential in a form that is no URL, or whose parameters do not parse, is one all the same.
func TestCredentialsInOtherForms(t *testing.T) {
	for _, address := range []string{
		"postgres:host=db password=" + hunter,
		"postgresql:host=db password=" + hunter,
		"postgres://app@db/shop?password=a;" + hunter,
		"postgres://app@db/shop?password=%zz" + hunter,
	} {
		c, err := config.Read(write(t, t.TempDir(), "lethe.yaml", fmt.Sprintf("store: %q\n", address)), nil)
		require.Error(t, err, address)
		require.NotContains(t, err.Error(), hunter)
		require.Nil(t, c)
		c, err = config.Read("", []string{"LETHE_STORE=" + address})
		if err != nil {
			require.NotContains(t, err.Error(), hunter)
			continue
		}
		require.NotContains(t, c.Store.String(), hunter)
		require.NotContains(t, c.Hide("cannot open "+address), hunter)
	}
}

const hunter = "hunter2secret"

// A secret that begins with another is hidden whole.
func TestHideTheLongestFirst(t *testing.T) {
	c, err := config.Read("", []string{"LETHE_STORE=postgres://a:swordfish@db/keys", "LETHE_LEDGER=postgres://a:swordfish-two@db2/ledger"})
	require.NoError(t, err)
	require.NotContains(t, c.Hide("swordfish-two and swordfish"), "two")
}

// The ledger is not where the store is, by another name either.
func TestStoreAndLedgerAreTwo(t *testing.T) {
	dir := t.TempDir()
	keys := write(t, dir, "keys.db", "")
	require.NoError(t, os.Symlink(keys, filepath.Join(dir, "link.db")))
	for _, c := range []struct {
		store, ledger string
		same          bool
	}{
		{"sqlite:" + keys, "sqlite:" + keys, true},
		{"sqlite:" + keys, "sqlite:" + filepath.Join(dir, "link.db"), true},
		{"sqlite:" + keys, "sqlite:" + filepath.Join(dir, "ledger.db"), false},
		{"postgres://a@db/keys", "postgres://b:x@db/keys?sslmode=disable", true},
		{"postgres://a@db/keys", "postgres://a@db2/keys", false},
		{"postgres://a@db/keys?search_path=a", "postgres://a@db/keys?search_path=b", false},
	} {
		cfg, err := config.Read("", []string{"LETHE_STORE=" + c.store, "LETHE_LEDGER=" + c.ledger, "LETHE_KMS=local://kek.json"})
		require.NoError(t, err)
		if err := cfg.Check(); c.same {
			require.ErrorContains(t, err, "one database", "%v", c)
		} else {
			require.NoError(t, err, "%v", c)
		}
	}
}
