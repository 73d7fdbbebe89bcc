package envelope

import (
	"context"
	"crypto/fips140"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/lethe-go/lethe/kms"
)

const (
	schemaVersion = 1
	defaultTree   = TreeID(1)
	refVersion    = 1
	defaultPID    = PID(1) // the purpose ""
)

// Options configure a Keyring. The zero value of each field but Ledger means its default.
type Options struct {
	// Ledger records forgets outside the key store. Required.
	Ledger Ledger
	// MoreKeys may also unwrap the store's root: the key being moved to or away from by RewrapKEK.
	MoreKeys []kms.Key
	// Suite for new keys and cells; SuiteAES256GCM by default.
	Suite Suite
	// CacheTTL is how long a key stays in memory at most, and so how long another
	// process may open a person forgotten elsewhere. 1 s to 24 h; 5 min by default.
	// A KMS key that was revoked stops everything after at most twice as long.
	CacheTTL time.Duration
	// CacheSize bounds the number of (subject, purpose) pairs in memory; 100,000 by default.
	CacheSize int
	// Timeout bounds one exchange with the store or the KMS, retries included; 5 s by default.
	Timeout time.Duration
	// RotateAfter is how long a subject key seals before the next Seal makes a new
	// version; 0 means no limit in time. A key is also replaced long before
	// 2^30 wraps, whatever this says.
	RotateAfter time.Duration
	// Epochs say how often an epoch is closed and how long backups stay usable.
	Epochs EpochOptions
}

func (o *Options) setDefaults() error {
	var errs []error
	if o.Ledger == nil {
		errs = append(errs, errors.New("Options.Ledger is required: fileledger.Create once, then fileledger.Open, with a path outside the key store's backups"))
	}
	if o.Suite == 0 {
		o.Suite = SuiteAES256GCM
	}
	if !o.Suite.valid() {
		errs = append(errs, fmt.Errorf("Options.Suite %d is unknown", o.Suite))
	}
	if o.Suite == SuiteXChaCha && fips140.Enforced() {
		errs = append(errs, errors.New("Options.Suite is SuiteXChaCha, which GODEBUG=fips140=only refuses: use SuiteAES256GCM"))
	}
	if o.CacheTTL == 0 {
		o.CacheTTL = 5 * time.Minute
	}
	if o.CacheTTL < time.Second || o.CacheTTL > 24*time.Hour {
		errs = append(errs, fmt.Errorf("Options.CacheTTL %v is outside 1s to 24h", o.CacheTTL))
	}
	if o.CacheSize == 0 {
		o.CacheSize = 100_000
	}
	if o.CacheSize < 1 {
		errs = append(errs, fmt.Errorf("Options.CacheSize %d is not positive", o.CacheSize))
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Timeout < 0 {
		errs = append(errs, fmt.Errorf("Options.Timeout %v is negative", o.Timeout))
	}
	if o.RotateAfter < 0 || o.RotateAfter > 0 && o.RotateAfter < time.Minute {
		errs = append(errs, fmt.Errorf("Options.RotateAfter %v is under a minute", o.RotateAfter))
	}
	errs = append(errs, o.Epochs.setDefaults())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("envelope: %w", err)
	}
	return nil
}

// Keyring holds people's keys. It is safe for concurrent use; Close it when done.
type Keyring struct {
	store Store
	opts  Options
	id    StoreID
	tree  TreeID
	clock *coarseClock
	cache *keyCache

	indexIDs indexIDs

	keyMu sync.RWMutex
	keys  []kms.Key // the first wraps new roots
	tried []kms.Key // those of keys that RewrapKEK tried to move to, and failed

	roots  singleflight.Group
	rootMu sync.RWMutex
	root   *rootKey
	pages  pageCache

	refKey *macKey
	led    *ledgerState

	purposeMu sync.RWMutex
	purposes  map[string]PID
	names     map[PID]string

	fanOut   int // PageFanOut; tests of deep trees have less
	leaves   leafPool
	flightMu sync.Mutex
	flights  map[flightKey]*flight
	forgetMu sync.Mutex
	residues residues
	lifted   atomic.Uint64 // counts readmissions: what was read as forgotten before one is not remembered
	closed   atomic.Bool

	handles handleKeys
	now     func() time.Time // of the wall clock, which epochs go by
	closeMu sync.Mutex       // one close of an epoch at a time here
	owner   string           // of leases
}

