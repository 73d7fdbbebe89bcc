package tokenize_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/tokenize"
	"github.com/lethe-go/lethe/tokenize/memstore"
	"github.com/lethe-go/lethe/tokenize/tokenizetest"
)

func newRandom(t testing.TB, o tokenize.RandomOptions) *tokenize.Random {
	t.Helper()
	if o.Name == "" {
		o.Name = "test"
	}
	if o.Keys == nil {
		o.Keys = &tokenizetest.Keys{}
	}
	if o.Store == nil {
		o.Store = memstore.New()
	}
	r, err := tokenize.NewRandom(o)
	require.NoError(t, err)
	return r
}

// Every format: tokens have its form, are no value of the batch, differ, and turn back.
func TestRandomTokensRoundTrip(t *testing.T) {
	all := append(samples(t), sample{name: "opaque", value: func(r *rand.Rand) string { return letters(r, small+"\x00\xff", r.IntN(20)) },
		check: func(t *testing.T, _, token string) { require.Regexp(t, "^tok_[0-9a-z]{26}$", token) }})
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(len(s.name))))
			f := newRandom(t, tokenize.RandomOptions{Format: s.format})
			items := make([]tokenize.Item, 250)
			for i := range items {
				items[i] = tokenize.Item{Subject: subject(i / 7), Value: s.value(r), AssociatedData: []byte{byte(i)}}
				if i%2 == 0 {
					items[i].Metadata = map[string]string{"source": "test", "n": strconv.Itoa(i)}
				}
			}
			want := slices.Clone(items)
			require.NoError(t, f.Tokenize(t.Context(), items))
			tokens := map[string]bool{}
			for i := range items {
				require.NoError(t, items[i].Err)
				require.Equal(t, want[i].Value, items[i].Value)
				tokens[items[i].Token] = true
				if s.check != nil {
					s.check(t, items[i].Value, items[i].Token)
				}
				items[i].Value, items[i].Metadata, items[i].KeyVersion = "", nil, 0
			}
			require.Len(t, tokens, len(items))
			for i := range want {
				require.False(t, tokens[want[i].Value], "a token equals a value")
			}
			require.NoError(t, f.Detokenize(t.Context(), items))
			for i := range items {
				require.NoError(t, items[i].Err)
				require.Equal(t, want[i].Value, items[i].Value)
				require.Equal(t, want[i].Metadata, items[i].Metadata)
				require.EqualValues(t, 1, items[i].KeyVersion)
			}
		})
	}
}

