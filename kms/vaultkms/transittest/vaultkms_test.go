package transittest_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
	"github.com/lethe-go/lethe/kms/vaultkms"
	"github.com/lethe-go/lethe/kms/vaultkms/transittest"
)

// client makes a client of the server with a token.
func client(t *testing.T, s *transittest.Server, token string) *api.Client {
	t.Helper()
	config := api.DefaultConfig()
	config.Address = s.URL
	config.HttpClient = s.Client()
	c, err := api.NewClient(config)
	require.NoError(t, err)
	c.SetToken(token)
	return c
}

func open(t *testing.T, s *transittest.Server, name string) *vaultkms.Key {
	t.Helper()
	k, err := vaultkms.New(t.Context(), client(t, s, transittest.UpdateOnly), name, vaultkms.Options{})
	require.NoError(t, err)
	return k
}

func TestSuite(t *testing.T) {
	for _, keyType := range []string{"aes256-gcm96", "aes128-gcm96", "chacha20-poly1305"} {
		t.Run(keyType, func(t *testing.T) {
			s := transittest.NewServer(t, true)
			n := 0
			newKey := func(t *testing.T) *vaultkms.Key {
				n++
				name := fmt.Sprintf("key-%d", n)
				s.Do(t, logical.UpdateOperation, "keys/"+name, map[string]any{"type": keyType})
				return open(t, s, name)
			}
			kmstest.Run(t, kmstest.Factory{
				New: func(t *testing.T) kms.Key { return newKey(t) },
				Away: func(t *testing.T) (kms.Key, func(), func()) {
					return newKey(t), func() { s.Seal(true) }, func() { s.Seal(false) }
				},
			})
		})
	}
}

// A Vault that is not there at all.
func TestSuiteConnectionRefused(t *testing.T) {
	kmstest.Run(t, kmstest.Factory{
		New: func(t *testing.T) kms.Key {
			s := transittest.NewServer(t, true)
			s.MakeKey(t, "k")
			return open(t, s, "k")
		},
		Away: func(t *testing.T) (kms.Key, func(), func()) {
			s := transittest.NewServer(t, false)
			s.MakeKey(t, "k")
			return open(t, s, "k"), func() { s.CloseClientConnections(); s.Close() }, nil
		},
	})
}

func TestBatch(t *testing.T) {
	s := transittest.NewServer(t, true)
	s.MakeKey(t, "k")
	k := open(t, s, "k")
	items := make([]vaultkms.BatchItem, 2500)
	for i := range items {
		items[i] = vaultkms.BatchItem{Data: fmt.Appendf(nil, "data key %d", i), AssociatedData: fmt.Appendf(nil, "row %d", i)}
	}
	before := s.Requests()
	wrapped, err := k.EncryptBatch(t.Context(), items)
	require.NoError(t, err)
	require.Equal(t, 3, s.Requests()-before)
	back := make([]vaultkms.BatchItem, len(items))
	for i := range items {
		require.NoError(t, wrapped[i].Err)
		back[i] = vaultkms.BatchItem{Data: wrapped[i].Data, AssociatedData: items[i].AssociatedData}
	}
	opened, err := k.DecryptBatch(t.Context(), back)
	require.NoError(t, err)
	for i := range items {
		require.NoError(t, opened[i].Err)
		require.Equal(t, items[i].Data, opened[i].Data)
	}
	// One and many are the same thing.
	single, err := k.DecryptWithContext(t.Context(), wrapped[7].Data, items[7].AssociatedData)
	require.NoError(t, err)
	require.Equal(t, items[7].Data, single)

	// Bad items fail alone, whatever is wrong with them.
	back[0].Data = back[1].Data
	back[2].Data = []byte("nonsense")
	back[3].AssociatedData = nil
	back[4].Data = bytes.Replace(back[4].Data, []byte(":v1:"), []byte(":v9:"), 1)
	back[5].AssociatedData = make([]byte, 65<<10)
	opened, err = k.DecryptBatch(t.Context(), back[:10])
	require.NoError(t, err)
	for i, r := range opened {
		if i == 1 || i > 5 {
			require.NoError(t, r.Err)
			require.Equal(t, items[i].Data, r.Data)
			continue
		}
		require.ErrorIs(t, r.Err, kms.ErrRejected, "item %d", i)
		require.Empty(t, r.Data)
	}
	opened, err = k.DecryptBatch(t.Context(), back[3:5]) // all of them bad: the whole answer is a 400
	require.NoError(t, err)
	require.ErrorIs(t, opened[0].Err, kms.ErrRejected)
	require.ErrorIs(t, opened[1].Err, kms.ErrRejected)

	none, err := k.EncryptBatch(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, none)

	s.Seal(true)
	opened, err = k.DecryptBatch(t.Context(), back[6:])
	require.ErrorIs(t, err, kms.ErrUnavailable)
	require.Nil(t, opened)
}

