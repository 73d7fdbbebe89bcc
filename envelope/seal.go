package envelope

import (
	"crypto/cipher"
	"crypto/rand"
	"slices"

	"github.com/lethe-go/lethe/envelope/internal/secret"
)

// seal appends nonce, ciphertext and tag to dst.
func (s Suite) seal(a cipher.AEAD, dst, plaintext, aad []byte) []byte {
	n, size := len(dst), a.NonceSize()
	dst = slices.Grow(dst, s.overhead()+len(plaintext))[:n+size]
	if size > 0 {
		rand.Read(dst[n:]) // never fails: crypto/rand ends the program instead
	}
	return a.Seal(dst, dst[n:], plaintext, aad)
}

// seal is Suite.seal with a nonce from r.
func (r *randomness) seal(a cipher.AEAD, dst, plaintext, aad []byte) []byte {
	n, size := len(dst), a.NonceSize()
	dst = slices.Grow(dst, size)[:n+size]
	r.read(dst[n:])
	return a.Seal(dst, dst[n:], plaintext, aad)
}

// open appends the plaintext of a body made by seal. Any failure is ErrDecrypt.
func (s Suite) open(a cipher.AEAD, dst, body, aad []byte) ([]byte, error) {
	if len(body) < s.overhead() {
		return nil, ErrDecrypt
	}
	n := a.NonceSize()
	out, err := a.Open(dst, body[:n], body[n:], aad)
	if err != nil {
		return nil, ErrDecrypt
	}
	return out, nil
}

// openKey unwraps a 32-byte key, which the caller wipes.
func (s Suite) openKey(a cipher.AEAD, wrapped, aad []byte) (key []byte, err error) {
	key = make([]byte, 0, keySize)
	secret.Do(func() { key, err = s.open(a, key, wrapped, aad) })
	if err == nil && len(key) != keySize {
		clear(key)
		err = ErrDecrypt
	}
	return key, err
}

// wrapKey seals a 32-byte key under another.
func (s Suite) wrapKey(under []byte, key, aad []byte) ([]byte, error) {
	a, err := s.aead(under)
	if err != nil {
		return nil, err
	}
	return s.seal(a, make([]byte, 0, keySize+s.overhead()), key, aad), nil
}
