package kms_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
)

var (
	plaintext = []byte("a data key")
	ad        = []byte("context")
)

func shield(t *testing.T, k kms.Key, o kms.ResilientOptions) *kms.Resilient {
	t.Helper()
	r, err := kms.NewResilient(k, o)
	require.NoError(t, err)
	return r
}

func wrapped(t *testing.T, f *kmstest.Fake) []byte {
	t.Helper()
	ct, err := f.EncryptWithContext(t.Context(), plaintext, ad)
	require.NoError(t, err)
	return ct
}

func away() error { return kms.Unavailable("test", "", nil) }

func TestResilientOptions(t *testing.T) {
	_, err := kms.NewResilient(nil, kms.ResilientOptions{})
	require.Error(t, err)
	_, err = kms.NewResilient(kmstest.NewFake(), kms.ResilientOptions{MaxAttempts: -1, TotalTimeout: -1})
	require.ErrorContains(t, err, "MaxAttempts")
	require.ErrorContains(t, err, "TotalTimeout")
	f := kmstest.NewFake()
	r := shield(t, f, kms.ResilientOptions{})
	require.Equal(t, f.KeyURI(), r.KeyURI())
	require.Same(t, f, r.Unwrap())
}

func TestResilientSuite(t *testing.T) {
	kmstest.Run(t, kmstest.Factory{
		New: func(t *testing.T) kms.Key { return shield(t, kmstest.NewFake(), kms.ResilientOptions{}) },
		Away: func(t *testing.T) (kms.Key, func(), func()) {
			f := kmstest.NewFake()
			return shield(t, f, kms.ResilientOptions{}), func() { f.SetOutage(true) }, func() { f.SetOutage(false) }
		},
	})
}

func TestResilientRetries(t *testing.T) {
	for name, c := range map[string]struct {
		faults []error
		calls  int
		want   error
	}{
		"works":               {nil, 1, nil},
		"one outage":          {[]error{away()}, 2, nil},
		"two outages":         {[]error{away(), away()}, 3, nil},
		"three outages":       {[]error{away(), away(), away()}, 3, kms.ErrUnavailable},
		"rejected":            {[]error{kms.Rejected("t", "", nil)}, 1, kms.ErrRejected},
		"denied":              {[]error{kms.Denied("t", "", nil)}, 1, kms.ErrDenied},
		"outage, then denied": {[]error{away(), kms.Denied("t", "", nil)}, 2, kms.ErrDenied},
		"a driver's time-out": {[]error{context.DeadlineExceeded}, 2, nil},
		"aborted by driver":   {[]error{context.Canceled, context.Canceled, context.Canceled}, 3, kms.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := kmstest.NewFake()
				f.FailNext(c.faults...)
				r := shield(t, f, kms.ResilientOptions{})
				_, err := r.EncryptWithContext(t.Context(), plaintext, ad)
				require.ErrorIs(t, err, c.want)
				require.Equal(t, c.calls, f.Encrypts())
				require.NotErrorIs(t, err, context.Canceled)
				require.NotErrorIs(t, err, context.DeadlineExceeded)
			})
		})
	}
}

func TestResilientUnclassifiedErrorIsFinal(t *testing.T) {
	f := kmstest.NewFake()
	odd := errors.New("odd")
	f.FailNext(odd)
	_, err := shield(t, f, kms.ResilientOptions{}).EncryptWithContext(t.Context(), plaintext, ad)
	require.ErrorIs(t, err, odd)
	require.Equal(t, 1, f.Encrypts())
}

