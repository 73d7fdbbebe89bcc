package envelope

import (
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
	kept   [keptShapes]*shape
	oldest int
	shapes []*shape // per record
	hdr    wire.Header
	parsed int // findOlder parsed hdr from this record; -1: none
	random randomness
	aad    []byte
	deks   [MaxScopes][keySize]byte
	aeads  [MaxScopes]cipher.AEAD
	scopes int // the most scopes any record of the call has: deks and aeads beyond are unused
	wrap   []byte
}

var workPool = sync.Pool{New: func() any { return &work{aad: make([]byte, 0, 512)} }}

func (w *work) release() {
	if n := w.scopes; n > 0 {
		clear(w.deks[:n])
		clear(w.aeads[:n])
	}
	w.scopes = 0
	w.random.drop()
	w.shapes = w.shapes[:0]
	workPool.Put(w)
}

// check validates what a program declared, and finds the shapes of its records.
func (w *work) check(recs []Record) error {
	for i := range recs {
		r := &recs[i]
		s, err := w.shapeOf(r)
		if err != nil {
			return err
		}
		w.shapes = append(w.shapes, s)
		w.scopes = max(w.scopes, len(r.Scopes))
		if r.Bound {
			if r.RowID == "" {
				return fmt.Errorf("%w: the row id is empty: set it before the record is sealed (an id the database draws comes too late)", ErrNoSubject)
			}
			if err := validName("row id", r.RowID); err != nil {
				return err
			}
		}
	}
	return nil
}

// wanted says which scopes of its records a call needs keys for.
type wanted uint8

const (
	toSeal   wanted = iota // all of a new record; of another those with cells or a subject
	toOpen                 // those with cells
	toRewrap               // those with a subject
)

func (want wanted) scope(sh *shape, r *Record, i int) bool {
	switch want {
	case toSeal:
		return len(r.Header) == 0 || sh.uses(i) || r.Scopes[i].Subject.ID != ""
	case toOpen:
		return sh.uses(i)
	default:
		return r.Scopes[i].Subject.ID != ""
	}
}

// keys are the subject keys of a call, in the order of the scopes of all its records.
type keys struct {
	refs []keyRef
	sets []*keySet
}

// fewKeys is room for the keys of a call on the stack, which most calls fit in.
type fewKeys struct {
	refs [4]keyRef
	sets [4]*keySet
}

