package tokenize_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/tokenize"
	"github.com/lethe-go/lethe/tokenize/tokenizetest"
)

// Every format, in batches of every kind: tokens have the form they must have,
// turn back, and are what one value at a time gives.
func TestFormatsRoundTrip(t *testing.T) {
	for _, s := range samples(t) {
		for scope, scopeName := range []string{"subject", "tenant"} {
			t.Run(s.name+"/"+scopeName, func(t *testing.T) {
				r := rand.New(rand.NewPCG(1, uint64(len(s.name))))
				f := newFPE(t, tokenize.FormatPreservingOptions{Format: s.format, Scope: tokenize.Scope(scope)})
				items := make([]tokenize.Item, 350)
				for i := range items {
					items[i] = tokenize.Item{Subject: subject(i / 7), Value: s.value(r)}
					if i%3 == 0 {
						items[i].AssociatedData = []byte(strings.Repeat("x", r.IntN(300)))
					}
				}
				want := slices.Clone(items)
				require.NoError(t, f.Tokenize(t.Context(), items))
				same := 0
				for i := range items {
					it := &items[i]
					require.NoError(t, it.Err, it.Value)
					require.Equal(t, want[i].Value, it.Value)
					require.EqualValues(t, 1, it.KeyVersion)
					if it.Token == it.Value {
						same++ // a permutation may have fixed points
					}
					if s.check != nil {
						s.check(t, it.Value, it.Token)
					}
					token, version, err := tokenize.One(t.Context(), f, it.Subject, it.AssociatedData, it.Value)
					require.NoError(t, err)
					require.Equal(t, it.Token, token)
					back, err := tokenize.OneBack(t.Context(), f, it.Subject, it.AssociatedData, token, version)
					require.NoError(t, err)
					require.Equal(t, it.Value, back)
					it.Value = ""
				}
				require.LessOrEqual(t, same, 1)
				require.NoError(t, f.Detokenize(t.Context(), items))
				for i := range items {
					require.NoError(t, items[i].Err)
					require.Equal(t, want[i].Value, items[i].Value)
				}
			})
		}
	}
}

// All 100,000 cards of one BIN and last four digits have tokens of their own,
// none of which passes the check, and only those tokens turn back.
func TestCardTokensAreAnInjection(t *testing.T) {
	f := newFPE(t, tokenize.FormatPreservingOptions{Format: must(tokenize.CardFormat(tokenize.CardOptions{KeepBIN: 6, KeepLast4: true})), Scope: tokenize.ScopeTenant})
	var items, some []tokenize.Item
	for i := range 1_000_000 {
		value := fmt.Sprintf("411111%06d1111", i)
		if luhnSum(value) == 0 {
			items = append(items, tokenize.Item{Value: value})
		}
		if i%20 == 7 {
			some = append(some, tokenize.Item{Token: value})
		}
	}
	require.Len(t, items, 100_000)
	require.NoError(t, f.Tokenize(t.Context(), items))
	tokens := make(map[string]string, len(items))
	for i := range items {
		if items[i].Err != nil || luhnSum(items[i].Token) == 0 {
			t.Fatal(items[i].Token, items[i].Err)
		}
		tokens[items[i].Token] = items[i].Value
	}
	require.Len(t, tokens, len(items))
	require.NoError(t, f.Detokenize(t.Context(), some))
	for i := range some {
		if want := tokens[some[i].Token]; some[i].Value != want || (want == "") != errors.Is(some[i].Err, tokenize.ErrToken) {
			t.Fatal(some[i].Value, want, some[i].Err)
		}
	}
}

