package envelope

import (
	"cmp"
	"context"
	"slices"
	"strings"
)

// party names a subject as the ledger does.
type party struct {
	refVer uint32
	sref   SRef
}

// restraint is what the ledger says of one subject besides what is forgotten. All
// of it is rebuilt from the entries, so a key store that was put back from a
// backup does not bring an older restraint back.
type restraint struct {
	suspended map[PID]struct{}
	waiting   map[PID]waiting  // forgets that are not carried out yet: they suspend too
	holds     map[string]int64 // by reason: until when, in Unix seconds; 0: until it is released
}

// waiting is a forget that is to be carried out at due (Unix seconds; 0: at once),
// but not while the subject is held.
type waiting struct {
	party
	pid PID
	seq uint64 // the ledger entry that asked for it
	due int64
}

// moving is a merge or renaming of a subject.
type moving struct{ from, to party }

// restrain learns from an entry about a subject's restraints. l.mu is held.
func (l *ledgerState) restrain(e *LedgerEntry) {
	p := party{e.RefVer, e.SRef}
	r := l.restraints[p]
	if r == nil {
		if l.restraints == nil {
			l.restraints, l.moved = map[party]*restraint{}, map[moving]struct{}{}
		}
		r = &restraint{suspended: map[PID]struct{}{}, waiting: map[PID]waiting{}, holds: map[string]int64{}}
		l.restraints[p] = r
	}
	switch e.Kind { //nolint:exhaustive // take passes these only
	case LedgerSuspend:
		r.suspended[e.PID] = struct{}{}
	case LedgerResume:
		delete(r.suspended, e.PID)
	case LedgerHold:
		r.holds[e.Scope] = e.Until
	case LedgerRelease:
		delete(r.holds, e.Scope)
	case LedgerForgetLater:
		r.waiting[e.PID] = waiting{p, e.PID, e.Seq, e.Until}
	case LedgerForgetUndo:
		delete(r.waiting, e.PID)
	case LedgerMove:
		l.moved[moving{p, party{e.RefVer, e.To}}] = struct{}{}
	}
	l.dropEmpty(p, r)
}

// carriedOut takes the forgets that e did out of those that wait. l.mu is held.
func (l *ledgerState) carriedOut(e *LedgerEntry) {
	p := party{e.RefVer, e.SRef}
	r := l.restraints[p]
	if r == nil {
		return
	}
	delete(r.waiting, e.PID)
	if e.PID == 0 {
		clear(r.waiting)
	}
	l.dropEmpty(p, r)
}

// dropEmpty keeps the ledger's state as small as what is in force. l.mu is held.
func (l *ledgerState) dropEmpty(p party, r *restraint) {
	if len(r.suspended)+len(r.waiting)+len(r.holds) == 0 {
		delete(l.restraints, p)
	}
}

// suspends reports whether nothing may be opened or sealed for one of the purposes.
func (l *ledgerState) suspends(p party, pids ...PID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	r := l.restraints[p]
	if r == nil {
		return false
	}
	return r.suspends(0) || slices.ContainsFunc(pids, r.suspends)
}

func (r *restraint) suspends(pid PID) bool {
	if r == nil {
		return false
	}
	_, explicitly := r.suspended[pid]
	_, waits := r.waiting[pid]
	return explicitly || waits
}

// heldUntil says when the last of the holds ends; forever if one has no end, held
// false if there is none at the time now.
func (r *restraint) heldUntil(now int64) (until int64, forever, held bool) {
	if r == nil {
		return 0, false, false
	}
	for _, end := range r.holds {
		if end == 0 {
			return 0, true, true
		}
		if end > now {
			until, held = max(until, end), true
		}
	}
	return until, false, held
}

// waits returns the forget that waits and covers the purpose, the earliest of two.
func (r *restraint) waits(pid PID) (waiting, bool) {
	if r == nil {
		return waiting{}, false
	}
	all, ok := r.waiting[0]
	one, also := r.waiting[pid]
	if !ok || also && one.due < all.due {
		return one, also
	}
	return all, true
}

// due lists the forgets that are to be carried out at the time now, oldest first:
// all, or those of one subject.
func (l *ledgerState) due(now int64, only *party) []waiting {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []waiting
	for p, r := range l.restraints {
		if p.refVer != refVersion || only != nil && *only != p {
			continue
		}
		if _, _, held := r.heldUntil(now); held {
			continue
		}
		for _, w := range r.waiting {
			if w.due <= now {
				out = append(out, w)
			}
		}
	}
	slices.SortFunc(out, func(a, b waiting) int { return cmp.Compare(a.seq, b.seq) })
	return out
}

