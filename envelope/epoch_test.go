package envelope_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/kms"
)

// versions is a KMS key in memory whose versions can be destroyed.
type versions struct {
	mu    sync.Mutex
	keys  []kms.Key // by version; nil where destroyed
	calls int
	fail  error
	lie   bool // says destroyed, and is not
	t     testing.TB
}

func newVersions(t testing.TB) *versions {
	return &versions{t: t, keys: []kms.Key{envelopetest.NewKey(t)}}
}

func (v *versions) KeyURI() string { return "test:versions" }

func (v *versions) at(i int) (kms.Key, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls++
	if v.fail != nil {
		return nil, v.fail
	}
	if i >= len(v.keys) || v.keys[i] == nil {
		return nil, kms.Rejected("use", v.KeyURI(), nil)
	}
	return v.keys[i], nil
}

func (v *versions) EncryptWithContext(ctx context.Context, pt, ad []byte) ([]byte, error) {
	return (&version{v, 0}).EncryptWithContext(ctx, pt, ad)
}

func (v *versions) DecryptWithContext(ctx context.Context, ct, ad []byte) ([]byte, error) {
	return (&version{v, 0}).DecryptWithContext(ctx, ct, ad)
}

func (v *versions) EraseSemantics(context.Context) (kms.EraseSemantics, error) {
	return kms.EraseSemantics{OperatorBackedUp: true}, nil
}

func (v *versions) NewHandle(context.Context, string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls++
	if v.fail != nil {
		return "", v.fail
	}
	v.keys = append(v.keys, envelopetest.NewKey(v.t))
	return fmt.Sprint("v", len(v.keys)-1), nil
}

func (v *versions) HandleKey(handle string) (kms.Key, error) {
	var n int
	if _, err := fmt.Sscanf(handle, "v%d", &n); err != nil {
		return nil, err
	}
	return &version{v, n}, nil
}

