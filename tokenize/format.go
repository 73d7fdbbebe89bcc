package tokenize

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"

	"github.com/lethe-go/lethe/fpe"
)

// Format says what a value looks like, what of it a token replaces and what it
// keeps. This package has formats of its own; others can be written. A Format is
// immutable and safe for concurrent use.
type Format interface {
	// Name identifies the format and every option of it. Keys are derived for it:
	// under another name old tokens do not turn back.
	Name() string
	// Radix is that of all numerals of all values, 2 to 65,536, or 0 if Split sets
	// Parts.Radices, each 1 to 65,536.
	Radix() int
	// Split takes a value or a token apart. It returns ErrValue for a value and
	// ErrToken for a token that do not fit, and never repeats the text. p comes with
	// slices of length 0, to be appended to.
	Split(p *Parts, text string, side Side) error
	// Join appends the text that Split would take apart into p. For a value it may
	// return ErrToken: no value has the token that was decrypted.
	Join(dst []byte, p *Parts, side Side) ([]byte, error)
}

// Restricted is a Format which excludes some tokens, such as card numbers that
// pass the Luhn check. What Split makes of a value must be admitted too. More
// than a few in a hundred numerals must be admitted.
type Restricted interface {
	Format
	// Admits reports whether the numerals of p are allowed.
	Admits(p *Parts) bool
}

// Side tells values from tokens.
type Side uint8

// The sides.
const (
	OfValue Side = iota
	OfToken
)

// err is the sentinel of a text that does not fit.
func (s Side) err() error {
	if s == OfToken {
		return ErrToken
	}
	return ErrValue
}

// misfit says why a text does not fit.
func (s Side) misfit(format string, args ...any) error {
	return fmt.Errorf("%w: %s", s.err(), fmt.Sprintf(format, args...))
}

// Parts is a value or token taken apart.
type Parts struct {
	Numerals []uint16 // what is replaced
	Radices  []uint32 // of each numeral, if Format.Radix is 0
	Kept     []byte   // what stays and is bound to the token, as the tweak
	Text     []byte   // for the Format: what Join needs besides the numerals
	State    int      // for the Format
}

func (p *Parts) reset() {
	p.Numerals, p.Radices, p.Kept, p.Text, p.State = p.Numerals[:0], p.Radices[:0], p.Kept[:0], p.Text[:0], 0
}

// wipe clears the value.
func (p *Parts) wipe() {
	clear(p.Numerals)
	clear(p.Kept)
	clear(p.Text)
	p.reset()
}

// MaxText is the longest value or token of a Format in bytes.
const MaxText = 1024

// factor is count positions of radix symbols each.
type factor struct {
	radix uint32
	count int
}

// domainOf multiplies: the number of values, and the arithmetic as text.
func domainOf(factors []factor) (size *big.Int, arithmetic string) {
	size = big.NewInt(1)
	for _, f := range factors {
		if f.count == 0 || f.radix == 1 {
			continue
		}
		size.Mul(size, new(big.Int).Exp(big.NewInt(int64(f.radix)), big.NewInt(int64(f.count)), nil))
		if arithmetic != "" {
			arithmetic += "·"
		}
		arithmetic += strconv.Itoa(int(f.radix))
		if f.count != 1 {
			arithmetic += "^" + strconv.Itoa(f.count)
		}
	}
	if arithmetic == "" {
		arithmetic = "1"
	}
	return size, arithmetic
}

// checkDomain refuses fewer than fpe.MinDomain values, with the arithmetic.
func checkDomain(factors []factor) error {
	size, arithmetic := domainOf(factors)
	if size.Cmp(big.NewInt(fpe.MinDomain)) >= 0 {
		return nil
	}
	return fmt.Errorf("%w: %s = %s, and at least %s are required: keep less, take longer values, or use opaque random tokens", ErrDomain, arithmetic, grouped(size.Int64()), grouped(fpe.MinDomain))
}

// grouped writes a number with commas.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// layout is a Format and what is asked of it for every value.
type layout struct {
	Format
	radix     int
	minLength int // with one radix: the least length with fpe.MinDomain values
}

func newLayout(f Format) (layout, error) {
	if f == nil {
		return layout{}, errors.New("Options.Format is required: CardFormat, Pattern, …")
	}
	l := layout{Format: f, radix: f.Radix()}
	switch {
	case f.Name() == "":
		return l, errors.New("Options.Format has no Name")
	case l.radix < 0 || l.radix == 1 || l.radix > fpe.MaxRadix:
		return l, fmt.Errorf("Options.Format has radix %d", l.radix)
	}
	for size := 1; l.radix > 0 && size < fpe.MinDomain; size *= l.radix {
		l.minLength++
	}
	return l, nil
}

// split splits a text and checks what the Format, which may be of others, did.
func (l *layout) split(p *Parts, text string, side Side) error {
	p.reset()
	if len(text) > MaxText {
		return side.misfit("%d bytes, at most %d are allowed", len(text), MaxText)
	}
	if err := l.Split(p, text, side); err != nil {
		return err
	}
	if l.radix > 0 && len(p.Numerals) >= l.minLength {
		return nil
	}
	if l.radix == 0 && len(p.Radices) != len(p.Numerals) {
		return fmt.Errorf("tokenize: format %q gave %d radices for %d numerals", l.Name(), len(p.Radices), len(p.Numerals))
	}
	if err := l.checkSize(p); err != nil {
		if side == OfToken {
			return side.misfit("it is too short")
		}
		return err
	}
	for i, r := range p.Radices {
		if r == 0 || r > fpe.MaxRadix || uint32(p.Numerals[i]) >= r {
			return fmt.Errorf("tokenize: format %q gave a numeral that is not below its radix", l.Name())
		}
	}
	return nil
}

// checkSize is checkDomain for one value.
func (l *layout) checkSize(p *Parts) error {
	if l.radix > 0 {
		return fmt.Errorf("%w: %w", ErrValue, checkDomain([]factor{{uint32(l.radix), len(p.Numerals)}}))
	}
	size := uint64(1)
	for _, r := range p.Radices {
		if size *= uint64(r); size >= fpe.MinDomain {
			return nil
		}
	}
	factors := make([]factor, 0, len(p.Radices))
	for _, r := range p.Radices {
		if n := len(factors); n > 0 && factors[n-1].radix == r {
			factors[n-1].count++
			continue
		}
		factors = append(factors, factor{r, 1})
	}
	return fmt.Errorf("%w: %w", ErrValue, checkDomain(factors))
}
