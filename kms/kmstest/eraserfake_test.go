package kmstest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
)

func TestEraserFake(t *testing.T) {
	kmstest.Run(t, kmstest.Factory{
		New: func(*testing.T) kms.Key { return kmstest.NewEraserFake() },
	})
	kmstest.RunEraser(t, func(*testing.T) kms.Eraser { return kmstest.NewEraserFake() })
	t.Run("scheduled", func(t *testing.T) {
		kmstest.RunEraser(t, func(*testing.T) kms.Eraser {
			f := kmstest.NewEraserFake()
			f.SetSemantics(kms.EraseSemantics{MinDelay: time.Hour, Cancelable: true})
			return f
		})
	})
}

func TestEraserFakeFaults(t *testing.T) {
	ctx := t.Context()
	f := kmstest.NewEraserFake()
	now := time.Unix(1_800_000_000, 0)
	f.SetClock(func() time.Time { return now })
	f.SetSemantics(kms.EraseSemantics{MinDelay: 24 * time.Hour, Cancelable: true})
	h, err := f.NewHandle(ctx, "a")
	require.NoError(t, err)
	key, err := f.HandleKey(h)
	require.NoError(t, err)
	ct, err := key.EncryptWithContext(ctx, []byte("x"), nil)
	require.NoError(t, err)

	f.Fail(kmstest.MethodDestroy, kms.Denied("destroy", f.KeyURI(), nil))
	_, err = f.Destroy(ctx, h)
	require.ErrorIs(t, err, kms.ErrDenied)
	f.Fail(kmstest.MethodDestroy, nil)
	got, err := f.Destroy(ctx, h)
	require.NoError(t, err)
	require.Equal(t, kms.Erasure{State: kms.HandleScheduled, At: now.Add(24 * time.Hour)}, got)
	require.Equal(t, 2, f.Calls(kmstest.MethodDestroy))
	_, err = key.DecryptWithContext(ctx, ct, nil)
	require.ErrorIs(t, err, kms.ErrRejected)

	require.NoError(t, f.Cancel(h))
	_, err = key.DecryptWithContext(ctx, ct, nil)
	require.NoError(t, err)
	require.Error(t, f.Cancel(h))

	_, err = f.Destroy(ctx, h)
	require.NoError(t, err)
	now = now.Add(24 * time.Hour)
	got, err = f.Erasure(ctx, h)
	require.NoError(t, err)
	require.Equal(t, kms.Erasure{State: kms.HandleDestroyed}, got)
	require.Error(t, f.Cancel(h))
	f.SetLying(true)
	_, err = key.DecryptWithContext(ctx, ct, nil)
	require.NoError(t, err)
	f.SetLying(false)
	_, err = key.DecryptWithContext(ctx, ct, nil)
	require.ErrorIs(t, err, kms.ErrRejected)
	require.Equal(t, 1, f.Handles())
}