func (v *versions) Destroy(_ context.Context, handle string) (kms.Erasure, error) {
	var n int
	if _, err := fmt.Sscanf(handle, "v%d", &n); err != nil {
		return kms.Erasure{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls++
	if v.fail != nil {
		return kms.Erasure{}, v.fail
	}
	if !v.lie {
		v.keys[n] = nil
	}
	return kms.Erasure{State: kms.HandleDestroyed}, nil
}

func (v *versions) Erasure(ctx context.Context, handle string) (kms.Erasure, error) {
	return v.Destroy(ctx, handle)
}

type version struct {
	v *versions
	n int
}

func (o *version) EncryptWithContext(ctx context.Context, pt, ad []byte) ([]byte, error) {
	k, err := o.v.at(o.n)
	if err != nil {
		return nil, err
	}
	return k.EncryptWithContext(ctx, pt, ad)
}

func (o *version) DecryptWithContext(ctx context.Context, ct, ad []byte) ([]byte, error) {
	k, err := o.v.at(o.n)
	if err != nil {
		return nil, err
	}
	return k.DecryptWithContext(ctx, ct, ad)
}

// epochWorld is a key store in an SQLite file, of which backups are made.
type epochWorld struct {
	t      testing.TB
	dir    string
	ledger *memledger.Ledger
	kms    *versions
	now    time.Time
	opts   envelope.Options
	n      int
}

func newEpochWorld(t testing.TB) (*epochWorld, *envelope.Keyring) {
	w := &epochWorld{t: t, dir: t.TempDir(), ledger: &memledger.Ledger{}, kms: newVersions(t), now: time.Now()}
	w.opts = envelope.Options{Ledger: w.ledger}
	store := w.store("live.db")
	require.NoError(t, store.Migrate(t.Context()))
	require.NoError(t, envelope.Init(t.Context(), store, w.kms, w.opts))
	return w, w.ring("live.db")
}

func (w *epochWorld) store(name string) *sqlstore.Store {
	w.t.Helper()
	s, err := sqlstore.OpenSQLite(w.t.Context(), filepath.Join(w.dir, name))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (w *epochWorld) ring(name string) *envelope.Keyring {
	w.t.Helper()
	k, err := w.open(name)
	require.NoError(w.t, err)
	return k
}

func (w *epochWorld) open(name string) (*envelope.Keyring, error) {
	k, err := envelope.NewKeyring(w.t.Context(), w.store(name), w.kms, w.opts)
	if err != nil {
		return nil, err
	}
	w.t.Cleanup(k.Close)
	k.SetNow(func() time.Time { return w.now })
	return k, nil
}

// backup copies the live store into a file of its own.
func (w *epochWorld) backup() string {
	w.t.Helper()
	w.n++
	name := fmt.Sprintf("backup%d.db", w.n)
	db, err := sql.Open("sqlite", filepath.Join(w.dir, "live.db"))
	require.NoError(w.t, err)
	defer func() { _ = db.Close() }()
	_, err = db.Exec("VACUUM INTO ?", filepath.Join(w.dir, name))
	require.NoError(w.t, err)
	return name
}

func epochRecord(id string) envelope.Record {
	return envelope.Record{Name: "r", Scopes: []envelope.Scope{{Subject: envelope.Subject{Kind: "p", ID: id}}}, Cells: []envelope.Cell{{Field: "f", Plain: []byte("value of " + id)}}}
}

func (w *epochWorld) seal(k *envelope.Keyring, prefix string, n int) []envelope.Record {
	w.t.Helper()
	recs := make([]envelope.Record, n)
	for i := range recs {
		recs[i] = epochRecord(fmt.Sprint(prefix, i))
	}
	require.NoError(w.t, k.SealRecords(w.t.Context(), recs))
	return recs
}

// opened says of each record what becomes of it.
func (w *epochWorld) opened(k *envelope.Keyring, recs []envelope.Record) (open, forgotten, missing int) {
	w.t.Helper()
	again := make([]envelope.Record, len(recs))
	for i := range recs {
		again[i] = recs[i]
		again[i].Cells = []envelope.Cell{recs[i].Cells[0]}
		again[i].Cells[0].Plain = nil
		again[i].Scopes = []envelope.Scope{{Subject: recs[i].Scopes[0].Subject}}
	}
	require.NoError(w.t, k.OpenRecords(w.t.Context(), again))
	for i := range again {
		switch err := again[i].Scopes[0].Err; {
		case err == nil:
			require.Equal(w.t, recs[i].Cells[0].Plain, again[i].Cells[0].Plain)
			open++
		case errors.Is(err, envelope.ErrForgotten):
			forgotten++
		case errors.Is(err, envelope.ErrKeyMissing):
			missing++
		default:
			require.NoError(w.t, err)
		}
	}
	return open, forgotten, missing
}

func TestCloseEpoch(t *testing.T) {
	w, k := newEpochWorld(t)
	recs := w.seal(k, "a", 5000) // three levels of pages
	closed, err := k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	require.True(t, closed.NoOp)
	old := w.backup()
	for i := range 100 {
		_, err := k.Forget(t.Context(), recs[i*50].Scopes[0].Subject)
		require.NoError(t, err)
	}
	st, err := k.Status(t.Context())
	require.NoError(t, err)
	require.NotZero(t, st.DirtyPages)
	other := w.ring("live.db") // another process, with keys in memory
	open, forgotten, _ := w.opened(other, recs)
	require.Equal(t, [2]int{4900, 100}, [2]int{open, forgotten})
	before := w.kms.calls
	closed, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	t.Logf("%+v; %d KMS calls", closed, w.kms.calls-before)
	require.EqualValues(t, 2, closed.Epoch)
	require.LessOrEqual(t, w.kms.calls-before, 3, "a handle, a wrap and its check")
	for _, ring := range []*envelope.Keyring{k, other, w.ring("live.db")} {
		open, forgotten, _ = w.opened(ring, recs)
		require.Equal(t, [2]int{4900, 100}, [2]int{open, forgotten})
		w.seal(ring, fmt.Sprintf("new%p", ring), 100)
	}
	st, err = k.Status(t.Context())
	require.NoError(t, err)
	require.Zero(t, st.DirtyPages)
	require.Len(t, st.Pending, 1)
	t.Log(st)

	// Within the window the backup still opens, and what was forgotten since does not.
	_, err = w.open(old)
	require.ErrorIs(t, err, envelope.ErrLedger)
	require.ErrorContains(t, err, "Restore")

	w.now = w.now.Add(8 * 24 * time.Hour)
	erasures, err := k.EraseDue(t.Context())
	require.NoError(t, err)
	require.Len(t, erasures, 1)
	require.False(t, erasures[0].Destroyed.IsZero())
	_, err = envelope.Restore(t.Context(), w.store(old), w.kms, w.opts, envelope.RestoreOptions{})
	require.ErrorIs(t, err, envelope.ErrWrongKey)
	require.ErrorContains(t, err, "destroyed")
	st, err = k.Status(t.Context())
	require.NoError(t, err)
	require.Empty(t, st.Pending)
	require.False(t, st.OldestBackup.IsZero())
}

func TestRestore(t *testing.T) {
	for _, quick := range []bool{false, true} {
		w, k := newEpochWorld(t)
		recs := w.seal(k, "a", 5000)
		_, err := k.Forget(t.Context(), recs[0].Scopes[0].Subject)
		require.NoError(t, err)
		backup := w.backup()
		_, err = k.Forget(t.Context(), recs[1].Scopes[0].Subject)
		require.NoError(t, err)
		lost := w.seal(k, "lost", 200)
		_, err = k.Forget(t.Context(), lost[0].Scopes[0].Subject)
		require.NoError(t, err)
		_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
		require.NoError(t, err)
		_, err = k.Forget(t.Context(), recs[2].Scopes[0].Subject)
		require.NoError(t, err)

		_, err = w.open(backup)
		require.ErrorIs(t, err, envelope.ErrLedger)
		done, err := envelope.Restore(t.Context(), w.store(backup), w.kms, w.opts, envelope.RestoreOptions{Quick: quick})
		require.NoError(t, err)
		require.EqualValues(t, 1, done.FromEpoch)
		require.EqualValues(t, 2, done.Incarnation)
		t.Logf("%+v", done)
		restored := w.ring(backup)
		open, forgotten, _ := w.opened(restored, recs)
		require.Equal(t, [2]int{4997, 3}, [2]int{open, forgotten})
		open, forgotten, missing := w.opened(restored, lost)
		require.Equal(t, [3]int{0, 1, 199}, [3]int{open, forgotten, missing})
		w.seal(restored, "after", 10)
		st, err := restored.Status(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 3, st.Epoch)
		require.Len(t, st.Pending, 2, "the epochs of the backup and of the history that was given up")
		_, err = w.open("live.db")
		require.ErrorIs(t, err, envelope.ErrLedger, "the store that was given up")
		again, err := envelope.Restore(t.Context(), w.store(backup), w.kms, w.opts, envelope.RestoreOptions{})
		require.NoError(t, err, "nothing to do")
		require.EqualValues(t, 3, again.FromEpoch)
	}
}

func TestImmediateClose(t *testing.T) {
	w, k := newEpochWorld(t)
	recs := w.seal(k, "a", 10)
	_, err := k.Forget(t.Context(), recs[0].Scopes[0].Subject)
	require.NoError(t, err)
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	before := w.kms.calls
	closed, err := k.CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true})
	require.NoError(t, err)
	t.Log(w.kms.calls-before, "KMS calls")
	require.False(t, closed.NoOp, "an earlier handle still lives")
	require.Len(t, closed.Erasures, 2)
	for _, e := range closed.Erasures {
		require.False(t, e.Destroyed.IsZero())
	}
	closed, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true})
	require.NoError(t, err)
	require.True(t, closed.NoOp)
	require.NotZero(t, k.Promise().Backups)
}

