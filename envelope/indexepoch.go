package envelope

import (
	"context"
	"fmt"
	"time"
)

// RotateIndexKey begins a new index epoch of the blind index (record, field) of a
// tenant: it makes a new version of its key. What is sealed from now on has index
// values of the new version; a query searches for all versions. Then recompute the
// index of every row (lethe's Reindex), and call RetireIndexKeys.
//
// Index values tell who has the index key whether a guess is right, also those in
// an old backup of a table, of people forgotten since: for them T counts from the
// retirement of the key. Rotate it as often as you close epochs, or as the data is
// worth.
//
// It returns ErrKeyMissing if nothing was ever indexed.
func (k *Keyring) RotateIndexKey(ctx context.Context, tenant, record, field string) error {
	_, err := k.rotate(ctx, Subject{Tenant: tenant, Kind: indexKind, ID: k.indexIDs.of(record, field)})
	return err
}

// RetireIndexKeys ends the older index epochs: every version of the key but the
// newest is dead from now on, and beyond the reach of backups after the next
// CloseEpoch and its Window. Index values of those versions match nothing any
// more: recompute them all first. It is recorded in the ledger; the receipt has
// the keys that died, none if there was one version only.
func (k *Keyring) RetireIndexKeys(ctx context.Context, tenant, record, field string) (Receipt, error) {
	if k.closed.Load() {
		return Receipt{}, ErrClosed
	}
	ctx, cancel := k.bound(ctx, 4)
	defer cancel()
	k.forgetMu.Lock()
	defer k.forgetMu.Unlock()
	if err := k.catchUp(ctx); err != nil {
		return Receipt{}, err
	}
	ref := keyRef{tenant: tenant, kind: indexKind, id: k.indexIDs.of(record, field)}
	sref := k.sref(ref.tenant, ref.kind, ref.id)
	rows, _, err := k.store.Keys(ctx, k.tree, refVersion, []SRef{sref})
	if err != nil {
		return Receipt{}, storeErr(err)
	}
	newest := uint32(0)
	for i := range rows {
		if rows[i].Kind == KindIndex && !k.led.isDead(rows[i].KID) {
			newest = max(newest, rows[i].Seq)
		}
	}
	if newest == 0 {
		return Receipt{}, fmt.Errorf("%w: nothing was indexed", ErrKeyMissing)
	}
	e := &LedgerEntry{Kind: LedgerRetire, Tree: k.tree, RefVer: refVersion, SRef: sref}
	for i := range rows {
		if rows[i].Seq < newest && !k.led.isDead(rows[i].KID) {
			e.KIDs = append(e.KIDs, rows[i].KID)
			e.Pages = append(e.Pages, rows[i].Page)
		}
	}
	if len(e.KIDs) == 0 {
		return Receipt{Store: k.id, Already: true}, nil
	}
	k.led.mu.RLock()
	e.Epoch = k.led.epoch
	k.led.mu.RUnlock()
	if err := k.appendLedger(ctx, e); err != nil {
		return Receipt{}, err
	}
	k.cache.del(ref)
	done, stop := k.bound(context.WithoutCancel(ctx), 2)
	defer stop()
	err = k.catchUp(done)
	return Receipt{Store: k.id, Seq: e.Seq, Time: time.Unix(e.Time, 0).UTC(), KeyIDs: e.KIDs}, err
}
