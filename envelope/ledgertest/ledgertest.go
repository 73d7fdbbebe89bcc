// Package ledgertest is the suite every ledger must pass.
package ledgertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lethe-go/lethe/envelope"
)

// Backend is one fresh, empty ledger.
type Backend struct {
	// Open returns a new handle on the ledger, as another process would have. A
	// ledger in memory returns the same one.
	Open func(t *testing.T) envelope.Ledger
	// Away returns a handle that cannot reach the ledger, where entries are. Nil if that
	// cannot be.
	Away func(t *testing.T) envelope.Ledger
	// Volatile says that the entries do not outlive the handles, so that opening again
	// is not tested, and that they need not have the form of a line.
	Volatile bool
}

// Run runs the suite. fresh makes a new ledger each time it is called.
func Run(t *testing.T, fresh func(t *testing.T) Backend) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, b Backend)
	}{
		{"round trip", testRoundTrip},
		{"the sequence is compared", testSequence},
		{"two writers", testTwoWriters},
		{"one wins each place", testRace},
		{"copies", testCopies},
		{"open again", testOpenAgain},
		{"cancelled", testCancelled},
		{"cut off", testCutOff},
		{"10,000 entries", testLarge},
		{"away", testAway},
		{"bad entries are not written", testBadEntries},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, fresh(t)) })
	}
}

// Entry is an entry with every member set.
func Entry(seq uint64) envelope.LedgerEntry {
	return envelope.LedgerEntry{
		Seq: seq, Prev: bytes.Repeat([]byte{byte(seq - 1)}, 32), Time: 1_700_000_000 + int64(seq), Store: envelope.StoreID{1, 2, 3},
		Kind: envelope.LedgerForget, Tree: 1<<32 - 1, Epoch: 1<<64 - 1, RefVer: 1<<32 - 1, SRef: envelope.SRef{9, byte(seq)}, PID: 1<<32 - 1,
		KIDs: []envelope.KeyID{{1}, {2, 255}}, Pages: []envelope.PageID{1, 1<<63 - 1}, KMSHandle: "v1 <&> é \u2028 ' \"",
		RootCommit: bytes.Repeat([]byte("r"), 32), MAC: bytes.Repeat([]byte{byte(seq)}, 32),
	}
}

func must(t *testing.T, err error) { t.Helper(); want(t, err, nil) }

func want(t *testing.T, got, target error) {
	t.Helper()
	if !errors.Is(got, target) {
		t.Fatalf("got the error %v, want %v", got, target)
	}
}

func equal[T any](t *testing.T, what string, got, wanted T) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", wanted); g != w {
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func read(t *testing.T, l envelope.Ledger, after uint64) []envelope.LedgerEntry {
	t.Helper()
	got, err := l.Read(t.Context(), after)
	must(t, err)
	return got
}

func fill(t *testing.T, l envelope.Ledger, n uint64) {
	t.Helper()
	for seq := range n {
		must(t, l.Append(t.Context(), Entry(seq+1)))
	}
}

func testRoundTrip(t *testing.T, b Backend) {
	l, other := b.Open(t), b.Open(t)
	equal(t, "empty", len(read(t, l, 0))+len(read(t, other, 7)), 0)
	first := envelope.LedgerEntry{Seq: 1, Prev: make([]byte, 32), Kind: envelope.LedgerInit, MAC: make([]byte, 32)}
	wanted := []envelope.LedgerEntry{first, Entry(2), Entry(3)}
	for _, e := range wanted {
		must(t, l.Append(t.Context(), e))
	}
	for _, handle := range []envelope.Ledger{l, other, b.Open(t)} {
		equal(t, "all", read(t, handle, 0), wanted)
		equal(t, "later ones", read(t, handle, 2), wanted[2:])
		equal(t, "none later", len(read(t, handle, 3))+len(read(t, handle, 4))+len(read(t, handle, 1<<64-1)), 0)
	}
}

func testSequence(t *testing.T, b Backend) {
	l, other := b.Open(t), b.Open(t)
	want(t, l.Append(t.Context(), Entry(2)), envelope.ErrLedgerConflict)
	fill(t, l, 2)
	changed := Entry(2)
	changed.Epoch = 5
	for _, e := range []envelope.LedgerEntry{Entry(1), Entry(2), changed, Entry(4), Entry(1 << 63), Entry(1<<64 - 1)} {
		want(t, other.Append(t.Context(), e), envelope.ErrLedgerConflict)
	}
	equal(t, "unchanged", read(t, l, 0), []envelope.LedgerEntry{Entry(1), Entry(2)})
	must(t, other.Append(t.Context(), Entry(3)))
	equal(t, "sees what another handle appended", read(t, l, 2), []envelope.LedgerEntry{Entry(3)})
}

