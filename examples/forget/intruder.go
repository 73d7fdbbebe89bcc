package main

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/kms"
)

// rawRoots hands every root of a key store to the KMS, going around the Keyring,
// and counts those that it unwraps: all of a key store hangs on its root.
func rawRoots(ctx context.Context, store envelope.Store, key kms.Key) (opened, tried int, err error) {
	meta, err := store.Meta(ctx)
	if err != nil {
		return 0, 0, err
	}
	roots, err := store.Roots(ctx, 1)
	if err != nil {
		return 0, 0, err
	}
	for i := range roots {
		row := &roots[i]
		keys := []kms.Key{key}
		if e, ok := key.(kms.Eraser); ok && row.Semantics != "" {
			if one, err := e.HandleKey(row.KMSHandle); err == nil {
				keys = append(keys, one)
			}
		}
		for _, k := range keys {
			tried++
			secret, err := k.DecryptWithContext(ctx, row.Wrapped, rootContext(meta.StoreID, row))
			clear(secret)
			switch {
			case err == nil:
				opened++
			case kms.Retryable(err):
				return opened, tried, errors.New("the KMS is away: this shows nothing")
			}
		}
	}
	return opened, tried, nil
}

// rootContext is the associated data of a root (envelope/FORMAT.md, section 6).
func rootContext(id envelope.StoreID, row *envelope.RootRow) []byte {
	lp := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	b := append(lp(nil, "lethe/1/root"), id[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(row.Tree))
	b = binary.BigEndian.AppendUint64(b, row.Epoch)
	return lp(b, row.KMSURI)
}
