package envelope

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// ledgerState is what this process knows from the ledger: the verified head,
// the forgotten kids, and which pages lost a key in which epoch. In memory it is about
// 100 bytes for each key that was ever forgotten, since whoever writes the store can put
// its row back, and 40 for each page that lost one since the oldest epoch whose handle
// may still unwrap: never more than the store has pages, also where no handle can be
// destroyed.
type ledgerState struct {
	key *macKey

	appendMu sync.Mutex // one append or sync at a time

	mu          sync.RWMutex
	ready       bool
	seq         uint64
	head        [32]byte
	time        int64  // of the last entry
	done        uint64 // the last entry known to be applied to the store
	epoch       uint64 // the last root the ledger saw switched to
	begun       uint64 // the highest epoch it allocated
	root        []byte // commitment of that last root
	incarnation uint64 // of the last restore; 0: none
	restoring   bool   // a store that is behind is worked on, and not served
	dead        map[KeyID]struct{}
	dirty       dirtyPages
	epochs      map[uint64]*epochState
	inner       uint64 // the last switched epoch that re-keyed all inner pages
	// forgot and lifted are the last forget, until it is lifted, and the last
	// readmission of a whole subject, by entry.
	forgot, lifted map[forgotten]uint64
	restraints     map[party]*restraint
	residues       map[party]map[PID]uint64 // forgets whose Residues have not all run, by entry
	moved          map[moving]struct{}

	seen, tried atomic.Int64 // by Keyring.clock: when the ledger was last read, and last could not be
}

func newLedgerState() *ledgerState {
	return &ledgerState{dead: map[KeyID]struct{}{}, dirty: dirtyPages{}, epochs: map[uint64]*epochState{}, forgot: map[forgotten]uint64{}, lifted: map[forgotten]uint64{}, residues: map[party]map[PID]uint64{}}
}

func (l *ledgerState) opened() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.ready
}

// settled reports whether the store has applied every entry known here.
func (l *ledgerState) settled() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.done >= l.seq
}

// forgotten names a forget: of a whole subject (pid 0) or of one purpose.
type forgotten struct {
	refVer uint32
	sref   SRef
	pid    PID
}

// forbids reports whether a forget that was not lifted covers the purpose. The key
// store's tombs say the same, but whoever writes the store can take them away.
func (l *ledgerState) forbids(sref SRef, pid PID) bool {
	all := forgotten{refVersion, sref, 0}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if _, ok := l.forgot[all]; ok {
		return true
	}
	seq, ok := l.forgot[forgotten{refVersion, sref, pid}]
	return ok && seq > l.lifted[all]
}

func (l *ledgerState) isDead(kid KeyID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	_, dead := l.dead[kid]
	return dead
}

func (l *ledgerState) anyDead(set *keySet) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if _, dead := l.dead[set.newest.kid]; dead {
		return true
	}
	if set.more == nil {
		return false
	}
	for i := range set.more.older {
		if _, dead := l.dead[set.more.older[i].kid]; dead {
			return true
		}
	}
	return false
}

func (l *ledgerState) addDead(kids []KeyID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, kid := range kids {
		l.dead[kid] = struct{}{}
	}
}

// checkEpoch refuses a store whose root is older than the ledger's, and one
// whose root the ledger never allocated.
func (l *ledgerState) checkEpoch(epoch uint64) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case !l.ready || l.seq == 0 || epoch < l.epoch && l.restoring:
		return nil
	case epoch < l.epoch:
		return fmt.Errorf("%w: the store's root is of epoch %d and the ledger's of %d: the store was put back from an old backup and must not be served as it is: call Restore", ErrLedger, epoch, l.epoch)
	case epoch > max(l.epoch, l.begun):
		return fmt.Errorf("%w: the store's root is of epoch %d, which the ledger never allocated: this is not the store's ledger, or it lost entries", ErrLedger, epoch)
	}
	return nil
}

