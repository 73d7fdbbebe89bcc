package fpe

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/big"
	"math/bits"
	"sync/atomic"
)

const (
	rounds = 10
	// macTable is up to which tweak length the first block of the MAC is kept.
	macTable = 16

	plansPerPage = 64
	planPages    = MaxLength/plansPerPage + 1

	maxPart = 32 + 1 // bits, and none at all
)

// core is a key and a radix, and the constants that follow from them.
type core struct {
	block     cipher.Block
	kernel    kernel // the key for assembly, where there is some
	radix     uint64
	minLength int

	part      int               // as many numerals as fit half a word: radix^part ≤ 2^32
	partBase  reciprocal        // divides by radix^part
	fractions [maxPart]fraction // of radix^k, k up to part
	chunk     int               // numerals of two parts, or one less if that is 2^64
	chunkBase divisor           // divides by radix^chunk

	// Plans by length, made at first use and never changed after. Two callers may
	// make the same one; they are equal.
	plans [planPages]atomic.Pointer[planPage]
}

type planPage [plansPerPage]atomic.Pointer[plan]

func newCore(key []byte, radix int, minDomain uint64) (*core, error) {
	if radix < 2 || radix > MaxRadix {
		return nil, ErrRadix
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("%w, not %d", ErrKeySize, len(key))
	}
	c := &core{block: block, kernel: newKernel(key), radix: uint64(radix), minLength: 2}
	for domain := c.radix * c.radix; domain < minDomain; domain *= c.radix {
		c.minLength++
	}
	base := uint64(1)
	for base*c.radix <= 1<<32 {
		base *= c.radix
		c.part++
		c.fractions[c.part] = newFraction(base)
	}
	c.partBase = newReciprocal(base)
	c.chunk = 2 * c.part
	hi, chunkBase := bits.Mul64(base, base)
	if hi > 0 {
		c.chunk--
		chunkBase = base * (base / c.radix)
	}
	c.chunkBase = newDivisor(chunkBase)
	return c, nil
}

// path is which arithmetic a length needs.
type path uint8

const (
	pathLong path = iota // any number of words
	path64               // one word
	path128              // two words
)

// plan holds what depends on the length of the input only. The names are those
// of the standard. Rounds with an even number work modulo radix^u, with an odd
// one modulo radix^v, so tables of two are indexed by the round's parity.
type plan struct {
	n, u, v int
	b       int // bytes of a half in the MAC's input
	d       int // bytes of the MAC's output that are used
	at      int // where the round stands in its block of the MAC's input
	path    path
	mod64   [2]modulus64
	mod128  [2]modulus128
	modLong [2]modulusLong
	plan64  plan64 // for assembly

	// mac is CIPH(P) for every short tweak length: the MAC after its first block.
	mac [macTable + 1][aes.BlockSize]byte
}

// plan returns the plan for n numerals, where n is at least 2 and at most MaxLength.
func (c *core) plan(n int) *plan {
	slot := &c.plans[n/plansPerPage]
	page := slot.Load()
	if page == nil {
		page = new(planPage)
		if !slot.CompareAndSwap(nil, page) {
			page = slot.Load()
		}
	}
	p := page[n%plansPerPage].Load()
	if p == nil {
		p = c.newPlan(n)
		page[n%plansPerPage].Store(p)
	}
	return p
}

func (c *core) newPlan(n int) *plan {
	p := &plan{n: n, u: n / 2, v: n - n/2}
	radix := new(big.Int).SetUint64(c.radix)
	power := func(m int) *big.Int { return new(big.Int).Exp(radix, big.NewInt(int64(m)), nil) }
	m := [2]*big.Int{power(p.u), power(p.v)}

	// b is the bytes of the largest half, radix^v - 1: exactly the standard's
	// ⌈⌈v log2(radix)⌉/8⌉.
	p.b = (new(big.Int).Sub(m[1], big.NewInt(1)).BitLen() + 7) / 8
	p.d = 4*((p.b+3)/4) + 4
	p.at = (2*aes.BlockSize - 1 - p.b%aes.BlockSize) % aes.BlockSize

	switch {
	case p.d == 8 || m[1].BitLen() <= 62 && m[0].BitLen() > 33:
		p.path = path64
		p.mod64 = [2]modulus64{newModulus64(m[0], p.d), newModulus64(m[1], p.d)}
		p.plan64 = newPlan64(p)
	case p.b < aes.BlockSize:
		p.path = path128
		p.mod128 = [2]modulus128{newModulus128(m[0], p.d), newModulus128(m[1], p.d)}
	default:
		p.path = pathLong
		limbs := (m[1].BitLen() + 2 + 63) / 64
		p.modLong = [2]modulusLong{newModulusLong(m[0], p.d, limbs), newModulusLong(m[1], p.d, limbs)}
	}
	for t := range p.mac {
		c.firstBlock(p, t, &p.mac[t])
		c.block.Encrypt(p.mac[t][:], p.mac[t][:])
	}
	return p
}

// firstBlock writes P, step 5 of algorithm 7.
func (c *core) firstBlock(p *plan, tweakLength int, dst *[aes.BlockSize]byte) {
	dst[0], dst[1], dst[2] = 1, 2, 1
	dst[3], dst[4], dst[5] = byte(c.radix>>16), byte(c.radix>>8), byte(c.radix)
	dst[6], dst[7] = rounds, byte(p.u)
	binary.BigEndian.PutUint32(dst[8:], uint32(p.n))
	binary.BigEndian.PutUint32(dst[12:], uint32(tweakLength))
}
