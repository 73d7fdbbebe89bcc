package envelope_test

import (
	"context"
	"time"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/kms"
)

// stepFunc stands around every call of the store, the ledger and the KMS.
type stepFunc func(name string, call func() error) error

// steppedStore is a store whose every call is a step.
type steppedStore struct {
	envelope.Store
	step stepFunc
}

func step1[A any](step stepFunc, name string, call func() (A, error)) (a A, err error) {
	err = step(name, func() (err error) { a, err = call(); return err })
	if err != nil {
		var none A
		return none, err
	}
	return a, nil
}

type pair[A, B any] struct {
	a A
	b B
}

func step2[A, B any](step stepFunc, name string, call func() (A, B, error)) (A, B, error) {
	p, err := step1(step, name, func() (p pair[A, B], err error) { p.a, p.b, err = call(); return p, err })
	return p.a, p.b, err
}

func (s steppedStore) Meta(ctx context.Context) (envelope.Meta, error) {
	return step1(s.step, "Meta", func() (envelope.Meta, error) { return s.Store.Meta(ctx) })
}

func (s steppedStore) Advance(ctx context.Context, prev, seq uint64, head []byte) error {
	return s.step("Advance", func() error { return s.Store.Advance(ctx, prev, seq, head) })
}

func (s steppedStore) Tree(ctx context.Context, tree envelope.TreeID) (envelope.TreeRow, []envelope.RootRow, error) {
	return step2(s.step, "Tree", func() (envelope.TreeRow, []envelope.RootRow, error) { return s.Store.Tree(ctx, tree) })
}

func (s steppedStore) Pages(ctx context.Context, tree envelope.TreeID, ids []envelope.PageID) ([]envelope.PageRow, error) {
	return step1(s.step, "Pages", func() ([]envelope.PageRow, error) { return s.Store.Pages(ctx, tree, ids) })
}

func (s steppedStore) ChildPages(ctx context.Context, tree envelope.TreeID, parent envelope.PageID) ([]envelope.PageRow, error) {
	return step1(s.step, "ChildPages", func() ([]envelope.PageRow, error) { return s.Store.ChildPages(ctx, tree, parent) })
}

func (s steppedStore) DirtyPages(ctx context.Context, tree envelope.TreeID) ([]envelope.PageRow, error) {
	return step1(s.step, "DirtyPages", func() ([]envelope.PageRow, error) { return s.Store.DirtyPages(ctx, tree) })
}

func (s steppedStore) Keys(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef) ([]envelope.KeyRow, []envelope.PageRow, error) {
	return step2(s.step, "Keys", func() ([]envelope.KeyRow, []envelope.PageRow, error) { return s.Store.Keys(ctx, tree, refVer, srefs) })
}

func (s steppedStore) KeysOfPage(ctx context.Context, tree envelope.TreeID, page envelope.PageID) ([]envelope.KeyRow, error) {
	return step1(s.step, "KeysOfPage", func() ([]envelope.KeyRow, error) { return s.Store.KeysOfPage(ctx, tree, page) })
}

func (s steppedStore) SystemKeys(ctx context.Context, tree envelope.TreeID, kind envelope.KeyKind) ([]envelope.KeyRow, []envelope.PageRow, error) {
	return step2(s.step, "SystemKeys", func() ([]envelope.KeyRow, []envelope.PageRow, error) { return s.Store.SystemKeys(ctx, tree, kind) })
}

func (s steppedStore) Evidence(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef, kids []envelope.KeyID) ([]envelope.Tomb, []envelope.KeyID, error) {
	return step2(s.step, "Evidence", func() ([]envelope.Tomb, []envelope.KeyID, error) {
		return s.Store.Evidence(ctx, tree, refVer, srefs, kids)
	})
}

func (s steppedStore) Forget(ctx context.Context, f envelope.Forgetting) ([]envelope.KeyRow, error) {
	return step1(s.step, "Forget", func() ([]envelope.KeyRow, error) { return s.Store.Forget(ctx, f) })
}