// activeTree reads the tree and judges its epoch by the ledger. It reads again
// where the ledger may have moved on since the first time.
func (k *Keyring) activeTree(ctx context.Context) (tree TreeRow, roots []RootRow, err error) {
	for range 2 {
		if tree, roots, err = k.store.Tree(ctx, k.tree); err != nil {
			return tree, nil, storeErr(err)
		}
		if err = k.checkEpoch(ctx, tree.ActiveEpoch); err == nil {
			break
		}
	}
	if err == nil && tree.State > 1 {
		err = fmt.Errorf("envelope: the key tree is in state %d, which this version does not know: update Lethe", tree.State)
	}
	return tree, roots, err
}

// checkEpoch judges the epoch the store is in, with the ledger's newest entries
// in hand if the ones known do not explain it.
func (k *Keyring) checkEpoch(ctx context.Context, epoch uint64) error {
	err := k.led.checkEpoch(epoch)
	if err == nil {
		return nil
	}
	if err := k.syncLedger(ctx); err != nil {
		return err
	}
	return k.led.checkEpoch(epoch)
}

// checkRoot compares the commitment the ledger recorded with the root in use.
func (l *ledgerState) checkRoot(r *rootKey) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.ready && l.seq > 0 && r.epoch == l.epoch && !bytes.Equal(l.root, r.commit[:]) {
		return fmt.Errorf("%w: the store's root is not the one the ledger recorded", ErrLedger)
	}
	return nil
}

func (e *LedgerEntry) appendCanonical(b []byte) []byte {
	b = appendLP(b, "lethe/1/ledger")
	b = binary.BigEndian.AppendUint64(b, e.Seq)
	b = appendLP(b, e.Prev)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time))
	b = append(b, e.Store[:]...)
	b = appendLP(b, string(e.Kind))
	b = binary.BigEndian.AppendUint32(b, uint32(e.Tree))
	b = binary.BigEndian.AppendUint64(b, e.Epoch)
	b = binary.BigEndian.AppendUint32(b, e.RefVer)
	b = append(b, e.SRef[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(e.PID))
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.KIDs)))
	for _, kid := range e.KIDs {
		b = append(b, kid[:]...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Pages)))
	for _, p := range e.Pages {
		b = binary.BigEndian.AppendUint64(b, uint64(p))
	}
	b = appendLP(b, e.KMSHandle)
	b = appendLP(b, e.RootCommit)
	if e.KMSURI == "" && e.Semantics == "" && e.Window == 0 && e.Until == 0 && e.Incarnation == 0 && e.To == (SRef{}) && e.Scope == "" {
		return b // what was written before there was more
	}
	b = appendLP(b, "lethe/1/ledger-more")
	b = appendLP(b, e.KMSURI)
	b = appendLP(b, e.Semantics)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Window))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Until))
	b = binary.BigEndian.AppendUint64(b, e.Incarnation)
	b = append(b, e.To[:]...)
	return appendLP(b, e.Scope)
}

func (e *LedgerEntry) hash() [32]byte {
	return sha256.Sum256(append(e.appendCanonical(nil), e.MAC...))
}

// take verifies the next entry and learns from it. l.mu is held.
func (l *ledgerState) take(e *LedgerEntry, id StoreID) error {
	mac := l.key.sum(e.appendCanonical)
	switch {
	case e.Store != id:
		return fmt.Errorf("%w: entry %d belongs to store %x, this is %x", ErrLedger, e.Seq, e.Store, id)
	case !hmac.Equal(mac[:], e.MAC):
		return fmt.Errorf("%w: entry %d was changed", ErrLedger, e.Seq)
	case e.Seq != l.seq+1 || !bytes.Equal(e.Prev, l.head[:]):
		return fmt.Errorf("%w: entry %d does not follow entry %d: entries are missing or the ledger was forked", ErrLedger, e.Seq, l.seq)
	}
	return l.learn(e)
}

