package envelope_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
)

func tokenOwner(id, purpose string) envelope.TokenOwner {
	return envelope.TokenOwner{Subject: envelope.Subject{Tenant: "acme", Kind: "customer", ID: id}, Purpose: purpose}
}

// secrets returns the versions of an owner's token key, newest first.
func secrets(t *testing.T, ring *envelope.Keyring, o envelope.TokenOwner, create bool) ([][]byte, error) {
	t.Helper()
	out := make([]envelope.TokenKeys, 1)
	require.NoError(t, ring.TokenKeys(t.Context(), []envelope.TokenOwner{o}, create, out))
	var all [][]byte
	for i, k := range out[0].Keys {
		made, err := k.Make(func(version uint32, secret []byte) (any, error) {
			require.EqualValues(t, len(out[0].Keys)-i, version)
			return bytes.Clone(secret), nil
		})
		require.NoError(t, err)
		secret, _ := made.([]byte)
		require.Len(t, secret, 32)
		all = append(all, secret)
	}
	return all, out[0].Err
}

func TestTokenKeys(t *testing.T) {
	store, key, opts := memstore.New(), envelopetest.NewKey(t), envelope.Options{Ledger: &memledger.Ledger{}, RotateAfter: time.Minute}
	require.NoError(t, envelope.Init(t.Context(), store, key, opts))
	open := func() *envelope.Keyring {
		ring, err := envelope.NewKeyring(t.Context(), store, key, opts)
		require.NoError(t, err)
		t.Cleanup(ring.Close)
		return ring
	}
	ring := open()
	tenants := envelope.TokenOwner{Subject: envelope.Subject{Tenant: "acme"}}
	owners := []envelope.TokenOwner{
		tokenOwner("1", ""), tokenOwner("1", "fraud"), tokenOwner("2", ""), tenants,
		{Subject: envelope.Subject{}}, {Subject: envelope.Subject{Tenant: "acme"}, Purpose: "fraud"},
		{Subject: envelope.Subject{Kind: "customer", ID: "1"}},
	}
	seen := map[string]bool{}
	for _, o := range owners {
		none, err := secrets(t, ring, o, false)
		require.NoError(t, err)
		require.Empty(t, none)
		got, err := secrets(t, ring, o, true)
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.False(t, seen[string(got[0])])
		seen[string(got[0])] = true
		again, err := secrets(t, open(), o, false)
		require.NoError(t, err)
		require.Equal(t, got, again)
	}

	first, err := secrets(t, ring, tokenOwner("1", ""), false)
	require.NoError(t, err)
	n, err := ring.Rotate(t.Context(), tokenOwner("1", "").Subject)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	both, err := secrets(t, ring, tokenOwner("1", ""), true)
	require.NoError(t, err)
	require.Len(t, both, 2)
	require.Equal(t, first[0], both[1])
	require.NoError(t, ring.RotateTokenKey(t.Context(), "acme", ""))
	both, err = secrets(t, open(), tenants, false)
	require.NoError(t, err)
	require.Len(t, both, 2)
	require.ErrorIs(t, ring.RotateTokenKey(t.Context(), "nobody", ""), envelope.ErrKeyMissing)

	_, err = ring.Forget(t.Context(), tokenOwner("2", "").Subject)
	require.NoError(t, err)
	for _, r := range []*envelope.Keyring{ring, open()} {
		for _, create := range []bool{false, true} {
			_, err = secrets(t, r, tokenOwner("2", ""), create)
			require.ErrorIs(t, err, envelope.ErrForgotten)
		}
	}
	both, err = secrets(t, ring, tenants, false)
	require.NoError(t, err)
	require.Len(t, both, 2, "a tenant's own keys stay")

	r, err := ring.ForgetTokenKey(t.Context(), "acme", "")
	require.NoError(t, err)
	require.Len(t, r.KeyIDs, 2)
	for _, k := range []*envelope.Keyring{ring, open()} {
		_, err = secrets(t, k, tenants, true)
		require.ErrorIs(t, err, envelope.ErrForgotten)
	}
	_, err = secrets(t, ring, envelope.TokenOwner{Subject: tenants.Subject, Purpose: "fraud"}, false)
	require.NoError(t, err)
}

