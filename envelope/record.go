package envelope

// Record is one row, document or event: its wrapped data keys and the cells
// sealed under them. SealRecords and OpenRecords fill in the outputs; a Record
// and all it points to must not be used by two calls at once.
type Record struct {
	Name   string // stable record name, authenticated; 1 to 1024 bytes
	RowID  string // authenticated when Bound; then not empty
	Bound  bool   // the row id is bound to the wrapped keys
	Header []byte // in: the stored header, or empty for a new record; out: see SealRecords
	Scopes []Scope
	Cells  []Cell
}

// Scope is one data key of a record: the fields of one group that serve one
// purpose, for one subject.
type Scope struct {
	Group   string // "" is the default group
	Purpose string // "" is the default purpose
	Subject Subject
	// Err is set by OpenRecords: ErrForgotten, ErrKeyMissing, ErrDecrypt, ErrNoSubject or
	// another error of Subject.Validate for every cell of the scope, or nil.
	Err error
}

// Cell is one value of a record.
type Cell struct {
	Scope  int    // index into Scopes
	Field  string // stable field name, authenticated; 1 to 1024 bytes
	Codec  uint8  // 0 to 15: how the plaintext encodes a value; authenticated, returned by OpenRecords
	Plain  []byte // in for SealRecords, out for OpenRecords; at most MaxCell bytes
	Sealed []byte // out for SealRecords, in for OpenRecords
	Err    error  // out for OpenRecords
}

// MaxCell is the largest plaintext of a cell in bytes: 16 MiB.
const MaxCell = 16 << 20

// MaxScopes is the number of scopes a record has at most.
const MaxScopes = 15
