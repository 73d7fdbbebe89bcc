package fpe

import "math/bits"

// NUM and STR of the standard (algorithms 1 and 3): numerals to an integer and
// back, the most significant first. Division is by multiplication and masks:
// the time of a divide instruction may depend on the value.

// reciprocal divides words by d.
type reciprocal struct {
	d   uint64
	inv uint64 // ⌊2^64/d⌋
}

func newReciprocal(d uint64) reciprocal {
	hi, _ := bits.Div64(1, 0, d)
	return reciprocal{d, hi}
}

// divide returns x/d and x mod d. ⌊x·inv/2^64⌋ is the quotient or one less.
func (r reciprocal) divide(x uint64) (quotient, remainder uint64) {
	q, _ := bits.Mul64(x, r.inv)
	rem, borrow := bits.Sub64(x-q*r.d, r.d, 0)
	return q + 1 - borrow, rem + r.d&-borrow
}

// divisor divides long integers by d (Möller and Granlund, Improved division by
// invariant integers, IEEE Transactions on Computers 60, 2011, algorithm 4).
type divisor struct {
	d     uint64 // shifted so that its first bit is set
	inv   uint64 // ⌊(2^128-1)/d⌋ - 2^64
	shift uint
}

func newDivisor(d uint64) divisor {
	shift := uint(bits.LeadingZeros64(d))
	d <<= shift
	inv, _ := bits.Div64(^d, ^uint64(0), d)
	return divisor{d, inv, shift}
}

// step divides hi·2^64 + lo by d, where hi < d.
func (v divisor) step(hi, lo uint64) (quotient, remainder uint64) {
	q1, q0 := bits.Mul64(v.inv, hi)
	q0, carry := bits.Add64(q0, lo, 0)
	q1 += hi + carry + 1
	r := lo - q1*v.d
	_, above := bits.Sub64(q0, r, 0) // 1 if r > q0: q1 is one too large
	q1 -= above
	r += v.d & -above
	rem, below := bits.Sub64(r, v.d, 0) // 0 if r >= d: q1 is one too small
	return q1 + 1 - below, rem + v.d&-below
}

// divide sets x to the quotient and returns the remainder.
func (v divisor) divide(x []uint64) uint64 {
	n := len(x)
	rem := x[n-1] >> (64 - v.shift) // zero for shift 0
	for i := n - 1; i > 0; i-- {
		x[i], rem = v.step(rem, x[i]<<v.shift|x[i-1]>>(64-v.shift))
	}
	x[0], rem = v.step(rem, x[0]<<v.shift)
	return rem >> v.shift
}

// number64 returns the integer of numerals that fit a word.
func (c *core) number64(src []uint16) uint64 {
	var x uint64
	r := c.radix
	for _, s := range src {
		x = x*r + uint64(s)
	}
	return x
}

// fraction turns an integer x below m = radix^k, m at most 2^32, into a fraction
// of 64 bits whose k digits in base radix are the numerals, so that they come out
// first to last by multiplication alone. It is ⌊2^128/m⌋, and
//
//	f = ⌊x·⌊2^128/m⌋ / 2^64⌋ + 1
//
// is at least x·2^64/m and below (x+1)·2^64/m: the error of the inner floor
// contributes less than m/2^64, which is at most 1/m, so the outer floor does not
// fall short of an integer that x·2^64/m, a multiple of 1/m, has reached.
type fraction word128

func newFraction(m uint64) fraction {
	hi, rem := bits.Div64(1, 0, m)
	lo, _ := bits.Div64(rem, 0, m)
	return fraction{hi, lo}
}

func (r fraction) start(x uint64) uint64 {
	low, _ := bits.Mul64(x, r.lo)
	return x*r.hi + low + 1
}

// numerals writes x as len(dst) = k numerals.
func (r fraction) numerals(dst []uint16, x, radix uint64) {
	f := r.start(x)
	var digit uint64
	for i := range dst {
		digit, f = bits.Mul64(f, radix)
		dst[i] = uint16(digit)
	}
}

// numerals64 writes x as len(dst) numerals.
func (c *core) numerals64(dst []uint16, x uint64) {
	for len(dst) > c.part {
		var rest uint64
		x, rest = c.partBase.divide(x)
		c.fractions[c.part].numerals(dst[len(dst)-c.part:], rest, c.radix)
		dst = dst[:len(dst)-c.part]
	}
	c.fractions[len(dst)].numerals(dst, x, c.radix)
}

// read64 returns the integers of both halves, in one loop.
func (c *core) read64(src []uint16, p *plan) (a, b uint64) {
	first := src[:p.u]
	second := src[p.u:]
	r := c.radix
	if len(second) > len(first) {
		b, second = uint64(second[0]), second[1:]
	}
	second = second[:len(first)]
	for i, s := range first {
		a = a*r + uint64(s)
		b = b*r + uint64(second[i])
	}
	return a, b
}

// write64 writes both halves, in one loop where they fit half a word.
func (c *core) write64(dst []uint16, p *plan, a, b uint64) {
	if p.v > c.part {
		c.numerals64(dst[:p.u], a)
		c.numerals64(dst[p.u:], b)
		return
	}
	first := dst[:p.u]
	second := dst[p.u:]
	r := c.radix
	a, b = c.fractions[p.u].start(a), c.fractions[p.v].start(b)
	var digit uint64
	if len(second) > len(first) {
		digit, b = bits.Mul64(b, r)
		second[0] = uint16(digit)
		second = second[1:]
	}
	second = second[:len(first)]
	for i := range first {
		digit, a = bits.Mul64(a, r)
		first[i] = uint16(digit)
		digit, b = bits.Mul64(b, r)
		second[i] = uint16(digit)
	}
}

// numberLong sets x to the integer of the numerals.
func (c *core) numberLong(x []uint64, src []uint16) {
	clear(x)
	n := len(src) % c.chunk
	x[0] = c.number64(src[:n])
	base := c.chunkBase.d >> c.chunkBase.shift
	for src = src[n:]; len(src) > 0; src = src[c.chunk:] {
		carry := c.number64(src[:c.chunk])
		for i := range x {
			hi, lo := bits.Mul64(x[i], base)
			var add uint64
			x[i], add = bits.Add64(lo, carry, 0)
			carry = hi + add
		}
	}
}

// numeralsLong writes x as len(dst) numerals, and overwrites x.
func (c *core) numeralsLong(dst []uint16, x []uint64) {
	for len(dst) > c.chunk {
		c.numerals64(dst[len(dst)-c.chunk:], c.chunkBase.divide(x))
		dst = dst[:len(dst)-c.chunk]
	}
	c.numerals64(dst, x[0])
}
