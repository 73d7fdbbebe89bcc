package vaultkms_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
	"github.com/lethe-go/lethe/kms/vaultkms"
)

// fakeKeys gives a fakeVault as many transit keys, with versions, as are made. What
// transit really does is tested in transittest.
type fakeKeys struct {
	mu    sync.Mutex
	keys  map[string]*fakeKey
	fault map[string]http.HandlerFunc // by the last part of the path, or "DELETE"
}

type fakeKey struct {
	fakes                    []*fakeVault // one AEAD a version
	minDecrypt, minEncrypt   int
	minAvailable             int
	deletion, exports, plain bool
}

func newFakeKeys(t *testing.T, handles vaultkms.Handles) (*fakeKeys, *vaultkms.Key) {
	t.Helper()
	f := newFakeVault()
	t.Cleanup(f.Close)
	fk := &fakeKeys{keys: map[string]*fakeKey{}, fault: map[string]http.HandlerFunc{}}
	fk.add(t, "k")
	f.set(func() {
		f.answer = func(w http.ResponseWriter, r *http.Request, body []byte) bool { return fk.serve(t, w, r, body) }
	})
	k, err := vaultkms.New(t.Context(), clientOf(t, f), "k", vaultkms.Options{Handles: handles})
	require.NoError(t, err)
	t.Cleanup(func() { _ = k.Close() })
	return fk, k
}

func (fk *fakeKeys) add(t *testing.T, name string) {
	k := fk.keys[name]
	if k == nil {
		k = &fakeKey{minDecrypt: 1}
		fk.keys[name] = k
	}
	f := newFakeVault()
	t.Cleanup(f.Close)
	k.fakes = append(k.fakes, f)
}

func (fk *fakeKeys) set(change func()) { fk.mu.Lock(); defer fk.mu.Unlock(); change() }

func (k *fakeKey) info(name string) map[string]any {
	return map[string]any{
		"name": name, "type": "aes256-gcm96", "derived": false, "latest_version": len(k.fakes),
		"min_decryption_version": k.minDecrypt, "min_encryption_version": k.minEncrypt, "min_available_version": k.minAvailable,
		"deletion_allowed": k.deletion, "exportable": k.exports, "allow_plaintext_backup": k.plain,
	}
}

func (fk *fakeKeys) serve(t *testing.T, w http.ResponseWriter, r *http.Request, body []byte) bool {
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/transit/")
	if !ok || path == "config/keys" {
		return false
	}
	fk.mu.Lock()
	defer fk.mu.Unlock()
	parts := strings.Split(path, "/")
	last := parts[len(parts)-1]
	if r.Method == http.MethodDelete {
		last = "DELETE"
	}
	if fault := fk.fault[last]; fault != nil {
		fault(w, r)
		return true
	}
	name := parts[1]
	k := fk.keys[name]
	var in struct {
		fakeItem
		KeyVersion   int   `json:"key_version"`
		MinDecrypt   *int  `json:"min_decryption_version"`
		MinEncrypt   *int  `json:"min_encryption_version"`
		MinAvailable int   `json:"min_available_version"`
		Deletion     *bool `json:"deletion_allowed"`
	}
	_ = json.Unmarshal(body, &in)
	switch {
	case k == nil && parts[0] == "keys" && len(parts) == 2 && r.Method == http.MethodPut:
		fk.add(t, name)
		w.WriteHeader(http.StatusNoContent)
	case k == nil && parts[0] == "keys":
		fail(w, http.StatusNotFound)
	case k == nil:
		fail(w, http.StatusBadRequest, "encryption key not found")
	case last == "DELETE" && !k.deletion:
		fail(w, http.StatusBadRequest, "deletion is not allowed for this key")
	case last == "DELETE":
		delete(fk.keys, name)
		w.WriteHeader(http.StatusNoContent)
	case parts[0] == "keys" && last == "rotate":
		fk.add(t, name)
		data(w, k.info(name))
	case parts[0] == "keys" && last == "config":
		if in.MinDecrypt != nil {
			k.minDecrypt = *in.MinDecrypt
		}
		if in.MinEncrypt != nil {
			k.minEncrypt = *in.MinEncrypt
		}
		if in.Deletion != nil {
			k.deletion = *in.Deletion
		}
		data(w, k.info(name))
	case parts[0] == "keys" && last == "trim":
		if in.MinAvailable < k.minAvailable || in.MinAvailable > k.minDecrypt || in.MinAvailable > k.minEncrypt {
			fail(w, http.StatusBadRequest, "cannot trim")
			return true
		}
		k.minAvailable = in.MinAvailable
		w.WriteHeader(http.StatusNoContent)
	case parts[0] == "keys":
		data(w, k.info(name))
	case parts[0] == "encrypt":
		version := in.KeyVersion
		if version == 0 {
			version = len(k.fakes)
		}
		if version > len(k.fakes) || version < k.minEncrypt {
			fail(w, http.StatusBadRequest, "no such version for encryption")
			return true
		}
		out := k.fakes[version-1].encrypt(in.fakeItem)
		text, _ := out["ciphertext"].(string)
		out["ciphertext"], out["key_version"] = strings.Replace(text, "v1", versionText(version), 1), version
		data(w, out)
	case parts[0] == "decrypt":
		version, err := vaultkms.CiphertextVersion([]byte(in.Ciphertext))
		if err != nil || version > len(k.fakes) || version < k.minDecrypt || version < k.minAvailable {
			fail(w, http.StatusBadRequest, "ciphertext or signature version is disallowed by policy (too old)")
			return true
		}
		in.Ciphertext = strings.Replace(in.Ciphertext, versionText(version), "v1", 1)
		out := k.fakes[version-1].decrypt(in.fakeItem)
		if text, bad := out["error"].(string); bad {
			fail(w, http.StatusBadRequest, text)
			return true
		}
		data(w, out)
	default:
		fail(w, http.StatusNotFound, "no handler for route")
	}
	return true
}

