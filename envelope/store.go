package envelope

import (
	"context"
	"errors"
	"time"
)

// Sizes of the identifiers of the key store, in bytes.
const (
	StoreIDSize = 16
	KeyIDSize   = 12
	SRefSize    = 16
	// PageFanOut is the number of children a page key wraps at most.
	PageFanOut = 64
)

// Identifiers of the key store. None of them says who a person is.
//
//nolint:revive // one comment for all
type (
	StoreID [StoreIDSize]byte // drawn at Init
	KeyID   [KeyIDSize]byte   // drawn for every key
	SRef    [SRefSize]byte    // keyed pseudonym of (tenant, kind, subject)
	TreeID  uint32            // one tree by default: 1
	PageID  uint64            // 0 is the root of its tree; others fit 63 bits
	PID     uint32            // number of a purpose in the store; 0 means all
)

// KeyKind says what a wrapped key is for.
type KeyKind uint8

// The kinds of keys.
const (
	KindSubject KeyKind = 1 // wraps the data keys of one (tenant, subject, purpose)
	KindIndex   KeyKind = 2 // blind indexes of one (tenant, record, field)
	KindRef     KeyKind = 3 // computes SRefs
	KindLedger  KeyKind = 4 // authenticates the ledger
)

// RootState is the life of a root wrap.
type RootState uint8

// The states of a root.
const (
	RootStaged    RootState = 1
	RootActive    RootState = 2
	RootRetiring  RootState = 3
	RootDestroyed RootState = 4
)

// Meta is the single row that identifies a store.
type Meta struct {
	StoreID     StoreID
	Schema      uint32 // version of the tables
	Incarnation uint64 // 1 at Init; every restore gives another, higher one
	AppliedSeq  uint64 // the last ledger entry applied; 0 until Init is complete
	LedgerHead  []byte // hash of that entry, 32 bytes; nil at 0
}

// TreeRow is one key tree.
type TreeRow struct {
	Tree        TreeID
	TRef        string // "" for the default tree
	ActiveEpoch uint64
	State       uint8 // 1: in use
}

// RootRow is one wrap of a root page key under a KMS key.
type RootRow struct {
	Tree         TreeID
	Epoch        uint64
	WrapNo       uint32 // 0, or further wraps of the same root
	KMSURI       string // identity of the KMS key; authenticated
	KMSHandle    string // what the KMS calls the version; informative
	Semantics    string // erasure semantics of the handle; "" means it cannot be erased
	Suite        Suite
	Wrapped      []byte
	Commit       []byte // 32 bytes, commitment to the root page key
	State        RootState
	Created      time.Time // whole seconds UTC
	DestroyAfter time.Time // zero: not scheduled
	DestroyedAt  time.Time // zero: not destroyed
}

// PageRow is one page key, wrapped under its parent page key.
type PageRow struct {
	Tree       TreeID
	Page       PageID
	Parent     PageID // 0: the root
	ParentGen  uint64 // the parent's Gen (for the root: the epoch) this wrap was made under
	Level      uint8  // 0: a leaf, whose children are keys
	Gen        uint64 // epoch of the last re-key
	Suite      Suite
	Wrapped    []byte
	Fill       uint32 // slots ever taken, at most PageFanOut
	DirtyEpoch uint64 // epoch in which a child was removed or replaced; 0: clean. A hint only
}

// KeyRow is one subject, index, ref or ledger key, wrapped under a leaf page key.
// All fields but State and PID are authenticated by the wrap; PID through its purpose's name.
type KeyRow struct {
	KID       KeyID
	Tree      TreeID
	Page      PageID
	PageGen   uint64
	Kind      KeyKind
	Suite     Suite
	RefVer    uint32
	SRef      SRef
	PID       PID
	Seq       uint32 // 1, 2, …: versions of the key; the highest seals
	Wrapped   []byte
	State     uint8 // 1: live
	Created   int64 // Unix seconds
	SealUntil int64 // Unix seconds; 0: no limit
	Expires   int64 // Unix seconds; 0: never
}

// PurposeRow names a purpose.
type PurposeRow struct {
	PID  PID
	Name string
}

// Tomb forbids making new keys for a forgotten subject (PID 0) or one purpose of it.
// It is active while LiftedSeq is 0. A later forget replaces the row: LedgerSeq anew, LiftedSeq 0.
type Tomb struct {
	Tree      TreeID
	RefVer    uint32
	SRef      SRef
	PID       PID
	LedgerSeq uint64
	LiftedSeq uint64
}

// Active reports whether the tomb is in force.
func (t Tomb) Active() bool { return t.LiftedSeq == 0 }