// learn is take for an entry that is known to be genuine and the next. l.mu is held.
func (l *ledgerState) learn(e *LedgerEntry) error {
	l.seq, l.head, l.time = e.Seq, e.hash(), e.Time
	switch e.Kind {
	case LedgerInit, LedgerRootSwitch:
		if e.Epoch >= l.epoch { // a process that was slow to complete a switch is late
			l.switched(e)
		}
	case LedgerRootBegin:
		l.begun = max(l.begun, e.Epoch)
		l.epochs[e.Epoch] = newEpochState(e)
	case LedgerErase, LedgerErased:
		if s := l.epochs[e.Epoch]; s != nil {
			s.erasing(e)
			l.prune()
		}
	case LedgerRestore:
		l.incarnation = max(l.incarnation, e.Incarnation)
	case LedgerForget, LedgerForgetMore, LedgerRetire:
		if e.Kind == LedgerForget {
			l.forgot[forgotten{e.RefVer, e.SRef, e.PID}] = e.Seq
			l.owesResidue(e)
			l.carriedOut(e)
		}
		for _, kid := range e.KIDs {
			l.dead[kid] = struct{}{}
		}
		for _, p := range e.Pages {
			// From where a close has begun, its epoch counts: it may have re-keyed the
			// page already, with the key that dies now among its children.
			l.dirty[p] = max(l.dirty[p], e.Epoch, l.begun)
		}
	case LedgerReadmit:
		if e.PID == 0 {
			l.lifted[forgotten{e.RefVer, e.SRef, 0}] = e.Seq
		}
		delete(l.forgot, forgotten{e.RefVer, e.SRef, e.PID})
		l.residueDone(e)
	case LedgerResidueDone:
		l.residueDone(e)
	case LedgerSuspend, LedgerResume, LedgerHold, LedgerRelease, LedgerForgetLater, LedgerForgetUndo, LedgerMove:
		l.restrain(e)
	default:
		return fmt.Errorf("%w: entry %d is of kind %q, which this version does not know: update Lethe", ErrLedger, e.Seq, e.Kind)
	}
	return nil
}

// openLedger verifies the whole ledger against the store's mark in it.
func (k *Keyring) openLedger(ctx context.Context, meta Meta) error {
	at := k.clock.now()
	entries, err := k.opts.Ledger.Read(ctx, 0)
	if err != nil {
		return ledgerErr(err)
	}
	k.led.mu.Lock()
	defer k.led.mu.Unlock()
	for i := range entries {
		if err := k.led.take(&entries[i], k.id); err != nil {
			return err
		}
		if k.led.seq == meta.AppliedSeq && !bytes.Equal(k.led.head[:], meta.LedgerHead) {
			return fmt.Errorf("%w: entry %d is not the one the store applied: the ledger was forked", ErrLedger, meta.AppliedSeq)
		}
	}
	if k.led.seq < meta.AppliedSeq {
		return fmt.Errorf("%w: it ends at entry %d and the store has applied %d: entries were lost; put the whole ledger back", ErrLedger, k.led.seq, meta.AppliedSeq)
	}
	k.led.ready = true
	k.led.seen.Store(at)
	return nil
}

// syncLedger takes the entries other processes appended.
func (k *Keyring) syncLedger(ctx context.Context) error {
	k.led.appendMu.Lock()
	defer k.led.appendMu.Unlock()
	return k.syncLocked(ctx)
}

