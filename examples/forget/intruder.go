package main

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/kms"
)

// rawRoots hands every root of a backup to the KMS, under every handle that the
// backup or the key store in use names and under the key itself, going around the
// Keyring. It counts the attempts that unwrap: all of a key store hangs on its root.
func rawRoots(ctx context.Context, backup, live envelope.Store, key kms.Key) (opened, tried int, err error) {
	meta, err := backup.Meta(ctx)
	if err != nil {
		return 0, 0, err
	}
	roots, err := backup.Roots(ctx, 1)
	if err != nil {
		return 0, 0, err
	}
	today, err := live.Roots(ctx, 1)
	if err != nil {
		return 0, 0, err
	}
	keys := []kms.Key{key}
	if e, ok := key.(kms.Eraser); ok {
		seen := map[string]bool{}
		for _, row := range append(today, roots...) {
			if row.Semantics == "" || seen[row.KMSHandle] {
				continue
			}
			seen[row.KMSHandle] = true
			one, err := e.HandleKey(row.KMSHandle)
			if err != nil {
				return 0, 0, err
			}
			keys = append(keys, one)
		}
	}
	for i := range roots {
		for _, k := range keys {
			tried++
			secret, err := k.DecryptWithContext(ctx, roots[i].Wrapped, rootContext(meta.StoreID, &roots[i]))
			clear(secret)
			switch {
			case err == nil:
				opened++
			case ctx.Err() != nil:
				return opened, tried, ctx.Err()
			case !errors.Is(err, kms.ErrRejected): // away, or it denies the right to ask
				return opened, tried, errors.New("the KMS does not answer whether it can unwrap: this shows nothing")
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