// Errors a Store returns, to be tested with errors.Is. Anything else a Store
// returns is taken for an outage and reported as ErrUnavailable.
var (
	// ErrStoreEmpty: Init was never called on this store, or its tables are missing.
	ErrStoreEmpty = errors.New("envelope: the key store is empty: apply its migrations and call Init")
	// ErrStoreExists: Init found a populated store.
	ErrStoreExists = errors.New("envelope: the key store is initialized already")
	// ErrStoreConflict: another process changed a row first; read again and retry.
	ErrStoreConflict = errors.New("envelope: the key store changed meanwhile")
)

// InitRows is what Init writes, all or nothing.
type InitRows struct {
	Meta     Meta
	Tree     TreeRow
	Root     RootRow
	Pages    []PageRow
	Keys     []KeyRow
	Purposes []PurposeRow
}

// Reserve takes N free slots of an existing page. It fails with
// ErrStoreConflict if the page's Gen differs or fewer than N slots are free.
type Reserve struct {
	Page PageID
	Gen  uint64
	N    uint32
}

// Insert is one mint: pages and keys that appear together.
type Insert struct {
	Tree     TreeID
	Epoch    uint64    // the active epoch the rows were made in; if the tree has another: ErrStoreConflict
	Reserves []Reserve // slots of existing pages (the root needs none)
	Pages    []PageRow // new pages, with Fill already counting the children inserted here
	Keys     []KeyRow
}

// Inserted says what became of the keys of an Insert, by their index.
type Inserted struct {
	Exists    []int // another key holds (tree, ref_ver, sref, pid, seq): load it instead
	Forgotten []int // an active tomb forbids it
}

// Forgetting applies one forget entry of the ledger.
type Forgetting struct {
	Tree   TreeID
	Epoch  uint64 // becomes DirtyEpoch of the pages that lose a key
	RefVer uint32
	SRef   SRef
	PID    PID // 0: every purpose
	Seq    uint64
	Prev   uint64  // the AppliedSeq it follows
	Head   []byte  // the new LedgerHead
	KIDs   []KeyID // as the ledger entry lists them; recorded dead even when their rows are gone
}

// Readmission applies one readmit entry of the ledger: it lifts the tombs of
// (SRef, PID); PID 0 lifts them all.
type Readmission struct {
	Tree   TreeID
	RefVer uint32
	SRef   SRef
	PID    PID
	Seq    uint64
	Prev   uint64
	Head   []byte
}

// Rekey replaces a tree's root and every row that must be wrapped anew under it, all or nothing.
type Rekey struct {
	Tree     TreeID
	OldEpoch uint64 // must be the tree's active epoch, else ErrStoreConflict
	Root     RootRow
	// Pages and Keys replace the rows with the same Page or KID (Wrapped, Gen,
	// ParentGen, PageGen). A page whose Gen changes becomes clean; another keeps the
	// DirtyEpoch it has by then, and all keep their Fill.
	Pages []PageRow
	Keys  []KeyRow
	// Seen is the Wrapped that rows of Pages had; where one has another now, the
	// result is ErrStoreConflict. Pages that are not in it are not compared.
	Seen map[PageID][]byte
	// RootChildren and PageChildren are what the rows were computed from. If a page was added
	// under the root or a rewritten page, or a key added to or removed from a rewritten
	// leaf, the counts differ and the result is ErrStoreConflict.
	RootChildren int            // pages with Parent 0
	PageChildren map[PageID]int // children (pages or keys) of every page whose Gen changes
}

// RekeyPages replaces the keys of some pages in place, under a root that stays:
// one step of an epoch close, all or nothing. A page whose Gen changes becomes clean.
type RekeyPages struct {
	Tree  TreeID
	Epoch uint64            // must be the tree's active epoch, else ErrStoreConflict
	Pages []PageRow         // replace the rows with the same Page (Wrapped, Gen, ParentGen)
	Seen  map[PageID][]byte // the Wrapped each of Pages had; another: ErrStoreConflict
	Keys  []KeyRow          // replace the rows with the same KID (Wrapped, PageGen); a missing one: ErrStoreConflict
	Drop  []KeyID           // rows that are removed, of pages in PageChildren; one that is missing is no error
	// PageChildren counts the children (pages or keys, those in Drop included) of
	// every page whose Gen changes; another count: ErrStoreConflict.
	PageChildren map[PageID]int
}

// Lease is the right to close an epoch. It saves work: two closers are safe.
type Lease struct {
	Tree  TreeID
	Epoch uint64 // being closed into; 0 before it is known
	Step  string // what the owner is doing, for people
	Owner string // random, of the closer
	Until time.Time
}

// ErrLeased means that another closer holds the lease.
var ErrLeased = errors.New("envelope: another process is closing the epoch")