// Whoever may not detokenize learns why, each in another way, and the rest of the
// batch is served.
func TestRandomRefusals(t *testing.T) {
	keys, store := &tokenizetest.Keys{}, memstore.New()
	now := time.Unix(1_700_000_000, 0)
	o := tokenize.RandomOptions{Name: "pan", Purpose: "billing", Keys: keys, Store: store, Now: func() time.Time { return now }, TTL: time.Hour, MaxUses: 2}
	f := newRandom(t, o)
	one := func(s tokenize.Subject) string {
		token, _, err := tokenize.One(t.Context(), f, s, []byte("ad"), "4111111111111111")
		require.NoError(t, err)
		return token
	}
	o.Name = "other"
	elsewhere, _, err := tokenize.One(t.Context(), newRandom(t, o), subject(1), []byte("ad"), "x")
	require.NoError(t, err)
	o.Name, o.Purpose = "pan", "fraud"
	otherPurpose, _, err := tokenize.One(t.Context(), newRandom(t, o), subject(1), []byte("ad"), "x")
	require.NoError(t, err)
	globex := tokenize.Subject{Tenant: "globex", Kind: "customer", ID: "cus_1"}
	otherTenant, good, old, forgotten, used := one(globex), one(subject(1)), one(subject(1)), one(subject(2)), one(subject(1))
	keys.Forget(subject(2))
	for range 2 {
		_, err := tokenize.OneBack(t.Context(), f, subject(1), []byte("ad"), used, 0)
		require.NoError(t, err)
	}
	ad := []byte("ad")
	items := []tokenize.Item{
		{Subject: subject(1), AssociatedData: ad, Token: good},
		{Subject: subject(1), AssociatedData: ad, Token: elsewhere},
		{Subject: subject(1), AssociatedData: ad, Token: otherPurpose},
		{Subject: subject(1), AssociatedData: ad, Token: otherTenant},
		{Subject: subject(2), AssociatedData: ad, Token: forgotten},
		{Subject: subject(1), AssociatedData: ad, Token: used},
		{Subject: subject(3), AssociatedData: ad, Token: good},
		{Subject: subject(1), AssociatedData: []byte("AD"), Token: good},
		{AssociatedData: ad, Token: good},
		{Subject: subject(1), AssociatedData: ad, Token: "tok_" + strings.Repeat("0", 26)},
		{Subject: subject(1), AssociatedData: ad, Token: "4111111111111111"},
		{Subject: subject(1), AssociatedData: ad, Token: ""},
		{Subject: subject(1), AssociatedData: ad, Token: strings.ToUpper(good)},
		{Subject: subject(1), AssociatedData: ad, Token: good[:len(good)-1] + "z"}, // bits beyond the last
		{Subject: tokenize.Subject{Tenant: "a\x00", Kind: "k", ID: "i"}, Token: good},
		{Subject: subject(1), AssociatedData: ad, Token: old},
	}
	require.NoError(t, f.Detokenize(t.Context(), items))
	for i, want := range []error{
		nil, tokenize.ErrOtherTokenizer, tokenize.ErrOtherPurpose, tokenize.ErrOtherTenant, tokenize.ErrForgotten, tokenize.ErrUsedUp,
		tokenize.ErrBinding, tokenize.ErrBinding, tokenize.ErrNoSubject, tokenize.ErrToken, tokenize.ErrToken, tokenize.ErrToken, tokenize.ErrToken, tokenize.ErrToken,
	} {
		require.ErrorIs(t, items[i].Err, want, i)
		if want != nil {
			require.Empty(t, items[i].Value)
		}
	}
	require.Error(t, items[14].Err)
	require.Equal(t, "4111111111111111", items[0].Value)
	require.NoError(t, items[15].Err)

	// The refused attempts took no use: one is left.
	_, err = tokenize.OneBack(t.Context(), f, subject(1), ad, good, 0)
	require.NoError(t, err)
	_, err = tokenize.OneBack(t.Context(), f, subject(1), ad, good, 0)
	require.ErrorIs(t, err, tokenize.ErrUsedUp)
	now = now.Add(time.Hour)
	_, err = tokenize.OneBack(t.Context(), f, subject(1), ad, old, 0)
	require.ErrorIs(t, err, tokenize.ErrExpired)
	_, _, err = tokenize.One(t.Context(), f, subject(2), ad, "x")
	require.ErrorIs(t, err, tokenize.ErrForgotten)
	n, err := f.Delete(t.Context(), "acme", []string{old, old, "tok_none"})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	_, err = tokenize.OneBack(t.Context(), f, subject(1), ad, old, 0)
	require.ErrorIs(t, err, tokenize.ErrToken)
}

// What is stored cannot be changed without being noticed.
func TestRandomTamperedRows(t *testing.T) {
	for name, change := range map[string]func(e *tokenize.Entry){
		"sealed":  func(e *tokenize.Entry) { e.Sealed[len(e.Sealed)-1] ^= 1 },
		"cut":     func(e *tokenize.Entry) { e.Sealed = e.Sealed[:10] },
		"empty":   func(e *tokenize.Entry) { e.Sealed = nil },
		"expires": func(e *tokenize.Entry) { e.Expires++ },
		"token":   func(e *tokenize.Entry) { e.Token = "tok_" + strings.Repeat("0", 26) },
		"version": func(e *tokenize.Entry) { e.KeyVersion = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			store := &tampered{Store: memstore.New()}
			f := newRandom(t, tokenize.RandomOptions{Store: store, TTL: time.Hour})
			token, _, err := tokenize.One(t.Context(), f, subject(1), nil, "secret")
			require.NoError(t, err)
			store.change = change
			_, err = tokenize.OneBack(t.Context(), f, subject(1), nil, token, 0)
			require.Error(t, err)
			require.True(t, errors.Is(err, tokenize.ErrBinding) || errors.Is(err, tokenize.ErrKeyMissing) || errors.Is(err, tokenize.ErrToken), err)
		})
	}
}

type tampered struct {
	tokenize.Store
	change func(e *tokenize.Entry)
	fail   error
	full   bool
}

func (s *tampered) Find(ctx context.Context, tokenizer string, places []tokenize.Place) ([]tokenize.Entry, error) {
	out, err := s.Store.Find(ctx, tokenizer, places)
	for i := range out {
		if s.change != nil {
			s.change(&out[i])
		}
	}
	return out, errors.Join(err, s.fail)
}

