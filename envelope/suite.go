package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/lethe-go/lethe/envelope/internal/secret"
)

// Suite names a frozen set of algorithms; there are no knobs below it.
type Suite uint8

// The suites.
const (
	// SuiteAES256GCM: AES-256-GCM with random 96-bit nonces (NIST SP 800-38D), in
	// FIPS 140-3 mode drawn inside the module, its approved use. Overhead 28 bytes.
	// The default.
	SuiteAES256GCM Suite = 1
	// SuiteXChaCha: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) with random
	// 192-bit nonces. Overhead 40 bytes. GODEBUG=fips140=only refuses it, with an error.
	SuiteXChaCha Suite = 2
)

const keySize = 32

func (s Suite) valid() bool { return s == SuiteAES256GCM || s == SuiteXChaCha }

// overhead is nonce plus tag, in bytes.
func (s Suite) overhead() int {
	if s == SuiteXChaCha {
		return chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
	}
	return 28
}

func (s Suite) nonceSize() int { return s.overhead() - 16 }

// drawn is how much randomness a seal takes, in bytes: what aead's NonceSize will say.
func (s Suite) drawn() int {
	if s == SuiteAES256GCM && fips140.Enabled() {
		return 0
	}
	return s.nonceSize()
}

// aead makes the suite's AEAD, for seal and open. Its NonceSize is 0 if it draws
// its nonces itself, which it writes before the ciphertext. It holds the key, and
// in suite 1 the key schedule, which nobody but package secret can wipe.
func (s Suite) aead(key []byte) (cipher.AEAD, error) {
	if secret.Wipes {
		return s.secretAEAD(key)
	}
	return s.newAEAD(key)
}

func (s Suite) secretAEAD(key []byte) (a cipher.AEAD, err error) {
	secret.Do(func() { a, err = s.newAEAD(key) })
	return a, err
}

func (s Suite) newAEAD(key []byte) (cipher.AEAD, error) {
	switch s {
	case SuiteAES256GCM:
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		if fips140.Enabled() {
			return cipher.NewGCMWithRandomNonce(block)
		}
		return cipher.NewGCM(block) // the same, but one call of the generator can draw all nonces of a record
	case SuiteXChaCha:
		return chacha20poly1305.NewX(key)
	}
	return nil, fmt.Errorf("envelope: unknown suite %d: written by a newer version, or damaged", s)
}
