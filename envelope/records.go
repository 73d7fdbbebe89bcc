package envelope

import (
	"cmp"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/lethe-go/lethe/envelope/internal/wire"
)

// ErrScopes means that the header has scopes the caller does not know, so it cannot be
// extended: it was written by a newer version of the service.
var ErrScopes = errors.New("lethe: the record has data keys for groups or purposes this program does not declare; deploy the newest version everywhere first")

// work is the scratch memory of one call, reused so that a warm seal or open
// allocates little more than its result.
type work struct {
	refs   []keyRef
	sets   []*keySet
	hdr    wire.Header
	whose  *Record // the record hdr was parsed from by findOlder
	aad    []byte
	deks   [MaxScopes][keySize]byte
	aeads  [MaxScopes]cipher.AEAD
	scopes int            // the most scopes any record of the call has: deks and aeads beyond are unused
	order  [MaxScopes]int // positions in Record.Scopes, by ascending tag
	tags   [MaxScopes]uint16
	wraps  []byte
}

var workPool = sync.Pool{New: func() any { return &work{aad: make([]byte, 0, 512)} }}

func (w *work) release() {
	if n := w.scopes; n > 0 {
		clear(w.deks[:n])
		clear(w.aeads[:n])
	}
	clear(w.refs)
	clear(w.sets)
	clear(w.hdr.Scopes)
	w.whose, w.scopes = nil, 0
	w.refs, w.sets, w.hdr.Scopes, w.wraps = w.refs[:0], w.sets[:0], w.hdr.Scopes[:0], w.wraps[:0]
	workPool.Put(w)
}

// check validates what a program declared.
func (w *work) check(r *Record) error {
	if r.Name == "" || len(r.Scopes) == 0 || len(r.Scopes) > MaxScopes {
		return fmt.Errorf("envelope: a record needs a name and 1 to %d scopes, %q has %d", MaxScopes, r.Name, len(r.Scopes))
	}
	if err := validName("record name", r.Name); err != nil {
		return err
	}
	if r.Bound {
		if r.RowID == "" {
			return fmt.Errorf("%w: the row id is empty: set it before the record is sealed (an id the database draws comes too late)", ErrNoSubject)
		}
		if err := validName("row id", r.RowID); err != nil {
			return err
		}
	}
	n := len(r.Scopes)
	for i := range r.Scopes {
		if err := validName("group", r.Scopes[i].Group); err != nil {
			return err
		}
		if err := validName("purpose", r.Scopes[i].Purpose); err != nil {
			return err
		}
	}
	w.arrange(r)
	if n > 1 {
		for i := 1; i < n; i++ {
			if w.tags[w.order[i]] == w.tags[w.order[i-1]] {
				a, b := r.Scopes[w.order[i-1]], r.Scopes[w.order[i]]
				return fmt.Errorf("envelope: scopes (%q, %q) and (%q, %q) of record %q have the same tag: rename one", a.Group, a.Purpose, b.Group, b.Purpose, r.Name)
			}
		}
	}
	for i := range r.Cells {
		c := &r.Cells[i]
		if c.Scope < 0 || c.Scope >= n || c.Field == "" || c.Codec > 15 {
			return fmt.Errorf("envelope: cell %d of record %q: bad scope, field name or codec", i, r.Name)
		}
		if err := validName("field name", c.Field); err != nil {
			return err
		}
	}
	return nil
}

// arrange orders the scopes of a checked record by tag.
func (w *work) arrange(r *Record) {
	n := len(r.Scopes)
	w.scopes = max(w.scopes, n)
	for i := range r.Scopes {
		w.order[i], w.tags[i] = i, scopeTag(r.Scopes[i].Group, r.Scopes[i].Purpose)
	}
	if n > 1 {
		slices.SortFunc(w.order[:n], func(a, b int) int { return cmp.Compare(w.tags[a], w.tags[b]) })
	}
}

// prepare resolves the keys of the wanted scopes, in the order of the scopes of
// all records; the others get nil. A subject that breaks the rules fails the
// call, or gets nil if skip.
func (k *Keyring) prepare(ctx context.Context, w *work, recs []Record, mint, skip bool, want func(r *Record, scope int) bool) error {
	for i := range recs {
		for j := range recs[i].Scopes {
			s := &recs[i].Scopes[j]
			if !want(&recs[i], j) {
				w.refs = append(w.refs, keyRef{})
				continue
			}
			if err := s.Subject.Validate(); err != nil {
				if !skip {
					return fmt.Errorf("record %d (%s), group %q: %w", i, recs[i].Name, s.Group, err)
				}
				w.refs = append(w.refs, keyRef{})
				continue
			}
			w.refs = append(w.refs, keyRef{s.Subject.Tenant, s.Subject.Kind, s.Subject.ID, s.Purpose})
		}
	}
	w.sets = slices.Grow(w.sets[:0], len(w.refs))[:len(w.refs)]
	return k.acquire(ctx, w.refs, w.sets, mint)
}

