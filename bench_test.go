package lethe_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

// The workload of the benchmarks: 265 bytes in 5 string fields, 10,000
// subjects, keys warm. The floor is what no library with these keys can go
// below: a fresh AES-256 key and GCM per record, the key wrapped under a cached
// one of the subject and committed to with one SHA-256, five cells with random
// nonces, one buffer; nothing is bound to a context, nothing looked up.
//
// Subjects come in random order. Seal and Open are measured without making rows
// (Of) and reading them (Reveal), which have benchmarks of their own.
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

// benchSealer returns sealed rows, whose keys are warm.
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

func BenchmarkOf5(b *testing.B) {
	b.ReportAllocs()
	var row benchRow
	for b.Loop() {
		row = benchRow{Name: lethe.Of(benchValues[0]), Email: lethe.Of(benchValues[1]), Phone: lethe.Of(benchValues[2]), IBAN: lethe.Of(benchValues[3]), Note: lethe.Of(benchValues[4])}
	}
	_ = row
}

func BenchmarkReveal5(b *testing.B) {
	row := newBenchRow(1)
	b.ReportAllocs()
	for b.Loop() {
		for _, s := range []lethe.Secret[string]{row.Name, row.Email, row.Phone, row.IBAN, row.Note} {
			if _, err := s.Reveal(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func sealOne(b *testing.B) func(i int) {
	s, sealed := benchSealer(b)
	ctx, row, plain := b.Context(), new(benchRow), newBenchRow(0)
	return func(i int) {
		*row = plain
		row.ID = sealed[i].ID
		if err := s.Seal(ctx, row); err != nil {
			b.Fatal(err)
		}
	}
}

func openOne(b *testing.B) func(i int) {
	s, sealed := benchSealer(b)
	ctx, row := b.Context(), new(benchRow)
	return func(i int) {
		*row = sealed[i]
		if err := s.Open(ctx, row); err != nil {
			b.Fatal(err)
		}
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

const (
	floorCell   = 12 + 16
	floorHeader = 32 + floorCell + sha256.Size
	floorSize   = floorHeader + 265 + 5*floorCell
)

func floorAppend(g cipher.AEAD, out, plain []byte) []byte {
	start := len(out)
	out = out[:start+12]
	rand.Read(out[start:])
	return g.Seal(out, out[start:start+12], plain, nil)
}

func floorSealOne(b *testing.B) func(i int) {
	subjects := make([]cipher.AEAD, benchSubjects)
	for i := range subjects {
		subjects[i] = newFloorKey(b)
	}
	values := floorValues()
	return func(i int) { floorSeal(b, subjects[i], values) }
}

func floorValues() (out [5][]byte) {
	for i, v := range benchValues {
		out[i] = []byte(v)
	}
	return out
}

func floorSeal(b *testing.B, subject cipher.AEAD, values [5][]byte) []byte {
	var dek [32]byte
	rand.Read(dek[:])
	record := floorAEAD(b, dek[:])
	out := floorAppend(subject, make([]byte, 0, floorSize), dek[:])
	commit := sha256.Sum256(dek[:])
	out = append(out, commit[:]...)
	for _, v := range values {
		out = floorAppend(record, out, v)
	}
	return out
}

func floorOpenOne(b *testing.B) func(i int) {
	subjects, sealed := make([]cipher.AEAD, benchSubjects), make([][]byte, benchSubjects)
	values := floorValues()
	for i := range subjects {
		subjects[i] = newFloorKey(b)
		sealed[i] = floorSeal(b, subjects[i], values)
	}
	return func(i int) {
		in := sealed[i]
		var buf [32]byte
		dek, err := subjects[i].Open(buf[:0], in[:12], in[12:32+floorCell], nil)
		if err != nil {
			b.Fatal(err)
		}
		if commit := sha256.Sum256(dek); string(commit[:]) != string(in[32+floorCell:floorHeader]) {
			b.Fatal("not the key")
		}
		record := floorAEAD(b, dek)
		at := floorHeader
		out := make([]byte, 0, 265)
		for _, v := range benchValues {
			end := at + len(v) + floorCell
			if out, err = record.Open(out, in[at:at+12], in[at+12:end], nil); err != nil {
				b.Fatal(err)
			}
			at = end
		}
	}
}

// benchOrder is a fixed random order of the subjects.
var benchOrder = mrand.New(mrand.NewPCG(1, 2)).Perm(benchSubjects) //nolint:gosec // an order, not a secret

func single(b *testing.B, op func(i int)) {
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		op(benchOrder[i])
		i = (i + 1) % benchSubjects
	}
}

func BenchmarkSeal5(b *testing.B)      { single(b, sealOne(b)) }
func BenchmarkOpen5(b *testing.B)      { single(b, openOne(b)) }
func BenchmarkFloorSeal5(b *testing.B) { single(b, floorSealOne(b)) }
func BenchmarkFloorOpen5(b *testing.B) { single(b, floorOpenOne(b)) }

// against takes turns between two operations in short blocks, so that noise of
// the machine hits both, and reports the median time of each and their ratio.
func against(b *testing.B, ours, other func(i int)) {
	const block = 50
	var took [2][]time.Duration
	i := 0
	for b.Loop() {
		for side, op := range []func(int){ours, other} {
			start := time.Now()
			for j := range block {
				op(benchOrder[(i+j)%benchSubjects])
			}
			took[side] = append(took[side], time.Since(start)/block)
		}
		i = (i + block) % benchSubjects
	}
	var median [2]float64
	for side := range took {
		slices.Sort(took[side])
		median[side] = float64(took[side][len(took[side])/2])
	}
	b.ReportMetric(0, "ns/op") // of a pair of blocks: says nothing
	b.ReportMetric(median[0], "ns/lethe")
	b.ReportMetric(median[1], "ns/other")
	b.ReportMetric(median[0]/median[1], "ratio")
}

func BenchmarkSeal5AgainstFloor(b *testing.B) { against(b, sealOne(b), floorSealOne(b)) }
func BenchmarkOpen5AgainstFloor(b *testing.B) { against(b, openOne(b), floorOpenOne(b)) }
