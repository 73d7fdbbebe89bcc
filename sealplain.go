package lethe

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lethe-go/lethe/envelope"
)

// SealPlain seals what rows, as loaded with all their columns, have in plaintext
// columns (tagged plain=) and not in sealed ones, with the blind indexes, and sets
// the plaintext columns to NULL, unless Keep says otherwise: the backfill of a
// [Migration]. Without Keep a plaintext beside a sealed value is compared with that,
// which is opened for it (a token that may be used so often loses a use), and set to
// NULL too. changed lists, ascending, the rows to write: Keys, Secrets,
// indexes and plaintext columns, guarded by the old Keys (or sealed_keys IS NULL) and,
// as long as something else may write it, by the old plaintext.
//
// A row is done as a whole or stays as it was. Rows that cannot be done are in a
// *RowErrors, and all others are done: ErrForgotten, whose plaintext is still there
// and must be erased; ErrSuspended, to be tried again after Resume; ErrPlainDiffers;
// ErrDenied, where the policy forbids the comparison. After any other error
// (ErrUnavailable, ErrMigrationOver) changed lists the rows done before it; the
// others are as they were.
func (s *Sealer[T]) SealPlain(ctx context.Context, rows []T) (changed []int, err error) {
	return s.sealPlain(ctx, rowsOf(rows))
}

var errNoPlain = errors.New("lethe: no field is tagged plain=: there is no plaintext column")

// backfill is a SealPlain under way.
type backfill struct {
	todo   []int             // rows with plaintext to seal
	drop   map[int][]int     // per row: the plaintext columns, in plan.plains, to compare and drop
	failed *RowErrors        // the rows that are left as they are
	bad    map[int]bool      // those rows
	scopes map[int][]fieldOf // per row to do: its fields and their scopes
	check  []envelope.Scope
}

// fieldOf is a field and the scope that says whether it may be sealed.
type fieldOf struct{ field, scope int }

func (b *backfill) fail(row int, field string, err error) {
	b.failed, b.bad[row] = b.failed.add(row, field, err), true
}

// readyToMove is begin for SealPlain and Unseal.
func (s *core) readyToMove(ctx context.Context) error {
	if err := s.begin(ctx, false); err != nil {
		return err
	}
	if s.migrations == nil {
		return errNoPlain
	}
	return s.over(nil)
}

func (s *core) sealPlain(ctx context.Context, all rows) ([]int, error) {
	if err := s.readyToMove(ctx); err != nil {
		return nil, err
	}
	b := &backfill{drop: map[int][]int{}, bad: map[int]bool{}, scopes: map[int][]fieldOf{}}
	for i := range all.n {
		s.sortPlain(b, all, i)
	}
	if err := s.checkPlain(ctx, b); err != nil {
		return nil, err
	}
	if err := s.comparePlain(ctx, all, b); err != nil {
		return nil, err
	}
	b.todo = slices.DeleteFunc(b.todo, func(i int) bool { return b.bad[i] })
	changed, err := s.sealPicked(ctx, all, b)
	done := changed
	for i, columns := range b.drop {
		_, sealing := slices.BinarySearch(b.todo, i)
		if _, sealed := slices.BinarySearch(done, i); b.bad[i] || sealing && !sealed {
			continue
		}
		for _, j := range columns {
			s.plan.plains[j].column(all.at(i)).Set(s.plan.plains[j].null())
		}
		if !sealing {
			changed = append(changed, i)
		}
	}
	slices.Sort(changed)
	if err != nil {
		return changed, err
	}
	slices.SortStableFunc(b.failed.list(), func(x, y RowError) int { return x.Index - y.Index })
	return changed, b.failed.orNil()
}

// sortPlain finds out what there is to do in a row.
func (s *core) sortPlain(b *backfill, all rows, i int) {
	row := all.at(i)
	fresh := s.plan.keysAt.keys(row).IsZero()
	var o owners
	work := false
	for j := range s.plan.plains {
		c := &s.plan.plains[j]
		f := &s.plan.fields[c.field]
		slot := f.at.secret(row)
		if slot == nil || c.isNull(row) {
			continue
		}
		switch st := *slot; {
		case st == nil && !fresh:
			b.fail(i, f.name, fmt.Errorf("%w: its sealed column was not selected", ErrNotSealed))
		case st == nil || st == nullState || st.fromPlain():
			at, check, err := s.scopeToCheck(row, c.field, &o, b.check)
			if err != nil {
				b.fail(i, f.name, err)
				continue
			}
			b.check, work = check, true
			b.scopes[i] = append(b.scopes[i], fieldOf{c.field, at})
		case st == nullGiven || st.status == StatusPlain:
			work = true
		case !s.migrations.fields[j].Keep:
			b.drop[i] = append(b.drop[i], j)
		}
	}
	if work {
		b.todo = append(b.todo, i)
	}
}

