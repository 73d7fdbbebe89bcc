package fpe

import (
	"encoding/binary"
	"math/big"
	"math/bits"
)

// word128 is an integer of two words.
type word128 struct{ hi, lo uint64 }

func (x word128) add(y word128) word128 {
	lo, carry := bits.Add64(x.lo, y.lo, 0)
	hi, _ := bits.Add64(x.hi, y.hi, carry)
	return word128{hi, lo}
}

func (x word128) sub(y word128) word128 {
	lo, borrow := bits.Sub64(x.lo, y.lo, 0)
	hi, _ := bits.Sub64(x.hi, y.hi, borrow)
	return word128{hi, lo}
}

// mul returns the low 128 bits of the product.
func (x word128) mul(y word128) word128 {
	hi, lo := bits.Mul64(x.lo, y.lo)
	return word128{hi + x.hi*y.lo + x.lo*y.hi, lo}
}

// mulHigh returns the high 128 bits of the product.
func (x word128) mulHigh(y word128) word128 {
	h0, _ := bits.Mul64(x.lo, y.lo)
	h1, l1 := bits.Mul64(x.hi, y.lo)
	h2, l2 := bits.Mul64(x.lo, y.hi)
	h3, l3 := bits.Mul64(x.hi, y.hi)
	s, c1 := bits.Add64(l1, l2, 0)
	_, c2 := bits.Add64(s, h0, 0)
	lo, c3 := bits.Add64(l3, h1, c1)
	lo, c4 := bits.Add64(lo, h2, c2)
	return word128{h3 + c3 + c4, lo}
}

// reduceOnce returns x, or x-m if x is not below m.
func (x word128) reduceOnce(m word128) word128 {
	lo, borrow := bits.Sub64(x.lo, m.lo, 0)
	hi, borrow := bits.Sub64(x.hi, m.hi, borrow)
	return word128{hi, lo}.add(word128{m.hi & -borrow, m.lo & -borrow})
}

func word128Of(x *big.Int) word128 {
	var b [16]byte
	x.FillBytes(b[:])
	return word128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// modulus128 reduces an integer y of d bytes modulo m by multiplication with
// mu = ⌊2^(8d)/m⌋ (Barrett). With z, the first 128 bits of the MAC's output, the
// quotient's estimate ⌊z·mu/2^128⌋ is never too large: what z has beyond y, for
// d = 12, is a fraction that does not reach the next multiple of m. It is too
// small by less than 1 + 1, for d = 20 by less than 1 + 2^32/m + 1 with m > 2^32:
// the remainder found is below 3m. m is at most 2^120, so that 4m fits.
type modulus128 struct{ m, m2, m3, mu word128 }

func newModulus128(m *big.Int, d int) modulus128 {
	mu := new(big.Int).Lsh(big.NewInt(1), uint(8*d))
	w := word128Of(m)
	m2 := w.add(w)
	return modulus128{w, m2, m2.add(w), word128Of(mu.Div(mu, m))}
}

// crypt128 is crypt for halves of two words.
func (c *core) crypt128(dst, src []uint16, p *plan, tweak []byte, dir direction) {
	var num [4]uint64 // two halves, low words first
	c.numberLong(num[:2], src[:p.u])
	c.numberLong(num[2:], src[p.u:])
	a, b := c.rounds128(p, tweak, word128{num[1], num[0]}, word128{num[3], num[2]}, dir)
	num = [4]uint64{a.lo, a.hi, b.lo, b.hi}
	c.numeralsLong(dst[:p.u], num[:2])
	c.numeralsLong(dst[p.u:], num[2:])
}

func (c *core) rounds128(p *plan, tweak []byte, a, b word128, dir direction) (word128, word128) {
	blk := getBlock()
	defer blk.release()
	c.chain((*[16]byte)(blk), p, tweak)
	fixed := word128{binary.BigEndian.Uint64(blk[:8]), binary.BigEndian.Uint64(blk[8:])}
	// The round stands before the half. Shifts by 64 and more give zero.
	shift0, shift1 := uint(8*p.b-64), uint(8*p.b)

	first := uint64(0)
	if dir == decrypting {
		first, a, b = rounds-1, b, a
	}
	for i := range uint64(rounds) {
		round := i
		if dir == decrypting {
			round = first - i
		}
		m := &p.mod128[round&1]
		binary.BigEndian.PutUint64(blk[:8], fixed.hi^(round<<shift0|b.hi))
		binary.BigEndian.PutUint64(blk[8:], fixed.lo^(round<<shift1|b.lo))
		c.block.Encrypt(blk[:], blk[:])
		z := word128{binary.BigEndian.Uint64(blk[:8]), binary.BigEndian.Uint64(blk[8:])}
		var y word128
		switch p.d {
		case 12:
			y = word128{z.hi >> 32, z.hi<<32 | z.lo>>32}
		case 16:
			y = z
		case 20: // S goes on with CIPH(R ⊕ 1)
			blk[15] ^= 1
			c.block.Encrypt(blk[:], blk[:])
			y = word128{z.hi<<32 | z.lo>>32, z.lo<<32 | uint64(binary.BigEndian.Uint32(blk[:4]))}
		}
		y = y.sub(z.mulHigh(m.mu).mul(m.m))
		if dir == decrypting {
			y = m.m3.sub(y)
		}
		a, b = b, a.add(y).reduceOnce(m.m2).reduceOnce(m.m)
	}
	if dir == decrypting {
		a, b = b, a
	}
	return a, b
}
