package envelope

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// pageKey is an unwrapped page key.
type pageKey struct {
	gen     uint64
	suite   Suite
	aead    cipher.AEAD
	expires int64
	err     error // the page does not open, and nothing below it; not cached
}

// pageCache holds unwrapped page keys for at most as long as the root they came from.
type pageCache struct {
	mu sync.RWMutex
	m  map[PageID]*pageKey
}

func (c *pageCache) get(id PageID, gen uint64, now int64) *pageKey {
	c.mu.RLock()
	p := c.m[id]
	c.mu.RUnlock()
	if p == nil || p.gen != gen || now >= p.expires {
		return nil
	}
	return p
}

func (c *pageCache) put(id PageID, p *pageKey, limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= limit {
		c.m = make(map[PageID]*pageKey)
	}
	c.m[id] = p
}

func (c *pageCache) purge() {
	c.mu.Lock()
	c.m = nil
	c.mu.Unlock()
}

// errStalePage: a row was wrapped under another generation than its parent has
// now; the tree was re-keyed between two reads, so read again.
var errStalePage = errors.New("envelope: the key tree was re-keyed meanwhile")

// maxDepth is more than the key tree has levels.
const maxDepth = 64

// resolvePages unwraps the keys of rows. One that does not open fails the call.
func (k *Keyring) resolvePages(ctx context.Context, rows []PageRow) (map[PageID]*pageKey, error) {
	return k.resolveAll(ctx, rows, resolving{keepLeaves: true})
}

func (k *Keyring) resolveAll(ctx context.Context, rows []PageRow, how resolving) (map[PageID]*pageKey, error) {
	out, err := k.resolveAs(ctx, rows, how)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if err := out[rows[i].Page].err; err != nil {
			return nil, err
		}
	}
	return out, nil
}

// resolveEach unwraps the keys of rows, reading ancestors it does not know level
// by level. A page that was changed, or has no parent, gets an err.
func (k *Keyring) resolveEach(ctx context.Context, rows []PageRow) (map[PageID]*pageKey, error) {
	return k.resolveAs(ctx, rows, resolving{keepLeaves: true})
}

// resolving says how rows are resolved.
type resolving struct {
	keepLeaves bool // the keys of leaves are cached too
	unwrap     bool // also rows whose keys are cached: the question is whether the rows open, and are all there
}

// resolveAs is resolveEach.
func (k *Keyring) resolveAs(ctx context.Context, rows []PageRow, how resolving) (map[PageID]*pageKey, error) {
	now := k.clock.now()
	out := make(map[PageID]*pageKey, len(rows))
	todo := make([]PageRow, 0, len(rows))
	seen := make(map[PageID]bool, len(rows))
	level := rows
	for depth := 0; len(level) > 0; depth++ {
		if depth > maxDepth {
			return nil, fmt.Errorf("%w: the key tree has a loop", ErrDecrypt)
		}
		var parents []PageID
		for _, p := range level {
			if seen[p.Page] {
				continue
			}
			seen[p.Page] = true
			if !how.unwrap || depth > 0 {
				if key := k.pages.get(p.Page, p.Gen, now); key != nil {
					out[p.Page] = key
					continue
				}
			}
			todo = append(todo, p)
			if p.Parent == 0 || seen[p.Parent] || out[p.Parent] != nil {
				continue
			}
			if !how.unwrap {
				if key := k.pages.get(p.Parent, p.ParentGen, now); key != nil { // what it was wrapped under, by its own word
					out[p.Parent] = key
					continue
				}
			}
			parents = append(parents, p.Parent)
		}
		if len(parents) == 0 {
			break
		}
		var err error
		if level, err = k.store.Pages(ctx, k.tree, parents); err != nil {
			return nil, storeErr(err)
		}
	}
	if len(todo) == 0 {
		return out, nil
	}
	root, err := k.rootKey(ctx, false)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(todo, func(a, b PageRow) int { return int(b.Level) - int(a.Level) })
	for i := range todo { // ancestors first
		p := &todo[i]
		suite, aead, gen, expires := root.suite, root.aead, root.epoch, root.expires
		if p.Parent != 0 {
			parent := out[p.Parent]
			if parent == nil {
				parent = &pageKey{err: fmt.Errorf("%w: page %d names a parent the store does not have", ErrKeyMissing, p.Page)}
			}
			if parent.err != nil {
				out[p.Page] = &pageKey{err: parent.err}
				continue
			}
			suite, aead, gen = parent.suite, parent.aead, parent.gen
			expires = min(expires, parent.expires) // one that was known may be of the root before
		}
		if p.ParentGen != gen {
			return nil, &staleError{p.Parent, p.ParentGen, gen}
		}
		key, err := unwrapPage(p, k.id, suite, aead)
		if err != nil {
			out[p.Page] = &pageKey{err: err}
			continue
		}
		key.expires = expires
		out[p.Page] = key
		if how.keepLeaves || p.Level > 0 {
			k.pages.put(p.Page, key, k.opts.CacheSize)
		}
	}
	return out, nil
}

func unwrapPage(p *PageRow, id StoreID, suite Suite, aead cipher.AEAD) (*pageKey, error) {
	if !p.Suite.valid() {
		return nil, fmt.Errorf("%w: page %d has unknown suite %d", ErrDecrypt, p.Page, p.Suite)
	}
	secret, err := suite.openKey(aead, p.Wrapped, p.appendAAD(nil, id))
	if err != nil {
		return nil, fmt.Errorf("%w: page %d of the key store was changed", ErrDecrypt, p.Page)
	}
	defer clear(secret)
	a, err := p.Suite.aead(secret)
	if err != nil {
		return nil, err
	}
	return &pageKey{gen: p.Gen, suite: p.Suite, aead: a}, nil
}

// unwrapRow opens a key row under its leaf.
func (k *Keyring) unwrapRow(row *KeyRow, pages map[PageID]*pageKey) ([]byte, error) {
	page := pages[row.Page]
	if page == nil {
		return nil, fmt.Errorf("%w: key row names page %d, which the store does not have", ErrKeyMissing, row.Page)
	}
	if page.err != nil {
		return nil, page.err
	}
	if page.gen != row.PageGen {
		return nil, &staleError{row.Page, row.PageGen, page.gen}
	}
	name, ok := k.purposeName(row.PID)
	if !ok || row.Tree != k.tree || row.Expires != 0 || !row.Suite.valid() || row.State != 1 {
		return nil, fmt.Errorf("%w: key row %x has a purpose, tree, suite, state or expiry this version does not know", ErrDecrypt, row.KID)
	}
	secret, err := page.suite.openKey(page.aead, row.Wrapped, row.appendAAD(nil, k.id, name))
	if err != nil {
		return nil, fmt.Errorf("%w: key row %x of the key store was changed", ErrDecrypt, row.KID)
	}
	return secret, nil
}