func TestVersions(t *testing.T) {
	s := transittest.NewServer(t, true)
	s.MakeKey(t, "k")
	k := open(t, s, "k")
	old, err := k.EncryptWithContext(t.Context(), []byte("data key"), []byte("row"))
	require.NoError(t, err)
	s.Do(t, logical.UpdateOperation, "keys/k/rotate", nil)
	fresh, err := k.EncryptWithContext(t.Context(), []byte("data key"), []byte("row"))
	require.NoError(t, err)
	for want, wrapped := range map[int][]byte{1: old, 2: fresh} {
		v, err := vaultkms.CiphertextVersion(wrapped)
		require.NoError(t, err)
		require.Equal(t, want, v)
		opened, err := k.DecryptWithContext(t.Context(), wrapped, []byte("row"))
		require.NoError(t, err)
		require.Equal(t, "data key", string(opened))
	}
	info, err := k.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, vaultkms.Info{Type: "aes256-gcm96", LatestVersion: 2, MinDecryptionVersion: 1}, info)

	s.Do(t, logical.UpdateOperation, "keys/k/config", map[string]any{"min_decryption_version": 2, "min_encryption_version": 2})
	_, err = k.DecryptWithContext(t.Context(), old, []byte("row"))
	require.ErrorIs(t, err, kms.ErrRejected)
	require.ErrorContains(t, err, "min_decryption_version")
	require.NoError(t, k.Ping(t.Context()), "the probe was of version 1")
	s.Do(t, logical.UpdateOperation, "keys/k/trim", map[string]any{"min_available_version": 2})
	info, err = k.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, vaultkms.Info{Type: "aes256-gcm96", LatestVersion: 2, MinEncryptionVersion: 2, MinDecryptionVersion: 2, MinAvailableVersion: 2}, info)
	require.NoError(t, k.Ping(t.Context()))
}

// A set-up in which a deleted key would come back, another, is refused.
func TestDeletedKeyMustNotComeBack(t *testing.T) {
	s := transittest.NewServer(t, true)
	s.MakeKey(t, "k")
	try := func(token string, opts vaultkms.Options) (*vaultkms.Key, error) {
		return vaultkms.New(t.Context(), client(t, s, token), "k", opts)
	}

	// What it is about: this is how the engine behaves.
	s.MakeKey(t, "victim")
	s.DeleteKey(t, "victim")
	_, err := client(t, s, transittest.MayCreate).Logical().Write("transit/encrypt/victim", map[string]any{"plaintext": "AAAA"})
	require.NoError(t, err)
	require.True(t, s.KeyExists(t, "victim"))

	for _, token := range []string{transittest.Root, transittest.MayCreate} {
		_, err := try(token, vaultkms.Options{AllowUnverified: true})
		require.ErrorIs(t, err, vaultkms.ErrUpsert, token)
	}
	for _, token := range []string{transittest.Blind, transittest.BlindAll} {
		_, err := try(token, vaultkms.Options{})
		require.ErrorIs(t, err, vaultkms.ErrUnverified, token)
		require.ErrorIs(t, err, kms.ErrDenied, token)
	}
	_, err = try(transittest.BlindAll, vaultkms.Options{AllowUnverified: true})
	require.ErrorIs(t, err, vaultkms.ErrUnverified, "nothing at all can be seen")
	var warned []error
	k, err := try(transittest.Blind, vaultkms.Options{AllowUnverified: true, Warn: func(err error) { warned = append(warned, err) }})
	require.NoError(t, err)
	require.NoError(t, k.Ping(t.Context()))
	require.Len(t, warned, 1)
	require.ErrorIs(t, warned[0], vaultkms.ErrUnverified)

	for _, token := range []string{transittest.UpdateOnly, transittest.Minimal} {
		k, err := try(token, vaultkms.Options{})
		require.NoError(t, err, token)
		s.DeleteKey(t, "k")
		_, err = k.EncryptWithContext(t.Context(), []byte("data key"), nil)
		require.ErrorIs(t, err, kms.ErrDenied)
		require.ErrorIs(t, k.Ping(t.Context()), kms.ErrRejected)
		require.False(t, s.KeyExists(t, "k"))
		_, err = try(token, vaultkms.Options{})
		require.Error(t, err)
		require.False(t, s.KeyExists(t, "k"), "opening makes no key")
		s.MakeKey(t, "k")
		require.ErrorIs(t, k.Ping(t.Context()), kms.ErrRejected, "another key of the same name")
	}

	s.Do(t, logical.UpdateOperation, "config/keys", map[string]any{"disable_upsert": true})
	k, err = try(transittest.Root, vaultkms.Options{})
	require.NoError(t, err)
	s.DeleteKey(t, "k")
	_, err = k.EncryptWithContext(t.Context(), []byte("data key"), nil)
	require.ErrorIs(t, err, kms.ErrRejected)
	require.ErrorContains(t, err, "does not exist")
	_, err = try(transittest.Root, vaultkms.Options{})
	require.ErrorIs(t, err, kms.ErrRejected)
	require.ErrorContains(t, err, "vault write -f transit/keys/k")
	require.False(t, s.KeyExists(t, "k"))
}