func (k *Keyring) syncLocked(ctx context.Context) error {
	at, seq := k.clock.now(), k.led.seq
	// The last entry known is read again: a ledger that was replaced under this
	// process, or lost its end, must not be written on.
	entries, err := k.opts.Ledger.Read(ctx, max(seq, 1)-1)
	if err != nil {
		return ledgerErr(err)
	}
	if seq > 0 {
		if len(entries) == 0 {
			return fmt.Errorf("%w: entry %d, which this process has read, is gone: put the whole ledger back", ErrLedger, seq)
		}
		if entries[0].hash() != k.led.head {
			return fmt.Errorf("%w: entry %d is another than this process has read: the ledger was replaced or forked: put the right one back", ErrLedger, seq)
		}
		entries = entries[1:]
	}
	if err := k.led.takeAll(entries, k.id); err != nil {
		return err
	}
	k.led.seen.Store(at)
	changed := map[SRef]struct{}{}
	for i := range entries {
		if entries[i].restrains() {
			changed[entries[i].SRef] = struct{}{}
		}
	}
	if len(changed) > 0 {
		k.uncacheParties(changed)
	}
	if slices.ContainsFunc(entries, func(e LedgerEntry) bool { return len(e.KIDs) > 0 }) {
		// Another process forgot: what is known to be dead neither opens nor seals.
		k.cache.drop(k.led.anyDead)
	}
	return nil
}

func (l *ledgerState) takeAll(entries []LedgerEntry, id StoreID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range entries {
		if err := l.take(&entries[i], id); err != nil {
			return err
		}
	}
	return nil
}

// appendLedger chains, authenticates and appends e, filling in its Seq. Of
// LedgerInit there is one only: a second is taken for done.
func (k *Keyring) appendLedger(ctx context.Context, e *LedgerEntry) error {
	return k.appendLedgerIf(ctx, e, func() error { return nil })
}

// appendLedgerIf appends e if check, asked with the ledger's newest entry known and
// no other coming between, returns nil; its error otherwise. check may change e.
func (k *Keyring) appendLedgerIf(ctx context.Context, e *LedgerEntry, check func() error) error {
	k.led.appendMu.Lock()
	defer k.led.appendMu.Unlock()
	for range 100 {
		if err := k.syncLocked(ctx); err != nil {
			return err
		}
		if e.Kind == LedgerInit && k.led.seq > 0 {
			return nil
		}
		if err := check(); err != nil {
			return err
		}
		e.Seq, e.Prev, e.Store = k.led.seq+1, append([]byte(nil), k.led.head[:]...), k.id
		e.Time = max(k.now().Unix(), k.led.time) // a clock that went back does not make a handle younger
		mac := k.led.key.sum(e.appendCanonical)
		e.MAC = mac[:]
		err := k.opts.Ledger.Append(ctx, *e)
		if errors.Is(err, ErrLedgerConflict) {
			continue
		}
		if err != nil {
			return k.lookUp(ctx, e, err)
		}
		k.led.mu.Lock()
		defer k.led.mu.Unlock()
		return k.led.take(e, k.id)
	}
	return fmt.Errorf("lethe: too many processes write the ledger: %w", ErrUnavailable)
}

// ledgerErr reports what a Ledger returned: the caller's cancellation as it is, a
// wait that took too long as an outage, and everything else as ErrLedger.
func ledgerErr(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("lethe: the ledger is %w: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", ErrLedger, err)
}

// lookUp says what became of an append that failed: the entry may be in the
// ledger all the same, and then it counts.
func (k *Keyring) lookUp(ctx context.Context, e *LedgerEntry, failure error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.opts.Timeout)
	defer cancel()
	entries, err := k.opts.Ledger.Read(ctx, k.led.seq)
	switch {
	case err != nil:
		return fmt.Errorf("%w: whether entry %d was written is unknown (%w): call again to see", ErrLedger, e.Seq, errors.Join(failure, err))
	case len(entries) == 0 || !hmac.Equal(entries[0].MAC, e.MAC):
		return ledgerErr(fmt.Errorf("it could not be written, nothing was changed: %w", failure))
	}
	k.led.mu.Lock()
	defer k.led.mu.Unlock()
	return k.led.take(e, k.id)
}

