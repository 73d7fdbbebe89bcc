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
)

var kinds = []string{Rewrap: "rewrap", Reseal: "reseal", Reindex: "reindex"}

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

// use says what a kind does with a field's column; 0: nothing.
func (k Kind) use(f *lethe.FieldDescription, d *lethe.Description) use {
	switch f.Role {
	case lethe.RoleSubject, lethe.RoleID:
		return reads
	case lethe.RoleKeys:
		if k == Reindex {
			return reads | guards
		}
		return reads | guards | writes
	case lethe.RoleIndex:
		if k == Rewrap {
			return 0
		}
		return reads | guards | writes
	case lethe.RoleSecret:
		switch {
		case k == Reseal:
			return reads | guards | writes
		case k == Reindex && slices.Contains(indexed(d), f.Name):
			return reads | guards
		}
	case lethe.RoleToken, lethe.RoleVersion:
		if k == Reseal {
			return reads | guards | writes
		}
	}
	return 0
}

// indexed returns the stable names of the fields that have a blind index.
func indexed(d *lethe.Description) (out []string) {
	for _, f := range d.Fields {
		if f.Role == lethe.RoleIndex && !slices.Contains(out, f.Of) {
			out = append(out, f.Of)
		}
	}
	return out
}

func (k Kind) possible(d *lethe.Description) bool { return k != Reindex || len(indexed(d)) > 0 }

// needs says what a row type lacks for which the kind is not possible.
func (k Kind) needs() string { return "it has no blind index" }
