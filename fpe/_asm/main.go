// Command _asm writes the amd64 kernels of package fpe:
//
//	go run . -out ../kernel_amd64.s -stubs ../kernel_stubs_amd64.go -pkg fpe
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("!purego")
	numeralsBelow()
	subWord()
	block()
	feistel64("feistel64", false)
	feistel64("feistel64Inverse", true)
	v := newVectors()
	feistelBatch("feistelBatch8", v, 16, false)
	feistelBatch("feistelBatch8Inverse", v, 16, true)
	feistelBatch("feistelBatch16", v, 32, false)
	feistelBatch("feistelBatch16Inverse", v, 32, true)
	feistelWords("feistelWords8", v, 16, false)
	feistelWords("feistelWords8Inverse", v, 16, true)
	feistelWords("feistelWords16", v, 32, false)
	feistelWords("feistelWords16Inverse", v, 32, true)
	Generate()
}

// numeralsBelow compares eight numerals at once; the last eight may overlap those
// before.
func numeralsBelow() {
	TEXT("numeralsAtMost", NOSPLIT, "func(src *uint16, n int, most uint16) bool")
	Doc("numeralsAtMost reports whether all n numerals, 8 or more, are at most most.")
	Pragma("noescape")
	src, n := Load(Param("src"), GP64()), Load(Param("n"), GP64())
	most32 := GP32()
	Load(Param("most"), most32.As16())
	most, all, x, least := XMM(), XMM(), XMM(), XMM()
	VMOVD(most32, most)
	VPSHUFLW(U8(0), most, most)
	VPSHUFD(U8(0), most, most)
	VPCMPEQW(all, all, all)
	next := func(at Mem) {
		VMOVDQU(at, x)
		VPMINUW(most, x, least)
		VPCMPEQW(x, least, least)
		VPAND(least, all, all)
	}
	SUBQ(U8(8), n)
	Label("eight")
	next(Mem{Base: src, Index: n, Scale: 2})
	SUBQ(U8(8), n)
	JAE(LabelRef("eight"))
	next(Mem{Base: src}) // below 8 are left: the first 8 have them
	mask := GP32()
	VPMOVMSKB(all, mask)
	CMPL(mask, U32(0xffff))
	ok := GP8()
	SETEQ(ok)
	Store(ok, ReturnIndex(0))
	RET()
}

// subWord applies the S-box to four bytes by way of the key expansion's
// instruction, so without a table.
func subWord() {
	TEXT("subWord", NOSPLIT, "func(w uint32) uint32")
	Doc("subWord returns SubWord of FIPS 197, section 5.2.")
	w := Load(Param("w"), GP32())
	x := XMM()
	VMOVD(w, x)
	VPSHUFD(U8(0), x, x)
	VAESKEYGENASSIST(U8(0), x, x)
	VMOVD(x, w)
	Store(w, ReturnIndex(0))
	RET()
}

// schedule is the round keys and their number less one.
type schedule struct {
	keys   reg.Register
	rounds reg.Register
}

func loadSchedule() schedule {
	return schedule{Load(Param("keys"), GP64()), Load(Param("rounds"), GP64())}
}

func (s schedule) key(i int) Mem { return Mem{Base: s.keys, Disp: 16 * i} }

// last returns the address of the last round's key.
func (s schedule) last() reg.Register {
	at := GP64()
	MOVQ(s.rounds, at)
	SHLQ(U8(4), at)
	ADDQ(s.keys, at)
	return at
}

// encrypt emits the rounds of AES after the first key was added: step for each
// round and final for the last one.
func (s schedule) encrypt(last reg.Register, label string, step, final func(key Mem)) {
	for i := 1; i < 10; i++ {
		step(s.key(i))
	}
	CMPQ(s.rounds, U8(12))
	JB(LabelRef(label))
	step(s.key(10))
	step(s.key(11))
	JE(LabelRef(label))
	step(s.key(12))
	step(s.key(13))
	Label(label)
	final(Mem{Base: last})
}

func block() {
	TEXT("encryptBlock", NOSPLIT, "func(keys *[60]uint32, rounds int, block *[16]byte)")
	Doc("encryptBlock encrypts one block in place.")
	Pragma("noescape")
	s := loadSchedule()
	at := Load(Param("block"), GP64())
	x := XMM()
	VMOVDQU(Mem{Base: at}, x)
	VPXOR(s.key(0), x, x)
	s.encrypt(s.last(), "last", func(k Mem) { VAESENC(k, x, x) }, func(k Mem) { VAESENCLAST(k, x, x) })
	VMOVDQU(x, Mem{Base: at})
	RET()
}

// Offsets in a plan for one value: a row for even rounds and one for odd, how far
// S goes beyond a word, and a block that has 1 where the round is.
const (
	offM, offMu, offM2, offM3, rowSize = 0, 8, 16, 24, 32
	offTail, offRound                  = 2 * rowSize, 2*rowSize + 8
)