// forgotBy returns the entry of the forget that covers the purpose, 0 if there is none.
func (l *ledgerState) forgotBy(p party, pid PID) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if seq, ok := l.forgot[forgotten{p.refVer, p.sref, pid}]; ok {
		return seq
	}
	return l.forgot[forgotten{p.refVer, p.sref, 0}]
}

// restrained returns the purposes that are suspended.
func (l *ledgerState) restrained(p party) (pids []PID) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	r := l.restraints[p]
	if r == nil {
		return nil
	}
	for pid := range r.suspended {
		pids = append(pids, pid)
	}
	for pid := range r.waiting {
		pids = append(pids, pid)
	}
	return pids
}

// restraintNow is the restraint of a subject and the time to judge it by, which
// does not go back when a clock does. It is for the check of appendLedgerIf, so
// nothing changes it meanwhile but that append.
func (k *Keyring) restraintNow(p party) (*restraint, int64) {
	k.led.mu.RLock()
	defer k.led.mu.RUnlock()
	return k.led.restraints[p], max(k.now().Unix(), k.led.time)
}

func (k *Keyring) party(s Subject) party { return party{refVersion, k.sref(s.Tenant, s.Kind, s.ID)} }

// suspended reports whether the keys of ref, whose subject is p, are suspended. A
// purpose's token keys are suspended with it.
func (k *Keyring) suspended(p party, purpose string) bool {
	if base, token := strings.CutPrefix(purpose, tokenPurpose); token {
		return k.led.suspends(p, k.pidOf(purpose), k.pidOf(base))
	}
	return k.led.suspends(p, k.pidOf(purpose))
}

// learnRestrained reads the purposes again where one that was made elsewhere is
// suspended: its name is not known otherwise before it has a key.
func (k *Keyring) learnRestrained(ctx context.Context, srefs []SRef) error {
	for _, sref := range srefs {
		for _, pid := range k.led.restrained(party{refVersion, sref}) {
			if _, known := k.purposeName(pid); !known && pid != 0 {
				return k.readPurposes(ctx)
			}
		}
	}
	return nil
}

// restrain appends an entry about a subject, if check returns nil, and takes the
// subject's keys out of the cache. The entry is what counts: the store need not
// answer, and takes note of it with the next entry it applies.
func (k *Keyring) restrain(ctx context.Context, s Subject, e *LedgerEntry, check func(r *restraint, now int64) error) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if k.closed.Load() {
		return ErrClosed
	}
	ctx, cancel := k.bound(ctx, 2)
	defer cancel()
	p := k.party(s)
	e.Tree, e.RefVer, e.SRef = k.tree, p.refVer, p.sref
	err := k.appendLedgerIf(ctx, e, func() error { return check(k.restraintNow(p)) })
	k.uncache(s, 0) // also where another process was first
	return err
}

// uncacheParties takes the keys of subjects out of the cache that are known by
// their pseudonyms only.
func (k *Keyring) uncacheParties(of map[SRef]struct{}) {
	k.cache.drop(func(set *keySet) bool {
		ref := set.ref()
		_, gone := of[k.sref(ref.tenant, ref.kind, ref.id)]
		return gone
	})
}

// restrains reports whether an entry changes what may be opened, though no key dies.
func (e *LedgerEntry) restrains() bool {
	switch e.Kind { //nolint:exhaustive // the others do not
	case LedgerSuspend, LedgerResume, LedgerForgetLater, LedgerForgetUndo:
		return true
	}
	return false
}

// ledgerFresh returns a time, by k.clock, at which all entries of the ledger were
// known here: keys loaded now may be used for Options.CacheTTL from then, and not
// longer, since a suspension leaves them in the store. It reads the ledger again
// after a tenth of that. While the ledger is away the last time counts, until
// Options.CacheTTL has passed: then nothing can be loaded.
func (k *Keyring) ledgerFresh(ctx context.Context) (int64, error) {
	ttl := int64(k.opts.CacheTTL)
	fresh := func() (int64, bool) {
		seen := k.led.seen.Load()
		age := k.clock.now() - max(seen, k.led.tried.Load())
		return seen, age < ttl/10 && k.clock.now()-seen < ttl
	}
	seen, ok := fresh()
	if ok {
		return seen, nil
	}
	if !k.led.appendMu.TryLock() { // another reads it, or appends
		if k.clock.now()-seen < ttl/2 {
			return seen, nil
		}
		k.led.appendMu.Lock()
	}
	defer k.led.appendMu.Unlock()
	if seen, ok = fresh(); ok {
		return seen, nil
	}
	within, cancel := k.bound(ctx, 1)
	defer cancel()
	err := k.syncLocked(within)
	if err == nil {
		return k.led.seen.Load(), nil
	}
	if ctx.Err() == nil {
		k.led.tried.Store(k.clock.now())
	}
	if k.clock.now()-seen < ttl {
		return seen, nil
	}
	return 0, err
}
