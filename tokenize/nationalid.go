package tokenize

// SSN is social security numbers of the United States, with hyphens or without.
// Values and tokens have an area of 001 to 899 without 666, a group of 01 to 99
// and a serial of 0001 to 9999, as every number that can be issued has
// (20 CFR 422.103; SSA, randomization of 2011). A token can be somebody's number.
func SSN() Format { return ssnFormat{} }

type ssnFormat struct{}

const (
	ssnAreas   = 898 // 001 to 899 without 666
	ssnGroups  = 99
	ssnSerials = 9999
)

func (ssnFormat) Name() string { return "ssn/1" }
func (ssnFormat) Radix() int   { return 0 }

func (ssnFormat) Split(p *Parts, text string, side Side) error {
	var digits [9]int
	n := 0
	hyphens := len(text) == 11
	if !hyphens && len(text) != 9 {
		return side.misfit("a social security number is 123-45-6789 or 123456789")
	}
	for i := range len(text) {
		switch c := text[i]; {
		case hyphens && (i == 3 || i == 6):
			if c != '-' {
				return side.misfit("byte %d is not a hyphen", i)
			}
		case c < '0' || c > '9':
			return side.misfit("byte %d is not a digit", i)
		default:
			digits[n] = int(c - '0')
			n++
		}
	}
	area := digits[0]*100 + digits[1]*10 + digits[2]
	group := digits[3]*10 + digits[4]
	serial := digits[5]*1000 + digits[6]*100 + digits[7]*10 + digits[8]
	if area == 0 || area == 666 || area >= 900 || group == 0 || serial == 0 {
		return side.misfit("no number is issued with such an area, group or serial")
	}
	if area > 666 {
		area--
	}
	p.Text = append(p.Text, text...)
	p.Numerals = append(p.Numerals, uint16(area-1), uint16(group-1), uint16(serial-1))
	p.Radices = append(p.Radices, ssnAreas, ssnGroups, ssnSerials)
	return nil
}

func (ssnFormat) Join(dst []byte, p *Parts, _ Side) ([]byte, error) {
	area, group, serial := int(p.Numerals[0])+1, int(p.Numerals[1])+1, int(p.Numerals[2])+1
	if area >= 666 {
		area++
	}
	hyphen := len(p.Text) == 11
	dst = append(dst, '0'+byte(area/100), '0'+byte(area/10%10), '0'+byte(area%10))
	if hyphen {
		dst = append(dst, '-')
	}
	dst = append(dst, '0'+byte(group/10), '0'+byte(group%10))
	if hyphen {
		dst = append(dst, '-')
	}
	return append(dst, '0'+byte(serial/1000), '0'+byte(serial/100%10), '0'+byte(serial/10%10), '0'+byte(serial%10)), nil
}

// NINO is British national insurance numbers without spaces. The letters that no
// number has in its first two places (D, F, I, Q, U, V and, in the second, O) are
// in no token either; prefixes that are never allocated, such as GB, are not
// excluded.
func NINO() Format { return ninoFormat }

var ninoFormat = mustPattern("[ABCEGHJ-PRSTW-Z][ABCEGHJ-NPRSTW-Z][0-9]{6}[A-D]")

func mustPattern(pattern string) Format {
	f, err := Pattern(pattern)
	if err != nil {
		panic(err) // a constant of this package
	}
	return f
}