// prepare resolves the keys of the wanted scopes; the others get nil. A subject
// that breaks the rules fails the call, or gets nil when opening.
func (k *Keyring) prepare(ctx context.Context, w *work, recs []Record, want wanted, got keys) (keys, error) {
	for i := range recs {
		sh := w.shapes[i]
		for j := range recs[i].Scopes {
			s := &recs[i].Scopes[j]
			ref := keyRef{}
			if want.scope(sh, &recs[i], j) {
				err := s.Subject.Validate()
				if err != nil && want != toOpen {
					return got, fmt.Errorf("record %d (%s), group %q: %w", i, sh.record, sh.scopes[j].group, err)
				}
				if err == nil {
					ref = keyRef{s.Subject.Tenant, s.Subject.Kind, s.Subject.ID, s.Purpose}
				}
			}
			got.refs = append(got.refs, ref)
		}
	}
	if n := len(got.refs); n <= cap(got.sets) {
		got.sets = got.sets[:n]
	} else {
		got.sets = make([]*keySet, n)
	}
	if err := k.acquire(ctx, got.refs, got.sets, want == toSeal); err != nil {
		return got, err
	}
	if want != toOpen {
		for _, set := range got.sets {
			if err := set.damage(); err != nil {
				return got, err
			}
		}
	}
	return got, k.findOlder(ctx, w, recs, got)
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
// a subject was forgotten. ErrSuspended: one is suspended. ErrNoSubject: a scope
// has none. ErrUnavailable: retry.
func (k *Keyring) SealRecords(ctx context.Context, recs []Record) error {
	headers := make([][]byte, len(recs))
	if err := k.SealRecordsTo(ctx, recs, headers); err != nil {
		return err
	}
	for i := range recs {
		if headers[i] != nil {
			recs[i].Header = headers[i]
		}
	}
	return nil
}

// SealRecordsTo is SealRecords, but puts new headers into headers, one per
// record and nil where it did not change, instead of the records: these can then
// lie on the caller's stack.
func (k *Keyring) SealRecordsTo(ctx context.Context, recs []Record, headers [][]byte) error {
	if len(headers) != len(recs) {
		return fmt.Errorf("envelope: %d headers for %d records", len(headers), len(recs))
	}
	w, _ := workPool.Get().(*work)
	defer w.release()
	if err := w.check(recs); err != nil {
		return err
	}
	for i := range recs {
		for j := range recs[i].Cells {
			c := &recs[i].Cells[j]
			if n := len(c.Plain); n > MaxCell {
				return fmt.Errorf("envelope: field %q of record %d is %d bytes, at most %d are allowed", c.Field, i, n, MaxCell)
			}
			if c.Codec > 15 {
				return fmt.Errorf("envelope: field %q of record %d has codec %d, 0 to 15 are allowed", c.Field, i, c.Codec)
			}
		}
	}
	var few fewKeys
	got, err := k.prepare(ctx, w, recs, toSeal, keys{few.refs[:0], few.sets[:0]})
	if err != nil {
		return err
	}
	at := 0
	for i := range recs {
		r := &recs[i]
		sets := got.sets[at : at+len(r.Scopes)]
		at += len(r.Scopes)
		if headers[i], err = k.sealRecord(w, w.shapes[i], r, sets); err != nil {
			return fmt.Errorf("record %d (%s): %w", i, w.shapes[i].record, err)
		}
	}
	return nil
}

// sealRecord seals the cells and returns the header, nil if it did not change.
func (k *Keyring) sealRecord(w *work, sh *shape, r *Record, sets []*keySet) ([]byte, error) {
	changed := true
	if len(r.Header) == 0 {
		if err := k.mintDEKs(w, sh, r, sets); err != nil {
			return nil, err
		}
	} else {
		var err error
		if changed, err = k.reuseDEKs(w, sh, r, sets); err != nil {
			return nil, err
		}
		w.random.draw(len(r.Cells) * Suite(w.hdr.CellSuite).drawn())
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
	var header []byte
	if changed {
		out = w.hdr.Append(out)
		header = slices.Clip(out)
	}
	for i := range r.Cells {
		c := &r.Cells[i]
		start := len(out)
		b0 := wire.CellByte0(c.Codec)
		out = append(out, b0)
		out = w.random.seal(w.aeads[c.Scope], out, c.Plain, sh.cells[i].at(b0, suite))
		c.Sealed, c.Err = out[start:len(out):len(out)], nil
	}
	return header, nil
}

// mintDEKs draws a data key per scope and wraps each: w.hdr and w.aeads.
func (k *Keyring) mintDEKs(w *work, sh *shape, r *Record, sets []*keySet) error {
	n := len(r.Scopes)
	w.hdr.CellSuite, w.hdr.Flags = byte(k.opts.Suite), 0
	if r.Bound {
		w.hdr.Flags = wire.FlagRowID
	}
	w.hdr.Scopes = slices.Grow(w.hdr.Scopes[:0], n)[:n]
	random := len(r.Cells) * k.opts.Suite.drawn()
	for i := range sets {
		if sets[i] == nil || sets[i].forgotten {
			return forgottenOrMissing(sets[i])
		}
		random += keySize + sets[i].newest.suite.drawn()
	}
	w.random.draw(random)
	for pos, i := range sh.order[:n] {
		w.random.read(w.deks[i][:])
		w.hdr.Scopes[pos] = wire.Scope{Tag: sh.scopes[i].tag, Commit: dekCommit(k.opts.Suite, w.deks[i][:])}
		var err error
		if w.aeads[i], err = k.opts.Suite.aead(w.deks[i][:]); err != nil {
			return err
		}
	}
	return k.wrapDEKs(w, sh, r, sets)
}

// wrapDEKs wraps w.deks into w.hdr under the newest subject keys.
func (k *Keyring) wrapDEKs(w *work, sh *shape, r *Record, sets []*keySet) error {
	rd := recordDigest(&w.hdr)
	bound := w.hdr.Flags&wire.FlagRowID != 0
	for pos, i := range sh.order[:len(r.Scopes)] {
		key := &sets[i].newest
		s := &w.hdr.Scopes[pos]
		s.WrapSuite, s.KID = byte(key.suite), key.kid
		w.aad = appendDEKAAD(w.aad[:0], k.id, key.suite, key.kid, &r.Scopes[i].Subject, sh.scopes[i].names, bound, r.RowID, &rd)
		w.wrap = w.random.seal(key.aead, w.wrap[:0], w.deks[i][:], w.aad)
		s.SetWrap(w.wrap)
		sets[i].countWrap(w.wrap)
	}
	return nil
}

// countWrap retires a key from sealing after an expected 2^24 wraps, whoever
// made them: one wrap in 2^24, told by its random nonce, marks the key spent.
// No counter is stored, and the chance to pass 2^30 wraps is below e^-64.
func (s *keySet) countWrap(wrap []byte) {
	if wrap[0] == 0 && wrap[1] == 0 && wrap[2] == 0 {
		s.flags.Or(flagSpent)
	}
}

// reuseDEKs opens the data keys of a stored header for the scopes to be sealed.
// If the record has scopes the header lacks, it makes a new header with all.
func (k *Keyring) reuseDEKs(w *work, sh *shape, r *Record, sets []*keySet) (changed bool, err error) {
	if err := wire.ParseHeader(r.Header, &w.hdr); err != nil {
		return false, fmt.Errorf("the stored keys of the record are damaged: %w", ErrDecrypt)
	}
	used := sh.used
	var have uint32
	rd := recordDigest(&w.hdr)
	for i := range r.Scopes {
		if headerScope(&w.hdr, sh.scopes[i].tag) >= 0 {
			have |= 1 << i
		}
	}
	grow := used&^have != 0
	for i := range r.Scopes {
		if have>>i&1 == 0 || used>>i&1 == 0 && !grow {
			continue
		}
		if err := k.openDEK(w, sh, r, i, sets[i], &rd); err != nil {
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
	for pos, i := range sh.order[:len(r.Scopes)] {
		if sets[i] == nil || sets[i].forgotten {
			return false, forgottenOrMissing(sets[i])
		}
		if have>>i&1 == 0 {
			rand.Read(w.deks[i][:])
			if w.aeads[i], err = suite.aead(w.deks[i][:]); err != nil {
				return false, err
			}
		}
		scopes[pos] = wire.Scope{Tag: sh.scopes[i].tag, Commit: dekCommit(suite, w.deks[i][:])}
	}
	w.hdr.Scopes = scopes
	return true, k.wrapDEKs(w, sh, r, sets)
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
	switch {
	case s != nil && s.suspended:
		return ErrSuspended
	case s != nil && s.forgotten:
		return ErrForgotten
	}
	return ErrKeyMissing
}

// openDEK unwraps the data key of scope i into w.deks and w.aeads.
func (k *Keyring) openDEK(w *work, sh *shape, r *Record, i int, set *keySet, rd *[32]byte) error {
	pos := headerScope(&w.hdr, sh.scopes[i].tag)
	if pos < 0 {
		return ErrDecrypt
	}
	s := &w.hdr.Scopes[pos]
	var key *subjectKey
	if set != nil {
		key = set.byKID(s.KID)
	}
	if key == nil {
		if err := set.damage(); err != nil {
			return err
		}
		if k.led.isDead(s.KID) {
			return ErrForgotten
		}
		return forgottenOrMissing(set)
	}
	bound := w.hdr.Flags&wire.FlagRowID != 0
	if key.aead == nil || byte(key.suite) != s.WrapSuite || bound && !r.Bound { // a token key opens nothing
		return ErrDecrypt
	}
	rowID := r.RowID
	if !bound {
		rowID = ""
	}
	w.aad = appendDEKAAD(w.aad[:0], k.id, key.suite, key.kid, &r.Scopes[i].Subject, sh.scopes[i].names, bound, rowID, rd)
	dek, err := key.suite.open(key.aead, w.deks[i][:0], s.Wrap(), w.aad)
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
// process has not seen, which another made after ours was cached (or after it
// readmitted whom we remember as forgotten), and asks for evidence of those that
// are nowhere.
func (k *Keyring) findOlder(ctx context.Context, w *work, recs []Record, got keys) error {
	at := 0
	var stale []int
	var refs []keyRef
	var srefs []SRef
	var lost, gone []KeyID
	for i := range recs {
		r := &recs[i]
		base := at
		at = base + len(r.Scopes)
		w.parsed = -1
		if len(r.Header) == 0 || wire.ParseHeader(r.Header, &w.hdr) != nil {
			continue
		}
		w.parsed = i
		for j := range r.Scopes {
			pos := headerScope(&w.hdr, w.shapes[i].scopes[j].tag)
			if pos < 0 {
				continue
			}
			set := got.sets[base+j]
			kid := w.hdr.Scopes[pos].KID
			ref := &got.refs[base+j]
			switch {
			case ref.kind == "" || set.damage() != nil || set != nil && (set.suspended || set.byKID(kid) != nil) || k.led.isDead(kid):
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
	var sets map[keyRef]*keySet
	for i := range refs {
		k.cache.del(refs[i])
	}
	if len(refs) > 0 {
		// Not acquire: a load already under way may have read before the key was made.
		var err error
		if sets, err = k.load(ctx, refs, false); err != nil {
			return err
		}
	}
	for i, at := range stale {
		got.sets[at] = sets[refs[i]]
		if set := sets[refs[i]]; set == nil || set.byKID(lost[i]) == nil {
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
// and Codec, or Cells[i].Err says why not (ErrForgotten, ErrSuspended, ErrKeyMissing,
// ErrDecrypt), as does Scopes[i].Err for a whole scope. Keys of all records are
// fetched in one batch. Scopes without cells are not touched.
//
// The error is for the call as a whole: ErrUnavailable, or the context's. Then
// the outputs mean nothing.
func (k *Keyring) OpenRecords(ctx context.Context, recs []Record) error {
	w, _ := workPool.Get().(*work)
	defer w.release()
	if err := w.check(recs); err != nil {
		return err
	}
	var few fewKeys
	got, err := k.prepare(ctx, w, recs, toOpen, keys{few.refs[:0], few.sets[:0]})
	if err != nil {
		return err
	}
	at := 0
	for i := range recs {
		r := &recs[i]
		k.openRecord(w, w.shapes[i], r, w.parsed == i, got.sets[at:at+len(r.Scopes)])
		w.parsed = -1
		at += len(r.Scopes)
	}
	return nil
}

func (k *Keyring) openRecord(w *work, sh *shape, r *Record, parsed bool, sets []*keySet) {
	damaged := !parsed && wire.ParseHeader(r.Header, &w.hdr) != nil
	var rd [32]byte
	if !damaged {
		rd = recordDigest(&w.hdr)
	}
	for i := range r.Scopes {
		s := &r.Scopes[i]
		s.Err = nil
		switch {
		case !sh.uses(i):
		case damaged:
			s.Err = ErrDecrypt
		default:
			if s.Err = k.openDEK(w, sh, r, i, sets[i], &rd); s.Err != nil {
				if err := s.Subject.Validate(); err != nil {
					s.Err = err
				}
			}
		}
	}
	suite := Suite(w.hdr.CellSuite)
	total := 0
	for i := range r.Cells {
		total += max(0, len(r.Cells[i].Sealed)-1-suite.overhead())
	}
	out := make([]byte, 0, total)
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
		opened, err := suite.open(w.aeads[c.Scope], out, body, sh.cells[i].at(b0, suite))
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
// is new; forgotten and suspended scopes are left as they are, and their
// Err says so. Records with nothing to do cost no crypto. Errors as for SealRecords, ErrKeyMissing for a key this store
// does not have, and ErrDecrypt for a damaged header.
func (k *Keyring) RewrapRecords(ctx context.Context, recs []Record) (changed int, err error) {
	w, _ := workPool.Get().(*work)
	defer w.release()
	if err := w.check(recs); err != nil {
		return 0, err
	}
	for i := range recs {
		if len(recs[i].Header) == 0 {
			return 0, fmt.Errorf("envelope: record %d (%s) has no header: it was never sealed", i, w.shapes[i].record)
		}
	}
	var few fewKeys
	got, err := k.prepare(ctx, w, recs, toRewrap, keys{few.refs[:0], few.sets[:0]})
	if err != nil {
		return 0, err
	}
	at := 0
	for i := range recs {
		r := &recs[i]
		done, err := k.rewrapRecord(w, w.shapes[i], r, got.sets[at:at+len(r.Scopes)])
		if err != nil {
			return changed, fmt.Errorf("record %d (%s): %w", i, w.shapes[i].record, err)
		}
		if done {
			changed++
		}
		at += len(r.Scopes)
	}
	return changed, nil
}

func (k *Keyring) rewrapRecord(w *work, sh *shape, r *Record, sets []*keySet) (bool, error) {
	if err := wire.ParseHeader(r.Header, &w.hdr); err != nil {
		return false, fmt.Errorf("the stored keys of the record are damaged: %w", ErrDecrypt)
	}
	rd := recordDigest(&w.hdr)
	bound := w.hdr.Flags&wire.FlagRowID != 0
	changed := false
	for i := range r.Scopes {
		r.Scopes[i].Err = nil
		pos := headerScope(&w.hdr, sh.scopes[i].tag)
		if pos < 0 || r.Scopes[i].Subject.ID == "" {
			continue
		}
		s := &w.hdr.Scopes[pos]
		if k.led.isDead(s.KID) || sets[i] != nil && sets[i].forgotten {
			r.Scopes[i].Err = ErrForgotten
			if sets[i] != nil && sets[i].suspended && !k.led.isDead(s.KID) {
				r.Scopes[i].Err = ErrSuspended
			}
			continue
		}
		if sets[i] == nil {
			return false, ErrKeyMissing
		}
		key := &sets[i].newest
		if key.kid == s.KID {
			continue
		}
		if err := k.openDEK(w, sh, r, i, sets[i], &rd); err != nil {
			return false, err
		}
		rowID := r.RowID
		if !bound {
			rowID = ""
		}
		s.WrapSuite, s.KID = byte(key.suite), key.kid
		w.aad = appendDEKAAD(w.aad[:0], k.id, key.suite, key.kid, &r.Scopes[i].Subject, sh.scopes[i].names, bound, rowID, &rd)
		w.wrap = key.suite.seal(key.aead, w.wrap[:0], w.deks[i][:], w.aad)
		s.SetWrap(w.wrap)
		sets[i].countWrap(w.wrap)
		changed = true
	}
	if changed {
		r.Header = w.hdr.Append(make([]byte, 0, w.hdr.Len()))
	}
	return changed, nil
}
