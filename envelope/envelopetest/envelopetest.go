// Package envelopetest gives users' tests a real Keyring that needs nothing
// installed: real keys and real sealing, kept in memory.
package envelopetest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"testing"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
	"github.com/lethe-go/lethe/kms"
)

// NewKeyring returns an initialised Keyring over a memory store, a memory
// ledger and a fresh KMS key, closed when the test ends. Options may be given
// once; its Ledger is replaced if it is nil.
func NewKeyring(t testing.TB, opts ...envelope.Options) *envelope.Keyring {
	t.Helper()
	var o envelope.Options
	if len(opts) > 1 {
		t.Fatal("envelopetest: at most one Options")
	}
	if len(opts) == 1 {
		o = opts[0]
	}
	if o.Ledger == nil {
		o.Ledger = &memledger.Ledger{}
	}
	store, key := memstore.New(), NewKey(t)
	if err := envelope.Init(t.Context(), store, key, o); err != nil {
		t.Fatalf("envelopetest: %v", err)
	}
	ring, err := envelope.NewKeyring(t.Context(), store, key, o)
	if err != nil {
		t.Fatalf("envelopetest: %v", err)
	}
	t.Cleanup(ring.Close)
	return ring
}

// NewKey returns a KMS key in memory: AES-256-GCM under a random key.
func NewKey(t testing.TB) kms.Key {
	t.Helper()
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	block, err := aes.NewCipher(secret[:])
	if err != nil {
		t.Fatalf("envelopetest: %v", err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatalf("envelopetest: %v", err)
	}
	return memKey{a}
}

type memKey struct{ aead cipher.AEAD }

func (k memKey) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return k.aead.Seal(nil, nil, plaintext, associatedData), nil
}

func (k memKey) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out, err := k.aead.Open(nil, nil, ciphertext, associatedData)
	if err != nil {
		return nil, kms.Rejected("decrypt", "", nil)
	}
	return out, nil
}
