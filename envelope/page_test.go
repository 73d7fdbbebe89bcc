package envelope_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

// pageReads counts the queries for pages by their number.
type pageReads struct {
	envelope.Store
	n int
}

func (p *pageReads) Pages(ctx context.Context, tree envelope.TreeID, ids []envelope.PageID) ([]envelope.PageRow, error) {
	p.n++
	return p.Store.Pages(ctx, tree, ids)
}

// A leaf that is new to a Keyring opens under a parent it knows without a query:
// so cold subjects of a process that runs cost one, for their keys.
func TestKnownPagesAreNotReadAgain(t *testing.T) {
	w := newWorld(t)
	reads := &pageReads{Store: w.store}
	w.store = reads
	first := w.ring(t)
	envelope.SetFanOut(first, 4)
	var recs []envelope.Record
	for i := range 64 {
		recs = append(recs, record(fmt.Sprint("c", i), "v"))
	}
	require.NoError(t, first.SealRecords(t.Context(), recs))
	pages, err := w.store.PagesAfter(t.Context(), 1, 0, 1000)
	require.NoError(t, err)
	leaves, inner := 0, 0
	for _, p := range pages {
		if p.Level == 0 {
			leaves++
		} else {
			inner++
		}
	}
	require.Greater(t, leaves, 2*inner)
	require.Positive(t, inner)

	ring := w.ring(t)
	reads.n = 0
	for _, r := range recs {
		cold := []envelope.Record{sealedOnly(r)}
		require.NoError(t, ring.OpenRecords(t.Context(), cold))
		require.NoError(t, cold[0].Cells[0].Err)
	}
	require.Positive(t, reads.n)
	require.LessOrEqual(t, reads.n, inner)
}

// A leaf that opens under a known parent is kept no longer than that.
func TestALeafIsKeptNoLongerThanItsParent(t *testing.T) {
	w := newWorld(t)
	first := w.ring(t)
	envelope.SetFanOut(first, 4)
	var recs []envelope.Record
	for i := range 64 {
		recs = append(recs, record(fmt.Sprint("c", i), "v"))
	}
	require.NoError(t, first.SealRecords(t.Context(), recs))
	pages, err := w.store.PagesAfter(t.Context(), 1, 0, 1000)
	require.NoError(t, err)
	ring := w.ring(t)
	open := func(r envelope.Record) {
		one := []envelope.Record{sealedOnly(r)}
		require.NoError(t, ring.OpenRecords(t.Context(), one))
		require.NoError(t, one[0].Cells[0].Err)
	}
	ends := map[envelope.PageID]int64{}
	for _, r := range recs {
		open(r)
		for _, p := range pages {
			if p.Level == 0 || ends[p.Page] != 0 {
				continue
			}
			if was, known := envelope.PageUntil(ring, p.Page, 0); known {
				ends[p.Page] = was - int64(time.Second)
				envelope.PageUntil(ring, p.Page, ends[p.Page])
			}
		}
	}
	checked := 0
	for _, p := range pages {
		until, known := envelope.PageUntil(ring, p.Page, 0)
		if own, parent := ends[p.Page], ends[p.Parent]; known && p.Level == 0 && own == 0 && parent != 0 && until <= parent {
			checked++
		}
	}
	require.Greater(t, checked, len(ends), "of each, all leaves but the first")
}
