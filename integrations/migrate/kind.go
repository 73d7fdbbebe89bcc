package migrate

import (
	"slices"

	"github.com/lethe-go/lethe"
)

// Kind is what a job does to every row of a table.
type Kind uint8

// The kinds of jobs.
const (
	// Rewrap moves the Keys of rows under the newest keys of their subjects, after
	// Keyring.Rotate. Nothing else is read but whose they are, and nothing is opened.
	Rewrap Kind = iota + 1
	// Reseal opens rows and seals them under new data keys, in the keyring's suite,
	// after a data key may have leaked or a normaliser changed. Tokens are made anew.
	Reseal
	// Reindex computes the blind indexes with the newest index key, after
	// Keyring.RotateIndexKey and before RetireIndexKeys.
	Reindex
	// Backfill seals what is in plaintext columns, tagged plain=, and makes those NULL,
	// or compares the two: Sealer.SealPlain for the whole table. Of a forgotten person
	// the plaintext stays where it is; such rows are listed, and must be erased.
	Backfill
	// Unseal is the way out: it opens the fields that have a plaintext column, writes
	// them there and makes the sealed columns NULL: Sealer.Unseal for the whole table.
	Unseal
)

var kinds = []string{Rewrap: "rewrap", Reseal: "reseal", Reindex: "reindex", Backfill: "backfill", Unseal: "unseal"}

func (k Kind) moves() bool { return k == Backfill || k == Unseal }

// String returns the kind in lower case.
func (k Kind) String() string {
	if k.valid() {
		return kinds[k]
	}
	return "unknown"
}

func (k Kind) valid() bool { return k > 0 && int(k) < len(kinds) }

// repeats reports whether a row that the job is done with is seen to need nothing
// more, so that passes can be repeated until one finds nothing to do.
func (k Kind) repeats() bool { return k != Reseal }

// use says what a kind does with a field's column; 0: nothing. What is written, and
// what it is made of, is guarded.
func (k Kind) use(f *lethe.FieldDescription, d *lethe.Description) use {
	const all = reads | guards | writes
	switch f.Role {
	case lethe.RoleSubject, lethe.RoleID:
		if k.moves() { // a row without Keys may become somebody else's and look the same
			return reads | guards
		}
		return reads
	case lethe.RoleKeys:
		if k == Reindex {
			return reads | guards
		}
		return all
	case lethe.RoleIndex:
		switch {
		case k == Rewrap, k.moves() && !slices.Contains(named(d, lethe.RolePlain), f.Of):
			return 0
		}
		return all
	case lethe.RoleSecret:
		switch {
		case k == Reseal, k.moves() && slices.Contains(named(d, lethe.RolePlain), f.Name):
			return all
		case k.moves(), k == Reindex && slices.Contains(named(d, lethe.RoleIndex), f.Name):
			return reads | guards
		}
	case lethe.RoleToken:
		switch {
		case k == Reseal:
			return all
		case k.moves():
			return reads | guards
		}
	case lethe.RoleVersion:
		if k == Reseal {
			return all
		}
	case lethe.RolePlain:
		if k.moves() {
			return all
		}
	}
	return 0
}

// named returns the stable names of the fields that have one of a role besides: a
// blind index, or a plaintext column.
func named(d *lethe.Description, role lethe.Role) (out []string) {
	for _, f := range d.Fields {
		if f.Role == role && !slices.Contains(out, f.Of) {
			out = append(out, f.Of)
		}
	}
	return out
}

// possible reports whether a row type has anything that the kind is about; needs
// says what it lacks.
func (k Kind) possible(d *lethe.Description) bool {
	switch {
	case k == Reindex:
		return len(named(d, lethe.RoleIndex)) > 0
	case k.moves():
		return len(named(d, lethe.RolePlain)) > 0
	}
	return true
}

func (k Kind) needs() string {
	if k.moves() {
		return "no field is tagged plain="
	}
	return "it has no blind index"
}
