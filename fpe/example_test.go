package fpe_test

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/lethe-go/lethe/fpe"
)

// The key of the examples is that of NIST's samples; draw yours from crypto/rand
// and keep it wrapped.
func exampleKey() []byte {
	key, _ := hex.DecodeString("2b7e151628aed2a6abf7158809cf4f3c")
	return key
}

func Example() {
	ff1, err := fpe.NewFF1(exampleKey(), fpe.Digits.Radix())
	if err != nil {
		panic(err)
	}
	digits, err := fpe.NewText(ff1, fpe.Digits)
	if err != nil {
		panic(err)
	}
	// NIST's sample 2.
	token, err := digits.Encrypt("0123456789", []byte("9876543210"))
	fmt.Println(token, err)
	number, err := digits.Decrypt(token, []byte("9876543210"))
	fmt.Println(number, err)
	// Output:
	// 6124200773 <nil>
	// 0123456789 <nil>
}

func ExampleNewAlphabet() {
	alphabet, err := fpe.NewAlphabet("ABCDEFGHJKLMNPQRSTUVWXYZ") // without I and O
	if err != nil {
		panic(err)
	}
	ff1, err := fpe.NewFF1(exampleKey(), alphabet.Radix())
	if err != nil {
		panic(err)
	}
	plates, err := fpe.NewText(ff1, alphabet)
	if err != nil {
		panic(err)
	}
	token, err := plates.Encrypt("ABCDEFGH", []byte("plate"))
	if err != nil {
		panic(err)
	}
	plate, err := plates.Decrypt(token, []byte("plate"))
	fmt.Println(len(token), plate, err)

	_, err = plates.Encrypt("ABCDIFGH", []byte("plate"))
	var bad *fpe.SymbolError
	fmt.Println(errors.As(err, &bad), bad.Position)
	// Output:
	// 8 ABCDEFGH <nil>
	// true 4
}

func ExampleFF1_Encrypt() {
	ff1, err := fpe.NewFF1(exampleKey(), 10)
	if err != nil {
		panic(err)
	}
	numerals := []uint16{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	numerals, err = ff1.Encrypt(numerals[:0], numerals, nil) // in place
	fmt.Println(numerals, err)
	// Output: [2 4 3 3 4 7 7 4 8 4] <nil>
}

func ExampleFF1_EncryptBatch() {
	ff1, err := fpe.NewFF1(exampleKey(), 10)
	if err != nil {
		panic(err)
	}
	values := [][]uint16{
		{0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
		{0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
	}
	err = ff1.EncryptBatch(values, [][]byte{nil, []byte("9876543210")})
	fmt.Println(values[0], err)
	fmt.Println(values[1])
	// Output:
	// [2 4 3 3 4 7 7 4 8 4] <nil>
	// [6 1 2 4 2 0 0 7 7 3]
}

func ExampleText_EncryptBatch() {
	ff1, err := fpe.NewFF1(exampleKey(), 10)
	if err != nil {
		panic(err)
	}
	digits, err := fpe.NewText(ff1, fpe.Digits)
	if err != nil {
		panic(err)
	}
	tokens, err := digits.EncryptBatch([]string{"0123456789", "0123456789"}, [][]byte{nil, []byte("9876543210")})
	fmt.Println(tokens, err)
	// Output: [2433477484 6124200773] <nil>
}

// Read old tokens of five digits once, to store the values in another way.
func ExampleNewLegacySmallDomainDecrypter() {
	old, err := fpe.NewLegacySmallDomainDecrypter(exampleKey(), 10)
	if err != nil {
		panic(err)
	}
	value, err := old.DecryptText(fpe.Digits, "91275", nil)
	fmt.Println(len(value), err)

	ff1, err := fpe.NewFF1(exampleKey(), 10)
	if err != nil {
		panic(err)
	}
	_, err = ff1.Decrypt(nil, []uint16{9, 1, 2, 7, 5}, nil)
	fmt.Println(errors.Is(err, fpe.ErrTooShort))
	// Output:
	// 5 <nil>
	// true
}
