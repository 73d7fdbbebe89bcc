package lethe_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"strings"
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
// Subjects come in random order, so their keys are rarely in the processor's
// caches; the row is, since a service has just made it (Of) or read it from its
// database (Scan). These, and Reveal, have benchmarks of their own.
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
func benchSealer(b testing.TB) (*lethe.Sealer[benchRow], []benchRow) {
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

// A warm row costs a few allocations: the record's key and its AEAD, the bytes,
// the states. One more is mostly something that moved from the stack to the heap.
func TestWarmRowsAllocateLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for name, c := range map[string]struct {
		op   operation
		most float64
	}{"seal": {sealOne(t), 6}, "open": {openOne(t), 8}} {
		prepared := testing.AllocsPerRun(100, func() { c.op.make(0, 1) })
		both := testing.AllocsPerRun(100, func() { c.op.make(0, 1); c.op.run(0) })
		if got := both - prepared; got > c.most {
			t.Errorf("%s: %v allocations, at most %v are allowed", name, got, c.most)
		}
	}
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

// operation is one side of a comparison: make prepares slot for subject i, untimed; run is timed.
type operation struct {
	make func(slot, i int)
	run  func(slot int)
}

const benchBlock = 50

func sealOne(b testing.TB) operation {
	s, sealed := benchSealer(b)
	return sealWith(b, s, sealed)
}

func sealWith(b testing.TB, s *lethe.Sealer[benchRow], sealed []benchRow) operation {
	var rows [benchBlock]benchRow
	ctx, plain := b.Context(), newBenchRow(0)
	return operation{func(slot, i int) {
		rows[slot] = plain
		rows[slot].ID = strings.Clone(sealed[i].ID)
	}, func(slot int) {
		if err := s.Seal(ctx, &rows[slot]); err != nil {
			b.Fatal(err)
		}
	}}
}

func openOne(b testing.TB) operation {
	s, sealed := benchSealer(b)
	return openWith(b, s, sealed)
}

func openWith(b testing.TB, s *lethe.Sealer[benchRow], sealed []benchRow) operation {
	var rows [benchBlock]benchRow
	ctx := b.Context()
	return operation{func(slot, i int) {
		rows[slot] = scanned(b, &sealed[i])
	}, func(slot int) {
		if err := s.Open(ctx, &rows[slot]); err != nil {
			b.Fatal(err)
		}
	}}
}

// scanned is a sealed row as it comes from a database.
func scanned(b testing.TB, from *benchRow) benchRow {
	row := benchRow{ID: strings.Clone(from.ID)}
	for _, column := range []struct {
		from driver.Valuer
		to   sql.Scanner
	}{{from.Keys, &row.Keys}, {from.Name, &row.Name}, {from.Email, &row.Email}, {from.Phone, &row.Phone}, {from.IBAN, &row.IBAN}, {from.Note, &row.Note}} {
		v, err := column.from.Value()
		if err == nil {
			err = column.to.Scan(v)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	return row
}

func BenchmarkScan5(b *testing.B) {
	_, sealed := benchSealer(b)
	var values [6]driver.Value
	for i, from := range []driver.Valuer{sealed[0].Keys, sealed[0].Name, sealed[0].Email, sealed[0].Phone, sealed[0].IBAN, sealed[0].Note} {
		values[i], _ = from.Value()
	}
	b.ReportAllocs()
	for b.Loop() {
		var row benchRow
		for i, to := range []sql.Scanner{&row.Keys, &row.Name, &row.Email, &row.Phone, &row.IBAN, &row.Note} {
			if err := to.Scan(values[i]); err != nil {
				b.Fatal(err)
			}
		}
	}
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

// floor is the floor, or with contexts the floor plus what the format asks for:
// contexts of its sizes as associated data, and the digest that binds the scopes.
type floor struct{ wrap, cell []byte }

var bound = floor{make([]byte, 190), make([]byte, 40)}

func floorAppend(g cipher.AEAD, out, plain, aad []byte) []byte {
	start := len(out)
	out = out[:start+12]
	rand.Read(out[start:])
	return g.Seal(out, out[start:start+12], plain, aad)
}

func (f floor) commit(dek []byte) [sha256.Size]byte {
	commit := sha256.Sum256(dek)
	if f.wrap != nil {
		sum := sha256.Sum256(f.wrap[:55])
		f.wrap[0] = sum[0]
		f.wrap[0] = 0
	}
	return commit
}

func (f floor) seal(b *testing.B, subject cipher.AEAD, values [5][]byte) []byte {
	var dek [32]byte
	rand.Read(dek[:])
	record := floorAEAD(b, dek[:])
	commit := f.commit(dek[:])
	out := floorAppend(subject, make([]byte, 0, floorSize), dek[:], f.wrap)
	out = append(out, commit[:]...)
	for _, v := range values {
		out = floorAppend(record, out, v, f.cell)
	}
	return out
}

func floorSubjects(b *testing.B) (subjects [benchSubjects]cipher.AEAD, values [5][]byte) {
	for i := range subjects {
		key := make([]byte, 32)
		rand.Read(key)
		subjects[i] = floorAEAD(b, key)
	}
	for i, v := range benchValues {
		values[i] = []byte(v)
	}
	return subjects, values
}

func (f floor) sealOne(b *testing.B) operation {
	subjects, values := floorSubjects(b)
	var rows [benchBlock]int
	return operation{func(slot, i int) { rows[slot] = i }, func(slot int) { f.seal(b, subjects[rows[slot]], values) }}
}

func (f floor) openOne(b *testing.B) operation {
	subjects, values := floorSubjects(b)
	var sealed [benchSubjects][]byte
	for i := range subjects {
		sealed[i] = f.seal(b, subjects[i], values)
	}
	type row struct {
		subject int
		sealed  []byte
	}
	var rows [benchBlock]row
	return operation{func(slot, i int) { rows[slot] = row{i, bytes.Clone(sealed[i])} }, func(slot int) {
		in := rows[slot].sealed
		var buf [32]byte
		dek, err := subjects[rows[slot].subject].Open(buf[:0], in[:12], in[12:32+floorCell], f.wrap)
		if err != nil {
			b.Fatal(err)
		}
		if commit := f.commit(dek); string(commit[:]) != string(in[32+floorCell:floorHeader]) {
			b.Fatal("not the key")
		}
		record := floorAEAD(b, dek)
		at := floorHeader
		out := make([]byte, 0, 265)
		for _, v := range benchValues {
			end := at + len(v) + floorCell
			if out, err = record.Open(out, in[at:at+12], in[at+12:end], f.cell); err != nil {
				b.Fatal(err)
			}
			at = end
		}
	}}
}

// benchOrder is a fixed random order of the subjects.
var benchOrder = mrand.New(mrand.NewPCG(1, 2)).Perm(benchSubjects)

// single is for counting allocations: of the timed part only.
func single(b *testing.B, op operation) {
	b.ReportAllocs()
	slot := 0
	for i := range benchBlock {
		op.make(i, benchOrder[i])
	}
	n := 0
	for b.Loop() {
		if slot == benchBlock {
			b.StopTimer()
			for slot = range benchBlock {
				n = (n + 1) % benchSubjects
				op.make(slot, benchOrder[n])
			}
			slot = 0
			b.StartTimer()
		}
		op.run(slot)
		slot++
	}
}

func BenchmarkSeal5(b *testing.B)      { single(b, sealOne(b)) }
func BenchmarkOpen5(b *testing.B)      { single(b, openOne(b)) }
func BenchmarkFloorSeal5(b *testing.B) { single(b, floor{}.sealOne(b)) }
func BenchmarkFloorOpen5(b *testing.B) { single(b, floor{}.openOne(b)) }

// against reports the median times of two operations that take turns, and their ratio.
func against(b *testing.B, ours, other operation) {
	median := inTurns(b, ours, other)
	b.ReportMetric(median[0], "ns/lethe")
	b.ReportMetric(median[1], "ns/other")
	b.ReportMetric(median[0]/median[1], "ratio")
}

// inTurns takes turns between two operations in short blocks, so that noise of
// the machine hits both, and returns the median time of each in nanoseconds.
func inTurns(b *testing.B, ours, other operation) [2]float64 {
	var took [2][]time.Duration
	n := 0
	for b.Loop() {
		for side, op := range []operation{ours, other} {
			for slot := range benchBlock {
				op.make(slot, benchOrder[(n+slot)%benchSubjects])
			}
			start := time.Now()
			for slot := range benchBlock {
				op.run(slot)
			}
			took[side] = append(took[side], time.Since(start)/benchBlock)
		}
		n = (n + benchBlock) % benchSubjects
	}
	b.ReportMetric(0, "ns/op") // of a pair of blocks: says nothing
	return [2]float64{medianOf(took[0]), medianOf(took[1])}
}

func medianOf(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2])
}

func BenchmarkSeal5AgainstFloor(b *testing.B) { against(b, sealOne(b), floor{}.sealOne(b)) }
func BenchmarkOpen5AgainstFloor(b *testing.B) { against(b, openOne(b), floor{}.openOne(b)) }

// Of one subject, whose keys the processor has at hand: what is left is work.
func BenchmarkSeal5OneSubject(b *testing.B) {
	against(b, sealOne(b).ofOne(), floor{}.sealOne(b).ofOne())
}

func BenchmarkOpen5OneSubject(b *testing.B) {
	against(b, openOne(b).ofOne(), floor{}.openOne(b).ofOne())
}

func (op operation) ofOne() operation {
	return operation{func(slot, _ int) { op.make(slot, 0) }, op.run}
}

// What the format itself costs, and what the code around it.
func BenchmarkSeal5AgainstBoundFloor(b *testing.B) { against(b, sealOne(b), bound.sealOne(b)) }
func BenchmarkOpen5AgainstBoundFloor(b *testing.B) { against(b, openOne(b), bound.openOne(b)) }
