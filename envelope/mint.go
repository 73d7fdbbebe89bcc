package envelope

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"
)

// mintReq is one key to be made.
type mintReq struct {
	i    int
	ref  keyRef
	sref SRef
	kind KeyKind
	seq  uint32
}

// leafPool holds leaves with free slots that this process fills. A leaf is
// taken out while it is used, so two goroutines never race for its slots.
type leafPool struct {
	mu     sync.Mutex
	leaves []PageRow
	looked bool // the store was searched for leaves left open by earlier processes
}

const mintParallel = 4

// take removes leaves with at least n free slots together, or all there are.
func (p *leafPool) take(n, fanOut int) (out []PageRow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n > 0 && len(p.leaves) > 0 {
		last := len(p.leaves) - 1
		out = append(out, p.leaves[last])
		n -= fanOut - int(p.leaves[last].Fill)
		p.leaves = p.leaves[:last]
	}
	return out
}

func (p *leafPool) give(fanOut int, leaves ...PageRow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range leaves {
		if int(l.Fill) < fanOut && len(p.leaves) < 64 {
			p.leaves = append(p.leaves, l)
		}
	}
}

// drop forgets the leaves; the next mint searches the store again, also for those
// that were taken.
func (p *leafPool) drop() {
	p.mu.Lock()
	p.leaves, p.looked = nil, false
	p.mu.Unlock()
}

// mint makes keys in one transaction of its own, which commits before anything
// is sealed under them. It adds the new keys to sets. again means that another
// process made one of them first: load again.
func (k *Keyring) mint(ctx context.Context, mints []mintReq, sets map[keyRef]*keySet, expires int64) (forgotten []keyRef, again bool, err error) {
	if !k.led.settled() { // a forget may be in the ledger and not in the store
		if err := k.catchUp(ctx); err != nil {
			return nil, false, err
		}
	}
	root, err := k.rootKey(ctx, false)
	if err != nil {
		return nil, false, err
	}
	if err := k.findLeaves(ctx); err != nil {
		return nil, false, err
	}
	leaves := k.leaves.take(len(mints), k.fanOut)
	defer func() {
		if err != nil {
			k.leaves.drop()
		}
	}()
	in := Insert{Tree: k.tree, Epoch: root.epoch}
	free := 0
	for _, l := range leaves {
		free += k.fanOut - int(l.Fill)
	}
	pages, err := k.resolvePages(ctx, leaves)
	if err != nil {
		return nil, false, err
	}
	var fresh []PageRow
	if need := len(mints) - free; need > 0 {
		grow := growth{in: &in, root: root, pages: pages}
		fresh, err = k.grow(ctx, &grow, 0, (need+k.fanOut-1)/k.fanOut)
		if err != nil {
			return nil, false, err
		}
	}
	now := time.Now().Unix()
	var until int64
	if k.opts.RotateAfter > 0 {
		until = now + int64(k.opts.RotateAfter/time.Second)
	}
	secrets := make([][]byte, 0, len(mints))
	defer func() {
		for _, s := range secrets {
			clear(s)
		}
	}()
	slots := append(append([]PageRow(nil), leaves...), fresh...)
	at := 0
	taken := make([]uint32, len(slots))
	for _, m := range mints {
		pid, err := k.ensurePurpose(ctx, m.ref.purpose)
		if err != nil {
			return nil, false, err
		}
		for int(slots[at].Fill+taken[at]) >= k.fanOut {
			at++
		}
		taken[at]++
		leaf := &slots[at]
		page := pages[leaf.Page]
		row := KeyRow{Tree: k.tree, Page: leaf.Page, PageGen: leaf.Gen, Kind: m.kind, Suite: k.opts.Suite, RefVer: refVersion, SRef: m.sref, PID: pid, Seq: m.seq, State: 1, Created: now}
		if m.kind == KindSubject && !m.ref.token() { // tokens change when their key does: only by Rotate
			row.SealUntil = until
		}
		rand.Read(row.KID[:])
		secret := newKey()
		secrets = append(secrets, secret)
		row.Wrapped = page.suite.seal(page.aead, nil, secret, row.appendAAD(nil, k.id, m.ref.purpose))
		in.Keys = append(in.Keys, row)
	}
	for i := range slots {
		slots[i].Fill += taken[i]
		if i < len(leaves) {
			if taken[i] > 0 {
				in.Reserves = append(in.Reserves, Reserve{Page: slots[i].Page, Gen: slots[i].Gen, N: taken[i]})
			}
			continue
		}
		for j := range in.Pages {
			if in.Pages[j].Page == slots[i].Page {
				in.Pages[j].Fill = slots[i].Fill
			}
		}
	}
	done, err := k.store.Insert(ctx, in)
	if err != nil {
		if errors.Is(err, ErrStoreConflict) {
			return nil, false, err
		}
		return nil, false, storeErr(err)
	}
	k.leaves.give(k.fanOut, slots...)
	left := make(map[int]bool)
	for _, i := range done.Forgotten {
		left[i] = true
		forgotten = append(forgotten, mints[i].ref)
	}
	for _, i := range done.Exists {
		left[i] = true
	}
	for i := range in.Keys {
		if left[i] {
			continue
		}
		set := sets[mints[i].ref].extended(expires)
		if mints[i].ref.token() {
			set.addToken(&in.Keys[i], secrets[i])
		} else if err := set.add(&in.Keys[i], secrets[i]); err != nil {
			return nil, false, err
		}
		sets[mints[i].ref] = set
	}
	return forgotten, len(done.Exists) > 0, nil
}