func TestCardDomains(t *testing.T) {
	for _, o := range []tokenize.CardOptions{
		{KeepBIN: 6, KeepLast4: true}, {KeepBIN: 8}, {KeepLast4: true, Lengths: []int{12}}, {LuhnValid: true},
		{KeepBIN: 8, KeepLast4: true, Lengths: []int{18}}, {KeepBIN: 6, KeepLast4: true, LuhnValid: true, Lengths: []int{17}},
	} {
		_, err := tokenize.CardFormat(o)
		require.NoError(t, err, o)
	}
	for _, c := range []struct {
		o    tokenize.CardOptions
		says string
	}{
		{tokenize.CardOptions{KeepBIN: 6, KeepLast4: true, LuhnValid: true}, "10^5 = 100,000"},
		{tokenize.CardOptions{KeepBIN: 6, KeepLast4: true, Lengths: []int{15}}, "10^5 = 100,000"},
		{tokenize.CardOptions{KeepBIN: 6, KeepLast4: true, Lengths: []int{15, 16}}, "15 digits"},
		{tokenize.CardOptions{KeepBIN: 8, KeepLast4: true}, "10^4 = 10,000"},
		{tokenize.CardOptions{KeepBIN: 8, KeepLast4: true, Lengths: []int{12}}, "1 = 1,"},
	} {
		_, err := tokenize.CardFormat(c.o)
		require.ErrorIs(t, err, tokenize.ErrDomain)
		require.ErrorContains(t, err, c.says)
		require.ErrorContains(t, err, "1,000,000")
	}
	for _, o := range []tokenize.CardOptions{{KeepBIN: 7}, {Lengths: []int{11}}, {Lengths: []int{20}}, {KeepBIN: -6}} {
		_, err := tokenize.CardFormat(o)
		require.Error(t, err)
	}
}

// What does not fit is refused alone, says where, and never what.
func TestMisfits(t *testing.T) {
	short := must(tokenize.EmailFormat(tokenize.EmailOptions{KeepDomain: true}))
	cards := must(tokenize.CardFormat(tokenize.CardOptions{}))
	for _, c := range []struct {
		format tokenize.Format
		value  string
		domain bool
	}{
		{cards, "", false},
		{cards, "4111111111111112", false}, // fails the check
		{cards, "411111111111111", false},  // 15 digits
		{cards, "41111111111111111111", false},
		{cards, "4111-1111--1111-1111", false},
		{cards, " 4111111111111111", false},
		{cards, "4111111111111111 ", false},
		{cards, "-411111111111111", false},
		{cards, "٤111111111111111", false},
		{cards, strings.Repeat("4", 5000), false},
		{tokenize.SSN(), "000-12-3456", false},
		{tokenize.SSN(), "666-12-3456", false},
		{tokenize.SSN(), "900-12-3456", false},
		{tokenize.SSN(), "123-00-3456", false},
		{tokenize.SSN(), "123-45-0000", false},
		{tokenize.SSN(), "123 45 6789", false},
		{tokenize.UUID(), "3F2504E0-4F89-41D3-9A0C-0305E82C3301", false},
		{tokenize.UUID(), "3f2504e0-4f89-41d3-9a0c-0305e82c330", false},
		{tokenize.Alphanumeric(), "abc", true},
		{tokenize.Alphanumeric(), "", true},
		{tokenize.Alphanumeric(), strings.Repeat("x", 300), false},
		{tokenize.Alphanumeric(), "éééééééééé", true},
		{short, "ada@example.com", true},
		{short, "@example.com", false},
		{short, "adalovelace@", false},
		{short, "ada lovelace@example.com", false},
		{must(tokenize.EmailFormat(tokenize.EmailOptions{})), "adalovelace@example.invalid", false},
		{must(tokenize.IBANFormat(tokenize.IBANOptions{})), "GB82WEST12345698765433", false},
		{must(tokenize.IBANFormat(tokenize.IBANOptions{})), "gb82west12345698765432", false},
		{must(tokenize.IBANFormat(tokenize.IBANOptions{})), "GB82 WEST 1234 5698 7654 32 ", false},
		{must(tokenize.IBANFormat(tokenize.IBANOptions{KeepBank: 12})), "NO9386011117947", true},
		{must(tokenize.Pattern("[0-9]{6}")), "12345", false},
		{must(tokenize.Pattern("[0-9]{6}")), "1234567", false},
		{must(tokenize.Pattern("[0-9]{6}")), "12345\xff", false},
	} {
		f := newFPE(t, tokenize.FormatPreservingOptions{Format: c.format})
		good := tokenize.Item{Subject: subject(1), Value: "none"}
		items := []tokenize.Item{good, {Subject: subject(1), Value: c.value}}
		require.NoError(t, f.Tokenize(t.Context(), items))
		err := items[1].Err
		require.ErrorIs(t, err, tokenize.ErrValue, c.value)
		require.Equal(t, c.domain, strings.Contains(err.Error(), "1,000,000"), err)
		require.Empty(t, items[1].Token)
		if len(c.value) > 4 {
			require.NotContains(t, err.Error(), c.value)
		}
		back := []tokenize.Item{{Subject: subject(1), Token: c.value}}
		require.NoError(t, f.Detokenize(t.Context(), back))
		if back[0].Err == nil {
			continue // a Luhn-failing number may be a token
		}
	}
}

