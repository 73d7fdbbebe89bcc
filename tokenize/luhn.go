package tokenize

// luhnTerms are what a digit adds in the Luhn check (ISO/IEC 7812-1, annex B): the
// digit itself, or the sum of the digits of twice it.
var luhnTerms = [2][10]uint8{
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
	{0, 2, 4, 6, 8, 1, 3, 5, 7, 9},
}

// luhnHalf is the inverse of the second.
var luhnHalf = [10]uint8{0, 5, 1, 6, 2, 7, 3, 8, 4, 9}

// luhnParity tells which of luhnTerms is for the digit at position i of n.
func luhnParity(i, n int) int { return (n - i + 1) & 1 }

// luhnSum is what digits add that are at position i and on of n.
func luhnSum[T byte | uint16](digits []T, i, n int) int {
	sum, parity := 0, luhnParity(i, n)
	for _, d := range digits {
		sum += int(luhnTerms[parity][d])
		parity ^= 1
	}
	return sum
}

// luhnDigit is the digit at position i of n that adds term.
func luhnDigit(term, i, n int) byte {
	if luhnParity(i, n) == 1 {
		return luhnHalf[term]
	}
	return byte(term)
}