// feistel64 is rounds64Go, with b of at most 8.
func feistel64(name string, inverse bool) {
	TEXT(name, NOSPLIT, "func(keys *[60]uint32, rounds int, plan *[12]uint64, fixed *[16]byte, a, b uint64) (uint64, uint64)")
	if inverse {
		Doc(name+" runs rounds 9 to 0 on halves of one word: a is the second half, b the first,", "and so are the results.")
	} else {
		Doc(name+" runs rounds 0 to 9 on halves of one word. fixed is the block that holds the", "round and the half, without them.")
	}
	Pragma("noescape")
	s := loadSchedule()
	plan := Load(Param("plan"), GP64())
	fixedAt := Load(Param("fixed"), GP64())
	a, b := Load(Param("a"), GP64()), Load(Param("b"), GP64())
	MOVQ(Mem{Base: plan, Disp: offTail}, reg.RCX)

	// next is the next block without the half: fixed, the round and the first key.
	fixed, round, one, next, x := XMM(), XMM(), XMM(), XMM(), XMM()
	VMOVDQU(Mem{Base: fixedAt}, fixed)
	VPXOR(s.key(0), fixed, fixed)
	VMOVDQU(Mem{Base: plan, Disp: offRound}, one)
	VPXOR(round, round, round)
	if inverse { // 9
		VPSLLW(U8(3), one, round)
		VPADDB(one, round, round)
	}
	VPXOR(round, fixed, next)

	end := s.last()
	loops := GP64()
	MOVQ(U32(5), loops)
	Label(name + "Loop")
	for i := range 2 {
		row := i * rowSize
		if inverse {
			row = (1 - i) * rowSize
		}
		at := func(off int) Mem { return Mem{Base: plan, Disp: row + off} }
		t := GP64()
		MOVQ(b, t)
		BSWAPQ(t)
		VMOVQ(t, x)
		VPSLLDQ(U8(8), x, x)
		VPXOR(next, x, x)
		s.encrypt(end, name+[]string{"Even", "Odd"}[i], func(k Mem) { VAESENC(k, x, x) }, func(k Mem) { VAESENCLAST(k, x, x) })
		if inverse {
			VPSUBB(one, round, round)
		} else {
			VPADDB(one, round, round)
		}
		VPXOR(round, fixed, next)

		addReduced(x, a, at, inverse)
		a, b = b, a
	}
	DECQ(loops)
	JNZ(LabelRef(name + "Loop"))
	Store(a, ReturnIndex(0))
	Store(b, ReturnIndex(1))
	RET()
}

// addReduced emits one round's end: it adds the number y that the first bytes of x
// are to a modulo m, or subtracts it. CL is how far y goes beyond a word.
func addReduced(x, a reg.Register, at func(off int) Mem, inverse bool) {
	y, low := GP64(), GP64()
	VMOVQ(x, y)
	BSWAPQ(y)
	MOVQ(y, reg.RAX)
	MULQ(at(offMu)) // the quotient is in RDX
	VPEXTRQ(U8(1), x, low)
	BSWAPQ(low)
	SHLQ(reg.CL, low, y)
	IMULQ(at(offM), reg.RDX)
	if inverse { // a + 3m - y + quotient*m
		ADDQ(at(offM3), a)
		SUBQ(y, a)
		ADDQ(reg.RDX, a)
	} else {
		ADDQ(y, a)
		SUBQ(reg.RDX, a)
	}
	for _, multiple := range []int{offM2, offM} {
		less := GP64()
		MOVQ(a, less)
		SUBQ(at(multiple), less)
		CMOVQCC(less, a)
	}
}

// Offsets in a plan for batches: a row for even rounds and one for odd, then the
// rounds 1 and 9 where the round is. Every word is repeated to fill a vector.
const (
	offMuLow, offMuHigh, offBatchM, offBatchM2, batchRow = 0, 32, 64, 96, 128
	offStep, offNine                                     = 2 * batchRow, 2*batchRow + 32
)

// vectors are constants of 32 bytes.
type vectors struct{ swap, high, low Mem }

func newVectors() vectors {
	repeat := func(name string, words ...uint64) Mem {
		m := GLOBL(name, RODATA|NOPTR)
		for i := range 4 {
			DATA(8*i, U64(words[i%len(words)]))
		}
		return m
	}
	return vectors{
		swap: repeat("swapBytes", 0x0001020304050607, 0x08090a0b0c0d0e0f),
		high: repeat("highWords", 0, ^uint64(0)),
		low:  repeat("lowHalves", 1<<32-1),
	}
}

// width is the size of a vector in bytes: of one block or two.
type width int

