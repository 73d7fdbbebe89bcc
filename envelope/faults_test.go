package envelope_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
)

// hookedStore calls a hook around a method, once each time it is set.
type hookedStore struct {
	envelope.Store
	keys, evidence, tree, beforeForget, insert, rekey func(ctx context.Context) error
	rows                                              func(rows []envelope.KeyRow) // changes what Keys returns, always
}

func fire(ctx context.Context, hook *func(context.Context) error) error {
	if f := *hook; f != nil {
		*hook = nil
		return f(ctx)
	}
	return nil
}

func (h *hookedStore) Keys(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef) ([]envelope.KeyRow, []envelope.PageRow, error) {
	if err := fire(ctx, &h.keys); err != nil {
		return nil, nil, err
	}
	rows, pages, err := h.Store.Keys(ctx, tree, refVer, srefs)
	if h.rows != nil {
		h.rows(rows)
	}
	return rows, pages, err
}

func (h *hookedStore) Evidence(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef, kids []envelope.KeyID) ([]envelope.Tomb, []envelope.KeyID, error) {
	tombs, dead, err := h.Store.Evidence(ctx, tree, refVer, srefs, kids)
	return tombs, dead, errors.Join(err, fire(ctx, &h.evidence))
}

func (h *hookedStore) Tree(ctx context.Context, tree envelope.TreeID) (envelope.TreeRow, []envelope.RootRow, error) {
	row, roots, err := h.Store.Tree(ctx, tree)
	return row, roots, errors.Join(err, fire(ctx, &h.tree))
}

func (h *hookedStore) Forget(ctx context.Context, f envelope.Forgetting) ([]envelope.KeyRow, error) {
	if err := fire(ctx, &h.beforeForget); err != nil {
		return nil, err
	}
	return h.Store.Forget(ctx, f)
}

func (h *hookedStore) Insert(ctx context.Context, in envelope.Insert) (envelope.Inserted, error) {
	if err := fire(ctx, &h.insert); err != nil {
		return envelope.Inserted{}, err
	}
	return h.Store.Insert(ctx, in)
}

func (h *hookedStore) Rekey(ctx context.Context, r envelope.Rekey) error {
	err := h.Store.Rekey(ctx, r)
	return errors.Join(err, fire(ctx, &h.rekey))
}

// hooked makes w's store a hooked one for the keyrings opened from here on.
func (w *world) hooked() *hookedStore {
	h := &hookedStore{Store: w.store}
	w.store = h
	return h
}

// hookedLedger calls hooks around Append, once each.
type hookedLedger struct {
	envelope.Ledger
	before, after func(e envelope.LedgerEntry) error
}

func (h *hookedLedger) Append(ctx context.Context, e envelope.LedgerEntry) error {
	if f := h.before; f != nil {
		h.before = nil
		if err := f(e); err != nil {
			return err
		}
	}
	if err := h.Ledger.Append(ctx, e); err != nil {
		return err
	}
	if f := h.after; f != nil {
		h.after = nil
		return f(e)
	}
	return nil
}

var errReset = errors.New("connection reset")

func failOnce(context.Context) error { return errReset }

// A forget that is in the ledger and not yet in the store forbids new keys too.
func TestNoKeyIsMintedAfterAForgetTheStoreMissed(t *testing.T) {
	for _, known := range []bool{true, false} {
		w := newWorld(t)
		h := w.hooked()
		k := w.ring(t)
		if known {
			seal(t, k, record("ada", "a"))
		}
		h.beforeForget = failOnce
		_, err := k.Forget(t.Context(), person("ada"))
		require.ErrorIs(t, err, envelope.ErrUnavailable)
		r := record("ada", "v")
		r.Scopes[0].Purpose = "marketing" // has no key that could be dead
		require.ErrorIs(t, k.SealRecords(t.Context(), []envelope.Record{r}), envelope.ErrForgotten, "known %v", known)
	}
}

