package envelope

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// shape is what the records of one type have in common: their names, checked,
// and what follows from these alone. A program declares few, so each work keeps
// those it met last.
type shape struct {
	record string
	scopes []scopeShape
	cells  []cellShape
	order  [MaxScopes]int // positions in scopes, by ascending tag
	used   uint32         // a bit for each scope that has cells
}

type scopeShape struct {
	group, purpose string
	tag            uint16
	names          []byte // lp record | lp group | lp purpose
}

type cellShape struct {
	scope   int
	field   string
	context []byte // of the cell, but for its first byte and suite, which at fills in
}

// is reports whether r has this shape. Names mostly come from the same
// declaration, so comparing them compares pointers.
func (s *shape) is(r *Record) bool {
	if r.Name != s.record || len(r.Cells) != len(s.cells) || len(r.Scopes) != len(s.scopes) {
		return false
	}
	for i := range s.scopes {
		if r.Scopes[i].Group != s.scopes[i].group || r.Scopes[i].Purpose != s.scopes[i].purpose {
			return false
		}
	}
	for i := range s.cells {
		if r.Cells[i].Scope != s.cells[i].scope || r.Cells[i].Field != s.cells[i].field {
			return false
		}
	}
	return true
}

// newShape checks the names of a record. It keeps none of the record's memory:
// so the records of a call can lie on the caller's stack.
func newShape(r *Record) (*shape, error) {
	n, name := len(r.Scopes), strings.Clone(r.Name)
	if name == "" || n == 0 || n > MaxScopes {
		return nil, fmt.Errorf("envelope: a record needs a name and 1 to %d scopes, %q has %d", MaxScopes, name, n)
	}
	if err := validName("record name", name); err != nil {
		return nil, err
	}
	s := &shape{record: name, scopes: make([]scopeShape, n), cells: make([]cellShape, len(r.Cells))}
	for i := range r.Scopes {
		group, purpose := r.Scopes[i].Group, r.Scopes[i].Purpose
		if err := validName("group", group); err != nil {
			return nil, err
		}
		if err := validName("purpose", purpose); err != nil {
			return nil, err
		}
		if strings.HasPrefix(purpose, "\x00") {
			return nil, errReserved
		}
		s.scopes[i] = scopeShape{group: group, purpose: purpose, tag: scopeTag(group, purpose), names: appendScopeNames(nil, name, group, purpose)}
		s.order[i] = i
	}
	slices.SortFunc(s.order[:n], func(a, b int) int { return cmp.Compare(s.scopes[a].tag, s.scopes[b].tag) })
	for i := 1; i < n; i++ {
		if a, b := &s.scopes[s.order[i-1]], &s.scopes[s.order[i]]; a.tag == b.tag {
			return nil, fmt.Errorf("envelope: scopes (%q, %q) and (%q, %q) of record %q have the same tag: rename one", a.group, a.purpose, b.group, b.purpose, name)
		}
	}
	for i := range r.Cells {
		c := &r.Cells[i]
		if c.Scope < 0 || c.Scope >= n || c.Field == "" {
			return nil, fmt.Errorf("envelope: cell %d of record %q: bad scope or field name", i, name)
		}
		if err := validName("field name", c.Field); err != nil {
			return nil, err
		}
		s.cells[i] = cellShape{scope: c.Scope, field: c.Field, context: appendCellContext(nil, name, c.Field)}
		s.used |= 1 << c.Scope
	}
	return s, nil
}

// uses reports whether a scope has cells.
func (s *shape) uses(scope int) bool { return s.used>>scope&1 == 1 }

// at returns the context of a cell, valid until the next call.
func (c *cellShape) at(byte0 byte, suite Suite) []byte {
	c.context[cellByte0], c.context[cellByte0+1] = byte0, byte(suite)
	return c.context
}

const keptShapes = 4

// shapeOf finds or makes the shape of r.
func (w *work) shapeOf(r *Record) (*shape, error) {
	for _, s := range w.kept {
		if s != nil && s.is(r) {
			return s, nil
		}
	}
	s, err := newShape(r)
	if err != nil {
		return nil, err
	}
	w.kept[w.oldest] = s
	w.oldest = (w.oldest + 1) % keptShapes
	return s, nil
}
