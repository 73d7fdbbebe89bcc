package envelope

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// flight is a load in progress, which others wait for.
type flight struct {
	done chan struct{}
	sets map[keyRef]*keySet // what it found, cached or not
	err  error
}

type flightKey struct {
	ref  keyRef
	mint bool
}

const loadAttempts = 6

// acquire fills sets[i] with the keys of refs[i]: nil where there are none (and
// mint is false), a forgotten set where a tomb says so. Cached keys cost no
// I/O; all others together cost one query, and one insert if keys are minted.
func (k *Keyring) acquire(ctx context.Context, refs []keyRef, sets []*keySet, mint bool) error {
	if k.closed.Load() {
		return ErrClosed
	}
	now := k.clock.now()
	missing := false
	for i := range refs {
		if sets[i] = nil; refs[i].kind == "" { // not wanted
			continue
		}
		sets[i] = k.cache.get(&refs[i], now)
		if !k.usable(sets[i], mint) {
			sets[i], missing = nil, true
		}
	}
	if !missing {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return k.acquireMissing(ctx, refs, sets, mint)
}

// usable reports whether a cached set answers the question.
func (k *Keyring) usable(s *keySet, mint bool) bool {
	if s == nil || !mint || s.forgotten || s.index() != nil {
		return s != nil
	}
	return !s.spent() && (s.newest.sealUntil == 0 || time.Now().Unix() < s.newest.sealUntil)
}

func (k *Keyring) acquireMissing(ctx context.Context, refs []keyRef, sets []*keySet, mint bool) error {
	got := make(map[keyRef]*keySet)
	for i, s := range sets {
		if s == nil && refs[i].kind != "" {
			got[refs[i]] = nil
		}
	}
	pending := make([]keyRef, 0, len(got))
	for ref := range got {
		pending = append(pending, ref)
	}
	for attempt := 0; len(pending) > 0; attempt++ {
		if attempt == loadAttempts {
			return fmt.Errorf("lethe: keys keep changing: %w", ErrUnavailable)
		}
		var lead, follow []keyRef
		var own *flight
		waits := make(map[keyRef]*flight)
		k.flightMu.Lock()
		for _, ref := range pending {
			fk := flightKey{ref, mint}
			if f := k.flights[fk]; f != nil {
				waits[ref] = f
				follow = append(follow, ref)
				continue
			}
			if own == nil {
				own = &flight{done: make(chan struct{})}
			}
			k.flights[fk] = own
			lead = append(lead, ref)
		}
		k.flightMu.Unlock()
		if own != nil {
			loaded, err := k.lead(ctx, own, lead, mint)
			if err != nil {
				return err
			}
			maps.Copy(got, loaded)
		}
		pending = pending[:0]
		for _, ref := range follow {
			f := waits[ref]
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-f.done:
			}
			if f.err != nil && !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, context.DeadlineExceeded) {
				return f.err
			}
			set := k.cache.get(&ref, k.clock.now())
			if set == nil && attempt > 0 && f.err == nil {
				set = f.sets[ref] // read after this call began, so it holds, though the cache has no room for it
			} else if set == nil {
				pending = append(pending, ref) // the leader gave up, or may have read too early
				continue
			}
			if mint && !k.usable(set, mint) {
				pending = append(pending, ref)
				continue
			}
			got[ref] = set
		}
	}
	for i := range refs {
		if sets[i] == nil {
			sets[i] = got[refs[i]]
		}
	}
	return nil
}

// lead loads refs and lets those that wait for own go, also if the store panics.
func (k *Keyring) lead(ctx context.Context, own *flight, refs []keyRef, mint bool) (map[keyRef]*keySet, error) {
	own.err = context.Canceled // of a panic: the next in line leads
	defer func() {
		k.flightMu.Lock()
		for _, ref := range refs {
			delete(k.flights, flightKey{ref, mint})
		}
		k.flightMu.Unlock()
		close(own.done)
	}()
	own.sets, own.err = k.load(ctx, refs, mint)
	return own.sets, own.err
}

