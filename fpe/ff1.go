package fpe

import "slices"

// Limits of this package. SP 800-38G sets MaxRadix and MinDomain and lets an
// implementation choose the others.
const (
	// MaxRadix is the largest radix, that of two-byte numerals.
	MaxRadix = 1 << 16
	// MaxLength is the largest number of numerals of a value.
	MaxLength = 1024
	// MaxTweakLength is the largest number of bytes of a tweak.
	MaxTweakLength = 4096
	// MinDomain is the smallest number of values a length may have: radix to the
	// power of the length is at least this (SP 800-38G Rev. 1, second public draft).
	MinDomain = 1_000_000
)

// FF1 encrypts and decrypts sequences of numerals under one key and one radix:
// algorithms 7 and 8 of SP 800-38G. It is immutable and safe for concurrent use.
// NewFF1 makes it; the zero value is of no use.
type FF1 struct {
	core *core
}

// NewFF1 returns FF1 with AES under the key of 16, 24 or 32 bytes, for numerals
// from 0 to radix-1, where radix is between 2 and MaxRadix. It returns ErrKeySize
// or ErrRadix. The caller may wipe the key afterwards.
//
// A key belongs to one radix, and to one kind of data unless the tweak tells
// kinds apart. The constants of a length are computed when it is first met, and
// kept: about a kilobyte each for usual lengths, none of it depending on a value.
func NewFF1(key []byte, radix int) (*FF1, error) {
	c, err := newCore(key, radix, MinDomain)
	if err != nil {
		return nil, err
	}
	return &FF1{c}, nil
}

// Radix returns the radix.
func (f *FF1) Radix() int { return int(f.core.radix) }

// MinLength returns the smallest number of numerals a value may have: the
// smallest n for which radix to the power of n is at least MinDomain.
func (f *FF1) MinLength() int { return f.core.minLength }

// Encrypt appends the encryption of src to dst and returns the extended slice.
// The encryption has as many numerals as src. With src[:0] as dst it takes the
// place of src; no other overlap matters either. Nothing is allocated while dst
// has room.
//
// The tweak is not secret and may be empty; see the package documentation. The
// errors are ErrTooShort, ErrTooLong, ErrTweakTooLong and a *SymbolError; with
// an error dst is returned as it was.
func (f *FF1) Encrypt(dst, src []uint16, tweak []byte) ([]uint16, error) {
	return f.core.append(dst, src, tweak, encrypting)
}

// Decrypt appends the decryption of src under the same tweak to dst and returns
// the extended slice, like Encrypt. It cannot notice a wrong key, a wrong tweak
// or a changed value: it returns other numerals then.
func (f *FF1) Decrypt(dst, src []uint16, tweak []byte) ([]uint16, error) {
	return f.core.append(dst, src, tweak, decrypting)
}

// direction of the Feistel rounds.
type direction bool

const (
	encrypting direction = false
	decrypting direction = true
)

func (c *core) append(dst, src []uint16, tweak []byte, dir direction) ([]uint16, error) {
	if err := c.check(src, tweak); err != nil {
		return dst, err
	}
	// src is read whole before the first numeral is written, so overlap is harmless.
	n := len(dst)
	dst = slices.Grow(dst, len(src))[:n+len(src)]
	c.crypt(dst[n:], src, c.plan(len(src)), tweak, dir)
	return dst, nil
}

// check refuses what has no encryption.
func (c *core) check(src []uint16, tweak []byte) error {
	switch {
	case len(src) < c.minLength:
		return ErrTooShort
	case len(src) > MaxLength:
		return ErrTooLong
	case len(tweak) > MaxTweakLength:
		return ErrTweakTooLong
	}
	if c.valid(src) {
		return nil
	}
	for i, x := range src {
		if uint64(x) >= c.radix {
			return &SymbolError{i}
		}
	}
	return nil
}

// crypt writes the encryption or decryption of src, which was checked, to dst.
func (c *core) crypt(dst, src []uint16, p *plan, tweak []byte, dir direction) {
	switch p.path {
	case path64:
		a, b := c.read64(src, p)
		a, b = c.rounds64(p, tweak, a, b, dir)
		c.write64(dst, p, a, b)
	case path128:
		c.crypt128(dst, src, p, tweak, dir)
	case pathLong:
		c.cryptLong(dst, src, p, tweak, dir)
	}
}
