package peers

import "context"

// Stored is what a peer leaves to be stored for one record: one blob, one value
// a field, or these and a header.
type Stored struct {
	Columns [6][]byte
}

// Size returns the number of bytes to store.
func (s *Stored) Size() int {
	n := 0
	for _, column := range s.Columns {
		n += len(column)
	}
	return n
}

// CopyFrom makes s a copy of other, in the memory s has where it is enough.
func (s *Stored) CopyFrom(other *Stored) {
	for i, column := range other.Columns {
		s.Columns[i] = append(s.Columns[i][:0], column...)
	}
}

// Adapter makes a library seal and open records. It is used by one goroutine at
// a time.
type Adapter interface {
	// Seal sets out to what is stored for the record, which belongs to a subject
	// from 0 to Subjects-1.
	Seal(ctx context.Context, subject int, in *Record, out *Stored) error
	// Open sets out to the record that Seal was given for the same subject. It
	// does not change in.
	Open(ctx context.Context, subject int, in *Stored, out *Record) error
	// KMSCalls returns how often the key of the KMS was used until now.
	KMSCalls() int64
	// Close frees what the adapter holds.
	Close()
}

// SliceAdapter seals and opens many records at once; all slices have one length.
type SliceAdapter interface {
	Adapter
	SealSlice(ctx context.Context, subjects []int, in []Record, out []Stored) error
	OpenSlice(ctx context.Context, subjects []int, in []Stored, out []Record) error
}

// Peer is a library, or one way to use it.
type Peer struct {
	// Name is that of the benchmarks.
	Name string
	// Module is the path of the Go module, "" for the standard library.
	Module string
	// Use says how the library is used.
	Use string
	// SubjectKeys: every subject has a key of their own, which can be destroyed.
	SubjectKeys bool
	// Bound: a record moved to another subject's record is refused.
	Bound bool
	// Batch is the number of records in one call; above 1 the adapter is a SliceAdapter.
	Batch int
	// New makes an adapter whose keys are warm for all subjects.
	New func(ctx context.Context) (Adapter, error)
}

// All returns the peers, Lethe and the floor first.
func All() []Peer {
	const tink, aws = "github.com/tink-crypto/tink-go/v2", "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk"
	return []Peer{
		{"lethe", "github.com/lethe-go/lethe", "Sealer.Seal and Open, one row a call", true, true, 1, newLethe},
		{"lethe-slice", "github.com/lethe-go/lethe", "Sealer.SealSlice and OpenSlice, 1,000 rows a call", true, true, 1000, newLethe},
		{"floor", "", "crypto/aes and crypto/cipher by hand: a fresh AES-256-GCM key a record, wrapped under a key per subject", true, false, 1, newFloor},
		{"tink-aead", tink, "one keyset for all; the record as one JSON blob", false, true, 1, newTinkAEAD},
		{"tink-envelope", tink, "KMS envelope AEAD; the record as one JSON blob", false, true, 1, newTinkEnvelope},
		{"tink-envelope-field", tink, "KMS envelope AEAD, each field alone", false, true, 1, newTinkEnvelopeField},
		{"gocloud-secrets", "gocloud.dev", "secrets.Keeper (localsecrets); the record as one JSON blob", false, false, 1, newGoCloud},
		{"gocloud-secrets-field", "gocloud.dev", "secrets.Keeper (localsecrets), each field alone", false, false, 1, newGoCloudField},
		{"structwrapping", "github.com/hashicorp/go-kms-wrapping/v2", "structwrapping with the aead wrapper: every tagged field", false, true, 1, newStructWrapping},
		{"aws-encryption-sdk", aws, "raw AES keyring, key commitment, no signature; the record as one JSON blob", false, true, 1, newAWS},
		{"asherah", "github.com/godaddy/asherah/go/appencryption", "a session per subject, sessions and keys cached for all; the record as one JSON blob", true, true, 1, newAsherah},
		{"gorm-serializer", "gorm.io/gorm", "a serializer of GORM's interface over Tink AEAD, run as GORM runs it", false, true, 1, newGORM},
		{"gorm-crypto", "github.com/pkasila/gorm-crypto", "EncryptedValue with AES-256-GCM and JSON, each field alone", false, false, 1, newGORMCrypto},
	}
}
