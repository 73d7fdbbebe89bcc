package migrate

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-go/lethe"
)

// page is some rows of the table, as they were read.
type page struct {
	l    *layout
	rows reflect.Value // a slice of the row type
	meta []rowMeta     // of each
	bad  []rowFailure  // rows that could not be read into the type, which are not in rows
	keys [][]any       // of all rows that were read, bad or not
}

// rowMeta is what a row has besides its fields.
type rowMeta struct {
	key []any // per key column: int64, string or []byte
	raw []any // per column with guards: as stored, for the next column to compare
}

type rowFailure struct {
	key []any
	err error
}

// slice returns rows lo to hi as what the methods of lethe.Rows take.
func (p *page) slice(lo, hi int) any { return p.rows.Slice(lo, hi).Interface() }

func (p *page) len() int { return len(p.meta) }

// keep drops the rows for which ok says no.
func (p *page) keep(ok func(i int) bool) {
	n := 0
	for i := range p.meta {
		if !ok(i) {
			continue
		}
		if n != i {
			p.rows.Index(n).Set(p.rows.Index(i))
			p.meta[n] = p.meta[i]
		}
		n++
	}
	p.rows, p.meta = p.rows.Slice(0, n), p.meta[:n]
}

// fieldAt returns a field of a row, and makes the structs on the way that are
// behind nil pointers.
func fieldAt(row reflect.Value, index []int) reflect.Value {
	if len(index) == 1 {
		return row.Field(index[0])
	}
	for i, at := range index {
		if i > 0 && row.Kind() == reflect.Pointer {
			if row.IsNil() {
				row.Set(reflect.New(row.Type().Elem()))
			}
			row = row.Elem()
		}
		row = row.Field(at)
	}
	return row
}

// reader scans the rows of one query. It is used again for every row.
type reader struct {
	l     *layout
	dest  []any
	keys  []any // scanned keys
	raws  []rawValue
	plain []plainValue
	err   error // why a value is not one of its field's
}

// rawValue takes a column as it is stored, and hands it to a field that scans itself.
type rawValue struct {
	r     *reader
	c     *column
	field sql.Scanner // nil: none
	value any
}

// Scan implements sql.Scanner.
func (v *rawValue) Scan(src any) error {
	if b, ok := src.([]byte); ok {
		src = bytes.Clone(b)
	}
	v.value = src
	if v.field == nil {
		return nil
	}
	if err := v.field.Scan(src); err != nil && v.r.err == nil {
		v.r.err = fmt.Errorf("field %q: %w", v.c.field.GoName, err) // of this row, not of the query
	}
	return nil
}

// plainValue takes a column for a field that does not scan itself; NULL is its
// zero value. A string or integer needs no allocation.
type plainValue struct {
	c    *column
	text sql.NullString
	num  sql.NullInt64
	any  reflect.Value // **T
}

func newReader(l *layout) *reader {
	r := &reader{l: l, keys: make([]any, len(l.keys))}
	for i := range r.keys {
		r.dest = append(r.dest, &r.keys[i])
	}
	n, m := 0, 0
	for i := range l.columns {
		if c := &l.columns[i]; c.own || c.use&guards != 0 {
			n++
		}
		if !l.columns[i].own {
			m++
		}
	}
	r.raws, r.plain = make([]rawValue, n), make([]plainValue, m)
	n, m = 0, 0
	t := l.Rows.Type()
	for i := range l.columns {
		c := &l.columns[i]
		if !c.own {
			p := &r.plain[m]
			m++
			p.c = c
			switch f := t.FieldByIndex(c.field.Index); {
			case f.Type.Kind() == reflect.String && !implementsScanner(f.Type):
				r.dest = append(r.dest, &p.text)
			case f.Type.Kind() >= reflect.Int && f.Type.Kind() <= reflect.Int64 && !implementsScanner(f.Type):
				r.dest = append(r.dest, &p.num)
			default:
				p.any = reflect.New(reflect.PointerTo(f.Type))
				r.dest = append(r.dest, p.any.Interface())
			}
			if c.use&guards == 0 {
				continue
			}
		}
		v := &r.raws[n]
		n++
		v.r, v.c = r, c
		r.dest = append(r.dest, v)
	}
	return r
}

var scannerType = reflect.TypeFor[sql.Scanner]()

func implementsScanner(t reflect.Type) bool { return reflect.PointerTo(t).Implements(scannerType) }

