//go:build !purego

package fpe

import (
	"crypto/aes"
	"crypto/fips140"
	"crypto/subtle"
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/cpu"
)

//go:generate env GOWORK=off go -C _asm run . -out ../kernel_amd64.s -stubs ../kernel_stubs_amd64.go -pkg fpe

var (
	// The kernels are in the three-operand form, which came with AVX.
	hasKernel = cpu.X86.HasAES && cpu.X86.HasAVX
	// Two blocks in a vector. The package cpu tells of VAES only along with AVX-512,
	// which the kernel itself does not use.
	hasWideKernel = hasKernel && cpu.X86.HasAVX2 && cpu.X86.HasAVX512VAES
)

// kernel is an AES key for the assembly.
type kernel struct {
	width  int // values a batch kernel takes at once; 0: no assembly
	rounds int
	keys   [60]uint32 // round keys, as they lie in memory
}

// newKernel leaves the width 0 in FIPS 140 mode: AES is then that of Go's
// cryptographic module.
func newKernel(key []byte) kernel {
	var k kernel
	if !hasKernel {
		return k
	}
	k.expand(key)
	switch {
	case fips140.Enabled():
	case hasWideKernel:
		k.width = 16
	default:
		k.width = 8
	}
	return k
}

// expand is KEYEXPANSION of FIPS 197, section 5.2, on little-endian words.
func (k *kernel) expand(key []byte) {
	n := len(key) / 4
	k.rounds = n + 6
	for i := range n {
		k.keys[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	constant := uint32(1)
	for i := n; i < 4*(k.rounds+1); i++ {
		w := k.keys[i-1]
		switch {
		case i%n == 0:
			w = bits.RotateLeft32(subWord(w), -8) ^ constant
			constant = constant<<1 ^ constant>>7*0x11b
		case n > 6 && i%n == 4:
			w = subWord(w)
		}
		k.keys[i] = k.keys[i-n] ^ w
	}
}

// plan64 has the constants of the assembly for halves of one word; main.go in
// _asm names the offsets.
type plan64 struct {
	one   *[12]uint64
	batch *[40]uint64 // nil unless both moduli are below 2^32
}

func newPlan64(p *plan) plan64 {
	out := plan64{one: new([12]uint64)}
	for i, m := range p.mod64 {
		copy(out.one[4*i:], []uint64{m.m, m.mu, 2 * m.m, 3 * m.m})
	}
	out.one[8] = uint64(8*p.d - 64)
	var round [aes.BlockSize]byte
	round[aes.BlockSize-1-p.b] = 1
	out.one[9], out.one[10] = binary.LittleEndian.Uint64(round[:8]), binary.LittleEndian.Uint64(round[8:])

	if p.d == 8 && p.mod64[0].m>>32 == 0 && p.mod64[1].m>>32 == 0 {
		step := uint64(1) << (8 * p.b)
		words := []uint64{step, (rounds - 1) * step}
		rows := make([]uint64, 0, 10)
		for _, m := range p.mod64 {
			rows = append(rows, m.mu&(1<<32-1), m.mu>>32, m.m, 2*m.m)
		}
		out.batch = new([40]uint64)
		for i, w := range append(rows, words...) {
			for j := range 4 {
				out.batch[4*i+j] = w
			}
		}
	}
	return out
}

// valid may say no to numerals that are all below the radix, but not yes to others.
func (c *core) valid(src []uint16) bool {
	return len(src) >= 8 && c.kernel.width > 0 && numeralsAtMost(&src[0], len(src), uint16(c.radix-1))
}

func (c *core) rounds64(p *plan, tweak []byte, a, b uint64, dir direction) (uint64, uint64) {
	k := &c.kernel
	if k.width == 0 {
		return c.rounds64Go(p, tweak, a, b, dir)
	}
	var fixed [aes.BlockSize]byte
	k.chain(&fixed, c, p, tweak)
	if dir == encrypting {
		return feistel64(&k.keys, k.rounds, p.plan64.one, &fixed, a, b)
	}
	b, a = feistel64Inverse(&k.keys, k.rounds, p.plan64.one, &fixed, b, a)
	return a, b
}

// chain is core.chain with the assembly's AES, for which the state may be on
// the stack.
func (k *kernel) chain(state *[aes.BlockSize]byte, c *core, p *plan, tweak []byte) {
	if len(tweak) <= macTable {
		*state = p.mac[len(tweak)]
	} else {
		c.firstBlock(p, len(tweak), state)
		encryptBlock(&k.keys, k.rounds, state)
	}
	for lead := p.lead(len(tweak)); lead > 0; lead -= aes.BlockSize {
		n := subtle.XORBytes(state[:], state[:], tweak)
		encryptBlock(&k.keys, k.rounds, state)
		tweak = tweak[n:]
	}
	xorShort(state, tweak)
}

// window is among how many values of a batch those of one length are looked for.
const window = 64

func (c *core) cryptBatch(values [][]uint16, tweaks [][]byte, dir direction) {
	if c.kernel.width == 0 {
		c.cryptEach(values, tweaks, dir)
		return
	}
	for len(values) > 0 {
		n := min(len(values), window)
		c.cryptWindow(values[:n], tweaks[:n], dir)
		values, tweaks = values[n:], tweaks[n:]
	}
}

func (c *core) cryptWindow(values [][]uint16, tweaks [][]byte, dir direction) {
	for todo := ^uint64(0) >> (window - len(values)); todo != 0; {
		first := bits.TrailingZeros64(todo)
		p := c.plan(len(values[first]))
		var group [16]int
		size := 0
		for rest := todo; rest != 0 && size < c.kernel.width; rest &= rest - 1 {
			if i := bits.TrailingZeros64(rest); len(values[i]) == p.n {
				group[size] = i
				size++
				todo &^= 1 << i
			}
		}
		if size < 3 || p.path != path64 {
			for _, i := range group[:size] {
				c.crypt(values[i], values[i], p, tweaks[i], dir)
			}
			continue
		}
		c.cryptGroup(values, tweaks, group[:size], p, dir)
	}
}

// cryptGroup encrypts or decrypts up to width values of one length.
func (c *core) cryptGroup(values [][]uint16, tweaks [][]byte, group []int, p *plan, dir direction) {
	k := &c.kernel
	var fixed [16][aes.BlockSize]byte
	var a, b [16]uint64
	for lane, i := range group {
		k.chain(&fixed[lane], c, p, tweaks[i])
		a[lane], b[lane] = c.read64(values[i], p)
	}
	if dir == decrypting {
		k.runBatch(p, len(group) > 8, dir, &fixed, &b, &a)
	} else {
		k.runBatch(p, len(group) > 8, dir, &fixed, &a, &b)
	}
	for lane, i := range group {
		c.write64(values[i], p, a[lane], b[lane])
	}
}

func (k *kernel) runBatch(p *plan, wide bool, dir direction, fixed *[16][aes.BlockSize]byte, a, b *[16]uint64) {
	small, words := p.plan64.batch, p.plan64.one
	switch {
	case small != nil && wide && dir == encrypting:
		feistelBatch16(&k.keys, k.rounds, small, fixed, a, b)
	case small != nil && wide:
		feistelBatch16Inverse(&k.keys, k.rounds, small, fixed, a, b)
	case small != nil && dir == encrypting:
		feistelBatch8(&k.keys, k.rounds, small, fixed, a, b)
	case small != nil:
		feistelBatch8Inverse(&k.keys, k.rounds, small, fixed, a, b)
	case wide && dir == encrypting:
		feistelWords16(&k.keys, k.rounds, words, fixed, a, b)
	case wide:
		feistelWords16Inverse(&k.keys, k.rounds, words, fixed, a, b)
	case dir == encrypting:
		feistelWords8(&k.keys, k.rounds, words, fixed, a, b)
	default:
		feistelWords8Inverse(&k.keys, k.rounds, words, fixed, a, b)
	}
}
