package envelope

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// ErrNotForgotten is returned by Readmit for a subject that is not forgotten.
var ErrNotForgotten = errors.New("lethe: not forgotten")

// Forget makes everything sealed for the subject unreadable, for every purpose:
// in this process when it returns, in others after at most Options.CacheTTL.
//
// The ledger entry is the commit point. If it cannot be written nothing has
// changed; if the store fails after it, the error says so, the subject is
// forgotten here already, and the store follows at the next call or start.
// Forget is idempotent. A subject without keys is forbidden all the same, and
// the receipt says Unknown. Old backups of the key store still hold the deleted
// keys, wrapped under pages that an epoch close re-keys.
//
// Then every [Residue] runs, under ctx, also where the subject was forgotten
// before. One that fails undoes nothing: the receipt lists it, the error says so,
// and the next call runs it again.
//
// While the subject is held (see Hold) nothing is destroyed and no Residue runs: it
// is suspended at once, and the receipt says Deferred.
func (k *Keyring) Forget(ctx context.Context, s Subject) (Receipt, error) {
	r, err := k.forget(ctx, s, 0)
	if err != nil || r.Deferred {
		return r, err
	}
	return k.settle(ctx, r, s, "", 0)
}

// ForgetPurpose is Forget for one purpose of the subject: a consent withdrawn
// for good. Other purposes are not affected. Where token keys of the purpose were
// ever made they are forgotten by a ledger entry of their own; the receipt has
// the keys of both. After an error they may be there still: call it again. Every
// [Residue] runs as for Forget.
func (k *Keyring) ForgetPurpose(ctx context.Context, s Subject, purpose string) (Receipt, error) {
	if strings.HasPrefix(purpose, "\x00") {
		return Receipt{}, errReserved
	}
	pid, err := k.ensurePurpose(ctx, purpose)
	if err != nil {
		return Receipt{}, err
	}
	r, err := k.forget(ctx, s, pid)
	if err != nil {
		return r, err
	}
	already, err := k.forgetTokens(ctx, s, purpose)
	if err != nil || r.Deferred {
		return r, err
	}
	r.Already = r.Already && already
	return k.settle(ctx, r, s, purpose, pid)
}

func (k *Keyring) forget(ctx context.Context, s Subject, pid PID) (Receipt, error) {
	if err := s.Validate(); err != nil {
		return Receipt{}, err
	}
	return k.forgetKeys(ctx, s, pid)
}

func (k *Keyring) forgetKeys(ctx context.Context, s Subject, pid PID) (Receipt, error) {
	return k.forgetBy(ctx, k.sref(s.Tenant, s.Kind, s.ID), pid, nil, func() { k.uncache(s, pid) })
}

