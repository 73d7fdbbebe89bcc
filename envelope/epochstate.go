package envelope

import (
	"slices"
	"time"
)

// epochState is what the ledger says of one epoch and the KMS handle its root
// hangs on. The ledger knows all of them, whatever backup the store came from.
type epochState struct {
	epoch     uint64
	uri       string
	handle    string // of a whole KMS key: its URI
	semantics string // "": the handle cannot be erased
	begun     int64  // Unix seconds of the entry that allocated it
	beginSeq  uint64
	window    int64
	scope     string
	active    int64 // when the store switched to it; 0: never
	retired   int64 // when a later root took its place; 0: not
	due       int64 // when its handle is to be destroyed
	atOnce    bool  // whatever the clock says: an entry may be dated ahead of it
	ordered   int64 // when its destruction was ordered; 0: not
	until     int64 // when the KMS will have done it
	erased    int64 // when the KMS confirmed it; 0: not
}

func newEpochState(e *LedgerEntry) *epochState {
	return &epochState{epoch: e.Epoch, uri: e.KMSURI, handle: e.KMSHandle, semantics: e.Semantics, begun: e.Time, beginSeq: e.Seq, window: e.Window, scope: e.Scope}
}

func (s *epochState) erasing(e *LedgerEntry) {
	if e.Kind == LedgerErased {
		s.erased = e.Time
	}
	if s.ordered == 0 {
		s.ordered = e.Time
	}
	s.until = max(s.until, e.Until)
}

// switched makes e's epoch the active one and retires all before it: those that
// were active, and those that a closer began and never switched to. l.mu is held.
func (l *ledgerState) switched(e *LedgerEntry) {
	l.epoch, l.begun, l.root = e.Epoch, max(l.begun, e.Epoch), e.RootCommit
	s := l.epochs[e.Epoch]
	if s == nil {
		s = newEpochState(e)
		l.epochs[e.Epoch] = s
	}
	if s.active == 0 {
		s.active = e.Time
	}
	for _, old := range l.epochs {
		if old.epoch >= e.Epoch {
			continue
		}
		due := e.Time + s.window
		if old.retired == 0 {
			old.retired, old.due = e.Time, due
		}
		old.due = min(old.due, due)
		old.atOnce = old.atOnce || s.window == 0
	}
	if s.scope != "" {
		l.inner = max(l.inner, e.Epoch)
	}
}

// pendingErasures are the retired epochs whose handle may still unwrap, oldest first.
func (l *ledgerState) pendingErasures() (out []epochState) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, s := range l.epochs {
		if s.retired != 0 && s.erased == 0 {
			out = append(out, *s)
		}
	}
	slices.SortFunc(out, func(a, b epochState) int { return int(int64(a.epoch) - int64(b.epoch)) })
	return out
}

// plainAfter finds an epoch later than s that needs the KMS key of s as a whole and
// that the store is in, may switch to, or may still be restored to at the time now.
// Where handles are versions of a key, such a root is wrapped by the latest of them.
func (l *ledgerState) plainAfter(s *epochState, now int64) (epoch uint64, found bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, t := range l.epochs {
		if t.epoch > s.epoch && t.semantics == "" && t.handle == s.uri && t.erased == 0 && (t.retired == 0 || now < t.due) {
			return t.epoch, true
		}
	}
	return 0, false
}

// oldestLive is the first epoch that a store was in and whose handle is not
// confirmed to be destroyed: no older backup opens.
func (l *ledgerState) oldestLive() (epochState, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var oldest *epochState
	for _, s := range l.epochs {
		if s.active != 0 && s.erased == 0 && (oldest == nil || s.epoch < oldest.epoch) {
			oldest = s
		}
	}
	if oldest == nil {
		return epochState{}, false
	}
	return *oldest, true
}

func (l *ledgerState) epochOf(epoch uint64) (epochState, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if s := l.epochs[epoch]; s != nil {
		return *s, true
	}
	return epochState{}, false
}

// activeEpoch is the epoch the ledger saw switched to last.
func (l *ledgerState) activeEpoch() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.epoch
}

// prune forgets which pages were dirty before the oldest epoch that a backup can
// still be restored to: the close into it re-keyed them. l.mu is held.
func (l *ledgerState) prune() {
	oldest := l.epoch
	for _, s := range l.epochs {
		if s.active != 0 && s.erased == 0 {
			oldest = min(oldest, s.epoch)
		}
	}
	for page, epoch := range l.dirty {
		if epoch < oldest {
			delete(l.dirty, page)
		}
	}
}

// brokenOff reports whether a close with every page re-keyed was begun after the
// active epoch and not finished. It may have given a fresh key to a page that the
// ledger does not know to be dirty, and taken the store's mark of that away; then
// the old key hangs on a page above it still.
func (l *ledgerState) brokenOff(active uint64) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, s := range l.epochs {
		if s.epoch > active && s.scope == "all" {
			return true
		}
	}
	return false
}

func unixTime(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