// A bad item fails alone.
func TestABatchKeepsTheGood(t *testing.T) {
	keys := &tokenizetest.Keys{}
	f := newFPE(t, tokenize.FormatPreservingOptions{Keys: keys, Format: must(tokenize.Pattern("[0-9]{8}"))})
	keys.Forget(subject(3))
	items := []tokenize.Item{
		{Subject: subject(1), Value: "12345678"},
		{Subject: subject(1), Value: "1234567x"},
		{Value: "12345678"},
		{Subject: subject(3), Value: "12345678"},
		{Subject: subject(2), Value: "12345678"},
		{Subject: subject(2), Value: "12345678", Metadata: map[string]string{"a": "b"}},
	}
	require.NoError(t, f.Tokenize(t.Context(), items))
	for i, want := range []error{nil, tokenize.ErrValue, tokenize.ErrNoSubject, tokenize.ErrForgotten, nil} {
		require.ErrorIs(t, items[i].Err, want)
		require.Equal(t, want == nil, items[i].Token != "")
	}
	require.Error(t, items[5].Err)
	require.NotEqual(t, items[0].Token, items[4].Token, "equal values of two subjects")
	require.NoError(t, f.Detokenize(t.Context(), items[:5]))
	require.NoError(t, items[0].Err)
	require.ErrorIs(t, items[3].Err, tokenize.ErrForgotten)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, f.Tokenize(ctx, items), context.Canceled)
}

func TestKeyVersions(t *testing.T) {
	keys := &tokenizetest.Keys{}
	f := newFPE(t, tokenize.FormatPreservingOptions{Keys: keys, Scope: tokenize.ScopeTenant, Format: must(tokenize.Pattern("[0-9]{8}"))})
	token, version, err := tokenize.One(t.Context(), f, subject(1), nil, "12345678")
	require.NoError(t, err)
	require.EqualValues(t, 1, version)
	back, err := tokenize.OneBack(t.Context(), f, subject(1), nil, token, 0)
	require.NoError(t, err)
	require.Equal(t, "12345678", back)
	require.NoError(t, keys.Rotate(tokenize.Owner{Tenant: "acme"}))
	again, version, err := tokenize.One(t.Context(), f, subject(1), nil, "12345678")
	require.NoError(t, err)
	require.EqualValues(t, 2, version)
	require.NotEqual(t, token, again)
	for v, tok := range map[uint32]string{1: token, 2: again} {
		back, err = tokenize.OneBack(t.Context(), f, subject(1), nil, tok, v)
		require.NoError(t, err)
		require.Equal(t, "12345678", back)
	}
	_, err = tokenize.OneBack(t.Context(), f, subject(1), nil, token, 0)
	require.ErrorIs(t, err, tokenize.ErrKeyVersion)
	_, err = tokenize.OneBack(t.Context(), f, subject(1), nil, token, 9)
	require.ErrorIs(t, err, tokenize.ErrKeyMissing)
	other := tokenize.Subject{Tenant: "globex", Kind: "customer", ID: "cus_1"}
	_, err = tokenize.OneBack(t.Context(), f, other, nil, token, 1)
	require.ErrorIs(t, err, tokenize.ErrKeyMissing)
}