// forgetBy forgets the subject with a pseudonym. asked is the deferred forget that
// it carries out, nil for one that is not.
func (k *Keyring) forgetBy(ctx context.Context, sref SRef, pid PID, asked *waiting, uncache func()) (Receipt, error) {
	if k.closed.Load() {
		return Receipt{}, ErrClosed
	}
	ctx, cancel := k.bound(ctx, 4)
	defer cancel()
	k.forgetMu.Lock()
	defer k.forgetMu.Unlock()
	if err := k.catchUp(ctx); err != nil {
		return Receipt{}, err
	}
	root, err := k.rootKey(ctx, false)
	if err != nil {
		return Receipt{}, err
	}
	rows, _, err := k.store.Keys(ctx, k.tree, refVersion, []SRef{sref})
	if err != nil {
		return Receipt{}, storeErr(err)
	}
	e := &LedgerEntry{Kind: LedgerForget, Tree: k.tree, Epoch: root.epoch, RefVer: refVersion, SRef: sref, PID: pid}
	if asked != nil && k.owesResidues(pid) {
		e.Scope = residueScope // until they have run: this process may die first
	}
	for _, row := range rows {
		if pid == 0 || row.PID == pid {
			e.KIDs = append(e.KIDs, row.KID)
			e.Pages = append(e.Pages, row.Page)
		}
	}
	if len(e.KIDs) == 0 && asked == nil {
		tombs, _, err := k.store.Evidence(ctx, k.tree, refVersion, []SRef{sref}, nil)
		if err != nil {
			return Receipt{}, storeErr(err)
		}
		for _, t := range tombs {
			if t.Active() && (t.PID == 0 || t.PID == pid) {
				return Receipt{Store: k.id, Tree: k.tree, Seq: t.LedgerSeq, Already: true}, nil
			}
		}
	}
	if deferred, err := k.commitForget(ctx, e, asked); err != nil || deferred != nil {
		uncache()
		if deferred == nil {
			deferred = &Receipt{}
		}
		return *deferred, err
	}
	uncache()
	// Committed: the caller's cancellation no longer counts.
	done, stop := k.bound(context.WithoutCancel(ctx), 2)
	defer stop()
	err = k.catchUp(done)
	uncache()
	r := Receipt{Store: k.id, Tree: k.tree, Seq: e.Seq, Time: unixTime(e.Time), KeyIDs: e.KIDs, Unknown: len(e.KIDs) == 0}
	if asked != nil {
		r.Asked = asked.seq
	}
	if err != nil {
		return r, fmt.Errorf("lethe: the forget is recorded as ledger entry %d and the key store will follow; call Forget again to see it done: %w", e.Seq, err)
	}
	return r, nil
}

// Readmit lets a forgotten subject come back: new data may be sealed for it,
// under new keys. What was forgotten stays forgotten.
//
// What a deferred forget of the subject left to its Residues is removed first, and a
// Residue that fails leaves the subject forgotten: afterwards nobody could tell what is
// left from what is new.
//
// Where several processes run, wait Options.CacheTTL after the Forget: until
// then another process may still seal under the dead key it holds, and such a
// record is lost.
func (k *Keyring) Readmit(ctx context.Context, s Subject) error {
	return k.readmit(ctx, s, 0)
}

// ReadmitPurpose is Readmit for one purpose: consent given again. It does not
// lift a Forget of the whole subject.
func (k *Keyring) ReadmitPurpose(ctx context.Context, s Subject, purpose string) error {
	_, ok := k.purposeID(purpose)
	_, tokensOK := k.purposeID(tokenPurpose + purpose)
	if !ok || !tokensOK { // another process may have made it
		if err := k.readPurposes(ctx); err != nil {
			return err
		}
	}
	// Also where the store does not have it: it may be from before the first use.
	if err := k.readmit(ctx, s, k.pidOf(tokenPurpose+purpose)); err != nil && !errors.Is(err, ErrNotForgotten) {
		return err
	}
	return k.readmit(ctx, s, k.pidOf(purpose))
}

func (k *Keyring) readmit(ctx context.Context, s Subject, pid PID) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if k.closed.Load() {
		return ErrClosed
	}
	if err := k.settleBefore(ctx, s, pid); err != nil {
		return err
	}
	ctx, cancel := k.bound(ctx, 4)
	defer cancel()
	k.forgetMu.Lock()
	defer k.forgetMu.Unlock()
	if err := k.catchUp(ctx); err != nil {
		return err
	}
	root, err := k.rootKey(ctx, false)
	if err != nil {
		return err
	}
	sref := k.sref(s.Tenant, s.Kind, s.ID)
	tombs, _, err := k.store.Evidence(ctx, k.tree, refVersion, []SRef{sref}, nil)
	if err != nil {
		return storeErr(err)
	}
	held := false
	for _, t := range tombs {
		if !t.Active() {
			continue
		}
		if pid != 0 && t.PID == 0 {
			return fmt.Errorf("lethe: the whole subject is forgotten: Readmit it instead: %w", ErrForgotten)
		}
		held = held || pid == 0 || t.PID == pid
	}
	if !held {
		return ErrNotForgotten
	}
	e := &LedgerEntry{Kind: LedgerReadmit, Tree: k.tree, Epoch: root.epoch, RefVer: refVersion, SRef: sref, PID: pid}
	if err := k.appendLedger(ctx, e); err != nil {
		return err
	}
	done, stop := k.bound(context.WithoutCancel(ctx), 2)
	defer stop()
	err = k.catchUp(done)
	k.lifted.Add(1)
	k.uncache(s, pid)
	if err != nil {
		return fmt.Errorf("lethe: the readmission is recorded as ledger entry %d and the key store will follow: %w", e.Seq, err)
	}
	return nil
}

