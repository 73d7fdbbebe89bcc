package migrate

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
)

// outcome is what a job did to the rows of a page, in memory.
type outcome struct {
	write  []int // rows to write
	counts Counts
	failed []rowFailure
}

// rowLevel are the errors that a single row has. Any other that every row of a
// page has is one of the job.
var rowLevel = []error{
	lethe.ErrDecrypt, lethe.ErrKeyMissing, lethe.ErrNoSubject, lethe.ErrNotSealed, lethe.ErrSealed, lethe.ErrDenied,
	lethe.ErrForgotten, lethe.ErrSuspended, lethe.ErrPlainDiffers, envelope.ErrScopes, ErrContended, ErrRefused,
}

func sentinel(err error) error {
	for _, s := range rowLevel {
		if errors.Is(err, s) {
			return s
		}
	}
	return nil
}

// stops reports whether an error is of the call and not of a row.
func stops(err error) bool {
	return errors.Is(err, lethe.ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, envelope.ErrClosed) || errors.Is(err, envelope.ErrLedger) || errors.Is(err, lethe.ErrMigrationOver)
}

// worker changes the rows of one page.
type worker struct {
	*page
	k   Kind
	out outcome
}

func (k Kind) process(ctx context.Context, p *page) (outcome, error) {
	w := &worker{page: p, k: k}
	for _, b := range p.bad {
		w.fail(b.key, b.err)
	}
	if !k.moves() {
		w.without(lethe.RoleKeys, func(f reflect.Value) bool {
			keys, _ := reflect.TypeAssert[lethe.Keys](f)
			return keys.IsZero()
		}, &w.out.counts.Unsealed)
	}
	n := p.len()
	var err error
	switch k {
	case Rewrap:
		err = w.rewrap(ctx)
	case Reseal:
		err = w.reseal(ctx)
	case Reindex:
		err = w.reindex(ctx)
	case Backfill:
		err = w.move(ctx, p.l.Rows.SealPlain)
	default:
		err = w.move(ctx, p.l.Rows.Unseal)
	}
	if err == nil && n > 1 && len(w.out.failed) >= n && sentinel(w.out.failed[len(w.out.failed)-1].err) == nil {
		err = fmt.Errorf("migrate: every row of a page failed: %w", w.out.failed[len(w.out.failed)-1].err)
	}
	return w.out, err
}

// fail takes note of a row's error.
func (w *worker) fail(key []any, err error) {
	switch {
	case errors.Is(err, lethe.ErrForgotten):
		w.out.counts.Forgotten++
		if w.k == Backfill { // the plaintext is still there
			w.out.failed = append(w.out.failed, rowFailure{key, err})
		}
	case errors.Is(err, lethe.ErrSuspended):
		w.out.counts.Suspended++
	default:
		w.out.counts.Failed++
		w.out.failed = append(w.out.failed, rowFailure{key, err})
	}
}

// without drops the rows for which a field of a role is so, and counts them.
func (w *worker) without(role lethe.Role, is func(reflect.Value) bool, count *int64) {
	for i := range w.l.columns {
		c := &w.l.columns[i]
		if c.field.Role != role {
			continue
		}
		w.keep(func(i int) bool {
			drop := is(fieldAt(w.rows.Index(i), c.field.Index))
			if drop {
				*count++
			}
			return !drop
		})
	}
}

// each calls fn for all rows, and where it fails for halves of them, down to the
// rows that fail alone. fn is all or nothing. It returns which rows fn did not do.
func (w *worker) each(lo, hi int, fn func(lo, hi int) error) (failed map[int]bool, err error) {
	failed = map[int]bool{}
	var do func(lo, hi int) error
	do = func(lo, hi int) error {
		if lo == hi {
			return nil
		}
		err := fn(lo, hi)
		switch {
		case err == nil:
			return nil
		case stops(err):
			return err
		case hi-lo == 1:
			failed[lo] = true
			w.fail(w.meta[lo].key, err)
			return nil
		}
		mid := lo + (hi-lo)/2
		if err := do(lo, mid); err != nil {
			return err
		}
		return do(mid, hi)
	}
	return failed, do(lo, hi)
}

