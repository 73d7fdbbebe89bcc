package tokenize

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/lethe-go/lethe/fpe"
)

// Pattern compiles a pattern, which reads like a regular expression of the
// simplest kind and matches whole values:
//
//	[0-9A-Z]   one symbol of a class: characters and ranges, replaced
//	{n} {n,m}  after a class: n of it, or n to m
//	( … )      what is in parentheses is kept, and bound to the token
//	x          any other character stands for itself; \x for one that is special
//
// "([A-Z]{2})[0-9]{6}[A-D]" is British national insurance numbers of which the
// first two letters stay; "[0-9]{3}-[0-9]{2}-[0-9]{4}" keeps the form of a number
// in groups. Symbols are code points, compared exactly: no case is folded, no
// digit of another script taken for one. Replaced symbols stay of their class.
//
// There is no guessing in a match: what follows {n,m} must start with a
// symbol that the class does not have. A pattern whose shortest value leaves fewer
// than 1,000,000 values is refused with ErrDomain and the arithmetic.
//
// The text of the pattern is the name of the format: written in another way it
// makes other tokens.
func Pattern(pattern string) (Format, error) {
	p := &patternParser{text: pattern}
	f, err := p.parse()
	if err == nil {
		err = f.check()
	}
	if err != nil {
		return nil, fmt.Errorf("tokenize: pattern %q: %w", pattern, err)
	}
	f.name = "pattern/1 " + pattern
	f.setRadix()
	return f, nil
}

// element is a class repeated, or a literal (a class of one symbol, kept).
type element struct {
	symbols  []rune // in the order they are numbered
	ascii    [128]int16
	index    map[rune]uint16
	min, max int
	keep     bool
	literal  bool
}

func newElement(symbols []rune, keep, literal bool) element {
	e := element{symbols: symbols, min: 1, max: 1, keep: keep, literal: literal}
	for i := range e.ascii {
		e.ascii[i] = -1
	}
	for i, r := range symbols {
		if r < 128 {
			e.ascii[r] = int16(i)
			continue
		}
		if e.index == nil {
			e.index = map[rune]uint16{}
		}
		e.index[r] = uint16(i)
	}
	return e
}

// find returns the number of a symbol.
func (e *element) find(r rune) (uint16, bool) {
	if r >= 0 && r < 128 {
		return uint16(e.ascii[r]), e.ascii[r] >= 0
	}
	n, ok := e.index[r]
	return n, ok
}

type patternFormat struct {
	name     string
	elements []element
	radix    int
}

func (f *patternFormat) Name() string { return f.name }
func (f *patternFormat) Radix() int   { return f.radix }

// setRadix finds the radix if all replaced symbols have the same.
func (f *patternFormat) setRadix() {
	for i := range f.elements {
		e := &f.elements[i]
		switch {
		case e.keep:
		case f.radix == 0:
			f.radix = len(e.symbols)
		case f.radix != len(e.symbols):
			f.radix = 0
			return
		}
	}
	if f.radix < 2 {
		f.radix = 0
	}
}

// check refuses what is ambiguous or has too few values.
func (f *patternFormat) check() error {
	var factors []factor
	longest := 0
	for i := range f.elements {
		e := &f.elements[i]
		longest += e.max * utf8.RuneLen(slices.Max(e.symbols))
		if longest > MaxText {
			return fmt.Errorf("values can be longer than %d bytes", MaxText)
		}
		if !e.keep {
			factors = append(factors, factor{uint32(len(e.symbols)), e.min})
		}
		if e.min == e.max {
			continue
		}
		// Elements that may be absent hand the question on to the one after them.
		for j := i + 1; j < len(f.elements); j++ {
			next := &f.elements[j]
			if slices.ContainsFunc(next.symbols, func(r rune) bool { _, in := e.find(r); return in }) {
				return errors.New("ambiguous: after {n,m} comes something that could also belong to the class before it")
			}
			if next.min > 0 {
				break
			}
		}
	}
	return checkDomain(factors)
}

func (f *patternFormat) Split(p *Parts, text string, side Side) error {
	p.Text = append(p.Text, text...)
	at := 0
	for i := range f.elements {
		e := &f.elements[i]
		n := 0
		for n < e.max && at < len(text) {
			r, size := rune(text[at]), 1
			if r >= utf8.RuneSelf {
				if r, size = utf8.DecodeRuneInString(text[at:]); r == utf8.RuneError && size == 1 {
					return side.misfit("it is not valid UTF-8")
				}
			}
			symbol, ok := e.find(r)
			if !ok {
				break
			}
			switch {
			case e.literal: // always the same
			case e.keep:
				p.Kept = append(p.Kept, text[at:at+size]...)
			default:
				p.Numerals = append(p.Numerals, symbol)
				if f.radix == 0 {
					p.Radices = append(p.Radices, uint32(len(e.symbols)))
				}
			}
			at += size
			n++
		}
		if n < e.min {
			return side.misfit("byte %d is not what the pattern has there", at)
		}
		if e.min != e.max {
			p.Kept = append(p.Kept, 0xff, byte(n>>8), byte(n)) // 0xff is in no UTF-8 text: it cannot be confused
		}
	}
	if at != len(text) {
		return side.misfit("it goes on at byte %d, where the pattern ends", at)
	}
	return nil
}