func (k *Keyring) uncache(s Subject, pid PID) {
	for _, name := range k.purposeNames() {
		if pid == 0 || k.pidOf(name) == pid {
			k.cache.del(keyRef{s.Tenant, s.Kind, s.ID, name})
		}
	}
}

// Rotate makes a new version of every key of the subject. New records use it at
// once here and after at most Options.CacheTTL elsewhere; records sealed before
// open as they did, until RewrapRecords moves them to the new version. Keys of
// suspended purposes are left as they are; ErrSuspended if that is all of them.
func (k *Keyring) Rotate(ctx context.Context, s Subject) (versions int, err error) {
	if err := s.Validate(); err != nil {
		return 0, err
	}
	return k.rotate(ctx, s)
}

func (k *Keyring) rotate(ctx context.Context, s Subject) (versions int, err error) {
	if k.closed.Load() {
		return 0, ErrClosed
	}
	ctx, cancel := k.bound(ctx, 4)
	defer cancel()
	if err := k.catchUp(ctx); err != nil {
		return 0, err
	}
	sref := k.sref(s.Tenant, s.Kind, s.ID)
	for range loadAttempts {
		rows, _, err := k.store.Keys(ctx, k.tree, refVersion, []SRef{sref})
		if err != nil {
			return 0, storeErr(err)
		}
		if err := k.learnPurposes(ctx, rows); err != nil {
			return 0, err
		}
		if rows, err = k.withoutSuspended(sref, rows); err != nil {
			return 0, err
		}
		newest := map[PID]uint32{}
		for _, row := range rows {
			if !k.led.isDead(row.KID) {
				newest[row.PID] = max(newest[row.PID], row.Seq)
			}
		}
		if len(newest) == 0 {
			return 0, k.whyMissing(ctx, sref, 0)
		}
		var mints []mintReq
		for pid, seq := range newest {
			name, _ := k.purposeName(pid)
			kind := KindSubject
			if s.Kind == indexKind {
				kind = KindIndex
				if seq >= maxIndexVersion {
					return 0, fmt.Errorf("envelope: the index key has had %d versions: there can be no more", seq)
				}
			}
			mints = append(mints, mintReq{ref: keyRef{s.Tenant, s.Kind, s.ID, name}, sref: sref, kind: kind, seq: seq + 1})
		}
		forgotten, again, err := k.mint(ctx, mints, map[keyRef]*keySet{}, 0)
		k.uncache(s, 0)
		switch {
		case errors.Is(err, ErrStoreConflict) || errors.Is(err, errStalePage):
			if _, err := k.rootKey(ctx, true); err != nil {
				return 0, err
			}
			continue
		case err != nil:
			return 0, err
		case len(forgotten) > 0:
			return 0, ErrForgotten
		case again:
			continue
		}
		return len(mints), nil
	}
	return 0, fmt.Errorf("lethe: keys keep changing: %w", ErrUnavailable)
}

// whyMissing tells a forgotten subject from one this store never had.
func (k *Keyring) whyMissing(ctx context.Context, sref SRef, pid PID) error {
	tombs, _, err := k.store.Evidence(ctx, k.tree, refVersion, []SRef{sref}, nil)
	if err != nil {
		return storeErr(err)
	}
	if tombed(tombs, sref, pid) {
		return ErrForgotten
	}
	return ErrKeyMissing
}