func versionText(version int) string { return "v" + strconv.Itoa(version) }

func handleOf(t *testing.T, k *vaultkms.Key, label string) (string, kms.Key) {
	t.Helper()
	handle, err := k.NewHandle(t.Context(), label)
	require.NoError(t, err)
	key, err := k.HandleKey(handle)
	require.NoError(t, err)
	return handle, key
}

func TestEraserSuite(t *testing.T) {
	for _, handles := range []vaultkms.Handles{vaultkms.HandleVersions, vaultkms.HandleKeys} {
		t.Run(string(handles), func(t *testing.T) {
			kmstest.RunEraser(t, func(t *testing.T) kms.Eraser {
				_, k := newFakeKeys(t, handles)
				return k
			})
		})
	}
}

func TestEraserNoHandles(t *testing.T) {
	_, k := fake(t, vaultkms.Options{})
	_, err := k.EraseSemantics(t.Context())
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = k.NewHandle(t.Context(), "a")
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = k.HandleKey("v1")
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = k.Destroy(t.Context(), "v1")
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = vaultkms.New(t.Context(), clientOf(t, newFakeVault()), "k", vaultkms.Options{Handles: "both"})
	require.ErrorContains(t, err, "Options.Handles")
}

// Nothing but what transit shows to be gone is called destroyed.
func TestEraserLies(t *testing.T) {
	noContent := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	denied := func(w http.ResponseWriter, _ *http.Request) {
		fail(w, 403, "1 error occurred:\n\t* permission denied\n\n")
	}
	away := func(w http.ResponseWriter, _ *http.Request) { fail(w, 503, "Vault is sealed") }
	unmounted := func(w http.ResponseWriter, _ *http.Request) { fail(w, 404, "no handler for route \"transit/keys/k\"") }
	for _, c := range []struct {
		handles vaultkms.Handles
		where   string
		fault   http.HandlerFunc
		want    error
		text    string
	}{
		{vaultkms.HandleVersions, "config", denied, kms.ErrDenied, `path "transit/keys/k/config" { capabilities = ["update"] }`},
		{vaultkms.HandleVersions, "trim", denied, kms.ErrDenied, `path "transit/keys/k/trim" { capabilities = ["update"] }`},
		{vaultkms.HandleVersions, "trim", noContent, kms.ErrUnavailable, "still has it"},
		{vaultkms.HandleVersions, "trim", away, kms.ErrUnavailable, ""},
		{vaultkms.HandleVersions, "k", unmounted, kms.ErrRejected, ""},
		{vaultkms.HandleVersions, "k", denied, kms.ErrDenied, `path "transit/keys/k" { capabilities = ["read"] }`},
		{vaultkms.HandleKeys, "config", denied, kms.ErrDenied, `path "transit/keys/k-*"`},
		{vaultkms.HandleKeys, "DELETE", denied, kms.ErrDenied, `"delete"`},
		{vaultkms.HandleKeys, "DELETE", noContent, kms.ErrUnavailable, "still has it"},
		{vaultkms.HandleKeys, "DELETE", away, kms.ErrUnavailable, ""},
		{vaultkms.HandleKeys, "k-one", unmounted, kms.ErrRejected, ""},
		{vaultkms.HandleKeys, "k-one", denied, kms.ErrDenied, "read"},
	} {
		t.Run(string(c.handles)+" "+c.where+" "+c.text, func(t *testing.T) {
			fk, k := newFakeKeys(t, c.handles)
			h, key := handleOf(t, k, "one")
			ct, err := key.EncryptWithContext(t.Context(), plaintext, row)
			require.NoError(t, err)
			handleOf(t, k, "two")
			fk.set(func() { fk.fault[c.where] = c.fault })
			got, err := k.Destroy(t.Context(), h)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.text)
			require.Zero(t, got)
			silent(t, err)
			fk.set(func() { clear(fk.fault) })
			got, err = k.Erasure(t.Context(), h)
			require.NoError(t, err)
			require.Equal(t, kms.HandleLive, got.State)
			got, err = k.Destroy(t.Context(), h) // repeating it finishes
			require.NoError(t, err)
			require.Equal(t, kms.HandleDestroyed, got.State)
			_, err = key.DecryptWithContext(t.Context(), ct, row)
			require.ErrorIs(t, err, kms.ErrRejected)
		})
	}
}

