package envelope

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// EpochStatus is how the store's forgetting stands.
type EpochStatus struct {
	Epoch   uint64
	Since   time.Time // when the store switched to it
	Overdue bool      // its close began longer ago than Options.Epochs.Every, and keys were forgotten since
	// DirtyPages lost a key that the root of this epoch still reaches in backups, by the
	// ledger or, where a process died before its last entry, by the store.
	DirtyPages int
	// Pending are the handles of earlier epochs that may still unwrap.
	Pending []Erasure
	// OldestBackup: no backup of the key store made before it can be opened. Zero:
	// all can, as far as the ledger knows.
	OldestBackup time.Time
	// Residues are the ledger entries of deferred forgets that were carried out, and
	// after which not every [Residue] has run: call Forget again for those subjects.
	Residues []uint64
	// LedgerAhead is how far the ledger's newest entry is dated ahead of this process's
	// clock, in whole seconds; 0: it is not. More than a few seconds mean that a clock is
	// wrong: this one is behind, or that of a process which wrote the ledger jumped ahead.
	// Until the clock has caught up new entries bear the time of that one. So holds and
	// grace periods that end before it count as over, and handles retired meanwhile are
	// destroyed later by as much; a close with Immediate destroys them all the same. Set
	// the clocks right. The ledger itself cannot be put back.
	LedgerAhead time.Duration
	Incarnation uint64 // raised by every restore
	Closing     Lease  // of the process that is closing, or closed last
	Promise     Promise
}

// Status reads how the store's forgetting stands. It asks the ledger and the
// store, not the KMS.
func (k *Keyring) Status(ctx context.Context) (EpochStatus, error) {
	var st EpochStatus
	if k.closed.Load() {
		return st, ErrClosed
	}
	ctx, cancel := k.bound(ctx, 4)
	defer cancel()
	if err := k.catchUp(ctx); err != nil {
		return st, err
	}
	meta, err := k.store.Meta(ctx)
	if err != nil {
		return st, storeErr(err)
	}
	tree, _, err := k.activeTree(ctx)
	if err != nil {
		return st, err
	}
	st.Epoch, st.Incarnation = tree.ActiveEpoch, meta.Incarnation
	var age time.Duration
	if s, ok := k.led.epochOf(tree.ActiveEpoch); ok {
		st.Since = unixTime(s.active)
		age = k.now().Sub(unixTime(s.begun))
	}
	survey, err := k.surveyDirty(ctx, tree.ActiveEpoch)
	if err != nil {
		return st, err
	}
	st.DirtyPages = survey.pending
	// From when the close into it began: what was forgotten since then waits for the
	// next. A beginning in the future is of a clock that was wrong, and no reason to wait.
	st.Overdue = st.DirtyPages > 0 && (age > k.opts.Epochs.Every || age < -time.Minute)
	for _, s := range k.led.pendingErasures() {
		if s.active != 0 || s.semantics != "" {
			st.Pending = append(st.Pending, s.erasure())
		}
	}
	if s, ok := k.led.oldestLive(); ok && s.epoch > 1 {
		st.OldestBackup = unixTime(s.active)
	}
	st.LedgerAhead = k.ledgerAhead()
	st.Residues = slices.Sorted(maps.Values(k.led.allOwed()))
	if st.Closing, err = k.store.LeaseOf(ctx, k.tree); err != nil {
		return st, storeErr(err)
	}
	st.Promise = k.Promise()
	return st, nil
}

// String is a few lines for people.
func (s EpochStatus) String() string {
	var b strings.Builder
	at := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return t.UTC().Format("2006-01-02 15:04 MST")
	}
	fmt.Fprintf(&b, "epoch %d since %s", s.Epoch, at(s.Since))
	if s.Overdue {
		b.WriteString(", OVERDUE: close it")
	}
	fmt.Fprintf(&b, "\npages to re-key at the next close: %d\n", s.DirtyPages)
	if s.OldestBackup.IsZero() {
		b.WriteString("backups of the key store that open: all\n")
	} else {
		fmt.Fprintf(&b, "backups of the key store that open: those made since %s\n", at(s.OldestBackup))
	}
	for _, e := range s.Pending {
		switch {
		case e.Semantics == "":
			fmt.Fprintf(&b, "epoch %d: the KMS key %q cannot be destroyed in part\n", e.Epoch, e.Handle)
		case !e.Ordered.IsZero():
			fmt.Fprintf(&b, "epoch %d: destruction of %q ordered on %s, done on %s\n", e.Epoch, e.Handle, at(e.Ordered), at(e.Until))
		default:
			fmt.Fprintf(&b, "epoch %d: %q is to be destroyed on %s\n", e.Epoch, e.Handle, at(e.Due))
		}
	}
	if s.LedgerAhead > time.Minute {
		fmt.Fprintf(&b, "WARNING: the ledger's newest entry is dated %v ahead of this clock: a clock is wrong, or was\n", s.LedgerAhead)
	}
	if n := len(s.Residues); n > 0 {
		fmt.Fprintf(&b, "forgets that left something besides the keys, to be called again: %d, the first is ledger entry %d\n", n, s.Residues[0])
	}
	if s.Promise.None != "" {
		fmt.Fprintf(&b, "T: none: %s\n", s.Promise.None)
	} else {
		fmt.Fprintf(&b, "T: a person forgotten now is beyond the reach of every backup in %v\n", s.Promise.Backups)
	}
	return b.String()
}
