package tokenize

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// CardOptions say what a token of a payment card number keeps.
type CardOptions struct {
	// KeepBIN is the number of leading digits kept: 0, 6 or 8.
	KeepBIN int
	// KeepLast4 keeps the last four digits.
	KeepLast4 bool
	// LuhnValid makes tokens that pass the Luhn check, for systems that insist on
	// it. Such a token can be somebody's card number. Without it every token fails
	// the check, so that it is never one, and cannot be taken for one.
	LuhnValid bool
	// Lengths are the numbers of digits taken: 16 by default, 12 to 19 allowed. Each
	// must leave enough digits.
	Lengths []int
}

// CardFormat is payment card numbers: digits, with single spaces or hyphens
// between them that stay where they are. Values must pass the Luhn check.
//
// What is kept is bound to the token. The digits that are not kept must have at
// least 1,000,000 values, one in ten of them if LuhnValid asks for a check digit;
// otherwise CardFormat returns ErrDomain with the arithmetic: 16 digits with 6 and
// 4 kept are just enough.
//
// Keep as little as the use needs. Of the 1,000,000 middles of a card whose BIN
// and last four digits are known, 100,000 pass the Luhn check, and whoever may
// tokenize at will can try those.
func CardFormat(o CardOptions) (Format, error) {
	f := &cardFormat{bin: o.KeepBIN, valid: o.LuhnValid, lengths: slices.Sorted(slices.Values(o.Lengths))}
	if o.KeepLast4 {
		f.last = 4
	}
	if len(f.lengths) == 0 {
		f.lengths = []int{16}
	}
	var errs []error
	if o.KeepBIN != 0 && o.KeepBIN != 6 && o.KeepBIN != 8 {
		errs = append(errs, fmt.Errorf("Options.KeepBIN %d is not 0, 6 or 8", o.KeepBIN))
	}
	for _, n := range f.lengths {
		if n < 12 || n > maxCard {
			errs = append(errs, fmt.Errorf("length %d is not 12 to 19 (ISO/IEC 7812-1)", n))
			continue
		}
		free := n - f.bin - f.last
		what := fmt.Sprintf("%d digits without the %d and %d kept", n, f.bin, f.last)
		if f.valid {
			free--
			what += " and the check digit"
		}
		if err := checkDomain([]factor{{10, max(0, free)}}); err != nil {
			errs = append(errs, fmt.Errorf("%s leave %d: %w", what, max(0, free), err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("tokenize: CardFormat: %w", err)
	}
	f.lengths = slices.Compact(f.lengths)
	f.name = fmt.Sprintf("card/1 bin=%d last=%d valid=%t", f.bin, f.last, f.valid)
	return f, nil
}

// maxCard is the most digits of a card number (ISO/IEC 7812-1).
const maxCard = 19

type cardFormat struct {
	bin, last int
	valid     bool
	lengths   []int
	name      string
}

func (f *cardFormat) Name() string { return f.name }
func (f *cardFormat) Radix() int   { return 10 }

// Split fills p: Text is the text with its separators, Kept the digits kept, and
// State the Luhn sum of those.
//
// The numerals of a card are those of its free digits, the first moved on by one:
// that makes the number fail the check, so that value and token are of one set,
// the numbers that fail, which the permutation does not leave. With valid tokens
// the last free digit is left out: the check gives it.
func (f *cardFormat) Split(p *Parts, text string, side Side) error {
	var room [maxCard]byte
	n := 0
	for i := range len(text) {
		d := text[i] - '0'
		if d <= 9 {
			if n == len(room) {
				return side.misfit("a card number has at most %d digits", maxCard)
			}
			room[n] = d
			n++
			continue
		}
		if c := text[i]; c != ' ' && c != '-' || i == 0 || i == len(text)-1 || text[i-1] == ' ' || text[i-1] == '-' {
			return side.misfit("byte %d is neither a digit nor a single space or hyphen between digits", i)
		}
	}
	if !slices.Contains(f.lengths, n) {
		return side.misfit("%d digits, and the format takes card numbers of %s", n, f.takes())
	}
	first, free, last := room[:f.bin], room[f.bin:n-f.last], room[n-f.last:n]
	p.Text = append(p.Text, text...)
	p.Kept = append(append(p.Kept, first...), last...)
	p.State = luhnSum(first, 0, n) + luhnSum(last, n-f.last, n)
	p.Numerals = slices.Grow(p.Numerals, len(free))[:len(free)]
	for i, d := range free {
		p.Numerals[i] = uint16(d)
	}
	switch fails := (p.State+luhnSum(free, f.bin, n))%10 != 0; {
	case side == OfValue && fails:
		return side.misfit("it fails the Luhn check")
	case side == OfToken && fails == f.valid:
		return side.misfit("the Luhn check tells tokens of this format, and it is none")
	}
	if f.valid {
		p.Numerals = p.Numerals[:len(p.Numerals)-1]
	} else if side == OfValue {
		p.Numerals[0] = (p.Numerals[0] + 1) % 10
	}
	return nil
}

func (f *cardFormat) takes() string {
	var b strings.Builder
	for i, n := range f.lengths {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, n)
	}
	return b.String()
}

// Admits reports whether a number fails the check.
func (f *cardFormat) Admits(p *Parts) bool {
	return f.valid || f.sum(p)%10 != 0
}

// sum is the Luhn sum of the kept digits and the numerals.
func (f *cardFormat) sum(p *Parts) int {
	return p.State + luhnSum(p.Numerals, f.bin, f.length(p))
}

// length is the number of digits.
func (f *cardFormat) length(p *Parts) int {
	n := f.bin + f.last + len(p.Numerals)
	if f.valid {
		n++
	}
	return n
}

func (f *cardFormat) Join(dst []byte, p *Parts, side Side) ([]byte, error) {
	n := f.length(p)
	var check byte
	switch {
	case f.valid:
		at := f.bin + len(p.Numerals)
		check = luhnDigit((10-f.sum(p)%10)%10, at, n)
	case side == OfValue:
		p.Numerals[0] = (p.Numerals[0] + 9) % 10
		if f.sum(p)%10 != 0 {
			return dst, fmt.Errorf("%w: no card number has this token: another key, tenant or associated data", ErrToken)
		}
	}
	start := len(dst)
	dst = append(dst, p.Text...)
	if len(p.Text) == n { // no separators
		free := dst[start+f.bin : start+n-f.last]
		for j, d := range p.Numerals {
			free[j] = '0' + byte(d)
		}
		if f.valid {
			free[len(free)-1] = '0' + check
		}
		return dst, nil
	}
	i := 0
	for j, c := range dst[start:] {
		if c == ' ' || c == '-' {
			continue
		}
		switch free := i - f.bin; {
		case free < 0 || i >= n-f.last:
		case free < len(p.Numerals):
			dst[start+j] = '0' + byte(p.Numerals[free])
		default:
			dst[start+j] = '0' + check
		}
		i++
	}
	return dst, nil
}
