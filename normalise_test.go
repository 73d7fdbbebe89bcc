package lethe

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestNormEmail(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                            "",
		"  \t\n":                      "",
		"ada@example.com":             "ada@example.com",
		" Ada@EXAMPLE.com\r\n":        "ada@example.com",
		"\u00a0ada@example.com\u3000": "ada@example.com",
		"A B@Example.com":             "a b@example.com",
		"ada+tag@example.com":         "ada+tag@example.com",
		"a.d.a@example.com":           "a.d.a@example.com",
		"RENE\u0301@example.com":      "rené@example.com",
		"René@example.com":            "rené@example.com",
		"ΑΣ@example.com":              "ασ@example.com",
		"STRASSE@example.com":         "strasse@example.com",
		"Straße@example.com":          "straße@example.com",
		"İ@example.com":               "i@example.com",
		"ＡＤＡ@example.com":             "ａｄａ@example.com",
		"用户@例子.广告":                    "用户@例子.广告",
		"Пётр@Пример.рф":              "пётр@пример.рф",
		"🎉@Example.com":               "🎉@example.com",
		"\xffA@b":                     "\ufffda@b",
	} {
		require.Equal(t, want, normEmail(in), "%q", in)
	}
}

func TestNormPhone(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                  "",
		"+":                 "+",
		"00":                "+",
		"call me":           "",
		"+49 (0)30 123-456": "+49030123456",
		"0049 30 123456":    "+4930123456",
		"00 49 30 123456":   "+4930123456",
		" +49 30 123456 ":   "+4930123456",
		"030 123456":        "030123456",
		"＋４９ ３０":            "+4930",
		"+٤٩ ٣٠":            "+4930",
		"०३०":               "030",
		"1+2":               "12",
		"tel:+49":           "49",
		"(+49) 30":          "4930",
		"𝟘𝟘𝟜𝟡":              "+49",
		"½²Ⅷ①":              "",
		"\xff+1":            "1",
	} {
		require.Equal(t, want, normPhone(in), "%q", in)
	}
}

func TestNormName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                   "",
		"\u0301":             "",
		"  Ada   Lovelace\t": "ada lovelace",
		"Ada\u00a0Lovelace":  "ada lovelace",
		"René":               "rene",
		"RENE\u0301":         "rene",
		"Ångström":           "angstrom",
		"Łukasz":             "łukasz", // a stroke is no mark
		"Straße":             "straße",
		"ﬁne":                "fine",
		"ＡＤＡ":                "ada",
		"Ⅷ":                  "viii",
		"K":                  "k", // the Kelvin sign
		"İstanbul":           "istanbul",
		"Νίκος":              "νικος",
		"ΝΙΚΟΣ":              "νικοσ", // lower case, not case folding
		"Пётр":               "петр",
		"עִברִית":            "עִברִית", // marks outside U+0300 to U+036F stay
		"한국":                 "한국",
		"\u1112\u1161\u11ab": "한",
		"が":                  "が",
		"山田 太郎":              "山田 太郎",
		"山田\u3000太郎":         "山田 太郎",
		"🎉 Party":            "🎉 party",
		"O’Brien-Smith":      "o’brien-smith",
		"\xffÉ":              "\ufffde",
	} {
		require.Equal(t, want, normName(in), "%q", in)
	}
}

func TestNormDigitsAndExact(t *testing.T) {
	t.Parallel()
	digits, exact := normalisers["digits/1"], normalisers["exact/1"]
	for in, want := range map[string]string{
		"": "", "DE-12 345": "12345", "+1": "1", "٣۳३３𝟛": "33333", "①²½Ⅲ三": "", "\xff7": "7",
	} {
		require.Equal(t, want, digits(in), "%q", in)
		require.Equal(t, in, exact(in))
	}
}