func TestErasureFailures(t *testing.T) {
	w, k := newEpochWorld(t)
	recs := w.seal(k, "a", 10)
	_, err := k.Forget(t.Context(), recs[0].Scopes[0].Subject)
	require.NoError(t, err)
	w.kms.lie = true
	closed, err := k.CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true})
	require.ErrorContains(t, err, "still unwraps")
	require.EqualValues(t, 2, closed.Epoch, "it is closed all the same")
	w.kms.lie, w.kms.fail = false, kms.Denied("destroy", "test:versions", nil)
	_, err = k.EraseDue(t.Context())
	require.ErrorIs(t, err, kms.ErrDenied)
	w.kms.fail = nil
	erasures, err := k.EraseDue(t.Context())
	require.NoError(t, err)
	require.False(t, erasures[0].Destroyed.IsZero())

	_, err = k.Forget(t.Context(), recs[1].Scopes[0].Subject)
	require.NoError(t, err)
	w.kms.fail = kms.Unavailable("make", "test:versions", nil)
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.ErrorIs(t, err, envelope.ErrUnavailable)
	w.kms.fail = nil
	closed, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	require.False(t, closed.NoOp)
}

// A key store whose KMS key cannot be destroyed in part moves under one that can.
func TestFromAPlainKey(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	require.NotEmpty(t, k.Promise().None)
	require.NoError(t, k.RewrapKEK(t.Context(), newVersions(t)))
	require.Contains(t, k.Promise().None, "epoch 1", "its backups stay readable")
	st, err := k.Status(t.Context())
	require.NoError(t, err)
	require.Contains(t, st.String(), "cannot be destroyed in part")
	require.ErrorContains(t, k.ConfirmErased(t.Context(), 1), "still unwraps")
}

