package lethe

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/lethe-go/lethe/envelope"
)

// scratch is the memory of one call, reused. Records, scopes and cells of all
// rows lie in one slice each.
type scratch struct {
	recs   []envelope.Record
	scopes []envelope.Scope
	cells  []envelope.Cell
	ends   []ends // per record
	rows   []int  // the row of each record
	refs   []ref  // per cell
	known  []envelope.IndexKeys
}

// ends are the positions after a record's scopes and cells.
type ends struct{ scopes, cells int }

// ref is where a cell's outcome goes.
type ref struct {
	row   int
	field int
	slot  **state
}

var scratchPool = sync.Pool{New: func() any { return new(scratch) }}

func newScratch() *scratch {
	sc, _ := scratchPool.Get().(*scratch)
	return sc
}

const keptCells = 4096

// release clears what points to a user's data.
func (sc *scratch) release() {
	if cap(sc.cells) > keptCells {
		return
	}
	clear(sc.recs)
	clear(sc.scopes)
	clear(sc.cells)
	clear(sc.refs)
	clear(sc.known)
	*sc = scratch{recs: sc.recs[:0], scopes: sc.scopes[:0], cells: sc.cells[:0], ends: sc.ends[:0], rows: sc.rows[:0], refs: sc.refs[:0], known: sc.known[:0]}
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

// abandon drops what was appended for a row that is not a record after all.
func (sc *scratch) abandon() {
	var from ends
	if n := len(sc.ends); n > 0 {
		from = sc.ends[n-1]
	}
	sc.scopes, sc.cells, sc.refs = sc.scopes[:from.scopes], sc.cells[:from.cells], sc.refs[:from.cells]
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
