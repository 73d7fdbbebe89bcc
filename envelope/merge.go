package envelope

import (
	"context"
	"errors"
	"fmt"

	"github.com/lethe-go/lethe/envelope/internal/wire"
)

// MoveRecords moves records from one subject to another: two accounts become one,
// or a subject's id is renamed. The scopes of recs name the new owner. A data key
// that is wrapped under a key of from is wrapped under the newest key of its
// scope's subject, which is made if need be; the others (of a record that is about
// two people) and those moved before are left as they are. Cells are not touched.
//
// Only the Headers change, of all records or, after an error, of none. For each
// batch, in a transaction of the application:
//
//	read the rows of from, with a lock
//	MoveRecords(ctx, from, recs)     // the scopes of recs say to
//	write the rows: the new Header, and to in the place of from
//
// The row id of a record stays, or is renamed with the subject: a record whose RowID
// is now the id of its scope's subject may have had that of from.
//
// Then, when no row of from is left and no process writes new ones:
//
//	Forget(ctx, from)                // copies of the old headers die with it
//
// A move that was interrupted is taken up with the rows that are left. The ledger
// records once that records of from went to a subject. Tokens and blind indexes are
// not part of a record: Detokenize the values and tokenize them anew; index values
// do not depend on the subject and stay.
//
// ErrForgotten or ErrSuspended: one of the two subjects is, or the purpose of a
// scope; what was forgotten of others is left as it is. ErrDecrypt: a header is
// damaged, or of another row. ErrKeyMissing: a header names a key of neither. A subject that is held moves only to one that is
// held as long, and both must be of one tenant.
func (k *Keyring) MoveRecords(ctx context.Context, from Subject, recs []Record) error {
	if err := from.Validate(); err != nil {
		return err
	}
	if k.closed.Load() {
		return ErrClosed
	}
	w, _ := workPool.Get().(*work)
	defer w.release()
	if err := w.check(recs); err != nil {
		return err
	}
	old := make([]Record, len(recs)) // as they were sealed, but for what is not of from
	for i := range recs {
		if len(recs[i].Header) == 0 {
			return fmt.Errorf("envelope: record %d (%s) has no header: it was never sealed", i, w.shapes[i].record)
		}
		old[i] = recs[i]
		old[i].Scopes = append([]Scope(nil), recs[i].Scopes...)
		for j := range old[i].Scopes {
			s := &old[i].Scopes[j].Subject
			if s.ID == "" {
				continue
			}
			if s.Tenant != from.Tenant {
				return fmt.Errorf("envelope: record %d (%s): a record cannot be moved to another tenant: open it and seal it there", i, w.shapes[i].record)
			}
			*s = from
		}
	}
	var fewOld, fewNew fewKeys
	theirs, err := k.prepare(ctx, w, old, toRewrap, keys{fewOld.refs[:0], fewOld.sets[:0]})
	if err != nil {
		return err
	}
	ours, err := k.prepare(ctx, w, recs, toSeal, keys{fewNew.refs[:0], fewNew.sets[:0]})
	if err != nil {
		return err
	}
	headers := make([][]byte, len(recs))
	moved := map[Subject]*taken{}
	at := 0
	for i := range recs {
		n := len(recs[i].Scopes)
		headers[i], err = k.moveRecord(w, w.shapes[i], &old[i], &recs[i], theirs.sets[at:at+n], ours.sets[at:at+n], moved)
		if err != nil {
			return fmt.Errorf("record %d (%s): %w", i, w.shapes[i].record, err)
		}
		at += n
	}
	for to, what := range moved { // before anybody has the headers
		if err := k.recordMove(ctx, from, to, what); err != nil {
			return err
		}
	}
	for i := range recs {
		if headers[i] != nil {
			recs[i].Header = headers[i]
		}
	}
	return nil
}

// taken is what one subject takes over: the purposes, and the keys of both subjects
// that it was done with.
type taken struct {
	purposes map[string]struct{}
	kids     map[KeyID]struct{}
}

// moveRecord returns the new header, nil if it did not change, and adds to moved to
// whom scopes went.
func (k *Keyring) moveRecord(w *work, sh *shape, old, r *Record, theirs, ours []*keySet, moved map[Subject]*taken) ([]byte, error) {
	if err := wire.ParseHeader(r.Header, &w.hdr); err != nil {
		return nil, fmt.Errorf("the stored keys of the record are damaged: %w", ErrDecrypt)
	}
	rd := recordDigest(&w.hdr)
	from, others := uint32(0), uint32(0) // scopes to move, and those of others
	owner := -1                          // a scope to move whose new subject is the row
	var kept error                       // why a scope of another cannot be wrapped anew
	for i := range r.Scopes {
		pos := headerScope(&w.hdr, sh.scopes[i].tag)
		if pos < 0 || r.Scopes[i].Subject.ID == "" {
			continue
		}
		kid := w.hdr.Scopes[pos].KID
		switch {
		case ours[i] != nil && ours[i].byKID(kid) != nil:
			others |= 1 << i
		case theirs[i] != nil && theirs[i].forgotten:
			return nil, forgottenOrMissing(theirs[i])
		case theirs[i] != nil && theirs[i].byKID(kid) != nil:
			if ours[i] == nil || ours[i].forgotten {
				return nil, forgottenOrMissing(ours[i])
			}
			from |= 1 << i
			if r.Bound && r.Scopes[i].Subject.ID == r.RowID {
				owner = i
			}
		case ours[i] != nil && ours[i].suspended:
			kept = ErrSuspended
		case ours[i] != nil && ours[i].forgotten || k.led.isDead(kid): // nobody's any more
		default:
			return nil, ErrKeyMissing
		}
	}
	if from == 0 {
		return nil, nil
	}
	if owner >= 0 && w.hdr.Flags&wire.FlagRowID != 0 {
		// The subject's own row: its row id was from's id, unless the rows keep theirs.
		if err := k.openDEK(w, sh, old, owner, theirs[owner], &rd); errors.Is(err, ErrDecrypt) {
			old.RowID = old.Scopes[owner].Subject.ID
		}
	}
	for i := range r.Scopes {
		if from>>i&1 == 0 {
			continue
		}
		if err := k.openDEK(w, sh, old, i, theirs[i], &rd); err != nil {
			return nil, err
		}
		s := &r.Scopes[i]
		to := moved[s.Subject]
		if to == nil {
			to = &taken{map[string]struct{}{}, map[KeyID]struct{}{}}
			moved[s.Subject] = to
		}
		to.purposes[s.Purpose] = struct{}{}
		to.kids[w.hdr.Scopes[headerScope(&w.hdr, sh.scopes[i].tag)].KID] = struct{}{}
		to.kids[ours[i].newest.kid] = struct{}{}
	}
	if old.RowID != r.RowID { // every data key is bound to it
		if kept != nil {
			return nil, kept
		}
		if err := k.openOthers(w, sh, old, r, ours, others, &rd); err != nil {
			return nil, err
		}
		from |= others
	}
	k.wrapScopes(w, sh, r, ours, from, &rd)
	return w.hdr.Append(make([]byte, 0, w.hdr.Len())), nil
}

