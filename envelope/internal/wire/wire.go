// Package wire parses and appends the bytes of record headers and cells
// (envelope/FORMAT.md). It does no cryptography. Parsing then appending gives
// the same bytes, and everything unknown is an error.
package wire

import (
	"encoding/binary"
	"errors"
)

// ErrFormat is the one error of this package: the bytes are not of this format.
var ErrFormat = errors.New("wire: not a header or cell of a known format")

// Constants of format 1.
const (
	Format     = 1
	FlagRowID  = 1
	MaxScopes  = 15
	preludeLen = 3
	kidLen     = 12
	keyLen     = 32
	CommitLen  = 32
	KindWhole  = 1
	maxWrapLen = 24 + keyLen + 16
)

// NonceLen returns the nonce size of a suite and whether the suite is known.
func NonceLen(suite byte) (int, bool) {
	switch suite {
	case 1:
		return 12, true
	case 2:
		return 24, true
	}
	return 0, false
}

// Scope is one wrapped data key. It has no pointers, so that a Header can be
// reused without holding on to what it was parsed from.
type Scope struct {
	WrapSuite byte
	wrapLen   uint8
	Tag       uint16
	KID       [kidLen]byte
	wrap      [maxWrapLen]byte
	Commit    [CommitLen]byte
}

// Wrap returns nonce, ciphertext and tag. It aliases the Scope.
func (s *Scope) Wrap() []byte { return s.wrap[:s.wrapLen:s.wrapLen] }

// SetWrap copies b, of a known suite.
func (s *Scope) SetWrap(b []byte) { s.wrapLen = uint8(copy(s.wrap[:], b)) }

// Header is a parsed record header. Scopes are in ascending order of Tag.
type Header struct {
	CellSuite byte
	Flags     byte
	Scopes    []Scope
}

// Prelude returns the first three bytes of the header.
func (h *Header) Prelude() [preludeLen]byte {
	return [preludeLen]byte{Format, h.CellSuite, h.Flags<<4 | byte(len(h.Scopes))}
}

// Len returns the encoded size in bytes.
func (h *Header) Len() int {
	n := preludeLen
	for i := range h.Scopes {
		n += 1 + 2 + kidLen + int(h.Scopes[i].wrapLen) + CommitLen
	}
	return n
}

// Append appends the encoded header. The caller built it from known suites.
func (h *Header) Append(dst []byte) []byte {
	p := h.Prelude()
	dst = append(dst, p[:]...)
	for i := range h.Scopes {
		s := &h.Scopes[i]
		dst = append(dst, s.WrapSuite)
		dst = binary.BigEndian.AppendUint16(dst, s.Tag)
		dst = append(dst, s.KID[:]...)
		dst = append(dst, s.Wrap()...)
		dst = append(dst, s.Commit[:]...)
	}
	return dst
}

// ParseHeader parses b whole into h, reusing h.Scopes, and keeps nothing of b.
func ParseHeader(b []byte, h *Header) error {
	if len(b) < preludeLen || b[0] != Format {
		return ErrFormat
	}
	if _, ok := NonceLen(b[1]); !ok {
		return ErrFormat
	}
	h.CellSuite, h.Flags = b[1], b[2]>>4
	n := int(b[2] & 15)
	if h.Flags&^FlagRowID != 0 || n == 0 {
		return ErrFormat
	}
	b = b[preludeLen:]
	h.Scopes = h.Scopes[:0]
	for i := range n {
		if len(b) < 1 {
			return ErrFormat
		}
		nonce, ok := NonceLen(b[0])
		wrap := nonce + keyLen + 16
		if !ok || len(b) < 3+kidLen+wrap+CommitLen {
			return ErrFormat
		}
		tag := binary.BigEndian.Uint16(b[1:])
		if i > 0 && h.Scopes[i-1].Tag >= tag {
			return ErrFormat
		}
		h.Scopes = append(h.Scopes, Scope{WrapSuite: b[0], Tag: tag})
		s := &h.Scopes[i]
		copy(s.KID[:], b[3:])
		s.SetWrap(b[3+kidLen : 3+kidLen+wrap])
		copy(s.Commit[:], b[3+kidLen+wrap:])
		b = b[3+kidLen+wrap+CommitLen:]
	}
	if len(b) != 0 {
		return ErrFormat
	}
	return nil
}

// CellByte0 is the first byte of a whole cell.
func CellByte0(codec uint8) byte { return KindWhole<<4 | codec&15 }

// ParseCell splits a cell into its first byte and nonce, ciphertext and tag, which alias b.
func ParseCell(b []byte, suite byte) (byte0 byte, body []byte, err error) {
	nonce, ok := NonceLen(suite)
	if !ok || len(b) < 1+nonce+16 || b[0]>>4 != KindWhole {
		return 0, nil, ErrFormat
	}
	return b[0], b[1:], nil
}
