package envelope

import (
	"errors"

	"github.com/lethe-go/lethe/envelope/internal/wire"
)

// HeaderInfo is what a record header says to who has no key.
type HeaderInfo struct {
	CellSuite Suite // of every cell of the record
	RowBound  bool  // the row's id is bound to the wrapped data keys
	Scopes    []ScopeInfo
}

// ScopeInfo is one wrapped data key of a header.
type ScopeInfo struct {
	Tag       uint16 // of its group and purpose: see ScopeTag
	Key       KeyID  // of the subject key that wraps it
	WrapSuite Suite  // of that key
}

// InspectHeader reads a record header (FORMAT.md section 4) without opening
// anything. What it returns is not authenticated: anybody can have written it. The
// error for what is no header of a known format matches ErrDecrypt.
func InspectHeader(header []byte) (HeaderInfo, error) {
	var h wire.Header
	if err := wire.ParseHeader(header, &h); err != nil {
		return HeaderInfo{}, malformed(err)
	}
	info := HeaderInfo{CellSuite: Suite(h.CellSuite), RowBound: h.Flags&wire.FlagRowID != 0, Scopes: make([]ScopeInfo, len(h.Scopes))}
	for i := range h.Scopes {
		s := &h.Scopes[i]
		info.Scopes[i] = ScopeInfo{Tag: s.Tag, Key: KeyID(s.KID), WrapSuite: Suite(s.WrapSuite)}
	}
	return info, nil
}

// CellInfo is what a cell says to who has no key.
type CellInfo struct {
	Codec     uint8 // how the plaintext encodes a value: FORMAT.md section 5
	Plaintext int   // its length in bytes
}

// InspectCell reads a cell (FORMAT.md section 5) of a record whose header has this
// CellSuite, without opening it. What it returns is not authenticated. The error
// for what cannot be such a cell matches ErrDecrypt.
func InspectCell(cell []byte, suite Suite) (CellInfo, error) {
	byte0, body, err := wire.ParseCell(cell, byte(suite))
	if err != nil {
		return CellInfo{}, malformed(err)
	}
	return CellInfo{Codec: byte0 & 15, Plaintext: len(body) - suite.overhead()}, nil
}

// ScopeTag is the number by which a header names a group and a purpose.
func ScopeTag(group, purpose string) uint16 { return scopeTag(group, purpose) }

func malformed(err error) error { return errors.Join(ErrDecrypt, err) }
