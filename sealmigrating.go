package lethe

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"unsafe"
)

// plainTaken is what Seal does with one field that has a plaintext column.
type plainTaken struct {
	plain   int // in plan.plains
	row     unsafe.Pointer
	slot    **state
	old     *state
	adopted bool          // the value is that of the column
	column  reflect.Value // what the column is to hold; not valid: as it is
}

// sealMigrating seals rows that have plaintext columns: values that are still
// there are sealed with the others, and the columns are written as the Migration
// says. A plaintext beside a sealed value that stays is left to SealPlain, which
// compares the two before it drops one.
func (s *core) sealMigrating(ctx context.Context, all rows, anew bool) error {
	if err := s.over(nil); err != nil {
		return err
	}
	var taken []plainTaken
	sealed := false
	defer func() {
		if sealed {
			return
		}
		for _, t := range slices.Backward(taken) { // two may be of one struct
			*t.slot = t.old
		}
	}()
	for i := range all.n {
		for j := range s.plan.plains {
			t, ok, err := s.takePlain(all.at(i), j)
			if err != nil {
				return s.rowErr(i, all.n, fmt.Errorf("field %q: %w", s.plan.fields[s.plan.plains[j].field].name, err))
			}
			if ok {
				taken = append(taken, t)
			}
		}
	}
	var err error
	if all.n == 1 {
		err = s.sealRow(ctx, all.at(0), anew)
	} else {
		err = s.sealRows(ctx, all, anew)
	}
	if err != nil {
		return err
	}
	sealed = true
	for i := range taken {
		t := &taken[i]
		if t.column.IsValid() {
			s.plan.plains[t.plain].column(t.row).Set(t.column)
		}
		if t.adopted {
			s.migrations.fields[t.plain].backfilled.Add(1)
		}
	}
	return nil
}

// takePlain decides what is sealed of a field, puts it into the Secret, and what
// becomes of the plaintext column; ok is false if neither changes. A Secret that has
// a value counts, then the column.
func (s *core) takePlain(row unsafe.Pointer, plain int) (t plainTaken, ok bool, err error) {
	c := &s.plan.plains[plain]
	slot := s.plan.fields[c.field].at.secret(row)
	if slot == nil {
		return t, false, nil
	}
	t = plainTaken{plain: plain, row: row, slot: slot, old: *slot, column: c.null()}
	keep := s.migrations.fields[plain].Keep
	value := *slot
	switch {
	case value == nullGiven:
		return t, true, nil
	case value.statusOf() == StatusPlain:
	case value.statusOf() == StatusOpen && value.fromPlain():
		t.adopted = true
		value = &state{status: StatusPlain, codec: value.codec, value: value.value}
	case value == nullState, value.fromPlain(), value == nil && s.plan.keysAt.keys(row).IsZero():
		if value = c.load(row); value == nil {
			return t, false, nil
		}
		t.adopted = true
		if keep {
			t.column = reflect.Value{}
		}
	default: // sealed, or not selected
		return t, false, nil
	}
	if value.err != nil {
		return t, false, value.err
	}
	if keep && t.column.IsValid() {
		if t.column, err = c.made(value.codec, value.value.bytes()); err != nil {
			return t, false, err
		}
	}
	*slot = value
	return t, true, nil
}
