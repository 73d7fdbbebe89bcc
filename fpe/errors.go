package fpe

import (
	"errors"
	"fmt"
)

// Sentinel errors, to be tested with errors.Is. None carries a key, a tweak or
// any part of a value.
var (
	// ErrKeySize: an AES key has 16, 24 or 32 bytes.
	ErrKeySize = errors.New("fpe: the key must have 16, 24 or 32 bytes")
	// ErrRadix: the radix is not between 2 and 65,536, or not that of the alphabet.
	ErrRadix = errors.New("fpe: the radix must be between 2 and 65,536, and the number of symbols of the alphabet")
	// ErrTooShort: so few values have this length that all of them could be tried:
	// fewer than MinDomain.
	ErrTooShort = errors.New("fpe: too short: too few values have this length; store such a value sealed or as a random token")
	// ErrTooLong: more than MaxLength symbols.
	ErrTooLong = errors.New("fpe: too long: more than 1,024 symbols")
	// ErrTweakTooLong: more than MaxTweakLength bytes.
	ErrTweakTooLong = errors.New("fpe: the tweak has more than 4,096 bytes; use its hash")
	// ErrSymbol: something that is no symbol of the alphabet. The error is a
	// *SymbolError, which tells where.
	ErrSymbol = errors.New("fpe: not a symbol of the alphabet")
	// ErrAlphabet: an alphabet has 2 to 65,536 distinct runes in valid UTF-8.
	ErrAlphabet = errors.New("fpe: an alphabet must have 2 to 65,536 distinct runes in valid UTF-8")
	// ErrBatch: a batch needs one tweak for each value.
	ErrBatch = errors.New("fpe: a batch needs as many tweaks as values")
)

// SymbolError tells where a value has something that is no symbol of the
// alphabet. It matches ErrSymbol.
type SymbolError struct {
	Position int // counted in symbols, from 0; every byte of invalid UTF-8 counts as one
}

func (e *SymbolError) Error() string {
	return fmt.Sprintf("%v, at position %d", ErrSymbol, e.Position)
}

// Unwrap returns ErrSymbol.
func (e *SymbolError) Unwrap() error { return ErrSymbol }

// BatchError tells which value of a batch was refused, and why.
type BatchError struct {
	Index int   // of the first value that was refused
	Err   error // what Encrypt or Decrypt returns for that value alone
}

func (e *BatchError) Error() string { return fmt.Sprintf("%v (value %d of the batch)", e.Err, e.Index) }

// Unwrap returns the cause.
func (e *BatchError) Unwrap() error { return e.Err }
