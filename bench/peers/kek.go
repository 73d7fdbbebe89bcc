package peers

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"sync/atomic"
)

// kek is a KMS key in memory that counts its calls. It is a kms.Key, and an
// AEAD of Tink.
type kek struct {
	aead  cipher.AEAD
	calls atomic.Int64
}

func newKEK() (*kek, error) {
	aead, err := newGCM(randomBytes(32))
	if err != nil {
		return nil, err
	}
	return &kek{aead: aead}, nil
}

func (k *kek) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	k.calls.Add(1)
	out := make([]byte, 12, 12+len(plaintext)+k.aead.Overhead())
	_, _ = rand.Read(out)
	return k.aead.Seal(out, out, plaintext, associatedData), nil
}

func (k *kek) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	k.calls.Add(1)
	if len(ciphertext) < 12 {
		return nil, errTruncated
	}
	return k.aead.Open(nil, ciphertext[:12], ciphertext[12:], associatedData)
}

func (k *kek) EncryptWithContext(_ context.Context, plaintext, associatedData []byte) ([]byte, error) {
	return k.Encrypt(plaintext, associatedData)
}

func (k *kek) DecryptWithContext(_ context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	return k.Decrypt(ciphertext, associatedData)
}

// KMSCalls is embedded in adapters.
func (k *kek) KMSCalls() int64 { return k.calls.Load() }

// noKMS is embedded in adapters that work with a key of their own.
type noKMS struct{}

func (noKMS) KMSCalls() int64 { return 0 }
func (noKMS) Close()          {}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: it ends the program instead
	return b
}
