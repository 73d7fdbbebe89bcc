package tokenize

import "fmt"

// IBANOptions say what a token of an IBAN looks like.
type IBANOptions struct {
	// KeepBank is the number of characters kept after the check digits: those of the
	// bank and branch, whose number depends on the country. 0 to 12.
	KeepBank int
	// Valid makes tokens with right check digits, which can be somebody's account.
	// Without it the check digits of every token are wrong.
	Valid bool
}

// IBANFormat is IBANs (ISO 13616) in capitals, without spaces or in groups of
// four as they are printed. The country stays; of the account, letters become
// letters and digits digits. Values must have right check digits (mod 97 of
// ISO/IEC 7064). Check digits that some countries have within the account are
// not kept right. An account with fewer than 1,000,000 others of its pattern is
// ErrDomain.
func IBANFormat(o IBANOptions) (Format, error) {
	if o.KeepBank < 0 || o.KeepBank > 12 {
		return nil, fmt.Errorf("tokenize: IBANFormat: KeepBank %d is not 0 to 12", o.KeepBank)
	}
	return &ibanFormat{o, fmt.Sprintf("iban/1 bank=%d valid=%t", o.KeepBank, o.Valid)}, nil
}

type ibanFormat struct {
	o    IBANOptions
	name string
}

func (f *ibanFormat) Name() string { return f.name }
func (f *ibanFormat) Radix() int   { return 0 }

func (f *ibanFormat) Split(p *Parts, text string, side Side) error {
	var buf [34]byte
	n := 0
	spaced := len(text) > 4 && text[4] == ' '
	for i := range len(text) {
		c := text[i]
		if spaced && i%5 == 4 {
			if c != ' ' || i == len(text)-1 {
				return side.misfit("byte %d is not the space between groups of four", i)
			}
			continue
		}
		_, size := classOf(c)
		letter := size == 26 && c <= 'Z'
		if n == len(buf) || !letter && size != 10 || n < 2 && !letter || (n == 2 || n == 3) && letter {
			return side.misfit("byte %d is not that of an IBAN in capitals", i)
		}
		buf[n] = c
		n++
	}
	if n < 15 {
		return side.misfit("an IBAN has 15 to 34 characters")
	}
	check := int(buf[2]-'0')*10 + int(buf[3]-'0')
	want := ibanCheck(buf[:n])
	if side == OfToken && !f.o.Valid {
		want = wrongCheck(want)
	}
	if check != want {
		return side.misfit("its check digits are not those of the format")
	}
	p.Text = append(p.Text, text...)
	p.Kept = append(append(p.Kept, buf[0], buf[1], byte(n)), buf[4:min(n, 4+f.o.KeepBank)]...)
	splitClasses(p, string(buf[min(n, 4+f.o.KeepBank):n]))
	return nil
}

func (f *ibanFormat) Join(dst []byte, p *Parts, side Side) ([]byte, error) {
	start := len(dst)
	numerals := p.Numerals
	var bare [34]byte
	n := 0
	for _, c := range p.Text {
		if c == ' ' {
			dst = append(dst, c)
			continue
		}
		if first, _ := classOf(c); n >= 4+f.o.KeepBank {
			c = first + byte(numerals[0])
			numerals = numerals[1:]
		}
		bare[n] = c
		n++
		dst = append(dst, c)
	}
	check := ibanCheck(bare[:n])
	if side == OfToken && !f.o.Valid {
		check = wrongCheck(check)
	}
	dst[start+2], dst[start+3] = '0'+byte(check/10), '0'+byte(check%10)
	return dst, nil
}

// ibanCheck returns the right check digits, 2 to 98: 98 less the remainder by 97
// of the account, the country and 00 as a number, letters counting from 10.
func ibanCheck(iban []byte) int {
	rest := 0
	add := func(c byte) {
		if c <= '9' {
			rest = (rest*10 + int(c-'0')) % 97
			return
		}
		rest = (rest*100 + int(c-'A') + 10) % 97
	}
	for _, c := range iban[4:] {
		add(c)
	}
	add(iban[0])
	add(iban[1])
	add('0')
	add('0')
	return 98 - rest
}

// wrongCheck turns check digits into others, which are wrong since right ones are
// unique between 2 and 98.
func wrongCheck(check int) int { return (check-2+48)%97 + 2 }