// An append whose answer is lost is looked up in the ledger.
func TestLedgerAppendOfUnknownOutcome(t *testing.T) {
	w := newWorld(t)
	led := &hookedLedger{Ledger: w.ledger}
	w.ledger = led
	k := w.ring(t)
	ada, bob := seal(t, k, record("ada", "a")), seal(t, k, record("bob", "b"))
	led.after = func(envelope.LedgerEntry) error { return errReset }
	receipt, err := k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	require.Len(t, receipt.KeyIDs, 1)
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrForgotten)

	led.before = func(envelope.LedgerEntry) error { return errReset }
	_, err = k.Forget(t.Context(), person("bob"))
	require.ErrorIs(t, err, envelope.ErrLedger)
	require.NoError(t, openErr(t, k, bob), "nothing was changed")
	_, err = k.Forget(t.Context(), person("bob"))
	require.NoError(t, err)
	require.ErrorIs(t, openErr(t, w.ring(t), bob), envelope.ErrForgotten)
}

// A ledger that another process keeps locked is an outage, not a ledger that does not fit.
func TestLedgerThatTakesTooLong(t *testing.T) {
	w := newWorld(t)
	led := &hookedLedger{Ledger: w.ledger}
	w.ledger = led
	k := w.ring(t)
	led.before = func(envelope.LedgerEntry) error { return context.DeadlineExceeded }
	_, err := k.Forget(t.Context(), person("ada"))
	require.ErrorIs(t, err, envelope.ErrUnavailable)
	require.NotErrorIs(t, err, envelope.ErrLedger)
}

// A key minted between the ledger entry of a forget and its deletion leaves its
// page for the next root to re-key, though the process died before it could say
// so in the ledger.
func TestPageOfALateKeyIsRekeyedAfterACrash(t *testing.T) {
	w := newWorld(t)
	h := w.hooked()
	led := &hookedLedger{Ledger: w.ledger}
	w.ledger = led
	k, other := w.ring(t), w.ring(t)
	seal(t, k, record("ada", "a"))
	for i := range 100 { // other goes on with another leaf
		seal(t, other, record(fmt.Sprint("c", i), "v"))
	}
	var late envelope.KeyRow
	h.beforeForget = func(ctx context.Context) error {
		r := record("ada", "v")
		r.Scopes[0].Purpose = "late"
		if err := other.SealRecords(ctx, []envelope.Record{r}); err != nil {
			return err
		}
		led.before = func(e envelope.LedgerEntry) error {
			if e.Kind != envelope.LedgerForgetMore {
				return fmt.Errorf("unexpected %s", e.Kind)
			}
			return errors.New("killed here")
		}
		pages, err := w.store.ChildPages(ctx, 1, 0)
		if err != nil {
			return err
		}
		for _, p := range pages {
			rows, err := w.store.KeysOfPage(ctx, 1, p.Page)
			if err != nil {
				return err
			}
			for _, row := range rows {
				if row.PID > 1 {
					late = row
				}
			}
		}
		return nil
	}
	_, err := k.Forget(t.Context(), person("ada"))
	require.Error(t, err)
	require.NotZero(t, late.Page)
	// What the ledger lists is re-keyed anyway: ada's listed key must hang elsewhere.
	entries, err := w.ledger.Read(t.Context(), 0)
	require.NoError(t, err)
	require.NotContains(t, entries[len(entries)-1].Pages, late.Page)
	after := w.ring(t)
	require.NoError(t, after.RewrapKEK(t.Context(), w.key))
	pages, err := w.store.Pages(t.Context(), 1, []envelope.PageID{late.Page})
	require.NoError(t, err)
	require.Greater(t, pages[0].Gen, late.PageGen)
	require.Zero(t, pages[0].DirtyEpoch)
}

