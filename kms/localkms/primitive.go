package localkms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"errors"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// primitive is Tink's tink.AEAD.
type primitive interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

var errNotApproved = errors.New("the key file has a key that is not AES-GCM; GODEBUG=fips140=only refuses it")

// newPrimitive returns what uses the keys of a keyset: Tink's own, except in FIPS
// 140-3 mode. Tink gives AES-GCM a nonce it drew itself, which is not an approved
// use; there the nonce must be drawn inside the Go cryptographic module. The bytes
// are the same.
func newPrimitive(h *keyset.Handle) (primitive, error) {
	if fips140.Enabled() {
		p, err := newApproved(h)
		if err == nil || fips140.Enforced() {
			return p, err
		}
	}
	p, err := tinkaead.New(h)
	if err != nil {
		return nil, errNotAEAD
	}
	return p, nil
}

// approved is the AES-GCM keys of a keyset, the primary one first.
type approved struct{ keys []approvedKey }

type approvedKey struct {
	prefix []byte // Tink's, which names the key; may be empty
	aead   cipher.AEAD
}

// newApproved refuses a keyset with keys of another kind, for which it would have
// to say of good ciphertext that it does not open.
func newApproved(h *keyset.Handle) (primitive, error) {
	p := &approved{}
	for i := range h.Len() {
		entry, err := h.Entry(i)
		if err != nil {
			return nil, errNotAEAD
		}
		if entry.KeyStatus() != keyset.Enabled {
			continue
		}
		k, err := approvedKeyOf(entry)
		if err != nil {
			return nil, err
		}
		p.keys = append(p.keys, k)
		if entry.IsPrimary() {
			last := len(p.keys) - 1
			p.keys[0], p.keys[last] = p.keys[last], p.keys[0]
		}
	}
	if primary, err := h.Primary(); err != nil || len(p.keys) == 0 || primary.KeyStatus() != keyset.Enabled {
		return nil, errNotAEAD
	}
	return p, nil
}

// approvedKeyOf refuses a key that is not AES-GCM as Tink's templates make it.
func approvedKeyOf(entry *keyset.Entry) (approvedKey, error) {
	key, ok := entry.Key().(*aesgcm.Key)
	if !ok {
		return approvedKey{}, errNotApproved
	}
	if params, ok := key.Parameters().(*aesgcm.Parameters); !ok || params.IVSizeInBytes() != 12 || params.TagSizeInBytes() != 16 {
		return approvedKey{}, errNotApproved
	}
	secret := key.KeyBytes().Data(insecuresecretdataaccess.Token{})
	block, err := aes.NewCipher(secret)
	clear(secret)
	if err != nil {
		return approvedKey{}, errNotAEAD
	}
	k := approvedKey{prefix: key.OutputPrefix()}
	if k.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return approvedKey{}, errNotAEAD
	}
	return k, nil
}

func (k *approvedKey) encrypt(plaintext, associatedData []byte) []byte {
	return k.aead.Seal(bytes.Clone(k.prefix), nil, plaintext, associatedData)
}

func (k *approvedKey) decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	body, found := bytes.CutPrefix(ciphertext, k.prefix)
	if !found || len(body) < k.aead.Overhead() {
		return nil, errDecrypt
	}
	return k.aead.Open(nil, nil, body, associatedData)
}

func (p *approved) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return p.keys[0].encrypt(plaintext, associatedData), nil
}

var errDecrypt = errors.New("does not decrypt")

func (p *approved) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	for i := range p.keys {
		if plaintext, err := p.keys[i].decrypt(ciphertext, associatedData); err == nil {
			return plaintext, nil
		}
	}
	return nil, errDecrypt
}