// nought are the code points of every digit zero of Unicode 15.0.
const nought = "0٠۰߀०০੦૦୦௦౦೦൦෦๐໐༠၀႐០᠐᥆᧐᪀᪐᭐᮰᱀᱐꘠꣐꤀꧐꧰꩐꯰０" +
	"\U000104a0\U00010d30\U00011066\U000110f0\U00011136\U000111d0\U000112f0\U00011450\U000114d0\U00011650\U000116c0\U00011730" +
	"\U000118e0\U00011950\U00011c50\U00011d50\U00011da0\U00011f50\U00016a60\U00016ac0\U00016b50" +
	"\U0001d7ce\U0001d7d8\U0001d7e2\U0001d7ec\U0001d7f6\U0001e140\U0001e2f0\U0001e4f0\U0001e950\U0001fbf0"

func TestDecimalOfEveryScript(t *testing.T) {
	t.Parallel()
	want := map[rune]rune{}
	for _, zero := range nought {
		for d := range rune(10) {
			want[zero+d] = d
		}
	}
	require.Len(t, want, 680, "Unicode 15.0 has 680 decimal digits")
	for _, r := range assigned(t) {
		if d, ok := want[r]; ok {
			require.Equal(t, d, decimal(r), "%U", r)
		} else {
			require.Equal(t, rune(-1), decimal(r), "%U", r)
		}
	}
	require.Equal(t, rune(-1), decimal(-1))
	require.Equal(t, rune(-1), decimal(utf8.RuneError))
	require.Equal(t, rune(-1), decimal(unicode.MaxRune+1))
}

// decimal takes the digits of a script for ten code points in a row, whatever
// Unicode the toolchain has.
func TestDecimalRangesAreWholeScripts(t *testing.T) {
	t.Parallel()
	for _, r := range unicode.Nd.R16 {
		require.Equal(t, uint16(1), r.Stride, "%U", r.Lo)
		require.Zero(t, (r.Hi-r.Lo+1)%10, "%U", r.Lo)
	}
	for _, r := range unicode.Nd.R32 {
		require.Equal(t, uint32(1), r.Stride, "%U", r.Lo)
		require.Zero(t, (r.Hi-r.Lo+1)%10, "%U", r.Lo)
	}
}

// normaliserSamples are strings whose characters act on each other.
var normaliserSamples = []string{
	"", " ", "Ada.Lovelace+tag@Example.COM ", "\tA\u0301 \u0301B\u030a\u0327", "\u0327\u030aa", "e\u0323\u0302", "ệ", "q\u0307\u0323",
	"\u1112\u1161\u11ab\u1100\u1161", "한\u11a8", "\u09c7\u09be", "\u0cc6\u0cc2\u0cd5", "ΑΣ ΣΑΣ", "İIıi", "Straße STRASSE ẞ", "ﬁ ﬄ ǆ ǅ Ǆ", "Ⅷ ½ ① ㈱ ﷺ",
	"ﱞa", "a\u0345\u0301", "Ω K Å", "עִבְרִית", "ʰᵃ", "+49 (0) 30 / 1234-56", "0049", "＋００４９", "00 00 1", "+٤٩۴۹४९４９", "-1", "1.5e9",
	"山田　太郎", "👩‍👩‍👧‍👦 🇩🇪", "\ufeffbom", "zero\u200bwidth", "\x00\x1f\x7f\u0085", "\xff\xfe", "a\xc3", "\xed\xa0\x80", "\u034f\u0301",
	"a" + strings.Repeat("\u0301", 40), "a" + strings.Repeat("\u05b0\u0301", 40), strings.Repeat("\u05b0", 31), strings.Repeat("\u0b57\u05b0\u0315", 20),
}

// frozenDigests are SHA-256 over what each normaliser makes of every code point
// assigned in Unicode 15.0, alone and between others, and of the samples.
var frozenDigests = map[string]string{
	"exact/1":  "c710fbf605ab6b08cb723e486d677781e52967a48dbb9ddb4d2361b4c094543d",
	"email/1":  "5fd43e23d006422975377c53a438e9e41c4d859287d6bba817046075d3627dcc",
	"phone/1":  "e9d137ab1d19b96d3da4856a48218796231e13b546738bf5d38b2522aedd0946",
	"name/1":   "088e05b3dbf16c113cb5c86013afaccf16e2a7548247b22e1553929987d40e8a",
	"digits/1": "17c075bea36a8b6e9e61dfedadb1eca70bb1b0360fe95f803f7002a1240663b9",
}

