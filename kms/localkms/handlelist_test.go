package localkms_test

import (
	"crypto/fips140"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/localkms"
)

// neverDestroyed wants every way to a handle refused, and the file as it was.
func neverDestroyed(t *testing.T, k *localkms.Key, path, name string) {
	t.Helper()
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = k.Destroy(t.Context(), name)
	require.ErrorIs(t, err, kms.ErrRejected)
	require.ErrorContains(t, err, "never destroyed")
	_, err = k.Erasure(t.Context(), name)
	require.ErrorIs(t, err, kms.ErrRejected)
	_, err = k.HandleKey(name)
	require.ErrorIs(t, err, kms.ErrRejected)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// A key that was the primary one protects what it wrapped, also where the Key that
// is asked has not seen the rotation.
func TestHandleListRotatedOut(t *testing.T) {
	for _, opts := range []localkms.Options{{}, {Passphrase: []byte("p")}} {
		t.Run(fmt.Sprintf("passphrase %t", opts.Passphrase != nil), func(t *testing.T) {
			if opts.Passphrase != nil {
				notUnderFIPSOnly(t)
			}
			k, path := create(t, opts)
			ct := wrap(t, k)
			was := fmt.Sprintf("k%x", ct[1:5])
			other := open(t, path, opts)
			require.NoError(t, other.Rotate(t.Context()))
			_, err := k.Destroy(t.Context(), was)
			require.ErrorIs(t, err, kms.ErrRejected)
			neverDestroyed(t, other, path, was)
			handle, key := handleOf(t, k) // with a list, too
			handleCT := wrap(t, key)
			neverDestroyed(t, k, path, was)
			neverDestroyed(t, open(t, path, opts), path, was)
			unwraps(t, open(t, path, opts), ct)
			require.NoError(t, k.Rotate(t.Context()))
			unwraps(t, key, handleCT)
			_, err = open(t, path, opts).Destroy(t.Context(), handle)
			require.NoError(t, err)
			refuses(t, key, handleCT)
			neverDestroyed(t, k, path, was)
			unwraps(t, k, ct)
		})
	}
}

// Keys that Tink made are no handles, whether or not the file was rewritten since.
func TestHandleListTinkFile(t *testing.T) {
	notUnderFIPSOnly(t)
	data, err := os.ReadFile(filepath.Join("testdata", "tinkv1", "rotated.bin"))
	require.NoError(t, err)
	old, err := os.ReadFile(filepath.Join("testdata", "tinkv1", "rotated.old.ct"))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	k := open(t, path, localkms.Options{})
	name := fmt.Sprintf("k%x", old[1:5])
	neverDestroyed(t, k, path, name)
	require.NoError(t, k.Rotate(t.Context()))
	neverDestroyed(t, k, path, name)
	_, _ = handleOf(t, k)
	neverDestroyed(t, k, path, name)
}

func readJSON(t *testing.T, path string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var f map[string]any
	require.NoError(t, json.Unmarshal(data, &f))
	return f
}

// A file without handles is one that earlier versions read.
func TestHandleListFormat(t *testing.T) {
	k, path := create(t, localkms.Options{})
	require.EqualValues(t, 1, readJSON(t, path)["lethe_localkms"])
	var names []any
	for range 3 {
		handle, _ := handleOf(t, k)
		names = append(names, handle)
	}
	f := readJSON(t, path)
	require.EqualValues(t, 2, f["lethe_localkms"])
	require.ElementsMatch(t, names, f["handles"])
	for _, name := range names {
		_, err := k.Destroy(t.Context(), name.(string))
		require.NoError(t, err)
	}
	f = readJSON(t, path)
	require.EqualValues(t, 1, f["lethe_localkms"])
	require.NotContains(t, f, "handles")
}

// A list that does not fit is a damaged file; a passphrase authenticates it.
func TestHandleListDamaged(t *testing.T) {
	for _, opts := range []localkms.Options{{}, {Passphrase: []byte("p")}} {
		if opts.Passphrase != nil && fips140.Enforced() {
			continue
		}
		k, path := create(t, opts)
		ct := wrap(t, k)
		primary := fmt.Sprintf("k%x", ct[1:5])
		require.NoError(t, k.Rotate(t.Context()))
		_, _ = handleOf(t, k)
		_, _ = handleOf(t, k)
		f := readJSON(t, path)
		list, _ := f["handles"].([]any)
		require.Len(t, list, 2)
		for what, c := range map[string]struct {
			version int
			list    []any
			sealed  bool // only a passphrase tells
		}{
			"format 1":         {1, list, false},
			"no list":          {2, nil, false},
			"empty":            {2, []any{}, false},
			"other order":      {2, []any{list[1], list[0]}, false},
			"twice":            {2, []any{list[0], list[0]}, false},
			"unknown":          {2, []any{"k00000000"}, false},
			"spelling":         {2, []any{"00000000"}, false},
			"a format to come": {3, list, false},
			"one left out":     {2, list[:1], true},
			"one more":         {2, []any{primary}, true},
			"all left out":     {1, nil, true},
		} {
			if c.sealed && opts.Passphrase == nil {
				continue
			}
			bad := map[string]any{"lethe_localkms": c.version, "id": f["id"], "keyset": f["keyset"]}
			if f["kdf"] != nil {
				bad["kdf"] = f["kdf"]
			}
			if c.list != nil {
				bad["handles"] = c.list
			}
			data, err := json.Marshal(bad)
			require.NoError(t, err)
			other := filepath.Join(t.TempDir(), "key")
			require.NoError(t, os.WriteFile(other, data, 0o600))
			_, err = localkms.Open(other, opts)
			require.Error(t, err, what)
		}
	}
}
