//go:build !purego

package fpe

import (
	"bytes"
	"crypto/aes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// widths are the kernels this CPU has; the Go path is what they are compared with.
func widths(t testing.TB) []int {
	switch {
	case hasWideKernel:
		return []int{8, 16}
	case hasKernel:
		t.Log("this CPU has no VAES: the kernels for 16 values are not tested")
		return []int{8}
	}
	t.Skip("this CPU has no AES-NI: no kernel is tested")
	return nil
}

func withWidth(t testing.TB, key []byte, radix, width int) *core {
	t.Helper()
	c, err := newCore(key, radix, legacyMinDomain)
	if err != nil {
		t.Fatal(err)
	}
	c.kernel.width = width
	return c
}

func TestKeyExpansion(t *testing.T) {
	widths(t)
	rng := rand.New(rand.NewPCG(15, 16))
	for _, size := range []int{16, 24, 32} {
		for i := range 300 {
			key := randomBytes(rng, size)
			switch i {
			case 0:
				key = make([]byte, size)
			case 1:
				key = bytes.Repeat([]byte{0xff}, size)
			}
			var k kernel
			k.expand(key)
			block, err := aes.NewCipher(key)
			if err != nil {
				t.Fatal(err)
			}
			var want, got [16]byte
			copy(got[:], randomBytes(rng, 16))
			block.Encrypt(want[:], got[:])
			encryptBlock(&k.keys, k.rounds, &got)
			if got != want {
				t.Fatalf("key %x: %x, want %x", key, got, want)
			}
		}
	}
}

// One bad numeral in every place of every length up to five vectors.
func TestNumeralsAtMost(t *testing.T) {
	widths(t)
	for n := 8; n <= 40; n++ {
		for _, most := range []uint16{1, 9, 255, 256, 0x7fff, 0x8000, 65533, 65534, 65535} {
			around := slices.Repeat([]uint16{65535}, n+16) // what lies outside must not matter
			src := around[8 : 8+n]
			for i := range src {
				src[i] = most - uint16(i)%2
			}
			if !numeralsAtMost(&src[0], n, most) {
				t.Fatalf("%d numerals up to %d: refused", n, most)
			}
			for i := range src {
				good := src[i]
				for bad := int(most) + 1; bad <= 65535; bad = 2*bad + 1 {
					src[i] = uint16(bad)
					if numeralsAtMost(&src[0], n, most) {
						t.Fatalf("%d at %d of %d is not refused as above %d", bad, i, n, most)
					}
				}
				src[i] = good
			}
		}
	}
}

// edgeHalf is a number below m, often at an edge.
func edgeHalf(rng *rand.Rand, m uint64) uint64 {
	switch rng.IntN(6) {
	case 0:
		return 0
	case 1:
		return m - 1
	case 2:
		return m / 2
	case 3:
		return (m - 1) & (1<<32 - 1)
	}
	return rng.Uint64N(m)
}

// Every radix and every length with halves of one word, both directions.
func TestKernelsAgainstGo(t *testing.T) {
	rng := rand.New(rand.NewPCG(17, 18))
	all := slices.Clone(radices)
	for range 60 {
		all = append(all, 2+rng.IntN(MaxRadix-1))
	}
	lengths := 0
	for _, width := range widths(t) {
		for _, radix := range all {
			key := randomBytes(rng, 16+8*rng.IntN(3))
			c := withWidth(t, key, radix, width)
			for n := c.minLength; n <= 124; n++ {
				p := c.plan(n)
				if p.path != path64 {
					continue
				}
				lengths++
				compareKernels(t, c, p, rng)
			}
		}
	}
	if lengths < 1000 {
		t.Errorf("only %d lengths compared", lengths)
	}
}

func compareKernels(t testing.TB, c *core, p *plan, rng *rand.Rand) {
	t.Helper()
	var values, want [33][]uint16
	var tweaks [33][]byte
	for _, dir := range []direction{encrypting, decrypting} {
		for i := range values {
			a, b := edgeHalf(rng, p.mod64[0].m), edgeHalf(rng, p.mod64[1].m)
			tweaks[i] = randomBytes(rng, tweakLengths[rng.IntN(len(tweakLengths))])
			values[i], want[i] = make([]uint16, p.n), make([]uint16, p.n)
			c.write64(values[i], p, a, b)
			if x, y := c.read64(values[i], p); x != a || y != b {
				t.Fatalf("radix %d, length %d: %d, %d read back as %d, %d", c.radix, p.n, a, b, x, y)
			}
			wantA, wantB := c.rounds64Go(p, tweaks[i], a, b, dir)
			if gotA, gotB := c.rounds64(p, tweaks[i], a, b, dir); gotA != wantA || gotB != wantB {
				t.Fatalf("radix %d, length %d, tweak %x, halves %d, %d, decrypting %v: %d, %d, want %d, %d", c.radix, p.n, tweaks[i], a, b, dir, gotA, gotB, wantA, wantB)
			}
			c.write64(want[i], p, wantA, wantB)
		}
		size := 1 + rng.IntN(len(values))
		c.cryptBatch(values[:size], tweaks[:size], dir)
		for i := range size {
			if !slices.Equal(values[i], want[i]) {
				t.Fatalf("radix %d, length %d, value %d of %d, width %d, decrypting %v: %v, want %v", c.radix, p.n, i, size, c.kernel.width, dir, values[i], want[i])
			}
		}
	}
}

// FuzzKernels compares the kernels with Go.
func FuzzKernels(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), uint16(10), uint8(16), uint64(1))
	f.Add([]byte("0123456789abcdef01234567"), uint16(2), uint8(64), uint64(2))
	f.Add([]byte("0123456789abcdef0123456789abcdef"), uint16(65535), uint8(4), uint64(3))
	f.Add([]byte("0123456789abcdef0123456789abcdef"), uint16(0), uint8(4), uint64(4))
	f.Add([]byte("0123456789abcdef0123456789abcdef"), uint16(10), uint8(36), uint64(5))
	f.Fuzz(func(t *testing.T, key []byte, radix16 uint16, n uint8, seed uint64) {
		radix := int(radix16)
		if radix == 0 {
			radix = MaxRadix
		}
		for _, width := range widths(t) {
			c, err := newCore(key, radix, legacyMinDomain)
			if err != nil || int(n) < c.minLength {
				return
			}
			c.kernel.width = width
			p := c.plan(int(n))
			if p.path != path64 {
				return
			}
			compareKernels(t, c, p, rand.New(rand.NewPCG(seed, 0)))
		}
	})
}

// All of the package's paths give the accumulated digest.
func TestAccumulatedByKernel(t *testing.T) {
	for _, width := range append(widths(t), 0) {
		t.Run(fmt.Sprint("width ", width), func(t *testing.T) {
			accumulate(t, func(f *FF1) { f.core.kernel.width = width })
		})
	}
}
