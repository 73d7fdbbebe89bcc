package envelope_test

import (
	"bytes"
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/kms"
)

// countingKey counts KMS calls and can be taken away.
type countingKey struct {
	kms.Key
	decrypts, encrypts atomic.Int64
	away               atomic.Bool
}

func (c *countingKey) EncryptWithContext(ctx context.Context, p, ad []byte) ([]byte, error) {
	c.encrypts.Add(1)
	if c.away.Load() {
		return nil, kms.Unavailable("encrypt", "", nil)
	}
	return c.Key.EncryptWithContext(ctx, p, ad)
}

func (c *countingKey) DecryptWithContext(ctx context.Context, p, ad []byte) ([]byte, error) {
	c.decrypts.Add(1)
	if c.away.Load() {
		return nil, kms.Unavailable("decrypt", "", nil)
	}
	return c.Key.DecryptWithContext(ctx, p, ad)
}

// world is one key store, ledger and KMS key that several "processes" share.
type world struct {
	store  envelope.Store
	ledger envelope.Ledger
	key    *countingKey
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{store: memstore.New(), ledger: &memledger.Ledger{}, key: &countingKey{Key: envelopetest.NewKey(t)}}
	require.NoError(t, envelope.Init(t.Context(), w.store, w.key, w.opts()))
	return w
}

func (w *world) opts() envelope.Options { return envelope.Options{Ledger: w.ledger} }

func (w *world) ring(t testing.TB, change ...func(*envelope.Options)) *envelope.Keyring {
	t.Helper()
	o := w.opts()
	for _, c := range change {
		c(&o)
	}
	k, err := envelope.NewKeyring(t.Context(), w.store, w.key, o)
	require.NoError(t, err)
	t.Cleanup(k.Close)
	return k
}

func person(id string) envelope.Subject { return envelope.Subject{Kind: "customer", ID: id} }

func record(id string, plain ...string) envelope.Record {
	r := envelope.Record{Name: "customers", Scopes: []envelope.Scope{{Subject: person(id)}}}
	for i, p := range plain {
		r.Cells = append(r.Cells, envelope.Cell{Field: fmt.Sprintf("f%d", i), Codec: 1, Plain: []byte(p)})
	}
	return r
}

func seal(t testing.TB, k *envelope.Keyring, r envelope.Record) envelope.Record {
	t.Helper()
	recs := []envelope.Record{r}
	require.NoError(t, k.SealRecords(t.Context(), recs))
	return sealedOnly(recs[0])
}

// sealedOnly is what a database would give back.
func sealedOnly(r envelope.Record) envelope.Record {
	r.Scopes = append([]envelope.Scope(nil), r.Scopes...)
	r.Cells = append([]envelope.Cell(nil), r.Cells...)
	for i := range r.Cells {
		r.Cells[i].Plain, r.Cells[i].Codec = nil, 0
		r.Cells[i].Sealed = bytes.Clone(r.Cells[i].Sealed)
	}
	r.Header = bytes.Clone(r.Header)
	return r
}

func open(t testing.TB, k *envelope.Keyring, r envelope.Record) envelope.Record {
	t.Helper()
	recs := []envelope.Record{sealedOnly(r)}
	require.NoError(t, k.OpenRecords(t.Context(), recs))
	return recs[0]
}

func openErr(t testing.TB, k *envelope.Keyring, r envelope.Record) error {
	t.Helper()
	return open(t, k, r).Cells[0].Err
}

func TestSealOpenAndSizes(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	r := seal(t, k, record("ada", "ada@example.com", ""))
	require.Len(t, r.Header, 110)
	require.Len(t, r.Cells[0].Sealed, len("ada@example.com")+29)
	got := open(t, w.ring(t), r)
	require.NoError(t, got.Cells[0].Err)
	require.Equal(t, "ada@example.com", string(got.Cells[0].Plain))
	require.Equal(t, uint8(1), got.Cells[0].Codec)
	require.Empty(t, got.Cells[1].Plain)
	require.NoError(t, got.Cells[1].Err)

	if fips140.Enforced() {
		return // GODEBUG=fips140=only refuses suite 2
	}
	x := w.ring(t, func(o *envelope.Options) { o.Suite = envelope.SuiteXChaCha })
	r2 := seal(t, x, record("bob", "v"))
	require.Len(t, r2.Header, 122)
	require.Len(t, r2.Cells[0].Sealed, 1+41)
	require.Equal(t, "v", string(open(t, k, r2).Cells[0].Plain))
}

