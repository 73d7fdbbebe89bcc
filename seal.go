package lethe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/lethe-go/lethe/envelope"
)

// seal seals the Plain fields of a new or loaded row; anew also takes the Open
// ones and gives the row new data keys. It is sealAll for one row, whose memory
// is on the stack.
func (s *core) seal(ctx context.Context, at unsafe.Pointer, anew bool) error {
	if at == nil {
		return errNilRow
	}
	if err := s.begin(ctx, false); err != nil {
		return err
	}
	if s.migrations != nil {
		return s.sealMigrating(ctx, rows{at, 0, 1, nil}, anew)
	}
	return s.sealRow(ctx, at, anew)
}

// sealRow is seal but for the plaintext columns of a migration.
func (s *core) sealRow(ctx context.Context, at unsafe.Pointer, anew bool) error {
	var room few
	var o owners
	p, rec, sealing, err := s.gather(parts{room.scopes[:0], room.cells[:0], room.refs[:0]}, 0, at, &o, anew)
	if err != nil {
		return err
	}
	if s.plan.pointers {
		if err := s.shared(p.refs); err != nil {
			return err
		}
	}
	recs := [1]envelope.Record{rec}
	recs[0].Scopes, recs[0].Cells = p.scopes, p.cells
	var headers [1][]byte
	if sealing {
		if err := s.ring.SealRecordsTo(ctx, recs[:], headers[:]); err != nil {
			return s.sealErr(err)
		}
	}
	var roomIndexes [4]envelope.IndexKeys
	indexKeys, err := s.indexKeys(ctx, p.refs, roomIndexes[:0])
	if err != nil {
		return err
	}
	made, err := s.makeTokens(ctx, rows{at, 0, 1, nil}, anew) // last: what it stores is not taken back
	if err != nil {
		return err
	}
	if sealing {
		s.install(at, headers[0], p.cells, p.refs, indexKeys, anew)
	}
	s.settleNulls(at)
	made.install()
	return nil
}

// sealAll is seal for many rows, all or nothing.
func (s *core) sealAll(ctx context.Context, all rows, anew bool) error {
	if err := s.begin(ctx, false); err != nil {
		return err
	}
	if s.migrations != nil {
		return s.sealMigrating(ctx, all, anew)
	}
	return s.sealRows(ctx, all, anew)
}

// sealRows is sealAll but for the plaintext columns of a migration.
func (s *core) sealRows(ctx context.Context, all rows, anew bool) error {
	sc := newScratch()
	defer sc.release()
	var o owners
	for i := range all.n {
		p, rec, sealing, err := s.gather(sc.parts, i, all.at(i), &o, anew)
		sc.parts = p
		if err != nil {
			return s.rowErr(i, all.n, err)
		}
		if sealing {
			sc.close(i, rec)
		}
	}
	if s.plan.pointers {
		if err := s.shared(sc.refs); err != nil {
			return err
		}
	}
	sc.link()
	if len(sc.recs) > 0 {
		if err := s.ring.SealRecords(ctx, sc.recs); err != nil {
			return s.sealErr(err)
		}
	}
	indexKeys, err := s.indexKeys(ctx, sc.refs, nil)
	if err != nil {
		return err
	}
	made, err := s.makeTokens(ctx, all, anew) // last: what it stores is not taken back
	if err != nil {
		return err
	}
	cell := 0
	for i := range sc.recs {
		rec := &sc.recs[i]
		s.install(all.at(sc.rows[i]), rec.Header, rec.Cells, sc.refs[cell:cell+len(rec.Cells)], indexKeys, anew)
		cell += len(rec.Cells)
	}
	for i := range all.n {
		s.settleNulls(all.at(i))
	}
	made.install()
	return nil
}

func (s *core) rowErr(i, n int, err error) error {
	if n == 1 {
		return err
	}
	return fmt.Errorf("row %d of %d: %w", i, n, err)
}

