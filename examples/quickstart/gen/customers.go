package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/brianvoe/gofakeit/v7"
)

// seed is fixed, so that everybody gets the same people.
const seed = 20_260_301

var header = []string{"id", "name", "email", "phone", "card", "iban", "born", "note", "plan"}

// write writes the first n customers as CSV.
func write(w io.Writer, n int) error {
	f := gofakeit.New(seed)
	out := csv.NewWriter(w)
	if err := out.Write(header); err != nil {
		return err
	}
	for i := range n {
		if err := out.Write(customer(f, i+1)); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func customer(f *gofakeit.Faker, number int) []string {
	r := pickRegion(f)
	first, last := pick(f, r.given), pick(f, r.family)
	if r.swap {
		first, last = last, first
	}
	return []string{
		fmt.Sprintf("cus_%05d", number),
		first + r.join + last,
		email(f, number),
		f.Numerify(pick(f, r.phones)),
		card(f),
		account(f, r),
		f.DateRange(date(1931, 1, 1), date(2007, 12, 31)).Format(time.DateOnly),
		note(f, number),
		pick(f, []string{"free", "free", "free", "plus", "plus", "business"}),
	}
}

func pick[T any](f *gofakeit.Faker, from []T) T { return from[f.IntN(len(from))] }

func pickRegion(f *gofakeit.Faker) region {
	at := f.IntN(100)
	for _, r := range regions {
		if at -= r.weight; at < 0 {
			return r
		}
	}
	return regions[0]
}

func date(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

// email is unique, under a domain that RFC 2606 keeps from having mail. Some
// people type capitals.
func email(f *gofakeit.Faker, number int) string {
	name := strings.Map(func(c rune) rune {
		if c == '_' || c == '-' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return -1 // made-up user names hold @ and spaces too
	}, strings.ToLower(f.Username()))
	address := fmt.Sprintf("%s.%d@%s", name, number, pick(f, []string{"example.com", "example.org", "example.net", "mail.example"}))
	if f.IntN(20) == 0 {
		address = strings.ToUpper(address[:1]) + address[1:]
	}
	return address
}

// card starts like the test numbers of payment providers and passes Luhn's check.
func card(f *gofakeit.Faker) string {
	digits := f.Numerify(pick(f, []string{"424242#########", "400000#########", "555555#########", "222300#########", "37828#########"}))
	digits += string(luhnDigit(digits))
	if f.Bool() {
		return spaced(digits)
	}
	return digits
}

func account(f *gofakeit.Faker, r region) string {
	b := pick(f, r.banks)
	number := iban(b.country, f.Numerify(strings.ToUpper(f.Lexify(b.account))))
	if f.Bool() {
		return spaced(number)
	}
	return number
}

// note is what an agent types: commas, quotes, lines, emoji, often nothing.
func note(f *gofakeit.Faker, number int) string {
	switch f.IntN(10) {
	case 0:
		return fmt.Sprintf("Called about invoice %d, wants a copy by post.", 10_000+number)
	case 1:
		return fmt.Sprintf("Said: \"the %s arrived broken\", sent a new one, free of charge.", f.ProductName())
	case 2:
		return "VIP 🌟, always polite; birthday card 🎂 next year"
	case 3:
		return fmt.Sprintf("Moved to %s.\nNew address to follow,\n\"after the holidays\".", f.City())
	case 4:
		return "Refund 49,90 € 💶 agreed; see mail of Tuesday.\n-- support, 2nd line"
	case 5:
		return fmt.Sprintf("Allergic to %s 🥜, ask before sending samples", pick(f, []string{"nuts", "peanuts", "sesame", "\"everything\""}))
	case 6:
		return "=SUM(A1:A2) typed into the name field, asked why, no answer 🤷🏽‍♀️"
	}
	return ""
}