// An engine that was enabled anew has none of the handles, and destroyed none.
func TestEraserAnotherEngine(t *testing.T) {
	fk, k := newFakeKeys(t, vaultkms.HandleKeys)
	h, key := handleOf(t, k, "one")
	ct, err := key.EncryptWithContext(t.Context(), plaintext, row)
	require.NoError(t, err)
	moved := fk.keys
	fk.set(func() { fk.keys = map[string]*fakeKey{} })
	for _, ask := range []func() (kms.Erasure, error){
		func() (kms.Erasure, error) { return k.Erasure(t.Context(), h) },
		func() (kms.Erasure, error) { return k.Destroy(t.Context(), h) },
	} {
		got, err := ask()
		require.ErrorIs(t, err, kms.ErrRejected)
		require.ErrorContains(t, err, "enabled anew")
		require.Zero(t, got)
		silent(t, err)
	}
	fk.set(func() { fk.keys = moved })
	opened, err := key.DecryptWithContext(t.Context(), ct, row)
	require.NoError(t, err)
	require.Equal(t, plaintext, opened)
	_, err = k.Destroy(t.Context(), h)
	require.NoError(t, err)
	got, err := k.Erasure(t.Context(), h)
	require.NoError(t, err)
	require.Equal(t, kms.HandleDestroyed, got.State)
}

func TestEraserLeakyKeys(t *testing.T) {
	for _, handles := range []vaultkms.Handles{vaultkms.HandleVersions, vaultkms.HandleKeys} {
		for _, leak := range []func(*fakeKey){func(k *fakeKey) { k.exports = true }, func(k *fakeKey) { k.plain = true }} {
			fk, k := newFakeKeys(t, handles)
			h, _ := handleOf(t, k, "one")
			handleOf(t, k, "two")
			fk.set(func() {
				for _, one := range fk.keys {
					leak(one)
				}
			})
			_, err := k.EraseSemantics(t.Context())
			require.ErrorIs(t, err, kms.ErrDenied)
			_, err = k.NewHandle(t.Context(), "one")
			require.ErrorIs(t, err, kms.ErrDenied)
			_, err = k.Destroy(t.Context(), h)
			require.ErrorIs(t, err, kms.ErrDenied)
		}
	}
}

func TestEraserClosed(t *testing.T) {
	_, k := newFakeKeys(t, vaultkms.HandleKeys)
	_, key := handleOf(t, k, "one")
	require.NoError(t, k.Close())
	_, err := key.EncryptWithContext(t.Context(), plaintext, row)
	require.ErrorIs(t, err, vaultkms.ErrClosed)
}