func TestNormalisersAreFrozen(t *testing.T) {
	t.Parallel()
	points := assigned(t)
	require.Len(t, frozenDigests, len(normalisers), "every normaliser has a digest")
	for name, norm := range normalisers {
		t.Run(strings.ReplaceAll(name, "/", "_"), func(t *testing.T) {
			t.Parallel()
			h := sha256.New()
			add := func(in string) {
				out := norm(in)
				if again := norm(out); again != out {
					t.Errorf("%s is not idempotent: %+q gives %+q, and that gives %+q", name, in, out, again)
				}
				_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(out))))
				_, _ = h.Write([]byte(out))
			}
			for _, r := range points {
				add(string(r))
				add("A" + string(r) + "e 7")
			}
			for _, s := range normaliserSamples {
				add(s)
			}
			require.Equal(t, frozenDigests[name], hex.EncodeToString(h.Sum(nil)),
				"%s gives other results than it did. Blind indexes in people's databases were computed with it, so rows would no longer be found:"+
					" what a name does is frozen. If the code changed, change it back and add a normaliser under a new name, /2."+
					" If Go or x/text brought new Unicode tables, carry the old ones for this name, and add /2 with the new.", name)
		})
	}
}

func FuzzNormalise(f *testing.F) {
	for _, s := range normaliserSamples {
		f.Add(s)
	}
	f.Add("\xf6ǆ") // behind a byte that is not UTF-8
	f.Fuzz(func(t *testing.T, in string) {
		for name, norm := range normalisers {
			out := norm(in)
			if again := norm(out); again != out {
				t.Errorf("%s: %+q gives %+q, and that gives %+q", name, in, out, again)
			}
			if name == "exact/1" {
				continue
			}
			if !utf8.ValidString(out) {
				t.Errorf("%s: %+q gives invalid UTF-8, %+q", name, in, out)
			}
			if strings.TrimSpace(out) != out {
				t.Errorf("%s: %+q keeps white space at an edge, %+q", name, in, out)
			}
			if (name == "phone/1" || name == "digits/1") && strings.Trim(out, "+0123456789") != "" {
				t.Errorf("%s: %+q gives more than digits, %+q", name, in, out)
			}
		}
	})
}

// assigned lists the characters of Unicode 15.0: categories L, M, N, P, S, Z, Cc
// and Cf. They are written out here, because a newer Go has more of them.
func assigned(t *testing.T) []rune {
	t.Helper()
	table, err := base64.StdEncoding.DecodeString(unicode15)
	require.NoError(t, err)
	var points []rune
	at, in := rune(0), false
	for len(table) > 0 {
		delta, n := binary.Uvarint(table)
		require.Positive(t, n)
		table = table[n:]
		next := at + rune(delta)
		for ; at < next; at++ {
			if in {
				points = append(points, at)
			}
		}
		in = !in
	}
	require.Len(t, points, 149_186+65, "what Unicode 15.0 says it has, and 65 control characters")
	require.True(t, slices.IsSorted(points))
	return points
}

