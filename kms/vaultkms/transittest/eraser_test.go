package transittest_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
	"github.com/lethe-go/lethe/kms/vaultkms"
	"github.com/lethe-go/lethe/kms/vaultkms/transittest"
)

var allHandles = []vaultkms.Handles{vaultkms.HandleVersions, vaultkms.HandleKeys}

func eraser(t *testing.T, s *transittest.Server, token, name string, handles vaultkms.Handles) *vaultkms.Key {
	t.Helper()
	k, err := vaultkms.New(t.Context(), client(t, s, token), name, vaultkms.Options{Handles: handles})
	require.NoError(t, err)
	return k
}

func handleOf(t *testing.T, k *vaultkms.Key, label string) (string, kms.Key) {
	t.Helper()
	handle, err := k.NewHandle(t.Context(), label)
	require.NoError(t, err)
	key, err := k.HandleKey(handle)
	require.NoError(t, err)
	return handle, key
}

func TestEraserSuite(t *testing.T) {
	for _, handles := range allHandles {
		t.Run(string(handles), func(t *testing.T) {
			kmstest.RunEraser(t, func(t *testing.T) kms.Eraser {
				s := transittest.NewServer(t, true)
				s.MakeKey(t, "customers")
				return eraser(t, s, transittest.Eraser, "customers", handles)
			})
		})
	}
}

// A key whose material may be elsewhere is no key to destroy.
func TestEraserExportable(t *testing.T) {
	for _, handles := range allHandles {
		for _, flag := range []string{"exportable", "allow_plaintext_backup"} {
			t.Run(fmt.Sprint(handles, " ", flag), func(t *testing.T) {
				s := transittest.NewServer(t, true)
				s.MakeKey(t, "customers")
				k := eraser(t, s, transittest.Eraser, "customers", handles)
				h, _ := handleOf(t, k, "one")
				handleOf(t, k, "two")
				name := "customers"
				if handles == vaultkms.HandleKeys {
					name = h
				}
				s.Do(t, logical.UpdateOperation, "keys/"+name+"/config", map[string]any{flag: true})
				_, err := k.NewHandle(t.Context(), "one")
				require.ErrorIs(t, err, kms.ErrDenied)
				require.ErrorContains(t, err, "exportable")
				_, err = k.Destroy(t.Context(), h)
				require.ErrorIs(t, err, kms.ErrDenied)
				s.Do(t, logical.UpdateOperation, "keys/customers/config", map[string]any{flag: true})
				_, err = k.EraseSemantics(t.Context())
				require.ErrorIs(t, err, kms.ErrDenied)
			})
		}
	}
}

func TestEraserVersions(t *testing.T) {
	s := transittest.NewServer(t, true)
	s.MakeKey(t, "customers")
	k := eraser(t, s, transittest.Eraser, "customers", vaultkms.HandleVersions)
	first, firstKey := handleOf(t, k, "a")
	require.Equal(t, "v2", first)
	_, err := k.Destroy(t.Context(), first)
	require.ErrorIs(t, err, kms.ErrRejected) // the latest
	require.ErrorContains(t, err, "latest")
	_, err = k.Erasure(t.Context(), "v9")
	require.ErrorIs(t, err, kms.ErrRejected)
	second, _ := handleOf(t, k, "b")
	handleOf(t, k, "c")
	_, err = k.Destroy(t.Context(), second)
	require.NoError(t, err)
	got, err := k.Erasure(t.Context(), first) // gone with the second
	require.NoError(t, err)
	require.Equal(t, kms.HandleDestroyed, got.State)
	_, err = firstKey.EncryptWithContext(t.Context(), []byte("x"), nil)
	require.ErrorIs(t, err, kms.ErrRejected)
	info, err := k.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, 4, info.MinAvailableVersion)
	require.NoError(t, k.Ping(t.Context())) // its probe was of the first version

	// Versions that are no longer used and not trimmed can come back.
	s.Do(t, logical.UpdateOperation, "keys/customers/rotate", nil)
	s.Do(t, logical.UpdateOperation, "keys/customers/config", map[string]any{"min_decryption_version": 5, "min_encryption_version": 5})
	got, err = k.Erasure(t.Context(), "v4")
	require.NoError(t, err)
	require.Equal(t, kms.HandleLive, got.State)
}

// A deleted handle key is not made anew by wrapping under it.
func TestEraserKeyNotMadeAnew(t *testing.T) {
	s := transittest.NewServer(t, true)
	s.MakeKey(t, "customers")
	k := eraser(t, s, transittest.Eraser, "customers", vaultkms.HandleKeys)
	h, key := handleOf(t, k, "one")
	require.Equal(t, "customers-one", h)
	_, err := key.EncryptWithContext(t.Context(), []byte("x"), nil)
	require.NoError(t, err)
	s.DeleteKey(t, h)
	_, err = key.EncryptWithContext(t.Context(), []byte("x"), nil)
	require.ErrorIs(t, err, kms.ErrDenied) // to Vault that would be "create"
	require.False(t, s.KeyExists(t, h))
	// A token that could is refused, and makes nothing.
	s.Do(t, logical.UpdateOperation, "config/keys", map[string]any{"disable_upsert": true})
	root := eraser(t, s, transittest.Root, "customers", vaultkms.HandleKeys)
	s.Do(t, logical.UpdateOperation, "config/keys", map[string]any{"disable_upsert": false})
	key, err = root.HandleKey("customers-two")
	require.NoError(t, err)
	_, err = key.EncryptWithContext(t.Context(), []byte("x"), nil)
	require.Error(t, err)
	require.False(t, s.KeyExists(t, "customers-two"))
	s.MakeKey(t, "customers-three")
	key, err = root.HandleKey("customers-three")
	require.NoError(t, err)
	_, err = key.EncryptWithContext(t.Context(), []byte("x"), nil)
	require.ErrorIs(t, err, vaultkms.ErrUpsert)
}

// A missing permission is named.
func TestEraserDenied(t *testing.T) {
	for _, handles := range allHandles {
		s := transittest.NewServer(t, true)
		s.MakeKey(t, "customers")
		able := eraser(t, s, transittest.Eraser, "customers", handles)
		h, key := handleOf(t, able, "one")
		handleOf(t, able, "two")
		ct, err := key.EncryptWithContext(t.Context(), []byte("x"), nil)
		require.NoError(t, err)
		k := eraser(t, s, transittest.UpdateOnly, "customers", handles)
		_, err = k.NewHandle(t.Context(), "three")
		require.ErrorIs(t, err, kms.ErrDenied)
		require.ErrorContains(t, err, `path "transit/keys/customers`)
		_, err = k.Destroy(t.Context(), h)
		require.ErrorIs(t, err, kms.ErrDenied)
		require.ErrorContains(t, err, `path "transit/keys/customers`)
		_, err = key.DecryptWithContext(t.Context(), ct, nil)
		require.NoError(t, err)
		_, err = open(t, s, "customers").EraseSemantics(t.Context())
		require.ErrorIs(t, err, errors.ErrUnsupported)
		s.Seal(true)
		_, err = able.Erasure(t.Context(), h)
		require.ErrorIs(t, err, kms.ErrUnavailable)
		_, err = able.Destroy(t.Context(), h)
		require.ErrorIs(t, err, kms.ErrUnavailable)
	}
}
