package fpe

import (
	"crypto/aes"
	"encoding/binary"
	"strconv"
	"testing"
)

// The workload: AES-256, a new tweak of 8 bytes each call. The floor is the AES
// calls of the ten rounds, each waiting for the one before: 10 for halves that fit
// a block together with the tweak, 30 for 100 digits. AESFloor/10 is the ratio's
// denominator for the first two sizes, AESFloor/30 for the last.
var benchKey = []byte("0123456789abcdef0123456789abcdef")

func benchDigits(n int) []uint16 {
	x := make([]uint16, n)
	for i := range x {
		x[i] = uint16((3*i + 1) % 10)
	}
	return x
}

func BenchmarkAESFloor(b *testing.B) {
	block, err := aes.NewCipher(benchKey)
	if err != nil {
		b.Fatal(err)
	}
	for _, calls := range []int{10, 30} {
		b.Run(strconv.Itoa(calls), func(b *testing.B) {
			b.ReportAllocs()
			x := make([]byte, 16)
			for b.Loop() {
				for range calls {
					block.Encrypt(x, x)
				}
			}
		})
	}
}

var benchLengths = []int{9, 16, 30, 100}

func BenchmarkFF1(b *testing.B) {
	f := newFF1(b, benchKey, 10)
	for _, n := range benchLengths {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			x := benchDigits(n)
			var tweak [8]byte
			b.ReportAllocs()
			var i uint64
			for b.Loop() {
				i++
				binary.BigEndian.PutUint64(tweak[:], i)
				if _, err := f.Encrypt(x[:0], x, tweak[:]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// One operation is one value.
func BenchmarkFF1Batch(b *testing.B) {
	const size = 256
	f := newFF1(b, benchKey, 10)
	for _, n := range benchLengths {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			values, tweaks := make([][]uint16, size), make([][]byte, size)
			for i := range values {
				values[i], tweaks[i] = benchDigits(n), make([]byte, 8)
			}
			b.ReportAllocs()
			var count uint64
			for i := 0; i < b.N; i += size {
				for j := range tweaks {
					count++
					binary.BigEndian.PutUint64(tweaks[j], count)
				}
				if err := f.EncryptBatch(values, tweaks); err != nil {
					b.Fatal(err)
				}
			}
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
		b.ReportAllocs()
		var i uint64
		for b.Loop() {
			i++
			binary.BigEndian.PutUint64(tweak[:], i)
			if s, err = text.Encrypt(s, tweak[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkNewFF1(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		f := newFF1(b, benchKey, 10)
		f.core.plan(16)
	}
}
