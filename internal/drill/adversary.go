package drill

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/kms"
)

// Rows is every row of a key store that somebody ever saw. It is safe for
// concurrent use.
type Rows struct {
	mu       sync.Mutex
	store    envelope.StoreID
	purposes map[string]bool // names; numbers may differ between histories
	seen     map[string]bool // by wrapped bytes
	roots    []envelope.RootRow
	pages    map[envelope.PageID][]envelope.PageRow // by parent
	keys     map[envelope.PageID][]envelope.KeyRow  // by page
}

// NewRows returns Rows that hold none.
func NewRows() *Rows {
	return &Rows{
		purposes: map[string]bool{"": true}, seen: map[string]bool{},
		pages: map[envelope.PageID][]envelope.PageRow{}, keys: map[envelope.PageID][]envelope.KeyRow{},
	}
}

func (r *Rows) fresh(wrapped []byte) bool {
	if len(wrapped) == 0 || r.seen[string(wrapped)] {
		return false
	}
	r.seen[string(wrapped)] = true
	return true
}

// Add keeps rows. Those that differ from one that is kept in other things than
// the wrapped bytes are that one.
func (r *Rows) Add(roots []envelope.RootRow, pages []envelope.PageRow, keys []envelope.KeyRow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, row := range roots {
		if r.fresh(row.Wrapped) {
			row.Wrapped = slices.Clone(row.Wrapped)
			r.roots = append(r.roots, row)
		}
	}
	for _, row := range pages {
		if r.fresh(row.Wrapped) {
			row.Wrapped = slices.Clone(row.Wrapped)
			r.pages[row.Parent] = append(r.pages[row.Parent], row)
		}
	}
	for _, row := range keys {
		if r.fresh(row.Wrapped) {
			row.Wrapped = slices.Clone(row.Wrapped)
			r.keys[row.Page] = append(r.keys[row.Page], row)
		}
	}
}

// Collect adds all that a store holds now.
func (r *Rows) Collect(ctx context.Context, s envelope.Store) error {
	meta, err := s.Meta(ctx)
	if err != nil {
		return err
	}
	purposes, err := s.Purposes(ctx)
	if err != nil {
		return err
	}
	roots, err := s.Roots(ctx, tree)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.store = meta.StoreID
	for _, p := range purposes {
		r.purposes[p.Name] = true
	}
	r.mu.Unlock()
	pages, err := s.PagesAfter(ctx, tree, 0, math.MaxInt32)
	if err != nil {
		return err
	}
	r.Add(roots, pages, nil)
	for i := range pages {
		if pages[i].Level > 0 {
			continue
		}
		keys, err := s.KeysOfPage(ctx, tree, pages[i].Page)
		if err != nil {
			return err
		}
		r.Add(nil, nil, keys)
	}
	return nil
}

const tree envelope.TreeID = 1

// Needles are the wrapped bytes of all rows: those of the keys in dead, those of
// other keys, and those of pages and roots.
func (r *Rows) Needles(dead map[envelope.KeyID]bool) (out []Needle) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, row := range r.roots {
		out = append(out, Needle{"roots", row.Wrapped})
	}
	for _, rows := range r.pages {
		for _, row := range rows {
			out = append(out, Needle{"pages", row.Wrapped})
		}
	}
	for _, rows := range r.keys {
		for _, row := range rows {
			group := "live keys"
			if dead[row.KID] {
				group = "dead keys"
			}
			out = append(out, Needle{group, row.Wrapped})
		}
	}
	return out
}

// KIDs are all keys that ever were.
func (r *Rows) KIDs() map[envelope.KeyID]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[envelope.KeyID]bool{}
	for _, rows := range r.keys {
		for _, row := range rows {
			out[row.KID] = true
		}
	}
	return out
}

