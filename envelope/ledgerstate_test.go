package envelope

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// An entry that comes late, from a process that was slow to complete a switch or
// an Init, does not take the ledger's root back.
func TestTheLedgersRootNeverGoesBack(t *testing.T) {
	l := &ledgerState{epochs: map[uint64]*epochState{}, key: newMACKey(make([]byte, 32)), ready: true, dead: map[KeyID]struct{}{}, dirty: map[PageID]uint64{}}
	for _, e := range []LedgerEntry{
		{Kind: LedgerInit, Epoch: 1}, {Kind: LedgerRootBegin, Epoch: 2}, {Kind: LedgerRootSwitch, Epoch: 2},
		{Kind: LedgerRootBegin, Epoch: 3}, {Kind: LedgerRootSwitch, Epoch: 3, RootCommit: []byte("three")},
		{Kind: LedgerRootSwitch, Epoch: 2}, {Kind: LedgerInit, Epoch: 1}, {Kind: LedgerRootBegin, Epoch: 2},
	} {
		e.Seq, e.Prev = l.seq+1, append([]byte(nil), l.head[:]...)
		mac := l.key.sum(e.appendCanonical)
		e.MAC = mac[:]
		require.NoError(t, l.take(&e, StoreID{}))
	}
	require.Error(t, l.checkEpoch(2))
	require.NoError(t, l.checkEpoch(3))
	require.Error(t, l.checkEpoch(4))
	require.EqualValues(t, 3, l.begun)
	require.Equal(t, []byte("three"), l.root)
}
