package fpe

import (
	"crypto/aes"
	"encoding/binary"
	"slices"
	"strconv"
	"testing"
	"time"
)

// The workload: AES-256, a new tweak of 8 bytes for each value. The floor is the
// AES calls of the ten rounds through the standard library, each waiting for the
// one before: 10 for halves that fit a block together with the round, 30 for 100
// digits. The metric "floors" is the time of a value in units of that floor: the
// ratio of the medians of 101 short runs of each, one after the other in turn, so
// that a busy machine does not change it.
var benchKey = []byte("0123456789abcdef0123456789abcdef")

var benchLengths = []int{9, 16, 30, 100}

func floorCalls(n int) int {
	if n > 72 {
		return 30
	}
	return 10
}

func benchDigits(n int) []uint16 {
	x := make([]uint16, n)
	for i := range x {
		x[i] = uint16((3*i + 1) % 10)
	}
	return x
}

func aesChain(b *testing.B, calls int) func() {
	b.Helper()
	block, err := aes.NewCipher(benchKey)
	if err != nil {
		b.Fatal(err)
	}
	x := make([]byte, aes.BlockSize)
	return func() {
		for range calls {
			block.Encrypt(x, x)
		}
	}
}

func reportFloors(b *testing.B, n, values int, op func()) {
	b.Helper()
	chain := aesChain(b, floorCalls(n))
	var times, floors [101]time.Duration
	const size = 256
	for i := range times {
		start := time.Now()
		for range size / values {
			op()
		}
		times[i] = time.Since(start)
		start = time.Now()
		for range size {
			chain()
		}
		floors[i] = time.Since(start)
	}
	slices.Sort(times[:])
	slices.Sort(floors[:])
	b.ReportMetric(float64(times[50])/float64(floors[50]), "floors")
}

func BenchmarkAESFloor(b *testing.B) {
	for _, calls := range []int{10, 30} {
		b.Run(strconv.Itoa(calls), func(b *testing.B) {
			b.ReportAllocs()
			chain := aesChain(b, calls)
			for b.Loop() {
				chain()
			}
		})
	}
}

func BenchmarkFF1(b *testing.B) {
	f := newFF1(b, benchKey, 10)
	for _, n := range benchLengths {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			x := benchDigits(n)
			var tweak [8]byte
			var i uint64
			op := func() {
				i++
				binary.BigEndian.PutUint64(tweak[:], i)
				if _, err := f.Encrypt(x[:0], x, tweak[:]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				op()
			}
			reportFloors(b, n, 1, op)
		})
	}
}

// One operation is a batch of 256 values.
func BenchmarkFF1Batch(b *testing.B) {
	const size = 256
	f := newFF1(b, benchKey, 10)
	for _, n := range benchLengths {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			values, tweaks := make([][]uint16, size), make([][]byte, size)
			for i := range values {
				values[i], tweaks[i] = benchDigits(n), make([]byte, 8)
			}
			var i uint64
			op := func() {
				for j := range tweaks {
					i++
					binary.BigEndian.PutUint64(tweaks[j], i)
				}
				if err := f.EncryptBatch(values, tweaks); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				op()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/value")
			reportFloors(b, n, size, op)
		})
	}
}

func BenchmarkText(b *testing.B) {
	text, err := NewText(newFF1(b, benchKey, 10), Digits)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("16", func(b *testing.B) {
		s := "4111111111111111"
		var tweak [8]byte
		var i uint64
		op := func() {
			i++
			binary.BigEndian.PutUint64(tweak[:], i)
			if s, err = text.Encrypt(s, tweak[:]); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportAllocs()
		for b.Loop() {
			op()
		}
		reportFloors(b, 16, 1, op)
	})
}

func BenchmarkNewFF1(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		newFF1(b, benchKey, 10).core.plan(16) // and the constants of its first length
	}
}
