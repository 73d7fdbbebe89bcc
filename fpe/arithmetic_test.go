package fpe

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
)

// edgeWord is often one where carries happen.
func edgeWord(rng *rand.Rand) uint64 {
	switch rng.IntN(7) {
	case 0:
		return 0
	case 1:
		return math.MaxUint64
	case 2:
		return 1 << rng.IntN(64)
	case 3:
		return 1<<rng.IntN(64) - 1
	case 4:
		return math.MaxUint64 << rng.IntN(64)
	case 5:
		return rng.Uint64() >> rng.IntN(64)
	}
	return rng.Uint64()
}

func bigOf(words ...uint64) *big.Int { // least significant first
	x := new(big.Int)
	for _, w := range slices.Backward(words) {
		x.Lsh(x, 64).Or(x, new(big.Int).SetUint64(w))
	}
	return x
}

func (x word128) big() *big.Int { return bigOf(x.lo, x.hi) }

func TestWord128(t *testing.T) {
	rng := rand.New(rand.NewPCG(19, 20))
	modulus := new(big.Int).Lsh(big.NewInt(1), 128)
	for range 200_000 {
		x, y := word128{edgeWord(rng), edgeWord(rng)}, word128{edgeWord(rng), edgeWord(rng)}
		product := new(big.Int).Mul(x.big(), y.big())
		for name, c := range map[string]struct {
			got  word128
			want *big.Int
		}{
			"add":      {x.add(y), new(big.Int).Add(x.big(), y.big())},
			"sub":      {x.sub(y), new(big.Int).Sub(x.big(), y.big())},
			"mul":      {x.mul(y), product},
			"mul high": {x.mulHigh(y), new(big.Int).Rsh(product, 128)},
		} {
			if c.want.Mod(c.want, modulus); c.got.big().Cmp(c.want) != 0 {
				t.Fatalf("%s of %x and %x: %x, want %x", name, x, y, c.got, c.want)
			}
		}
		want := x
		if x.big().Cmp(y.big()) >= 0 {
			want = x.sub(y)
		}
		if got := x.reduceOnce(y); got != want {
			t.Fatalf("%x reduced by %x: %x, want %x", x, y, got, want)
		}
		if got, want := reduceOnce(x.lo, y.lo), x.lo-y.lo; x.lo >= y.lo && got != want || x.lo < y.lo && got != x.lo {
			t.Fatalf("%x reduced by %x: %x", x.lo, y.lo, got)
		}
	}
}

func TestDivision(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	for range 200_000 {
		x, d := edgeWord(rng), max(2, edgeWord(rng))
		if q, rem := newReciprocal(d).divide(x); q != x/d || rem != x%d {
			t.Fatalf("%d/%d: %d, %d", x, d, q, rem)
		}
		words := []uint64{edgeWord(rng), edgeWord(rng), edgeWord(rng)}[:1+rng.IntN(3)]
		wantQ, wantRem := new(big.Int).DivMod(bigOf(words...), bigOf(d), new(big.Int))
		got := slices.Clone(words)
		if rem := newDivisor(d).divide(got); bigOf(got...).Cmp(wantQ) != 0 || bigOf(rem).Cmp(wantRem) != 0 {
			t.Fatalf("%x/%x: %x, %x, want %x, %x", words, d, got, rem, wantQ, wantRem)
		}
	}
}

func TestLongIntegers(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 24))
	for range 100_000 {
		n := 1 + rng.IntN(5)
		x, y := make([]uint64, n), make([]uint64, n)
		for i := range x {
			x[i], y[i] = edgeWord(rng), edgeWord(rng)
		}
		q := edgeWord(rng)
		modulus := new(big.Int).Lsh(big.NewInt(1), uint(64*n))
		check := func(name string, got []uint64, want *big.Int) {
			if want.Mod(want, modulus); bigOf(got...).Cmp(want) != 0 {
				t.Fatalf("%s of %x and %x, %x: %x, want %x", name, x, y, q, got, want)
			}
		}
		got := slices.Clone(x)
		addWords(got, y)
		check("add", got, new(big.Int).Add(bigOf(x...), bigOf(y...)))
		got = slices.Clone(x)
		subWords(got, y)
		check("sub", got, new(big.Int).Sub(bigOf(x...), bigOf(y...)))
		got = slices.Clone(x)
		mulSub(got, y, q)
		want := new(big.Int).Mul(bigOf(y...), bigOf(q))
		check("mulSub", got, want.Sub(bigOf(x...), want))
		got = slices.Clone(x)
		reduceWords(got, y, make([]uint64, n))
		want = bigOf(x...)
		if want.Cmp(bigOf(y...)) >= 0 {
			want.Sub(want, bigOf(y...))
		}
		check("reduce", got, want)
	}
}

// Numerals of one word and more, there and back, for every radix of the table and
// every length up to three words.
func TestNumerals(t *testing.T) {
	rng := rand.New(rand.NewPCG(25, 26))
	for _, radix := range radices {
		c := newFF1(t, make([]byte, 16), radix).core
		for n := 1; math.Pow(float64(radix), float64(n)) < math.Pow(2, 180); n++ {
			for range 6 {
				numerals := randomNumerals(rng, n, radix)
				want := new(big.Int)
				for _, d := range numerals {
					want.Mul(want, big.NewInt(int64(radix))).Add(want, big.NewInt(int64(d)))
				}
				words := make([]uint64, 3)
				c.numberLong(words, numerals)
				if bigOf(words...).Cmp(want) != 0 {
					t.Fatalf("radix %d: %v is %x, want %x", radix, numerals, words, want)
				}
				got := make([]uint16, n)
				if want.IsUint64() {
					if x := c.number64(numerals); x != want.Uint64() {
						t.Fatalf("radix %d: %v is %x, want %x", radix, numerals, x, want)
					}
					c.numerals64(got, want.Uint64())
					if !slices.Equal(got, numerals) {
						t.Fatalf("radix %d: %x is %v, want %v", radix, want, got, numerals)
					}
				}
				if c.numeralsLong(got, words); !slices.Equal(got, numerals) {
					t.Fatalf("radix %d: %x is %v, want %v", radix, want, got, numerals)
				}
			}
		}
	}
}