func hasCells(r *Record, scope int) bool {
	for i := range r.Cells {
		if r.Cells[i].Scope == scope {
			return true
		}
	}
	return false
}

// SealRecords seals every cell of every record: Cells[i].Plain becomes
// Cells[i].Sealed, of Plain plus 29 bytes (suite 1).
//
// A record without a Header is new: every scope gets a data key, wrapped in the
// new Header (3 + 107 bytes per scope in suite 1). A record with a Header keeps
// its data keys; scopes it lacks are added, which changes the Header. Keys of
// all records are fetched, and made where missing, in one batch.
//
// It is all or nothing: after an error the outputs mean nothing. ErrForgotten:
// a subject was forgotten. ErrNoSubject: a scope has none. ErrUnavailable: retry.
func (k *Keyring) SealRecords(ctx context.Context, recs []Record) error {
	w, _ := workPool.Get().(*work)
	defer w.release()
	for i := range recs {
		if err := w.check(&recs[i]); err != nil {
			return err
		}
		for j := range recs[i].Cells {
			if n := len(recs[i].Cells[j].Plain); n > MaxCell {
				return fmt.Errorf("envelope: field %q of record %d is %d bytes, at most %d are allowed", recs[i].Cells[j].Field, i, n, MaxCell)
			}
		}
	}
	want := func(r *Record, scope int) bool {
		return len(r.Header) == 0 || hasCells(r, scope) || r.Scopes[scope].Subject.ID != ""
	}
	if err := k.prepare(ctx, w, recs, true, false, want); err != nil {
		return err
	}
	if err := k.findOlder(ctx, w, recs); err != nil {
		return err
	}
	at := 0
	for i := range recs {
		r := &recs[i]
		sets := w.sets[at : at+len(r.Scopes)]
		at += len(r.Scopes)
		if err := k.sealRecord(w, r, sets); err != nil {
			return fmt.Errorf("record %d (%s): %w", i, r.Name, err)
		}
	}
	return nil
}

func (k *Keyring) sealRecord(w *work, r *Record, sets []*keySet) error {
	w.arrange(r)
	changed := true
	if len(r.Header) == 0 {
		if err := k.mintDEKs(w, r, sets); err != nil {
			return err
		}
	} else {
		var err error
		if changed, err = k.reuseDEKs(w, r, sets); err != nil {
			return err
		}
	}
	suite := Suite(w.hdr.CellSuite)
	size := 0
	if changed {
		size = w.hdr.Len()
	}
	for i := range r.Cells {
		size += 1 + suite.overhead() + len(r.Cells[i].Plain)
	}
	out := make([]byte, 0, size)
	if changed {
		out = w.hdr.Append(out)
		r.Header = slices.Clip(out)
	}
	w.aad = appendCellContext(w.aad[:0], suite, r.Name)
	for i := range r.Cells {
		c := &r.Cells[i]
		start := len(out)
		b0 := wire.CellByte0(c.Codec)
		out = append(out, b0)
		out = suite.seal(w.aeads[c.Scope], out, c.Plain, cellAAD(w.aad, b0, c.Field))
		c.Sealed, c.Err = out[start:len(out):len(out)], nil
	}
	return nil
}

// mintDEKs draws a data key per scope and wraps each: w.hdr and w.aeads.
func (k *Keyring) mintDEKs(w *work, r *Record, sets []*keySet) error {
	n := len(r.Scopes)
	w.hdr.CellSuite, w.hdr.Flags = byte(k.opts.Suite), 0
	if r.Bound {
		w.hdr.Flags = wire.FlagRowID
	}
	w.hdr.Scopes = slices.Grow(w.hdr.Scopes[:0], n)[:n]
	for pos, i := range w.order[:n] {
		if sets[i] == nil || sets[i].forgotten {
			return forgottenOrMissing(sets[i])
		}
		rand.Read(w.deks[i][:])
		w.hdr.Scopes[pos] = wire.Scope{Tag: w.tags[i], Commit: dekCommit(k.opts.Suite, w.deks[i][:])}
		var err error
		if w.aeads[i], err = k.opts.Suite.aead(w.deks[i][:]); err != nil {
			return err
		}
	}
	return k.wrapDEKs(w, r, sets)
}

