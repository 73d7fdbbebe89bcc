package envelope

import (
	"context"
	"errors"
)

// LedgerKind says what a ledger entry records.
type LedgerKind string

// The kinds of ledger entries.
const (
	LedgerInit       LedgerKind = "init"        // the store's first root
	LedgerForget     LedgerKind = "forget"      // the irrevocable commit point of a forget
	LedgerForgetMore LedgerKind = "forget-more" // further keys a forget deleted, and pages found dirty; forbids nothing
	LedgerRetire     LedgerKind = "retire"      // old versions of an index key; forbids nothing
	LedgerReadmit    LedgerKind = "readmit"     // tombs lifted
	LedgerRootBegin  LedgerKind = "root-begin"  // allocates an epoch and records the new KMS handle before it is used
	LedgerRootSwitch LedgerKind = "root-switch" // the new root is active; children of clean pages were carried over
	LedgerErase      LedgerKind = "erase"       // the destruction of Epoch's KMS handle was ordered
	LedgerErased     LedgerKind = "erased"      // the KMS confirmed that it is destroyed
	LedgerRestore    LedgerKind = "restore"     // the store was put back from a backup; it was in Epoch

	LedgerSuspend     LedgerKind = "suspend"      // nothing is opened or sealed for SRef, or for PID of it
	LedgerResume      LedgerKind = "resume"       // lifts the suspend of the same SRef and PID
	LedgerHold        LedgerKind = "hold"         // no forget of SRef is carried out until Until, for the reason Scope
	LedgerRelease     LedgerKind = "release"      // lifts the hold with the same Scope
	LedgerForgetLater LedgerKind = "forget-later" // a forget to be carried out at Until, when no hold is in the way; suspends
	LedgerForgetUndo  LedgerKind = "forget-undo"  // takes a forget-later back
	LedgerMove        LedgerKind = "move"         // records of SRef are moved to the subject To
	LedgerResidueDone LedgerKind = "residue-done" // what a forget with Scope "residue" left besides the keys is gone
)

// LedgerEntry is one line of the ledger. It holds no personal data: subjects
// appear as keyed pseudonyms only.
type LedgerEntry struct {
	Seq        uint64     `json:"seq"`  // 1, 2, … without gaps
	Prev       []byte     `json:"prev"` // SHA-256 of the previous entry with its MAC; 32 zero bytes for the first
	Time       int64      `json:"time"` // Unix seconds
	Store      StoreID    `json:"store"`
	Kind       LedgerKind `json:"kind"`
	Tree       TreeID     `json:"tree"`
	Epoch      uint64     `json:"epoch"`
	RefVer     uint32     `json:"ref_ver,omitempty"`
	SRef       SRef       `json:"sref,omitzero"`
	PID        PID        `json:"pid,omitempty"`
	KIDs       []KeyID    `json:"kids,omitempty"`
	Pages      []PageID   `json:"pages,omitempty"`
	KMSHandle  string     `json:"kms_handle,omitempty"`
	RootCommit []byte     `json:"root_commit,omitempty"`

	// What only some kinds have; see FORMAT.md, section 11.
	KMSURI      string `json:"kms_uri,omitempty"`     // init, root-begin: identity of the KMS key that KMSHandle belongs to
	Semantics   string `json:"semantics,omitempty"`   // init, root-begin: of the handle; "" means it cannot be erased
	Window      int64  `json:"window,omitempty"`      // root-begin: seconds from the switch until earlier handles are destroyed
	Until       int64  `json:"until,omitempty"`       // Unix seconds. erase: when the KMS will have destroyed it; hold: its end, 0 for none; forget-later: when it is due, 0 for at once
	Incarnation uint64 `json:"incarnation,omitempty"` // restore: the store's new one
	To          SRef   `json:"to,omitzero"`           // move: the subject that takes over
	Scope       string `json:"scope,omitempty"`       // root-begin: "" dirty pages and their ancestors, "inner" all inner pages too, "all" every page; hold, release: the reason; forget: "residue" if something besides the keys is still to be removed

	MAC []byte `json:"mac"`
}

// ErrLedgerConflict is returned by Ledger.Append when another process appended first.
var ErrLedgerConflict = errors.New("envelope: the ledger has a later entry")

// Ledger is an append-only log kept outside the key store and its backups.
// The Keyring authenticates and chains the entries; a Ledger only keeps them.
// It is safe for concurrent use by many processes.
type Ledger interface {
	// Append makes e durable as the entry after e.Seq-1, or returns ErrLedgerConflict
	// and changes nothing. When it returns nil the entry survives a power failure.
	Append(ctx context.Context, e LedgerEntry) error
	// Read returns the entries with Seq > after, in order; none if there are none.
	Read(ctx context.Context, after uint64) ([]LedgerEntry, error)
}
