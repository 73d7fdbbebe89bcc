package localkms_test

import (
	"bytes"
	"crypto/fips140"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/lethe-go/lethe/kms/localkms"
)

func notUnderFIPSOnly(t *testing.T) {
	t.Helper()
	if fips140.Enforced() {
		t.Skip("GODEBUG=fips140=only refuses argon2id, and Tink's own AES-GCM")
	}
}

// again runs a test in a process of its own under GODEBUG=fips140=mode.
func again(t *testing.T, mode string, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(append(os.Environ(), "GODEBUG=fips140="+mode), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

// tinkFile writes a cleartext keyset of Tink's.
func tinkFile(t *testing.T, template *tinkpb.KeyTemplate) string {
	t.Helper()
	h, err := keyset.NewHandle(template)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&b)))
	path := filepath.Join(t.TempDir(), "tink")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

// What GODEBUG=fips140=only refuses is an error that says so, and no panic.
func TestFIPSOnlyRefuses(t *testing.T) {
	if !fips140.Enforced() {
		sealed := filepath.Join(t.TempDir(), "sealed")
		_, err := localkms.Create(sealed, localkms.Options{Passphrase: []byte("p")})
		require.NoError(t, err)
		again(t, "only", "LETHE_SEALED="+sealed)
		return
	}
	path := filepath.Join(t.TempDir(), "k")
	_, err := localkms.Create(path, localkms.Options{Passphrase: []byte("p")})
	require.ErrorIs(t, err, localkms.ErrPassphrase)
	require.ErrorContains(t, err, "fips140=only")
	require.NoFileExists(t, path)
	if sealed := os.Getenv("LETHE_SEALED"); sealed != "" {
		_, err = localkms.Open(sealed, localkms.Options{Passphrase: []byte("p")})
		require.ErrorContains(t, err, "fips140=only")
	}
	for name, template := range map[string]*tinkpb.KeyTemplate{
		"ChaCha20-Poly1305": aead.ChaCha20Poly1305KeyTemplate(), "XChaCha20-Poly1305": aead.XChaCha20Poly1305KeyTemplate(),
		"AES-CTR-HMAC": aead.AES256CTRHMACSHA256KeyTemplate(), "AES-GCM-SIV": aead.AES256GCMSIVKeyTemplate(),
	} {
		_, err := localkms.Open(tinkFile(t, template), localkms.Options{})
		require.ErrorContains(t, err, "fips140=only", name)
	}
	for _, template := range []*tinkpb.KeyTemplate{aead.AES256GCMKeyTemplate(), aead.AES256GCMNoPrefixKeyTemplate(), aead.AES128GCMKeyTemplate()} {
		k := open(t, tinkFile(t, template), localkms.Options{})
		unwraps(t, k, wrap(t, k))
	}
}

// Files and ciphertexts are the same in every mode.
func TestFIPSModesReadEachOther(t *testing.T) {
	dir := os.Getenv("LETHE_FIPS_DIR")
	if dir == "" {
		dir = t.TempDir()
		path := filepath.Join(dir, "k")
		k, err := localkms.Create(path, localkms.Options{})
		require.NoError(t, err)
		old := wrap(t, k)
		require.NoError(t, k.Rotate(t.Context()))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "old"), old, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "new"), wrap(t, k), 0o600))
		for _, mode := range []string{"off", "on", "only"} {
			again(t, mode, "LETHE_FIPS_DIR="+dir)
		}
		back, err := filepath.Glob(filepath.Join(dir, "back-*"))
		require.NoError(t, err)
		require.NotEmpty(t, back)
		for _, file := range back {
			ct, err := os.ReadFile(file)
			require.NoError(t, err)
			unwraps(t, open(t, path, localkms.Options{}), ct)
		}
		return
	}
	k := open(t, filepath.Join(dir, "k"), localkms.Options{})
	for _, file := range []string{"old", "new"} {
		ct, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		unwraps(t, k, ct)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "back-"+os.Getenv("GODEBUG")), wrap(t, k), 0o600))
	require.NoError(t, k.Rotate(t.Context()))
}
