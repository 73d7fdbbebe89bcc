package tokenize_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/tokenize"
	"github.com/lethe-go/lethe/tokenize/tokenizetest"
)

func subject(n int) tokenize.Subject {
	return tokenize.Subject{Tenant: "acme", Kind: "customer", ID: fmt.Sprintf("cus_%d", n)}
}

// must returns a format of a constructor that also returns an error.
func must(f tokenize.Format, err error) tokenize.Format {
	if err != nil {
		panic(err)
	}
	return f
}

func digits(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte('0' + byte(r.IntN(10)))
	}
	return b.String()
}

func luhnSum(s string) int {
	sum := 0
	s = strings.NewReplacer(" ", "", "-", "").Replace(s)
	for i := range len(s) {
		d := int(s[len(s)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum % 10
}

// card makes a number that passes the check.
func card(r *rand.Rand, n int) string {
	body := digits(r, n-1)
	return body + string(rune('0'+(10-luhnSum(body+"0"))%10))
}

func letters(r *rand.Rand, alphabet string, n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}

const (
	small    = "abcdefghijklmnopqrstuvwxyz"
	capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	figures  = "0123456789"
)

// mod97 is the remainder an IBAN must have 1 of.
func mod97(iban string) int {
	iban = strings.ReplaceAll(iban, " ", "")
	rest := 0
	for _, c := range iban[4:] + iban[:4] {
		if c >= 'A' {
			rest = (rest*100 + int(c-'A') + 10) % 97
		} else {
			rest = (rest*10 + int(c-'0')) % 97
		}
	}
	return rest
}

func iban(r *rand.Rand) string {
	body := "GB00" + letters(r, capitals, 4) + digits(r, 14)
	return fmt.Sprintf("GB%02d%s", 98-mod97(body), body[4:])
}

// sample is a format with values for it and what its tokens must be.
type sample struct {
	name   string
	format tokenize.Format
	value  func(r *rand.Rand) string
	check  func(t *testing.T, value, token string)
}

func samples(t testing.TB) []sample {
	t.Helper()
	luhn := func(want bool) func(t *testing.T, value, token string) {
		return func(t *testing.T, _, token string) { require.Equal(t, want, luhnSum(token) == 0, token) }
	}
	keeps := func(first, last int, want bool) func(t *testing.T, value, token string) {
		return func(t *testing.T, value, token string) {
			require.Equal(t, value[:first], token[:first])
			require.Equal(t, value[len(value)-last:], token[len(token)-last:])
			luhn(want)(t, value, token)
		}
	}
	return []sample{
		{"card", must(tokenize.CardFormat(tokenize.CardOptions{})), func(r *rand.Rand) string { return card(r, 16) }, luhn(false)},
		{"card 6 and 4", must(tokenize.CardFormat(tokenize.CardOptions{KeepBIN: 6, KeepLast4: true})), func(r *rand.Rand) string { return card(r, 16) }, keeps(6, 4, false)},
		{"card 8", must(tokenize.CardFormat(tokenize.CardOptions{KeepBIN: 8})), func(r *rand.Rand) string { return card(r, 16) }, keeps(8, 0, false)},
		{"card last 4, valid", must(tokenize.CardFormat(tokenize.CardOptions{KeepLast4: true, LuhnValid: true})), func(r *rand.Rand) string { return card(r, 16) }, keeps(0, 4, true)},
		{"card 6, valid, lengths", must(tokenize.CardFormat(tokenize.CardOptions{KeepBIN: 6, LuhnValid: true, Lengths: []int{19, 15, 16, 16}})), func(r *rand.Rand) string { return card(r, []int{15, 16, 19}[r.IntN(3)]) }, keeps(6, 0, true)},
		{"card grouped", must(tokenize.CardFormat(tokenize.CardOptions{KeepLast4: true})), func(r *rand.Rand) string {
			c := card(r, 16)
			return c[:4] + " " + c[4:8] + "-" + c[8:12] + " " + c[12:]
		}, func(t *testing.T, value, token string) {
			require.Equal(t, []byte{' ', '-', ' '}, []byte{token[4], token[9], token[14]})
			keeps(0, 4, false)(t, value, token)
		}},
		{"ssn", tokenize.SSN(), func(r *rand.Rand) string {
			area := 1 + r.IntN(899)
			if area == 666 {
				area = 665
			}
			form := []string{"%03d-%02d-%04d", "%03d%02d%04d"}[r.IntN(2)]
			return fmt.Sprintf(form, area, 1+r.IntN(99), 1+r.IntN(9999))
		}, func(t *testing.T, _, token string) {
			bare := strings.ReplaceAll(token, "-", "")
			require.Len(t, bare, 9)
			require.NotContains(t, []string{"000", "666"}, bare[:3])
			require.Less(t, bare[:3], "900")
			require.NotEqual(t, "00", bare[3:5])
			require.NotEqual(t, "0000", bare[5:])
		}},
		{"nino", tokenize.NINO(), func(r *rand.Rand) string { return "AB" + digits(r, 6) + "C" }, nil},
		{"uuid", tokenize.UUID(), func(r *rand.Rand) string {
			h := letters(r, "0123456789abcdef", 32)
			return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]
		}, func(t *testing.T, _, token string) { require.Equal(t, "4a", string([]byte{token[14], token[19]})) }},
		{"alphanumeric", tokenize.Alphanumeric(), func(r *rand.Rand) string {
			return letters(r, small, 3+r.IntN(5)) + "-" + letters(r, capitals, 4) + "/é" + digits(r, r.IntN(40))
		}, func(t *testing.T, value, token string) {
			shape := func(s string) string {
				return strings.Map(func(c rune) rune {
					switch {
					case c >= '0' && c <= '9':
						return '9'
					case c >= 'a' && c <= 'z':
						return 'a'
					case c >= 'A' && c <= 'Z':
						return 'A'
					}
					return c
				}, s)
			}
			require.Equal(t, shape(value), shape(token))
		}},
		{"email", must(tokenize.EmailFormat(tokenize.EmailOptions{})), func(r *rand.Rand) string {
			return letters(r, small, 1+r.IntN(9)) + "." + letters(r, small, 1) + "@" + letters(r, small, 5) + ".com"
		}, func(t *testing.T, _, token string) { require.True(t, strings.HasSuffix(token, ".invalid"), token) }},
		{"email domain", must(tokenize.EmailFormat(tokenize.EmailOptions{KeepDomain: true})), func(r *rand.Rand) string {
			return letters(r, small+capitals, 5+r.IntN(9)) + "@Example.com"
		}, func(t *testing.T, _, token string) { require.True(t, strings.HasSuffix(token, "@Example.com"), token) }},
		{"email local", must(tokenize.EmailFormat(tokenize.EmailOptions{KeepLocal: true})), func(r *rand.Rand) string {
			return "ada@" + letters(r, small, 6) + ".org"
		}, func(t *testing.T, _, token string) { require.True(t, strings.HasPrefix(token, "ada@"), token) }},
		{"iban", must(tokenize.IBANFormat(tokenize.IBANOptions{})), iban, func(t *testing.T, _, token string) { require.NotEqual(t, 1, mod97(token)) }},
		{"iban valid, bank", must(tokenize.IBANFormat(tokenize.IBANOptions{KeepBank: 4, Valid: true})), func(r *rand.Rand) string {
			s := iban(r)
			return s[:4] + " " + s[4:8] + " " + s[8:12] + " " + s[12:16] + " " + s[16:20] + " " + s[20:]
		}, func(t *testing.T, value, token string) {
			require.Equal(t, 1, mod97(token))
			require.Equal(t, value[5:9], token[5:9])
		}},
		{"postcode GB", must(tokenize.Postcode("GB")), func(r *rand.Rand) string {
			return letters(r, capitals, 1+r.IntN(2)) + digits(r, 1+r.IntN(2)) + " " + digits(r, 1) + letters(r, capitals, 2)
		}, nil},
		{"postcode US", must(tokenize.Postcode("US")), func(r *rand.Rand) string { return digits(r, 5) + "-" + digits(r, 4) }, nil},
		{"pattern", must(tokenize.Pattern(`([A-Z]{2}\-)[0-9]{4,8}x[äöüß]{6,9}`)), func(r *rand.Rand) string {
			var s strings.Builder
			for range 6 + r.IntN(4) {
				s.WriteRune([]rune("äöüß")[r.IntN(4)])
			}
			return letters(r, capitals, 2) + "-" + digits(r, 4+r.IntN(5)) + "x" + s.String()
		}, func(t *testing.T, value, token string) { require.Equal(t, value[:3], token[:3]) }},
	}
}

func newFPE(t testing.TB, o tokenize.FormatPreservingOptions) *tokenize.FormatPreserving {
	t.Helper()
	if o.Name == "" {
		o.Name = "test"
	}
	if o.Keys == nil {
		o.Keys = &tokenizetest.Keys{}
	}
	o.AcknowledgeUnforgettable = o.Scope == tokenize.ScopeTenant
	f, err := tokenize.NewFormatPreserving(o)
	require.NoError(t, err)
	return f
}