// That keys which never wrapped it do not unwrap a root is no sign of its destruction.
func TestConfirmErasedTriesTheRightKey(t *testing.T) {
	w := newWorld(t)
	plain := &refusing{identified: identified{w.key, "test:plain"}}
	opts := w.opts()
	store := memstore.New()
	opts.Ledger = &memledger.Ledger{}
	require.NoError(t, envelope.Init(t.Context(), store, plain, opts))
	k, err := envelope.NewKeyring(t.Context(), store, plain, opts)
	require.NoError(t, err)
	defer k.Close()
	v := newVersions(t)
	require.NoError(t, k.RewrapKEK(t.Context(), v))
	without, err := envelope.NewKeyring(t.Context(), store, v, opts)
	require.NoError(t, err)
	defer without.Close()
	require.ErrorContains(t, without.ConfirmErased(t.Context(), 1), "test:plain")
	require.ErrorContains(t, k.ConfirmErased(t.Context(), 1), "still unwraps")
	require.ErrorContains(t, k.ConfirmErasedUnseen(t.Context(), 1), "still unwraps")
	plain.gone = true
	require.NoError(t, k.ConfirmErased(t.Context(), 1))
	require.NoError(t, without.ConfirmErasedUnseen(t.Context(), 1), "it is confirmed")
	require.Empty(t, k.Promise().None)
}

// refusing is a key that is destroyed by hand.
type refusing struct {
	identified
	gone bool
}

func (r *refusing) DecryptWithContext(ctx context.Context, ct, ad []byte) ([]byte, error) {
	if r.gone {
		return nil, kms.Rejected("decrypt", r.uri, nil)
	}
	return r.identified.DecryptWithContext(ctx, ct, ad)
}

func TestEpochOptions(t *testing.T) {
	w := newWorld(t)
	for text, o := range map[string]envelope.EpochOptions{
		"Every": {Every: time.Second}, "Window": {Window: 91 * 24 * time.Hour}, "CloseTime": {CloseTime: time.Millisecond}, "ReplicaLag": {ReplicaLag: -1},
	} {
		opts := w.opts()
		opts.Epochs = o
		_, err := envelope.NewKeyring(t.Context(), w.store, w.key, opts)
		require.ErrorContains(t, err, "Options.Epochs."+text)
	}
	e, _ := newEpochWorld(t)
	e.opts.Epochs.Window = 40 * 24 * time.Hour
	_, err := e.open("live.db")
	require.ErrorContains(t, err, "Long")
	e.opts.Epochs.Long = true
	_, err = e.open("live.db")
	require.NoError(t, err)
	e.opts.Epochs = envelope.EpochOptions{Window: -1}
	k, err := e.open("live.db")
	require.NoError(t, err)
	require.Equal(t, 25*time.Hour, k.Promise().Backups)
}

