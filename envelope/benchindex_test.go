package envelope_test

import (
	"testing"

	"github.com/lethe-go/lethe/envelope/envelopetest"
)

// BenchmarkIndexKeys is finding the key of a blind index in memory.
func BenchmarkIndexKeys(b *testing.B) {
	ring := envelopetest.NewKeyring(b)
	if _, err := ring.IndexKeys(b.Context(), "tenant", "customers", "email_idx", true); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ring.IndexKeys(b.Context(), "tenant", "customers", "email_idx", true); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIndexAppend is computing the index of a normalised value.
func BenchmarkIndexAppend(b *testing.B) {
	keys, err := envelopetest.NewKeyring(b).IndexKeys(b.Context(), "", "customers", "email_idx", true)
	if err != nil {
		b.Fatal(err)
	}
	value := []byte("ada.lovelace@analytical-engine.example.com")
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = keys[0].Append(out[:0], "email/1", value, 32)
	}
}