// Tokens depend on everything they are bound to.
func TestTokensAreBound(t *testing.T) {
	keys := &tokenizetest.Keys{}
	format := must(tokenize.CardFormat(tokenize.CardOptions{KeepBIN: 6, KeepLast4: true}))
	base := tokenize.FormatPreservingOptions{Name: "pan", Keys: keys, Format: format}
	make1 := func(change func(o *tokenize.FormatPreservingOptions), s tokenize.Subject, ad string) string {
		o := base
		change(&o)
		token, _, err := tokenize.One(t.Context(), newFPE(t, o), s, []byte(ad), "4111111111111111")
		require.NoError(t, err)
		return token
	}
	same := func(*tokenize.FormatPreservingOptions) {}
	first := make1(same, subject(1), "")
	require.Equal(t, first, make1(same, subject(1), ""))
	for name, other := range map[string]string{
		"subject":         make1(same, subject(2), ""),
		"tenant":          make1(same, tokenize.Subject{Kind: "customer", ID: "cus_1"}, ""),
		"associated data": make1(same, subject(1), "a"),
		"purpose":         make1(func(o *tokenize.FormatPreservingOptions) { o.Purpose = "fraud" }, subject(1), ""),
		"name":            make1(func(o *tokenize.FormatPreservingOptions) { o.Name = "card" }, subject(1), ""),
		"scope":           make1(func(o *tokenize.FormatPreservingOptions) { o.Scope = tokenize.ScopeTenant }, subject(1), ""),
	} {
		require.NotEqual(t, first, other, name)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := tokenize.NewFormatPreserving(tokenize.FormatPreservingOptions{Scope: 7, Purpose: " x"})
	for _, says := range []string{"Keys", "Name", "Purpose", "Scope", "Format"} {
		require.ErrorContains(t, err, says)
	}
	o := tokenize.FormatPreservingOptions{Name: "pan", Keys: &tokenizetest.Keys{}, Format: tokenize.SSN(), Scope: tokenize.ScopeTenant}
	_, err = tokenize.NewFormatPreserving(o)
	require.ErrorContains(t, err, "survive every forget")
	o.AcknowledgeUnforgettable = true
	_, err = tokenize.NewFormatPreserving(o)
	require.NoError(t, err)
	o.Scope = tokenize.ScopeSubject
	_, err = tokenize.NewFormatPreserving(o)
	require.Error(t, err)
}

// One tokenizer on many goroutines gives what it gives on one.
func TestConcurrentUse(t *testing.T) {
	f := newFPE(t, tokenize.FormatPreservingOptions{Format: must(tokenize.CardFormat(tokenize.CardOptions{KeepBIN: 6}))})
	r := rand.New(rand.NewPCG(3, 3))
	items := make([]tokenize.Item, 300)
	for i := range items {
		items[i] = tokenize.Item{Subject: subject(i % 5), Value: card(r, 16)}
	}
	require.NoError(t, f.Tokenize(t.Context(), items))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			mine := slices.Clone(items)
			for n := range 20 {
				if err := f.Tokenize(context.Background(), mine[n:]); err != nil {
					t.Error(err)
				}
				for i := range mine {
					if mine[i].Token != items[i].Token {
						t.Error("another token")
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// A program that makes a tokenizer for every call is slow, not broken.
func TestManyTokenizersOfOneKey(t *testing.T) {
	keys := &tokenizetest.Keys{}
	var first string
	for range 100 {
		f := newFPE(t, tokenize.FormatPreservingOptions{Keys: keys, Format: tokenize.SSN()})
		token, _, err := tokenize.One(t.Context(), f, subject(1), nil, "123-45-6789")
		require.NoError(t, err)
		if first == "" {
			first = token
		}
		require.Equal(t, first, token)
	}
}

func TestTokenizersDoNotPrintKeys(t *testing.T) {
	f := newFPE(t, tokenize.FormatPreservingOptions{Format: tokenize.SSN()})
	require.Equal(t, "[tokenizer]", fmt.Sprintf("%+v", f))
	key, err := tokenize.NewKey(1, []byte(strings.Repeat("k", 32)))
	require.NoError(t, err)
	require.Equal(t, "[token key]", fmt.Sprintf("%#v", key))
	_, err = tokenize.NewKey(0, make([]byte, 32))
	require.Error(t, err)
	_, err = tokenize.NewKey(1, make([]byte, 31))
	require.Error(t, err)
}
