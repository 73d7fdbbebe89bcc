package localkms_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
	"github.com/lethe-go/lethe/kms/localkms"
)

// What Tink calls an AEAD with a context is a Key as it stands, and the reverse.
var (
	_ kms.Key              = tink.AEADWithContext(nil)
	_ kms.Key              = (*aead.KMSEnvelopeAEADWithContext)(nil)
	_ tink.AEADWithContext = kms.Key(nil)
	_ tink.AEADWithContext = (*localkms.Key)(nil)
)

func create(t *testing.T, opts localkms.Options) (*localkms.Key, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.key")
	k, err := localkms.Create(path, opts)
	require.NoError(t, err)
	return k, path
}

func open(t *testing.T, path string, opts localkms.Options) *localkms.Key {
	t.Helper()
	k, err := localkms.Open(path, opts)
	require.NoError(t, err)
	return k
}

func wrap(t *testing.T, k kms.Key) []byte {
	t.Helper()
	ct, err := k.EncryptWithContext(t.Context(), []byte("data key"), []byte("ad"))
	require.NoError(t, err)
	return ct
}

func unwraps(t *testing.T, k kms.Key, ct []byte) {
	t.Helper()
	pt, err := k.DecryptWithContext(t.Context(), ct, []byte("ad"))
	require.NoError(t, err)
	require.Equal(t, "data key", string(pt))
}

func TestSuite(t *testing.T) {
	t.Run("created", func(t *testing.T) {
		kmstest.Run(t, kmstest.Factory{New: func(t *testing.T) kms.Key {
			k, _ := create(t, localkms.Options{})
			return k
		}})
	})
	t.Run("opened and rotated", func(t *testing.T) {
		kmstest.Run(t, kmstest.Factory{New: func(t *testing.T) kms.Key {
			k, path := create(t, localkms.Options{})
			require.NoError(t, k.Rotate(t.Context()))
			return open(t, path, localkms.Options{})
		}})
	})
	t.Run("resilient", func(t *testing.T) {
		kmstest.Run(t, kmstest.Factory{New: func(t *testing.T) kms.Key {
			k, _ := create(t, localkms.Options{})
			r, err := kms.NewResilient(k, kms.ResilientOptions{})
			require.NoError(t, err)
			return r
		}})
	})
	// A real Tink client is a Key; it does not sort its errors, so it is not put through the suite.
	t.Run("under Tink's envelope", func(t *testing.T) {
		notUnderFIPSOnly(t)
		k, _ := create(t, localkms.Options{})
		e, err := aead.NewKMSEnvelopeAEADWithContext(aead.AES256GCMKeyTemplate(), k)
		require.NoError(t, err)
		r, err := kms.NewResilient(e, kms.ResilientOptions{})
		require.NoError(t, err)
		unwraps(t, e, wrap(t, r))
		unwraps(t, r, wrap(t, e))
		require.NoError(t, r.Ping(t.Context()))
	})
}

func TestCreateAndOpenAreDifferentActs(t *testing.T) {
	_, path := create(t, localkms.Options{})
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = localkms.Create(path, localkms.Options{})
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "use Open")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)

	missing := filepath.Join(t.TempDir(), "missing.key")
	_, err = localkms.Open(missing, localkms.Options{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "use Create")
	_, err = os.Lstat(missing)
	require.ErrorIs(t, err, fs.ErrNotExist)

	// A dangling symbolic link is in the way too.
	require.NoError(t, os.Symlink(filepath.Join(t.TempDir(), "nowhere"), missing))
	_, err = localkms.Create(missing, localkms.Options{})
	require.ErrorIs(t, err, fs.ErrExist)

	_, err = localkms.Create(filepath.Join(t.TempDir(), "no", "dir"), localkms.Options{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = localkms.Open(t.TempDir(), localkms.Options{})
	require.ErrorContains(t, err, "regular")
}

func TestConcurrentCreatesMakeOneFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.key")
	var mu sync.Mutex
	var made []*localkms.Key
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			k, err := localkms.Create(path, localkms.Options{})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made = append(made, k)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Errorf("create: %v", err)
			}
		})
	}
	wg.Wait()
	require.Len(t, made, 1)
	unwraps(t, open(t, path, localkms.Options{}), wrap(t, made[0]))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary files")
}

func TestPermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such permissions")
	}
	k, path := create(t, localkms.Options{})
	mode := func() fs.FileMode {
		info, err := os.Stat(path)
		require.NoError(t, err)
		return info.Mode()
	}
	require.EqualValues(t, 0o600, mode())
	require.NoError(t, k.Rotate(t.Context()))
	require.EqualValues(t, 0o600, mode())
	for _, m := range []fs.FileMode{0o640, 0o604, 0o660, 0o601} {
		require.NoError(t, os.Chmod(path, m))
		_, err := localkms.Open(path, localkms.Options{})
		require.ErrorContains(t, err, "chmod 600")
		require.Error(t, k.Rotate(t.Context()))
	}
	require.NoError(t, os.Chmod(path, 0o400))
	open(t, path, localkms.Options{})
}

