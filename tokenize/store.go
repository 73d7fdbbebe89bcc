package tokenize

import "context"

// Entry is one random token in a Store. Nothing in it says what the value or who
// the subject is, and without the subject's key nothing of it can be read.
type Entry struct {
	Tokenizer   string // name of the tokenizer
	Tenant      string
	Token       string
	Purpose     string
	Fingerprint []byte // 16 bytes, or nil: none
	KeyVersion  uint32
	Sealed      []byte // the value and its metadata
	Created     int64  // Unix seconds
	Expires     int64  // Unix seconds; 0: never
	UsesLeft    int64  // how often it may still be detokenized; -1: no limit
}

// Place names an entry of a tokenizer.
type Place struct{ Tenant, Token string }

// Outcome is what became of an entry that was to be inserted.
type Outcome uint8

// The outcomes.
const (
	Inserted   Outcome = iota
	TokenTaken         // the tokenizer has the token in this tenant already: draw another
	SameValue          // an entry with this fingerprint is there already
)

// Result is what became of one entry.
type Result struct {
	Outcome  Outcome
	Existing Entry // of SameValue
}

// Store keeps random tokens. Packages memstore and sqlstore have some; storetest
// is the suite each must pass. Every method is one transaction, commits before
// it returns, and is safe for concurrent use by many processes. Slices may be of
// any length and results are copies. Up to 1,000 entries or places take one
// round trip to a server.
//
// A tokenizer has a token once in a tenant, and a fingerprint once over all: a
// Store makes sure of both however many processes insert at once.
type Store interface {
	// Insert adds entries and says of each what became of it. Entries that repeat
	// the token or fingerprint of an earlier one of the same call are treated like
	// those that were there before.
	Insert(ctx context.Context, entries []Entry) ([]Result, error)
	// Find returns those entries of a tokenizer that exist, in any order, once each.
	Find(ctx context.Context, tokenizer string, places []Place) ([]Entry, error)
	// Elsewhere returns, for each of the tokens that any tokenizer has in any tenant,
	// one such entry; only Tokenizer, Tenant, Token and Purpose are set. An entry
	// of the given tokenizer is preferred. It tells a caller's mistakes apart.
	Elsewhere(ctx context.Context, tokenizer string, tokens []string) ([]Entry, error)
	// Take takes one use of each entry that has one left and returns which did. Of
	// two calls for the last use one gets it. Places do not repeat.
	Take(ctx context.Context, tokenizer string, places []Place) ([]Place, error)
	// Delete removes entries and returns how many there were.
	Delete(ctx context.Context, tokenizer string, places []Place) (int, error)
	// DeleteExpired removes up to limit entries that expired at or before a time
	// (Unix seconds), or that have no use left, and returns how many.
	DeleteExpired(ctx context.Context, now int64, limit int) (int, error)
}
