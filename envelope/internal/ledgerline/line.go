// Package ledgerline is the form of a ledger entry as a line of text: one JSON
// object, the same wherever a ledger is kept.
package ledgerline

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/lethe-go/lethe/envelope"
)

// entryLine is an entry as it is written: identifiers and hashes in
// lower-case hexadecimal.
type entryLine struct {
	Seq         uint64              `json:"seq"`
	Prev        hexBytes            `json:"prev"`
	Time        int64               `json:"time"`
	Store       hexBytes            `json:"store"`
	Kind        envelope.LedgerKind `json:"kind"`
	Tree        envelope.TreeID     `json:"tree"`
	Epoch       uint64              `json:"epoch"`
	RefVer      uint32              `json:"ref_ver,omitzero"`
	SRef        hexBytes            `json:"sref,omitempty"`
	PID         envelope.PID        `json:"pid,omitzero"`
	KIDs        []hexBytes          `json:"kids,omitempty"`
	Pages       []envelope.PageID   `json:"pages,omitempty"`
	KMSHandle   string              `json:"kms_handle,omitempty"`
	RootCommit  hexBytes            `json:"root_commit,omitempty"`
	KMSURI      string              `json:"kms_uri,omitempty"`
	Semantics   string              `json:"semantics,omitempty"`
	Window      int64               `json:"window,omitzero"`
	Until       int64               `json:"until,omitzero"`
	Incarnation uint64              `json:"incarnation,omitzero"`
	To          hexBytes            `json:"to,omitempty"`
	Scope       string              `json:"scope,omitempty"`
	MAC         hexBytes            `json:"mac"`
}

type hexBytes []byte

// MarshalText implements encoding.TextMarshaler.
func (h hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hexBytes) UnmarshalText(text []byte) error {
	if bytes.ContainsAny(text, "ABCDEF") {
		return errors.New("hexadecimal is lower case here")
	}
	b, err := hex.AppendDecode(nil, text)
	*h = b
	return err
}

// Append appends e and a line feed. It refuses an entry that would not read back.
func Append(dst []byte, e *envelope.LedgerEntry) ([]byte, error) {
	l := entryLine{
		Seq: e.Seq, Prev: e.Prev, Time: e.Time, Store: e.Store[:], Kind: e.Kind, Tree: e.Tree, Epoch: e.Epoch,
		RefVer: e.RefVer, PID: e.PID, Pages: e.Pages, KMSHandle: e.KMSHandle, RootCommit: e.RootCommit, MAC: e.MAC,
		KMSURI: e.KMSURI, Semantics: e.Semantics, Window: e.Window, Until: e.Until, Incarnation: e.Incarnation, Scope: e.Scope,
	}
	if e.To != (envelope.SRef{}) {
		l.To = e.To[:]
	}
	if e.SRef != (envelope.SRef{}) {
		l.SRef = e.SRef[:]
	}
	for i := range e.KIDs {
		l.KIDs = append(l.KIDs, e.KIDs[i][:])
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l); err != nil {
		return nil, err
	}
	// What does not read back, such as invalid UTF-8 in a handle, must not be written.
	if back, err := Parse(buf.Bytes()); err != nil || back.KMSHandle != e.KMSHandle || back.KMSURI != e.KMSURI || back.Semantics != e.Semantics || back.Scope != e.Scope {
		return nil, fmt.Errorf("entry %d cannot be written as a line: bad sizes or text", e.Seq)
	}
	return append(dst, buf.Bytes()...), nil
}

// Parse parses a line with its line feed. It accepts nothing Append would not write.
func Parse(line []byte) (envelope.LedgerEntry, error) {
	var l entryLine
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return envelope.LedgerEntry{}, errors.New("not an entry")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return envelope.LedgerEntry{}, errors.New("more than an entry")
	}
	e := envelope.LedgerEntry{
		Seq: l.Seq, Prev: l.Prev, Time: l.Time, Kind: l.Kind, Tree: l.Tree, Epoch: l.Epoch, RefVer: l.RefVer,
		PID: l.PID, Pages: l.Pages, KMSHandle: l.KMSHandle, RootCommit: l.RootCommit, MAC: l.MAC,
		KMSURI: l.KMSURI, Semantics: l.Semantics, Window: l.Window, Until: l.Until, Incarnation: l.Incarnation, Scope: l.Scope,
	}
	ok := copy(e.Store[:], l.Store) == len(l.Store) && len(l.Store) == len(e.Store) &&
		len(l.Prev) == 32 && len(l.MAC) == 32 && (len(l.RootCommit) == 0 || len(l.RootCommit) == 32) &&
		(len(l.SRef) == 0 || len(l.SRef) == len(e.SRef)) && (len(l.To) == 0 || len(l.To) == len(e.To)) && l.Seq > 0 && l.Kind != ""
	copy(e.SRef[:], l.SRef)
	copy(e.To[:], l.To)
	for _, kid := range l.KIDs {
		var id envelope.KeyID
		ok = ok && len(kid) == len(id)
		copy(id[:], kid)
		e.KIDs = append(e.KIDs, id)
	}
	if !ok {
		return envelope.LedgerEntry{}, errors.New("a member is missing or has the wrong size")
	}
	return e, nil
}
