package main

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// The compressed bytes may change with Go's compressor; the customers may not.
func TestReproducesTheCommittedSample(t *testing.T) {
	t.Parallel()
	f, err := os.Open(filepath.Join("..", "customers.csv.gz"))
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	committed, err := io.ReadAll(z)
	require.NoError(t, err)

	var made bytes.Buffer
	require.NoError(t, write(&made, 10_000))
	require.True(t, bytes.Equal(committed, made.Bytes()), "run: go generate ./examples/quickstart")
}

func TestCustomersAreWellFormed(t *testing.T) {
	t.Parallel()
	var made bytes.Buffer
	require.NoError(t, write(&made, 10_000))
	rows, err := csv.NewReader(&made).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 10_001)
	require.Equal(t, header, rows[0])

	seen := map[string]bool{}
	scripts := map[string]int{}
	var commas, quotes, lines, emoji int
	for _, r := range rows[1:] {
		id, name, mail, card, iban, note := r[0], r[1], r[2], r[4], r[5], r[7]
		require.Regexp(t, `^[A-Za-z0-9][a-z0-9_-]*\.\d+@(example\.(com|org|net)|mail\.example)$`, mail)
		require.True(t, luhn(strings.ReplaceAll(card, " ", "")), "card %s", card)
		iban = strings.ReplaceAll(iban, " ", "")
		require.Equal(t, 1, mod97(iban[4:]+iban[:4]), "IBAN %s", iban)
		require.Len(t, iban, ibanLength[iban[:2]], "IBAN %s", iban)
		for _, unique := range []string{id, strings.ToLower(mail)} {
			require.False(t, seen[unique], unique)
			seen[unique] = true
		}
		for script, table := range unicode.Scripts {
			if strings.ContainsFunc(name, func(c rune) bool { return unicode.Is(table, c) }) {
				scripts[script]++
			}
		}
		commas += strings.Count(note, ",")
		quotes += strings.Count(note, `"`)
		lines += strings.Count(note, "\n")
		emoji += strings.Count(note, "🎂")
	}
	for _, script := range []string{"Latin", "Cyrillic", "Greek", "Arabic", "Han", "Hiragana", "Katakana", "Devanagari"} {
		require.Positive(t, scripts[script], script)
	}
	for _, n := range []int{commas, quotes, lines, emoji} {
		require.Greater(t, n, 100)
	}
}

// Lengths from the SWIFT registry of IBANs.
var ibanLength = map[string]int{
	"AE": 23, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "DE": 22, "EG": 29, "ES": 24, "FR": 27, "GB": 22,
	"GR": 27, "LI": 21, "NL": 18, "PL": 28, "RS": 22, "SA": 24, "SE": 24, "UA": 29,
}

func luhn(digits string) bool {
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			d *= 2
		}
		sum += d/10 + d%10
	}
	return len(digits) >= 15 && sum%10 == 0
}

func TestKnownNumbers(t *testing.T) {
	t.Parallel()
	require.Equal(t, byte('2'), luhnDigit("424242424242424"))
	require.Equal(t, byte('5'), luhnDigit("37828224631000"))
	require.Equal(t, "GB82WEST12345698765432", iban("GB", "WEST12345698765432"))
	require.Equal(t, "DE89370400440532013000", iban("DE", "370400440532013000"))
	require.Equal(t, "DE89 3704 0044 0532 0130 00", spaced("DE89370400440532013000"))
}