func (w *worker) rewrap(ctx context.Context) error {
	skipped := 0
	failed, err := w.each(0, w.len(), func(lo, hi int) error {
		changed, left, err := w.l.Rows.RewrapSlice(ctx, w.slice(lo, hi))
		if err != nil {
			return err
		}
		for _, i := range changed {
			w.out.write = append(w.out.write, lo+i)
		}
		for count, rows := range map[*int64][]int{&w.out.counts.Forgotten: left.Forgotten, &w.out.counts.Suspended: left.Suspended} {
			for _, i := range rows {
				if _, moved := slices.BinarySearch(changed, i); !moved {
					*count++
					skipped++
				}
			}
		}
		return nil
	})
	w.out.counts.Unchanged += int64(w.len() - len(failed) - len(w.out.write) - skipped)
	return err
}

// open opens rows, and drops those that do not open.
func (w *worker) open(ctx context.Context, opts ...lethe.OpenOption) error {
	err := w.l.Rows.OpenSlice(ctx, w.slice(0, w.len()), opts...)
	var rows *lethe.RowErrors
	if err == nil || !errors.As(err, &rows) {
		return err
	}
	failed := map[int]bool{}
	for _, e := range rows.Errors {
		if !failed[e.Index] {
			failed[e.Index] = true
			w.fail(w.meta[e.Index].key, fmt.Errorf("field %q: %w", e.Field, e.Err))
		}
	}
	w.keep(func(i int) bool { return !failed[i] })
	return nil
}

type hasStatus interface{ Status() lethe.Status }

func status(f reflect.Value) lethe.Status {
	s, _ := reflect.TypeAssert[hasStatus](f)
	return s.Status()
}

func (w *worker) reseal(ctx context.Context) error {
	if err := w.open(ctx); err != nil {
		return err
	}
	for _, role := range []lethe.Role{lethe.RoleSecret, lethe.RoleToken} {
		w.without(role, func(f reflect.Value) bool { return status(f) == lethe.StatusForgotten }, &w.out.counts.Forgotten)
	}
	failed, err := w.each(0, w.len(), func(lo, hi int) error { return w.l.Rows.ResealSlice(ctx, w.slice(lo, hi)) })
	for i := range w.len() {
		if !failed[i] {
			w.out.write = append(w.out.write, i)
		}
	}
	return err
}

func (w *worker) reindex(ctx context.Context) error {
	d := w.l.Rows.Describe()
	if err := w.open(ctx, lethe.Fields(named(&d, lethe.RoleIndex)...)); err != nil {
		return err
	}
	before := make([]lethe.BlindIndex, 0, w.len())
	all := func(fn func(row int, x lethe.BlindIndex)) {
		for i := range w.l.columns {
			if c := &w.l.columns[i]; c.field.Role == lethe.RoleIndex {
				for row := range w.len() {
					x, _ := reflect.TypeAssert[lethe.BlindIndex](fieldAt(w.rows.Index(row), c.field.Index))
					fn(row, x)
				}
			}
		}
	}
	all(func(_ int, x lethe.BlindIndex) { before = append(before, x) })
	failed, err := w.each(0, w.len(), func(lo, hi int) error { return w.l.Rows.Reindex(ctx, w.slice(lo, hi)) })
	if err != nil {
		return err
	}
	changed := make([]bool, w.len())
	n := 0
	all(func(row int, x lethe.BlindIndex) {
		changed[row] = changed[row] || !x.Equal(before[n])
		n++
	})
	for i := range w.len() {
		switch {
		case failed[i]:
		case changed[i]:
			w.out.write = append(w.out.write, i)
		default:
			w.out.counts.Unchanged++
		}
	}
	return nil
}

// move moves rows between plaintext columns and sealed ones. do does what it can,
// and says of every other row why not.
func (w *worker) move(ctx context.Context, do func(context.Context, any) ([]int, error)) error {
	changed, err := do(ctx, w.slice(0, w.len()))
	var rows *lethe.RowErrors
	if err != nil && !errors.As(err, &rows) {
		return err
	}
	w.out.write = changed
	failed := map[int]bool{}
	if rows != nil {
		for _, e := range rows.Errors {
			if !failed[e.Index] {
				failed[e.Index] = true
				w.fail(w.meta[e.Index].key, fmt.Errorf("field %q: %w", e.Field, e.Err))
			}
		}
	}
	w.out.counts.Unchanged += int64(w.len() - len(changed) - len(failed))
	return nil
}
