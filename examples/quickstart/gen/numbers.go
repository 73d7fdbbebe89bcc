package main

import (
	"fmt"
	"strings"
)

// luhnDigit returns the digit that makes digits, followed by it, pass Luhn's check.
func luhnDigit(digits string) byte {
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 0 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return byte('0' + (10-sum%10)%10)
}

// iban puts the two check digits of ISO 13616 between country and account.
func iban(country, account string) string {
	return fmt.Sprintf("%s%02d%s", country, 98-mod97(account+country+"00"), account)
}

// mod97 reads letters as two digits, A=10 to Z=35, as ISO 7064 does.
func mod97(s string) int {
	rest := 0
	for _, c := range s {
		if c >= 'A' {
			rest = (rest*100 + int(c-'A') + 10) % 97
		} else {
			rest = (rest*10 + int(c-'0')) % 97
		}
	}
	return rest
}

// spaced writes s in groups of four, as people do.
func spaced(s string) string {
	var b strings.Builder
	for i, c := range s {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}