func (w width) vector() reg.VecVirtual {
	if w == 32 {
		return YMM()
	}
	return XMM()
}

// broadcast loads 16 bytes into every block of the vector.
func (w width) broadcast(from Mem, to reg.VecVirtual) {
	if w == 32 {
		VBROADCASTI128(from, to)
	} else {
		VMOVDQU(from, to)
	}
}

// startBlocks returns where the stack has the blocks without round and half, with
// the first key. Of four blocks 0 1, 2 3 in two vectors it makes 0 2, 1 3, so that
// the integers that VPUNPCKLQDQ takes from them are in order.
func (w width) startBlocks(key, fixed Mem) Mem {
	size := int(w)
	start := AllocLocal(8 * size)
	k := w.vector()
	w.broadcast(key, k)
	for g := range 4 {
		first, second := w.vector(), w.vector()
		VMOVDQU(fixed.Offset(2*g*size), first)
		VMOVDQU(fixed.Offset((2*g+1)*size), second)
		if w == 32 {
			odd := w.vector()
			VPERM2I128(U8(0x31), second, first, odd)
			VPERM2I128(U8(0x20), second, first, first)
			second = odd
		}
		VPXOR(k, first, first)
		VPXOR(k, second, second)
		VMOVDQU(first, start.Offset(2*g*size))
		VMOVDQU(second, start.Offset((2*g+1)*size))
	}
	return start
}

// encrypt emits the rounds of AES after the first key on eight vectors.
func (w width) encrypt(s schedule, last reg.Register, label string, x *[8]reg.VecVirtual) {
	s.encrypt(last, label, func(key Mem) {
		k := w.vector()
		w.broadcast(key, k)
		for j := range x {
			VAESENC(k, x[j], x[j])
		}
	}, func(key Mem) {
		k := w.vector()
		w.broadcast(key, k)
		for j := range x {
			VAESENCLAST(k, x[j], x[j])
		}
	})
}

// feistelBatch is ten rounds on eight vectors of one or two blocks each. Integers
// are below 2^32 in lanes of 64 bits; a vector of integers belongs to two vectors
// of blocks, the even lanes to the first.
func feistelBatch(name string, v vectors, size int, inverse bool) {
	doc := "rounds 0 to 9"
	if inverse {
		doc = "rounds 9 to 0, a and b exchanged,"
	}
	TEXT(name, NOSPLIT, "func(keys *[60]uint32, rounds int, plan *[40]uint64, fixed *[16][16]byte, a, b *[16]uint64)")
	Doc(name+" runs "+doc+" of independent values, a and b their halves,", "fixed their blocks without round and half. The moduli are below 2^32.")
	Pragma("noescape")
	w := width(size)
	s := loadSchedule()
	plan := Load(Param("plan"), GP64())
	fixedAt := Load(Param("fixed"), GP64())
	a, b := Load(Param("a"), GP64()), Load(Param("b"), GP64())
	start := w.startBlocks(s.key(0), Mem{Base: fixedAt})
	round := w.vector()
	if inverse {
		VMOVDQU(Mem{Base: plan, Disp: offNine}, round)
	} else {
		VPXOR(round, round, round)
	}
	end := s.last()
	loops := GP64()
	MOVQ(U32(5), loops)
	Label(name + "Loop")
	for i := range 2 {
		row := i * batchRow
		if inverse {
			row = (1 - i) * batchRow
		}
		at := func(off int) Mem { return Mem{Base: plan, Disp: row + off} }
		var x [8]reg.VecVirtual
		for g := range 4 {
			x[2*g], x[2*g+1] = w.vector(), w.vector()
			half := w.vector()
			VPADDQ(Mem{Base: b, Disp: g * size}, round, half) // the round is above the half: no carry
			VPSHUFB(v.swap, half, half)
			VPSLLDQ(U8(8), half, x[2*g])
			VPAND(v.high, half, x[2*g+1])
			VPXOR(start.Offset(2*g*size), x[2*g], x[2*g])
			VPXOR(start.Offset((2*g+1)*size), x[2*g+1], x[2*g+1])
		}
		w.encrypt(s, end, name+[]string{"Even", "Odd"}[i], &x)

		for g := range 4 {
			y := x[2*g]
			VPUNPCKLQDQ(x[2*g+1], x[2*g], y)
			VPSHUFB(v.swap, y, y)
			// q is the high word of y*mu, from products of 32 bits.
			high, t, lh, q := x[2*g+1], w.vector(), w.vector(), w.vector()
			VPSRLQ(U8(32), y, high)
			VPMULUDQ(at(offMuLow), y, t)
			VPSRLQ(U8(32), t, t)
			VPMULUDQ(at(offMuLow), high, q)
			VPADDQ(q, t, t)
			VPMULUDQ(at(offMuHigh), y, lh)
			VPAND(v.low, t, q)
			VPADDQ(q, lh, lh)
			VPMULUDQ(at(offMuHigh), high, q)
			VPSRLQ(U8(32), t, t)
			VPADDQ(t, q, q)
			VPSRLQ(U8(32), lh, lh)
			VPADDQ(lh, q, q)
			// y becomes y - q*m, below 2m.
			VPSRLQ(U8(32), q, t)
			VPMULUDQ(at(offBatchM), q, q)
			VPMULUDQ(at(offBatchM), t, t)
			VPSLLQ(U8(32), t, t)
			VPADDQ(t, q, q)
			VPSUBQ(q, y, y)
			VMOVDQU(Mem{Base: a, Disp: g * size}, t)
			if inverse {
				VPADDQ(at(offBatchM2), t, t)
				VPSUBQ(y, t, y)
			} else {
				VPADDQ(t, y, y)
			}
			for _, multiple := range []int{offBatchM2, offBatchM} {
				VPSUBQ(at(multiple), y, t)
				VBLENDVPD(t, y, t, y) // y where t is negative
			}
			VMOVDQU(y, Mem{Base: a, Disp: g * size})
		}
		if inverse {
			VPSUBQ(Mem{Base: plan, Disp: offStep}, round, round)
		} else {
			VPADDQ(Mem{Base: plan, Disp: offStep}, round, round)
		}
		a, b = b, a
	}
	DECQ(loops)
	JNZ(LabelRef(name + "Loop"))
	if size == 32 {
		VZEROUPPER()
	}
	RET()
}

