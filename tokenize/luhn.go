package tokenize

// luhnDouble is what a doubled digit adds in the Luhn check (ISO/IEC 7812-1,
// annex B): the sum of the digits of twice the digit.
var luhnDouble = [10]uint8{0, 2, 4, 6, 8, 1, 3, 5, 7, 9}

// luhnHalf is its inverse.
var luhnHalf = [10]uint8{0, 5, 1, 6, 2, 7, 3, 8, 4, 9}

// luhnTerm is what the digit at position i of n adds.
func luhnTerm(digit byte, i, n int) int {
	if (n-i)&1 == 0 {
		return int(luhnDouble[digit])
	}
	return int(digit)
}

// luhnDigit is the digit at position i of n that adds term.
func luhnDigit(term, i, n int) byte {
	if (n-i)&1 == 0 {
		return luhnHalf[term]
	}
	return byte(term)
}