// unicode15 is where runs of assigned characters start and end: differences, as varints.
const unicode15 = "" +
	"APgGAgYEBwEBARQBjQMBJgIyAgMBNwgbBAYLjgIBPAJlDjsCMQIPARwCAQELBR8BAgbsAQEIAgICFgEHAQEDBAIJAgICBAgBBAIBBQIZAgMBBgQCAhYBBwEC" +
	"AQIBAgIBAQUEAgIDAwEHBAEBBxEKAwEJAQMBFgEHAQIBBQIKAQMBAwIBDwQCDAcHAQMBCAICAhYBBwECAQUCCQICAgMHAwQCAQUCEgoCAQYDAwEEAwIBAQEC" +
	"AwIDAwMMBAUDAwEEAgEGAQ4VBQ0BAwEXARACCQEDAQQHAgEDAgECBAIKBxYBAwEXAQoBBQIJAQMBBAcCBgIBBAIKAQMMDQEDATMBAwEGBBACGgEDARIDGAEJ" +
	"AQECBwMBBAYBAQEIBgoCAww6BB0lAgEBAQUBGAEBARcCBQEBAQcBCgIEIEgBJAQnASQBDwENJcYBAQEFAQL5AgEEAgcBAQEEAikBBAIhAQQCBwEBAQQCDwE5" +
	"AQQCQwIgAxoGVgIGAp0FA1kHFgkYCRQMDQEDAQIMXgIKBgoGGgZZBysFRgofAQwEDAQBAyoCBQssBBoGCwM+AkEBHQILBgoGDgIfMU0DLwF0CDwDDwM8BysC" +
	"CwgrBZYEAgYCJgIGAggBAQEBAQEBHwI1AQ8BDgIGARMCAwEJAWUBDAIbAQ0DIQ8hD4wBBJcFGQsVlA4CIAHdAgUtAQEFAQI4BwIOGAkHAQcBBwEHAQcBBwEH" +
	"AQcBfiIaAVkM1gEaDARAAVYCZwUrAV4BVAwvAe3kAQM3CdwCFLgBCMsBBQIBAQEFGDsDCgY4CEYIDAZ0Cx4DTgELBCEBNwkOAgoCZxgcCgYCBgIGCQcBBwE8" +
	"BH4CCgakVwwXBDGEQu4CAmomBwwFBRoBBQEBAQIBAgF9EL0DAjYHASAqBjMBEwEEBAUBhwECAQG+AQMGAgYCBgIDAwcBBwoFAgwBGgETAQIBDwIOInsFAwQt" +
	"A1gBDQMBLy6CAR0DMQ8cBCQJHgUrBR4BJQQOKp4BAgoGJAQkBCgINAsMAQ8BBwECAQsBDwEHAQJDtwIJFgoIGAYBKgEJRQYCAQEsAQIDAQIXAUgICTATAQIF" +
	"IQMbBQFAOAQUAjIBAgUIAQMBHQIDBAoHCQdAICcEDAk2Ax0CGwUaBwQMB1BJNzMNMwcuCAqmAh8BKgEDAgJLKwgqFhomHBQXCU4EJAlECgECGQcKBjUBEggn" +
	"CWABFAsSAS8+BwEBAQQBDwELBjsFCgYEAQgCAgIWAQcBAgEFAQoCAgIDAgEGAQUHAgcDBYsBXAEFHkgICqYBNgImIkULCgYNEzoGCjYbAg8EF7kBPGRTDAgC" +
	"AQIIAQIBHgECAgwJCkYIAi4CCxtICFMNSQcK9gEJAS0BDgodAyACFgEOSQcBAgEsAwEBAgEJCAoGBgECASUBAgEGBwq2AhkHEQEpAxxWAQ8yDZsHZm8BBQvE" +
	"AcwUYw3WCKofxwS5Q7kEBx8BCgRRAQoGHgIGCkYKCgEHARUFE7AFW2VLBDkHEUAFCwIO+C8I1gkqCedFBAEHAQIBowIPAR0DAgEOBAiMA4QSawUNAwkHCgII" +
	"3CQuAhcJdDz2AQonAsIBFUZ6FAwUDFcJGYcBVQFHAQICAQICAgQBDAEBAQcBQQEEAggBBwEcAQQBBQEBAwcB1AICpAICvgUPBQEP0AgfBgbVAQcBEQIHAQIB" +
	"BQU+IQFwLQMOAgoEAsACHxE6BQHQAyrmBQcBBAECAQ8BxQECEClMBAoEApEGREw9wgEEARsBAgEBAgEBCgEEAQEBAQYBBAEBAQEBAQMBAgEBAgEBAQEBAQEB" +
	"AQECAQECBAEHAQQBBAEBAQoBEQUDAQUBETQCjgIsBGQMDwIPAQ8BJQquATgdDSwECQcCDgaaAdgHBBEDDQN3BF8GDAQBDwwEOAgKBigIHgICTtQCDA4CDQMJ" +
	"By4BBwgOBAkHCQeTAQE3JQqGCODNAiC6IAbeAQKCLQ6xOp8YngTiC8smBeAg0bgrAR5ggAHwAQ=="