func (f *patternFormat) Join(dst []byte, p *Parts, _ Side) ([]byte, error) {
	at, next := 0, 0
	for i := range f.elements {
		e := &f.elements[i]
		for n := 0; n < e.max && at < len(p.Text); n++ {
			r, size := utf8.DecodeRune(p.Text[at:])
			if _, ok := e.find(r); !ok {
				break
			}
			if e.keep {
				dst = append(dst, p.Text[at:at+size]...)
			} else {
				dst = utf8.AppendRune(dst, e.symbols[p.Numerals[next]])
				next++
			}
			at += size
		}
	}
	return dst, nil
}

type patternParser struct {
	text string
	at   int
}

const (
	maxPattern  = 4096
	maxElements = 256
	special     = `[](){}\`
)

func (p *patternParser) parse() (*patternFormat, error) {
	if len(p.text) > maxPattern || !utf8.ValidString(p.text) {
		return nil, fmt.Errorf("a pattern is valid UTF-8 of at most %d bytes", maxPattern)
	}
	f := &patternFormat{}
	group := -1 // first element of the open parenthesis
	for p.at < len(p.text) {
		if len(f.elements) > maxElements {
			return nil, fmt.Errorf("more than %d parts", maxElements)
		}
		switch c := p.text[p.at]; c {
		case '(':
			if group >= 0 {
				return nil, p.fail("parentheses do not nest")
			}
			group = len(f.elements)
			p.at++
		case ')':
			if group < 0 {
				return nil, p.fail("no parenthesis is open")
			}
			if group == len(f.elements) {
				return nil, p.fail("the parentheses are empty")
			}
			group = -1
			p.at++
		case '[':
			symbols, err := p.class()
			if err != nil {
				return nil, err
			}
			e := newElement(symbols, group >= 0, false)
			if e.min, e.max, err = p.count(); err != nil {
				return nil, err
			}
			f.elements = append(f.elements, e)
		case ']', '{', '}':
			return nil, p.fail("%q is out of place; write \\%c for the character", c, c)
		default:
			r, err := p.symbol()
			if err != nil {
				return nil, err
			}
			f.elements = append(f.elements, newElement([]rune{r}, true, true))
		}
	}
	if group >= 0 {
		return nil, p.fail("a parenthesis is not closed")
	}
	if !slices.ContainsFunc(f.elements, func(e element) bool { return !e.keep }) {
		return nil, errors.New("nothing would be replaced: put what is into [classes] outside ( )")
	}
	return f, nil
}

func (p *patternParser) fail(format string, args ...any) error {
	return fmt.Errorf("at byte %d: %s", p.at, fmt.Sprintf(format, args...))
}

// symbol reads one character, or an escaped one.
func (p *patternParser) symbol() (rune, error) {
	if p.text[p.at] == '\\' {
		p.at++
		if p.at == len(p.text) || !strings.ContainsRune(special+"-", rune(p.text[p.at])) {
			return 0, p.fail(`\ stands before one of %s or -`, special)
		}
	}
	r, size := utf8.DecodeRuneInString(p.text[p.at:])
	p.at += size
	return r, nil
}

func (p *patternParser) class() ([]rune, error) {
	p.at++
	var symbols []rune
	seen := map[rune]bool{}
	for {
		if p.at >= len(p.text) {
			return nil, p.fail("a class is not closed by ]")
		}
		if p.text[p.at] == ']' {
			p.at++
			break
		}
		if c := p.text[p.at]; c == '[' || c == '-' {
			return nil, p.fail("%q in a class is written \\%c", c, c)
		}
		first, err := p.symbol()
		if err != nil {
			return nil, err
		}
		last := first
		if p.at+1 < len(p.text) && p.text[p.at] == '-' && p.text[p.at+1] != ']' {
			p.at++
			if last, err = p.symbol(); err != nil {
				return nil, err
			}
		}
		if last < first || int(last-first) >= fpe.MaxRadix {
			return nil, p.fail("a range goes upwards, over at most 65,536 characters")
		}
		for r := first; r <= last; r++ {
			if seen[r] || !utf8.ValidRune(r) || r == utf8.RuneError {
				return nil, p.fail("a class has each character once, and valid ones only")
			}
			seen[r] = true
			symbols = append(symbols, r)
		}
		if len(symbols) > fpe.MaxRadix-1 {
			return nil, p.fail("a class has at most 65,535 characters")
		}
	}
	if len(symbols) < 2 {
		return nil, p.fail("a class has at least two characters; one alone stands for itself outside [ ]")
	}
	return symbols, nil
}

// count reads {n} or {n,m}, if there is one.
func (p *patternParser) count() (low, high int, err error) {
	if p.at >= len(p.text) || p.text[p.at] != '{' {
		return 1, 1, nil
	}
	inside, _, closed := strings.Cut(p.text[p.at+1:], "}")
	if !closed {
		return 0, 0, p.fail("{ is not closed by }")
	}
	from, to, two := strings.Cut(inside, ",")
	if !two {
		to = from
	}
	low, err1 := countNumber(from)
	high, err2 := countNumber(to)
	if err1 != nil || err2 != nil || low > high || high == 0 || high > MaxText {
		return 0, 0, p.fail("write {n} or {n,m}, with n ≤ m and m from 1 to %d", MaxText)
	}
	p.at += len(inside) + 2
	return low, high, nil
}

func countNumber(s string) (int, error) {
	if s == "" || len(s) > 4 || strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.Atoi(s)
}
