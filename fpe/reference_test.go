package fpe

import (
	"crypto/aes"
	"encoding/binary"
	"math/big"
)

// reference is FF1 as SP 800-38G writes it down, algorithms 1, 3, 6, 7 and 8,
// step by step on math/big, without a thought for speed.
func reference(key []byte, radix int, x []uint16, tweak []byte, decrypt bool) []uint16 {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	r := big.NewInt(int64(radix))
	num := func(x []uint16) *big.Int {
		out := new(big.Int)
		for _, d := range x {
			out.Mul(out, r).Add(out, big.NewInt(int64(d)))
		}
		return out
	}
	str := func(x *big.Int, m int) []uint16 {
		out, x, d := make([]uint16, m), new(big.Int).Set(x), new(big.Int)
		for i := m - 1; i >= 0; i-- {
			x.DivMod(x, r, d)
			out[i] = uint16(d.Int64())
		}
		return out
	}
	prf := func(x []byte) []byte {
		y := make([]byte, 16)
		for ; len(x) > 0; x = x[16:] {
			for i := range y {
				y[i] ^= x[i]
			}
			block.Encrypt(y, y)
		}
		return y
	}

	n, t := len(x), len(tweak)
	u := n / 2
	v := n - u
	a, b := x[:u], x[u:]
	// ⌈v log2(radix)⌉ is the smallest k with 2^k ≥ radix^v.
	k := 0
	for top := new(big.Int).Exp(r, big.NewInt(int64(v)), nil); new(big.Int).Lsh(big.NewInt(1), uint(k)).Cmp(top) < 0; {
		k++
	}
	bytes := (k + 7) / 8
	d := 4*((bytes+3)/4) + 4
	p := []byte{1, 2, 1, byte(radix >> 16), byte(radix >> 8), byte(radix), 10, byte(u % 256)}
	p = binary.BigEndian.AppendUint32(p, uint32(n))
	p = binary.BigEndian.AppendUint32(p, uint32(t))

	f := func(i int, half []uint16) *big.Int {
		q := append([]byte{}, tweak...)
		for (len(q)+1+bytes)%16 != 0 {
			q = append(q, 0)
		}
		q = append(q, byte(i))
		q = append(q, num(half).FillBytes(make([]byte, bytes))...)
		y := prf(append(append([]byte{}, p...), q...))
		s := append([]byte{}, y...)
		for j := 1; len(s) < d; j++ {
			next := new(big.Int).SetBytes(y)
			next.Xor(next, big.NewInt(int64(j)))
			out := next.FillBytes(make([]byte, 16))
			block.Encrypt(out, out)
			s = append(s, out...)
		}
		return new(big.Int).SetBytes(s[:d])
	}
	for i := range 10 {
		if decrypt {
			i = 9 - i
		}
		m := u
		if i%2 == 1 {
			m = v
		}
		mod := new(big.Int).Exp(r, big.NewInt(int64(m)), nil)
		if decrypt {
			c := new(big.Int).Sub(num(b), f(i, a))
			a, b = str(c.Mod(c, mod), m), a
		} else {
			c := new(big.Int).Add(num(a), f(i, b))
			a, b = b, str(c.Mod(c, mod), m)
		}
	}
	return append(append([]uint16{}, a...), b...)
}
