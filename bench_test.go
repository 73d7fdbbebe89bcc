package lethe_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

// The workload of the benchmarks: 265 bytes in 5 string fields, 10,000
// subjects, keys warm. The floor is what no library can go below: a fresh AES
// key and GCM per record, the key wrapped under a cached one of the subject,
// five fields sealed, nothing bound, nothing committed.
const benchSubjects = 10_000

var benchValues = [5]string{
	"Ada Lovelace-Byron, Countess of Lovelace", "ada.lovelace@analytical-engine.example.com",
	"+44 20 7946 0958 ext 1815", "GB33BUKB20201555555555 / DE89370400440532013000",
	"Met at the Royal Society; asked to be called after four, prefers letters to calls, has a twin brother, no post.",
}

type benchRow struct {
	Keys  lethe.Keys           `lethe:"customers"`
	ID    string               `lethe:"subject=customer"`
	Name  lethe.Secret[string] `lethe:"name"`
	Email lethe.Secret[string] `lethe:"email"`
	Phone lethe.Secret[string] `lethe:"phone"`
	IBAN  lethe.Secret[string] `lethe:"iban"`
	Note  lethe.Secret[string] `lethe:"note"`
}

func newBenchRow(i int) benchRow {
	return benchRow{
		ID: fmt.Sprint("cus_", i), Name: lethe.Of(benchValues[0]), Email: lethe.Of(benchValues[1]),
		Phone: lethe.Of(benchValues[2]), IBAN: lethe.Of(benchValues[3]), Note: lethe.Of(benchValues[4]),
	}
}

func TestBenchmarkWorkload(t *testing.T) {
	n := 0
	for _, v := range benchValues {
		n += len(v)
	}
	if n != 265 {
		t.Errorf("the benchmarks are about 265 bytes, the values have %d", n)
	}
}

func benchSealer(b *testing.B) (*lethe.Sealer[benchRow], []benchRow) {
	b.Helper()
	s, err := lethe.For[benchRow](envelopetest.NewKeyring(b))
	if err != nil {
		b.Fatal(err)
	}
	rows := make([]benchRow, benchSubjects)
	for i := range rows {
		rows[i] = newBenchRow(i)
	}
	if err := s.SealSlice(b.Context(), rows); err != nil {
		b.Fatal(err)
	}
	return s, rows
}

func BenchmarkSeal5(b *testing.B) {
	s, rows := benchSealer(b)
	b.ReportAllocs()
	i := 0
	var row benchRow
	for b.Loop() {
		row = benchRow{ID: rows[i].ID, Name: lethe.Of(benchValues[0]), Email: lethe.Of(benchValues[1]), Phone: lethe.Of(benchValues[2]), IBAN: lethe.Of(benchValues[3]), Note: lethe.Of(benchValues[4])}
		if err := s.Seal(b.Context(), &row); err != nil {
			b.Fatal(err)
		}
		i = (i + 1) % len(rows)
	}
}

func BenchmarkOpen5(b *testing.B) {
	s, rows := benchSealer(b)
	b.ReportAllocs()
	i := 0
	var row benchRow
	for b.Loop() {
		row = rows[i]
		if err := s.Open(b.Context(), &row); err != nil {
			b.Fatal(err)
		}
		i = (i + 1) % len(rows)
	}
}

func newFloorKey(b *testing.B) cipher.AEAD {
	b.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	return floorAEAD(b, key)
}

func floorAEAD(b *testing.B, key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		b.Fatal(err)
	}
	g, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	return g
}

const floorCell = 12 + 16

func floorSeal(b *testing.B, subject cipher.AEAD) []byte {
	var dek [32]byte
	rand.Read(dek[:])
	record := floorAEAD(b, dek[:])
	size := 32 + floorCell
	for _, v := range benchValues {
		size += len(v) + floorCell
	}
	out := make([]byte, 0, size)
	seal := func(g cipher.AEAD, plain []byte) {
		start := len(out)
		out = out[:start+12]
		rand.Read(out[start:])
		out = g.Seal(out, out[start:start+12], plain, nil)
	}
	seal(subject, dek[:])
	for _, v := range benchValues {
		seal(record, []byte(v))
	}
	return out
}

func BenchmarkFloorSeal5(b *testing.B) {
	subjects := make([]cipher.AEAD, benchSubjects)
	for i := range subjects {
		subjects[i] = newFloorKey(b)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		floorSeal(b, subjects[i])
		i = (i + 1) % len(subjects)
	}
}

func BenchmarkFloorOpen5(b *testing.B) {
	subjects, sealed := make([]cipher.AEAD, benchSubjects), make([][]byte, benchSubjects)
	for i := range subjects {
		subjects[i] = newFloorKey(b)
		sealed[i] = floorSeal(b, subjects[i])
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		in := sealed[i]
		dek, err := subjects[i].Open(nil, in[:12], in[12:32+floorCell], nil)
		if err != nil {
			b.Fatal(err)
		}
		record := floorAEAD(b, dek)
		at := 32 + floorCell
		out := make([]byte, 0, 265+5*16)
		for _, v := range benchValues {
			end := at + len(v) + floorCell
			if out, err = record.Open(out, in[at:at+12], in[at+12:end], nil); err != nil {
				b.Fatal(err)
			}
			at = end
		}
		i = (i + 1) % len(subjects)
	}
}
