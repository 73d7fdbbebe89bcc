package tokenize_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/tokenize"
	"github.com/lethe-go/lethe/tokenize/tokenizetest"
)

func TestPatternsThatAreRefused(t *testing.T) {
	for pattern, says := range map[string]string{
		"":                        "nothing would be replaced",
		"abc":                     "nothing would be replaced",
		"([0-9]{9})":              "nothing would be replaced",
		"[0-9":                    "not closed",
		"[0-9]{6":                 "not closed",
		"[0-9]{6,5}":              "n ≤ m",
		"[0-9]{-1}":               "n ≤ m",
		"[0-9]{0}":                "n ≤ m",
		"[0-9]{9999}":             "n ≤ m",
		"[0-9]{}":                 "n ≤ m",
		"([0-9]{6}":               "not closed",
		"[0-9]{6})":               "no parenthesis",
		"(([0-9]))[0-9]{6}":       "nest",
		"()[0-9]{6}":              "empty",
		"[9-0]{6}":                "upwards",
		"[00]{6}":                 "once",
		"[0]{6}":                  "two characters",
		"[]{6}":                   "two characters",
		"[0-9]{6}]":               "out of place",
		"{6}":                     "out of place",
		`[0-9]{6}\d`:              "stands before",
		`[0-9]{6}\`:               "stands before",
		"[0-9-]{6}":               "written",
		"[0-9]{6,9}[0-9]":         "ambiguous",
		"[0-9]{6,9}[a-z]{0,2}7":   "ambiguous",
		"[0-9]{6,9}5":             "ambiguous",
		"[a-z]{9}[0-9]{1024}":     "longer than 1024 bytes",
		"[0-9]{5}":                "10^5 = 100,000",
		"[0-9]{3}[A-Z]{2}":        "10^3·26^2 = 676,000",
		"[0-9]{5,9}":              "10^5 = 100,000",
		"(AB)[0-9]{2}":            "10^2 = 100",
		"\xff[0-9]{6}":            "valid UTF-8",
		strings.Repeat("x", 300):  "more than 256",
		"[\U00000000-\U0010ffff]": "65,536",
	} {
		_, err := tokenize.Pattern(pattern)
		require.ErrorContains(t, err, says, pattern)
	}
	for _, country := range []string{"DE", "FR", "XX", ""} {
		_, err := tokenize.Postcode(country)
		require.Error(t, err)
	}
	_, err := tokenize.Postcode("DE")
	require.ErrorIs(t, err, tokenize.ErrDomain)
	_, err = tokenize.EmailFormat(tokenize.EmailOptions{KeepLocal: true, KeepDomain: true})
	require.Error(t, err)
	_, err = tokenize.IBANFormat(tokenize.IBANOptions{KeepBank: 13})
	require.Error(t, err)
}

// Any pattern either is refused or gives a format whose tokens turn back.
func FuzzPattern(f *testing.F) {
	for _, seed := range [][2]string{
		{"[0-9]{6}", "123456"}, {"([A-Z]{2})[0-9]{6}[A-D]", "AB123456C"}, {`\[[0-9a-f]{8,12}\](x)`, "[0123456789]x"},
		{"[äöü]{20}", "ääääääääääöööööööööö"}, {"[0-9]{4,8}-[a-z]{0,5}9", "1234-9"}, {"[ab]{20,30}(c{2})", "ab"},
	} {
		f.Add(seed[0], seed[1])
	}
	keys := &tokenizetest.Keys{}
	f.Fuzz(func(t *testing.T, pattern, value string) {
		format, err := tokenize.Pattern(pattern)
		if err != nil {
			return
		}
		fuzzRoundTrip(t, keys, format, value)
	})
}

func fuzzRoundTrip(t *testing.T, keys tokenize.Keys, format tokenize.Format, value string) {
	t.Helper()
	f := newFPE(t, tokenize.FormatPreservingOptions{Keys: keys, Format: format})
	items := []tokenize.Item{{Subject: subject(1), Value: value}, {Subject: subject(1), Value: value, AssociatedData: []byte(value)}}
	require.NoError(t, f.Tokenize(t.Context(), items))
	if items[0].Err != nil {
		require.ErrorIs(t, items[0].Err, tokenize.ErrValue)
		require.Empty(t, items[0].Token)
	}
	require.Equal(t, items[0].Err == nil, items[1].Err == nil)
	failed := items[0].Err != nil
	if failed { // anything may be given for a token, too
		items[0].Token, items[1].Token = value, value
	}
	require.NoError(t, f.Detokenize(t.Context(), items))
	for i := range items {
		if !failed {
			require.NoError(t, items[i].Err)
			require.Equal(t, value, items[i].Value)
		} else if items[i].Err != nil {
			require.ErrorIs(t, items[i].Err, tokenize.ErrToken)
		}
	}
}

// Any text either does not fit a format or turns back.
func FuzzFormats(f *testing.F) {
	all := samples(f)
	for i, v := range []string{"4111111111111111", "123-45-6789", "ada.lovelace@example.com", "GB82WEST12345698765432", "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "SW1 1AA", "GB82 WEST 1234 5698 7654 32"} {
		for j := range all {
			f.Add(byte(j), v+strings.Repeat(" ", i%2))
			f.Add(byte(j), v)
		}
	}
	keys := &tokenizetest.Keys{}
	f.Fuzz(func(t *testing.T, which byte, value string) {
		fuzzRoundTrip(t, keys, all[int(which)%len(all)].format, value)
	})
}