// wrapDEKs wraps w.deks into w.hdr under the newest subject keys.
func (k *Keyring) wrapDEKs(w *work, r *Record, sets []*keySet) error {
	rd := recordDigest(&w.hdr)
	bound := w.hdr.Flags&wire.FlagRowID != 0
	w.wraps = w.wraps[:0]
	for pos, i := range w.order[:len(r.Scopes)] {
		key := sets[i].newest()
		s := &w.hdr.Scopes[pos]
		s.WrapSuite, s.KID = byte(key.suite), key.kid
		w.aad = appendDEKAAD(w.aad[:0], k.id, key.suite, key.kid, &r.Scopes[i], r.Name, bound, r.RowID, &rd)
		start := len(w.wraps)
		w.wraps = key.suite.seal(key.aead, w.wraps, w.deks[i][:], w.aad)
		s.Wrap = w.wraps[start:len(w.wraps):len(w.wraps)]
		key.countWrap(s.Wrap)
	}
	return nil
}

// countWrap retires a key from sealing after an expected 2^24 wraps, whoever
// made them: one wrap in 2^24, told by its random nonce, marks the key spent.
// No counter is stored, and the chance to pass 2^30 wraps is below e^-64.
func (s *subjectKey) countWrap(wrap []byte) {
	if wrap[0] == 0 && wrap[1] == 0 && wrap[2] == 0 {
		s.spent.Store(true)
	}
}

// reuseDEKs opens the data keys of a stored header for the scopes to be sealed.
// If the record has scopes the header lacks, it makes a new header with all.
func (k *Keyring) reuseDEKs(w *work, r *Record, sets []*keySet) (changed bool, err error) {
	if err := wire.ParseHeader(r.Header, &w.hdr); err != nil {
		return false, fmt.Errorf("the stored keys of the record are damaged: %w", ErrDecrypt)
	}
	var used uint32
	for i := range r.Cells {
		used |= 1 << r.Cells[i].Scope
	}
	var have uint32
	rd := recordDigest(&w.hdr)
	for i := range r.Scopes {
		if headerScope(&w.hdr, w.tags[i]) >= 0 {
			have |= 1 << i
		}
	}
	grow := used&^have != 0
	for i := range r.Scopes {
		if have>>i&1 == 0 || used>>i&1 == 0 && !grow {
			continue
		}
		if err := k.openDEK(w, r, i, sets[i], &rd); err != nil {
			return false, fmt.Errorf("group %q, purpose %q: %w", r.Scopes[i].Group, r.Scopes[i].Purpose, err)
		}
	}
	if !grow {
		return false, nil
	}
	if bits.OnesCount32(have) != len(w.hdr.Scopes) {
		return false, ErrScopes
	}
	suite := Suite(w.hdr.CellSuite)
	scopes := make([]wire.Scope, len(r.Scopes))
	for pos, i := range w.order[:len(r.Scopes)] {
		if sets[i] == nil || sets[i].forgotten {
			return false, forgottenOrMissing(sets[i])
		}
		if have>>i&1 == 0 {
			rand.Read(w.deks[i][:])
			if w.aeads[i], err = suite.aead(w.deks[i][:]); err != nil {
				return false, err
			}
		}
		scopes[pos] = wire.Scope{Tag: w.tags[i], Commit: dekCommit(suite, w.deks[i][:])}
	}
	w.hdr.Scopes = scopes
	return true, k.wrapDEKs(w, r, sets)
}

func headerScope(h *wire.Header, tag uint16) int {
	for i := range h.Scopes {
		if h.Scopes[i].Tag == tag {
			return i
		}
	}
	return -1
}

func forgottenOrMissing(s *keySet) error {
	if s != nil && s.forgotten {
		return ErrForgotten
	}
	return ErrKeyMissing
}

