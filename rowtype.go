package lethe

import (
	"context"
	"fmt"
	"io"
	"reflect"

	"github.com/lethe-go/lethe/envelope"
)

// Rows is a Sealer for a row type that is known only at run time, for tools that
// work on any table. Its methods take rows as a []T of that type, or a pointer to
// one, and refuse anything else. It is safe for concurrent use; the rows are not.
type Rows struct{ core }

// ForType is For for the struct type t.
func ForType(t reflect.Type, ring *envelope.Keyring, opts ...Options) (*Rows, error) {
	c, err := newCore("ForType", t, ring, opts)
	if err != nil {
		return nil, err
	}
	return &Rows{c}, nil
}

// Rows returns the Sealer for rows whose type is known at run time only: T's,
// with the same keyring, options and tenant.
func (s *Sealer[T]) Rows() *Rows { return &Rows{s.core} }

// Format writes "[sealer]", for every verb: see [Sealer.Format].
func (r *Rows) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[sealer]") }

// Type returns the row type, a struct.
func (r *Rows) Type() reflect.Type { return r.plan.typ }

// Tenant is [Sealer.Tenant].
func (r *Rows) Tenant(tenant string) *Rows { return &Rows{r.of(tenant)} }

// SealSlice is [Sealer.SealSlice].
func (r *Rows) SealSlice(ctx context.Context, rows any) error {
	all, err := rowsIn(r.plan.typ, rows)
	if err != nil {
		return err
	}
	return r.sealAll(ctx, all, false)
}

// ResealSlice is [Sealer.ResealSlice].
func (r *Rows) ResealSlice(ctx context.Context, rows any) error {
	all, err := rowsIn(r.plan.typ, rows)
	if err != nil {
		return err
	}
	return r.sealAll(ctx, all, true)
}

// OpenSlice is [Sealer.OpenSlice].
func (r *Rows) OpenSlice(ctx context.Context, rows any, opts ...OpenOption) error {
	all, err := rowsIn(r.plan.typ, rows)
	if err != nil {
		return err
	}
	return r.openAll(ctx, all, opts)
}

// Left lists rows with a subject or purpose whose keys a rewrap left as they are,
// ascending. One whose other subjects' keys moved is listed as changed too; one that
// is both is listed as forgotten.
type Left struct{ Forgotten, Suspended []int }

// RewrapSlice is [Sealer.RewrapSlice], and says which rows it left and why.
func (r *Rows) RewrapSlice(ctx context.Context, rows any) (changed []int, left Left, err error) {
	all, err := rowsIn(r.plan.typ, rows)
	if err != nil {
		return nil, Left{}, err
	}
	return r.rewrap(ctx, all, r.toNewest)
}

// Reindex is [Sealer.Reindex].
func (r *Rows) Reindex(ctx context.Context, rows any) error {
	all, err := rowsIn(r.plan.typ, rows)
	if err != nil {
		return err
	}
	return r.reindexAll(ctx, all)
}

// SealPlain is [Sealer.SealPlain].
func (r *Rows) SealPlain(ctx context.Context, rows any) (changed []int, err error) {
	all, err := rowsIn(r.plan.typ, rows)
	if err != nil {
		return nil, err
	}
	return r.sealPlain(ctx, all)
}

// Unseal is [Sealer.Unseal].
func (r *Rows) Unseal(ctx context.Context, rows any) (changed []int, err error) {
	all, err := rowsIn(r.plan.typ, rows)
	if err != nil {
		return nil, err
	}
	return r.unseal(ctx, all)
}
