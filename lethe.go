package lethe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/tokenize"
)

// Options configure a Sealer.
type Options struct {
	// Policy decides what a call may open; nil allows everything.
	Policy Policy
	// Tokenizers are those that the tags of Token fields name.
	Tokenizers map[string]tokenize.Tokenizer
	// RequireTenant makes every call fail but those of a Sealer from Tenant.
	RequireTenant bool
	// Migrations are the modes of fields that have a plaintext column, tagged
	// plain=, by their stable names. Each such field needs one.
	Migrations map[string]Migration
	// Now is the clock that Migrations go by; nil is time.Now.
	Now func() time.Time
}

// Sealer seals and opens rows of type T. It is safe for concurrent use.
type Sealer[T any] struct{ core }

// core is a Sealer but for the type of its rows, whose fields the plan finds.
type core struct {
	ring       *envelope.Keyring
	plan       *plan
	opts       Options
	tenant     string
	migrations *migrations // nil without plaintext columns
}

// Format writes "[sealer]", for every verb: fmt follows pointers for verbs that
// do not fit them, and would print the Keyring.
func (s *Sealer[T]) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[sealer]") }

// For checks every tag of T and returns its Sealer. The error lists all mistakes at once.
func For[T any](ring *envelope.Keyring, opts ...Options) (*Sealer[T], error) {
	c, err := newCore("For", reflect.TypeFor[T](), ring, opts)
	if err != nil {
		return nil, err
	}
	return &Sealer[T]{c}, nil
}

// newCore makes a Sealer but for its type; caller is the function that errors name.
func newCore(caller string, t reflect.Type, ring *envelope.Keyring, opts []Options) (core, error) {
	if ring == nil {
		return core{}, fmt.Errorf("lethe: %s needs a Keyring: envelope.NewKeyring makes one", caller)
	}
	if len(opts) > 1 {
		return core{}, fmt.Errorf("lethe: %s takes one Options at most", caller)
	}
	p, err := newPlan(t)
	if err != nil {
		return core{}, err
	}
	c := core{ring: ring, plan: p}
	if len(opts) == 1 {
		c.opts = opts[0]
	}
	if err := p.bindTokenizers(c.opts.Tokenizers); err != nil {
		return core{}, err
	}
	c.migrations, err = newMigrations(p, &c.opts)
	return c, err
}

// Tenant returns a view of the Sealer for one tenant, whose keys are its own.
// The tenant is authenticated with every record and never read from the row. It
// is checked when the view is used: UTF-8 of 1 to 1024 bytes without white
// space at the edges.
func (s *Sealer[T]) Tenant(tenant string) *Sealer[T] {
	return &Sealer[T]{s.of(tenant)}
}

// of is Tenant.
func (s *core) of(tenant string) core {
	view := *s
	view.tenant = tenant
	view.opts.RequireTenant = true
	return view
}

// ready checks what holds for every call.
func (s *core) ready(document bool) error {
	if s.opts.RequireTenant && s.tenant == "" {
		return errors.New("lethe: this Sealer needs a tenant: call Tenant with a name that is not empty")
	}
	if s.plan.document && !document {
		return fmt.Errorf("lethe: %s is a document with plain fields: use lethe.Marshal and lethe.Unmarshal", s.plan.typ)
	}
	return nil
}

// begin is ready, for a call that its caller has not given up yet.
func (s *core) begin(ctx context.Context, document bool) error {
	if err := s.ready(document); err != nil {
		return err
	}
	return ctx.Err()
}

var errNilRow = errors.New("lethe: the row is nil")

// Seal seals every field of row that was set with Of, and computes the blind
// indexes over them. A row without Keys is new: it gets data keys of its own,
// fields that were never set become NULL. A row with Keys, as loaded from the
// database, keeps them, and fields that were not set stay as they are.
//
// On error nothing of the row changed. ErrSealed: there is nothing to seal, or a
// new row holds ciphertext of another. ErrNoSubject: the subject or row id is
// empty. ErrForgotten: the person was forgotten. ErrSuspended: they are suspended.
// ErrUnavailable: retry.
func (s *Sealer[T]) Seal(ctx context.Context, row *T) error {
	return s.seal(ctx, addressOf(row), false)
}

// SealSlice is Seal for many rows, whose keys are fetched in one batch. It is
// all or nothing; the error names the row. Rows that point to one nested struct
// are refused: it can hold the ciphertext of one of them only.
func (s *Sealer[T]) SealSlice(ctx context.Context, rows []T) error {
	return s.sealAll(ctx, rowsOf(rows), false)
}

// Reseal seals the row anew from its values, under new data keys, and computes
// all blind indexes, for instance after a normaliser or the number of bits
// changed. Every field must be Plain, Open or NULL. Write the whole row afterwards.
func (s *Sealer[T]) Reseal(ctx context.Context, row *T) error {
	return s.seal(ctx, addressOf(row), true)
}

// ResealSlice is Reseal for many rows, whose keys are fetched in one batch. It is
// all or nothing; the error names the row.
func (s *Sealer[T]) ResealSlice(ctx context.Context, rows []T) error {
	return s.sealAll(ctx, rowsOf(rows), true)
}

// Open opens the row's sealed fields, or those of them that Fields names, as far
// as the policy allows. Fields of a person who was forgotten become Forgotten;
// fields the policy denies, and those of a person who is suspended, become Denied;
// none is an error. A field that is damaged becomes Failed, all others open, and
// the error is a *RowErrors.
// After any other error (ErrUnavailable, the context's) no field changed.
func (s *Sealer[T]) Open(ctx context.Context, row *T, opts ...OpenOption) error {
	return s.open(ctx, addressOf(row), opts)
}

// OpenSlice is Open for many rows, whose keys are fetched in one batch.
func (s *Sealer[T]) OpenSlice(ctx context.Context, rows []T, opts ...OpenOption) error {
	return s.openAll(ctx, rowsOf(rows), opts)
}

// Rewrap moves the row's Keys under the newest keys of its subjects, for
// instance after [envelope.Keyring.Rotate], and reports whether they changed.
// Fields are not touched. Write the Keys only, guarded by the old ones.
func (s *Sealer[T]) Rewrap(ctx context.Context, row *T) (changed bool, err error) {
	if row == nil {
		return false, errNilRow
	}
	at, _, err := s.rewrap(ctx, rows{addressOf(row), 0, 1, nil}, s.toNewest)
	return len(at) == 1, err
}

// RewrapSlice is Rewrap for many rows; changed lists the rows whose Keys are new.
// On error no row changed.
func (s *Sealer[T]) RewrapSlice(ctx context.Context, rows []T) (changed []int, err error) {
	changed, _, err = s.rewrap(ctx, rowsOf(rows), s.toNewest)
	return changed, err
}

// MoveSlice moves rows that were sealed for from to the subjects they name now, for
// instance when two accounts are merged: load the rows of from, set their subject
// fields, call MoveSlice, and write those fields and the Keys in one transaction.
// When no row of from is left, Forget it. changed lists the rows whose Keys are
// new; on error no row changed. See [envelope.Keyring.MoveRecords].
//
// A type with Token fields is refused, since tokens stay with whom they were made
// for: Open its rows, set their subject fields and Reseal them instead.
func (s *Sealer[T]) MoveSlice(ctx context.Context, from Subject, rows []T) (changed []int, err error) {
	return s.move(ctx, from, rowsOf(rows))
}
