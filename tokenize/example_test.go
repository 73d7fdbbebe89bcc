package tokenize_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/lethe-go/lethe/tokenize"
	"github.com/lethe-go/lethe/tokenize/memstore"
	"github.com/lethe-go/lethe/tokenize/tokenizetest"
)

var (
	ctx  = context.Background()
	keys = &tokenizetest.Keys{} // programs: lethe.TokenKeys(ring)
	ada  = tokenize.Subject{Kind: "customer", ID: "cus_1"}
)

// Random tokens in a store: a batch in which one item is wrong.
func ExampleRandom() {
	cards, err := tokenize.NewRandom(tokenize.RandomOptions{Name: "pan", Keys: keys, Store: memstore.New()})
	if err != nil {
		fmt.Println(err)
		return
	}
	items := []tokenize.Item{{Subject: ada, Value: "4111111111111111"}, {Value: "4111111111111111"}}
	if err := cards.Tokenize(ctx, items); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(items[0].Token), items[0].Token[:4])
	fmt.Println(items[1].Err)
	value, err := tokenize.OneBack(ctx, cards, ada, nil, items[0].Token, 0)
	fmt.Println(value, err)
	// Output:
	// 30 tok_
	// tokenize: no subject: kind and id must both be set
	// 4111111111111111 <nil>
}

// Tokens that all shops of a tenant can join on. They survive every forget, which
// the program says it knows.
func ExampleNewFormatPreserving() {
	card, err := tokenize.CardFormat(tokenize.CardOptions{KeepLast4: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	cards, err := tokenize.NewFormatPreserving(tokenize.FormatPreservingOptions{
		Name: "pan", Format: card, Keys: keys, Scope: tokenize.ScopeTenant, AcknowledgeUnforgettable: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	shop := tokenize.Subject{Tenant: "acme"}
	one, version, _ := tokenize.One(ctx, cards, shop, nil, "4111111111111111")
	two, _, _ := tokenize.One(ctx, cards, shop, nil, "4111111111111111")
	fmt.Println(one == two, one[12:], version)
	// Output: true 1111 1
}

// A pattern that leaves too few values is refused, with the arithmetic.
func ExamplePattern() {
	_, err := tokenize.Pattern("([A-Z]{2})[0-9]{6}[A-D]")
	fmt.Println(err)
	_, err = tokenize.Pattern("([0-9]{4})-[0-9]{4}")
	fmt.Println(errors.Is(err, tokenize.ErrDomain))
	fmt.Println(err)
	// Output:
	// <nil>
	// true
	// tokenize: pattern "([0-9]{4})-[0-9]{4}": tokenize: too few values are possible: 10^4 = 10,000, and at least 1,000,000 are required: keep less, take longer values, or use opaque random tokens
}

// Card numbers whose middle would be too small a secret.
func ExampleCardFormat() {
	_, err := tokenize.CardFormat(tokenize.CardOptions{KeepBIN: 6, KeepLast4: true, LuhnValid: true})
	fmt.Println(err)
	// Output: tokenize: CardFormat: 16 digits without the 6 and 4 kept and the check digit leave 5: tokenize: too few values are possible: 10^5 = 100,000, and at least 1,000,000 are required: keep less, take longer values, or use opaque random tokens
}

// Pseudonyms of two months cannot be joined.
func ExampleOneWay() {
	visitors, err := tokenize.NewOneWay(tokenize.OneWayOptions{
		Domain: "web statistics", Purpose: "reach", Keys: keys, Scope: tokenize.ScopeTenant, AcknowledgeUnforgettable: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	november, _, _ := tokenize.One(ctx, visitors.At("2026-11"), ada, nil, "203.0.113.7")
	again, _, _ := tokenize.One(ctx, visitors.At("2026-11"), ada, nil, "203.0.113.7")
	december, _, _ := tokenize.One(ctx, visitors.At("2026-12"), ada, nil, "203.0.113.7")
	fmt.Println(november == again, november == december)
	_, err = tokenize.OneBack(ctx, visitors, ada, nil, november, 0)
	fmt.Println(err)
	// Output:
	// true false
	// tokenize: one-way pseudonyms cannot be turned back
}

// The days between a patient's visits stay.
func ExampleDateShift() {
	visits, err := tokenize.NewDateShift(tokenize.DateShiftOptions{Name: "visits", Keys: keys, Days: 90})
	if err != nil {
		fmt.Println(err)
		return
	}
	items := []tokenize.Item{{Subject: ada, Value: "2026-03-01"}, {Subject: ada, Value: "2026-03-15"}}
	if err := visits.Tokenize(ctx, items); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(items[0].Token < items[1].Token, items[0].Token == items[0].Value)
	// Output: true false
}