// Several processes make one chain: each reads, and appends what comes next.
func testTwoWriters(t *testing.T, b Backend) {
	const writers, each = 4, 25
	var wg sync.WaitGroup
	for range writers {
		l := b.Open(t)
		wg.Go(func() {
			for done := 0; done < each; {
				got, err := l.Read(t.Context(), 0)
				if err == nil {
					err = l.Append(t.Context(), Entry(uint64(len(got))+1))
				}
				switch {
				case err == nil:
					done++
				case !errors.Is(err, envelope.ErrLedgerConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	got := read(t, b.Open(t), 0)
	equal(t, "entries", len(got), writers*each)
	for i := range got {
		equal(t, "entry", got[i], Entry(uint64(i)+1))
	}
}

func testRace(t *testing.T, b Backend) {
	handles := []envelope.Ledger{b.Open(t), b.Open(t), b.Open(t)}
	for seq := uint64(1); seq <= 10; seq++ {
		results := make([]error, 9)
		var wg sync.WaitGroup
		for i := range results {
			wg.Go(func() {
				e := Entry(seq)
				e.Time = int64(i)
				results[i] = handles[i%len(handles)].Append(t.Context(), e)
			})
		}
		wg.Wait()
		won := -1
		for i, err := range results {
			if err != nil {
				want(t, err, envelope.ErrLedgerConflict)
				continue
			}
			if won >= 0 {
				t.Fatalf("%d and %d both have place %d", won, i, seq)
			}
			won = i
		}
		got := read(t, handles[0], seq-1)
		equal(t, "entries in the place", len(got), 1)
		equal(t, "the winner's", got[0].Time, int64(won))
	}
}

func testCopies(t *testing.T, b Backend) {
	l := b.Open(t)
	mine := Entry(1)
	must(t, l.Append(t.Context(), mine))
	spoil := func(e *envelope.LedgerEntry) {
		clear(e.Prev)
		clear(e.MAC)
		clear(e.RootCommit)
		clear(e.KIDs)
		clear(e.Pages)
	}
	spoil(&mine)
	for range 2 {
		got := read(t, l, 0)
		equal(t, "entry", got, []envelope.LedgerEntry{Entry(1)})
		spoil(&got[0])
	}
}

func testOpenAgain(t *testing.T, b Backend) {
	if b.Volatile {
		t.Skip("the ledger keeps nothing")
	}
	l := b.Open(t)
	fill(t, l, 3)
	if c, ok := l.(interface{ Close() error }); ok {
		must(t, c.Close())
	}
	again := b.Open(t)
	equal(t, "entries", read(t, again, 0), []envelope.LedgerEntry{Entry(1), Entry(2), Entry(3)})
	want(t, again.Append(t.Context(), Entry(3)), envelope.ErrLedgerConflict)
	must(t, again.Append(t.Context(), Entry(4)))
}

func testCancelled(t *testing.T, b Backend) {
	l := b.Open(t)
	fill(t, l, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	want(t, l.Append(ctx, Entry(2)), context.Canceled)
	got, err := l.Read(ctx, 0)
	want(t, err, context.Canceled)
	equal(t, "entries with the error", len(got), 0)
	late, stop := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer stop()
	want(t, l.Append(late, Entry(2)), context.DeadlineExceeded)
	equal(t, "entries", len(read(t, l, 0)), 1)
	must(t, l.Append(t.Context(), Entry(2)))
}

// An Append that is cut off wrote its entry or did not; one that returned nil did.
func testCutOff(t *testing.T, b Backend) {
	l := b.Open(t)
	for i := range 30 {
		next := uint64(len(read(t, l, 0))) + 1
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
		err := l.Append(ctx, Entry(next))
		cancel()
		got := read(t, b.Open(t), next-1)
		switch {
		case err == nil:
			equal(t, "appended", got, []envelope.LedgerEntry{Entry(next)})
		case errors.Is(err, envelope.ErrLedgerConflict):
			t.Fatal("nobody else appended")
		case len(got) > 0:
			equal(t, "appended all the same", got, []envelope.LedgerEntry{Entry(next)})
		}
	}
	must(t, l.Append(t.Context(), Entry(uint64(len(read(t, l, 0)))+1)))
}

func testLarge(t *testing.T, b Backend) {
	l := b.Open(t)
	const n = 10_000
	big := Entry(1)
	big.KIDs, big.Pages = make([]envelope.KeyID, 2_000), make([]envelope.PageID, 2_000)
	must(t, l.Append(t.Context(), big))
	for seq := uint64(2); seq <= n; seq++ {
		must(t, l.Append(t.Context(), Entry(seq)))
	}
	got := read(t, b.Open(t), 0)
	equal(t, "entries", len(got), n)
	equal(t, "a large one", got[0], big)
	equal(t, "the last", read(t, l, n-1), []envelope.LedgerEntry{Entry(n)})
}

// A ledger that cannot be reached fails: it is not empty, and no other process was
// quicker.
func testAway(t *testing.T, b Backend) {
	if b.Away == nil {
		t.Skip("the ledger is never away")
	}
	l := b.Away(t)
	got, err := l.Read(t.Context(), 0)
	appended := l.Append(t.Context(), Entry(1))
	for name, err := range map[string]error{"Read": err, "Append": appended} {
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		for _, known := range []error{
			envelope.ErrLedgerConflict, envelope.ErrLedger, envelope.ErrStoreConflict, envelope.ErrStoreEmpty,
			context.Canceled, context.DeadlineExceeded,
		} {
			if errors.Is(err, known) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	equal(t, "entries with the error", len(got), 0)
}

// What would not read back as it was is refused.
func testBadEntries(t *testing.T, b Backend) {
	if b.Volatile {
		t.Skip("the ledger writes nothing")
	}
	l := b.Open(t)
	for name, spoil := range map[string]func(e *envelope.LedgerEntry){
		"text":      func(e *envelope.LedgerEntry) { e.KMSHandle = "\xff" },
		"no MAC":    func(e *envelope.LedgerEntry) { e.MAC = nil },
		"long prev": func(e *envelope.LedgerEntry) { e.Prev = make([]byte, 33) },
		"no kind":   func(e *envelope.LedgerEntry) { e.Kind = "" },
	} {
		e := Entry(1)
		spoil(&e)
		if err := l.Append(t.Context(), e); err == nil || errors.Is(err, envelope.ErrLedgerConflict) || strings.Contains(err.Error(), string(e.SRef[:])) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	equal(t, "entries", len(read(t, l, 0)), 0)
	must(t, l.Append(t.Context(), Entry(1)))
}
