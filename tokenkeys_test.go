package lethe_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/tokenize"
	"github.com/lethe-go/lethe/tokenize/memstore"
)

var tokenSubject = envelope.Subject{Tenant: "acme", Kind: "customer", ID: "cus_1"}

// tokenizersOf are one of each kind, over the keys of a ring.
func tokenizersOf(t testing.TB, ring *envelope.Keyring) map[string]tokenize.Tokenizer {
	t.Helper()
	keys := lethe.TokenKeys(ring)
	card, err := tokenize.CardFormat(tokenize.CardOptions{KeepBIN: 6, KeepLast4: true})
	require.NoError(t, err)
	fpe, err := tokenize.NewFormatPreserving(tokenize.FormatPreservingOptions{Name: "pan", Format: card, Keys: keys, Purpose: "billing"})
	require.NoError(t, err)
	joinable, err := tokenize.NewFormatPreserving(tokenize.FormatPreservingOptions{Name: "pan", Format: card, Keys: keys, Scope: tokenize.ScopeTenant, AcknowledgeUnforgettable: true})
	require.NoError(t, err)
	random, err := tokenize.NewRandom(tokenize.RandomOptions{Name: "pan", Keys: keys, Store: memstore.New(), Purpose: "billing", SameToken: true})
	require.NoError(t, err)
	return map[string]tokenize.Tokenizer{"format-preserving": fpe, "joinable": joinable, "random": random}
}

// Rotating, forgetting and readmitting reach the tokens of a Keyring's subjects.
func TestTokenKeysOfAKeyring(t *testing.T) {
	const pan = "4111111111111111"
	for _, forget := range []string{"subject", "purpose"} {
		for name := range tokenizersOf(t, envelopetest.NewKeyring(t)) {
			t.Run(forget+"/"+name, func(t *testing.T) {
				ring := envelopetest.NewKeyring(t)
				tok := tokenizersOf(t, ring)[name]
				s := tokenize.Subject(tokenSubject)
				first, v1, err := tokenize.One(t.Context(), tok, s, []byte("ad"), pan)
				require.NoError(t, err)
				_, err = ring.Rotate(t.Context(), tokenSubject)
				if name == "joinable" {
					require.ErrorIs(t, err, envelope.ErrKeyMissing)
					require.NoError(t, ring.RotateTokenKey(t.Context(), "acme", ""))
				} else {
					require.NoError(t, err)
				}
				second, v2, err := tokenize.One(t.Context(), tok, s, []byte("ad"), pan)
				require.NoError(t, err)
				if name == "random" {
					require.Equal(t, first, second, "SameToken")
				} else {
					require.NotEqual(t, first, second)
					require.Equal(t, []uint32{1, 2}, []uint32{v1, v2})
				}
				for token, v := range map[string]uint32{first: v1, second: v2} {
					back, err := tokenize.OneBack(t.Context(), tok, s, []byte("ad"), token, v)
					require.NoError(t, err)
					require.Equal(t, pan, back)
				}
				if forget == "subject" {
					_, err = ring.Forget(t.Context(), tokenSubject)
				} else {
					_, err = ring.ForgetPurpose(t.Context(), tokenSubject, "billing")
				}
				require.NoError(t, err)
				back, err := tokenize.OneBack(t.Context(), tok, s, []byte("ad"), second, v2)
				if name == "joinable" {
					require.NoError(t, err, "tokens of a tenant outlive the subject, as acknowledged")
					return
				}
				require.ErrorIs(t, err, tokenize.ErrForgotten)
				require.ErrorIs(t, err, lethe.ErrForgotten)
				require.Empty(t, back)
				if forget == "subject" {
					require.NoError(t, ring.Readmit(t.Context(), tokenSubject))
				} else {
					require.NoError(t, ring.ReadmitPurpose(t.Context(), tokenSubject, "billing"))
				}
				_, _, err = tokenize.One(t.Context(), tok, s, []byte("ad"), pan)
				require.NoError(t, err)
				back, err = tokenize.OneBack(t.Context(), tok, s, []byte("ad"), second, v2)
				require.NotEqual(t, pan, back, "what was forgotten stays forgotten")
				require.True(t, name == "format-preserving" || err != nil)
			})
		}
	}
}

func TestTokenKeysRefuseBadSubjects(t *testing.T) {
	ring := envelopetest.NewKeyring(t)
	tok := tokenizersOf(t, ring)["format-preserving"]
	items := []tokenize.Item{
		{Subject: tokenize.Subject(tokenSubject), Value: "4111111111111111"},
		{Subject: tokenize.Subject{Kind: "customer", ID: " 1"}, Value: "4111111111111111"},
		{Subject: tokenize.Subject{Kind: "cus\x00tomer", ID: "1"}, Value: "4111111111111111"},
	}
	require.NoError(t, tok.Tokenize(t.Context(), items))
	require.NoError(t, items[0].Err)
	require.Error(t, items[1].Err)
	require.Error(t, items[2].Err)
	ring.Close()
	require.ErrorIs(t, tok.Tokenize(t.Context(), items), envelope.ErrClosed)
}

// Card numbers become tokens of the same form, kept apart for each customer.
func ExampleTokenKeys() {
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	card, err := tokenize.CardFormat(tokenize.CardOptions{KeepBIN: 6, KeepLast4: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	cards, err := tokenize.NewFormatPreserving(tokenize.FormatPreservingOptions{Name: "pan", Format: card, Keys: lethe.TokenKeys(ring)})
	if err != nil {
		fmt.Println(err)
		return
	}
	customer := tokenize.Subject{Kind: "customer", ID: "cus_1"}
	token, version, err := tokenize.One(ctx, cards, customer, nil, "4111111111111111")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(token[:6], len(token), token[12:])
	value, err := tokenize.OneBack(ctx, cards, customer, nil, token, version)
	fmt.Println(value, err)
	_, _ = ring.Forget(ctx, envelope.Subject(customer))
	_, err = tokenize.OneBack(ctx, cards, customer, nil, token, version)
	fmt.Println(err)
	// Output:
	// 411111 16 1111
	// 4111111111111111 <nil>
	// tokenize: the subject was forgotten: lethe: forgotten
}