// A purpose and its token keys are forgotten and readmitted together, whichever
// of them was used before.
func TestForgetPurposeEndsTokenKeys(t *testing.T) {
	ring := envelopetest.NewKeyring(t)
	o, other := tokenOwner("1", "fraud"), tokenOwner("1", "billing")
	before, err := secrets(t, ring, o, true)
	require.NoError(t, err)
	_, err = secrets(t, ring, other, true)
	require.NoError(t, err)
	r, err := ring.ForgetPurpose(t.Context(), o.Subject, "fraud")
	require.NoError(t, err)
	require.Len(t, r.KeyIDs, 1)
	require.False(t, r.Unknown)
	_, err = secrets(t, ring, o, true)
	require.ErrorIs(t, err, envelope.ErrForgotten)
	_, err = secrets(t, ring, other, true)
	require.NoError(t, err)
	require.NoError(t, ring.ReadmitPurpose(t.Context(), o.Subject, "fraud"))
	after, err := secrets(t, ring, o, true)
	require.NoError(t, err)
	require.NotEqual(t, before, after)

	// Forgotten before the store had any token key of the purpose.
	late := tokenOwner("1", "late")
	_, err = ring.ForgetPurpose(t.Context(), late.Subject, "late")
	require.NoError(t, err)
	for range 2 {
		got, err := secrets(t, ring, late, true)
		require.ErrorIs(t, err, envelope.ErrForgotten)
		require.Empty(t, got)
	}
}

