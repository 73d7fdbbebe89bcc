package envelope

import (
	"errors"

	"github.com/lethe-go/lethe/kms"
)

// Sentinel errors, to be tested with errors.Is.
var (
	// ErrForgotten: there is evidence (a tombstone or a ledger entry) that the
	// subject, or this purpose of it, was forgotten.
	ErrForgotten = errors.New("lethe: forgotten")
	// ErrKeyMissing: the record names a key this store does not have and never
	// recorded as forgotten: a wrong store or a stale replica.
	ErrKeyMissing = errors.New("lethe: key not found in this key store: check that it is the store the data was sealed with")
	// ErrDecrypt is opaque on purpose: damaged bytes, or bytes of another row,
	// column, tenant or purpose.
	ErrDecrypt = errors.New("lethe: does not open: damaged, or sealed for another row, column, tenant or purpose")
	// ErrUnavailable: the KMS or the key store is away. Retry; nothing was changed.
	ErrUnavailable = kms.ErrUnavailable
	// ErrNoSubject: a record has no subject to seal for.
	ErrNoSubject = errors.New("lethe: no subject")
	// ErrWrongKey: the KMS answers, and cannot unwrap this store's root.
	ErrWrongKey = errors.New("lethe: this KMS key does not open this key store")
	// ErrLedger: the ledger is missing, damaged, forked, from another store, or
	// does not fit the store. Nothing is served until that is resolved.
	ErrLedger = errors.New("lethe: the ledger does not fit the key store")
	// ErrClosed: the Keyring was closed.
	ErrClosed = errors.New("lethe: the keyring is closed")
)