// Reach returns the keys that can be opened with all rows and with what the KMS
// still does: from the roots downwards, every row under every key known of its
// page, of whatever generation, until nothing new opens. The contexts and suites
// are those of envelope/FORMAT.md; nothing here is the library's.
//
// A KMS that is away is an error: it does not show that a key is beyond reach.
func (r *Rows) Reach(ctx context.Context, key kms.Eraser) (map[envelope.KeyID]bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	type pageKey struct {
		page   envelope.PageID
		suite  envelope.Suite
		secret string
	}
	known := map[pageKey]bool{}
	var todo []pageKey
	learn := func(page envelope.PageID, suite envelope.Suite, secret []byte) {
		if k := (pageKey{page, suite, string(secret)}); !known[k] {
			known[k] = true
			todo = append(todo, k)
		}
	}
	kek, err := r.kek(key)
	if err != nil {
		return nil, err
	}
	for i := range r.roots {
		row := &r.roots[i]
		for _, k := range kek {
			secret, err := k.DecryptWithContext(ctx, row.Wrapped, rootContext(r.store, row))
			switch {
			case err == nil:
				learn(0, row.Suite, secret)
			case kms.Retryable(err) || ctx.Err() != nil:
				return nil, err
			}
		}
	}
	reached := map[envelope.KeyID]bool{}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for i := range r.pages[at.page] {
			row := &r.pages[at.page][i]
			if secret, ok := unseal(at.suite, at.secret, row.Wrapped, pageContext(r.store, row)); ok {
				learn(row.Page, row.Suite, secret)
			}
		}
		for i := range r.keys[at.page] {
			row := &r.keys[at.page][i]
			for purpose := range r.purposes {
				if reached[row.KID] {
					break
				}
				_, reached[row.KID] = unseal(at.suite, at.secret, row.Wrapped, keyContext(r.store, row, purpose))
			}
		}
	}
	for kid, open := range reached {
		if !open {
			delete(reached, kid)
		}
	}
	return reached, nil
}

// kek returns what can be asked to unwrap a root: the KMS key, and every handle
// that a row ever named, destroyed or not.
func (r *Rows) kek(key kms.Eraser) ([]kms.Key, error) {
	out, tried := []kms.Key{key}, map[string]bool{}
	for i := range r.roots {
		handle := r.roots[i].KMSHandle
		if r.roots[i].Semantics == "" || tried[handle] {
			continue
		}
		tried[handle] = true
		k, err := key.HandleKey(handle)
		if err != nil {
			return nil, fmt.Errorf("handle of epoch %d: %w", r.roots[i].Epoch, err)
		}
		out = append(out, k)
	}
	return out, nil
}

func unseal(suite envelope.Suite, secret string, wrapped, context []byte) ([]byte, bool) {
	var a cipher.AEAD
	var err error
	switch suite {
	case envelope.SuiteAES256GCM:
		block, failure := aes.NewCipher([]byte(secret))
		if failure != nil {
			return nil, false
		}
		a, err = cipher.NewGCM(block)
	case envelope.SuiteXChaCha:
		a, err = chacha20poly1305.NewX([]byte(secret))
	default:
		return nil, false
	}
	if err != nil || len(wrapped) < a.NonceSize() {
		return nil, false
	}
	out, err := a.Open(nil, wrapped[:a.NonceSize()], wrapped[a.NonceSize():], context)
	return out, err == nil && len(out) == 32
}

func lp(dst []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(text))), text...)
}

func rootContext(store envelope.StoreID, row *envelope.RootRow) []byte {
	b := append(lp(nil, "lethe/1/root"), store[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(row.Tree))
	return lp(binary.BigEndian.AppendUint64(b, row.Epoch), row.KMSURI)
}

func pageContext(store envelope.StoreID, row *envelope.PageRow) []byte {
	b := append(lp(nil, "lethe/1/page"), store[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(row.Tree))
	b = append(binary.BigEndian.AppendUint64(b, uint64(row.Page)), row.Level)
	for _, n := range []uint64{row.Gen, uint64(row.Parent), row.ParentGen} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return append(b, byte(row.Suite))
}

func keyContext(store envelope.StoreID, row *envelope.KeyRow, purpose string) []byte {
	b := append(lp(nil, "lethe/1/key"), store[:]...)
	b = append(binary.BigEndian.AppendUint32(b, uint32(row.Tree)), row.KID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(row.Page))
	b = binary.BigEndian.AppendUint64(b, row.PageGen)
	b = binary.BigEndian.AppendUint32(append(b, byte(row.Kind), byte(row.Suite)), row.RefVer)
	b = binary.BigEndian.AppendUint32(lp(append(b, row.SRef[:]...), purpose), row.Seq)
	for _, n := range []int64{row.Created, row.SealUntil, row.Expires} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return b
}
