package envelope_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
)

var errInjected = errors.New("injected")

// fault makes one call fail: the one after the next n.
type fault struct {
	armed bool
	after int
	late  bool // what the call was to do is done, and the answer lost
}

// hits counts a call, and reports whether it is to fail, and how.
func (f *fault) hits() (before, after bool) {
	if !f.armed {
		return false, false
	}
	if f.after--; f.after >= 0 {
		return false, false
	}
	f.armed = false
	return !f.late, f.late
}

// tape is a key store that keeps all it was ever given, can be put back to any
// earlier state, fails on demand, and lets others work between two steps of a close.
type tape struct {
	*memstore.Store

	log     []func(s *memstore.Store) error    // what was committed
	minted  map[envelope.KeyID]envelope.KeyRow // by this line of history
	deleted map[envelope.KeyID]bool            // by a Forget, of any line
	rows    *rowsEver

	fanOut   int
	fault    fault
	between  func(step string) // nil, or called before a step of a close
	reading  func(all bool)    // nil, or called before pages are read
	forget   func()            // nil, or called between a forget's ledger entry and its end
	inside   bool
	late     bool
	noHints  bool // an intruder clears the mark of dirty pages
	noLeases bool
	hidden   map[envelope.PageID]envelope.PageRow // by an intruder, who leaves their keys
	marked   envelope.PageID                      // has the mark of dirty pages, set by an intruder
	moved    map[envelope.KeyID]envelope.PageID   // by an intruder: the page a key row names
	changing map[envelope.PageID]int              // reads of a page that still show it under its parent's last key
	rekeys   int
}

func newTape(fanOut int) *tape {
	return &tape{Store: memstore.New(), minted: map[envelope.KeyID]envelope.KeyRow{}, deleted: map[envelope.KeyID]bool{}, rows: newRowsEver(), fanOut: fanOut}
}

// commit does what changes the store, and remembers it.
func (s *tape) commit(do func(s *memstore.Store) error) error {
	before, after := s.fault.hits()
	if before {
		return errInjected
	}
	if err := do(s.Store); err != nil {
		return err
	}
	s.log = append(s.log, do)
	if after {
		return errInjected
	}
	return nil
}

func (s *tape) step(name string) {
	if s.between != nil && !s.inside {
		s.inside = true
		defer func() { s.inside = false }()
		s.between(name)
	}
}

// snapshot is a backup of the store.
type snapshot struct {
	log    int
	ops    []func(s *memstore.Store) error
	minted map[envelope.KeyID]envelope.KeyRow
}

func (s *tape) snapshot() snapshot {
	return snapshot{log: len(s.log), ops: slices.Clone(s.log), minted: maps.Clone(s.minted)}
}

// putBack loads a backup.
func (s *tape) putBack(t testing.TB, from snapshot) {
	fresh := memstore.New()
	for _, do := range from.ops {
		require.NoError(t, do(fresh))
	}
	s.Store, s.log, s.minted = fresh, slices.Clone(from.ops), maps.Clone(from.minted)
}

func (s *tape) Init(ctx context.Context, rows envelope.InitRows) error {
	s.rows.store = rows.Meta.StoreID
	for _, p := range rows.Purposes {
		s.rows.purposes[p.Name] = true
	}
	s.rows.add([]envelope.RootRow{rows.Root}, rows.Pages, rows.Keys)
	for _, row := range rows.Keys {
		s.minted[row.KID] = row
	}
	return s.commit(func(m *memstore.Store) error { return m.Init(context.WithoutCancel(ctx), rows) })
}

func (s *tape) AddPurpose(ctx context.Context, name string) (pid envelope.PID, err error) {
	err = s.commit(func(m *memstore.Store) error { pid, err = m.AddPurpose(context.WithoutCancel(ctx), name); return err })
	s.rows.purposes[name] = true
	return pid, err
}

func (s *tape) Advance(ctx context.Context, prev, seq uint64, head []byte) error {
	return s.commit(func(m *memstore.Store) error { return m.Advance(context.WithoutCancel(ctx), prev, seq, head) })
}

func (s *tape) Reincarnate(ctx context.Context, old, next uint64) error {
	return s.commit(func(m *memstore.Store) error { return m.Reincarnate(context.WithoutCancel(ctx), old, next) })
}

func (s *tape) UpdateRoots(ctx context.Context, roots []envelope.RootRow) error {
	return s.commit(func(m *memstore.Store) error { return m.UpdateRoots(context.WithoutCancel(ctx), roots) })
}

func (s *tape) Readmit(ctx context.Context, r envelope.Readmission) error {
	return s.commit(func(m *memstore.Store) error { return m.Readmit(context.WithoutCancel(ctx), r) })
}

func (s *tape) Insert(ctx context.Context, in envelope.Insert) (done envelope.Inserted, err error) {
	in.Pages, in.Keys = slices.Clone(in.Pages), slices.Clone(in.Keys)
	s.rows.add(nil, in.Pages, in.Keys)
	wrote := false
	err = s.commit(func(m *memstore.Store) (err error) {
		done, err = m.Insert(context.WithoutCancel(ctx), in)
		wrote = err == nil
		return err
	})
	for i, row := range in.Keys {
		if wrote && !slices.Contains(done.Exists, i) && !slices.Contains(done.Forgotten, i) {
			s.minted[row.KID] = row
		}
	}
	return done, err
}

