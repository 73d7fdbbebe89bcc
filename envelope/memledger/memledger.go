// Package memledger is a ledger in memory, for tests and demonstrations: it
// dies with the process, so nothing it recorded survives a restart. Use
// package fileledger or sqlledger in a service.
package memledger

import (
	"context"
	"slices"
	"sync"

	"github.com/lethe-go/lethe/envelope"
)

// Ledger is an envelope.Ledger in memory. The zero value is empty and ready.
// It is safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	entries []envelope.LedgerEntry
}

// Append implements envelope.Ledger.
func (l *Ledger) Append(ctx context.Context, e envelope.LedgerEntry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Seq != uint64(len(l.entries))+1 {
		return envelope.ErrLedgerConflict
	}
	l.entries = append(l.entries, clone(e))
	return nil
}

// Read implements envelope.Ledger.
func (l *Ledger) Read(ctx context.Context, after uint64) ([]envelope.LedgerEntry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if after >= uint64(len(l.entries)) {
		return nil, nil
	}
	var out []envelope.LedgerEntry
	for _, e := range l.entries[after:] {
		out = append(out, clone(e))
	}
	return out, nil
}

func clone(e envelope.LedgerEntry) envelope.LedgerEntry {
	e.Prev, e.MAC, e.RootCommit = slices.Clone(e.Prev), slices.Clone(e.MAC), slices.Clone(e.RootCommit)
	e.KIDs, e.Pages = slices.Clone(e.KIDs), slices.Clone(e.Pages)
	return e
}
