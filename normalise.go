package lethe

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A normaliser brings spellings of one value together before a blind index is
// computed. What a name does is frozen, since stored indexes depend on it; a
// test holds each to a digest over all of Unicode.
type normaliser func(s string) string

var normalisers = map[string]normaliser{
	"exact/1":  func(s string) string { return s },
	"email/1":  normEmail,
	"phone/1":  normPhone,
	"name/1":   normName,
	"digits/1": keepDigits,
}

// normalRoom holds the normal form of most values on the stack.
const normalRoom = 128

// normalised returns the normal form of a plaintext, mostly in buf if it fits.
// exact/1 returns plain itself.
func (x *indexPlan) normalised(buf, plain []byte) []byte {
	if x.normName == "exact/1" {
		return plain
	}
	if out, ok := normaliseFast(buf[:0], x.normName, plain); ok {
		return out
	}
	return []byte(x.norm(string(plain)))
}

// normEmail: NFC, white space trimmed, lower case.
func normEmail(s string) string {
	return norm.NFC.String(lower(strings.TrimSpace(norm.NFC.String(valid(s)))))
}

// normPhone: a leading + (or 00, which means the same) and the decimal digits.
func normPhone(s string) string {
	s = strings.TrimSpace(s)
	digits := keepDigits(s)
	if strings.HasPrefix(s, "+") || strings.HasPrefix(s, "＋") {
		return "+" + digits
	}
	if rest, ok := strings.CutPrefix(digits, "00"); ok {
		return "+" + rest
	}
	return digits
}

// normName: NFKD without the combining diacritical marks U+0300 to U+036F, lower
// case, NFKC, runs of white space made one space, trimmed.
func normName(s string) string { return strings.Join(strings.Fields(foldName(s)), " ") }

// foldName is normName but for white space.
func foldName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 0x300 && r <= 0x36f {
			return -1
		}
		return r
	}, norm.NFKD.String(valid(s)))
	return norm.NFKC.String(lower(s))
}

// valid makes U+FFFD of every byte that is not UTF-8, behind which x/text would
// not decompose.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.Map(func(r rune) rune { return r }, s)
}

func lower(s string) string { return strings.Map(unicode.ToLower, s) }

// decimal returns the value of a decimal digit of any script, or -1. The
// digits of a script are ten code points in a row.
func decimal(r rune) rune {
	if r >= '0' && r <= '9' {
		return r - '0'
	}
	if r < 0x660 || !unicode.Is(unicode.Nd, r) {
		return -1
	}
	for _, r16 := range unicode.Nd.R16 {
		if lo, hi := rune(r16.Lo), rune(r16.Hi); r >= lo && r <= hi {
			return (r - lo) % 10
		}
	}
	for _, r32 := range unicode.Nd.R32 {
		if lo, hi := rune(r32.Lo), rune(r32.Hi); r >= lo && r <= hi {
			return (r - lo) % 10
		}
	}
	return -1
}
