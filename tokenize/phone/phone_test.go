package phone_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/tokenize"
	"github.com/lethe-go/lethe/tokenize/phone"
	"github.com/lethe-go/lethe/tokenize/tokenizetest"
)

var subject = tokenize.Subject{Kind: "customer", ID: "1"}

func newTokenizer(t testing.TB) tokenize.Tokenizer {
	t.Helper()
	f, err := tokenize.NewFormatPreserving(tokenize.FormatPreservingOptions{Name: "phone", Format: phone.E164(), Keys: &tokenizetest.Keys{}})
	require.NoError(t, err)
	return f
}

func TestRoundTrip(t *testing.T) {
	f := newTokenizer(t)
	r := rand.New(rand.NewPCG(1, 1))
	for code, national := range map[string]string{
		"+1": "201555####", "+44": "7400######", "+49": "1512#######", "+33": "6########", "+39": "06########", "+423": "660####", "+86": "131########",
	} {
		for range 50 {
			value := code + strings.Map(func(c rune) rune {
				if c == '#' {
					return rune('0' + r.IntN(10))
				}
				return c
			}, national)
			token, version, err := tokenize.One(t.Context(), f, subject, nil, value)
			require.NoError(t, err, code)
			require.Len(t, token, len(value))
			require.True(t, strings.HasPrefix(token, code))
			require.Equal(t, value[len(code)] == '0', token[len(code)] == '0')
			back, err := tokenize.OneBack(t.Context(), f, subject, nil, token, version)
			require.NoError(t, err)
			require.Equal(t, value, back)
		}
	}
}

func TestMisfits(t *testing.T) {
	f := newTokenizer(t)
	for _, value := range []string{
		"", "+", "030 1234567", "+49 30 1234567", "+4930123456789012", "+999123456789", "+0123456789", "+1201555012", "+٤٩٣٠١٢٣٤٥٦٧", "+1201555012a", "4915123456789", "+4915123456789 ",
	} {
		_, _, err := tokenize.One(t.Context(), f, subject, nil, value)
		require.ErrorIs(t, err, tokenize.ErrValue, value)
		if len(value) > 3 {
			require.NotContains(t, err.Error(), value)
		}
	}
	for _, token := range []string{"+999123456789", "12015550123", "+1201555"} {
		_, err := tokenize.OneBack(t.Context(), f, subject, nil, token, 1)
		require.ErrorIs(t, err, tokenize.ErrToken)
	}
	_, _, err := tokenize.One(t.Context(), f, subject, nil, "+4412345")
	require.ErrorIs(t, err, tokenize.ErrValue)
}

func FuzzE164(f *testing.F) {
	for _, seed := range []string{"+12015550123", "+441234567890", "+390612345678", "+4915123456789", "+8613123456789", "+"} {
		f.Add(seed)
	}
	tok := newTokenizer(f)
	f.Fuzz(func(t *testing.T, value string) {
		token, version, err := tokenize.One(context.Background(), tok, subject, nil, value)
		if err != nil {
			require.ErrorIs(t, err, tokenize.ErrValue)
			return
		}
		back, err := tokenize.OneBack(context.Background(), tok, subject, nil, token, version)
		require.NoError(t, err)
		require.Equal(t, value, back)
	})
}

func ExampleE164() {
	phones, err := tokenize.NewFormatPreserving(tokenize.FormatPreservingOptions{Name: "phone", Format: phone.E164(), Keys: &tokenizetest.Keys{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	token, version, err := tokenize.One(context.Background(), phones, subject, nil, "+12015550123")
	fmt.Println(token[:2], len(token), err)
	value, err := tokenize.OneBack(context.Background(), phones, subject, nil, token, version)
	fmt.Println(value, err)
	// Output:
	// +1 12 <nil>
	// +12015550123 <nil>
}