func TestRotate(t *testing.T) {
	a, path := create(t, localkms.Options{})
	b := open(t, path, localkms.Options{})
	old := wrap(t, a)
	require.NoError(t, a.Rotate(t.Context()))
	fresh := wrap(t, a)
	require.NotEqual(t, old[:5], fresh[:5], "another key wraps")
	for _, k := range []*localkms.Key{a, b, open(t, path, localkms.Options{})} {
		unwraps(t, k, old)
		unwraps(t, k, fresh)
		require.Equal(t, a.KeyURI(), k.KeyURI())
	}
	// Having met a new ciphertext, b is up to date and may rotate; now a may not.
	require.NoError(t, b.Rotate(t.Context()))
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	require.ErrorIs(t, a.Rotate(t.Context()), localkms.ErrChanged)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
	unwraps(t, a, fresh)
	require.NoError(t, a.Reload(t.Context()))
	require.NoError(t, a.Rotate(t.Context()))
	unwraps(t, b, wrap(t, a))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, a.Rotate(ctx), context.Canceled)
	require.ErrorIs(t, a.Reload(ctx), context.Canceled)
}

func TestMovedFileAndLinkedFile(t *testing.T) {
	k, path := create(t, localkms.Options{})
	ct := wrap(t, k)
	moved := filepath.Join(t.TempDir(), "moved.key")
	require.NoError(t, os.Rename(path, moved))
	link := filepath.Join(t.TempDir(), "link.key")
	require.NoError(t, os.Symlink(moved, link))
	l := open(t, link, localkms.Options{})
	require.Equal(t, k.KeyURI(), l.KeyURI())
	require.NoError(t, l.Rotate(t.Context()))
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&fs.ModeSymlink, "the link stays a link")
	unwraps(t, open(t, moved, localkms.Options{}), wrap(t, l))
	unwraps(t, k, ct) // without a file what is loaded goes on
	require.NoError(t, k.Ping(t.Context()))

	// A key it cannot look up may be a good one: that is an outage, not bad data.
	_, err = k.DecryptWithContext(t.Context(), wrap(t, l), []byte("ad"))
	require.ErrorIs(t, err, kms.ErrUnavailable)
	require.ErrorIs(t, k.Rotate(t.Context()), fs.ErrNotExist)
}