func TestResilientSharesDecrypts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kmstest.NewFake()
		ct := wrapped(t, f)
		f.SetLatency(time.Second)
		r := shield(t, f, kms.ResilientOptions{})
		results := make([][]byte, 1000)
		var wg sync.WaitGroup
		for i := range results {
			wg.Go(func() {
				pt, err := r.DecryptWithContext(t.Context(), bytes.Clone(ct), ad)
				if err != nil || !bytes.Equal(pt, plaintext) {
					t.Errorf("decrypt: %v", err)
				}
				results[i] = pt
			})
		}
		wg.Wait()
		require.Equal(t, 1, f.Decrypts())
		clear(results[0]) // each has bytes of its own
		for i := 1; i < len(results); i++ {
			require.Equal(t, plaintext, results[i])
			clear(results[i])
		}

		// Neither other associated data nor a later call shares it.
		_, err := r.DecryptWithContext(t.Context(), ct, []byte("other"))
		require.ErrorIs(t, err, kms.ErrRejected)
		_, err = r.DecryptWithContext(t.Context(), ct, ad)
		require.NoError(t, err)
		require.Equal(t, 3, f.Decrypts())
	})
}

func TestResilientLeavingCallerFailsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kmstest.NewFake()
		ct := wrapped(t, f)
		f.SetLatency(time.Second)
		r := shield(t, f, kms.ResilientOptions{})
		first, cancel := context.WithCancel(t.Context())
		var firstErr, secondErr error
		var wg sync.WaitGroup
		wg.Go(func() { _, firstErr = r.DecryptWithContext(first, ct, ad) })
		synctest.Wait()
		wg.Go(func() { _, secondErr = r.DecryptWithContext(t.Context(), ct, ad) })
		synctest.Wait()
		cancel()
		wg.Wait()
		require.ErrorIs(t, firstErr, context.Canceled)
		require.NoError(t, secondErr)
		require.Equal(t, 1, f.Decrypts())

		// With nobody left the call is cancelled; a newcomer starts afresh.
		alone, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := r.DecryptWithContext(alone, ct, ad)
		require.Equal(t, context.DeadlineExceeded, err)
		_, err = r.DecryptWithContext(t.Context(), ct, ad)
		require.NoError(t, err)
		require.Equal(t, 1010*time.Millisecond, time.Since(start))
		require.Equal(t, 3, f.Decrypts())
	})
}

func TestResilientHangingKey(t *testing.T) {
	for _, heed := range []bool{true, false} {
		t.Run(fmt.Sprintf("heeds context %v", heed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := kmstest.NewFake()
				ct := wrapped(t, f)
				r := shield(t, f, kms.ResilientOptions{})
				f.Hang(heed)
				defer f.Release()
				for range 3 {
					start := time.Now()
					_, err := r.DecryptWithContext(t.Context(), ct, ad)
					require.ErrorIs(t, err, kms.ErrUnavailable)
					require.True(t, kms.Retryable(err))
					require.NotErrorIs(t, err, context.DeadlineExceeded)
					require.LessOrEqual(t, time.Since(start), 5*time.Second)
				}
				_, err := r.EncryptWithContext(t.Context(), plaintext, ad)
				require.ErrorIs(t, err, kms.ErrUnavailable)
			})
		})
	}
}

// A hanging client that never returns gets ever fewer probes.
func TestResilientHangingProbesBecomeRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kmstest.NewFake()
		r := shield(t, f, kms.ResilientOptions{})
		f.Hang(false)
		end := time.Now().Add(time.Hour)
		for time.Now().Before(end) {
			_, err := r.EncryptWithContext(t.Context(), plaintext, ad)
			require.ErrorIs(t, err, kms.ErrUnavailable)
			time.Sleep(500 * time.Millisecond)
		}
		require.Less(t, f.Encrypts(), 400)
		f.Release()
		time.Sleep(time.Minute)
		_, err := r.EncryptWithContext(t.Context(), plaintext, ad)
		require.NoError(t, err)
	})
}

func TestResilientCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kmstest.NewFake()
		r := shield(t, f, kms.ResilientOptions{BreakerFailures: 1})
		f.Hang(false)
		for range 10 { // none of which counts as an outage
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start := time.Now()
			_, err := r.EncryptWithContext(ctx, plaintext, ad)
			require.Equal(t, context.DeadlineExceeded, err)
			require.Equal(t, time.Second, time.Since(start))
			_, err = r.DecryptWithContext(ctx, plaintext, ad)
			require.Equal(t, context.DeadlineExceeded, err)
			cancel()
		}
		f.Release()
		_, err := r.EncryptWithContext(t.Context(), plaintext, ad)
		require.NoError(t, err)
	})
}

func TestResilientBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kmstest.NewFake()
		r := shield(t, f, kms.ResilientOptions{MaxAttempts: 1, BreakerFailures: 3})
		call := func() error {
			_, err := r.EncryptWithContext(t.Context(), plaintext, ad)
			return err
		}
		// Refusals and answers in between: the count starts again.
		f.FailNext(away(), away(), kms.Rejected("t", "", nil), away(), away(), nil, away(), away())
		for range 8 {
			_ = call()
		}
		require.Equal(t, 8, f.Encrypts())
		require.NoError(t, call())
		for range 20 {
			f.FailNext(kms.Denied("t", "", nil))
			require.ErrorIs(t, call(), kms.ErrDenied)
		}

		f.SetOutage(true)
		before := f.Encrypts()
		for range 100 {
			start := time.Now()
			require.ErrorIs(t, call(), kms.ErrUnavailable)
			require.Zero(t, time.Since(start))
		}
		require.Equal(t, before+3, f.Encrypts(), "open after three")

		time.Sleep(time.Second) // half open: one probe, which fails
		for range 10 {
			require.ErrorIs(t, call(), kms.ErrUnavailable)
		}
		require.Equal(t, before+4, f.Encrypts())

		time.Sleep(time.Second) // half open: one slow probe; meanwhile the others fail fast
		f.SetOutage(false)
		f.SetLatency(time.Second)
		var wg sync.WaitGroup
		var passed atomic.Int64
		for range 50 {
			wg.Go(func() {
				if call() == nil {
					passed.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, passed.Load())
		require.Equal(t, before+5, f.Encrypts())
		require.NoError(t, call()) // closed
	})
}

func TestResilientProbeWhoseCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kmstest.NewFake()
		r := shield(t, f, kms.ResilientOptions{MaxAttempts: 1, BreakerFailures: 1})
		f.FailNext(away())
		_, err := r.EncryptWithContext(t.Context(), plaintext, ad)
		require.ErrorIs(t, err, kms.ErrUnavailable)
		time.Sleep(time.Second)
		f.SetLatency(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = r.EncryptWithContext(ctx, plaintext, ad)
		require.Equal(t, context.DeadlineExceeded, err)
		_, err = r.EncryptWithContext(t.Context(), plaintext, ad) // the next one probes
		require.NoError(t, err)
	})
}

func TestResilientPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kmstest.NewFake()
		r := shield(t, f, kms.ResilientOptions{})
		require.NoError(t, r.Ping(t.Context()))
		require.Equal(t, 1, f.Pings())
		bare := shield(t, struct{ kms.Key }{f}, kms.ResilientOptions{})
		require.Empty(t, bare.KeyURI())
		require.NoError(t, bare.Ping(t.Context()))
		require.Equal(t, 1, f.Decrypts())
		f.SetOutage(true)
		require.ErrorIs(t, bare.Ping(t.Context()), kms.ErrUnavailable)
	})
}

// A Key that lies is not found out here, as the doc says.
func TestResilientPassesLiesThrough(t *testing.T) {
	f := kmstest.NewFake()
	ct := wrapped(t, f)
	f.SetLying(true)
	pt, err := shield(t, f, kms.ResilientOptions{}).DecryptWithContext(t.Context(), ct, ad)
	require.NoError(t, err)
	require.NotEqual(t, plaintext, pt)
}

func ExampleNewResilient() {
	ctx := context.Background()
	service := kmstest.NewFake() // stands for a KMS over the network
	key, err := kms.NewResilient(service, kms.ResilientOptions{MaxAttempts: 3})
	if err != nil {
		fmt.Println(err)
		return
	}
	service.FailNext(kms.Unavailable("encrypt", "", nil)) // a hiccup
	_, err = key.EncryptWithContext(ctx, []byte("data key"), []byte("context"))
	fmt.Println(err, service.Encrypts())
	// Output: <nil> 2
}