// openOthers opens the data keys of scopes that stay with their subjects, under the
// row id the record had.
func (k *Keyring) openOthers(w *work, sh *shape, old, r *Record, ours []*keySet, others uint32, rd *[32]byte) error {
	known := 0
	for i := range r.Scopes {
		if headerScope(&w.hdr, sh.scopes[i].tag) >= 0 && r.Scopes[i].Subject.ID != "" {
			known++
		}
	}
	if known != len(w.hdr.Scopes) {
		return ErrScopes // one that is not known here would never open again
	}
	was := *r
	was.RowID = old.RowID
	for i := range r.Scopes {
		if others>>i&1 == 0 {
			continue
		}
		if err := k.openDEK(w, sh, &was, i, ours[i], rd); err != nil {
			return err
		}
	}
	return nil
}

// wrapScopes wraps the data keys of some scopes under the newest keys of their subjects.
func (k *Keyring) wrapScopes(w *work, sh *shape, r *Record, sets []*keySet, scopes uint32, rd *[32]byte) {
	bound := w.hdr.Flags&wire.FlagRowID != 0
	rowID := r.RowID
	if !bound {
		rowID = ""
	}
	for i := range r.Scopes {
		if scopes>>i&1 == 0 {
			continue
		}
		key, s := &sets[i].newest, &w.hdr.Scopes[headerScope(&w.hdr, sh.scopes[i].tag)]
		s.WrapSuite, s.KID = byte(key.suite), key.kid
		w.aad = appendDEKAAD(w.aad[:0], k.id, key.suite, key.kid, &r.Scopes[i].Subject, sh.scopes[i].names, bound, rowID, rd)
		w.wrap = key.suite.seal(key.aead, w.wrap[:0], w.deks[i][:], w.aad)
		s.SetWrap(w.wrap)
		sets[i].countWrap(w.wrap)
	}
}

// recordMove judges a move by the ledger's newest entries, and appends its entry
// unless there is one. The keys it was done with may come from the cache: what
// another process has forgotten or suspended since must not go on under other keys.
func (k *Keyring) recordMove(ctx context.Context, from, to Subject, what *taken) error {
	ctx, cancel := k.bound(ctx, 2)
	defer cancel()
	m := moving{k.party(from), k.party(to)}
	e := &LedgerEntry{Kind: LedgerMove, Tree: k.tree, RefVer: m.from.refVer, SRef: m.from.sref, To: m.to.sref}
	return unlessUnchanged(k.appendLedgerIf(ctx, e, func() error {
		for _, p := range []party{m.from, m.to} {
			if k.led.forbids(p.sref, 0) {
				return fmt.Errorf("lethe: one of the two subjects of the move: %w", ErrForgotten)
			}
			if k.led.suspends(p) {
				return fmt.Errorf("lethe: one of the two subjects of the move: %w", ErrSuspended)
			}
			for purpose := range what.purposes {
				if k.led.forbids(p.sref, k.pidOf(purpose)) {
					return fmt.Errorf("lethe: a purpose of one of the two subjects of the move: %w", ErrForgotten)
				}
				if k.suspended(p, purpose) {
					return fmt.Errorf("lethe: a purpose of one of the two subjects of the move: %w", ErrSuspended)
				}
			}
		}
		for kid := range what.kids {
			if k.led.isDead(kid) {
				return fmt.Errorf("lethe: a key of the move: %w", ErrForgotten)
			}
		}
		theirs, now := k.restraintNow(m.from)
		ours, _ := k.restraintNow(m.to)
		end, forever, held := theirs.heldUntil(now)
		ourEnd, ourForever, alsoHeld := ours.heldUntil(now)
		if held && (!alsoHeld || !ourForever && (forever || ourEnd < end)) {
			return errors.New("lethe: the subject is held and the one its records would move to is not, or not as long: Hold that one first")
		}
		k.led.mu.RLock()
		defer k.led.mu.RUnlock()
		if _, already := k.led.moved[m]; already {
			return errUnchanged
		}
		return nil
	}))
}
