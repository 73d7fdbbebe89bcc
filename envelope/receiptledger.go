package envelope

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
)

// VerifyAgainstLedger checks a receipt against a copy of the ledger, from entry 1 to
// at least the receipt's LedgerSeq: that the chain holds, that entry LedgerSeq has
// the hash LedgerHead, that the entries are forgets of one subject with the
// receipt's keys and time, that Asked asked for it, and that the epochs and what
// became of their handles are as it says. A receipt that is Deferred is of no forget
// yet, and does not verify. It needs neither the store nor the KMS.
//
// It cannot check the entries' MACs, which only the store's key can: the copy must
// come from somebody who is trusted with it, or be the one whose head a signed
// receipt names. The error is ErrNotVerified.
func VerifyAgainstLedger(r Receipt, entries []LedgerEntry) error {
	if r.Seq == 0 || r.Seq > r.LedgerSeq || uint64(len(entries)) < r.LedgerSeq {
		return fmt.Errorf("%w: the ledger has %d entries, and the receipt is of entry %d as of entry %d: it needs a whole copy, from entry 1", ErrNotVerified, len(entries), r.Seq, r.LedgerSeq)
	}
	l := newLedgerState()
	for i := range entries {
		e := &entries[i]
		switch {
		case e.Seq != uint64(i)+1 || !bytes.Equal(e.Prev, l.head[:]):
			return fmt.Errorf("%w: entry %d of the ledger does not follow the one before it", ErrNotVerified, i+1)
		case e.Store != r.Store:
			return fmt.Errorf("%w: entry %d is of store %x and the receipt of %x", ErrNotVerified, e.Seq, e.Store, r.Store)
		}
		if e.Seq > r.LedgerSeq {
			l.head = e.hash() // only the chain counts
			continue
		}
		if err := l.learn(e); err != nil {
			return fmt.Errorf("%w: %w", ErrNotVerified, err)
		}
	}
	if r.Deferred || !r.Due.IsZero() {
		return fmt.Errorf("%w: it says that the forget is yet to come", ErrNotVerified)
	}
	if first := &entries[r.Seq-1]; r.Asked != 0 {
		if r.Asked >= r.Seq {
			return fmt.Errorf("%w: its asked is %d, which is no earlier entry than %d", ErrNotVerified, r.Asked, r.Seq)
		}
		// The purpose of token keys is another than the one that was asked for.
		if e := &entries[r.Asked-1]; e.Kind != LedgerForgetLater || e.Tree != first.Tree || e.RefVer != first.RefVer || e.SRef != first.SRef || (e.PID == 0) != (first.PID == 0) {
			return fmt.Errorf("%w: its asked is %d, and that entry does not ask for this forget", ErrNotVerified, r.Asked)
		}
	}
	l.head = entries[r.LedgerSeq-1].hash()
	tail := entries[r.Seq-1 : r.LedgerSeq]
	want, err := l.receipt(tail, r.tokens(tail))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotVerified, err)
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"ledger_head", r.LedgerHead, want.LedgerHead},
		{"tree", r.Tree, want.Tree},
		{"time", r.Time.UTC(), want.Time},
		{"entries", r.Entries, want.Entries},
		{"kids", r.KeyIDs, want.KeyIDs},
		{"unknown", r.Unknown, want.Unknown},
		{"epoch", r.Epoch, want.Epoch},
		{"closed_epoch", r.ClosedEpoch, want.ClosedEpoch},
		{"handles", r.Handles, want.Handles},
		{"complete", r.Complete, want.Complete},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			return fmt.Errorf("%w: its %s is %v, and by the ledger it is %v", ErrNotVerified, c.what, c.got, c.want)
		}
	}
	return nil
}

// tokens returns the other purpose among the receipt's entries: that of the token
// keys, which only the key store can name.
func (r *Receipt) tokens(tail []LedgerEntry) PID {
	for i := range tail {
		if e := &tail[i]; e.PID != tail[0].PID && tail[0].PID != 0 && slices.Contains(r.Entries, e.Seq) {
			return e.PID
		}
	}
	return 0
}
