package peers

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"

	capital "github.com/capitalone/fpe/ff1"

	"github.com/lethe-go/lethe/fpe"
)

// FF1 encrypts strings of digits under AES-256.
type FF1 struct {
	// Name is that of the benchmarks.
	Name string
	// Module is the path of the Go module, "" for the standard library.
	Module string
	// Use says how it is used.
	Use string
	// Batch is the number of values in one call.
	Batch int
	// New makes a function that encrypts values of a length in place of the strings,
	// each under the tweak with the same index, and its inverse.
	New func(key []byte) (encrypt, decrypt func(values []string, tweaks [][]byte) error, err error)
}

// AllFF1 returns the implementations, Lethe and the floor first. The floor is
// the AES calls of the ten rounds alone and does not decrypt: its inverse is nil.
func AllFF1() []FF1 {
	const lethe = "github.com/lethe-go/lethe"
	return []FF1{
		{"lethe", lethe, "fpe.Text, one value a call", 1, newLetheFF1},
		{"lethe-batch", lethe, "fpe.Text, 256 values a call", 256, newLetheFF1},
		{"floor", "", "the AES calls of the rounds through crypto/aes, each waiting for the one before", 1, newFloorFF1},
		{"capitalone", "github.com/capitalone/fpe", "ff1.Cipher, one value a call", 1, newCapitalFF1},
	}
}

func newLetheFF1(key []byte) (encrypt, decrypt func([]string, [][]byte) error, err error) {
	f, err := fpe.NewFF1(key, fpe.Digits.Radix())
	if err != nil {
		return nil, nil, err
	}
	text, err := fpe.NewText(f, fpe.Digits)
	if err != nil {
		return nil, nil, err
	}
	run := func(one func(string, []byte) (string, error), batch func([]string, [][]byte) ([]string, error)) func([]string, [][]byte) error {
		return func(values []string, tweaks [][]byte) (err error) {
			if len(values) == 1 {
				values[0], err = one(values[0], tweaks[0])
				return err
			}
			out, err := batch(values, tweaks)
			copy(values, out)
			return err
		}
	}
	return run(text.Encrypt, text.EncryptBatch), run(text.Decrypt, text.DecryptBatch), nil
}

// newCapitalFF1 uses one cipher for all values, as one goroutine may.
func newCapitalFF1(key []byte) (encrypt, decrypt func([]string, [][]byte) error, err error) {
	c, err := capital.NewCipher(10, 8, key, make([]byte, 8))
	if err != nil {
		return nil, nil, err
	}
	run := func(one func(string, []byte) (string, error)) func([]string, [][]byte) error {
		return func(values []string, tweaks [][]byte) (err error) {
			for i := range values {
				if values[i], err = one(values[i], tweaks[i]); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return run(c.EncryptWithTweak), run(c.DecryptWithTweak), nil
}

func newFloorFF1(key []byte) (encrypt, decrypt func([]string, [][]byte) error, err error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	x := make([]byte, aes.BlockSize)
	return func(values []string, _ [][]byte) error {
		for _, v := range values {
			chain(block, x, floorCalls(len(v)))
		}
		return nil
	}, nil, nil
}

func chain(block cipher.Block, x []byte, calls int) {
	for range calls {
		block.Encrypt(x, x)
	}
}

// floorCalls are the AES calls of ten rounds of FF1: one each while half of the
// digits fits a block together with the round, three for 100 digits.
func floorCalls(digits int) int {
	if digits > 72 {
		return 30
	}
	return 10
}

// Tweak returns a tweak of 8 bytes.
func Tweak(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

// DigitsOf returns a value of that many digits.
func DigitsOf(length int) string {
	b := make([]byte, length)
	for i := range b {
		b[i] = byte('0' + (3*i+1)%10)
	}
	return string(b)
}