func TestContextIsAuthenticated(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	base := record("ada", "secret")
	base.RowID, base.Bound = "row1", true
	base.Scopes[0].Purpose, base.Scopes[0].Subject.Tenant = "billing", "acme"
	sealed := seal(t, k, base)
	require.NoError(t, openErr(t, k, sealed))
	other := seal(t, k, func() envelope.Record {
		r := record("bob", "other")
		r.RowID, r.Bound = "row2", true
		r.Scopes[0].Purpose, r.Scopes[0].Subject.Tenant = "billing", "acme"
		return r
	}())
	for name, change := range map[string]func(*envelope.Record){
		"record":           func(r *envelope.Record) { r.Name = "orders" },
		"field":            func(r *envelope.Record) { r.Cells[0].Field = "f1" },
		"row id":           func(r *envelope.Record) { r.RowID = "row2" },
		"unbound":          func(r *envelope.Record) { r.Bound = false },
		"tenant":           func(r *envelope.Record) { r.Scopes[0].Subject.Tenant = "evil" },
		"purpose":          func(r *envelope.Record) { r.Scopes[0].Purpose = "marketing" },
		"group":            func(r *envelope.Record) { r.Scopes[0].Group = "sender" },
		"subject":          func(r *envelope.Record) { r.Scopes[0].Subject.ID = "bob" },
		"another's header": func(r *envelope.Record) { r.Header = other.Header },
		"another's cell":   func(r *envelope.Record) { r.Cells[0].Sealed = other.Cells[0].Sealed },
		"truncated header": func(r *envelope.Record) { r.Header = r.Header[:50] },
		"no header":        func(r *envelope.Record) { r.Header = nil },
		"truncated cell":   func(r *envelope.Record) { r.Cells[0].Sealed = r.Cells[0].Sealed[:10] },
		"empty cell":       func(r *envelope.Record) { r.Cells[0].Sealed = nil },
		"foreign cell":     func(r *envelope.Record) { r.Cells[0].Sealed = []byte("plaintext that was never sealed at all") },
	} {
		t.Run(name, func(t *testing.T) {
			r := sealedOnly(sealed)
			change(&r)
			err := openErr(t, k, r)
			require.Error(t, err)
			require.True(t, errors.Is(err, envelope.ErrDecrypt) || errors.Is(err, envelope.ErrKeyMissing), "%v", err)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestOneKMSCallForManySubjects(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	const n = 100_000
	recs := make([]envelope.Record, n)
	for i := range recs {
		recs[i] = record(fmt.Sprint("c", i), "v")
	}
	require.NoError(t, k.SealRecords(t.Context(), recs))
	for i := range recs {
		recs[i] = sealedOnly(recs[i])
	}
	w.key.decrypts.Store(0)
	cold := w.ring(t)
	require.NoError(t, cold.OpenRecords(t.Context(), recs))
	for i := range recs {
		require.NoError(t, recs[i].Cells[0].Err)
	}
	require.EqualValues(t, 1, w.key.decrypts.Load(), "cold")
	require.NoError(t, cold.OpenRecords(t.Context(), recs))
	require.EqualValues(t, 1, w.key.decrypts.Load(), "warm")
}

func TestConcurrentColdOpensShareOneKMSCall(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	recs := make([]envelope.Record, 3000)
	for i := range recs {
		recs[i] = record(fmt.Sprint("c", i), "v")
	}
	require.NoError(t, k.SealRecords(t.Context(), recs))
	w.key.decrypts.Store(0)
	cold := w.ring(t)
	var wg sync.WaitGroup
	var failed atomic.Int64
	for i := range recs {
		wg.Go(func() {
			one := []envelope.Record{sealedOnly(recs[i])}
			if err := cold.OpenRecords(context.Background(), one); err != nil || one[0].Cells[0].Err != nil {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	require.Zero(t, failed.Load())
	require.EqualValues(t, 1, w.key.decrypts.Load())
}

func TestForget(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	ada, bob := seal(t, k, record("ada", "a")), seal(t, k, record("bob", "b"))
	receipt, err := k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	require.Len(t, receipt.KeyIDs, 1)
	require.False(t, receipt.Unknown)

	for name, ring := range map[string]*envelope.Keyring{"here": k, "fresh process": w.ring(t)} {
		require.ErrorIs(t, openErr(t, ring, ada), envelope.ErrForgotten, name)
		require.NoError(t, openErr(t, ring, bob), name)
		require.ErrorIs(t, ring.SealRecords(t.Context(), []envelope.Record{record("ada", "again")}), envelope.ErrForgotten, name)
		_, err = ring.Rotate(t.Context(), person("ada"))
		require.ErrorIs(t, err, envelope.ErrForgotten)
	}
	again, err := k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	require.True(t, again.Already)
	require.Equal(t, receipt.Seq, again.Seq)

	unknown, err := k.Forget(t.Context(), person("nobody"))
	require.NoError(t, err)
	require.True(t, unknown.Unknown)

	require.NoError(t, k.Readmit(t.Context(), person("ada")))
	require.ErrorIs(t, k.Readmit(t.Context(), person("ada")), envelope.ErrNotForgotten)
	back := seal(t, k, record("ada", "new"))
	require.NoError(t, openErr(t, k, back))
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrForgotten, "what was forgotten stays so")
	require.ErrorIs(t, openErr(t, w.ring(t), ada), envelope.ErrForgotten)
}

// A process that has read the ledger uses no key it lists, cached or not.
func TestForgetElsewhere(t *testing.T) {
	w := newWorld(t)
	here, there := w.ring(t), w.ring(t)
	ada, eve := envelope.Subject{Kind: "customer", ID: "ada"}, envelope.Subject{Kind: "customer", ID: "eve"}
	record := func(s envelope.Subject) []envelope.Record {
		return []envelope.Record{{Name: "r", Scopes: []envelope.Scope{{Subject: s}}, Cells: []envelope.Cell{{Field: "f", Plain: []byte("x")}}}}
	}
	recs, others := record(ada), record(eve)
	require.NoError(t, here.SealRecords(t.Context(), recs))
	require.NoError(t, here.SealRecords(t.Context(), others))
	_, err := there.Forget(t.Context(), ada)
	require.NoError(t, err)
	_, err = here.Forget(t.Context(), envelope.Subject{Kind: "customer", ID: "bob"}) // reads the ledger
	require.NoError(t, err)

	require.NoError(t, here.OpenRecords(t.Context(), recs))
	require.ErrorIs(t, recs[0].Cells[0].Err, envelope.ErrForgotten)
	require.ErrorIs(t, here.SealRecords(t.Context(), record(ada)), envelope.ErrForgotten, "it would be lost")
	require.NoError(t, here.OpenRecords(t.Context(), others))
	require.NoError(t, others[0].Cells[0].Err)
}

func TestForgetOnePurpose(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	r := record("ada", "name", "likes")
	r.Scopes = append(r.Scopes, envelope.Scope{Purpose: "marketing", Subject: person("ada")})
	r.Cells[1].Scope = 1
	sealed := seal(t, k, r)
	require.Len(t, sealed.Header, 3+2*107)
	_, err := k.ForgetPurpose(t.Context(), person("ada"), "marketing")
	require.NoError(t, err)
	got := open(t, w.ring(t), sealed)
	require.NoError(t, got.Cells[0].Err)
	require.ErrorIs(t, got.Cells[1].Err, envelope.ErrForgotten)

	changed := sealedOnly(sealed)
	changed.Cells = changed.Cells[:1]
	changed.Cells[0].Plain = []byte("new name")
	require.NoError(t, k.SealRecords(t.Context(), []envelope.Record{changed}), "the other purpose can still be written")

	require.NoError(t, k.ReadmitPurpose(t.Context(), person("ada"), "marketing"))
	again := seal(t, k, r)
	require.NoError(t, open(t, k, again).Cells[1].Err)
}

func TestReuseHeaderKeepsOtherCells(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	sealed := seal(t, k, record("ada", "one", "two"))
	update := sealedOnly(sealed)
	update.Cells = []envelope.Cell{{Field: "f0", Codec: 1, Plain: []byte("ONE")}}
	recs := []envelope.Record{update}
	require.NoError(t, k.SealRecords(t.Context(), recs))
	require.Equal(t, sealed.Header, recs[0].Header)
	sealed.Cells[0].Sealed = recs[0].Cells[0].Sealed
	got := open(t, k, sealed)
	require.Equal(t, "ONE", string(got.Cells[0].Plain))
	require.Equal(t, "two", string(got.Cells[1].Plain))
}

func TestHeaderGrowsByAScope(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	sealed := seal(t, k, record("ada", "one"))
	more := sealedOnly(sealed)
	more.Scopes = append(more.Scopes, envelope.Scope{Group: "sender", Subject: person("bob")})
	more.Cells = []envelope.Cell{{Scope: 1, Field: "f1", Codec: 1, Plain: []byte("two")}}
	recs := []envelope.Record{more}
	require.NoError(t, k.SealRecords(t.Context(), recs))
	grown := recs[0]
	require.Len(t, grown.Header, 3+2*107)
	grown.Cells = append(grown.Cells, envelope.Cell{Field: "f0", Sealed: sealed.Cells[0].Sealed})
	got := open(t, w.ring(t), grown)
	require.Equal(t, "two", string(got.Cells[0].Plain))
	require.Equal(t, "one", string(got.Cells[1].Plain))

	narrow := sealedOnly(grown) // a program that does not know the new scope reads on, and refuses to extend
	narrow.Scopes, narrow.Cells = narrow.Scopes[:1], narrow.Cells[1:]
	require.NoError(t, openErr(t, k, narrow))
	narrow.Scopes = append(narrow.Scopes, envelope.Scope{Group: "third", Subject: person("carl")})
	narrow.Cells = []envelope.Cell{{Scope: 1, Field: "f2", Plain: []byte("x")}}
	require.ErrorIs(t, k.SealRecords(t.Context(), []envelope.Record{narrow}), envelope.ErrScopes)
}

func TestRotateAndRewrap(t *testing.T) {
	w := newWorld(t)
	k, other := w.ring(t), w.ring(t)
	old := seal(t, k, record("ada", "a"))
	require.NoError(t, openErr(t, other, old)) // other caches version 1
	n, err := k.Rotate(t.Context(), person("ada"))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	fresh := seal(t, k, record("ada", "b"))
	require.NotEqual(t, old.Header[6:18], fresh.Header[6:18], "a new kid")
	require.NoError(t, openErr(t, k, old))
	require.NoError(t, openErr(t, other, fresh), "a version made after it was cached")
	recs := []envelope.Record{sealedOnly(old), sealedOnly(fresh)}
	changed, err := k.RewrapRecords(t.Context(), recs)
	require.NoError(t, err)
	require.Equal(t, 1, changed)
	require.Equal(t, fresh.Header[6:18], recs[0].Header[6:18])
	require.Equal(t, "a", string(open(t, k, recs[0]).Cells[0].Plain))
	_, err = k.Rotate(t.Context(), person("nobody"))
	require.ErrorIs(t, err, envelope.ErrKeyMissing)
}

func TestRewrapKEK(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	var recs []envelope.Record
	for i := range 300 { // several leaves
		recs = append(recs, record(fmt.Sprint("c", i), "v"))
	}
	require.NoError(t, k.SealRecords(t.Context(), recs))
	_, err := k.Forget(t.Context(), person("c7"))
	require.NoError(t, err)
	bystander := w.ring(t)

	next := &countingKey{Key: envelopetest.NewKey(t)}
	require.NoError(t, k.RewrapKEK(t.Context(), next))
	check := func(ring *envelope.Keyring) {
		t.Helper()
		got := make([]envelope.Record, len(recs))
		for i := range recs {
			got[i] = sealedOnly(recs[i])
		}
		require.NoError(t, ring.OpenRecords(t.Context(), got))
		for i := range got {
			if i == 7 {
				require.ErrorIs(t, got[i].Cells[0].Err, envelope.ErrForgotten)
			} else {
				require.NoError(t, got[i].Cells[0].Err, "%d", i)
			}
		}
		require.NoError(t, ring.SealRecords(t.Context(), []envelope.Record{record("new", "v")}))
	}
	check(k)
	_, err = envelope.NewKeyring(t.Context(), w.store, w.key, w.opts())
	require.ErrorIs(t, err, envelope.ErrWrongKey, "the old key no longer opens the store")
	require.Error(t, bystander.SealRecords(t.Context(), []envelope.Record{record("late", "v")}), "a process without the new key stops, it does not split the store")
	fresh, err := envelope.NewKeyring(t.Context(), w.store, next, w.opts())
	require.NoError(t, err)
	defer fresh.Close()
	check(fresh)
	require.NoError(t, fresh.RewrapKEK(t.Context(), next), "a second time, under the same key")
	check(fresh)
}

func TestOutageOfTheKMS(t *testing.T) {
	w := newWorld(t)
	setup := w.ring(t)
	warm, cold := seal(t, setup, record("warm", "v")), seal(t, setup, record("cold", "v"))
	k := w.ring(t, func(o *envelope.Options) { o.CacheTTL, o.Timeout = time.Second, 300*time.Millisecond })
	require.NoError(t, openErr(t, k, warm))
	w.key.away.Store(true)
	require.NoError(t, openErr(t, k, warm), "cached subjects go on")
	_ = cold
	time.Sleep(1200 * time.Millisecond)
	start := time.Now()
	err := k.OpenRecords(t.Context(), []envelope.Record{sealedOnly(warm)})
	require.ErrorIs(t, err, envelope.ErrUnavailable)
	require.Less(t, time.Since(start), 3*time.Second)
	_, err = envelope.NewKeyring(t.Context(), w.store, w.key, w.opts())
	require.ErrorIs(t, err, envelope.ErrUnavailable)
	w.key.away.Store(false)
	require.Eventually(t, func() bool {
		return k.OpenRecords(context.Background(), []envelope.Record{sealedOnly(warm)}) == nil
	}, 10*time.Second, 50*time.Millisecond, "recovers without a restart")
}

func TestWrongKeyAndForeignParts(t *testing.T) {
	w := newWorld(t)
	_, err := envelope.NewKeyring(t.Context(), w.store, envelopetest.NewKey(t), w.opts())
	require.ErrorIs(t, err, envelope.ErrWrongKey)
	_, err = envelope.NewKeyring(t.Context(), w.store, w.key, envelope.Options{Ledger: &memledger.Ledger{}})
	require.ErrorIs(t, err, envelope.ErrLedger)
	_, err = envelope.NewKeyring(t.Context(), w.store, w.key, envelope.Options{})
	require.ErrorContains(t, err, "Ledger is required")
	require.ErrorIs(t, envelope.Init(t.Context(), w.store, w.key, w.opts()), envelope.ErrStoreExists)
	require.ErrorIs(t, envelope.Init(t.Context(), memstore.New(), w.key, w.opts()), envelope.ErrLedger)
	_, err = envelope.NewKeyring(t.Context(), memstore.New(), w.key, w.opts())
	require.ErrorIs(t, err, envelope.ErrStoreEmpty)
	other := newWorld(t)
	_, err = envelope.NewKeyring(t.Context(), w.store, w.key, envelope.Options{Ledger: other.ledger})
	require.ErrorIs(t, err, envelope.ErrLedger)
}

// failingStore fails the next call of a kind, before or after it happened.
type failingStore struct {
	envelope.Store
	forget atomic.Int32 // 1: before, 2: after
}

func (f *failingStore) Forget(ctx context.Context, x envelope.Forgetting) ([]envelope.KeyRow, error) {
	switch f.forget.Swap(0) {
	case 1:
		return nil, errors.New("disk full")
	case 2:
		if _, err := f.Store.Forget(ctx, x); err != nil {
			return nil, err
		}
		return nil, errors.New("connection reset")
	}
	return f.Store.Forget(ctx, x)
}

func TestForgetRollsForward(t *testing.T) {
	for mode := int32(1); mode <= 2; mode++ {
		w := newWorld(t)
		fs := &failingStore{Store: w.store}
		w.store = fs
		k := w.ring(t)
		ada := seal(t, k, record("ada", "a"))
		fs.forget.Store(mode)
		receipt, err := k.Forget(t.Context(), person("ada"))
		require.ErrorIs(t, err, envelope.ErrUnavailable)
		require.NotZero(t, receipt.Seq)
		require.ErrorIs(t, openErr(t, k, ada), envelope.ErrForgotten, "committed by the ledger already")
		require.ErrorIs(t, k.SealRecords(t.Context(), []envelope.Record{record("ada", "again")}), envelope.ErrForgotten)
		require.ErrorIs(t, openErr(t, w.ring(t), ada), envelope.ErrForgotten, "the next start rolls forward")
		again, err := k.Forget(t.Context(), person("ada"))
		require.NoError(t, err)
		require.True(t, again.Already)
	}
}

func TestRacingSealOpenForget(t *testing.T) {
	w := newWorld(t)
	a, b := w.ring(t), w.ring(t)
	for round := range 30 {
		id := fmt.Sprint("r", round)
		first := seal(t, a, record(id, "v"))
		var wg sync.WaitGroup
		for _, ring := range []*envelope.Keyring{a, b} {
			for range 4 {
				wg.Go(func() {
					for range 5 {
						recs := []envelope.Record{record(id, "v")}
						if err := ring.SealRecords(context.Background(), recs); err != nil && !errors.Is(err, envelope.ErrForgotten) {
							t.Errorf("seal: %v", err)
						}
						recs = []envelope.Record{sealedOnly(first)}
						if err := ring.OpenRecords(context.Background(), recs); err != nil {
							t.Errorf("open: %v", err)
						} else if err := recs[0].Cells[0].Err; err != nil && !errors.Is(err, envelope.ErrForgotten) {
							t.Errorf("open: %v", err)
						}
					}
				})
			}
		}
		_, err := a.Forget(t.Context(), person(id))
		require.NoError(t, err)
		require.ErrorIs(t, openErr(t, a, first), envelope.ErrForgotten)
		wg.Wait()
		require.ErrorIs(t, openErr(t, a, first), envelope.ErrForgotten)
		require.ErrorIs(t, openErr(t, w.ring(t), first), envelope.ErrForgotten)
	}
}

func TestManyLeavesAndLevels(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	const n = 3 * 64 * 64 // more leaves than hang on the root
	recs := make([]envelope.Record, n)
	for i := range recs {
		recs[i] = record(fmt.Sprint("c", i), "v")
	}
	require.NoError(t, k.SealRecords(t.Context(), recs))
	level1, err := w.store.OpenPages(t.Context(), 1, 1, 100)
	require.NoError(t, err)
	require.NotEmpty(t, level1, "the tree has grown a level")
	_, err = k.Forget(t.Context(), person(fmt.Sprint("c", n-1)))
	require.NoError(t, err)
	require.NoError(t, k.RewrapKEK(t.Context(), w.key))
	cold := w.ring(t)
	for i := range recs {
		recs[i] = sealedOnly(recs[i])
	}
	require.NoError(t, cold.OpenRecords(t.Context(), recs))
	for i := range recs[:n-1] {
		require.NoError(t, recs[i].Cells[0].Err)
	}
	require.ErrorIs(t, recs[n-1].Cells[0].Err, envelope.ErrForgotten)
}

func TestSubjectsAreValidated(t *testing.T) {
	k := newWorld(t).ring(t)
	for _, s := range []envelope.Subject{{}, {Kind: "customer"}, {ID: "x"}, {Kind: "customer", ID: " x"}, {Kind: "\x00index", ID: "x"}, {Kind: "c", ID: "\xff"}, {Kind: "c", ID: string(make([]byte, 2000))}} {
		r := record("x", "v")
		r.Scopes[0].Subject = s
		require.Error(t, k.SealRecords(t.Context(), []envelope.Record{r}))
		_, err := k.Forget(t.Context(), s)
		require.Error(t, err)
	}
}

func TestPastedRowStaysDead(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	ada := seal(t, k, record("ada", "a"))
	receipt, err := k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	// An intruder forges the opposite of the forget in the store, but not the ledger.
	require.NoError(t, k.Readmit(t.Context(), person("ada")))
	require.ErrorIs(t, openErr(t, w.ring(t), ada), envelope.ErrForgotten)
	require.Len(t, receipt.KeyIDs, 1)
}

func TestClosedKeyring(t *testing.T) {
	k := newWorld(t).ring(t)
	k.Close()
	k.Close()
	require.ErrorIs(t, k.SealRecords(t.Context(), []envelope.Record{record("x", "v")}), envelope.ErrClosed)
	_, err := k.Forget(t.Context(), person("x"))
	require.ErrorIs(t, err, envelope.ErrClosed)
}

func TestIndexKeys(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	none, err := k.IndexKeys(t.Context(), "", "customers", "email_idx", false)
	require.NoError(t, err)
	require.Empty(t, none)
	keys, err := k.IndexKeys(t.Context(), "", "customers", "email_idx", true)
	require.NoError(t, err)
	require.Len(t, keys, 1)
	term := keys[0].Append(nil, "email/1", []byte("ada@example.com"), 33)
	require.Len(t, term, 2+5)
	require.Zero(t, term[6]&0x7f)
	again, err := w.ring(t).IndexKeys(t.Context(), "", "customers", "email_idx", false)
	require.NoError(t, err)
	require.Equal(t, term, again[0].Append(nil, "email/1", []byte("ada@example.com"), 33))
	other, err := k.IndexKeys(t.Context(), "acme", "customers", "email_idx", true)
	require.NoError(t, err)
	require.NotEqual(t, term, other[0].Append(nil, "email/1", []byte("ada@example.com"), 33))
}

// withheld is a key store whose intruder keeps a row from a forget and puts it
// back afterwards, without the tomb.
type withheld struct {
	envelope.Store

	rows  []envelope.KeyRow
	pages []envelope.PageRow
	state string // "keep", "hide", "put back"
}

func (s *withheld) Keys(ctx context.Context, tree envelope.TreeID, ver uint32, srefs []envelope.SRef) ([]envelope.KeyRow, []envelope.PageRow, error) {
	var err error
	switch s.state {
	case "keep":
		s.rows, s.pages, err = s.Store.Keys(ctx, tree, ver, srefs)
	case "hide":
		return nil, nil, nil
	}
	return s.rows, s.pages, err
}

func (s *withheld) Evidence(ctx context.Context, tree envelope.TreeID, ver uint32, srefs []envelope.SRef, kids []envelope.KeyID) ([]envelope.Tomb, []envelope.KeyID, error) {
	if s.state == "put back" {
		return nil, nil, nil
	}
	return s.Store.Evidence(ctx, tree, ver, srefs, kids)
}

func (s *withheld) Forget(ctx context.Context, f envelope.Forgetting) ([]envelope.KeyRow, error) {
	_, err := s.Store.Forget(ctx, f)
	return nil, err
}

func TestRowKeptFromAForgetStaysDead(t *testing.T) {
	for _, forget := range []func(k *envelope.Keyring) (envelope.Receipt, error){
		func(k *envelope.Keyring) (envelope.Receipt, error) { return k.Forget(t.Context(), person("ada")) },
		func(k *envelope.Keyring) (envelope.Receipt, error) {
			return k.ForgetPurpose(t.Context(), person("ada"), "")
		},
	} {
		w := newWorld(t)
		s := &withheld{Store: w.store, state: "keep"}
		open := func() *envelope.Keyring {
			k, err := envelope.NewKeyring(t.Context(), s, w.key, w.opts())
			require.NoError(t, err)
			t.Cleanup(k.Close)
			return k
		}
		ada := seal(t, w.ring(t), record("ada", "a"))
		s.state = "keep"
		require.NoError(t, openErr(t, open(), ada))
		s.state = "hide"
		k := open()
		r, err := forget(k)
		require.NoError(t, err)
		require.Empty(t, r.KeyIDs)
		s.state = "put back"
		for _, k := range []*envelope.Keyring{k, open()} {
			require.ErrorIs(t, openErr(t, k, ada), envelope.ErrForgotten)
			require.ErrorIs(t, k.SealRecords(t.Context(), []envelope.Record{record("ada", "new")}), envelope.ErrForgotten)
		}
	}
}