func TestForgetPurposeRacesTokenKeys(t *testing.T) {
	for range 30 {
		store, key, opts := memstore.New(), envelopetest.NewKey(t), envelope.Options{Ledger: &memledger.Ledger{}}
		require.NoError(t, envelope.Init(t.Context(), store, key, opts))
		var rings [2]*envelope.Keyring
		for i := range rings {
			var err error
			rings[i], err = envelope.NewKeyring(t.Context(), store, key, opts)
			require.NoError(t, err)
			defer rings[i].Close()
		}
		o := tokenOwner("1", "fraud")
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := rings[0].TokenKeys(context.Background(), []envelope.TokenOwner{o}, true, make([]envelope.TokenKeys, 1)); err != nil && !errors.Is(err, envelope.ErrUnavailable) {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := rings[1].ForgetPurpose(context.Background(), o.Subject, "fraud"); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		fresh, err := envelope.NewKeyring(t.Context(), store, key, opts)
		require.NoError(t, err)
		got, err := secrets(t, fresh, o, true)
		require.ErrorIs(t, err, envelope.ErrForgotten)
		require.Empty(t, got, "a key that survived the forget of its purpose")
		fresh.Close()
	}
}

func TestReservedNames(t *testing.T) {
	ring := envelopetest.NewKeyring(t)
	recs := []envelope.Record{{
		Name: "r", Scopes: []envelope.Scope{{Purpose: "\x00token/", Subject: tokenOwner("1", "").Subject}},
		Cells: []envelope.Cell{{Field: "a", Plain: []byte("x")}},
	}}
	require.ErrorContains(t, ring.SealRecords(t.Context(), recs), "reserved")
	_, err := ring.ForgetPurpose(t.Context(), tokenOwner("1", "").Subject, "\x00token/")
	require.ErrorContains(t, err, "reserved")
	for _, o := range []envelope.TokenOwner{
		tokenOwner("1", "\x00token/"), tokenOwner("", ""), tokenOwner(" 1", ""), tokenOwner("1", " x"),
		{Subject: envelope.Subject{Kind: "\x00token", ID: "x"}}, {Subject: envelope.Subject{Tenant: " "}}, {Subject: envelope.Subject{Kind: "k"}},
	} {
		_, err := secrets(t, ring, o, true)
		require.Error(t, err)
	}
	require.Error(t, ring.TokenKeys(t.Context(), make([]envelope.TokenOwner, 2), false, make([]envelope.TokenKeys, 1)))
}

// A process that dies, or loses its store, while it makes a token key leaves none
// that a purpose forgotten before would not end.
func TestNoTokenKeyOutlivesAForgottenPurpose(t *testing.T) {
	for broken := 1; broken <= 6; broken++ {
		w := newWorld(t)
		h := w.hooked()
		o := tokenOwner("1", "fraud")
		_, err := w.ring(t).ForgetPurpose(t.Context(), o.Subject, "fraud")
		require.NoError(t, err)
		calls := 0
		var fail func(context.Context) error
		fail = func(context.Context) error {
			if calls++; calls == broken {
				return errReset
			}
			h.evidence = fail
			return nil
		}
		h.evidence = fail
		_ = w.ring(t).TokenKeys(t.Context(), []envelope.TokenOwner{o}, true, make([]envelope.TokenKeys, 1))
		h.evidence = nil
		for _, create := range []bool{false, true, false} {
			got, err := secrets(t, w.ring(t), o, create)
			require.Empty(t, got, "read %d failed", broken)
			if create {
				require.ErrorIs(t, err, envelope.ErrForgotten)
			}
		}
	}
}

// One owner that breaks the rules, is forgotten or comes twice is its own matter.
func TestTokenKeysOfAMixedBatch(t *testing.T) {
	w := newWorld(t)
	ring := w.ring(t)
	_, err := ring.Forget(t.Context(), tokenOwner("gone", "").Subject)
	require.NoError(t, err)
	_, err = ring.ForgetPurpose(t.Context(), tokenOwner("2", "").Subject, "fraud")
	require.NoError(t, err)
	owners := []envelope.TokenOwner{
		tokenOwner("1", "fraud"), tokenOwner(" bad", ""), tokenOwner("gone", ""), tokenOwner("1", "fraud"), tokenOwner("2", "fraud"),
		{Subject: envelope.Subject{Tenant: "acme"}}, tokenOwner("2", "billing"), tokenOwner("2", "fraud"),
	}
	out := make([]envelope.TokenKeys, len(owners))
	require.NoError(t, ring.TokenKeys(t.Context(), owners, true, out))
	for _, i := range []int{0, 3, 5, 6} {
		require.NoError(t, out[i].Err, "owner %d", i)
		require.Len(t, out[i].Keys, 1, "owner %d", i)
	}
	require.Equal(t, out[0].Keys, out[3].Keys)
	require.Error(t, out[1].Err)
	for _, i := range []int{2, 4, 7} {
		require.ErrorIs(t, out[i].Err, envelope.ErrForgotten, "owner %d", i)
		require.Empty(t, out[i].Keys)
	}
}

// A readmission reaches token keys of which another process made the first.
func TestReadmitPurposeOfTokensMadeElsewhere(t *testing.T) {
	w := newWorld(t)
	a, b := w.ring(t), w.ring(t)
	o := tokenOwner("1", "fraud")
	_, err := a.ForgetPurpose(t.Context(), tokenOwner("2", "").Subject, "fraud") // so that a knows the purpose
	require.NoError(t, err)
	_, err = secrets(t, b, o, true)
	require.NoError(t, err)
	_, err = b.ForgetPurpose(t.Context(), o.Subject, "fraud")
	require.NoError(t, err)
	require.NoError(t, a.ReadmitPurpose(t.Context(), o.Subject, "fraud"))
	got, err := secrets(t, w.ring(t), o, true)
	require.NoError(t, err)
	require.Len(t, got, 1)
}

// A token key opens nothing, also if a row names it.
func TestTokenKeysAreNoSubjectKeys(t *testing.T) {
	w := newWorld(t)
	h := w.hooked()
	k := w.ring(t)
	require.NoError(t, k.TokenKeys(t.Context(), []envelope.TokenOwner{{}}, true, make([]envelope.TokenKeys, 1)))
	rec := seal(t, k, record("ada", "a"))
	var last envelope.KeyID
	h.rows = func(rows []envelope.KeyRow) { last = rows[0].KID }
	require.NoError(t, w.ring(t).TokenKeys(t.Context(), []envelope.TokenOwner{{}}, false, make([]envelope.TokenKeys, 1)))
	token := last
	recs := []envelope.Record{rec}
	require.NoError(t, w.ring(t).OpenRecords(t.Context(), recs))
	require.NotEqual(t, token, last)
	forged := bytes.Replace(rec.Header, last[:], token[:], 1)
	require.NotEqual(t, forged, rec.Header)
	recs[0].Header = forged
	recs[0].Scopes[0].Subject = envelope.Subject{Kind: "\x00token", ID: "\x00\x00\x00\x00"}
	require.NoError(t, w.ring(t).OpenRecords(t.Context(), recs))
	require.Error(t, recs[0].Scopes[0].Err)
	require.Error(t, recs[0].Cells[0].Err)
}