func (s *tampered) Insert(ctx context.Context, entries []tokenize.Entry) ([]tokenize.Result, error) {
	if s.full {
		out := make([]tokenize.Result, len(entries))
		for i := range out {
			out[i].Outcome = tokenize.TokenTaken
		}
		return out, nil
	}
	if s.fail != nil {
		return nil, s.fail
	}
	return s.Store.Insert(ctx, entries)
}

func TestRandomStoreTrouble(t *testing.T) {
	away := errors.New("away")
	store := &tampered{Store: memstore.New(), fail: away}
	f := newRandom(t, tokenize.RandomOptions{Store: store})
	items := []tokenize.Item{{Subject: subject(1), Value: "x"}}
	require.ErrorIs(t, f.Tokenize(t.Context(), items), away)
	store.fail, store.full = nil, true
	require.NoError(t, f.Tokenize(t.Context(), items))
	require.ErrorIs(t, items[0].Err, tokenize.ErrExhausted)
	require.Empty(t, items[0].Token)
}

func TestSameToken(t *testing.T) {
	keys := &tokenizetest.Keys{}
	now := time.Unix(1_700_000_000, 0)
	store := memstore.New()
	f := newRandom(t, tokenize.RandomOptions{Keys: keys, Store: store, SameToken: true, TTL: time.Hour, Now: func() time.Time { return now }})
	items := []tokenize.Item{
		{Subject: subject(1), Value: "a"}, {Subject: subject(1), Value: "a"}, {Subject: subject(1), Value: "b"},
		{Subject: subject(2), Value: "a"}, {Subject: subject(1), Value: "a", AssociatedData: []byte("x")},
	}
	require.NoError(t, f.Tokenize(t.Context(), items))
	tokens := map[string]bool{}
	for i := range items {
		require.NoError(t, items[i].Err)
		tokens[items[i].Token] = true
	}
	require.Equal(t, items[0].Token, items[1].Token)
	require.Len(t, tokens, 4)
	require.NoError(t, keys.Rotate(tokenize.Owner{Tenant: "acme", Kind: "customer", ID: "cus_1"}))
	again, version, err := tokenize.One(t.Context(), f, subject(1), nil, "a")
	require.NoError(t, err)
	require.Equal(t, items[0].Token, again, "also after a rotation")
	require.EqualValues(t, 1, version)
	now = now.Add(2 * time.Hour)
	fresh, version, err := tokenize.One(t.Context(), f, subject(1), nil, "a")
	require.NoError(t, err)
	require.NotEqual(t, again, fresh, "an expired token is replaced")
	require.EqualValues(t, 2, version)
	back, err := tokenize.OneBack(t.Context(), f, subject(1), nil, fresh, 0)
	require.NoError(t, err)
	require.Equal(t, "a", back)
}

// A small format under eight goroutines: no token is given twice, equal values get
// equal tokens, and the last use goes to one.
func TestRandomRaces(t *testing.T) {
	f := newRandom(t, tokenize.RandomOptions{Format: must(tokenize.Pattern("[0-9]{6}")), SameToken: true, MaxUses: 8})
	var mu sync.Mutex
	owners := map[string]string{}
	byValue := map[string]string{}
	uses := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			items := make([]tokenize.Item, 400)
			for i := range items {
				items[i] = tokenize.Item{Subject: subject(i % 3), Value: fmt.Sprintf("%06d", i)}
			}
			if err := f.Tokenize(context.Background(), items); err != nil {
				t.Error(err)
			}
			values := slices.Clone(items)
			if err := f.Detokenize(context.Background(), items); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for i := range items {
				if values[i].Value != items[i].Value || items[i].Err != nil || items[i].Token == items[i].Value {
					t.Error("wrong value", items[i].Err)
				}
				if old, ok := owners[items[i].Token]; ok && old != items[i].Value {
					t.Error("one token for two values")
				}
				if old, ok := byValue[items[i].Value]; ok && old != items[i].Token {
					t.Error("two tokens for one value")
				}
				owners[items[i].Token], byValue[items[i].Value] = items[i].Value, items[i].Token
				uses++
			}
		})
	}
	wg.Wait()
	require.Equal(t, 8*400, uses)
	for token := range owners {
		_, err := tokenize.OneBack(t.Context(), f, subject(0), nil, token, 0)
		require.Error(t, err)
	}
}

