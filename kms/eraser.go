package kms

import (
	"context"
	"fmt"
	"time"
)

// Eraser is implemented by a Key whose KMS can destroy parts of it for ever.
// Each part is a handle: a key version, or a key, that wraps and is destroyed
// apart from all others. An epoch of the key store hangs on one handle.
//
// Errors are those of Key: [Retryable] tells an outage from a refusal. All
// methods are safe for concurrent use.
//
// localkms and vaultkms implement it. How other services map to it:
//
//	                  AWS KMS                Google Cloud KMS        Azure Key Vault
//	handle            a key (ARN)            a key version           a key (not a version)
//	NewHandle         CreateKey, label as    CreateCryptoKeyVersion  create key "BASE-LABEL"
//	                  alias or tag
//	HandleKey         Encrypt, Decrypt with  Encrypt has no version: wrapKey, unwrapKey; no
//	                  the key's ARN          a crypto key per handle associated data: bind
//	                                         where it wraps          it in the plaintext
//	Destroy           ScheduleKeyDeletion    DestroyCryptoKeyVersion delete, then purge if
//	                                                                 that is not protected
//	MinDelay          7 to 30 days           30 days unless set at   7 to 90 days with purge
//	                                         creation (0 to 120)     protection, else 0
//	Cancelable        yes                    true                    recover, until purged
//	OperatorBackedUp  no; yes for imported   no; yes for imported    yes: "backup" gives a blob
//	                  key material           key material            that "restore" brings back
//	HandleScheduled   PendingDeletion, At =  DESTROY_SCHEDULED, At = a deleted key, At = its
//	                  DeletionDate           destroy_time            scheduledPurgeDate
//	HandleDestroyed   NotFoundException      DESTROYED               not found, and not among
//	                                                                 the deleted keys
//
// Multi-Region keys of AWS are as many keys as there are replicas: all are to be
// destroyed. A service that answers "not found" for a key it does not show to this
// caller must not be read as HandleDestroyed.
type Eraser interface {
	Key
	// EraseSemantics says what Destroy achieves with the KEK as it is configured
	// now. A KEK whose handles may exist in the clear outside the KMS (it was ever
	// exportable, or may be backed up in plaintext) is refused with ErrDenied.
	EraseSemantics(ctx context.Context) (EraseSemantics, error)
	// NewHandle makes a handle. label, 1 to 48 of a-z, 0-9 and "-", is different
	// for every store and epoch; a KMS that names its keys uses it. A call that is
	// repeated, since its outcome is unknown, returns the same handle or a further one.
	// A caller that dies right after it leaves a handle that nobody knows of. Nothing is
	// wrapped under it; see envelope.Keyring.Handles for how to find it.
	NewHandle(ctx context.Context, label string) (handle string, err error)
	// HandleKey returns a Key that wraps under the handle and no other. It does
	// not ask the KMS. An error means that the handle is not one of this KEK's.
	HandleKey(handle string) (Key, error)
	// Destroy orders the destruction of a handle. Where handles are versions in a
	// row, the earlier ones go with it. Repeating it is no error.
	Destroy(ctx context.Context, handle string) (Erasure, error)
	// Erasure asks the KMS what became of a handle.
	Erasure(ctx context.Context, handle string) (Erasure, error)
}

// EraseSemantics is what the destruction of a handle is worth.
type EraseSemantics struct {
	// MinDelay is how long the KMS keeps a handle after Destroy: AWS 7 to 30 days,
	// Google Cloud 30 days by default, Azure 7 to 90 days (purge protection), Vault
	// and a local file 0.
	MinDelay time.Duration
	// Cancelable: somebody with rights at the KMS can undo it until then.
	Cancelable bool
	// OperatorBackedUp: backups that the operator of the KMS makes (snapshots of
	// Vault, copies of a key file) hold the handle until they are deleted too.
	OperatorBackedUp bool
}

// String returns a form that [ParseEraseSemantics] reads.
func (s EraseSemantics) String() string {
	return fmt.Sprintf("delay=%s cancelable=%t backups=%t", s.MinDelay, s.Cancelable, s.OperatorBackedUp)
}

// ParseEraseSemantics reads what String returned.
func ParseEraseSemantics(text string) (s EraseSemantics, err error) {
	var delay string
	if _, err = fmt.Sscanf(text, "delay=%s cancelable=%t backups=%t", &delay, &s.Cancelable, &s.OperatorBackedUp); err == nil {
		s.MinDelay, err = time.ParseDuration(delay)
	}
	if err != nil || s.String() != text {
		return EraseSemantics{}, fmt.Errorf("kms: %q are not erasure semantics", text)
	}
	return s, nil
}

// EraseState is the life of a handle.
type EraseState uint8

// The states of a handle.
const (
	HandleLive      EraseState = 1 // it unwraps
	HandleScheduled EraseState = 2 // its destruction is ordered and can no longer be missed, but perhaps undone
	HandleDestroyed EraseState = 3 // the KMS has no such key any more
)

// String returns "live", "scheduled" or "destroyed".
func (s EraseState) String() string {
	switch s {
	case HandleLive:
		return "live"
	case HandleScheduled:
		return "scheduled"
	case HandleDestroyed:
		return "destroyed"
	}
	return fmt.Sprintf("EraseState(%d)", uint8(s))
}

// Erasure is what became of a handle.
type Erasure struct {
	State EraseState
	At    time.Time // HandleScheduled: when it will be destroyed; otherwise zero
}
