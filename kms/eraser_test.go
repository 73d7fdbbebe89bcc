package kms_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
)

// The stubs hold that services which destroy in other ways than a file or Vault fit
// the interface. They wrap nothing and talk to nobody.

type stubKey struct{}

var errStub = errors.New("a stub")

func (stubKey) EncryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, kms.Rejected("encrypt", "stub", errStub)
}

func (stubKey) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, kms.Rejected("decrypt", "stub", errStub)
}

// awsLike: a handle is a key; its deletion is scheduled 7 to 30 days ahead and can
// be cancelled until then; afterwards the key is not found.
type awsLike struct {
	stubKey
	window   time.Duration
	now      time.Time
	deletion map[string]time.Time // zero: enabled
}

func (a *awsLike) EraseSemantics(context.Context) (kms.EraseSemantics, error) {
	return kms.EraseSemantics{MinDelay: a.window, Cancelable: true}, nil
}

func (a *awsLike) NewHandle(_ context.Context, label string) (string, error) {
	arn := "arn:aws:kms:eu-central-1:111122223333:key/" + label
	a.deletion[arn] = time.Time{}
	return arn, nil
}
func (a *awsLike) HandleKey(string) (kms.Key, error) { return stubKey{}, nil }

func (a *awsLike) Destroy(ctx context.Context, handle string) (kms.Erasure, error) {
	if at, ok := a.deletion[handle]; ok && at.IsZero() { // KMSInvalidStateException otherwise
		a.deletion[handle] = a.now.Add(a.window)
	}
	return a.Erasure(ctx, handle)
}

func (a *awsLike) Erasure(_ context.Context, handle string) (kms.Erasure, error) {
	at, ok := a.deletion[handle]
	switch {
	case !ok || !at.IsZero() && !a.now.Before(at): // NotFoundException
		return kms.Erasure{State: kms.HandleDestroyed}, nil
	case at.IsZero():
		return kms.Erasure{State: kms.HandleLive}, nil
	}
	return kms.Erasure{State: kms.HandleScheduled, At: at}, nil // PendingDeletion
}

// gcpLike: versions of keys have states of their own, and stay listed when destroyed.
type gcpLike struct {
	stubKey
	versions map[string]gcpVersion
}

type gcpVersion struct {
	state   string
	destroy time.Time
}

func (g *gcpLike) EraseSemantics(context.Context) (kms.EraseSemantics, error) {
	return kms.EraseSemantics{MinDelay: 30 * 24 * time.Hour, Cancelable: true}, nil
}

func (g *gcpLike) NewHandle(_ context.Context, label string) (string, error) {
	name := "projects/p/locations/l/keyRings/r/cryptoKeys/" + label + "/cryptoKeyVersions/1"
	g.versions[name] = gcpVersion{state: "ENABLED"}
	return name, nil
}
func (g *gcpLike) HandleKey(string) (kms.Key, error) { return stubKey{}, nil }

func (g *gcpLike) Destroy(ctx context.Context, handle string) (kms.Erasure, error) {
	if g.versions[handle].state == "ENABLED" {
		g.versions[handle] = gcpVersion{"DESTROY_SCHEDULED", time.Unix(1_800_000_000, 0)}
	}
	return g.Erasure(ctx, handle)
}

func (g *gcpLike) Erasure(_ context.Context, handle string) (kms.Erasure, error) {
	switch v := g.versions[handle]; v.state {
	case "ENABLED", "DISABLED":
		return kms.Erasure{State: kms.HandleLive}, nil
	case "DESTROY_SCHEDULED":
		return kms.Erasure{State: kms.HandleScheduled, At: v.destroy}, nil
	case "DESTROYED":
		return kms.Erasure{State: kms.HandleDestroyed}, nil
	}
	return kms.Erasure{}, kms.Rejected("erasure", "stub", nil)
}

// azureLike: deleted keys are kept 7 to 90 days; purge protection forbids to end
// that early; operators' backups can be restored even after the purge.
type azureLike struct {
	stubKey
	retention time.Duration
	protected bool
	purge     map[string]time.Time // zero: live
	now       time.Time
}

func (a *azureLike) EraseSemantics(context.Context) (kms.EraseSemantics, error) {
	s := kms.EraseSemantics{OperatorBackedUp: true}
	if a.protected {
		s.MinDelay, s.Cancelable = a.retention, true
	}
	return s, nil
}

func (a *azureLike) NewHandle(_ context.Context, label string) (string, error) {
	a.purge["base-"+label] = time.Time{}
	return "base-" + label, nil
}
func (a *azureLike) HandleKey(string) (kms.Key, error) { return stubKey{}, nil }

func (a *azureLike) Destroy(ctx context.Context, handle string) (kms.Erasure, error) {
	at, ok := a.purge[handle]
	switch {
	case ok && at.IsZero() && a.protected:
		a.purge[handle] = a.now.Add(a.retention)
	case ok && !a.protected: // delete and purge
		delete(a.purge, handle)
	}
	return a.Erasure(ctx, handle)
}

func (a *azureLike) Erasure(_ context.Context, handle string) (kms.Erasure, error) {
	at, ok := a.purge[handle]
	switch {
	case !ok || !at.IsZero() && !a.now.Before(at):
		return kms.Erasure{State: kms.HandleDestroyed}, nil
	case at.IsZero():
		return kms.Erasure{State: kms.HandleLive}, nil
	}
	return kms.Erasure{State: kms.HandleScheduled, At: at}, nil
}

var (
	_ kms.Eraser = (*awsLike)(nil)
	_ kms.Eraser = (*gcpLike)(nil)
	_ kms.Eraser = (*azureLike)(nil)
)

func TestEraserFitsOtherServices(t *testing.T) {
	ctx, day := t.Context(), 24*time.Hour
	now := time.Unix(1_800_000_000, 0)
	aws := &awsLike{window: 7 * day, now: now, deletion: map[string]time.Time{}}
	azure := &azureLike{retention: 90 * day, protected: true, now: now, purge: map[string]time.Time{}}
	gcp := &gcpLike{versions: map[string]gcpVersion{}}
	for _, e := range []kms.Eraser{aws, gcp, azure, &azureLike{purge: map[string]time.Time{}}} {
		sem, err := e.EraseSemantics(ctx)
		require.NoError(t, err)
		again, err := kms.ParseEraseSemantics(sem.String())
		require.NoError(t, err)
		require.Equal(t, sem, again)
		h, err := e.NewHandle(ctx, "store-1")
		require.NoError(t, err)
		got, err := e.Erasure(ctx, h)
		require.NoError(t, err)
		require.Equal(t, kms.HandleLive, got.State)
		first, err := e.Destroy(ctx, h)
		require.NoError(t, err)
		require.Equal(t, sem.MinDelay > 0, first.State == kms.HandleScheduled)
		require.Equal(t, sem.MinDelay > 0, !first.At.IsZero())
		second, err := e.Destroy(ctx, h)
		require.NoError(t, err)
		require.Equal(t, first, second)
		aws.now, azure.now = now.Add(91*day), now.Add(91*day)
		if e != kms.Eraser(gcp) {
			got, err = e.Erasure(ctx, h)
			require.NoError(t, err)
			require.Equal(t, kms.HandleDestroyed, got.State)
		}
		aws.now, azure.now = now, now
	}
}
