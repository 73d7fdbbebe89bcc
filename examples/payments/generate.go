package main

import (
	"fmt"
	"math/rand/v2"
)

// generate writes cards.csv: payments with made-up cards, the same for every run.
// Each card is used about twice; one in a hundred was mistyped.
func (s *show) generate() (_ int, err error) {
	out, err := createCSV(s.path("cards.csv"), "shop", "order", "card")
	if err != nil {
		return 0, err
	}
	defer out.close(&err)
	r := rand.New(rand.NewPCG(2, uint64(s.n))) //nolint:gosec // made-up cards, not secrets
	for i := range s.n {
		card := cardNumber(r.IntN(s.n/2 + 1))
		if i%100 == 99 {
			card = mistyped(r, card)
		}
		shop := "store"
		if r.IntN(2) == 0 {
			shop = "web"
		}
		if err := out.Write([]string{shop, fmt.Sprintf("o%07d", i), card}); err != nil {
			return i, err
		}
	}
	return s.n, nil
}

// cardNumber makes a number of 16 digits under one of the BINs that card schemes
// publish for tests, with the digit that makes it pass the Luhn check.
func cardNumber(n int) string {
	bins := []string{"411111", "424242", "555555", "510510", "222300"}
	number := fmt.Sprintf("%s%09d", bins[n%len(bins)], n/len(bins)*7919%1_000_000_000)
	for digit := '0'; digit < '9'; digit++ {
		if passesLuhn(number + string(digit)) {
			return number + string(digit)
		}
	}
	return number + "9"
}

// mistyped changes a digit, cuts one off, puts a letter in, or is another kind of card.
func mistyped(r *rand.Rand, card string) string {
	switch r.IntN(4) {
	case 0:
		return card[:15] + string('0'+(card[15]-'0'+1)%10)
	case 1:
		return card[:15]
	case 2:
		return card[:7] + "O" + card[8:]
	default:
		return "378282246310005" // 15 digits: six and four kept would leave five
	}
}

// passesLuhn reports whether 16 digits pass the Luhn check.
func passesLuhn(card string) bool {
	sum := 0
	for i := range len(card) {
		d := int(card[i]) - '0'
		if d < 0 || d > 9 {
			return false
		}
		if i%2 == 0 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return len(card) == 16 && sum%10 == 0
}