// findLeaves looks once for leaves that earlier processes left with free slots.
func (k *Keyring) findLeaves(ctx context.Context) error {
	k.leaves.mu.Lock()
	looked := k.leaves.looked
	k.leaves.looked = true
	k.leaves.mu.Unlock()
	if looked {
		return nil
	}
	open, err := k.store.OpenPages(ctx, k.tree, 0, mintParallel)
	if err != nil {
		k.leaves.drop()
		return storeErr(err)
	}
	if open, _, err = k.sound(ctx, open); err != nil {
		k.leaves.drop()
		return err
	}
	k.leaves.give(k.fanOut, open...)
	return nil
}

// sound returns those of rows that open, and their keys. A page that was damaged or
// put back from an old copy must not keep new people from being sealed elsewhere, nor
// be given keys because this process has its key from before in memory.
func (k *Keyring) sound(ctx context.Context, rows []PageRow) ([]PageRow, map[PageID]*pageKey, error) {
	keys := make(map[PageID]*pageKey, len(rows))
	kept := rows[:0]
	for i := range rows {
		one, err := k.resolveAll(ctx, rows[i:i+1], resolving{keepLeaves: true, unwrap: true})
		switch {
		case err == nil:
			keys[rows[i].Page] = one[rows[i].Page]
			kept = append(kept, rows[i])
		case !errors.Is(err, errStalePage) && !errors.Is(err, ErrDecrypt) && !errors.Is(err, ErrKeyMissing):
			return nil, nil, err
		}
	}
	return kept, keys, nil
}

// growth collects the pages an insert adds.
type growth struct {
	in    *Insert
	root  *rootKey
	pages map[PageID]*pageKey
}

// grow adds n pages of a level. The first PageFanOut pages of each level hang on
// the root, later ones on pages of the level above: a small store stays two
// levels deep, and no page is ever moved.
func (k *Keyring) grow(ctx context.Context, g *growth, level uint8, n int) ([]PageRow, error) {
	if level > 10 {
		return nil, errors.New("envelope: the key tree is full")
	}
	var out []PageRow
	onRoot, err := k.store.CountRootPages(ctx, k.tree, level)
	if err != nil {
		return nil, storeErr(err)
	}
	for ; n > 0 && onRoot < k.fanOut; n, onRoot = n-1, onRoot+1 {
		p, err := k.newPage(g, level, 0, g.root.epoch, g.root.suite, &pageKey{aead: g.root.aead, expires: g.root.expires})
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	if n == 0 {
		return out, nil
	}
	parents, err := k.store.OpenPages(ctx, k.tree, level+1, n/k.fanOut+2)
	if err != nil {
		return nil, storeErr(err)
	}
	parents, keys, err := k.sound(ctx, parents)
	if err != nil {
		return nil, err
	}
	for _, parent := range parents {
		take := min(n, k.fanOut-int(parent.Fill))
		if take <= 0 {
			continue
		}
		g.in.Reserves = append(g.in.Reserves, Reserve{Page: parent.Page, Gen: parent.Gen, N: uint32(take)})
		for range take {
			p, err := k.newPage(g, level, parent.Page, parent.Gen, keys[parent.Page].suite, keys[parent.Page])
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
		n -= take
	}
	if n == 0 {
		return out, nil
	}
	above, err := k.grow(ctx, g, level+1, (n+k.fanOut-1)/k.fanOut)
	if err != nil {
		return nil, err
	}
	for _, parent := range above {
		take := min(n, k.fanOut)
		for i := range g.in.Pages {
			if g.in.Pages[i].Page == parent.Page {
				g.in.Pages[i].Fill += uint32(take)
			}
		}
		for range take {
			p, err := k.newPage(g, level, parent.Page, parent.Gen, g.pages[parent.Page].suite, g.pages[parent.Page])
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
		n -= take
	}
	return out, nil
}

func (k *Keyring) newPage(g *growth, level uint8, parent PageID, parentGen uint64, suite Suite, under *pageKey) (PageRow, error) {
	p := PageRow{Tree: k.tree, Page: newPageID(), Parent: parent, ParentGen: parentGen, Level: level, Gen: g.root.epoch, Suite: k.opts.Suite}
	secret := newKey()
	defer clear(secret)
	p.Wrapped = suite.seal(under.aead, nil, secret, p.appendAAD(nil, k.id))
	a, err := p.Suite.aead(secret)
	if err != nil {
		return p, fmt.Errorf("envelope: %w", err)
	}
	g.pages[p.Page] = &pageKey{gen: p.Gen, suite: p.Suite, aead: a, expires: under.expires}
	g.in.Pages = append(g.in.Pages, p)
	return p, nil
}
