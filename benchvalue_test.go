package lethe

import (
	"testing"

	"github.com/lethe-go/lethe/envelope/envelopetest"
)

// BenchmarkIndexValue is what Seal computes per index value: normal form and MAC.
func BenchmarkIndexValue(b *testing.B) {
	keys, err := envelopetest.NewKeyring(b).IndexKeys(b.Context(), "", "customers", "idx", true)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ name, norm, value string }{
		{"exact", "exact/1", "ada.lovelace@analytical-engine.example.com"},
		{"digits", "digits/1", "+44 20 7946 0958 ext 1815"},
		{"phone", "phone/1", "+44 20 7946 0958"},
		{"email", "email/1", "Ada.Lovelace@analytical-engine.example.com"},
		{"email-unicode", "email/1", "ada.lovelace@EXÄMPLE.com"},
		{"name-unicode", "name/1", "Ada Lövelace-Byron"},
		{"name-cjk", "name/1", "山田 太郎"},
	} {
		x := indexPlan{normName: c.norm, norm: normalisers[c.norm], bits: 32}
		plain := []byte(c.value)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var out []byte
			for b.Loop() {
				var buf [normalRoom]byte
				out = keys[0].Append(out[:0], x.normName, x.normalised(buf[:], plain), x.bits)
				clear(buf[:])
			}
		})
	}
}