// openDEK unwraps the data key of scope i into w.deks and w.aeads.
func (k *Keyring) openDEK(w *work, r *Record, i int, set *keySet, rd *[32]byte) error {
	pos := headerScope(&w.hdr, w.tags[i])
	if pos < 0 {
		return ErrDecrypt
	}
	s := &w.hdr.Scopes[pos]
	var key *subjectKey
	if set != nil {
		key = set.byKID(s.KID)
	}
	if key == nil {
		if set != nil && set.forgotten || k.led.isDead(s.KID) {
			return ErrForgotten
		}
		return ErrKeyMissing
	}
	bound := w.hdr.Flags&wire.FlagRowID != 0
	if byte(key.suite) != s.WrapSuite || bound && !r.Bound {
		return ErrDecrypt
	}
	rowID := r.RowID
	if !bound {
		rowID = ""
	}
	w.aad = appendDEKAAD(w.aad[:0], k.id, key.suite, key.kid, &r.Scopes[i], r.Name, bound, rowID, rd)
	dek, err := key.suite.open(key.aead, w.deks[i][:0], s.Wrap, w.aad)
	if err != nil || len(dek) != keySize {
		return ErrDecrypt
	}
	commit := dekCommit(Suite(w.hdr.CellSuite), dek)
	if subtle.ConstantTimeCompare(commit[:], s.Commit[:]) != 1 {
		return ErrDecrypt
	}
	w.aeads[i], err = Suite(w.hdr.CellSuite).aead(dek)
	return err
}

// findOlder reloads the keys of scopes whose header names a version this
// process has not seen, which another made after ours was cached, and asks for
// evidence of those that are nowhere.
func (k *Keyring) findOlder(ctx context.Context, w *work, recs []Record) error {
	at := 0
	var stale []int
	var refs []keyRef
	var srefs []SRef
	var lost, gone []KeyID
	for i := range recs {
		r := &recs[i]
		base := at
		at = base + len(r.Scopes)
		w.whose = nil
		if len(r.Header) == 0 || wire.ParseHeader(r.Header, &w.hdr) != nil {
			continue
		}
		w.whose = r
		for j := range r.Scopes {
			pos := headerScope(&w.hdr, scopeTag(r.Scopes[j].Group, r.Scopes[j].Purpose))
			if pos < 0 {
				continue
			}
			set := w.sets[base+j]
			kid := w.hdr.Scopes[pos].KID
			ref := &w.refs[base+j]
			switch {
			case ref.kind == "" || set != nil && (set.forgotten || set.byKID(kid) != nil) || k.led.isDead(kid):
			case set == nil: // just read: there is no key at all
				gone, srefs = append(gone, kid), append(srefs, k.sref(ref.tenant, ref.kind, ref.id))
			default:
				stale, refs, lost = append(stale, base+j), append(refs, *ref), append(lost, kid)
			}
		}
	}
	if len(stale)+len(gone) == 0 {
		return nil
	}
	for i := range refs {
		k.cache.del(refs[i])
	}
	sets := make([]*keySet, len(refs))
	if err := k.acquire(ctx, refs, sets, false); err != nil {
		return err
	}
	for i, at := range stale {
		w.sets[at] = sets[i]
		if sets[i] == nil || !sets[i].forgotten && sets[i].byKID(lost[i]) == nil {
			gone = append(gone, lost[i])
			srefs = append(srefs, k.sref(refs[i].tenant, refs[i].kind, refs[i].id))
		}
	}
	if len(gone) == 0 {
		return nil
	}
	_, dead, err := k.store.Evidence(ctx, k.tree, refVersion, srefs, gone)
	if err != nil {
		return storeErr(err)
	}
	k.led.addDead(dead)
	return nil
}

// OpenRecords opens every cell it can: Cells[i].Sealed becomes Cells[i].Plain
// and Codec, or Cells[i].Err says why not (ErrForgotten, ErrKeyMissing,
// ErrDecrypt), as does Scopes[i].Err for a whole scope. Keys of all records are
// fetched in one batch. Scopes without cells are not touched.
//
// The error is for the call as a whole: ErrUnavailable, or the context's. Then
// the outputs mean nothing.
func (k *Keyring) OpenRecords(ctx context.Context, recs []Record) error {
	w, _ := workPool.Get().(*work)
	defer w.release()
	for i := range recs {
		if err := w.check(&recs[i]); err != nil {
			return err
		}
	}
	if err := k.prepare(ctx, w, recs, false, true, hasCells); err != nil {
		return err
	}
	if err := k.findOlder(ctx, w, recs); err != nil {
		return err
	}
	at := 0
	for i := range recs {
		r := &recs[i]
		w.arrange(r)
		k.openRecord(w, r, w.sets[at:at+len(r.Scopes)])
		at += len(r.Scopes)
	}
	return nil
}