func TestConcurrentRotation(t *testing.T) {
	a, path := create(t, localkms.Options{})
	keys := []*localkms.Key{a, open(t, path, localkms.Options{}), open(t, path, localkms.Options{})}
	var wg sync.WaitGroup
	for _, k := range keys {
		wg.Go(func() {
			for range 5 {
				err := k.Rotate(t.Context())
				if errors.Is(err, localkms.ErrChanged) {
					err = k.Reload(t.Context())
				}
				if err != nil {
					t.Errorf("rotate: %v", err)
				}
			}
		})
		wg.Go(func() {
			for range 50 {
				ct, err := k.EncryptWithContext(t.Context(), []byte("data key"), []byte("ad"))
				if err != nil {
					t.Errorf("encrypt: %v", err)
					return
				}
				for _, other := range keys {
					if _, err := other.DecryptWithContext(t.Context(), ct, []byte("ad")); err != nil {
						t.Errorf("decrypt: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestPassphrase(t *testing.T) {
	notUnderFIPSOnly(t)
	right := localkms.Options{Passphrase: []byte("correct horse")}
	k, path := create(t, right)
	old := wrap(t, k)
	require.NoError(t, k.Rotate(t.Context()))
	again := open(t, path, right)
	unwraps(t, again, old)
	unwraps(t, again, wrap(t, k))

	for name, p := range map[string][]byte{"wrong": []byte("incorrect horse"), "none": nil, "empty": {}} {
		_, err := localkms.Open(path, localkms.Options{Passphrase: p})
		require.ErrorIs(t, err, localkms.ErrPassphrase, name)
		require.NotContains(t, err.Error(), "horse")
	}
	_, err := localkms.Create(filepath.Join(t.TempDir(), "k"), localkms.Options{Passphrase: []byte{}})
	require.ErrorIs(t, err, localkms.ErrPassphrase)
	_, plain := create(t, localkms.Options{})
	_, err = localkms.Open(plain, right)
	require.ErrorIs(t, err, localkms.ErrPassphrase)
}

// edit changes a field of the file; a dot goes down.
func edit(t *testing.T, path, field string, value any) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var root map[string]any
	require.NoError(t, json.Unmarshal(data, &root))
	m := root
	names := strings.Split(field, ".")
	for _, n := range names[:len(names)-1] {
		m = m[n].(map[string]any)
	}
	m[names[len(names)-1]] = value
	data, err = json.Marshal(root)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

func TestHeaderIsAuthenticated(t *testing.T) {
	notUnderFIPSOnly(t)
	opts := localkms.Options{Passphrase: []byte("p")}
	_, path := create(t, opts)
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, c := range []struct {
		field string
		value any
		want  string
	}{
		{"id", strings.Repeat("ab", 16), "passphrase"},
		{"kdf.time", 1, "passphrase"},
		{"kdf.salt", make([]byte, 16), "passphrase"},
		{"kdf.memory_kib", 1 << 30, "256 MiB"},
		{"kdf.memory_kib", 1, "damaged"},
		{"kdf.time", 1000000, "10 passes"},
		{"kdf.threads", 200, "16 threads"},
		{"kdf.name", "md5", "damaged"},
		{"kdf.salt", []byte("short"), "damaged"},
		{"kdf.extra", 1, "damaged"},
		{"id", "x", "damaged"},
		{"lethe_localkms", 2, "damaged"},
		{"lethe_localkms", 3, "format 3"},
		{"lethe_localkms", "x", "damaged"},
		{"keyset", []byte("x"), "passphrase"},
	} {
		require.NoError(t, os.WriteFile(path, good, 0o600))
		edit(t, path, c.field, c.value)
		_, err := localkms.Open(path, opts)
		require.ErrorContains(t, err, c.want, c.field)
	}
}

func TestBadFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad.key")
	sign, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	for name, data := range map[string]string{
		"empty": "", "space": " \n", "text": "hello", "object": "{}", "half": `{"lethe_localkms":1,`,
		"null": `{"lethe_localkms":null}`, "list": "[]", "info only": sign.String(),
		"large":  strings.Repeat(" ", 1<<20+1),
		"remote": `{"primaryKeyId":1,"key":[{"keyData":{"typeUrl":"type.googleapis.com/google.crypto.tink.KmsAeadKey","keyMaterialType":"REMOTE","value":"CgVhOi8vYg=="},"outputPrefixType":"RAW","keyId":1,"status":"ENABLED"}]}`,
	} {
		require.NoError(t, os.WriteFile(path, []byte(data), 0o600))
		_, err := localkms.Open(path, localkms.Options{})
		require.Error(t, err, name)
	}
}

func TestTooLongPlaintext(t *testing.T) {
	k, _ := create(t, localkms.Options{})
	_, err := k.EncryptWithContext(t.Context(), make([]byte, localkms.MaxPlaintext+1), nil)
	require.ErrorIs(t, err, kms.ErrRejected)
}

func TestOpener(t *testing.T) {
	k, path := create(t, localkms.Options{})
	var m kms.Mux
	require.NoError(t, m.Register("local", localkms.Opener(localkms.Options{})))
	opened, err := m.Open(t.Context(), "local://"+path)
	require.NoError(t, err)
	unwraps(t, opened, wrap(t, k))
	_, err = m.Open(t.Context(), k.KeyURI())
	require.ErrorContains(t, err, "local://PATH")
	_, err = m.Open(t.Context(), "local://")
	require.Error(t, err)
	_, err = m.Open(t.Context(), "local://"+path+".missing")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// testdata/tinkv1 was written by tinkv1test/mkkeyset with github.com/google/tink/go
// 1.7.0 and is never edited.
func TestGoldenKeysetsOfTinkV1(t *testing.T) {
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("testdata", "tinkv1", name))
		require.NoError(t, err)
		return data
	}
	for _, name := range []string{"single", "rotated"} {
		var uri string
		for _, encoding := range []string{".bin", ".json"} {
			path := filepath.Join(t.TempDir(), "k")
			require.NoError(t, os.WriteFile(path, read(name+encoding), 0o600)) // git keeps no 0600
			k := open(t, path, localkms.Options{})
			if uri == "" {
				uri = k.KeyURI()
			}
			require.Equal(t, uri, k.KeyURI())
			require.Regexp(t, `^local:tink-[0-9a-f]{8}$`, uri)
			check := func(k *localkms.Key) {
				for file, want := range map[string]string{name + ".ct": "plaintext", name + ".old.ct": "old plaintext"} {
					pt, err := k.DecryptWithContext(t.Context(), read(file), []byte("ad"))
					require.NoError(t, err)
					require.Equal(t, want, string(pt))
				}
			}
			check(k)
			require.NoError(t, k.Rotate(t.Context()))
			again := open(t, path, localkms.Options{})
			check(again)
			require.Equal(t, uri, again.KeyURI())
		}
	}
}
