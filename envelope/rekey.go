package envelope

import (
	"bytes"
	"cmp"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"slices"
	"time"
)

// rekeyer gives pages fresh keys, in place and in small steps, while the store is
// in use: the leaves first, each under its parent's old key for the time being,
// then the pages above. After every step the tree is whole.
type rekeyer struct {
	k     *Keyring
	old   *rootKey
	epoch uint64 // being closed into: the Gen of the fresh keys
	opts  CloseOptions
	out   *Closed

	dirty   dirtyPages      // up to the beginning of the close
	damaged map[PageID]bool // pages that do not open, or have keys that do not; left as they are
	lease   time.Time       // until when it is ours
	giveUp  bool            // rows of the batch that stay older than their parents are damaged
}

// rekeyBatch is how many leaves, 64 keys each, one transaction re-keys: few
// enough that nobody who waits for one of them notices.
const rekeyBatch = 4

// staleAttempts is how often rows that do not fit their parents are read again
// before a close with LeaveDamaged takes them for damaged.
const staleAttempts = 5

// leaseFor is how long a closer that died keeps others from closing.
const leaseFor = 15 * time.Second

// leaseAhead is how far ahead the end of a lease is believed: clocks differ.
const leaseAhead = 2 * time.Minute

// renew renews the lease, and stops a closer that lost it to a later one.
func (r *rekeyer) renew(ctx context.Context, step string) error {
	now := r.k.now()
	if r.lease.Sub(now) > leaseFor/2 && r.lease.Sub(now) <= leaseFor {
		return nil
	}
	until := now.Add(leaseFor)
	lease := Lease{Tree: r.k.tree, Epoch: r.epoch, Step: step, Owner: r.k.owner, Until: until}
	err := r.k.store.Claim(ctx, lease, now)
	if errors.Is(err, ErrLeased) {
		// One that a clock far ahead took would keep everybody out until then. Two
		// closers at once are safe: one of them is overtaken.
		if held, e := r.k.store.LeaseOf(ctx, r.k.tree); e == nil && held.Until.Sub(now) > leaseAhead {
			err = r.k.store.Claim(ctx, lease, held.Until)
		}
	}
	if errors.Is(err, ErrLeased) {
		return fmt.Errorf("lethe: the close of the epoch is %w for the moment: %w", ErrUnavailable, err)
	} else if err != nil {
		return storeErr(err)
	}
	r.lease = until
	return nil
}

