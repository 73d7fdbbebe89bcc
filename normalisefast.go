package lethe

import (
	"bytes"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normaliseFast appends what the normaliser of that name makes of plain, without
// memory of its own, where that is simple: all of ASCII, and e-mail addresses and
// names in Latin, Greek and Cyrillic letters. It is not ok where it is not.
func normaliseFast(dst []byte, name string, plain []byte) ([]byte, bool) {
	switch name {
	case "email/1":
		return fastEmail(dst, plain)
	case "name/1":
		return fastName(dst, plain)
	}
	if !isASCII(plain) {
		return nil, false
	}
	switch name {
	case "digits/1":
		return appendDigits(dst, plain), true
	case "phone/1":
		plain = bytes.TrimSpace(plain)
		start := len(dst)
		dst = appendDigits(append(dst, '+'), plain)
		switch digits := dst[start+1:]; {
		case len(plain) > 0 && plain[0] == '+':
			return dst, true
		case bytes.HasPrefix(digits, []byte("00")):
			return append(dst[:start+1], digits[2:]...), true
		default:
			return append(dst[:start], digits...), true
		}
	}
	return nil, false
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func appendDigits(dst, plain []byte) []byte {
	for _, c := range plain {
		if c >= '0' && c <= '9' {
			dst = append(dst, c)
		}
	}
	return dst
}

// simpleRunes are the code points below U+0530: Latin, Greek, Cyrillic.
const simpleRunes = 0x530

// simpleLower are the lower cases of those that are composed already, before and
// after, and that nothing around them changes: no marks. 0 for all others.
var simpleLower = sync.OnceValue(func() *[simpleRunes]rune {
	var out [simpleRunes]rune
	for r := range rune(simpleRunes) {
		if low := unicode.ToLower(r); isComposed(r) && isComposed(low) {
			out[r] = low
		}
	}
	return &out
})

func isComposed(r rune) bool {
	return !unicode.Is(unicode.M, r) && norm.NFC.String(string(r)) == string(r)
}

func fastEmail(dst, plain []byte) ([]byte, bool) {
	lowers := simpleLower()
	for rest := bytes.TrimSpace(plain); len(rest) > 0; {
		if c := rest[0]; c < utf8.RuneSelf {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst, rest = append(dst, c), rest[1:]
			continue
		}
		r, n := utf8.DecodeRune(rest)
		if r >= simpleRunes || lowers[r] == 0 {
			return nil, false
		}
		dst, rest = utf8.AppendRune(dst, lowers[r]), rest[n:]
	}
	return dst, true
}

// simpleNames are the forms, up to white space, that normName gives to those
// that nothing around them changes: those whose form has no mark. "" for all others.
var simpleNames = sync.OnceValue(func() *[simpleRunes]string {
	var out [simpleRunes]string
	for r := range rune(simpleRunes) {
		form := foldName(string(r))
		if !strings.ContainsFunc(form, func(r rune) bool { return unicode.Is(unicode.M, r) }) {
			out[r] = form
		}
	}
	return &out
})

func fastName(dst, plain []byte) ([]byte, bool) {
	forms := simpleNames()
	start, gap := len(dst), false
	for len(plain) > 0 {
		r, n := utf8.DecodeRune(plain)
		if r >= simpleRunes || forms[r] == "" {
			return nil, false
		}
		plain = plain[n:]
		for _, r := range forms[r] {
			if unicode.IsSpace(r) {
				gap = len(dst) > start
				continue
			}
			if gap {
				dst, gap = append(dst, ' '), false
			}
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst, true
}
