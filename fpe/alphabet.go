package fpe

import (
	"unicode/utf8"
)

// Alphabet gives the numerals of a radix their symbols. It is immutable and safe
// for concurrent use.
//
// Symbols are compared as code points and as nothing else: no case is folded, no
// sign, space or digit of another script is taken for one of them, and nothing
// is normalised. Take symbols that Unicode normalisation leaves alone (no
// combining marks, no compatibility forms) if what stores the text might
// normalise it.
type Alphabet struct {
	symbols []rune
	ascii   [utf8.RuneSelf]int32 // numeral, or -1
	others  map[rune]uint16      // beyond ASCII
}

// Alphabets in common use.
var (
	// Digits are 0 to 9, radix 10.
	Digits = mustAlphabet("0123456789")
	// LowerAlphanumeric are the digits and a to z, radix 36.
	LowerAlphanumeric = mustAlphabet("0123456789abcdefghijklmnopqrstuvwxyz")
	// UpperAlphanumeric are the digits and A to Z, radix 36.
	UpperAlphanumeric = mustAlphabet("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	// Alphanumeric are the digits, A to Z and a to z, radix 62.
	Alphanumeric = mustAlphabet("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
)

// NewAlphabet returns the alphabet whose numerals 0, 1, … are the runes of
// symbols, in that order: 2 to MaxRadix distinct runes. Otherwise it returns
// ErrAlphabet. The order is part of the cipher: with another one, values
// encrypted before do not decrypt.
func NewAlphabet(symbols string) (*Alphabet, error) {
	if !utf8.ValidString(symbols) {
		return nil, ErrAlphabet
	}
	a := &Alphabet{symbols: []rune(symbols)}
	if len(a.symbols) < 2 || len(a.symbols) > MaxRadix {
		return nil, ErrAlphabet
	}
	for i := range a.ascii {
		a.ascii[i] = -1
	}
	for i, r := range a.symbols {
		if _, taken := a.numeral(r); taken {
			return nil, ErrAlphabet
		}
		if r < utf8.RuneSelf {
			a.ascii[r] = int32(i)
			continue
		}
		if a.others == nil {
			a.others = map[rune]uint16{}
		}
		a.others[r] = uint16(i)
	}
	return a, nil
}

func mustAlphabet(symbols string) *Alphabet {
	a, err := NewAlphabet(symbols)
	if err != nil {
		panic(err)
	}
	return a
}

// Radix returns the number of symbols.
func (a *Alphabet) Radix() int { return len(a.symbols) }

func (a *Alphabet) numeral(r rune) (uint16, bool) {
	if uint32(r) < utf8.RuneSelf {
		n := a.ascii[r]
		return uint16(n), n >= 0
	}
	n, ok := a.others[r]
	return n, ok
}

// AppendNumerals appends the numerals of s to dst and returns the extended
// slice. It returns a *SymbolError for what is no symbol, and ErrTooLong for more
// than MaxLength symbols; dst is returned as it was then.
func (a *Alphabet) AppendNumerals(dst []uint16, s string) ([]uint16, error) {
	out := dst
	for i := 0; i < len(s); {
		var n uint16
		r, size := rune(s[i]), 1
		ok := true
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
			ok = r != utf8.RuneError || size > 1 // U+FFFD may be a symbol, a broken byte not
		}
		if ok {
			n, ok = a.numeral(r)
		}
		position := len(out) - len(dst)
		if !ok {
			return dst, &SymbolError{position}
		}
		if position == MaxLength {
			return dst, ErrTooLong
		}
		out = append(out, n)
		i += size
	}
	return out, nil
}

// AppendText appends the symbols of the numerals to dst and returns the extended
// slice. It returns a *SymbolError for a numeral that is not below the radix;
// dst is returned as it was then.
func (a *Alphabet) AppendText(dst []byte, numerals []uint16) ([]byte, error) {
	out := dst
	for i, n := range numerals {
		if int(n) >= len(a.symbols) {
			return dst, &SymbolError{i}
		}
		if r := a.symbols[n]; r < utf8.RuneSelf {
			out = append(out, byte(r))
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out, nil
}