// each runs do on ids, a batch at a time, again where others changed the rows meanwhile.
func (r *rekeyer) each(ctx context.Context, step string, ids []PageID, size int, do func(ctx context.Context, ids []PageID) error) error {
	slices.Sort(ids)
	done := 0
	for part := range slices.Chunk(ids, size) {
		if err := r.renew(ctx, step); err != nil {
			return err
		}
		began := time.Now()
		r.giveUp = false
		var watch staleWatch
		for attempt := 0; ; attempt++ {
			err := do(ctx, part)
			if err == nil {
				break
			}
			watch.see(err)
			if !errors.Is(err, ErrStoreConflict) && !errors.Is(err, errStalePage) {
				return storeErr(err)
			}
			if attempt == staleAttempts && r.opts.LeaveDamaged && errors.Is(err, errStalePage) {
				r.giveUp = true // they do not change: they were put back
			}
			if attempt == 50 {
				return watch.explain(fmt.Errorf("pages of the key tree keep changing, or were put back from an old copy: %w", err), false)
			}
			if err := r.still(ctx); err != nil {
				return err
			}
			if err := pause(ctx, time.Duration(attempt)*5*time.Millisecond); err != nil {
				return err
			}
		}
		// Who waits for the database gets a turn.
		if err := pause(ctx, min(time.Since(began)/2, 10*time.Millisecond)); err != nil {
			return err
		}
		if done += len(part); r.opts.Progress != nil {
			r.opts.Progress(CloseProgress{Epoch: r.epoch, Step: step, Done: done, Total: len(ids)})
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// still reports an error if another process switched the root meanwhile.
func (r *rekeyer) still(ctx context.Context) error {
	tree, _, err := r.k.store.Tree(ctx, r.k.tree)
	if err != nil {
		return storeErr(err)
	}
	if tree.ActiveEpoch != r.old.epoch {
		return errOvertaken
	}
	return nil
}

var errOvertaken = fmt.Errorf("lethe: another process closed the epoch meanwhile: call again to close this one: %w", ErrUnavailable)

// pagesOf reads pages of any number.
func (k *Keyring) pagesOf(ctx context.Context, ids []PageID) (out []PageRow, err error) {
	for part := range slices.Chunk(ids, 1000) {
		rows, err := k.store.Pages(ctx, k.tree, part)
		if err != nil {
			return nil, storeErr(err)
		}
		out = append(out, rows...)
	}
	return out, nil
}

// resolve unwraps the keys of rows. One that was put back from an old copy gets an
// err where such rows are given up, and fails the call otherwise.
func (r *rekeyer) resolve(ctx context.Context, rows []PageRow, how resolving) (map[PageID]*pageKey, error) {
	out, err := r.k.resolveAs(ctx, rows, how)
	if !r.giveUp || !errors.Is(err, errStalePage) {
		return out, err
	}
	out = make(map[PageID]*pageKey, len(rows))
	for i := range rows {
		one, err := r.k.resolveAs(ctx, rows[i:i+1], how)
		switch {
		case err == nil:
			out[rows[i].Page] = one[rows[i].Page]
		case errors.Is(err, errStalePage):
			out[rows[i].Page] = &pageKey{err: fmt.Errorf("%w: page %d, or one above it, was put back from an old copy", ErrDecrypt, rows[i].Page)}
		default:
			return nil, err
		}
	}
	return out, nil
}

// parentsOf unwraps the keys of the parents of pages; the root is under 0.
func (r *rekeyer) parentsOf(ctx context.Context, pages []PageRow) (map[PageID]*pageKey, error) {
	var ids []PageID
	for i := range pages {
		if pages[i].Parent != 0 {
			ids = append(ids, pages[i].Parent)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	rows, err := r.k.pagesOf(ctx, ids)
	if err != nil {
		return nil, err
	}
	out, err := r.resolve(ctx, rows, resolving{keepLeaves: true})
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if out[id] == nil {
			out[id] = &pageKey{err: fmt.Errorf("%w: the store does not have page %d, which others name as their parent", ErrKeyMissing, id)}
		}
	}
	out[0] = &pageKey{gen: r.old.epoch, suite: r.old.suite, aead: r.old.aead}
	return out, nil
}

// leaves re-keys those of the leaves that are still dirty, or all of them.
func (r *rekeyer) leaves(ctx context.Context, ids []PageID) error {
	rows, err := r.k.pagesOf(ctx, ids)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(p PageRow) bool { return !r.toRekey(&p) })
	if len(rows) == 0 {
		return nil
	}
	parents, err := r.parentsOf(ctx, rows)
	if err != nil {
		return err
	}
	own, err := r.resolve(ctx, rows, resolving{})
	if err != nil {
		return err
	}
	step := RekeyPages{Tree: r.k.tree, Epoch: r.old.epoch, Seen: map[PageID][]byte{}, PageChildren: map[PageID]int{}}
	for i := range rows {
		if err := r.leaf(ctx, &rows[i], parents[rows[i].Parent], own, &step); err != nil {
			return err
		}
	}
	if len(step.Pages) == 0 {
		return nil
	}
	if err := r.k.store.RekeyPages(ctx, step); err != nil {
		return err
	}
	r.out.Pages += len(step.Pages)
	r.out.Keys += len(step.Keys)
	r.out.Dropped += len(step.Drop)
	return nil
}

// leaf adds to step what gives one leaf a fresh key.
func (r *rekeyer) leaf(ctx context.Context, p *PageRow, parent *pageKey, own map[PageID]*pageKey, step *RekeyPages) error {
	// The page's own key may be in memory though its parent's row is gone or damaged.
	if err := cmp.Or(own[p.Page].err, parent.err); err != nil {
		return r.leave(p.Page, err)
	}
	children, err := r.k.store.KeysOfPage(ctx, r.k.tree, p.Page)
	if err != nil {
		return err
	}
	if err := r.k.learnPurposes(ctx, children); err != nil {
		return err
	}
	count := len(children)
	if r.opts.LeaveDamaged { // only an intruder hangs pages on a leaf; the store counts them
		below, err := r.k.store.ChildPages(ctx, r.k.tree, p.Page)
		if err != nil {
			return err
		}
		count += len(below)
	}
	next, fresh, err := r.freshKey(p, parent)
	if err != nil {
		return err
	}
	var keys []KeyRow
	var drop []KeyID
	for _, row := range children {
		if r.k.led.isDead(row.KID) { // put back, or a forget is half way
			drop = append(drop, row.KID)
			continue
		}
		key, err := r.k.unwrapRow(&row, own)
		if errors.Is(err, errStalePage) && r.opts.LeaveDamaged && row.PageGen < p.Gen {
			err = fmt.Errorf("%w: key row %x is older than its page", ErrDecrypt, row.KID)
		}
		if errors.Is(err, errStalePage) {
			return err
		}
		if err != nil {
			if err := r.tolerate(err); err != nil {
				return err
			}
			r.out.DamagedKeys = append(r.out.DamagedKeys, row.KID)
			continue // it stays, unreadable: its page's key is another now
		}
		name, _ := r.k.purposeName(row.PID)
		row.PageGen = r.epoch
		row.Wrapped = p.Suite.seal(fresh, nil, key, row.appendAAD(nil, r.k.id, name))
		clear(key)
		keys = append(keys, row)
	}
	step.Pages = append(step.Pages, next)
	step.Seen[p.Page] = p.Wrapped
	step.PageChildren[p.Page] = count
	step.Keys = append(step.Keys, keys...)
	step.Drop = append(step.Drop, drop...)
	return nil
}

// freshKey draws a new key for a page: its row with the key wrapped under the
// parent's, and the AEAD to wrap its children under.
func (r *rekeyer) freshKey(p *PageRow, parent *pageKey) (next PageRow, fresh cipher.AEAD, err error) {
	secret := newKey()
	defer clear(secret)
	if fresh, err = p.Suite.aead(secret); err != nil {
		return next, nil, err
	}
	next = *p
	next.Gen, next.DirtyEpoch = r.epoch, 0
	next.Wrapped = parent.suite.seal(parent.aead, nil, secret, next.appendAAD(nil, r.k.id))
	return next, fresh, nil
}

// tolerate returns nil for damage that is to be left as it is. Who closes an epoch
// has to know that people's keys are lost before their last good copies are.
func (r *rekeyer) tolerate(err error) error {
	if !errors.Is(err, ErrDecrypt) && !errors.Is(err, ErrKeyMissing) {
		return err
	}
	if !r.opts.LeaveDamaged {
		return fmt.Errorf("lethe: the epoch cannot be closed: put the damaged rows back from a backup, or close with LeaveDamaged, which gives them up: %w", err)
	}
	return nil
}

// leave notes a page that does not open, or fails.
func (r *rekeyer) leave(page PageID, err error) error {
	if err := r.tolerate(err); err != nil {
		return err
	}
	if !r.damaged[page] {
		r.damaged[page] = true
		r.out.Damaged = append(r.out.Damaged, page)
	}
	return nil
}

// inner re-keys every page above the leaves ids that is older than a child of it
// which was re-keyed, level by level.
func (r *rekeyer) inner(ctx context.Context, ids []PageID) error {
	children, err := r.k.pagesOf(ctx, ids)
	if err != nil {
		return err
	}
	for depth := 0; len(children) > 0 && depth <= maxDepth; depth++ { // deeper: a loop of pages that do not open
		var up []PageID
		for i := range children {
			if children[i].Parent != 0 {
				up = append(up, children[i].Parent)
			}
		}
		slices.Sort(up)
		parents, err := r.k.pagesOf(ctx, slices.Compact(up))
		if err != nil {
			return err
		}
		gens := make(map[PageID]uint64, len(parents))
		for i := range parents {
			gens[parents[i].Page] = parents[i].Gen
		}
		marked := map[PageID]bool{}
		for i := range children {
			c := &children[i]
			if gen, ok := gens[c.Parent]; ok && gen < r.epoch && (c.Gen > gen || r.damaged[c.Page]) {
				marked[c.Parent] = true
			}
		}
		todo := make([]PageID, 0, len(marked))
		for id := range marked {
			todo = append(todo, id)
		}
		if err := r.each(ctx, "inner pages", todo, 4, r.nodes); err != nil {
			return err
		}
		if children, err = r.k.pagesOf(ctx, up); err != nil {
			return err
		}
	}
	return nil
}

// nodes gives inner pages fresh keys and wraps their children's keys anew.
func (r *rekeyer) nodes(ctx context.Context, ids []PageID) error {
	rows, err := r.k.pagesOf(ctx, ids)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(p PageRow) bool { return p.Level == 0 || p.Gen >= r.epoch || r.damaged[p.Page] })
	parents, err := r.parentsOf(ctx, rows)
	if err != nil {
		return err
	}
	own, err := r.resolve(ctx, rows, resolving{})
	if err != nil {
		return err
	}
	for i := range rows {
		if err := r.node(ctx, &rows[i], parents[rows[i].Parent], own[rows[i].Page]); err != nil {
			return err
		}
	}
	return nil
}

func (r *rekeyer) node(ctx context.Context, p *PageRow, parent, own *pageKey) error {
	if err := cmp.Or(own.err, parent.err); err != nil {
		return r.leave(p.Page, err)
	}
	children, err := r.k.store.ChildPages(ctx, r.k.tree, p.Page)
	if err != nil {
		return err
	}
	count := len(children)
	if r.opts.LeaveDamaged { // nor keys on a page that is no leaf
		stray, err := r.k.store.KeysOfPage(ctx, r.k.tree, p.Page)
		if err != nil {
			return err
		}
		count += len(stray)
	}
	next, fresh, err := r.freshKey(p, parent)
	if err != nil {
		return err
	}
	step := RekeyPages{Tree: r.k.tree, Epoch: r.old.epoch, Pages: []PageRow{next}, Seen: map[PageID][]byte{p.Page: p.Wrapped}, PageChildren: map[PageID]int{p.Page: count}}
	for _, c := range children {
		key, err := r.childKey(&c, own)
		if errors.Is(err, errStalePage) && (!r.opts.LeaveDamaged || c.ParentGen >= p.Gen) {
			return err
		}
		if err != nil {
			if err := r.leave(c.Page, fmt.Errorf("%w: page %d does not open under its parent", ErrDecrypt, c.Page)); err != nil {
				return err
			}
			continue
		}
		seen := c.Wrapped
		c.ParentGen = r.epoch
		c.Wrapped = p.Suite.seal(fresh, nil, key, c.appendAAD(nil, r.k.id))
		clear(key)
		step.Pages = append(step.Pages, c)
		step.Seen[c.Page] = seen
	}
	if err := r.k.store.RekeyPages(ctx, step); err != nil {
		return err
	}
	r.out.Pages++
	return nil
}

// childKey unwraps the key of a page under its parent's.
func (r *rekeyer) childKey(c *PageRow, parent *pageKey) ([]byte, error) {
	if c.ParentGen != parent.gen {
		return nil, &staleError{c.Parent, c.ParentGen, parent.gen}
	}
	if !c.Suite.valid() {
		return nil, fmt.Errorf("%w: page %d has unknown suite %d", ErrDecrypt, c.Page, c.Suite)
	}
	key, err := parent.suite.openKey(parent.aead, c.Wrapped, c.appendAAD(nil, r.k.id))
	if err != nil {
		return nil, fmt.Errorf("%w: page %d of the key store was changed", ErrDecrypt, c.Page)
	}
	return key, nil
}

// scan calls do with all pages, some at a time.
func (r *rekeyer) scan(ctx context.Context, do func(rows []PageRow) error) error {
	for after := PageID(0); ; {
		rows, err := r.k.store.PagesAfter(ctx, r.k.tree, after, 1000)
		if err != nil {
			return storeErr(err)
		}
		if len(rows) == 0 {
			return nil
		}
		if err := do(rows); err != nil {
			return err
		}
		after = rows[len(rows)-1].Page
	}
}

// verify unwraps every page before the old root is given up, and checks that no
// key which a forgotten one hangs on would be carried over.
func (r *rekeyer) verify(ctx context.Context) error {
	gens := map[PageID]uint64{}  // of inner pages
	under := map[PageID]uint64{} // the youngest of the re-keyed children
	var left []PageRow
	n := 0
	err := r.scan(ctx, func(rows []PageRow) error {
		rows, keys, err := r.unwrapAll(ctx, rows)
		if err != nil {
			return err
		}
		for i := range rows {
			p := &rows[i]
			if err := keys[p.Page].err; err != nil {
				if err := r.leave(p.Page, err); err != nil {
					return err
				}
				left = append(left, *p)
				continue
			}
			if p.Level > 0 {
				gens[p.Page] = p.Gen
			}
			_, listed := r.dirty[p.Page]
			if r.dirty.stale(p) && !r.damaged[p.Page] {
				return fmt.Errorf("envelope: page %d was missed: the epoch is not closed; report this", p.Page)
			}
			if (listed || p.Level > 0 && p.Gen == r.epoch) && p.Parent != 0 {
				under[p.Parent] = max(under[p.Parent], p.Gen)
			}
		}
		n += len(rows)
		if r.opts.Progress != nil {
			r.opts.Progress(CloseProgress{Epoch: r.epoch, Step: "check", Done: n})
		}
		return r.renew(ctx, "check")
	})
	if err == nil {
		err = r.stillDamaged(ctx, left)
	}
	if err != nil {
		return err
	}
	for page, gen := range under {
		if own, ok := gens[page]; ok && own < gen && !r.damaged[page] {
			return fmt.Errorf("envelope: page %d was missed: the epoch is not closed; report this", page)
		}
	}
	r.out.Checked = n
	return nil
}

// unwrapAll unwraps the keys of pages, which it reads again while they change. One that
// does not open has an err; one that stays older than its parent too, if that is to
// be left as it is.
func (r *rekeyer) unwrapAll(ctx context.Context, rows []PageRow) ([]PageRow, map[PageID]*pageKey, error) {
	r.giveUp = false
	ids := make([]PageID, len(rows))
	for i := range rows {
		ids[i] = rows[i].Page
	}
	for attempt := 0; ; attempt++ {
		keys, err := r.resolve(ctx, rows, resolving{unwrap: true})
		if err == nil || !errors.Is(err, errStalePage) {
			return rows, keys, err
		}
		if err := r.still(ctx); err != nil {
			return nil, nil, err
		}
		if attempt == staleAttempts && !r.opts.LeaveDamaged {
			return nil, nil, fmt.Errorf("%w: a page of the key store was put back from an old copy", ErrDecrypt)
		}
		r.giveUp = attempt == staleAttempts
		if err := pause(ctx, time.Duration(attempt)*5*time.Millisecond); err != nil {
			return nil, nil, err
		}
		if rows, err = r.k.pagesOf(ctx, ids); err != nil {
			return nil, nil, err
		}
	}
}

// stillDamaged reads the pages again that the check left out. One that has changed, or
// opens now, was not damaged but being written, and has not been checked.
func (r *rekeyer) stillDamaged(ctx context.Context, left []PageRow) error {
	for part := range slices.Chunk(left, 1000) {
		was := make(map[PageID]*PageRow, len(part))
		ids := make([]PageID, len(part))
		for i := range part {
			was[part[i].Page], ids[i] = &part[i], part[i].Page
		}
		rows, err := r.k.pagesOf(ctx, ids)
		if err != nil {
			return err
		}
		r.giveUp = true
		keys, err := r.resolve(ctx, rows, resolving{unwrap: true})
		if err != nil {
			return err
		}
		for i := range rows {
			p, old := &rows[i], was[rows[i].Page]
			if keys[p.Page].err == nil || p.Gen != old.Gen || p.ParentGen != old.ParentGen || !bytes.Equal(p.Wrapped, old.Wrapped) {
				return fmt.Errorf("lethe: pages of the key tree keep changing, so that they cannot be checked: call again: %w", ErrUnavailable)
			}
		}
	}
	return nil
}