// A root switched to by a call whose answer was lost is in use, not unknown.
func TestRekeyOfUnknownOutcome(t *testing.T) {
	w := newWorld(t)
	h := w.hooked()
	k := w.ring(t, func(o *envelope.Options) { o.CacheTTL = time.Second })
	ada := seal(t, k, record("ada", "a"))
	h.rekey = failOnce
	require.NoError(t, k.RewrapKEK(t.Context(), envelopetest.NewKey(t)), "it can be seen to have happened")
	require.NoError(t, openErr(t, k, ada))

	h.rekey = func(context.Context) error {
		h.tree = failOnce // nor can it be seen now
		return errReset
	}
	last := envelopetest.NewKey(t)
	require.ErrorIs(t, k.RewrapKEK(t.Context(), last), envelope.ErrUnavailable)
	time.Sleep(1200 * time.Millisecond)
	require.NoError(t, openErr(t, k, ada), "the process knows the new key")
	fresh, err := envelope.NewKeyring(t.Context(), w.store, last, w.opts())
	require.NoError(t, err)
	defer fresh.Close()
	require.NoError(t, openErr(t, fresh, ada))
	require.NoError(t, k.RewrapKEK(t.Context(), last))
	require.NoError(t, openErr(t, fresh, ada))
}

// A tree read just before its root was switched is read again, not taken for an old backup.
func TestRootSwitchedBetweenTwoReads(t *testing.T) {
	w := newWorld(t)
	other := w.ring(t)
	h := w.hooked()
	k := w.ring(t, func(o *envelope.Options) { o.CacheTTL = time.Second })
	ada := seal(t, k, record("ada", "a"))
	time.Sleep(1200 * time.Millisecond)
	h.tree = func(ctx context.Context) error {
		if err := other.RewrapKEK(ctx, w.key); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		_ = k.Readmit(ctx, person("nobody")) // reads the ledger, and waits for the root
		return nil
	}
	require.NoError(t, openErr(t, k, ada))
}