func TestUnsuitableKeys(t *testing.T) {
	s := transittest.NewServer(t, true)
	for name, data := range map[string]map[string]any{
		"derived": {"derived": true},
		"rsa":     {"type": "rsa-2048"},
		"signing": {"type": "ed25519"},
	} {
		s.Do(t, logical.UpdateOperation, "keys/"+name, data)
		_, err := vaultkms.New(t.Context(), client(t, s, transittest.UpdateOnly), name, vaultkms.Options{})
		require.ErrorIs(t, err, vaultkms.ErrUnsuitable, name)
		_, err = vaultkms.New(t.Context(), client(t, s, transittest.Minimal), name, vaultkms.Options{})
		require.Error(t, err, "%s, seen or not", name)
	}
	_, err := vaultkms.New(t.Context(), client(t, s, transittest.UpdateOnly), "k", vaultkms.Options{Mount: "elsewhere"})
	require.ErrorIs(t, err, kms.ErrRejected)
	_, err = vaultkms.New(t.Context(), client(t, s, "unknown"), "rsa", vaultkms.Options{})
	require.ErrorIs(t, err, kms.ErrDenied)
}

func TestMux(t *testing.T) {
	plain, withTLS := transittest.NewServer(t, false), transittest.NewServer(t, true)
	byHost := map[string]*transittest.Server{plain.URL: plain, withTLS.URL: withTLS}
	var mux kms.Mux
	require.NoError(t, mux.Register(vaultkms.Scheme, vaultkms.Opener(vaultkms.OpenerOptions{
		NewClient: func(address string) (*api.Client, error) {
			s := byHost[address]
			if s == nil {
				return nil, errors.New("no such server")
			}
			return client(t, s, transittest.UpdateOnly), nil
		},
	})))
	for name, c := range map[string]struct {
		server *transittest.Server
		query  string
	}{"plain": {plain, "?tls=off"}, "tls": {withTLS, ""}} {
		c.server.MakeKey(t, name)
		_, host, _ := bytes.Cut([]byte(c.server.URL), []byte("://"))
		key, err := mux.Open(t.Context(), "hcvault://"+string(host)+"/transit/keys/"+name+c.query)
		require.NoError(t, err)
		wrapped, err := key.EncryptWithContext(t.Context(), []byte("data key"), []byte("row"))
		require.NoError(t, err)
		opened, err := key.DecryptWithContext(t.Context(), wrapped, []byte("row"))
		require.NoError(t, err)
		require.Equal(t, "data key", string(opened))
		id, ok := key.(kms.Identified)
		require.True(t, ok)
		require.Equal(t, "hcvault://"+string(host)+"/transit/keys/"+name, id.KeyURI())
		_, err = mux.Open(t.Context(), "hcvault://"+string(host)+"/transit/keys/missing"+c.query)
		require.ErrorIs(t, err, kms.ErrRejected)
	}
}

// A Vault behind a connection that stalls must not hold a caller longer than Timeout.
func TestStall(t *testing.T) {
	s := transittest.NewServer(t, false)
	s.MakeKey(t, "k")
	k, err := vaultkms.New(t.Context(), client(t, s, transittest.UpdateOnly), "k", vaultkms.Options{Timeout: 200 * time.Millisecond})
	require.NoError(t, err)
	s.CloseClientConnections()
	address := s.Listener.Addr().String()
	s.Close()
	stalled, err := net.Listen("tcp", address) // takes connections and says nothing
	require.NoError(t, err)
	defer func() { _ = stalled.Close() }()
	start := time.Now()
	_, err = k.EncryptWithContext(t.Context(), []byte("data key"), nil)
	require.ErrorIs(t, err, kms.ErrUnavailable)
	require.True(t, kms.Retryable(err))
	require.Less(t, time.Since(start), 5*time.Second)
}
