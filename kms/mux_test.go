package kms_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
)

func TestMuxRegister(t *testing.T) {
	var m kms.Mux
	open := func(context.Context, string) (kms.Key, error) { return kmstest.NewFake(), nil }
	for _, scheme := range []string{"local", "hcvault", "aws-kms", "pkcs11"} {
		require.NoError(t, m.Register(scheme, open))
	}
	require.Equal(t, []string{"aws-kms", "hcvault", "local", "pkcs11"}, m.Schemes())
	require.ErrorContains(t, m.Register("", open), "empty")
	require.ErrorContains(t, m.Register("local", open), "already")
	require.ErrorContains(t, m.Register("LOCAL", open), "already")
	require.ErrorContains(t, m.Register("nil", nil), "nil")
	for _, bad := range []string{"a:", "1a", "a b", "local://", "ä"} {
		require.Error(t, m.Register(bad, open), bad)
	}
}

func TestMuxOpen(t *testing.T) {
	var m kms.Mux
	var got string
	fake := kmstest.NewFake()
	require.NoError(t, m.Register("pkcs11", func(_ context.Context, uri string) (kms.Key, error) {
		got = uri
		return fake, nil
	}))
	require.NoError(t, m.Register("none", func(context.Context, string) (kms.Key, error) { return nil, nil }))

	k, err := m.Open(t.Context(), "PKCS11:token=x;object=y")
	require.NoError(t, err)
	require.Same(t, fake, k)
	require.Equal(t, "PKCS11:token=x;object=y", got)

	_, err = m.Open(t.Context(), "none:x")
	require.ErrorContains(t, err, "no key and no error")
	_, err = m.Open(t.Context(), "gcp-kms://projects/p")
	require.ErrorContains(t, err, `"gcp-kms"`)
	require.ErrorContains(t, err, "registered: none, pkcs11")
	_, err = new(kms.Mux).Open(t.Context(), "local:///x")
	require.ErrorContains(t, err, "no scheme is registered")
	_, err = m.Open(t.Context(), "/etc/key")
	require.ErrorContains(t, err, "no scheme")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = m.Open(ctx, "pkcs11:x")
	require.ErrorIs(t, err, context.Canceled)
}

func TestMuxPrintsNoCredential(t *testing.T) {
	var m kms.Mux
	require.NoError(t, m.Register("chatty", func(_ context.Context, uri string) (kms.Key, error) {
		return nil, fmt.Errorf("dial %s: %w", uri, fs.ErrNotExist)
	}))
	require.NoError(t, m.Register("quiet", func(context.Context, string) (kms.Key, error) {
		return nil, kms.Denied("open", "", errors.New("bad token"))
	}))
	for _, uri := range []string{
		"chatty://adminuser:hunter2@host/key", "unknown://adminuser:hunter2@host/key",
		"adminuser:hunter2@host/key", "chatty:adminuser:hunter2@host", "hunter2@host", "//adminuser:hunter2@host",
		"chatty://adminuser:hunter2@x@host/key", "chatty:object=k?pin-value=hunter2", "chatty://adminuser:%68unter2@host",
	} {
		_, err := m.Open(t.Context(), uri)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2", uri)
		require.NotContains(t, err.Error(), "adminuser", uri)
	}
	_, err := m.Open(t.Context(), "chatty://adminuser:hunter2@host/key")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = m.Open(t.Context(), "quiet://adminuser:hunter2@host/key")
	require.ErrorIs(t, err, kms.ErrDenied)
	require.ErrorContains(t, err, "bad token")
}

func ExampleMux() {
	var m kms.Mux
	// A program registers the drivers it links, such as localkms.Opener; here a fake.
	err := m.Register("fake", func(context.Context, string) (kms.Key, error) { return kmstest.NewFake(), nil })
	if err != nil {
		fmt.Println(err)
	}
	_, err = m.Open(context.Background(), "fake://customers")
	fmt.Println(err)
	_, err = m.Open(context.Background(), "aws-kms://arn:aws:kms:eu-west-1:1:key/2")
	fmt.Println(err)
	// Output:
	// <nil>
	// kms: open: no driver is registered for scheme "aws-kms"; registered: fake
}