// checkPlain takes out the rows of people who were forgotten or are suspended.
func (s *core) checkPlain(ctx context.Context, b *backfill) error {
	if len(b.check) == 0 {
		return nil
	}
	if err := s.ring.CheckScopes(ctx, b.check); err != nil {
		return err
	}
	for _, i := range b.todo {
		for _, f := range b.scopes[i] {
			if err := b.check[f.scope].Err; err != nil {
				b.fail(i, s.plan.fields[f.field].name, err)
			}
		}
	}
	return nil
}

// comparePlain takes out the rows whose plaintext is not the sealed value. The
// Secrets are as they were afterwards.
func (s *core) comparePlain(ctx context.Context, all rows, b *backfill) error {
	var pick []int
	fields := map[string]bool{}
	for i := range all.n {
		if b.bad[i] || len(b.drop[i]) == 0 {
			continue
		}
		pick = append(pick, i)
		for _, j := range b.drop[i] {
			fields[s.plan.fields[s.plan.plains[j].field].name] = true
		}
	}
	if len(pick) == 0 {
		return nil
	}
	var names []string
	for name := range fields {
		names = append(names, name)
	}
	decided, err := s.decide(ctx, len(pick), []OpenOption{Fields(names...)})
	if err != nil {
		return err
	}
	some := all.only(pick)
	restore := s.remember(some)
	defer restore()
	var partly *RowErrors
	if err := s.openSealed(ctx, some, decided); err != nil && !errors.As(err, &partly) {
		return err
	}
	for _, i := range pick {
		row := all.at(i)
		for _, j := range b.drop[i] {
			f := &s.plan.fields[s.plan.plains[j].field]
			st := *f.at.secret(row)
			err := st.readable()
			if err == nil {
				if plain := s.plan.plains[j].load(row); plain == nil || plain.err != nil || !sameValue(plain, st) {
					err = ErrPlainDiffers
				}
			}
			if err != nil {
				b.fail(i, f.name, err)
			}
		}
	}
	return nil
}

// remember returns a function that gives the Secrets of rows back the states they
// have now.
func (s *core) remember(all rows) func() {
	type slotOf struct {
		slot **state
		old  *state
	}
	var slots []slotOf
	for i := range all.n {
		for j := range s.plan.fields {
			if slot := s.plan.fields[j].at.secret(all.at(i)); slot != nil {
				slots = append(slots, slotOf{slot, *slot})
			}
		}
	}
	return func() {
		for _, r := range slots {
			*r.slot = r.old
		}
	}
}

// sealPicked seals the rows to do, all at once or, if something is wrong with one of
// them, one by one. It lists those that are sealed.
func (s *core) sealPicked(ctx context.Context, all rows, b *backfill) ([]int, error) {
	if len(b.todo) == 0 {
		return nil, nil
	}
	err := s.sealMigrating(ctx, all.only(b.todo), false)
	if err == nil {
		return slices.Clone(b.todo), nil
	}
	if ofTheCall(err) {
		return nil, err
	}
	var done []int
	for _, i := range b.todo {
		switch err := s.sealMigrating(ctx, all.only([]int{i}), false); {
		case err == nil:
			done = append(done, i)
		case ofTheCall(err):
			return done, err
		default:
			name := s.plan.fields[s.plan.plains[0].field].name
			if of := b.scopes[i]; len(of) > 0 {
				name = s.plan.fields[of[0].field].name
			}
			b.fail(i, name, err)
		}
	}
	return done, nil
}

// ofTheCall reports whether an error is not that of one row: it would meet all others.
func ofTheCall(err error) bool {
	for _, of := range []error{ErrUnavailable, ErrMigrationOver, context.Canceled, context.DeadlineExceeded, envelope.ErrClosed, envelope.ErrLedger} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}