// read scans the current row of a query into a row of the page.
func (r *reader) read(rows *sql.Rows, row reflect.Value) (meta rowMeta, bad error, err error) {
	for i := range r.raws {
		if v := &r.raws[i]; v.c.own {
			v.field, _ = reflect.TypeAssert[sql.Scanner](fieldAt(row, v.c.field.Index).Addr())
		}
	}
	r.err = nil
	err = rows.Scan(r.dest...)
	if err != nil {
		if r.err = r.unfit(err); r.err == nil {
			return meta, nil, err
		}
	}
	for i := range r.plain {
		if err != nil {
			break // the row is bad, and only its key is needed
		}
		p := &r.plain[i]
		f := fieldAt(row, p.c.field.Index)
		switch {
		case p.any.IsValid():
			if v := p.any.Elem(); !v.IsNil() {
				f.Set(v.Elem())
			}
		case f.Kind() == reflect.String:
			f.SetString(p.text.String)
		default:
			if f.OverflowInt(p.num.Int64) {
				r.err = errUnfit(p.c)
				continue
			}
			f.SetInt(p.num.Int64)
		}
	}
	meta.key = make([]any, 0, len(r.keys)+len(r.raws))
	for _, k := range r.keys {
		switch k.(type) {
		case time.Time, nil:
			return meta, nil, errors.New("migrate: a key column was read as a time or as NULL")
		}
		meta.key = append(meta.key, k)
	}
	all := meta.key
	for i := range r.raws {
		if r.raws[i].c.use&guards != 0 {
			all = append(all, r.raws[i].value)
		}
	}
	meta.key, meta.raw = all[:len(r.keys):len(r.keys)], all[len(r.keys):]
	return meta, r.err, nil
}

// unfit returns what to say of a value that its field does not take, nil if err is
// another: what database/sql and the field say of it shows the value.
func (r *reader) unfit(err error) error {
	var at int
	if n, _ := fmt.Sscanf(err.Error(), "sql: Scan error on column index %d", &at); n == 0 {
		return nil
	}
	at -= len(r.keys)
	for i := range r.l.columns {
		c := &r.l.columns[i]
		if at == 0 {
			return errUnfit(c)
		}
		if at--; c.use&guards != 0 && !c.own {
			at--
		}
	}
	return nil
}

func errUnfit(c *column) error {
	return fmt.Errorf("field %q: what column %s holds is no %s", c.field.GoName, c.name, c.field.Value)
}

// readAll reads what a query found.
func (l *layout) readAll(ctx context.Context, into *page, query string, args []any) error {
	rows, err := l.DB.QueryContext(ctx, query, args...)
	if err != nil {
		return quiet(err)
	}
	defer func() { _ = rows.Close() }()
	r := newReader(l)
	for rows.Next() {
		n := into.len()
		if n == into.rows.Len() {
			into.rows = reflect.Append(into.rows, reflect.Zero(l.Rows.Type()))
		}
		row := into.rows.Index(n)
		row.SetZero()
		meta, bad, err := r.read(rows, row)
		if err != nil {
			return err
		}
		into.keys = append(into.keys, meta.key)
		if bad != nil {
			into.bad = append(into.bad, rowFailure{meta.key, bad})
			continue
		}
		into.meta = append(into.meta, meta)
	}
	if err := rows.Err(); err != nil {
		return quiet(err)
	}
	into.rows = into.rows.Slice(0, into.len())
	return nil
}

func (l *layout) newPage(size int) *page {
	t := reflect.SliceOf(l.Rows.Type())
	rows := reflect.New(t).Elem() // addressable
	rows.Set(reflect.MakeSlice(t, size, size))
	return &page{l: l, rows: rows, meta: make([]rowMeta, 0, size)}
}

// next reads the page of size rows behind a key, nil for the first, up to a last one.
func (l *layout) next(ctx context.Context, after, last []any, size int) (*page, error) {
	args := append(l.withTenant(slices.Concat(after, last)), size)
	query := l.sqlitePage(after != nil)
	if l.Dialect == lethe.Postgres {
		query = l.pgPage(after != nil)
	}
	p := l.newPage(size)
	return p, l.readAll(ctx, p, query, args)
}

