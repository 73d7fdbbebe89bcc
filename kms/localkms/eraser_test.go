package localkms_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
	"github.com/lethe-go/lethe/kms/localkms"
)

func TestEraserSuite(t *testing.T) {
	kmstest.RunEraser(t, func(t *testing.T) kms.Eraser {
		k, _ := create(t, localkms.Options{})
		return k
	})
	t.Run("of a rotated key", func(t *testing.T) {
		kmstest.RunEraser(t, func(t *testing.T) kms.Eraser {
			k, path := create(t, localkms.Options{})
			require.NoError(t, k.Rotate(t.Context()))
			return open(t, path, localkms.Options{})
		})
	})
	t.Run("under a passphrase", func(t *testing.T) {
		notUnderFIPSOnly(t)
		opts := localkms.Options{Passphrase: []byte("p")}
		k, path := create(t, opts)
		handle, key := handleOf(t, k)
		ct := wrap(t, key)
		again, err := open(t, path, opts).HandleKey(handle)
		require.NoError(t, err)
		unwraps(t, again, ct)
		_, err = k.Destroy(t.Context(), handle)
		require.NoError(t, err)
		refuses(t, again, ct)
	})
}

// The suite in the mode that lets nothing through but what is approved.
func TestEraserFIPSOnly(t *testing.T) {
	if os.Getenv("LETHE_FIPS_ERASER") == "" {
		again(t, "only", "LETHE_FIPS_ERASER=1")
		again(t, "on", "LETHE_FIPS_ERASER=1")
		return
	}
	TestEraserSuite(t)
}

func handleOf(t *testing.T, k *localkms.Key) (string, kms.Key) {
	t.Helper()
	handle, err := k.NewHandle(t.Context(), "store-1")
	require.NoError(t, err)
	key, err := k.HandleKey(handle)
	require.NoError(t, err)
	return handle, key
}

func refuses(t *testing.T, k kms.Key, ct []byte) {
	t.Helper()
	pt, err := k.DecryptWithContext(t.Context(), ct, []byte("ad"))
	require.ErrorIs(t, err, kms.ErrRejected)
	require.Empty(t, pt)
}

// Two Keys of one file, as two processes have them.
func TestEraserAcrossProcesses(t *testing.T) {
	a, path := create(t, localkms.Options{})
	b := open(t, path, localkms.Options{})
	handle, key := handleOf(t, a)
	ct, baseCT := wrap(t, key), wrap(t, a)
	other, err := b.HandleKey(handle) // b has not read the file since
	require.NoError(t, err)
	unwraps(t, other, ct)
	unwraps(t, b, ct)
	later, laterKey := handleOf(t, b)
	laterCT := wrap(t, laterKey)

	got, err := a.Destroy(t.Context(), handle) // a's file was changed by b
	require.NoError(t, err)
	require.Equal(t, kms.Erasure{State: kms.HandleDestroyed}, got)
	for _, k := range []kms.Key{key, other, a, b, open(t, path, localkms.Options{})} {
		refuses(t, k, ct)
	}
	_, err = other.EncryptWithContext(t.Context(), []byte("x"), nil)
	require.ErrorIs(t, err, kms.ErrRejected)
	unwraps(t, a, laterCT)
	unwraps(t, b, baseCT)
	require.NoError(t, b.Reload(t.Context()))
	require.NoError(t, b.Rotate(t.Context())) // handles survive a rotation
	unwraps(t, laterKey, laterCT)
	unwraps(t, laterKey, wrap(t, laterKey))
	e, err := a.Erasure(t.Context(), later)
	require.NoError(t, err)
	require.Equal(t, kms.HandleLive, e.State)
}

func TestEraserNeverThePrimary(t *testing.T) {
	k, path := create(t, localkms.Options{})
	ct := wrap(t, k)
	primary := fmt.Sprintf("k%x", ct[1:5])
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = k.HandleKey(primary)
	require.ErrorIs(t, err, kms.ErrRejected)
	_, err = k.Destroy(t.Context(), primary)
	require.ErrorIs(t, err, kms.ErrRejected)
	require.ErrorContains(t, err, "never destroyed")
	_, err = k.Erasure(t.Context(), primary)
	require.ErrorIs(t, err, kms.ErrRejected)
	// Another process has made it the primary one since: the file decides.
	b := open(t, path, localkms.Options{})
	require.NoError(t, b.Rotate(t.Context()))
	_, err = k.Destroy(t.Context(), fmt.Sprintf("k%x", wrap(t, b)[1:5]))
	require.ErrorIs(t, err, kms.ErrRejected)
	unwraps(t, b, ct)
	require.NotEmpty(t, before)
}

// A file that is away or not the same one is no reason to say "destroyed".
func TestEraserFileAway(t *testing.T) {
	k, path := create(t, localkms.Options{})
	handle, key := handleOf(t, k)
	ct := wrap(t, key)
	require.NoError(t, os.Rename(path, path+".away"))
	_, err := key.DecryptWithContext(t.Context(), ct, []byte("ad"))
	require.ErrorIs(t, err, kms.ErrUnavailable)
	_, err = k.Erasure(t.Context(), handle)
	require.ErrorIs(t, err, kms.ErrUnavailable)
	_, err = k.Destroy(t.Context(), handle)
	require.ErrorIs(t, err, kms.ErrUnavailable)
	_, err = k.NewHandle(t.Context(), "x")
	require.ErrorIs(t, err, kms.ErrUnavailable)

	_, err = localkms.Create(path, localkms.Options{}) // another key in its place
	require.NoError(t, err)
	_, err = key.DecryptWithContext(t.Context(), ct, []byte("ad"))
	require.ErrorIs(t, err, kms.ErrUnavailable)
	for _, call := range []func() error{
		func() error { _, err := k.Erasure(t.Context(), handle); return err },
		func() error { _, err := k.Destroy(t.Context(), handle); return err },
		func() error { _, err := k.NewHandle(t.Context(), "x"); return err },
	} {
		err := call()
		require.ErrorIs(t, err, localkms.ErrChanged)
		require.ErrorIs(t, err, kms.ErrRejected)
		require.False(t, kms.Retryable(err))
	}
	require.NoError(t, os.Rename(path+".away", path))
	unwraps(t, key, ct)
}

// A write that fails changes neither the file nor the Key.
func TestEraserWriteFails(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	k, path := create(t, localkms.Options{})
	handle, key := handleOf(t, k)
	ct := wrap(t, key)
	require.NoError(t, os.Chmod(filepath.Dir(path), 0o500))
	defer func() { require.NoError(t, os.Chmod(filepath.Dir(path), 0o700)) }()
	_, err := k.Destroy(t.Context(), handle)
	require.ErrorIs(t, err, kms.ErrDenied)
	unwraps(t, key, ct)
	unwraps(t, open(t, path, localkms.Options{}), ct)
}

func TestEraserConcurrentProcesses(t *testing.T) {
	_, path := create(t, localkms.Options{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			k, err := localkms.Open(path, localkms.Options{})
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			for range 5 {
				handle, err := k.NewHandle(t.Context(), "x")
				if err == nil {
					_, err = k.Destroy(t.Context(), handle)
				}
				if err != nil {
					t.Errorf("%v", err)
				}
			}
			if _, err := k.NewHandle(t.Context(), "stays"); err != nil {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*tmp*"))
	require.NoError(t, err)
	require.Empty(t, left)
}
