package tokenize

import (
	"fmt"
	"slices"
)

// Alphanumeric is free text of ASCII letters and digits: each letter becomes a
// letter of the same case and each digit a digit; every other character stays
// where it is. The pattern of letters, cases, digits and the rest is bound to
// the token. A value with fewer than 1,000,000 others of its pattern is
// ErrDomain: five letters are enough, and six digits. Format-preserving tokens take
// up to 204 letters or 256 digits.
func Alphanumeric() Format { return alphanumericFormat{} }

type alphanumericFormat struct{}

func (alphanumericFormat) Name() string { return "alphanumeric/1" }
func (alphanumericFormat) Radix() int   { return 0 }

func (alphanumericFormat) Split(p *Parts, text string, _ Side) error {
	p.Text = append(p.Text, text...)
	splitClasses(p, text)
	return nil
}

func (alphanumericFormat) Join(dst []byte, p *Parts, _ Side) ([]byte, error) {
	dst, _ = joinClasses(dst, p.Text, p.Numerals)
	return dst, nil
}

// classOf tells digits, capitals and small letters: the first symbol of the class
// and its size, or 0.
func classOf(c byte) (first byte, size uint32) {
	switch {
	case c >= '0' && c <= '9':
		return '0', 10
	case c >= 'A' && c <= 'Z':
		return 'A', 26
	case c >= 'a' && c <= 'z':
		return 'a', 26
	}
	return 0, 0
}

// splitClasses takes every letter and digit of text for a numeral, and binds the
// pattern.
func splitClasses(p *Parts, text string) {
	for i := range len(text) {
		first, size := classOf(text[i])
		if size == 0 {
			p.Kept = append(p.Kept, text[i])
			continue
		}
		p.Kept = append(p.Kept, first)
		p.Numerals = append(p.Numerals, uint16(text[i]-first))
		p.Radices = append(p.Radices, size)
	}
}

// joinClasses appends text with its letters and digits replaced, and returns the
// numerals that are left.
func joinClasses(dst, text []byte, numerals []uint16) ([]byte, []uint16) {
	for _, c := range text {
		if first, size := classOf(c); size > 0 {
			c = first + byte(numerals[0])
			numerals = numerals[1:]
		}
		dst = append(dst, c)
	}
	return dst, numerals
}

// UUID is UUIDs as RFC 9562 writes them, in small letters: the version and the
// four bits with the variant stay, the other 120 bits are replaced.
func UUID() Format { return uuidFormat{} }

type uuidFormat struct{}

const (
	uuidLength  = 36
	uuidVersion = 14
	uuidVariant = 19
)

func (uuidFormat) Name() string { return "uuid/1" }
func (uuidFormat) Radix() int   { return 16 }

func (uuidFormat) Split(p *Parts, text string, side Side) error {
	if len(text) != uuidLength {
		return side.misfit("a UUID has 36 characters")
	}
	for i := range len(text) {
		c := text[i]
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return side.misfit("byte %d is not a hyphen", i)
			}
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'f':
			n := uint16(c - '0')
			if c >= 'a' {
				n = uint16(c-'a') + 10
			}
			if i == uuidVersion || i == uuidVariant {
				p.Kept = append(p.Kept, c)
			} else {
				p.Numerals = append(p.Numerals, n)
			}
		default:
			return side.misfit("byte %d is not a hexadecimal digit in small letters", i)
		}
	}
	return nil
}

func (uuidFormat) Join(dst []byte, p *Parts, _ Side) ([]byte, error) {
	next := 0
	for i := range uuidLength {
		switch i {
		case 8, 13, 18, 23:
			dst = append(dst, '-')
		case uuidVersion:
			dst = append(dst, p.Kept[0])
		case uuidVariant:
			dst = append(dst, p.Kept[1])
		default:
			dst = append(dst, "0123456789abcdef"[p.Numerals[next]])
			next++
		}
	}
	return dst, nil
}

// postcodes are the patterns of countries' postcodes.
var postcodes = map[string]string{
	"CA": "[A-Z][0-9][A-Z] [0-9][A-Z][0-9]",
	"GB": "[A-Z]{1,2}[0-9]{1,2} [0-9][A-Z]{2}",
	"NL": "[0-9]{4} [A-Z]{2}",
	"US": "[0-9]{5}-[0-9]{4}", // ZIP+4
}

// shortPostcodes have so few digits that a token would be no secret.
var shortPostcodes = map[string]int{"AT": 4, "AU": 4, "BE": 4, "CH": 4, "DE": 5, "DK": 4, "ES": 5, "FR": 5, "IT": 5, "NO": 4, "SE": 5}

// Postcode is the postcodes of a country, by its ISO 3166 code: CA, GB (those
// that end their first half with a digit), NL, US (ZIP+4). Tokens have the form of
// a postcode and need not exist. Postcodes of four or five digits alone are
// refused with ErrDomain: use opaque random tokens.
func Postcode(country string) (Format, error) {
	if pattern, ok := postcodes[country]; ok {
		return Pattern(pattern)
	}
	if n := shortPostcodes[country]; n > 0 {
		return nil, fmt.Errorf("tokenize: Postcode %s: %w", country, checkDomain([]factor{{10, n}}))
	}
	known := make([]string, 0, len(postcodes))
	for c := range postcodes {
		known = append(known, c)
	}
	slices.Sort(known)
	return nil, fmt.Errorf("tokenize: Postcode: country %q is not one of %v; use Pattern", country, known)
}