// feistelWords is feistelBatch for integers of a whole word, which are reduced one
// by one as in feistel64.
func feistelWords(name string, v vectors, size int, inverse bool) {
	doc := "rounds 0 to 9"
	if inverse {
		doc = "rounds 9 to 0, a and b exchanged,"
	}
	TEXT(name, NOSPLIT, "func(keys *[60]uint32, rounds int, plan *[12]uint64, fixed *[16][16]byte, a, b *[16]uint64)")
	Doc(name+" runs "+doc+" of independent values, a and b their halves,", "fixed their blocks without round and half.")
	Pragma("noescape")
	w := width(size)
	s := loadSchedule()
	plan := Load(Param("plan"), GP64())
	fixedAt := Load(Param("fixed"), GP64())
	a, b := Load(Param("a"), GP64()), Load(Param("b"), GP64())
	MOVQ(Mem{Base: plan, Disp: offTail}, reg.RCX)
	start := w.startBlocks(s.key(0), Mem{Base: fixedAt})

	one, round := w.vector(), w.vector()
	w.broadcast(Mem{Base: plan, Disp: offRound}, one)
	VPXOR(round, round, round)
	if inverse { // 9
		VPSLLW(U8(3), one, round)
		VPADDB(one, round, round)
	}
	end := s.last()
	loops := GP64()
	MOVQ(U32(5), loops)
	Label(name + "Loop")
	for i := range 2 {
		row := i * rowSize
		if inverse {
			row = (1 - i) * rowSize
		}
		at := func(off int) Mem { return Mem{Base: plan, Disp: row + off} }
		var x [8]reg.VecVirtual
		for g := range 4 {
			x[2*g], x[2*g+1] = w.vector(), w.vector()
			half := w.vector()
			VMOVDQU(Mem{Base: b, Disp: g * size}, half)
			VPSHUFB(v.swap, half, half)
			VPSLLDQ(U8(8), half, x[2*g])
			VPAND(v.high, half, x[2*g+1])
			for j := 2 * g; j < 2*g+2; j++ {
				VPXOR(start.Offset(j*size), x[j], x[j])
				VPXOR(round, x[j], x[j])
			}
		}
		w.encrypt(s, end, name+[]string{"Even", "Odd"}[i], &x)
		for j := range x {
			// Even vectors have values 4g and 4g+2 (or 2g), odd ones the next.
			lane := size/8*(j/2) + j%2
			word := GP64()
			MOVQ(Mem{Base: a, Disp: 8 * lane}, word)
			addReduced(x[j].AsX(), word, at, inverse)
			MOVQ(word, Mem{Base: a, Disp: 8 * lane})
			if size == 32 {
				upper := XMM()
				VEXTRACTI128(U8(1), x[j], upper)
				MOVQ(Mem{Base: a, Disp: 8 * (lane + 2)}, word)
				addReduced(upper, word, at, inverse)
				MOVQ(word, Mem{Base: a, Disp: 8 * (lane + 2)})
			}
		}
		if inverse {
			VPSUBB(one, round, round)
		} else {
			VPADDB(one, round, round)
		}
		a, b = b, a
	}
	DECQ(loops)
	JNZ(LabelRef(name + "Loop"))
	if size == 32 {
		VZEROUPPER()
	}
	RET()
}