func (k *Keyring) openRecord(w *work, r *Record, sets []*keySet) {
	var used uint32
	total := 0
	for i := range r.Cells {
		used |= 1 << r.Cells[i].Scope
		total += len(r.Cells[i].Sealed)
	}
	damaged := w.whose != r && wire.ParseHeader(r.Header, &w.hdr) != nil
	w.whose = nil
	var rd [32]byte
	if !damaged {
		rd = recordDigest(&w.hdr)
	}
	for i := range r.Scopes {
		s := &r.Scopes[i]
		s.Err = nil
		switch {
		case used>>i&1 == 0:
		case damaged:
			s.Err = ErrDecrypt
		default:
			if s.Err = k.openDEK(w, r, i, sets[i], &rd); s.Err != nil {
				if err := s.Subject.Validate(); err != nil {
					s.Err = err
				}
			}
		}
	}
	out := make([]byte, 0, total)
	suite := Suite(w.hdr.CellSuite)
	w.aad = appendCellContext(w.aad[:0], suite, r.Name)
	for i := range r.Cells {
		c := &r.Cells[i]
		c.Plain, c.Err = nil, r.Scopes[c.Scope].Err
		if c.Err != nil {
			continue
		}
		b0, body, err := wire.ParseCell(c.Sealed, w.hdr.CellSuite)
		if err != nil {
			c.Err = ErrDecrypt
			continue
		}
		start := len(out)
		opened, err := suite.open(w.aeads[c.Scope], out, body, cellAAD(w.aad, b0, c.Field))
		if err != nil {
			c.Err = ErrDecrypt
			continue
		}
		out = opened
		c.Plain, c.Codec = out[start:len(out):len(out)], b0&15
	}
}

// RewrapRecords moves the data keys of records under the newest subject keys.
// Cells are not touched and stay valid. changed counts the records whose Header
// is new; forgotten scopes are left as they are. Records with nothing to do
// cost no crypto. Errors as for SealRecords, ErrKeyMissing for a key this store
// does not have, and ErrDecrypt for a damaged header.
func (k *Keyring) RewrapRecords(ctx context.Context, recs []Record) (changed int, err error) {
	w, _ := workPool.Get().(*work)
	defer w.release()
	for i := range recs {
		if err := w.check(&recs[i]); err != nil {
			return 0, err
		}
		if len(recs[i].Header) == 0 {
			return 0, fmt.Errorf("envelope: record %d (%s) has no header: it was never sealed", i, recs[i].Name)
		}
	}
	if err := k.prepare(ctx, w, recs, false, false, func(r *Record, scope int) bool { return r.Scopes[scope].Subject.ID != "" }); err != nil {
		return 0, err
	}
	if err := k.findOlder(ctx, w, recs); err != nil {
		return 0, err
	}
	at := 0
	for i := range recs {
		r := &recs[i]
		w.arrange(r)
		done, err := k.rewrapRecord(w, r, w.sets[at:at+len(r.Scopes)])
		if err != nil {
			return changed, fmt.Errorf("record %d (%s): %w", i, r.Name, err)
		}
		if done {
			changed++
		}
		at += len(r.Scopes)
	}
	return changed, nil
}

func (k *Keyring) rewrapRecord(w *work, r *Record, sets []*keySet) (bool, error) {
	if err := wire.ParseHeader(r.Header, &w.hdr); err != nil {
		return false, fmt.Errorf("the stored keys of the record are damaged: %w", ErrDecrypt)
	}
	rd := recordDigest(&w.hdr)
	bound := w.hdr.Flags&wire.FlagRowID != 0
	changed := false
	w.wraps = slices.Grow(w.wraps[:0], MaxScopes*80)
	for i := range r.Scopes {
		pos := headerScope(&w.hdr, w.tags[i])
		if pos < 0 || r.Scopes[i].Subject.ID == "" {
			continue
		}
		s := &w.hdr.Scopes[pos]
		if k.led.isDead(s.KID) || sets[i] != nil && sets[i].forgotten {
			continue
		}
		if sets[i] == nil {
			return false, ErrKeyMissing
		}
		key := sets[i].newest()
		if key.kid == s.KID {
			continue
		}
		if err := k.openDEK(w, r, i, sets[i], &rd); err != nil {
			return false, err
		}
		rowID := r.RowID
		if !bound {
			rowID = ""
		}
		s.WrapSuite, s.KID = byte(key.suite), key.kid
		w.aad = appendDEKAAD(w.aad[:0], k.id, key.suite, key.kid, &r.Scopes[i], r.Name, bound, rowID, &rd)
		start := len(w.wraps)
		w.wraps = key.suite.seal(key.aead, w.wraps, w.deks[i][:], w.aad)
		s.Wrap = w.wraps[start:len(w.wraps):len(w.wraps)]
		key.countWrap(s.Wrap)
		changed = true
	}
	if changed {
		r.Header = w.hdr.Append(make([]byte, 0, w.hdr.Len()))
	}
	return changed, nil
}
