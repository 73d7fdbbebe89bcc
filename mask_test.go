package lethe

import (
	"encoding/binary"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestMasks(t *testing.T) {
	t.Parallel()
	tests := map[string]map[string]string{
		"full": {"": fullMask, "a": fullMask, "hunter2": fullMask, "\xff": fullMask},
		"email": {
			"ada@example.com":          "a***@example.com",
			" ada@example.com\n":       "a***@example.com",
			"a@b":                      "a***@b",
			"Émile@example.com":        "É***@example.com",
			"用户@例子.广告":                 "用***@例子.广告",
			"🎉party@example.com":       "🎉***@example.com",
			`"a@b c"@example.com`:      `"***@example.com`,
			"ada@xn--bcher-kva.de":     "a***@xn--bcher-kva.de",
			"ada@हिन्दी.भारत":          "a***@हिन्दी.भारत",
			"ada@b.de, PIN 4711":       fullMask, // more than an address
			"ada@b.de\tPIN":            fullMask,
			"ada@b.de;bob":             fullMask,
			"<ada@b.de>":               fullMask,
			"\x1b[2Jada@b.de":          fullMask,
			"\u202eada@b.de":           fullMask, // right to left
			"":                         fullMask,
			" ":                        fullMask,
			"@":                        fullMask,
			"@example.com":             fullMask,
			"ada@":                     fullMask,
			"ada@ ":                    fullMask,
			"no address":               fullMask,
			"ada\xff@example.com":      fullMask,
			"ada@exam\xffple.com":      fullMask,
			"ada＠example.com":          fullMask,
			strings.Repeat("a", 1<<16): fullMask,
		},
		"phone": {
			"+49 30 123456":    "+*** *** 56",
			"0049 30 123456":   "*** *** 56",
			" +1 (555) 010-99": "+*** *** 99",
			"123456":           "*** *** 56",
			"+٤٩ ٣٠ ١٢٣":       "+*** *** 23",
			"12345":            fullMask,
			"+12345":           fullMask,
			"":                 fullMask,
			"call me":          fullMask,
			"①②③④⑤⑥":           fullMask,
			"123456\xff":       fullMask,
		},
		"last4": {
			"4111 1111 1111 1234": "•••• 1234",
			"DE89-3704-0044":      "•••• 0044",
			"12345678":            "•••• 5678",
			"абвгдежз":            "•••• дежз",
			"12345678 🎉":          "•••• 5678",
			"1234567":             fullMask,
			"1-2-3-4-5-6-7":       fullMask,
			"🎉🎉🎉🎉🎉🎉🎉🎉":            fullMask,
			"":                    fullMask,
			"\u0301\u0301\u0301\u0301\u0301\u0301\u0301\u0301": fullMask,
			"12345678\xff": fullMask,
		},
		"initials": {
			"Ada Lovelace":          "A. L.",
			"  Ada\tKing  Lovelace": "A. K. L.",
			"Cher":                  "C.",
			"山田 太郎":                 "山. 太.",
			"山田　太郎":                 "山. 太.",
			"Élise d’Or":            "É. d.",
			"🎉 Party":               "🎉. P.",
			"":                      fullMask,
			" \t\n":                 fullMask,
			"Ada \xff":              fullMask,
			"4 7 1 1":               fullMask, // all of a number
			"PIN 4711":              fullMask,
			"\x1b[2J Ada":           fullMask,
			"\u202eAda Lovelace":    fullMask,
			"１ ２":                   fullMask,
		},
		"year": {
			"1815-12-10":           "1815-••-••",
			"1815-12-10T06:30:00Z": "1815-••-••",
			"1815-":                "1815-••-••",
			"1815":                 fullMask,
			"181512":               fullMask,
			"10.12.1815":           fullMask,
			"18I5-12-10":           fullMask,
			"\t1815-12-10":         fullMask,
			"-181-12-10":           fullMask,
			"١٨١٥-12-10":           fullMask,
			"":                     fullMask,
			"1815-\xff":            fullMask,
		},
		"iban": {
			"DE89 3704 0044 0532 0130 00":             "DE•••• 3000",
			"de89370400440532013000":                  "de•••• 3000",
			"NO9386011117947":                         "NO•••• 7947",
			"MT84MALT011000012345MTLCAST001S":         "MT•••• 001S",
			"NO938601111794":                          fullMask, // 14
			"DE89" + strings.Repeat("1", 30):          "DE•••• 1111",
			"DE89" + strings.Repeat("1", 31):          fullMask,
			"8989370400440532013000":                  fullMask,
			"DEXX370400440532013000":                  fullMask,
			"my password is hunter2":                  fullMask,
			"DE89-3704-0044-0532-0130-00":             fullMask,
			"ＤＥ89370400440532013000":                  fullMask,
			"DE8937040044053201300\u0660":             fullMask,
			"DE89370400440532013000\n":                fullMask,
			"":                                        fullMask,
			"DE89370400440532013\xff\xff":             fullMask,
			"DE89" + strings.Repeat(" ", 30) + "1111": fullMask,
		},
	}
	require.Len(t, tests, len(masks), "every mask is tested")
	for name, cases := range tests {
		for in, want := range cases {
			require.Equal(t, want, masks[name].apply(codecBytes, []byte(in)), "%s %q", name, in)
			require.Equal(t, want, masks[name].apply(codecText, []byte(in)), "%s %q", name, in)
		}
	}
}

func TestMasksOfNumbersAndTimes(t *testing.T) {
	t.Parallel()
	number := func(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
	require.Equal(t, "•••• 5678", last4.apply(codecInt, number(12345678)))
	require.Equal(t, "•••• 5678", last4.apply(codecInt, number(-12345678)))
	require.Equal(t, fullMask, last4.apply(codecInt, number(1234567)))
	require.Equal(t, fullMask, last4.apply(codecInt, number(-1234567)), "a sign is no digit")
	require.Equal(t, "•••• 5808", last4.apply(codecInt, number(math.MinInt64)))
	require.Equal(t, "•••• 1615", last4.apply(codecUint, number(-1)))
	require.Equal(t, fullMask, last4.apply(codecUint, number(0)))
	at := func(year int) []byte { return appendTime(nil, time.Date(year, 7, 9, 0, 0, 0, 0, time.UTC)) }
	require.Equal(t, "1984-••-••", year.apply(codecTime, at(1984)))
	require.Equal(t, "0001-••-••", year.apply(codecTime, at(1)))
	require.Equal(t, fullMask, year.apply(codecTime, at(10000)), "no four digits and a dash")
	require.Equal(t, fullMask, year.apply(codecTime, at(-44)))
	west := appendTime(nil, time.Date(2023, 12, 31, 23, 0, 0, 0, time.FixedZone("", -5*3600)))
	require.Equal(t, "2023-••-••", year.apply(codecTime, west), "the year in the zone of the value")
	for _, b := range [][]byte{nil, {1}, make([]byte, 7), make([]byte, 15)} {
		require.Equal(t, fullMask, last4.apply(codecInt, b))
		require.Equal(t, fullMask, last4.apply(codecUint, b))
		require.Equal(t, fullMask, year.apply(codecTime, b))
	}
}

func TestMasksOfWhatTheyDoNotApplyTo(t *testing.T) {
	t.Parallel()
	text := []byte("1984-07-09 ada@example.com")
	for name, m := range masks {
		for _, codec := range []uint8{0, codecFloat, codecBool, codecBinary, codecJSON, 10, 255} {
			require.Equal(t, fullMask, m.apply(codec, text), "%s of %s", name, codecName(codec))
		}
	}
	for _, m := range []maskID{noMask, iban + 1, 255} {
		require.Equal(t, fullMask, m.apply(codecBytes, text))
	}
	require.Equal(t, len(masks), len(maskCodecs)+1, "every mask but full says what it applies to")
	require.Len(t, maskFuncs, len(masks)+1)
}

var maskShapes = map[maskID]*regexp.Regexp{
	phone: regexp.MustCompile(`^\+?\*\*\* \*\*\* [0-9]{2}$`),
	year:  regexp.MustCompile(`^[0-9]{4}-••-••$`),
	iban:  regexp.MustCompile(`^[A-Za-z]{2}•••• [0-9A-Za-z]{4}$`),
}

// FuzzMask: a mask shows no more of a value than is said beside it.
func FuzzMask(f *testing.F) {
	for _, s := range append([]string{
		"ada@example.com", "a@b@c", "+49 30 123456", "4111 1111 1111 1234", "Ada Lovelace", "1815-12-10", "DE89 3704 0044 0532 0130 00",
	}, normaliserSamples...) {
		f.Add(s, int64(1234567890))
	}
	f.Fuzz(func(t *testing.T, in string, n int64) {
		for name, m := range masks {
			out := m.apply(codecBytes, []byte(in))
			if strings.ContainsFunc(out, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%s: %q of %q cannot be printed", name, out, in)
			}
			if out != fullMask && !shownByRight(m, in, out) {
				t.Errorf("%s: %q shows too much of %q", name, out, in)
			}
			for _, c := range maskCodecs[name] {
				if out := m.apply(c, []byte(in)); !utf8.ValidString(out) || out == "" {
					t.Errorf("%s of %s: %q", name, codecName(c), out)
				}
			}
		}
		b := binary.BigEndian.AppendUint64(nil, uint64(n))
		for _, c := range []uint8{codecInt, codecUint} {
			if out := last4.apply(c, b); out != fullMask && !regexp.MustCompile(`^•••• [0-9]{4}$`).MatchString(out) {
				t.Errorf("last4 of %d as %s: %q", n, codecName(c), out)
			}
		}
		when := time.Unix(n, 0).UTC()
		if out := year.apply(codecTime, appendTime(nil, when)); out != fullMask && out != when.Format("2006")+"-••-••" {
			t.Errorf("year of %v: %q", when, out)
		}
	})
}

// shownByRight reports whether a mask that is not the full one shows what it may.
func shownByRight(m maskID, in, out string) bool {
	if !utf8.ValidString(in) {
		return false
	}
	kept := lettersAndDigits(in)
	switch m {
	case email:
		local, domain, ok := strings.Cut(out, "***@")
		return ok && utf8.RuneCountInString(local) == 1 && domain != "" && !strings.Contains(domain, "@") &&
			strings.HasPrefix(strings.TrimSpace(in), local) && strings.HasSuffix(strings.TrimSpace(in), "@"+domain)
	case phone:
		return maskShapes[m].MatchString(out) && len(keepDigits(in)) >= 6
	case last4:
		rest, ok := strings.CutPrefix(out, "•••• ")
		return ok && utf8.RuneCountInString(rest) == 4 && len(kept) >= 8 && string(kept[len(kept)-4:]) == rest
	case initials:
		words, shown := strings.Fields(in), strings.Split(out, " ")
		if len(words) != len(shown) {
			return false
		}
		for i := range words {
			letter, ok := strings.CutSuffix(shown[i], ".")
			if !ok || utf8.RuneCountInString(letter) != 1 || !strings.HasPrefix(words[i], letter) {
				return false
			}
		}
		return true
	case year:
		return maskShapes[m].MatchString(out) && strings.HasPrefix(in, out[:5])
	case iban:
		return maskShapes[m].MatchString(out) && len(kept) >= 15 && strings.HasPrefix(string(kept), out[:2]) && strings.HasSuffix(string(kept), out[len(out)-4:])
	case noMask, full:
	}
	return false
}

func lettersAndDigits(s string) []rune {
	var out []rune
	for _, r := range s {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			out = append(out, r)
		}
	}
	return out
}