// again reads rows anew by their keys; what is gone is left out.
func (l *layout) again(ctx context.Context, keys [][]any) (*page, error) {
	p := l.newPage(len(keys))
	if l.Dialect == lethe.Postgres {
		args := make([]any, len(l.keys))
		for i := range l.keys {
			a := newArray(l.keys[i].form, len(keys))
			for _, k := range keys {
				if err := a.add(k[i]); err != nil {
					return nil, err
				}
			}
			args[i] = a.arg()
		}
		return p, l.readAll(ctx, p, l.pgAgain(), l.withTenant(args))
	}
	query := l.sqliteAgain()
	for _, k := range keys {
		p.rows = p.rows.Slice(0, p.len())
		if err := l.readAll(ctx, p, query, l.withTenant(slices.Clone(k))); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// lastKey returns the key of the last row there is now; nil if there is none.
func (l *layout) lastKey(ctx context.Context) ([]any, error) {
	var names, order, where []string
	from := l.name
	if l.Dialect == lethe.Postgres {
		from += " AS r"
	}
	for i := range l.keys {
		out, by := "+"+l.keys[i].name, l.keys[i].name
		if l.Dialect == lethe.Postgres {
			out, by = l.keys[i].pgOut("r."), "r."+by // a bare name would be the text that is selected
		}
		names, order = append(names, out), append(order, by+" DESC")
	}
	args := []any{}
	if l.tenant != "" {
		args, where = append(args, l.Tenant), append(where, l.tenantIs(1))
	}
	query := "SELECT " + strings.Join(names, ", ") + " FROM " + from + whereAll(where) + " ORDER BY " + strings.Join(order, ", ") + " LIMIT 1"
	key := make([]any, len(l.keys))
	dest := make([]any, len(l.keys))
	for i := range key {
		dest[i] = &key[i]
	}
	err := l.DB.QueryRowContext(ctx, query, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return key, err
}

// value is what a field is written as: the driver value, in the form of what the
// row had there, or of the column if it had NULL.
func (c *column) value(row reflect.Value, had any) (any, error) {
	f := fieldAt(row, c.field.Index)
	if !c.own {
		return driver.DefaultParameterConverter.ConvertValue(f.Interface())
	}
	text := c.form == asText
	switch had.(type) {
	case string:
		text = true
	case []byte:
		text = false
	}
	if text && c.field.Role != lethe.RoleToken {
		m, _ := reflect.TypeAssert[encoding.TextMarshaler](f)
		return lethe.Text(m).Value()
	}
	v, _ := reflect.TypeAssert[driver.Valuer](f)
	return v.Value()
}

// array collects values of one column for a parameter of a batch.
type array struct {
	form  form
	bytes [][]byte
	texts []*string
	ints  []*int64
}

func newArray(f form, n int) *array {
	a := &array{form: f}
	switch f {
	case asBytes:
		a.bytes = make([][]byte, 0, n)
	case asInt:
		a.ints = make([]*int64, 0, n)
	default:
		a.texts = make([]*string, 0, n)
	}
	return a
}

var errForm = errors.New("migrate: a value does not fit its column")

func (a *array) add(v any) error {
	switch a.form {
	case asBytes:
		b, ok := v.([]byte)
		if s, is := v.(string); is {
			b, ok = []byte(s), true
		}
		if v != nil && !ok {
			return errForm
		}
		if v != nil && b == nil {
			b = []byte{}
		}
		a.bytes = append(a.bytes, b)
	case asInt:
		if v == nil {
			a.ints = append(a.ints, nil)
			return nil
		}
		n, ok := v.(int64)
		if !ok {
			return errForm
		}
		a.ints = append(a.ints, &n)
	default:
		if v == nil {
			a.texts = append(a.texts, nil)
			return nil
		}
		s, err := textOf(v)
		if err != nil {
			return err
		}
		a.texts = append(a.texts, &s)
	}
	return nil
}

// arg returns what database/sql takes for the array.
func (a *array) arg() any {
	switch a.form {
	case asBytes:
		return a.bytes
	case asInt:
		return a.ints
	default:
		return a.texts
	}
}

// textOf writes a driver value as PostgreSQL reads it.
func textOf(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case []byte:
		return string(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	case bool:
		return strconv.FormatBool(v), nil
	case time.Time:
		return v.Format("2006-01-02 15:04:05.999999999Z07:00"), nil
	}
	return "", errForm
}

// withTenant appends the tenant, if rows are told apart by it.
func (l *layout) withTenant(args []any) []any {
	if l.tenant == "" {
		return args
	}
	return append(args, l.Tenant)
}

// tenantIs says that a row is the tenant's, parameter n; on PostgreSQL of the table as r.
func (l *layout) tenantIs(n int) string {
	if l.Dialect == lethe.Postgres {
		return "r." + l.tenant + `::text COLLATE "C" = $` + strconv.Itoa(n) + "::text"
	}
	p := "?" + strconv.Itoa(n)
	return l.tenant + " = " + p + " AND " + l.tenant + " COLLATE BINARY = " + p // the first for an index
}

func whereAll(conditions []string) string {
	if len(conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(conditions, " AND ")
}