// Two processes that complete one Init at once write one first entry.
func TestInitAtOnceWritesOneEntry(t *testing.T) {
	led := &hookedLedger{Ledger: &memledger.Ledger{}}
	store, key := memstore.New(), envelopetest.NewKey(t)
	opts := envelope.Options{Ledger: led}
	led.before = func(envelope.LedgerEntry) error { return envelope.Init(t.Context(), store, key, opts) }
	require.NoError(t, envelope.Init(t.Context(), store, key, opts))
	entries, err := led.Read(t.Context(), 0)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

// Leaves that were in use when a mint failed are filled by the next.
func TestFailedMintsWasteNoLeaves(t *testing.T) {
	w := newWorld(t)
	h := w.hooked()
	k := w.ring(t)
	for i := range 20 {
		h.insert = failOnce
		require.ErrorIs(t, k.SealRecords(t.Context(), []envelope.Record{record("ada", "a")}), envelope.ErrUnavailable)
		seal(t, k, record(fmt.Sprint("c", i), "v"))
	}
	n, err := w.store.CountRootPages(t.Context(), 1, 0)
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

// A store that panics under a server that recovers leaves nobody waiting.
func TestPanickingStore(t *testing.T) {
	w := newWorld(t)
	h := w.hooked()
	k := w.ring(t)
	h.keys = func(context.Context) error { panic("driver") }
	require.Panics(t, func() { _ = k.SealRecords(t.Context(), []envelope.Record{record("ada", "a")}) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	require.NoError(t, k.SealRecords(ctx, []envelope.Record{record("ada", "a")}))
}

// What was read before a Readmit is not remembered after it.
func TestReadmitAgainstOpen(t *testing.T) {
	w := newWorld(t)
	h := w.hooked()
	k, other := w.ring(t), w.ring(t)
	ada := seal(t, other, record("ada", "a"))
	_, err := other.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	h.evidence = func(ctx context.Context) error { return k.Readmit(ctx, person("ada")) }
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrForgotten)
	require.NoError(t, k.SealRecords(t.Context(), []envelope.Record{record("ada", "again")}))
}

// States that later versions may write are refused, not ignored.
func TestUnknownStatesAreRefused(t *testing.T) {
	w := newWorld(t)
	ada := seal(t, w.ring(t), record("ada", "a"))
	h := w.hooked()
	k := w.ring(t)
	h.rows = func(rows []envelope.KeyRow) { rows[0].State = 2 }
	require.ErrorIs(t, openErr(t, k, ada), envelope.ErrDecrypt)
}

// A key row that was changed fails the records of its subject, not those beside them.
func TestADamagedKeyRowFailsItsOwnRecords(t *testing.T) {
	w := newWorld(t)
	other := w.ring(t)
	recs := []envelope.Record{seal(t, other, record("ada", "a")), seal(t, other, record("bob", "b")), seal(t, other, record("cyd", "c"))}
	h := w.hooked()
	k := w.ring(t)
	var damaged envelope.KeyID
	h.rows = func(rows []envelope.KeyRow) {
		for i := range rows {
			if damaged == (envelope.KeyID{}) || rows[i].KID == damaged {
				damaged = rows[i].KID
				rows[i].Wrapped = bytes.Clone(rows[i].Wrapped)
				rows[i].Wrapped[20] ^= 1
			}
		}
	}
	require.NoError(t, k.OpenRecords(t.Context(), recs))
	failed := 0
	for _, r := range recs {
		if err := r.Cells[0].Err; err != nil {
			require.ErrorIs(t, err, envelope.ErrDecrypt)
			require.ErrorContains(t, err, "of the key store was changed")
			failed++
		}
	}
	require.Equal(t, 1, failed)
	subjects := []string{"ada", "bob", "cyd"}
	refused := 0
	for _, id := range subjects { // and nothing is sealed under another key in its stead
		if err := k.SealRecords(t.Context(), []envelope.Record{record(id, "new")}); err != nil {
			require.ErrorIs(t, err, envelope.ErrDecrypt)
			refused++
		}
	}
	require.Equal(t, 1, refused)
	h.rows = nil // put back
	for i, r := range recs {
		require.NoError(t, openErr(t, k, sealedOnly(r)), subjects[i])
	}
}

// A row wrapped under a generation its page never had, as after half a restore,
// fails without asking the KMS for the root again and again.
func TestStaleRowAsksTheKMSNothing(t *testing.T) {
	w := newWorld(t)
	ada := seal(t, w.ring(t), record("ada", "a"))
	h := w.hooked()
	k := w.ring(t)
	h.rows = func(rows []envelope.KeyRow) { rows[0].PageGen = 7 }
	w.key.decrypts.Store(0)
	require.ErrorIs(t, k.OpenRecords(t.Context(), []envelope.Record{sealedOnly(ada)}), envelope.ErrUnavailable)
	require.Zero(t, w.key.decrypts.Load())
	h.rows = nil
	require.NoError(t, openErr(t, k, ada))
}

// The keys of a thousand people cost one read, and their first seal one write.
func TestOneQueryForManySubjects(t *testing.T) {
	w := newWorld(t)
	c := &countingStore{Store: w.store}
	w.store = c
	recs := make([]envelope.Record, 1000)
	for i := range recs {
		recs[i] = record(fmt.Sprint("c", i), "v")
	}
	k := w.ring(t)
	c.reads, c.writes = 0, 0
	require.NoError(t, k.SealRecords(t.Context(), recs))
	require.Equal(t, []int{1, 1}, []int{c.reads, c.writes})
	for i := range recs {
		recs[i] = sealedOnly(recs[i])
	}
	cold := w.ring(t)
	c.reads, c.writes = 0, 0
	require.NoError(t, cold.OpenRecords(t.Context(), recs))
	require.Equal(t, []int{1, 0}, []int{c.reads, c.writes})
	require.NoError(t, cold.OpenRecords(t.Context(), recs))
	require.Equal(t, []int{1, 0}, []int{c.reads, c.writes}, "warm")
}

// countingStore counts the reads and writes of keys.
type countingStore struct {
	envelope.Store
	reads, writes int
}

func (c *countingStore) Keys(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef) ([]envelope.KeyRow, []envelope.PageRow, error) {
	c.reads++
	return c.Store.Keys(ctx, tree, refVer, srefs)
}

func (c *countingStore) Insert(ctx context.Context, in envelope.Insert) (envelope.Inserted, error) {
	c.writes++
	return c.Store.Insert(ctx, in)
}

// A store that hangs does not hang the calls that bring no deadline.
func TestHangingStore(t *testing.T) {
	w := newWorld(t)
	seal(t, w.ring(t), record("ada", "a"))
	h := w.hooked()
	k := w.ring(t, func(o *envelope.Options) { o.Timeout = 50 * time.Millisecond })
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, call := range map[string]func(ctx context.Context) error{
		"open":    func(ctx context.Context) error { return k.OpenRecords(ctx, []envelope.Record{record("ada", "a")}) },
		"forget":  func(ctx context.Context) error { _, err := k.Forget(ctx, person("ada")); return err },
		"rotate":  func(ctx context.Context) error { _, err := k.Rotate(ctx, person("ada")); return err },
		"readmit": func(ctx context.Context) error { h.evidence = hang; return k.Readmit(ctx, person("ada")) },
	} {
		h.keys, h.evidence = hang, nil
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		start := time.Now()
		require.ErrorIs(t, call(ctx), envelope.ErrUnavailable, name)
		require.Less(t, time.Since(start), 3*time.Second, name)
		cancel()
	}
}

// What another process forgot is forgotten here, though this one knows neither
// the purpose nor the ledger entry.
func TestForgottenElsewhere(t *testing.T) {
	w := newWorld(t)
	here, there := w.ring(t), w.ring(t)
	r := record("ada", "likes")
	r.Scopes[0].Purpose = "marketing"
	likes := seal(t, there, r)
	_, err := there.ForgetPurpose(t.Context(), person("ada"), "marketing")
	require.NoError(t, err)
	require.ErrorIs(t, openErr(t, here, likes), envelope.ErrForgotten)
	require.NoError(t, w.ring(t).ReadmitPurpose(t.Context(), person("ada"), "marketing"))

	bob := seal(t, there, record("bob", "b"))
	_, err = there.Forget(t.Context(), person("bob"))
	require.NoError(t, err)
	require.NoError(t, there.Readmit(t.Context(), person("bob")))
	require.ErrorIs(t, openErr(t, here, bob), envelope.ErrForgotten, "readmitted, without a key")
}

func TestReadmitAPurposeMadeElsewhere(t *testing.T) {
	w := newWorld(t)
	here, there := w.ring(t), w.ring(t)
	_, err := there.ForgetPurpose(t.Context(), person("ada"), "marketing")
	require.NoError(t, err)
	require.NoError(t, here.ReadmitPurpose(t.Context(), person("ada"), "marketing"))
	require.ErrorIs(t, here.ReadmitPurpose(t.Context(), person("ada"), "no such purpose"), envelope.ErrNotForgotten)
}

// A key made by another process while a load of the same person was under way is
// found, whatever that load read.
func TestKeyMadeWhileALoadIsUnderWay(t *testing.T) {
	w := newWorld(t)
	there := w.ring(t)
	h := w.hooked()
	here := w.ring(t)
	old := seal(t, there, record("ada", "a"))
	read, release := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	h.rows = func([]envelope.KeyRow) {
		if calls.Add(1) == 1 {
			close(read)
			<-release
		}
	}
	slow := make(chan error)
	go func() {
		recs := []envelope.Record{sealedOnly(old)}
		slow <- errors.Join(here.OpenRecords(t.Context(), recs), recs[0].Scopes[0].Err)
	}()
	<-read
	seal(t, here, record("ada", "b")) // caches what the store has by now
	_, err := there.Rotate(t.Context(), person("ada"))
	require.NoError(t, err)
	recs := []envelope.Record{old}
	_, err = there.RewrapRecords(t.Context(), recs)
	require.NoError(t, err)
	time.AfterFunc(100*time.Millisecond, func() { close(release) })
	require.NoError(t, openErr(t, here, recs[0]))
	require.NoError(t, <-slow)
}

// Callers who share a load get its keys, also if it took longer than they may be cached.
func TestLoadSlowerThanTheTTL(t *testing.T) {
	w := newWorld(t)
	ada := seal(t, w.ring(t), record("ada", "a"))
	h := w.hooked()
	k := w.ring(t, func(o *envelope.Options) { o.CacheTTL = time.Second })
	h.rows = func([]envelope.KeyRow) { time.Sleep(1200 * time.Millisecond) }
	var all errgroup.Group
	for range 4 {
		all.Go(func() error {
			recs := []envelope.Record{sealedOnly(ada)}
			return errors.Join(k.OpenRecords(t.Context(), recs), recs[0].Scopes[0].Err)
		})
	}
	require.NoError(t, all.Wait())
}

// What was sealed after a readmission elsewhere opens at once.
func TestReadmittedElsewhere(t *testing.T) {
	w := newWorld(t)
	here, there := w.ring(t), w.ring(t)
	old := seal(t, there, record("ada", "a"))
	_, err := there.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	require.ErrorIs(t, openErr(t, here, old), envelope.ErrForgotten)
	require.NoError(t, there.Readmit(t.Context(), person("ada")))
	again := seal(t, there, record("ada", "b"))
	require.NoError(t, openErr(t, here, again))
	require.ErrorIs(t, openErr(t, here, old), envelope.ErrForgotten)
}

// The KMS key that wrapped the root says why it cannot be opened, not the others.
func TestTheNamedKeyIsHeardFirst(t *testing.T) {
	key, other := kmstest.NewFake(), kmstest.NewFake()
	store, opts := memstore.New(), envelope.Options{Ledger: &memledger.Ledger{}}
	require.NoError(t, envelope.Init(t.Context(), store, key, opts))
	opts.MoreKeys = []kms.Key{other}
	key.SetLying(true)
	_, err := envelope.NewKeyring(t.Context(), store, key, opts)
	require.ErrorIs(t, err, envelope.ErrWrongKey)
	require.ErrorContains(t, err, "another root than was wrapped")
}

// A KMS that hangs is an outage for those who brought no deadline, in every call.
func TestHangingKMS(t *testing.T) {
	key := kmstest.NewFake()
	store, opts := memstore.New(), envelope.Options{Ledger: &memledger.Ledger{}, CacheTTL: time.Second, Timeout: 50 * time.Millisecond}
	require.NoError(t, envelope.Init(t.Context(), store, key, opts))
	slow, err := kms.NewResilient(key, kms.ResilientOptions{TotalTimeout: time.Minute, AttemptTimeout: time.Minute})
	require.NoError(t, err)
	k, err := envelope.NewKeyring(t.Context(), store, slow, opts)
	require.NoError(t, err)
	defer k.Close()
	key.Hang(false)
	defer key.Release()
	time.Sleep(1100 * time.Millisecond) // the root expires
	for name, call := range map[string]func(ctx context.Context) error{
		"seal":    func(ctx context.Context) error { return k.SealRecords(ctx, []envelope.Record{record("ada", "a")}) },
		"forget":  func(ctx context.Context) error { _, err := k.Forget(ctx, person("ada")); return err },
		"readmit": func(ctx context.Context) error { return k.Readmit(ctx, person("ada")) },
		"rewrap":  func(ctx context.Context) error { return k.RewrapKEK(ctx, kmstest.NewFake()) },
	} {
		begun := time.Now()
		var others sync.WaitGroup
		for range 3 { // forgets and readmissions wait for each other, and then for the root
			others.Go(func() { _ = k.Readmit(context.WithoutCancel(t.Context()), person("bob")) })
		}
		time.Sleep(10 * time.Millisecond)
		require.ErrorIs(t, call(t.Context()), envelope.ErrUnavailable, name)
		require.Less(t, time.Since(begun), 5*time.Second, name)
		others.Wait()
	}
}
