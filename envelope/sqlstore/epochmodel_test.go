package sqlstore_test

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

// work is what the close of an epoch does, expected of forgets that hit people at random.
type work struct {
	leaves, inner float64 // pages re-keyed
	keys          float64 // wrapped anew
	pages         float64 // in the tree, each unwrapped once before the switch
}

// workOf follows from the shape of the tree: leaves are full, the first PageFanOut
// pages of every level hang on the root, and those after them on pages of the level above.
func workOf(subjects, forgets float64) work {
	const fan = envelope.PageFanOut
	leaves := math.Ceil(subjects / fan)
	// missed is the share of pages over n leaves that no forget hits.
	missed := func(n float64) float64 { return math.Pow(max(0, 1-n/leaves), forgets) }
	w := work{leaves: leaves * (1 - missed(1)), pages: leaves}
	w.keys = w.leaves*subjects/leaves - forgets
	below := leaves
	for over := float64(fan); below > fan; over *= fan {
		level := math.Ceil((below - fan) / fan)
		w.inner += level * (1 - missed(over))
		w.pages += level
		below = level
	}
	return w
}

// cost is what was measured of one store.
type cost struct {
	bytes   float64       // at rest, a subject
	forget  time.Duration // of one
	rekey   time.Duration // of one page, with its children
	check   time.Duration // of one page
	seconds float64       // of a close
}

// expected is how long a close takes.
func (c cost) expected(w work) time.Duration {
	return time.Duration((w.leaves+w.inner)*float64(c.rekey) + w.pages*float64(c.check))
}

// The tree's own numbers, worked out by hand.
func TestWorkOfAClose(t *testing.T) {
	one := workOf(6400, 1)
	require.InDelta(t, 1, one.leaves, 1e-9)
	require.InDelta(t, 63, one.keys, 1e-9)
	require.InDelta(t, 101, one.pages, 1e-9, "100 leaves, 36 of them on one page above")
	require.InDelta(t, 64.0/100, one.inner, 1e-9)
	all := workOf(6400, 1e6)
	require.InDelta(t, 100, all.leaves, 1e-3)
	require.InDelta(t, 1, all.inner, 1e-9)
	small := workOf(10, 1)
	require.InDelta(t, 1, small.pages, 1e-9)
	require.InDelta(t, 9, small.keys, 1e-9)
	require.Zero(t, small.inner)
}

// measured at 10^5 and 10^6 subjects by TestEpochAtScale, as SCALE.md says.
var measured = []struct {
	store string
	cost  cost
}{
	{"PostgreSQL", cost{bytes: 232, forget: 1600 * time.Microsecond, rekey: 2700 * time.Microsecond, check: 4 * time.Microsecond}},
	{"SQLite", cost{bytes: 191, forget: 1400 * time.Microsecond, rekey: 1250 * time.Microsecond, check: 3 * time.Microsecond}},
}

// The table of SCALE.md is what the model says.
func TestScaleTable(t *testing.T) {
	doc, err := os.ReadFile("../SCALE.md")
	require.NoError(t, err)
	var table strings.Builder
	for _, m := range measured {
		for _, subjects := range []float64{1e5, 1e6, 1e7, 1e9} {
			w := workOf(subjects, 1e4)
			fmt.Fprintf(&table, "| %s | 10^%.0f | %.1f ms | %.0f | %.0f | %.0f | %s | 3 + 2 | %s |\n", m.store, math.Log10(subjects),
				float64(m.cost.forget)/1e6, w.leaves+w.inner, w.keys, w.pages, m.cost.expected(w).Round(time.Second), size(m.cost.bytes*subjects))
		}
	}
	require.Contains(t, string(doc), table.String(), "SCALE.md should have:\n%s", table.String())
}

func size(bytes float64) string {
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if bytes < 1000 {
			return fmt.Sprintf("%.3g %s", bytes, unit)
		}
		bytes /= 1000
	}
	return fmt.Sprintf("%.2f TB", bytes)
}
