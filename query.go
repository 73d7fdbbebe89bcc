package lethe

import (
	"context"
	"crypto/subtle"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// Dialect is how a database writes parameters and quotes names.
type Dialect uint8

// The dialects of Query.In.
const (
	SQLite   Dialect = iota + 1 // ?1
	Postgres                    // $1
	MySQL                       // ?
)

// Query finds the rows whose sealed field has a value. It does not change and is
// safe for concurrent use. It holds the value: printing it shows nothing.
type Query[T any] struct {
	plan  *plan
	index *indexPlan
	terms [][]byte
	value hidden // normalised
}

// Query prepares a search of the blind index with this stable name for a value:
// of the field's type, or text where that is text or parses text. The value is
// normalised as indexed ones are. It needs the index key, not the rows' keys.
func (s *Sealer[T]) Query(ctx context.Context, index string, value any) (*Query[T], error) {
	if err := s.ready(false); err != nil {
		return nil, err
	}
	at, ok := s.plan.names[index]
	if !ok || at < 1<<16 {
		return nil, fmt.Errorf("lethe: record %q has no blind index %q", s.plan.record, index)
	}
	x := &s.plan.indexes[at-1<<16]
	f := &s.plan.fields[x.of]
	cell := newSecret(s.plan.typ, f.path)
	if cell == nil {
		return nil, fmt.Errorf("lethe: blind index %q has no field", index)
	}
	_, plain, err := cell.encode(value)
	if err != nil {
		return nil, fmt.Errorf("lethe: query of %q: %w", index, err)
	}
	plain = append([]byte{}, x.normalised(nil, plain)...)
	keys, err := s.ring.IndexKeys(ctx, s.tenant, s.plan.record, x.name, false)
	if err != nil {
		return nil, err
	}
	q := &Query[T]{plan: s.plan, index: x, value: hideBytes(plain)}
	for i := range keys {
		q.terms = append(q.terms, keys[i].Append(nil, x.normName, plain, x.bits))
	}
	return q, nil
}

// newSecret returns an empty Secret of the type the path leads to.
func newSecret(t reflect.Type, p path) secret {
	for _, i := range p {
		if i < 0 {
			t = t.Field(^i).Type.Elem()
		} else {
			t = t.Field(i).Type
		}
	}
	s, _ := reflect.TypeAssert[secret](reflect.New(t))
	return s
}

// Terms returns the index values to search for, one per version of the index
// key: WHERE email_idx = ANY($1). There are none if nothing was ever indexed.
func (q *Query[T]) Terms() [][]byte {
	out := make([][]byte, len(q.terms))
	for i := range q.terms {
		out[i] = append([]byte(nil), q.terms[i]...)
	}
	return out
}

// TextTerms returns Terms in the form of text columns, base64url.
func (q *Query[T]) TextTerms() []string {
	out := make([]string, len(q.terms))
	for i := range q.terms {
		out[i] = base64url.EncodeToString(q.terms[i])
	}
	return out
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)

// In returns a condition and its arguments, "email_idx IN ($3)", whose parameters
// are numbered from first (1 for the first of the statement). A column that is
// not a plain or dotted name is quoted whole. With nothing to find the condition is false.
func (q *Query[T]) In(d Dialect, column string, first int) (string, []any) {
	if len(q.terms) == 0 {
		return "1 = 0", nil
	}
	if !plainName.MatchString(column) {
		quote := `"`
		if d == MySQL {
			quote = "`"
		}
		column = quote + strings.ReplaceAll(column, quote, quote+quote) + quote
	}
	var b strings.Builder
	b.WriteString(column)
	b.WriteString(" IN (")
	args := make([]any, len(q.terms))
	for i, term := range q.Terms() {
		if i > 0 {
			b.WriteString(", ")
		}
		switch d {
		case Postgres:
			b.WriteString("$" + strconv.Itoa(first+i))
		case SQLite:
			b.WriteString("?" + strconv.Itoa(first+i))
		case MySQL:
			b.WriteByte('?')
		default:
			b.WriteByte('?')
		}
		args[i] = term
	}
	b.WriteByte(')')
	return b.String(), args
}

// Match reports whether an opened row has the value: index values collide, so
// what the database returned may have others. A NULL or Forgotten field does not
// match; one that was not opened gives Reveal's error.
func (q *Query[T]) Match(row *T) (bool, error) {
	if row == nil {
		return false, errNilRow
	}
	secret := q.plan.fields[q.index.of].at.secret(addressOf(row))
	if secret == nil {
		return false, nil
	}
	st := *secret
	if st.statusOf() == StatusNull || st.statusOf() == StatusForgotten {
		return false, nil
	}
	if err := st.readable(); err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(q.index.normalised(nil, st.value.bytes()), q.value.bytes()) == 1, nil
}

// String names the index, not the value.
func (q *Query[T]) String() string { return "query of " + q.index.name }