func (s steppedStore) Rekey(ctx context.Context, r envelope.Rekey) error {
	return s.step("Rekey", func() error { return s.Store.Rekey(ctx, r) })
}

func (s steppedStore) RekeyPages(ctx context.Context, r envelope.RekeyPages) error {
	return s.step("RekeyPages", func() error { return s.Store.RekeyPages(ctx, r) })
}

func (s steppedStore) PagesAfter(ctx context.Context, tree envelope.TreeID, after envelope.PageID, limit int) ([]envelope.PageRow, error) {
	return step1(s.step, "PagesAfter", func() ([]envelope.PageRow, error) { return s.Store.PagesAfter(ctx, tree, after, limit) })
}

func (s steppedStore) Roots(ctx context.Context, tree envelope.TreeID) ([]envelope.RootRow, error) {
	return step1(s.step, "Roots", func() ([]envelope.RootRow, error) { return s.Store.Roots(ctx, tree) })
}

func (s steppedStore) UpdateRoots(ctx context.Context, roots []envelope.RootRow) error {
	return s.step("UpdateRoots", func() error { return s.Store.UpdateRoots(ctx, roots) })
}

func (s steppedStore) Reincarnate(ctx context.Context, old, next uint64) error {
	return s.step("Reincarnate", func() error { return s.Store.Reincarnate(ctx, old, next) })
}

func (s steppedStore) Claim(ctx context.Context, l envelope.Lease, now time.Time) error {
	return s.step("Claim", func() error { return s.Store.Claim(ctx, l, now) })
}

// steppedLedger is a ledger whose every call is a step.
type steppedLedger struct {
	envelope.Ledger
	step stepFunc
}

func (l steppedLedger) Append(ctx context.Context, e envelope.LedgerEntry) error {
	return l.step("Append "+string(e.Kind), func() error { return l.Ledger.Append(ctx, e) })
}

func (l steppedLedger) Read(ctx context.Context, after uint64) ([]envelope.LedgerEntry, error) {
	return step1(l.step, "Read", func() ([]envelope.LedgerEntry, error) { return l.Ledger.Read(ctx, after) })
}

// eraserKey is what the keys of the tests that destroy handles are.
type eraserKey interface {
	kms.Eraser
	kms.Identified
}

// steppedKMS is a KMS key whose every call is a step, those of its handles too.
type steppedKMS struct {
	eraserKey
	step stepFunc
}

func (k steppedKMS) EraseSemantics(ctx context.Context) (kms.EraseSemantics, error) {
	return step1(k.step, "EraseSemantics", func() (kms.EraseSemantics, error) { return k.eraserKey.EraseSemantics(ctx) })
}

func (k steppedKMS) NewHandle(ctx context.Context, label string) (string, error) {
	return step1(k.step, "NewHandle", func() (string, error) { return k.eraserKey.NewHandle(ctx, label) })
}

func (k steppedKMS) HandleKey(handle string) (kms.Key, error) {
	key, err := k.eraserKey.HandleKey(handle)
	return steppedHandle{key, k.step}, err
}

func (k steppedKMS) Destroy(ctx context.Context, handle string) (kms.Erasure, error) {
	return step1(k.step, "Destroy", func() (kms.Erasure, error) { return k.eraserKey.Destroy(ctx, handle) })
}

func (k steppedKMS) Erasure(ctx context.Context, handle string) (kms.Erasure, error) {
	return step1(k.step, "Erasure", func() (kms.Erasure, error) { return k.eraserKey.Erasure(ctx, handle) })
}

type steppedHandle struct {
	kms.Key
	step stepFunc
}

func (h steppedHandle) EncryptWithContext(ctx context.Context, pt, ad []byte) ([]byte, error) {
	return step1(h.step, "Encrypt", func() ([]byte, error) { return h.Key.EncryptWithContext(ctx, pt, ad) })
}

func (h steppedHandle) DecryptWithContext(ctx context.Context, ct, ad []byte) ([]byte, error) {
	return step1(h.step, "Decrypt", func() ([]byte, error) { return h.Key.DecryptWithContext(ctx, ct, ad) })
}