// Format writes "[keyring]", for every verb: its fields hold keys.
func (k *Keyring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[keyring]") }

// Init writes the first rows of an empty key store (its migrations must have
// been applied) and the first entry of an empty ledger. It is the only place
// where a store's own keys are made; call it once, from an operator's hand or
// a first start. A populated store gives ErrStoreExists and is not touched; an
// Init that was interrupted is completed by the next.
func Init(ctx context.Context, store Store, key kms.Key, opts Options) error {
	if err := opts.setDefaults(); err != nil {
		return err
	}
	entries, err := opts.Ledger.Read(ctx, 0)
	if err != nil {
		return ledgerErr(err)
	}
	meta, err := store.Meta(ctx)
	switch {
	case errors.Is(err, ErrStoreEmpty):
		if len(entries) != 0 {
			return fmt.Errorf("%w: the store is empty and the ledger is not: it belongs to store %x; restore that store, or use a new ledger", ErrLedger, entries[0].Store)
		}
		if err := initStore(ctx, store, key, opts); err != nil {
			return err
		}
	case err != nil:
		return storeErr(err)
	case meta.AppliedSeq != 0:
		return ErrStoreExists
	}
	k, err := open(ctx, store, key, opts)
	if err != nil {
		return err
	}
	defer k.Close()
	if k.led.seq == 0 {
		root, err := k.rootKey(ctx, false)
		if err != nil {
			return err
		}
		if err := k.appendLedger(ctx, initEntry(root)); err != nil {
			return err
		}
	}
	return k.catchUp(ctx)
}

// initEntry records the first root. Entries of a key that cannot erase have the
// form they had before there were handles.
func initEntry(root *rootKey) *LedgerEntry {
	e := &LedgerEntry{Kind: LedgerInit, Tree: defaultTree, Epoch: root.epoch, KMSHandle: root.handle, RootCommit: root.commit[:]}
	if root.semantics != "" {
		e.KMSURI, e.Semantics = root.uri, root.semantics
	}
	return e
}

func initStore(ctx context.Context, store Store, key kms.Key, opts Options) error {
	var rows InitRows
	rows.Meta = Meta{Schema: schemaVersion, Incarnation: 1}
	rand.Read(rows.Meta.StoreID[:])
	id := rows.Meta.StoreID
	rows.Tree = TreeRow{Tree: defaultTree, ActiveEpoch: 1, State: 1}
	rows.Purposes = []PurposeRow{{PID: defaultPID, Name: ""}}
	guarded, err := guard(key, opts)
	if err != nil {
		return err
	}
	handle, err := newHandle(ctx, guarded, id, 1, opts)
	if err != nil {
		return err
	}
	rootSecret := newKey()
	defer clear(rootSecret)
	rows.Root, err = wrapRoot(ctx, handle, id, defaultTree, 1, opts, rootSecret)
	if err != nil {
		return err
	}
	rows.Root.State = RootActive
	leafSecret := newKey()
	defer clear(leafSecret)
	leaf := PageRow{Tree: defaultTree, Page: newPageID(), ParentGen: 1, Gen: 1, Suite: opts.Suite, Fill: 2}
	if leaf.Wrapped, err = opts.Suite.wrapKey(rootSecret, leafSecret, leaf.appendAAD(nil, id)); err != nil {
		return err
	}
	rows.Pages = []PageRow{leaf}
	for _, kind := range []KeyKind{KindRef, KindLedger} {
		secret := newKey()
		row := KeyRow{Tree: defaultTree, Page: leaf.Page, PageGen: 1, Kind: kind, Suite: opts.Suite, SRef: systemSRef(kind), PID: defaultPID, Seq: 1, State: 1, Created: time.Now().Unix()}
		rand.Read(row.KID[:])
		row.Wrapped, err = opts.Suite.wrapKey(leafSecret, secret, row.appendAAD(nil, id, ""))
		clear(secret)
		if err != nil {
			return err
		}
		rows.Keys = append(rows.Keys, row)
	}
	if err := store.Init(ctx, rows); err != nil {
		if errors.Is(err, ErrStoreExists) {
			return err
		}
		return storeErr(err)
	}
	return nil
}

// NewKeyring opens a store that Init has filled. It makes one KMS call and
// reads the whole ledger; entries the store has not applied (a process died in
// the middle of a forget) are applied before it returns.
//
// It returns ErrStoreEmpty before Init, ErrWrongKey if key cannot unwrap the
// store's root, ErrLedger if the ledger does not fit, ErrUnavailable if the
// KMS or the store is away.
func NewKeyring(ctx context.Context, store Store, key kms.Key, opts Options) (*Keyring, error) {
	k, err := open(ctx, store, key, opts)
	if err != nil {
		return nil, err
	}
	meta, err := store.Meta(ctx)
	if err == nil && meta.AppliedSeq == 0 {
		err = fmt.Errorf("%w: Init did not complete: call it again", ErrStoreEmpty)
	}
	if err == nil {
		err = k.completeSwitch(ctx)
	}
	if err == nil {
		err = k.catchUp(ctx)
	}
	if err == nil {
		err = k.led.checkRoot(k.root) // it was loaded before the ledger could be read
	}
	if err == nil {
		err = k.checkPromise()
	}
	if err != nil {
		k.Close()
		return nil, storeErr(err)
	}
	return k, nil
}

// open loads the root, the system keys and the ledger.
func open(ctx context.Context, store Store, key kms.Key, opts Options) (*Keyring, error) {
	if store == nil || key == nil {
		return nil, errors.New("envelope: NewKeyring needs a store and a KMS key")
	}
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	k := &Keyring{store: store, opts: opts, tree: defaultTree, fanOut: PageFanOut, now: time.Now, owner: rand.Text(), flights: map[flightKey]*flight{}, purposes: map[string]PID{}, names: map[PID]string{}}
	for _, raw := range append([]kms.Key{key}, opts.MoreKeys...) {
		g, err := guard(raw, opts)
		if err != nil {
			return nil, err
		}
		k.keys = append(k.keys, g)
	}
	meta, err := store.Meta(ctx)
	if err != nil {
		return nil, storeErr(err)
	}
	if meta.Schema != schemaVersion {
		return nil, fmt.Errorf("envelope: the key store has schema %d, this version reads %d: update Lethe or apply the migrations", meta.Schema, schemaVersion)
	}
	k.id = meta.StoreID
	k.clock = newCoarseClock()
	k.cache = newKeyCache(opts.CacheSize)
	k.led = newLedgerState()
	if err := k.openSystem(ctx, meta); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

func (k *Keyring) openSystem(ctx context.Context, meta Meta) error {
	purposes, err := k.store.Purposes(ctx)
	if err != nil {
		return storeErr(err)
	}
	for _, p := range purposes {
		if err := k.takePurpose(p); err != nil {
			return err
		}
	}
	if _, err := k.rootKey(ctx, false); err != nil {
		return err
	}
	ref, err := k.systemKey(ctx, KindRef)
	if err != nil {
		return err
	}
	k.refKey = newMACKey(ref)
	clear(ref)
	mac, err := k.systemKey(ctx, KindLedger)
	if err != nil {
		return err
	}
	k.led.key = newMACKey(mac)
	clear(mac)
	return k.openLedger(ctx, meta)
}

// systemKey returns the store's one key of a kind, again while a rewrap of the
// root is under way.
func (k *Keyring) systemKey(ctx context.Context, kind KeyKind) ([]byte, error) {
	var watch staleWatch
	for attempt := 0; ; attempt++ {
		key, err := k.systemKeyOnce(ctx, kind)
		if !errors.Is(err, errStalePage) {
			return key, err
		}
		watch.see(err)
		if attempt == loadAttempts {
			return nil, watch.explain(err, false)
		}
		if _, err := k.rootKey(ctx, true); err != nil {
			return nil, err
		}
	}
}

func (k *Keyring) systemKeyOnce(ctx context.Context, kind KeyKind) ([]byte, error) {
	rows, pages, err := k.store.SystemKeys(ctx, k.tree, kind)
	if err != nil {
		return nil, storeErr(err)
	}
	if len(rows) != 1 || rows[0].SRef != systemSRef(kind) || rows[0].Kind != kind {
		return nil, fmt.Errorf("%w: %d system keys of kind %d in the store, 1 expected", ErrKeyMissing, len(rows), kind)
	}
	resolved, err := k.resolvePages(ctx, pages)
	if err != nil {
		return nil, err
	}
	return k.unwrapRow(&rows[0], resolved)
}

// Close forgets the keys in memory. Calls in flight may still finish.
func (k *Keyring) Close() {
	if k.closed.Swap(true) {
		return
	}
	k.clock.stop()
	k.cache.purge()
	k.pages.purge()
	k.rootMu.Lock()
	k.root = nil
	k.rootMu.Unlock()
}

// StoreID identifies the key store this keyring works on.
func (k *Keyring) StoreID() StoreID { return k.id }

// storeErr reports what a Store returned: its own sentinels, ours and the
// caller's cancellation as they are, everything else as an outage.
func storeErr(err error) error {
	for _, known := range []error{ErrStoreEmpty, ErrStoreExists, ErrUnavailable, ErrWrongKey, ErrLedger, ErrKeyMissing, ErrDecrypt, ErrForgotten, ErrClosed, ErrLeased, context.Canceled} {
		if errors.Is(err, known) {
			return err
		}
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("lethe: key store %w: %w", ErrUnavailable, err)
}

var errTooLate = fmt.Errorf("lethe: key store %w: it did not answer in time", ErrUnavailable)

// bound gives a call with the store or the KMS a deadline, n times Options.Timeout.
func (k *Keyring) bound(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, time.Duration(n)*k.opts.Timeout, errTooLate)
}

// ended says why ctx is over: an outage if the deadline was ours, the caller's error otherwise.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, errTooLate) {
		return cause
	}
	return ctx.Err()
}

func newKey() []byte {
	b := make([]byte, keySize)
	rand.Read(b)
	return b
}

// guard gives a key time-outs, retries and a circuit breaker, once.
func guard(key kms.Key, opts Options) (kms.Key, error) {
	if r, ok := key.(*kms.Resilient); ok {
		return r, nil
	}
	return kms.NewResilient(key, kms.ResilientOptions{TotalTimeout: opts.Timeout})
}
