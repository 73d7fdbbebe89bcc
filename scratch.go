package lethe

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/lethe-go/lethe/envelope"
)

// parts are what the cells and scopes of some rows are made of, to be appended to.
type parts struct {
	scopes []envelope.Scope
	cells  []envelope.Cell
	refs   []ref // per cell
}

// ref is where a cell's outcome goes.
type ref struct {
	row   int
	field int
	slot  **state
}

// few is room for the parts of one row on the stack, which most rows fit in.
type few struct {
	scopes [2]envelope.Scope
	cells  [8]envelope.Cell
	refs   [8]ref
}

// scratch is the memory of one call for many rows, reused. Records, scopes and
// cells of all rows lie in one slice each.
type scratch struct {
	parts
	recs []envelope.Record
	ends []ends // per record
	rows []int  // the row of each record
}

// ends are the positions after a record's scopes and cells.
type ends struct{ scopes, cells int }

var scratchPool = sync.Pool{New: func() any { return new(scratch) }}

func newScratch() *scratch {
	sc, _ := scratchPool.Get().(*scratch)
	return sc
}

const keptCells = 8192

// release clears what points to a user's data.
func (sc *scratch) release() {
	if cap(sc.cells) > keptCells {
		return
	}
	clear(sc.recs)
	clear(sc.scopes)
	clear(sc.cells)
	clear(sc.refs)
	*sc = scratch{parts: parts{sc.scopes[:0], sc.cells[:0], sc.refs[:0]}, recs: sc.recs[:0], ends: sc.ends[:0], rows: sc.rows[:0]}
	scratchPool.Put(sc)
}

// link points the records at their scopes and cells once all are appended.
func (sc *scratch) link() {
	var from ends
	for i := range sc.recs {
		to := sc.ends[i]
		sc.recs[i].Scopes = sc.scopes[from.scopes:to.scopes:to.scopes]
		sc.recs[i].Cells = sc.cells[from.cells:to.cells:to.cells]
		from = to
	}
}

// close ends the record of a row.
func (sc *scratch) close(row int, rec envelope.Record) {
	sc.recs = append(sc.recs, rec)
	sc.rows = append(sc.rows, row)
	sc.ends = append(sc.ends, ends{len(sc.scopes), len(sc.cells)})
}

// owners are the subjects and the row id of one row.
type owners struct {
	ids   [envelope.MaxScopes]string // per subject of the plan, which For limits
	rowID string
}

func (p *plan) readOwners(row unsafe.Pointer, o *owners) error {
	o.rowID = ""
	for i := range p.subjects {
		id, err := p.subjects[i].read(p.typ, row)
		if err != nil {
			return err
		}
		o.ids[i] = id
	}
	if p.id == nil {
		return nil
	}
	var err error
	if o.rowID, err = p.id.read(p.typ, row); err != nil {
		return err
	}
	if o.rowID == "" {
		return fmt.Errorf("%w: %s, the row's id, is empty; set it before the row is sealed (an id the database draws comes too late)", ErrNoSubject, p.id.label)
	}
	return nil
}

// subject returns the subject of a scope, whose ID may be empty.
func (p *plan) subject(tenant string, scope int, o *owners) Subject {
	s := &p.subjects[p.scopes[scope].subject]
	return Subject{Tenant: tenant, Kind: s.kind, ID: o.ids[p.scopes[scope].subject]}
}

func (p *plan) emptySubject(scope int) error {
	s := &p.subjects[p.scopes[scope].subject]
	return fmt.Errorf("%w: %s (subject=%s) is empty; set it, or select its column, first", ErrNoSubject, s.label, s.kind)
}