// A token that is several times in a batch takes as many uses.
func TestRepeatedUses(t *testing.T) {
	f := newRandom(t, tokenize.RandomOptions{MaxUses: 2})
	token, _, err := tokenize.One(t.Context(), f, subject(1), nil, "x")
	require.NoError(t, err)
	items := []tokenize.Item{{Subject: subject(1), Token: token}, {Subject: subject(1), Token: token}, {Subject: subject(1), Token: token}}
	require.NoError(t, f.Detokenize(t.Context(), items))
	require.NoError(t, items[0].Err)
	require.NoError(t, items[1].Err)
	require.ErrorIs(t, items[2].Err, tokenize.ErrUsedUp)
	require.Empty(t, items[2].Value)
}

func TestRandomOptions(t *testing.T) {
	_, err := tokenize.NewRandom(tokenize.RandomOptions{Prefix: "a b", TTL: 1, MaxUses: -1})
	for _, says := range []string{"Name", "Keys", "Store", "Prefix", "TTL", "MaxUses"} {
		require.ErrorContains(t, err, says)
	}
	_, err = tokenize.NewRandom(tokenize.RandomOptions{Name: "n", Keys: &tokenizetest.Keys{}, Store: memstore.New(), Format: tokenize.SSN(), Prefix: "x"})
	require.Error(t, err)
	f := newRandom(t, tokenize.RandomOptions{Prefix: "card-"})
	items := []tokenize.Item{
		{Subject: subject(1), Value: strings.Repeat("x", tokenize.MaxValue)},
		{Subject: subject(1), Value: strings.Repeat("x", tokenize.MaxValue+1)},
		{Subject: subject(1), Metadata: map[string]string{"a": strings.Repeat("x", tokenize.MaxMetadata)}},
	}
	require.NoError(t, f.Tokenize(t.Context(), items))
	require.NoError(t, items[0].Err)
	require.True(t, strings.HasPrefix(items[0].Token, "card-"))
	require.ErrorIs(t, items[1].Err, tokenize.ErrValue)
	require.Error(t, items[2].Err)
	require.Equal(t, "[tokenizer]", fmt.Sprint(f))
}

// brokenTake is a store that is away when uses are taken.
type brokenTake struct{ tokenize.Store }

func (brokenTake) Take(context.Context, string, []tokenize.Place) ([]tokenize.Place, error) {
	return nil, errors.New("away")
}

// No value leaves a call that could not take its use.
func TestNoValueWithoutItsUse(t *testing.T) {
	f := newRandom(t, tokenize.RandomOptions{MaxUses: 1, Store: brokenTake{memstore.New()}})
	items := []tokenize.Item{{Subject: subject(1), Value: "x", Metadata: map[string]string{"a": "b"}}}
	require.NoError(t, f.Tokenize(t.Context(), items))
	items[0].Value, items[0].Metadata = "", nil
	require.Error(t, f.Detokenize(t.Context(), items))
	require.Empty(t, items[0].Value)
	require.Nil(t, items[0].Metadata)
}

// A forgotten subject's tokens are that, also when their rows are gone.
func TestForgottenTokensWithoutRows(t *testing.T) {
	keys, store := &tokenizetest.Keys{}, memstore.New()
	f := newRandom(t, tokenize.RandomOptions{Keys: keys, Store: store})
	token, _, err := tokenize.One(t.Context(), f, subject(1), nil, "x")
	require.NoError(t, err)
	keys.Forget(subject(1))
	n, err := f.Delete(t.Context(), "acme", []string{token})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	_, err = tokenize.OneBack(t.Context(), f, subject(1), nil, token, 0)
	require.ErrorIs(t, err, tokenize.ErrForgotten)
}

// What a store or JSON would change on its way is refused.
func TestRandomBadText(t *testing.T) {
	f := newRandom(t, tokenize.RandomOptions{Format: tokenize.Alphanumeric()})
	for _, m := range []map[string]string{{"a": "\xff"}, {"\xff": "a"}} {
		items := []tokenize.Item{{Subject: subject(1), Value: "abcdefgh", Metadata: m}, {Subject: subject(1), Value: "abcdefgh"}}
		require.NoError(t, f.Tokenize(t.Context(), items))
		require.ErrorContains(t, items[0].Err, "UTF-8")
		require.NoError(t, items[1].Err)
	}
	n, err := f.Delete(t.Context(), "acme", []string{"abc\xff", "a\x00", ""})
	require.NoError(t, err)
	require.Zero(t, n)
	_, err = f.Delete(t.Context(), "\xff", []string{"a"})
	require.Error(t, err)
}