// load reads refs from the store, minting if asked, and caches what it found.
func (k *Keyring) load(ctx context.Context, refs []keyRef, mint bool) (map[keyRef]*keySet, error) {
	ctx, cancel := k.bound(ctx, 4)
	defer cancel()
	var watch staleWatch
	for attempt := 0; ; attempt++ {
		out, again, err := k.loadOnce(ctx, refs, mint)
		switch {
		case errors.Is(err, errStalePage) || errors.Is(err, ErrStoreConflict):
			watch.see(err)
			if attempt == loadAttempts {
				return nil, watch.explain(err, true)
			}
			if _, err := k.rootKey(ctx, true); err != nil {
				return nil, err
			}
		case err != nil:
			if cause := context.Cause(ctx); cause != nil && errors.Is(cause, ErrUnavailable) {
				return nil, cause
			}
			return nil, err
		case again && attempt < loadAttempts: // another process was first, or a forget came between
		case again:
			return nil, fmt.Errorf("lethe: keys keep changing: %w", ErrUnavailable)
		default:
			return out, nil
		}
	}
}

func (k *Keyring) loadOnce(ctx context.Context, refs []keyRef, mint bool) (map[keyRef]*keySet, bool, error) {
	fresh, err := k.ledgerFresh(ctx)
	if err != nil {
		return nil, false, err
	}
	expires, lifted := fresh+int64(k.opts.CacheTTL), k.lifted.Load()
	srefs := make([]SRef, len(refs))
	bySRef := make(map[SRef]struct{}, len(refs))
	for i, ref := range refs {
		srefs[i] = k.sref(ref.tenant, ref.kind, ref.id)
		bySRef[srefs[i]] = struct{}{}
	}
	uniq := make([]SRef, 0, len(bySRef))
	for s := range bySRef {
		uniq = append(uniq, s)
	}
	rows, pages, err := k.store.Keys(ctx, k.tree, refVersion, uniq)
	if err != nil {
		return nil, false, storeErr(err)
	}
	if err := k.learnPurposes(ctx, rows); err != nil {
		return nil, false, err
	}
	if err := k.learnRestrained(ctx, uniq); err != nil {
		return nil, false, err
	}
	resolved, err := k.resolveEach(ctx, pages)
	if err != nil {
		return nil, false, err
	}
	type id struct {
		sref SRef
		pid  PID
	}
	found := make(map[id][]KeyRow, len(rows))
	for _, row := range rows {
		found[id{row.SRef, row.PID}] = append(found[id{row.SRef, row.PID}], row)
	}
	forbidden := func(i int) bool { return k.led.forbids(srefs[i], k.pidOf(refs[i].purpose)) }
	suspended := func(i int) bool { return k.suspended(party{refVersion, srefs[i]}, refs[i].purpose) }
	for i := range refs {
		if forbidden(i) || suspended(i) { // or readmitted or resumed elsewhere, which the ledger's newest entries say
			if err := k.syncLedger(ctx); err != nil {
				return nil, false, err
			}
			break
		}
	}
	out := make(map[keyRef]*keySet, len(refs))
	var absent []int // refs without a usable key
	var mints []mintReq
	for i, ref := range refs {
		pid, known := k.purposeID(ref.purpose)
		var group []KeyRow
		if known {
			group = found[id{srefs[i], pid}]
		}
		if forbidden(i) { // whatever rows there are, and whatever tombs are not
			out[ref] = &keySet{forgotten: true, expires: expires}
			continue
		}
		if suspended(i) {
			out[ref] = &keySet{forgotten: true, suspended: true, expires: expires}
			continue
		}
		kind := KindSubject
		if ref.kind == indexKind {
			kind = KindIndex
		}
		set, err := k.buildSet(group, kind, ref.token(), resolved)
		if !mint && (errors.Is(err, ErrDecrypt) || errors.Is(err, ErrKeyMissing)) {
			out[ref] = damagedSet(err) // the others open
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if set == nil && len(group) > 0 { // all dead: a forget that the store has not applied yet
			out[ref] = &keySet{forgotten: true, expires: expires}
			continue
		}
		if set == nil {
			absent = append(absent, i)
			if mint {
				mints = append(mints, mintReq{i: i, ref: ref, sref: srefs[i], kind: kind, seq: 1})
			}
			continue
		}
		set.expires = expires
		out[ref] = set
		if mint && !k.usable(set, true) {
			mints = append(mints, mintReq{i: i, ref: ref, sref: srefs[i], kind: kind, seq: set.newest.seq + 1})
		}
	}
	if mint && len(mints) > 0 {
		forgotten, again, err := k.mint(ctx, mints, out, expires)
		if err != nil || again {
			return nil, again, err
		}
		for _, ref := range forgotten {
			out[ref] = &keySet{forgotten: true, expires: expires}
		}
	} else if len(absent) > 0 {
		lost := make([]SRef, len(absent))
		for j, i := range absent {
			lost[j] = srefs[i]
		}
		tombs, err := k.tombs(ctx, lost)
		if err != nil {
			return nil, false, err
		}
		for _, i := range absent {
			if tombed(tombs, srefs[i], k.pidOf(refs[i].purpose)) {
				out[refs[i]] = &keySet{forgotten: true, expires: expires}
			}
		}
	}
	for i, ref := range refs {
		set := out[ref]
		if set == nil || set.damage() != nil {
			continue
		}
		if _, known := k.purposeID(ref.purpose); !known {
			continue // forgotten as a whole; a Readmit takes known purposes out of the cache
		}
		outdated := func() bool { // a forget, a suspension or the end of one came between the read and now
			switch {
			case set.suspended:
				return !suspended(i) || forbidden(i)
			case set.forgotten:
				return k.lifted.Load() != lifted
			}
			return k.led.anyDead(set) || forbidden(i) || suspended(i)
		}
		if !k.cache.put(ref, set, outdated) {
			return nil, true, nil
		}
	}
	return out, false, nil
}

// buildSet unwraps the live versions of one key, of a kind or a token key; nil if
// there are none.
func (k *Keyring) buildSet(rows []KeyRow, kind KeyKind, token bool, pages map[PageID]*pageKey) (*keySet, error) {
	slices.SortFunc(rows, func(a, b KeyRow) int { return int(int64(a.Seq) - int64(b.Seq)) })
	set := &keySet{}
	for i := range rows {
		row := &rows[i]
		if k.led.isDead(row.KID) {
			continue // pasted back, or a forget is half way: it is dead already
		}
		if row.Kind != kind || row.RefVer != refVersion {
			return nil, fmt.Errorf("%w: key row %x has another kind than it must have", ErrDecrypt, row.KID)
		}
		secret, err := k.unwrapRow(row, pages)
		if err != nil {
			return nil, err
		}
		if token {
			set.addToken(row, secret)
		} else {
			err = set.add(row, secret)
		}
		clear(secret)
		if err != nil {
			return nil, err
		}
	}
	if !set.has() {
		return nil, nil
	}
	return set, nil
}

// tombs reads the tombs of srefs, and the purposes again where one was made by
// another process.
func (k *Keyring) tombs(ctx context.Context, srefs []SRef) ([]Tomb, error) {
	tombs, _, err := k.store.Evidence(ctx, k.tree, refVersion, srefs, nil)
	if err != nil {
		return nil, storeErr(err)
	}
	for _, t := range tombs {
		if t.PID == 0 {
			continue
		}
		if _, ok := k.purposeName(t.PID); !ok {
			return tombs, k.readPurposes(ctx)
		}
	}
	return tombs, nil
}

func tombed(tombs []Tomb, sref SRef, pid PID) bool {
	for _, t := range tombs {
		if t.SRef == sref && t.Active() && (t.PID == 0 || t.PID == pid) {
			return true
		}
	}
	return false
}
