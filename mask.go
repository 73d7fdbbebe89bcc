package lethe

import (
	"encoding/binary"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maskID names a mask; what it keeps is said beside it. What does not look like
// its kind is masked fully.
type maskID uint8

const (
	noMask   maskID = iota // no mask declared, or none computed: full
	full                   // nothing
	email                  // the first letter and the domain, of one address
	phone                  // a leading + and the last two digits
	last4                  // the last four letters or digits
	initials               // the first letter of each word, of words that do not start with digits
	year                   // the year of a time, or of text that starts with four digits and a dash
	iban                   // the country and the last four characters
)

const fullMask = "••••"

// masks are the mask= options.
var masks = map[string]maskID{
	"full": full, "email": email, "phone": phone, "last4": last4, "initials": initials, "year": year, "iban": iban,
}

var maskFuncs = [...]func(text string) string{
	email: maskEmail, phone: maskPhone, last4: maskLast4, initials: maskInitials, year: maskYear, iban: maskIBAN,
}

// maskCodecs are the codecs each mask applies to.
var maskCodecs = map[string][]uint8{
	"email":    {codecBytes, codecText},
	"phone":    {codecBytes, codecText},
	"last4":    {codecBytes, codecText, codecInt, codecUint},
	"initials": {codecBytes, codecText},
	"year":     {codecBytes, codecText, codecTime},
	"iban":     {codecBytes, codecText},
}

// apply masks an encoded value.
func (m maskID) apply(codec uint8, b []byte) string {
	if m <= full || int(m) >= len(maskFuncs) {
		return fullMask
	}
	text := ""
	switch codec {
	case codecBytes, codecText:
		text = string(b)
	case codecInt:
		if len(b) == 8 {
			text = strconv.FormatInt(int64(binary.BigEndian.Uint64(b)), 10)
		}
	case codecUint:
		if len(b) == 8 {
			text = strconv.FormatUint(binary.BigEndian.Uint64(b), 10)
		}
	case codecTime:
		if t, ok := parseTime(b); ok {
			text = t.Format("2006-01-02")
		}
	}
	if !utf8.ValidString(text) {
		return fullMask
	}
	return maskFuncs[m](text)
}

func maskEmail(s string) string {
	s = strings.TrimSpace(s)
	at := strings.LastIndexByte(s, '@')
	if at < 1 || at == len(s)-1 {
		return fullMask
	}
	if strings.ContainsFunc(s[at+1:], func(r rune) bool {
		return r != '.' && r != '-' && !unicode.In(r, unicode.L, unicode.M, unicode.Nd)
	}) {
		return fullMask
	}
	first, _ := utf8.DecodeRuneInString(s)
	if !unicode.IsPrint(first) {
		return fullMask // it would steer the terminal, or turn the text around
	}
	return string(first) + "***" + s[at:]
}

func maskPhone(s string) string {
	digits := keepDigits(s)
	if len(digits) < 6 {
		return fullMask
	}
	plus := ""
	if strings.HasPrefix(strings.TrimSpace(s), "+") {
		plus = "+"
	}
	return plus + "*** *** " + digits[len(digits)-2:]
}

func maskLast4(s string) string {
	var kept []rune
	for _, r := range s {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			kept = append(kept, r)
		}
	}
	if len(kept) < 8 {
		return fullMask
	}
	return fullMask + " " + string(kept[len(kept)-4:])
}

func maskInitials(s string) string {
	var b strings.Builder
	for word := range strings.FieldsSeq(s) {
		r, _ := utf8.DecodeRuneInString(word)
		if unicode.IsNumber(r) || !unicode.IsPrint(r) {
			return fullMask
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
		b.WriteByte('.')
	}
	if b.Len() == 0 {
		return fullMask
	}
	return b.String()
}

func maskYear(s string) string {
	if len(s) < 5 || s[4] != '-' || strings.Trim(s[:4], "0123456789") != "" {
		return fullMask
	}
	return s[:4] + "-••-••"
}

func maskIBAN(s string) string {
	s = strings.ReplaceAll(s, " ", "")
	if len(s) < 15 || len(s) > 34 {
		return fullMask
	}
	for i := range len(s) {
		letter, digit := s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z', s[i] >= '0' && s[i] <= '9'
		if i < 2 && !letter || (i == 2 || i == 3) && !digit || !letter && !digit {
			return fullMask
		}
	}
	return s[:2] + fullMask + " " + s[len(s)-4:]
}

func keepDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if d := decimal(r); d >= 0 {
			return '0' + d
		}
		return -1
	}, s)
}
