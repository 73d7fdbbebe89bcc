package envelope

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Which entries of the ledger are one forget.
func TestEntriesOfAReceipt(t *testing.T) {
	ada, bob := SRef{1}, SRef{2}
	entry := func(kind LedgerKind, sref SRef, pid PID, kids ...KeyID) LedgerEntry {
		return LedgerEntry{Kind: kind, Tree: 1, RefVer: 1, SRef: sref, PID: pid, KIDs: kids}
	}
	tail := []LedgerEntry{
		entry(LedgerForget, ada, 2, KeyID{1}),                 // 10
		entry(LedgerForgetMore, bob, 2, KeyID{9}),             // 11: another person
		entry(LedgerForgetMore, ada, 2, KeyID{2}),             // 12: found late
		entry(LedgerForget, ada, 3, KeyID{3}),                 // 13: the token keys
		entry(LedgerForget, ada, 4, KeyID{8}),                 // 14: another purpose
		{Kind: LedgerForgetMore, Tree: 1, Pages: []PageID{5}}, // 15: of nobody
		entry(LedgerReadmit, ada, 2),                          // 16
		entry(LedgerForget, ada, 2, KeyID{4}),                 // 17: once more, with keys of its own
		entry(LedgerForgetMore, ada, 2, KeyID{5}),             // 18: found late by that
		entry(LedgerForgetMore, ada, 2, KeyID{1}, KeyID{2}),   // 19: removed again after a restore
	}
	for i := range tail {
		tail[i].Seq = uint64(10 + i)
	}
	var r Receipt
	require.EqualValues(t, 19, r.addEntries(tail, 3))
	require.Equal(t, []uint64{10, 12, 13, 19}, r.Entries)
	require.Equal(t, []KeyID{{1}, {2}, {3}}, r.KeyIDs)

	r = Receipt{}
	require.EqualValues(t, 18, r.addEntries(tail[7:9], 3))
	require.Equal(t, []uint64{17, 18}, r.Entries)

	r = Receipt{}
	require.EqualValues(t, 12, r.addEntries(tail[:4], 0), "no token keys are known")
}

// ClosedEpoch comes after the last entry, and only if it was switched to.
func TestClosedEpochOfAReceipt(t *testing.T) {
	l := newLedgerState()
	var all []LedgerEntry
	add := func(e LedgerEntry) {
		e.Tree, e.RefVer, e.Seq, e.Time, e.Semantics = 1, 1, uint64(len(all)+1), int64(len(all)+1), "delay=0s cancelable=false backups=false"
		all = append(all, e)
		require.NoError(t, l.learn(&all[len(all)-1]))
	}
	of := func(seq int) Receipt {
		r, err := l.receipt(all[seq-1:], 0)
		require.NoError(t, err)
		return r
	}
	kid := []KeyID{{1}}
	add(LedgerEntry{Kind: LedgerInit, Epoch: 1})
	add(LedgerEntry{Kind: LedgerRootBegin, Epoch: 2})
	add(LedgerEntry{Kind: LedgerForget, Epoch: 1, SRef: SRef{1}, KIDs: kid}) // while 2 is being closed into
	add(LedgerEntry{Kind: LedgerRootSwitch, Epoch: 2})
	require.Zero(t, of(3).ClosedEpoch, "the close may have re-keyed its page before")
	require.EqualValues(t, 2, of(3).Epoch)
	require.Len(t, of(3).Handles, 2)
	add(LedgerEntry{Kind: LedgerRootBegin, Epoch: 3}) // never switched to
	add(LedgerEntry{Kind: LedgerForgetMore, Epoch: 2, SRef: SRef{1}, KIDs: []KeyID{{2}}})
	add(LedgerEntry{Kind: LedgerRootBegin, Epoch: 4})
	require.Zero(t, of(3).ClosedEpoch)
	add(LedgerEntry{Kind: LedgerRootSwitch, Epoch: 4})
	require.EqualValues(t, 4, of(3).ClosedEpoch)
	require.Len(t, of(3).Handles, 2, "3 wrapped no root that was used")
	require.False(t, of(3).Complete)
	for _, epoch := range []uint64{1, 2} {
		require.False(t, of(3).Complete)
		add(LedgerEntry{Kind: LedgerErased, Epoch: epoch})
	}
	require.True(t, of(3).Complete)
}

// A promise that was not kept is not repeated, nor one made of nothing.
func TestJudgeOfAReceipt(t *testing.T) {
	at := unixTime(1_000_000)
	promise := Promise{Backups: 1000_000_000_000}
	for _, c := range []struct {
		name   string
		issued int64
		closed uint64
		handle ReceiptHandle
		want   int64 // 0: none
	}{
		{"promised", 10, 0, ReceiptHandle{State: ReceiptLive}, 1000},
		{"overdue", 1001, 0, ReceiptHandle{State: ReceiptLive}, 0},
		{"due, and what the KMS takes", 10, 2, ReceiptHandle{State: ReceiptDue, Due: unixTime(1_000_020), Semantics: "delay=1m0s cancelable=true backups=false"}, 80},
		{"unknown semantics", 10, 2, ReceiptHandle{State: ReceiptDue, Due: unixTime(1_000_020), Semantics: "new"}, 0},
		{"ordered", 10, 2, ReceiptHandle{State: ReceiptOrdered, Due: at, Until: unixTime(1_000_030)}, 30},
		{"ordered and overdue", 31, 2, ReceiptHandle{State: ReceiptOrdered, Due: at, Until: unixTime(1_000_030)}, 0},
		{"not erasable", 10, 2, ReceiptHandle{State: ReceiptNotErasable}, 0},
	} {
		r := Receipt{Time: at, Issued: unixTime(1_000_000 + c.issued), ClosedEpoch: c.closed, Handles: []ReceiptHandle{c.handle}}
		r.judge(&promise)
		if c.want == 0 {
			require.Zero(t, r.Forgotten, c.name)
			require.NotEmpty(t, r.None, c.name)
			continue
		}
		require.Equal(t, unixTime(1_000_000+c.want), r.Forgotten, c.name)
		require.Empty(t, r.None, c.name)
	}
}