func (s *tape) Forget(ctx context.Context, f envelope.Forgetting) (gone []envelope.KeyRow, err error) {
	if s.forget != nil && !s.late {
		s.late = true
		s.forget()
		s.late = false
	}
	err = s.commit(func(m *memstore.Store) (err error) { gone, err = m.Forget(context.WithoutCancel(ctx), f); return err })
	for _, row := range gone {
		s.deleted[row.KID] = true
	}
	return gone, err
}

func (s *tape) Rekey(ctx context.Context, r envelope.Rekey) error {
	s.step("rekey")
	s.rows.add([]envelope.RootRow{r.Root}, r.Pages, r.Keys)
	for _, p := range s.hidden {
		if p.Parent == 0 {
			r.RootChildren++
		}
	}
	return s.commit(func(m *memstore.Store) error { return m.Rekey(context.WithoutCancel(ctx), r) })
}

func (s *tape) RekeyPages(ctx context.Context, r envelope.RekeyPages) error {
	s.step("rekey pages")
	s.rekeys++
	s.rows.add(nil, r.Pages, r.Keys)
	for _, p := range s.hidden {
		if _, counted := r.PageChildren[p.Parent]; counted {
			r.PageChildren[p.Parent]++
		}
	}
	return s.commit(func(m *memstore.Store) error { return m.RekeyPages(context.WithoutCancel(ctx), r) })
}

func (s *tape) Claim(ctx context.Context, l envelope.Lease, now time.Time) error {
	if s.noLeases {
		return nil
	}
	return s.Store.Claim(ctx, l, now)
}

// shown are pages as somebody who reads the store sees them.
func (s *tape) shown(rows []envelope.PageRow) []envelope.PageRow {
	rows = slices.DeleteFunc(rows, func(p envelope.PageRow) bool { _, hidden := s.hidden[p.Page]; return hidden })
	for i := range rows {
		if s.noHints {
			rows[i].DirtyEpoch = 0
		}
		if s.changing[rows[i].Page] > 0 {
			s.changing[rows[i].Page]--
			rows[i].ParentGen--
		}
		if rows[i].Page == s.marked {
			rows[i].DirtyEpoch = 1
		}
	}
	return rows
}

func (s *tape) Pages(ctx context.Context, tree envelope.TreeID, ids []envelope.PageID) ([]envelope.PageRow, error) {
	if s.reading != nil {
		s.reading(false)
	}
	rows, err := s.Store.Pages(ctx, tree, ids)
	return s.shown(rows), err
}

func (s *tape) ChildPages(ctx context.Context, tree envelope.TreeID, parent envelope.PageID) ([]envelope.PageRow, error) {
	s.step("read")
	rows, err := s.Store.ChildPages(ctx, tree, parent)
	return s.shown(rows), err
}

func (s *tape) DirtyPages(ctx context.Context, tree envelope.TreeID) ([]envelope.PageRow, error) {
	rows, err := s.Store.DirtyPages(ctx, tree)
	if s.marked != 0 {
		more, failed := s.Store.Pages(ctx, tree, []envelope.PageID{s.marked})
		rows, err = append(rows, more...), errors.Join(err, failed)
	}
	return slices.DeleteFunc(s.shown(rows), func(p envelope.PageRow) bool { return p.DirtyEpoch == 0 }), err
}

func (s *tape) PagesAfter(ctx context.Context, tree envelope.TreeID, after envelope.PageID, limit int) ([]envelope.PageRow, error) {
	s.step("read")
	if s.reading != nil {
		s.reading(true)
	}
	rows, err := s.Store.PagesAfter(ctx, tree, after, min(limit, 5))
	if len(s.hidden) > 0 { // a page of hidden rows only is not the end
		rows, err = s.Store.PagesAfter(ctx, tree, after, limit)
	}
	return s.shown(rows), err
}

func (s *tape) OpenPages(ctx context.Context, tree envelope.TreeID, level uint8, limit int) ([]envelope.PageRow, error) {
	rows, err := s.Store.OpenPages(ctx, tree, level, -1)
	rows = slices.DeleteFunc(s.shown(rows), func(p envelope.PageRow) bool { return int(p.Fill) >= s.fanOut })
	slices.SortFunc(rows, func(a, b envelope.PageRow) int { return cmp.Compare(a.Page, b.Page) })
	return rows[:min(limit, len(rows))], err
}

func (s *tape) Keys(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef) ([]envelope.KeyRow, []envelope.PageRow, error) {
	keys, pages, err := s.Store.Keys(ctx, tree, refVer, srefs)
	for i := range keys {
		if page, moved := s.moved[keys[i].KID]; moved {
			keys[i].Page = page
		}
	}
	return keys, s.shown(pages), err
}

func (s *tape) KeysOfPage(ctx context.Context, tree envelope.TreeID, page envelope.PageID) ([]envelope.KeyRow, error) {
	s.step("read")
	return s.Store.KeysOfPage(ctx, tree, page)
}

// faultyLedger is a ledger that fails on demand.
type faultyLedger struct {
	memledger.Ledger

	fault    fault
	appended func(e envelope.LedgerEntry) // nil, or called after an entry is there
}

func (l *faultyLedger) Append(ctx context.Context, e envelope.LedgerEntry) error {
	before, after := l.fault.hits()
	if before {
		return errInjected
	}
	if err := l.Ledger.Append(ctx, e); err != nil {
		return err
	}
	if l.appended != nil {
		l.appended(e)
	}
	if after {
		return errInjected
	}
	return nil
}
