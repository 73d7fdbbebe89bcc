package envelope

import (
	"context"
	"maps"
	"slices"
)

// dirtyPages are pages that lost a key, each with the last epoch of which a key
// drawn for it may wrap what it lost.
type dirtyPages map[PageID]uint64

// stale reports whether the key that the page has now wraps one it lost.
func (d dirtyPages) stale(p *PageRow) bool { return d.reached(p, p.Gen) }

// reached reports whether a key that the page lost still hangs, in a backup, on the
// root of the epoch active: also where the page has a fresh key already, from a close
// that did not get to switch the root.
func (d dirtyPages) reached(p *PageRow, active uint64) bool {
	last, listed := d[p.Page]
	return listed && last >= min(p.Gen, active)
}

// dirtyPages returns the pages that lost a key, as the ledger has it.
func (l *ledgerState) dirtyPages() dirtyPages {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return maps.Clone(l.dirty)
}

// dirtySurvey is what the ledger, and the store's own mark, say of the pages of the
// store that lost a key.
type dirtySurvey struct {
	listed  dirtyPages // by the ledger
	pending int        // pages with a lost key that hangs on the active root
	// marked are leaves with the store's mark, and unlisted those of them that the
	// ledger does not know to be stale: a process died between a forget and its note
	// of keys it found only then.
	marked   []PageRow
	unlisted []PageID
	// unknown: a page that lost a key is missing from the store, or is no leaf, so
	// what that key hung on is unknown.
	unknown bool
}

// surveyDirty is the one place where the ledger's dirty pages are compared with the
// store, whose active root is of the epoch active. The store's mark only adds to what
// the ledger says: whoever writes the store can set it, and take it away.
func (k *Keyring) surveyDirty(ctx context.Context, active uint64) (s dirtySurvey, err error) {
	marked, err := k.store.DirtyPages(ctx, k.tree)
	if err != nil {
		return s, storeErr(err)
	}
	s.listed = k.led.dirtyPages()
	rows, err := k.pagesOf(ctx, slices.Sorted(maps.Keys(s.listed)))
	if err != nil {
		return s, err
	}
	k.led.mu.RLock()
	inner := k.led.inner
	k.led.mu.RUnlock()
	if inner > active {
		inner = 0 // the store was put back from before that
	}
	missing := maps.Clone(s.listed)
	pending := map[PageID]struct{}{}
	for i := range rows {
		p := &rows[i]
		delete(missing, p.Page)
		if s.listed.reached(p, active) {
			pending[p.Page] = struct{}{}
			s.unknown = s.unknown || p.Level > 0
		}
	}
	for _, last := range missing {
		s.unknown = s.unknown || last >= inner
	}
	for i := range marked {
		p := &marked[i]
		if p.Level > 0 { // no key hangs on it: a mark that no forget made
			continue
		}
		s.marked = append(s.marked, *p)
		if !s.listed.stale(p) {
			s.unlisted = append(s.unlisted, p.Page)
			pending[p.Page] = struct{}{}
		}
	}
	s.pending = len(pending)
	return s, nil
}

// noteDirty is surveyDirty, and records in the ledger the pages that only the store
// calls dirty: it has to know before a re-key takes the store's mark away.
func (r *rekeyer) noteDirty(ctx context.Context) (dirtySurvey, error) {
	s, err := r.k.surveyDirty(ctx, r.old.epoch)
	if err != nil || len(s.unlisted) == 0 {
		return s, err
	}
	return s, r.k.appendLedger(ctx, &LedgerEntry{Kind: LedgerForgetMore, Tree: r.k.tree, Epoch: r.old.epoch, Pages: s.unlisted})
}

// takeDirty sets what this close re-keys: the pages that were dirty when it began,
// and those with the store's mark. A forget from before the beginning may have been
// applied since by a process that died before it noted a key it found only then, and
// its receipt counts on this close. A page that lost a key since the beginning may have
// lost another before that, of which the ledger's state says no more: it is re-keyed
// now, and, since the ledger still calls it dirty, by the next close too. What is
// forgotten from here on is for the next.
func (r *rekeyer) takeDirty(ctx context.Context) error {
	s, err := r.noteDirty(ctx)
	if err != nil {
		return err
	}
	r.dirty = s.listed
	for page, last := range r.dirty {
		r.dirty[page] = min(last, r.epoch-1)
	}
	for i := range s.marked {
		if p := &s.marked[i]; p.Gen < r.epoch && !r.dirty.stale(p) {
			r.dirty[p.Page] = r.epoch - 1
		}
	}
	return nil
}

// toRekey reports whether a page is one of the leaves that this close gives a fresh key.
func (r *rekeyer) toRekey(p *PageRow) bool {
	return p.Level == 0 && p.Gen < r.epoch && !r.damaged[p.Page] && (r.opts.All || r.dirty.stale(p))
}