// shared refuses rows, or fields of one row, that point to the same struct: it
// would hold the ciphertext of the last one only, and the others would be lost.
func (s *core) shared(refs []ref) error {
	seen := make(map[**state]ref, len(refs))
	for _, r := range refs {
		if first, twice := seen[r.slot]; twice {
			return fmt.Errorf("lethe: field %q of row %d and field %q of row %d are behind pointers to one struct; give each a struct of its own",
				s.plan.fields[first.field].name, first.row, s.plan.fields[r.field].name, r.row)
		}
		seen[r.slot] = r
	}
	return nil
}

func (s *core) sealErr(err error) error {
	if errors.Is(err, envelope.ErrScopes) {
		return fmt.Errorf("%w (or the subject column of one of its groups was not selected)", err)
	}
	return err
}

// gather turns a row into a record, unless there is nothing to seal in it, and
// appends its scopes and cells to to.
func (s *core) gather(to parts, n int, row unsafe.Pointer, o *owners, anew bool) (parts, envelope.Record, bool, error) {
	p := s.plan
	none := envelope.Record{}
	if err := p.readOwners(row, o); err != nil {
		return to, none, false, err
	}
	keys := p.keysAt.keys(row)
	fresh := keys.IsZero() || anew
	first := len(to.cells)
	var used uint32
	held, nulled := false, false
	for i := range p.fields {
		f := &p.fields[i]
		at := f.at.secret(row)
		if at == nil {
			continue
		}
		st := *at
		if f.token != nil { // makeTokens has its value
			held = held || st != nil && st.sealed != nil
			nulled = nulled || st == nullGiven || st.statusOf() == StatusPlain
			continue
		}
		switch take, err := f.takes(st, fresh, anew); {
		case err != nil:
			return to, none, false, fmt.Errorf("field %q: %w", f.name, err)
		case !take:
			held = held || st != nil && st.sealed != nil
			nulled = nulled || st == nullGiven
			continue
		}
		to.refs = append(to.refs, ref{row: n, field: i, slot: at})
		to.cells = append(to.cells, envelope.Cell{Scope: f.scope, Field: f.name, Codec: st.codec, Plain: st.value.bytes()})
		used |= 1 << f.scope
	}
	if len(to.cells) == first && !fresh {
		if held && !nulled {
			return to, none, false, fmt.Errorf("%w: every field of the row is sealed already, nothing was changed; set a field with Of or Null first", ErrSealed)
		}
		return to, none, false, nil
	}
	rec := envelope.Record{Name: p.record, RowID: o.rowID, Bound: p.id != nil}
	if !fresh {
		rec.Header = keys.b
	}
	var position [envelope.MaxScopes]int
	scopes := 0
	for i := range p.scopes {
		subject := p.subject(s.tenant, i, o)
		if subject.ID == "" {
			if used>>i&1 == 1 || p.scopes[i].group == "" {
				return to, none, false, p.emptySubject(i)
			}
			continue
		}
		position[i] = scopes
		scopes++
		to.scopes = append(to.scopes, envelope.Scope{Group: p.scopes[i].group, Purpose: p.scopes[i].purpose, Subject: subject})
	}
	if scopes == 0 {
		return to, none, false, p.emptySubject(0)
	}
	for i := first; i < len(to.cells); i++ {
		to.cells[i].Scope = position[to.cells[i].Scope]
	}
	return to, rec, true, nil
}

// takes reports whether a field is to be sealed now.
func (f *fieldPlan) takes(st *state, fresh, anew bool) (bool, error) {
	if st != nil && st.status == StatusPlain && st.err == nil && st.codec == f.codec {
		return true, nil
	}
	return f.takesUnlike(st, fresh, anew)
}