func TestRunEpochs(t *testing.T) {
	w, _ := newEpochWorld(t)
	w.opts.Epochs = envelope.EpochOptions{Every: time.Minute, Window: -1}
	a, b := w.ring("live.db"), w.ring("live.db")
	recs := w.seal(a, "a", 10)
	_, err := a.Forget(t.Context(), recs[0].Scopes[0].Subject)
	require.NoError(t, err)
	w.now = w.now.Add(2 * time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	closed := make(chan envelope.Closed, 10)
	var wg sync.WaitGroup
	for _, k := range []*envelope.Keyring{a, b} {
		wg.Go(func() {
			_ = k.RunEpochs(ctx, envelope.EpochEvents{Closed: func(c envelope.Closed) { closed <- c }})
		})
	}
	c := <-closed
	require.EqualValues(t, 2, c.Epoch)
	cancel()
	wg.Wait()
	require.Empty(t, closed, "one of them closed")
	require.NotContains(t, fmt.Sprint(c), "value")
}

// Of two closers one wins; a close that dies anywhere is done by the next.
func TestClosersRace(t *testing.T) {
	w, k := newEpochWorld(t)
	recs := w.seal(k, "a", 1000)
	other := w.ring("live.db")
	for round := range 5 {
		for i := range 20 {
			_, err := k.Forget(t.Context(), recs[round*20+i].Scopes[0].Subject)
			require.NoError(t, err)
		}
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i, ring := range []*envelope.Keyring{k, other} {
			wg.Go(func() { _, errs[i] = ring.CloseEpoch(t.Context(), envelope.CloseOptions{}) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, envelope.ErrLeased) {
				require.ErrorIs(t, err, envelope.ErrUnavailable)
			}
		}
		require.NotZero(t, won)
	}
	open, forgotten, _ := w.opened(w.ring("live.db"), recs)
	require.Equal(t, [2]int{900, 100}, [2]int{open, forgotten})
}

// A forget finds a key that its entry does not list, and its process dies before the
// ledger has that key, while another process begins a close: the receipt goes by this
// close, which therefore re-keys the key's page.
func TestCloseTakesMarkedPagesAlong(t *testing.T) {
	w := newWorld(t)
	plain := w.ledger
	minter := w.ring(t)
	seal(t, minter, record("ada", "a"))
	for i := range envelope.PageFanOut { // the next key has another page
		seal(t, minter, record(fmt.Sprint("filler", i), "x"))
	}
	dying := &hookedLedger{Ledger: plain}
	w.ledger = dying
	forgetter := w.ring(t)
	closing := &hookedLedger{Ledger: plain}
	w.ledger = closing
	closer := w.ring(t)

	_, err := closer.Forget(t.Context(), person("filler0")) // so that there is something to close
	require.NoError(t, err)
	var seq uint64
	closing.before = func(e envelope.LedgerEntry) error {
		require.Equal(t, envelope.LedgerRootBegin, e.Kind)
		dying.before = func(e envelope.LedgerEntry) error {
			seq = e.Seq
			seal(t, minter, withPurpose(record("ada", "l"), "marketing"))
			dying.before = func(e envelope.LedgerEntry) error {
				require.Equal(t, envelope.LedgerForgetMore, e.Kind)
				return errReset
			}
			return nil
		}
		_, err := forgetter.Forget(t.Context(), person("ada"))
		require.Error(t, err)
		return nil
	}
	_, err = closer.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	r, err := closer.Receipt(t.Context(), seq)
	require.NoError(t, err)
	require.EqualValues(t, 2, r.ClosedEpoch)
	marked, err := w.store.DirtyPages(t.Context(), 1)
	require.NoError(t, err)
	require.Empty(t, marked)
}