// catchUp applies to the store, in order, what the ledger has and the store has not.
func (k *Keyring) catchUp(ctx context.Context) error {
	for conflicts := 0; ; {
		if err := k.syncLedger(ctx); err != nil {
			return err
		}
		meta, err := k.store.Meta(ctx)
		if err != nil {
			return storeErr(err)
		}
		entries, err := k.opts.Ledger.Read(ctx, meta.AppliedSeq)
		if err != nil {
			return ledgerErr(err)
		}
		if len(entries) == 0 {
			k.led.mu.Lock()
			k.led.done = max(k.led.done, meta.AppliedSeq)
			k.led.mu.Unlock()
			return nil
		}
		prev := meta.LedgerHead
		if meta.AppliedSeq == 0 {
			prev = make([]byte, 32)
		}
		seq := meta.AppliedSeq
		for i := range entries {
			e := &entries[i]
			mac := k.led.key.sum(e.appendCanonical)
			if !hmac.Equal(mac[:], e.MAC) || e.Store != k.id || e.Seq != seq+1 || !bytes.Equal(e.Prev, prev) {
				return fmt.Errorf("%w: entry %d does not follow what the store applied", ErrLedger, e.Seq)
			}
			head := e.hash()
			err := k.apply(ctx, e, seq, head[:])
			if errors.Is(err, ErrStoreConflict) {
				if conflicts++; conflicts > 100 {
					return fmt.Errorf("lethe: key store %w: %w", ErrUnavailable, err)
				}
				break // another process applied it
			}
			if err != nil {
				return storeErr(err)
			}
			seq, prev = e.Seq, head[:]
		}
	}
}

func (k *Keyring) apply(ctx context.Context, e *LedgerEntry, prev uint64, head []byte) error {
	switch e.Kind {
	case LedgerForget:
		gone, err := k.store.Forget(ctx, Forgetting{Tree: e.Tree, Epoch: e.Epoch, RefVer: e.RefVer, SRef: e.SRef, PID: e.PID, Seq: e.Seq, Prev: prev, Head: head, KIDs: e.KIDs})
		if err != nil {
			return err
		}
		return k.recordLate(ctx, e, gone)
	case LedgerReadmit:
		return k.store.Readmit(ctx, Readmission{Tree: e.Tree, RefVer: e.RefVer, SRef: e.SRef, PID: e.PID, Seq: e.Seq, Prev: prev, Head: head})
	case LedgerInit, LedgerForgetMore, LedgerRetire, LedgerRootBegin, LedgerRootSwitch, LedgerErase, LedgerErased, LedgerRestore, LedgerResidueDone:
	case LedgerSuspend, LedgerResume, LedgerHold, LedgerRelease, LedgerForgetLater, LedgerForgetUndo, LedgerMove: // the ledger alone keeps them
	}
	return k.store.Advance(ctx, prev, e.Seq, head)
}

// recordLate appends a second entry for keys that the forget deleted and its
// entry does not list (minted in between), and for one applied in a later
// epoch than it names, so that the next close re-keys their pages. If the
// process dies before, the pages' own mark does that.
func (k *Keyring) recordLate(ctx context.Context, e *LedgerEntry, gone []KeyRow) error {
	listed := make(map[KeyID]bool, len(e.KIDs))
	for _, kid := range e.KIDs {
		listed[kid] = true
	}
	tree, _, err := k.store.Tree(ctx, e.Tree)
	if err != nil {
		return err
	}
	late := &LedgerEntry{Kind: LedgerForgetMore, Tree: e.Tree, Epoch: tree.ActiveEpoch, RefVer: e.RefVer, SRef: e.SRef, PID: e.PID}
	for _, row := range gone {
		if !listed[row.KID] || tree.ActiveEpoch > e.Epoch {
			late.KIDs = append(late.KIDs, row.KID)
			late.Pages = append(late.Pages, row.Page)
		}
	}
	if len(late.KIDs) == 0 {
		return nil
	}
	k.led.addDead(late.KIDs)
	k.cache.drop(k.led.anyDead) // one made here meanwhile is known to be dead now
	return k.appendLedger(ctx, late)
}