// takesUnlike is takes for what is not simply a new value.
func (f *fieldPlan) takesUnlike(st *state, fresh, anew bool) (bool, error) {
	switch st.statusOf() {
	case StatusPlain:
		if st.err != nil {
			return false, st.err
		}
		return false, fmt.Errorf("lethe: encoded as %s, its type has %s", codecName(st.codec), codecName(f.codec))
	case StatusNull:
		return false, nil
	case StatusUnset:
		if anew {
			return false, fmt.Errorf("%w: Reseal needs every field; select its column and Open the row", ErrNotSealed)
		}
		return false, nil
	case StatusOpen:
		if anew {
			return true, nil
		}
	case StatusForgotten:
		if anew {
			return false, ErrForgotten
		}
	case StatusSealed, StatusDenied, StatusFailed:
		if anew && st.err != nil {
			return false, fmt.Errorf("%w: Reseal needs every field opened", st.err)
		}
		if anew {
			return false, fmt.Errorf("%w: Reseal needs every field opened", ErrSealed)
		}
	}
	if fresh {
		return false, fmt.Errorf("%w: the row has no Keys, yet this field holds ciphertext, which belongs to another row; select the Keys column, or set the field with Of", ErrSealed)
	}
	return false, nil
}

// indexKeys appends the key of every index that will be computed to out; nil for the others.
func (s *core) indexKeys(ctx context.Context, refs []ref, out []envelope.IndexKeys) ([]envelope.IndexKeys, error) {
	for i := range s.plan.indexes {
		x := &s.plan.indexes[i]
		out = append(out, nil)
		if !slices.ContainsFunc(refs, func(r ref) bool { return r.field == x.of }) {
			continue
		}
		keys, err := s.ring.IndexKeys(ctx, s.tenant, s.plan.record, x.name, true)
		if err != nil {
			return nil, err
		}
		if len(keys) == 0 {
			return nil, fmt.Errorf("lethe: blind index %q: %w", x.name, ErrKeyMissing)
		}
		out[i] = keys
	}
	return out, nil
}

// install writes what became of a row into it; nothing can fail any more.
func (s *core) install(row unsafe.Pointer, header []byte, cells []envelope.Cell, refs []ref, indexKeys []envelope.IndexKeys, anew bool) {
	keys := s.plan.keysAt.keys(row)
	fresh := keys.IsZero() || anew
	if header != nil {
		keys.b = header
	}
	for i := range s.plan.indexes {
		s.installIndex(row, &s.plan.indexes[i], cells, refs, indexKeys[i])
	}
	states := make([]state, len(cells))
	for j := range cells {
		st := &states[j]
		st.status, st.codec, st.sealed = StatusSealed, cells[j].Codec, cells[j].Sealed
		*refs[j].slot = st
	}
	if fresh {
		s.nullRest(row)
	}
}

// installIndex computes an index, if a cell has what it is over.
func (s *core) installIndex(row unsafe.Pointer, x *indexPlan, cells []envelope.Cell, refs []ref, keys envelope.IndexKeys) {
	for j := range cells {
		if refs[j].field != x.of {
			continue
		}
		if index := x.at.index(row); index != nil {
			var buf [normalRoom]byte
			index.b = keys[0].Append(nil, x.normName, x.normalised(buf[:], cells[j].Plain), x.bits)
			clear(buf[:])
			index.null = false
		}
	}
}

// nullRest makes the fields of a new row that were never set NULL, and the
// indexes of fields behind a nil pointer.
func (s *core) nullRest(row unsafe.Pointer) {
	for i := range s.plan.indexes {
		x := &s.plan.indexes[i]
		if index := x.at.index(row); index != nil && s.plan.fields[x.of].at.secret(row) == nil {
			index.b, index.null = nil, true
		}
	}
	for i := range s.plan.fields {
		if secret := s.plan.fields[i].at.secret(row); secret != nil && *secret == nil {
			*secret = nullState
		}
	}
}

// settleNulls ends the news that a field was set to NULL, and gives the index of
// every NULL field the same fate.
func (s *core) settleNulls(row unsafe.Pointer) {
	for i := range s.plan.fields {
		if secret := s.plan.fields[i].at.secret(row); secret != nil && *secret == nullGiven {
			*secret = nullState
		}
	}
	for i := range s.plan.indexes {
		x := &s.plan.indexes[i]
		secret, index := s.plan.fields[x.of].at.secret(row), x.at.index(row)
		if secret != nil && index != nil && (*secret).statusOf() == StatusNull {
			index.b, index.null = nil, true
		}
	}
}
