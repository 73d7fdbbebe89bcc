package envelope

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Subject is a person (or any other party) whose data can be forgotten as one.
//
// Kind and ID are byte-exact UTF-8 of 1 to 1024 bytes without white space at
// the edges; write integers in decimal and UUIDs in lower case. Tenant may be
// empty, which is a tenant of its own.
type Subject struct {
	Tenant string
	Kind   string // "customer"; no control characters
	ID     string
}

const maxNameBytes = 1024

// Validate returns ErrNoSubject for an empty kind or id and a plain error for
// one that breaks the rules above. The error does not repeat the ID.
func (s Subject) Validate() error {
	if s.Kind == "" || s.ID == "" {
		return fmt.Errorf("%w: kind and id must both be set, before the record is sealed", ErrNoSubject)
	}
	if !graphic(s.Kind) {
		if strings.ContainsFunc(s.Kind, unicode.IsControl) {
			return errors.New("envelope: subject kind has a control character")
		}
		if err := validName("subject kind", s.Kind); err != nil {
			return err
		}
	}
	if err := validName("subject id", s.ID); err != nil {
		return err
	}
	if s.Tenant == "" {
		return nil
	}
	return validName("tenant", s.Tenant)
}

// graphic reports whether v is short and all printable ASCII without spaces,
// which every rule allows.
func graphic(v string) bool {
	if len(v) > maxNameBytes {
		return false
	}
	for i := range len(v) {
		if v[i] <= ' ' || v[i] >= 0x7f {
			return false
		}
	}
	return true
}

func validName(what, v string) error {
	switch {
	case graphic(v):
		return nil
	case len(v) > maxNameBytes:
		return fmt.Errorf("envelope: %s is %d bytes, at most %d are allowed", what, len(v), maxNameBytes)
	case !utf8.ValidString(v):
		return fmt.Errorf("envelope: %s is not valid UTF-8", what)
	case strings.TrimSpace(v) != v:
		return fmt.Errorf("envelope: %s has white space at an edge; trim it", what)
	}
	return nil
}

// appendLP appends v preceded by its length, 4 bytes big-endian.
func appendLP[T string | []byte](dst []byte, v T) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(v)))
	return append(dst, v...)
}
