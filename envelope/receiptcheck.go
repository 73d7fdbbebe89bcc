package envelope

import (
	"encoding/hex"
	"errors"
	"strings"
)

// check reports why r is not as Forget, ForgetDue, Release or Receipt make one: it may
// come from a call that failed, or from one that changed nothing. It cannot tell whether
// what it says is true: VerifyAgainstLedger does.
func (r *Receipt) check() error {
	head, err := hex.DecodeString(r.LedgerHead)
	switch {
	case r.Store == (StoreID{}) || r.Tree == 0:
		return errors.New("it names no store or no tree")
	case r.Seq == 0:
		return errors.New("it names no ledger entry")
	case !r.Forgotten.IsZero() && r.None != "":
		return errors.New("it has a time, and a reason why there is none")
	case r.Deferred:
		if len(r.Entries)+len(r.KeyIDs)+len(r.Handles) > 0 || r.ClosedEpoch != 0 || r.Complete || !r.Forgotten.IsZero() {
			return errors.New("it is of a forget that is yet to come, and says what it did")
		}
		return nil
	case len(r.Entries) == 0 || r.Entries[0] != r.Seq:
		return errors.New("its entries do not begin with that of the forget")
	case r.Time.IsZero() || r.Issued.IsZero() || r.Epoch == 0:
		return errors.New("it has no time, or no epoch")
	case err != nil || len(head) != 32 || r.LedgerHead != strings.ToLower(r.LedgerHead) || r.LedgerSeq < r.Entries[len(r.Entries)-1]:
		return errors.New("it does not name the ledger it is by")
	case r.Unknown != (len(r.KeyIDs) == 0):
		return errors.New("it has keys that died and says that there were none, or the other way round")
	case !r.Due.IsZero():
		return errors.New("it says when a forget is due, and is of one that is done")
	case r.Complete && r.ClosedEpoch == 0:
		return errors.New("it is complete, and no epoch was closed")
	}
	for i, seq := range r.Entries[1:] {
		if seq <= r.Entries[i] {
			return errors.New("its entries are not in order")
		}
	}
	return nil
}
