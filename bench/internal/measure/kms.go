package measure

import (
	"context"
	"crypto/rand"
	"sync/atomic"
	"time"

	"github.com/lethe-go/lethe/kms"
)

// countedKey counts the calls of a KMS key and of its handles.
type countedKey struct {
	kms.Eraser
	calls atomic.Int64
}

func (k *countedKey) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	k.calls.Add(1)
	return k.Eraser.EncryptWithContext(ctx, plaintext, associatedData)
}

func (k *countedKey) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	k.calls.Add(1)
	return k.Eraser.DecryptWithContext(ctx, ciphertext, associatedData)
}

func (k *countedKey) NewHandle(ctx context.Context, label string) (string, error) {
	k.calls.Add(1)
	return k.Eraser.NewHandle(ctx, label)
}

func (k *countedKey) Destroy(ctx context.Context, handle string) (kms.Erasure, error) {
	k.calls.Add(1)
	return k.Eraser.Destroy(ctx, handle)
}

func (k *countedKey) Erasure(ctx context.Context, handle string) (kms.Erasure, error) {
	k.calls.Add(1)
	return k.Eraser.Erasure(ctx, handle)
}

func (k *countedKey) HandleKey(handle string) (kms.Key, error) {
	key, err := k.Eraser.HandleKey(handle)
	if err != nil {
		return nil, err
	}
	return &countedHandle{key, &k.calls}, nil
}

// KeyURI names the key, as the key file does.
func (k *countedKey) KeyURI() string {
	if id, ok := k.Eraser.(kms.Identified); ok {
		return id.KeyURI()
	}
	return ""
}

type countedHandle struct {
	kms.Key
	calls *atomic.Int64
}

func (k *countedHandle) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	k.calls.Add(1)
	return k.Key.EncryptWithContext(ctx, plaintext, associatedData)
}

func (k *countedHandle) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	k.calls.Add(1)
	return k.Key.DecryptWithContext(ctx, ciphertext, associatedData)
}

// mostKMSCalls is how often a KMS is called at most: they may cost money, and
// others share the quota.
const mostKMSCalls = 400

// kms wraps and unwraps a data key with the KMS.
func (b *bench) kms(ctx context.Context) error {
	var key kms.Key = b.key.Eraser
	if b.opts.KMS != nil {
		key, b.costs.KMS = b.opts.KMS, b.opts.KMSName
	}
	dek, aad := make([]byte, 32), []byte("lethe bench")
	var encrypt, decrypt samples
	for i := 0; i < mostKMSCalls/2 && !b.over(0, 1) || i < 3; i++ {
		_, _ = rand.Read(dek) // never fails: crypto/rand ends the program instead
		start := time.Now()
		wrapped, err := key.EncryptWithContext(ctx, dek, aad)
		if err != nil {
			return err
		}
		encrypt.since(start)
		start = time.Now()
		if _, err := key.DecryptWithContext(ctx, wrapped, aad); err != nil {
			return err
		}
		decrypt.since(start)
		b.costs.WrappedDEK = len(wrapped)
	}
	b.costs.KMSEncrypt, b.costs.KMSDecrypt = encrypt.dist(), decrypt.dist()
	return nil
}
