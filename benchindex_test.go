package lethe_test

import (
	"testing"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

// bareRow and its likes differ in the blind index over one field.
type bareRow struct {
	Keys  lethe.Keys           `lethe:"customers"`
	ID    string               `lethe:"subject=customer"`
	Value lethe.Secret[string] `lethe:"value"`
}

type exactRow struct {
	bareRow
	Index lethe.BlindIndex `lethe:"idx,of=value,norm=exact/1"`
}

type digitsRow struct {
	bareRow
	Index lethe.BlindIndex `lethe:"idx,of=value,norm=digits/1"`
}

type emailRow struct {
	bareRow
	Index lethe.BlindIndex `lethe:"idx,of=value,norm=email/1"`
}

type nameRow struct {
	bareRow
	Index lethe.BlindIndex `lethe:"idx,of=value,norm=name/1"`
}

// sealIndexed is an operation that seals rows of T whose one value is value.
func sealIndexed[T any](b *testing.B, value string, bare func(*T) *bareRow) operation {
	s, err := lethe.For[T](envelopetest.NewKeyring(b))
	if err != nil {
		b.Fatal(err)
	}
	var rows [benchBlock]T
	op := operation{func(slot, i int) {
		var row T
		*bare(&row) = bareRow{ID: newBenchRow(i).ID, Value: lethe.Of(value)}
		rows[slot] = row
	}, func(slot int) {
		if err := s.Seal(b.Context(), &rows[slot]); err != nil {
			b.Fatal(err)
		}
	}}
	for i := range benchSubjects { // warm
		op.make(0, i)
		op.run(0)
	}
	return op
}

// BenchmarkSealWithIndex is a row with one blind index against the same row
// without: the difference is what the index costs, the bytes it is stored in included.
func BenchmarkSealWithIndex(b *testing.B) {
	for _, c := range []struct{ name, value string }{
		{"exact", benchValues[1]}, {"digits", benchValues[2]}, {"email", benchValues[1]}, {"email-unicode", "ada.lovelace@EXÄMPLE.com"},
		{"name", benchValues[0]}, {"name-unicode", "Ada Lövelace-Byron"},
	} {
		b.Run(c.name, func(b *testing.B) {
			without := sealIndexed(b, c.value, func(r *bareRow) *bareRow { return r })
			var with operation
			switch c.name {
			case "exact":
				with = sealIndexed(b, c.value, func(r *exactRow) *bareRow { return &r.bareRow })
			case "digits":
				with = sealIndexed(b, c.value, func(r *digitsRow) *bareRow { return &r.bareRow })
			case "email", "email-unicode":
				with = sealIndexed(b, c.value, func(r *emailRow) *bareRow { return &r.bareRow })
			default:
				with = sealIndexed(b, c.value, func(r *nameRow) *bareRow { return &r.bareRow })
			}
			took := inTurns(b, with, without)
			b.ReportMetric(took[0]-took[1], "ns/index")
		})
	}
}
