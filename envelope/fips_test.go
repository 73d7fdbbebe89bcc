package envelope

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// suites are those that may be used: GODEBUG=fips140=only refuses suite 2.
func suites() []Suite {
	if fips140.Enforced() {
		return []Suite{SuiteAES256GCM}
	}
	return []Suite{SuiteAES256GCM, SuiteXChaCha}
}

// needsSuite2 skips a test whose vectors have keys of suite 2.
func needsSuite2(t *testing.T) {
	t.Helper()
	if fips140.Enforced() {
		t.Skip("GODEBUG=fips140=only refuses suite 2")
	}
}

// Suite 2 under GODEBUG=fips140=only is an error that says so, and no panic.
func TestFIPSOnlyRefusesSuite2(t *testing.T) {
	if !fips140.Enforced() {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return
	}
	opts := Options{Suite: SuiteXChaCha}
	require.ErrorContains(t, opts.setDefaults(), "SuiteXChaCha, which GODEBUG=fips140=only refuses")

	key := newKey()
	_, err := SuiteXChaCha.aead(key)
	require.ErrorContains(t, err, "FIPS 140-only")
	require.Error(t, (&keySet{}).add(&KeyRow{KID: KeyID{1}, Kind: KindSubject, Suite: SuiteXChaCha, Seq: 1}, key))
	_, err = SuiteXChaCha.wrapKey(key, key, nil)
	require.Error(t, err)
}
