// Package phone is a format of package tokenize for telephone numbers, which it
// parses with github.com/nyaruka/phonenumbers, a port of Google's libphonenumber.
package phone

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nyaruka/phonenumbers"

	"github.com/lethe-go/lethe/tokenize"
)

// E164 is telephone numbers as ITU-T E.164 writes them: a plus, the country code
// and the rest, digits only. Values must be possible numbers of their country,
// as libphonenumber has it. Tokens keep the country code, the number of digits
// and whether the rest starts with 0; all its other digits are replaced. A token
// may be no number at all or somebody's: never dial it. A number with fewer than
// 1,000,000 others of its kind is tokenize.ErrDomain.
//
// Normalise numbers before: "+49 30 1234567" and "030 1234567" are refused.
func E164() tokenize.Format { return e164{} }

type e164 struct{}

func (e164) Name() string { return "phone/1" }
func (e164) Radix() int   { return 0 }

// maxDigits is the most digits of a number (E.164, 6.2.1).
const maxDigits = 15

func (e164) Split(p *tokenize.Parts, text string, side tokenize.Side) error {
	misfit := tokenize.ErrValue
	if side == tokenize.OfToken {
		misfit = tokenize.ErrToken
	}
	digits, plus := strings.CutPrefix(text, "+")
	if !plus || len(digits) < 7 || len(digits) > maxDigits || strings.Trim(digits, "0123456789") != "" {
		return fmt.Errorf("%w: a telephone number is + and 7 to %d digits (E.164)", misfit, maxDigits)
	}
	code := countryCode(digits)
	if code == 0 {
		return fmt.Errorf("%w: no country has that code", misfit)
	}
	if side == tokenize.OfValue {
		number, err := phonenumbers.Parse(text, "")
		if err != nil || !phonenumbers.IsPossibleNumber(number) || phonenumbers.Format(number, phonenumbers.E164) != text {
			return fmt.Errorf("%w: not a possible number of its country, or not written as E.164 does", misfit)
		}
	}
	rest := digits[code:]
	p.Text = append(p.Text, text[:1+code]...)
	p.Kept = append(append(p.Kept, byte(len(rest))), digits[:code]...)
	for i := range len(rest) {
		digit, radix := uint16(rest[i]-'0'), uint32(10)
		if i == 0 {
			zero := byte(0)
			if digit == 0 {
				zero, radix = 1, 1
			} else {
				digit, radix = digit-1, 9
			}
			p.Kept = append(p.Kept, zero)
		}
		p.Numerals = append(p.Numerals, digit)
		p.Radices = append(p.Radices, radix)
	}
	return nil
}

// countryCode returns the length of the country code of a number: 1 to 3, or 0.
func countryCode(digits string) int {
	for n := 1; n <= 3; n++ {
		code, err := strconv.Atoi(digits[:n])
		if err == nil && digits[0] != '0' && phonenumbers.GetRegionCodeForCountryCode(code) != phonenumbers.UNKNOWN_REGION {
			return n
		}
	}
	return 0
}

func (e164) Join(dst []byte, p *tokenize.Parts, _ tokenize.Side) ([]byte, error) {
	dst = append(dst, p.Text...)
	for i, n := range p.Numerals {
		if i == 0 && p.Radices[0] == 9 {
			n++
		}
		dst = append(dst, '0'+byte(n))
	}
	return dst, nil
}
