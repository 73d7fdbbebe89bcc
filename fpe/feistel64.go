package fpe

import (
	"encoding/binary"
	"math/big"
	"math/bits"
	"sync"
)

// modulus64 reduces an integer y of d bytes modulo m by multiplication with
// mu = ⌊2^(8d)/m⌋ (Barrett). With z, the first 64 bits of y, the quotient's
// estimate ⌊z·mu/2^64⌋ is never too large, and too small by
//
//   - less than 1 + 1 for d = 8 (z is y), so by 1 at most,
//   - less than 1 + 2^32/m + 1 for d = 12 and m > 2^32, so by 2 at most:
//
// the remainder found is below 3m. m is below 2^62, so that 4m fits a word.
type modulus64 struct{ m, mu uint64 }

func newModulus64(m *big.Int, d int) modulus64 {
	mu := new(big.Int).Lsh(big.NewInt(1), uint(8*d))
	return modulus64{m.Uint64(), mu.Div(mu, m).Uint64()}
}

// reduceOnce returns x, or x-m if x is not below m.
func reduceOnce(x, m uint64) uint64 {
	x, borrow := bits.Sub64(x, m, 0)
	return x + m&-borrow
}

// block is what a call needs on the heap, because the block cipher is an
// interface and what it is given escapes.
type block [16]byte

var blocks = sync.Pool{New: func() any { return new(block) }}

func getBlock() *block {
	b, _ := blocks.Get().(*block)
	return b
}

// release wipes the block: the next caller may be anyone.
func (b *block) release() {
	*b = block{}
	blocks.Put(b)
}

// rounds64Go runs the ten rounds on halves of one word each, with the block
// cipher of the standard library.
func (c *core) rounds64Go(p *plan, tweak []byte, a, b uint64, dir direction) (uint64, uint64) {
	blk := getBlock()
	defer blk.release()
	c.chain((*[16]byte)(blk), p, tweak)
	fixed0, fixed1 := binary.BigEndian.Uint64(blk[:8]), binary.BigEndian.Uint64(blk[8:])
	// The round stands before the half. Shifts by 64 and more give zero.
	shift0, shift1 := uint(8*p.b-64), uint(8*p.b)
	tail := uint(8*p.d - 64)

	first := uint64(0)
	if dir == decrypting {
		first, a, b = rounds-1, b, a
	}
	for i := range uint64(rounds) {
		round := i
		if dir == decrypting {
			round = first - i
		}
		m := &p.mod64[round&1]
		binary.BigEndian.PutUint64(blk[:8], fixed0^round<<shift0)
		binary.BigEndian.PutUint64(blk[8:], fixed1^(round<<shift1|b))
		c.block.Encrypt(blk[:], blk[:])
		z := binary.BigEndian.Uint64(blk[:8])
		y := z<<tail | binary.BigEndian.Uint64(blk[8:])>>(64-tail)
		q, _ := bits.Mul64(z, m.mu)
		y -= q * m.m
		if dir == decrypting {
			y = 3*m.m - y
		}
		a, b = b, reduceOnce(reduceOnce(a+y, 2*m.m), m.m)
	}
	if dir == decrypting {
		a, b = b, a
	}
	return a, b
}
