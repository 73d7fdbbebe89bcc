package fpe

import (
	"crypto/aes"
	"encoding/binary"
	"math/big"
	"math/bits"
	"sync"
)

// Integers of any size are slices of words, the least significant first.

// modulusLong reduces an integer y of d bytes modulo m as modulus128 does, on
// words. The quotient is below 2^80, since y has at most 7 bytes more than a half
// and radix^u is at least radix^v/2^16; so an estimate from the first 128 bits is
// too small by less than 1 + 1 + 2^-40, and the remainder found is below 3m.
// The words have room for 4m.
type modulusLong struct {
	m, m2, m3 []uint64
	mu        word128 // ⌊2^(8d)/m⌋
}

func newModulusLong(m *big.Int, d, words int) modulusLong {
	mu := new(big.Int).Lsh(big.NewInt(1), uint(8*d))
	multiple := func(n int64) []uint64 {
		b := new(big.Int).Mul(m, big.NewInt(n)).FillBytes(make([]byte, 8*words))
		out := make([]uint64, words)
		for i := range out {
			out[i] = binary.BigEndian.Uint64(b[8*(words-1-i):])
		}
		return out
	}
	return modulusLong{multiple(1), multiple(2), multiple(3), word128Of(mu.Div(mu, m))}
}

const (
	maxHalf  = MaxLength / 2 * 2 // bytes of the longest half: every numeral has at most two
	maxWords = maxHalf/8 + 1     // with room for 4m
	headroom = aes.BlockSize     // bytes before a buffer's content, to write whole words
)

// long is what a call with long halves needs, on the heap for the same reason
// as block.
type long struct {
	state, block [aes.BlockSize]byte
	a, b, t      [maxWords]uint64
	in           [headroom + maxHalf + 2*aes.BlockSize]byte     // blocks of the MAC from the round on
	out          [headroom + maxHalf + 4 + 2*aes.BlockSize]byte // S
}

var longs = sync.Pool{New: func() any { return new(long) }}

// cryptLong is crypt for halves of three words and more.
func (c *core) cryptLong(dst, src []uint16, p *plan, tweak []byte, dir direction) {
	w, _ := longs.Get().(*long)
	defer func() {
		*w = long{}
		longs.Put(w)
	}()
	words := len(p.modLong[0].m)
	a, b, t := w.a[:words], w.b[:words], w.t[:words]
	c.numberLong(a, src[:p.u])
	c.numberLong(b, src[p.u:])
	c.chain(&w.state, p, tweak)

	first := 0
	if dir == decrypting {
		first, a, b = rounds-1, b, a
	}
	for i := range rounds {
		round := i
		if dir == decrypting {
			round = first - i
		}
		m := &p.modLong[round&1]
		z := c.prf(w, p, byte(round), b)
		readWords(t, w.out[:headroom+p.d])
		q := z.mulHigh(m.mu)
		mulSub(t, m.m, q.lo)
		mulSub(t[1:], m.m, q.hi)
		if dir == encrypting {
			addWords(a, t)
		} else {
			addWords(a, m.m3)
			subWords(a, t)
		}
		reduceWords(a, m.m2, t)
		reduceWords(a, m.m, t)
		a, b = b, a
	}
	if dir == decrypting {
		a, b = b, a
	}
	c.numeralsLong(dst[:p.u], a)
	c.numeralsLong(dst[p.u:], b)
}

// prf computes S of one round into w.out, after the headroom, and returns its
// first 128 bits: steps 6.i to 6.iii of algorithm 7.
func (c *core) prf(w *long, p *plan, round byte, half []uint64) word128 {
	end := headroom + p.at + 1 + p.b
	in := w.in[:end]
	writeWords(in, half) // zeros reach into what is before the half
	in[end-p.b-1] = round
	clear(in[headroom : end-p.b-1])
	w.block = w.state
	for in = in[headroom:]; len(in) > 0; in = in[aes.BlockSize:] {
		xorBlock(&w.block, in)
		c.block.Encrypt(w.block[:], w.block[:])
	}
	out := w.out[headroom:]
	copy(out, w.block[:])
	// Block j of S is CIPH(R ⊕ j), j as a big-endian integer of 16 bytes.
	for j := 1; aes.BlockSize*j < p.d; j++ {
		next := out[aes.BlockSize*j : aes.BlockSize*(j+1)]
		copy(next, out[:aes.BlockSize])
		counter := next[aes.BlockSize-4:]
		binary.BigEndian.PutUint32(counter, binary.BigEndian.Uint32(counter)^uint32(j))
		c.block.Encrypt(next, next)
	}
	return word128{binary.BigEndian.Uint64(out), binary.BigEndian.Uint64(out[8:])}
}

// readWords sets x to the last bytes of src, big-endian.
func readWords(x []uint64, src []byte) {
	for i := range x {
		x[i] = binary.BigEndian.Uint64(src[len(src)-8*(i+1):])
	}
}

// writeWords writes x to the end of dst, big-endian.
func writeWords(dst []byte, x []uint64) {
	for i := range x {
		binary.BigEndian.PutUint64(dst[len(dst)-8*(i+1):], x[i])
	}
}

func addWords(x, y []uint64) {
	var carry uint64
	for i := range x {
		x[i], carry = bits.Add64(x[i], y[i], carry)
	}
}

func subWords(x, y []uint64) {
	var borrow uint64
	for i := range x {
		x[i], borrow = bits.Sub64(x[i], y[i], borrow)
	}
}

// mulSub subtracts m·q from x, modulo what x can hold.
func mulSub(x, m []uint64, q uint64) {
	var carry uint64
	for i := range x {
		hi, lo := bits.Mul64(m[i], q)
		lo, c := bits.Add64(lo, carry, 0)
		var borrow uint64
		x[i], borrow = bits.Sub64(x[i], lo, 0)
		carry = hi + c + borrow // m·q + carry + borrow < 2^128
	}
}

// reduceWords subtracts m from x if x is not below m. It overwrites t.
func reduceWords(x, m, t []uint64) {
	var borrow uint64
	for i := range x {
		t[i], borrow = bits.Sub64(x[i], m[i], borrow)
	}
	for i := range x {
		x[i] = x[i]&-borrow | t[i]&^-borrow
	}
}
