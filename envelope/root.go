package envelope

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/lethe-go/lethe/kms"
)

// rootKey is the unwrapped root page key R_e.
type rootKey struct {
	epoch     uint64
	uri       string
	handle    string
	semantics string
	commit    [32]byte
	suite     Suite
	aead      cipher.AEAD
	expires   int64 // clock nanoseconds
}

// newPageID draws an identifier that grows with time, 63 bits: no coordination
// between processes, and neighbours in the index stay neighbours.
func newPageID() PageID {
	var r [4]byte
	rand.Read(r[:])
	ms := uint64(time.Now().UnixMilli()) & (1<<41 - 1)
	return PageID(ms<<22 | uint64(binary.BigEndian.Uint32(r[:]))>>10)
}

func keyURI(key kms.Key) string {
	if id, ok := key.(kms.Identified); ok {
		return id.KeyURI()
	}
	return ""
}

// wrapRoot asks the KMS to wrap a root under a handle and checks the answer by
// unwrapping it: everything is lost with a root that was wrapped badly.
func wrapRoot(ctx context.Context, h rootHandle, id StoreID, tree TreeID, epoch uint64, opts Options, secret []byte) (RootRow, error) {
	commit := rootCommit(id, tree, epoch, opts.Suite, secret)
	row := RootRow{Tree: tree, Epoch: epoch, KMSURI: h.uri, KMSHandle: h.handle, Semantics: h.semantics, Suite: opts.Suite, Commit: commit[:], State: RootStaged, Created: time.Now().UTC().Truncate(time.Second)}
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	var err error
	aad := row.appendAAD(nil, id)
	if row.Wrapped, err = h.key.EncryptWithContext(ctx, secret, aad); err != nil {
		return row, kmsErr("wrap the root of the key store", err)
	}
	back, err := h.key.DecryptWithContext(ctx, row.Wrapped, aad)
	if err != nil {
		return row, kmsErr("unwrap what it has just wrapped", err)
	}
	defer clear(back)
	if subtle.ConstantTimeCompare(back, secret) != 1 {
		return row, fmt.Errorf("%w: it returned another root than it was given", ErrWrongKey)
	}
	return row, nil
}

func kmsErr(what string, err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case kms.Retryable(err):
		return fmt.Errorf("lethe: the KMS could not %s: %w: %w", what, ErrUnavailable, err)
	}
	return fmt.Errorf("%w: it could not %s: %w", ErrWrongKey, what, err)
}

// rootKey returns the active root, from memory while it is younger than the
// TTL. Concurrent callers share one KMS call. fresh asks the store whether it is
// still the active one.
func (k *Keyring) rootKey(ctx context.Context, fresh bool) (*rootKey, error) {
	if k.closed.Load() {
		return nil, ErrClosed
	}
	if !fresh {
		k.rootMu.RLock()
		r := k.root
		k.rootMu.RUnlock()
		if r != nil && k.clock.now() < r.expires {
			return r, nil
		}
	}
	ch := k.roots.DoChan("root", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*k.opts.Timeout)
		defer cancel()
		return k.loadRoot(ctx)
	})
	select {
	case <-ctx.Done():
		return nil, ended(ctx)
	case res := <-ch:
		if res.Err != nil {
			return nil, res.Err
		}
		root, _ := res.Val.(*rootKey)
		return root, nil
	}
}

func (k *Keyring) loadRoot(ctx context.Context) (*rootKey, error) {
	if k.led.opened() {
		if err := k.syncLedger(ctx); err != nil {
			return nil, err
		}
	}
	expires := k.clock.now() + int64(k.opts.CacheTTL)
	tree, rows, err := k.activeTree(ctx)
	if err != nil {
		return nil, err
	}
	if r := k.stillActive(tree.ActiveEpoch, rows); r != nil {
		return r, nil
	}
	secret, row, err := k.unwrapRoot(ctx, tree.ActiveEpoch, rows)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	r := &rootKey{epoch: row.Epoch, uri: row.KMSURI, handle: row.KMSHandle, semantics: row.Semantics, suite: row.Suite, expires: expires}
	copy(r.commit[:], row.Commit)
	if r.aead, err = row.Suite.aead(secret); err != nil {
		return nil, err
	}
	if err := k.led.checkRoot(r); err != nil {
		return nil, err
	}
	k.rootMu.Lock()
	k.root = r
	k.rootMu.Unlock()
	return r, nil
}

// stillActive returns the root in memory if it is the store's active one and not
// expired: a caller who doubts it needs no KMS call to learn that.
func (k *Keyring) stillActive(epoch uint64, rows []RootRow) *rootKey {
	k.rootMu.RLock()
	r := k.root
	k.rootMu.RUnlock()
	if r == nil || r.epoch != epoch || k.clock.now() >= r.expires {
		return nil
	}
	for i := range rows {
		if rows[i].Epoch == epoch && rows[i].State == RootActive && bytes.Equal(rows[i].Commit, r.commit[:]) {
			return r
		}
	}
	return nil
}

// unwrapRoot tries the keys whose identity the row names first, then the others.
func (k *Keyring) unwrapRoot(ctx context.Context, epoch uint64, rows []RootRow) ([]byte, *RootRow, error) {
	k.keyMu.RLock()
	keys := k.keys
	k.keyMu.RUnlock()
	var failure error // an outage, or else what became of the first key tried
	for _, named := range []bool{true, false} {
		for i := range rows {
			row := &rows[i]
			if row.Epoch != epoch || row.State != RootActive {
				continue
			}
			for _, key := range keys {
				if (keyURI(key) == row.KMSURI) != named {
					continue
				}
				secret, err := k.handles.of(key, row, k.opts).DecryptWithContext(ctx, row.Wrapped, row.appendAAD(nil, k.id))
				if err != nil {
					err = kmsErr(fmt.Sprintf("unwrap the root of store %x, which was wrapped by %q", k.id, row.KMSURI), err)
					if failure == nil || errors.Is(err, ErrUnavailable) {
						failure = err
					}
					continue
				}
				commit := rootCommit(k.id, row.Tree, row.Epoch, row.Suite, secret)
				if len(secret) != keySize || subtle.ConstantTimeCompare(commit[:], row.Commit) != 1 {
					clear(secret)
					if failure == nil {
						failure = fmt.Errorf("%w: the KMS answered with another root than was wrapped", ErrWrongKey)
					}
					continue
				}
				return secret, row, nil
			}
		}
	}
	if failure == nil {
		failure = fmt.Errorf("lethe: the key store has no active root for epoch %d, which it is in: its tables are of different moments: put all of them back from one backup, then call envelope.Restore: %w", epoch, ErrKeyMissing)
	}
	return nil, nil, failure
}
