// Package kms defines what Lethe asks of a key management service: to wrap
// and unwrap small keys under a key-encryption key (KEK) that never leaves it.
//
// [Key] is the whole contract. Its methods are those of Tink's
// tink.AEADWithContext, so every Tink KMS client is a Key as it stands.
// Abilities beyond wrapping are optional interfaces: [Identified], [Pinger], [Eraser].
//
// Drivers report failures with [Unavailable], [Rejected] and [Denied] so that
// callers can tell an outage, which is worth a retry, from bad data, which is not.
package kms

import "context"

// Key wraps data keys under a key-encryption key held by a KMS.
//
// associatedData is authenticated and not stored: unwrapping needs the same
// bytes again. Implementations do not modify or retain their arguments, honour
// ctx, and are safe for concurrent use. Errors never carry plaintext or
// credentials; [Retryable] tells an outage from a final refusal.
type Key interface {
	// EncryptWithContext wraps plaintext, at most 64 KiB.
	EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error)
	// DecryptWithContext unwraps what EncryptWithContext returned for the same associatedData.
	DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error)
}

// Identified is implemented by a Key that knows a stable name for its KEK.
type Identified interface {
	// KeyURI names the KEK, for example "hcvault://host/transit/keys/customers".
	// It carries no credential and does not change when the KEK is rotated or
	// a key file is moved.
	KeyURI() string
}

// Pinger is implemented by a Key that can be probed without wrapping anything.
type Pinger interface {
	// Ping reports whether the KMS answers and the KEK may be used.
	Ping(ctx context.Context) error
}
