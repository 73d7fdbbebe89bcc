package model

import (
	"math"
	"time"
)

// DirtyPages is the expected number of n pages that at least one of forgets hits,
// spread evenly: n * (1 - (1 - 1/n)^forgets). Source: the classical occupancy
// problem, for example Feller, "An Introduction to Probability Theory", volume 1, chapter IV.2.
func DirtyPages(n, forgets float64) float64 {
	if n <= 1 {
		return math.Min(n, forgets)
	}
	return n * -math.Expm1(forgets*math.Log1p(-1/n))
}

// tree is the shape of a key tree of the subjects: its pages from the leaves up.
type tree []float64

// newTree has leaves with perLeaf keys and inner pages with fanOut children, up to
// a level that hangs on the root key. Source: envelope/FORMAT.md, section 10.
func newTree(subjects, perLeaf, fanOut float64) tree {
	var t tree
	for n := math.Ceil(subjects / perLeaf); ; n = math.Ceil(n / fanOut) {
		t = append(t, math.Max(1, n))
		if n <= 1 {
			return t
		}
	}
}

// pages of all levels.
func (t tree) pages() (n float64) {
	for _, level := range t {
		n += level
	}
	return n
}

// dirty is the expected number of pages of all levels that an epoch close gives a
// fresh key, after so many forgets: every page above one that got one gets one too.
// Source: envelope.Keyring.CloseEpoch.
func (t tree) dirty(forgets float64) (leaves, all float64) {
	for i, n := range t {
		d := DirtyPages(n, forgets)
		if i == 0 {
			leaves = d
		}
		all += d
	}
	return leaves, all
}

// close is an epoch close: how long it takes and how many bytes of rows it writes.
// The pages that lost a key are re-keyed, and every page is checked before the old
// root is given up.
func (s *Service) close(c *Costs, forgets float64) (took time.Duration, written float64) {
	perLeaf := math.Max(2, c.KeysPerPage)
	t := newTree(s.Subjects, perLeaf, perLeaf)
	leaves, all := t.dirty(forgets)
	took = toDuration(c.CloseFixed.Seconds() + all*c.CloseDirty.Seconds() + t.pages()*c.CloseCheck.Seconds())
	return took, (leaves*perLeaf + all) * c.KeyStoreBytes
}
