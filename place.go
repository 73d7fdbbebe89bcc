package lethe

import (
	"fmt"
	"reflect"
	"unsafe"
)

// place is where a field of one of our types lies in a row: offsets, with a
// pointer to follow between two of them. For resolves it once, with reflection,
// for the type whose rows it is then used on; following it is a load per field
// and nothing else. All unsafe memory access of the package is here and in hidden.go.
type place []uintptr

// placeOf resolves a path in a row type.
func placeOf(t reflect.Type, at path) place {
	out := place{0}
	for _, i := range at {
		f := i
		if f < 0 {
			f = ^f
		}
		field := t.Field(f)
		out[len(out)-1] += field.Offset
		if t = field.Type; i < 0 {
			out, t = append(out, 0), t.Elem()
		}
	}
	return out
}

func addressOf[T any](row *T) unsafe.Pointer { return unsafe.Pointer(row) } //nolint:gosec // see place

// rows are n rows of one type, size bytes each.
type rows struct {
	first unsafe.Pointer
	size  uintptr
	n     int
	pick  []int // which of those from first on; nil: the first n
}

// only are some of the rows, which were not picked themselves.
func (r rows) only(pick []int) rows { return rows{r.first, r.size, len(pick), pick} }

func rowsOf[T any](all []T) rows {
	return rows{unsafe.Pointer(unsafe.SliceData(all)), reflect.TypeFor[T]().Size(), len(all), nil} //nolint:gosec // see place
}

// rowsIn is rowsOf for a []T, or a pointer to one, whose T is known at run time only.
func rowsIn(t reflect.Type, all any) (rows, error) {
	v := reflect.ValueOf(all)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Slice || v.Type().Elem() != t {
		return rows{}, fmt.Errorf("lethe: the rows are a %T; a []%s, or a pointer to one, is needed", all, t)
	}
	return rows{v.UnsafePointer(), t.Size(), v.Len(), nil}, nil
}

// at returns the address of row i, which is below n.
func (r rows) at(i int) unsafe.Pointer {
	if r.pick != nil {
		i = r.pick[i]
	}
	return unsafe.Add(r.first, uintptr(i)*r.size)
}

// in returns the field's address in a row of the type the place was resolved
// for, or nil behind a nil pointer.
func (p place) in(row unsafe.Pointer) unsafe.Pointer {
	row = unsafe.Add(row, p[0])
	for _, offset := range p[1:] {
		if row = *(*unsafe.Pointer)(row); row == nil {
			return nil
		}
		row = unsafe.Add(row, offset)
	}
	return row
}

// A Secret of any type is one word, the pointer to its state: this does not
// compile otherwise.
var (
	_ [unsafe.Sizeof(Secret[string]{}) - unsafe.Sizeof(uintptr(0))]struct{}
	_ [unsafe.Sizeof(uintptr(0)) - unsafe.Sizeof(Secret[string]{})]struct{}
)

func (p place) secret(row unsafe.Pointer) **state    { return (**state)(p.in(row)) }
func (p place) keys(row unsafe.Pointer) *Keys        { return (*Keys)(p.in(row)) }
func (p place) index(row unsafe.Pointer) *BlindIndex { return (*BlindIndex)(p.in(row)) }
func (p place) text(row unsafe.Pointer) *string      { return (*string)(p.in(row)) }