// Store keeps wrapped keys. Implementations live in memstore and sqlstore;
// storetest is the suite each must pass.
//
// Every method is one transaction of its own, commits before it returns, and is
// safe for concurrent use by many processes. No method joins a caller's
// transaction. Rows are returned as copies the caller may keep. Slices of ids
// may be of any length (implementations chunk); results come in any order.
type Store interface {
	// Meta returns ErrStoreEmpty if Init was never called.
	Meta(ctx context.Context) (Meta, error)
	// Init writes the first rows, or returns ErrStoreExists and writes nothing.
	Init(ctx context.Context, rows InitRows) error
	// Advance sets AppliedSeq and LedgerHead if AppliedSeq is still prev, else ErrStoreConflict.
	Advance(ctx context.Context, prev, seq uint64, head []byte) error

	// Tree returns the row of a tree and its root wraps that are not destroyed.
	Tree(ctx context.Context, tree TreeID) (TreeRow, []RootRow, error)
	// Pages returns those of the pages that exist.
	Pages(ctx context.Context, tree TreeID, ids []PageID) ([]PageRow, error)
	// ChildPages returns the pages directly under parent (0: the root).
	ChildPages(ctx context.Context, tree TreeID, parent PageID) ([]PageRow, error)
	// DirtyPages returns the pages whose DirtyEpoch is not 0.
	DirtyPages(ctx context.Context, tree TreeID) ([]PageRow, error)
	// OpenPages returns up to limit pages of a level with a free slot, any of them.
	OpenPages(ctx context.Context, tree TreeID, level uint8, limit int) ([]PageRow, error)
	// CountRootPages counts the pages of a level directly under the root.
	CountRootPages(ctx context.Context, tree TreeID, level uint8) (int, error)

	// Keys returns every live key of the srefs, of all purposes and versions, and
	// the leaf pages they hang on, in one round trip for up to 1,000 srefs.
	Keys(ctx context.Context, tree TreeID, refVer uint32, srefs []SRef) ([]KeyRow, []PageRow, error)
	// KeysOfPage returns the live keys of a leaf.
	KeysOfPage(ctx context.Context, tree TreeID, page PageID) ([]KeyRow, error)
	// SystemKeys returns the live keys of one kind (KindRef, KindLedger) and their leaf pages.
	SystemKeys(ctx context.Context, tree TreeID, kind KeyKind) ([]KeyRow, []PageRow, error)
	// Evidence returns the tombs of the srefs (lifted ones too) and those of kids that are
	// recorded dead. It reads the primary, never a replica.
	Evidence(ctx context.Context, tree TreeID, refVer uint32, srefs []SRef, kids []KeyID) ([]Tomb, []KeyID, error)

	// Insert adds keys and pages. Keys that exist or are forbidden are left out and
	// reported; a conflict on a page or epoch writes nothing and returns ErrStoreConflict.
	// It is serialized against Forget of the same tree.
	Insert(ctx context.Context, in Insert) (Inserted, error)

	// Purposes returns all purposes; AddPurpose returns the number of name,
	// making it if needed, by FreePurposeNumber. Concurrent calls agree.
	Purposes(ctx context.Context) ([]PurposeRow, error)
	AddPurpose(ctx context.Context, name string) (PID, error)

	// Forget deletes the subject's keys (all purposes or one), records KIDs and every kid it
	// deleted as dead, marks their pages dirty, writes the tomb and advances meta to Seq, all
	// or nothing. If AppliedSeq is not Prev: ErrStoreConflict. It returns the keys it deleted.
	Forget(ctx context.Context, f Forgetting) ([]KeyRow, error)
	// Readmit lifts tombs and advances meta. If AppliedSeq is not Prev: ErrStoreConflict.
	Readmit(ctx context.Context, r Readmission) error
	// Rekey installs a new root. The old root's wraps become RootRetiring.
	Rekey(ctx context.Context, r Rekey) error
	// RekeyPages re-keys pages in place. It keeps rows locked for as short as it can.
	RekeyPages(ctx context.Context, r RekeyPages) error
	// PagesAfter returns up to limit pages with Page > after, in order of Page.
	PagesAfter(ctx context.Context, tree TreeID, after PageID, limit int) ([]PageRow, error)
	// Roots returns all root wraps of a tree, destroyed ones too, by epoch and number.
	Roots(ctx context.Context, tree TreeID) ([]RootRow, error)
	// UpdateRoots sets State, DestroyAfter and DestroyedAt of the wraps with the same
	// (Tree, Epoch, WrapNo). Wraps that do not exist are skipped. Wrapped becomes
	// empty where State is RootDestroyed.
	UpdateRoots(ctx context.Context, roots []RootRow) error
	// Reincarnate raises Meta.Incarnation from old to next, else ErrStoreConflict.
	Reincarnate(ctx context.Context, old, next uint64) error
	// Claim takes or renews the lease of l.Tree, or returns ErrLeased while another
	// Owner's is valid at now. An l.Until that is not after now gives it back.
	Claim(ctx context.Context, l Lease, now time.Time) error
	// LeaseOf returns the last lease of a tree, or a zero one.
	LeaseOf(ctx context.Context, tree TreeID) (Lease, error)
}
