package soak

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lethe-go/lethe/envelope"
)

// faultyStore is a Store whose calls come late, fail before they begin, lose the
// answer after they committed, or are cut off in the middle.
type faultyStore struct {
	envelope.Store

	on     atomic.Bool
	faults atomic.Int64 // injected so far

	mu  sync.Mutex
	rng *rand.Rand
}

var (
	errBefore = errors.New("injected: the connection is refused")
	errAfter  = errors.New("injected: the connection broke, the answer is lost")
)

// plan is what happens to one call.
type plan struct {
	delay         time.Duration
	cut           time.Duration // 0: not
	before, after bool
}

func (s *faultyStore) draw() plan {
	if !s.on.Load() {
		return plan{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var p plan
	switch s.rng.IntN(50) {
	case 0:
		p.before = true
	case 1:
		p.after = true
	case 2:
		p.cut = time.Duration(s.rng.IntN(2000)) * time.Microsecond
	case 3, 4:
		p.delay = time.Duration(s.rng.IntN(30)) * time.Millisecond
	default:
		return p
	}
	s.faults.Add(1)
	return p
}

func (s *faultyStore) call(ctx context.Context, do func(ctx context.Context) error) error {
	p := s.draw()
	if p.delay > 0 {
		t := time.NewTimer(p.delay)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	if p.before {
		return errBefore
	}
	if p.cut > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.cut)
		defer cancel()
	}
	if err := do(ctx); err != nil {
		return err
	}
	if p.after {
		return errAfter
	}
	return nil
}

func one[T any](ctx context.Context, s *faultyStore, do func(ctx context.Context) (T, error)) (T, error) {
	var out, none T
	err := s.call(ctx, func(ctx context.Context) (err error) {
		out, err = do(ctx)
		return err
	})
	if err != nil {
		return none, err
	}
	return out, nil
}

func two[T, U any](ctx context.Context, s *faultyStore, do func(ctx context.Context) (T, U, error)) (T, U, error) {
	var a, noA T
	var b, noB U
	err := s.call(ctx, func(ctx context.Context) (err error) {
		a, b, err = do(ctx)
		return err
	})
	if err != nil {
		return noA, noB, err
	}
	return a, b, nil
}

func (s *faultyStore) Meta(ctx context.Context) (envelope.Meta, error) {
	return one(ctx, s, s.Store.Meta)
}

func (s *faultyStore) Advance(ctx context.Context, prev, seq uint64, head []byte) error {
	return s.call(ctx, func(ctx context.Context) error { return s.Store.Advance(ctx, prev, seq, head) })
}

func (s *faultyStore) Tree(ctx context.Context, tree envelope.TreeID) (envelope.TreeRow, []envelope.RootRow, error) {
	return two(ctx, s, func(ctx context.Context) (envelope.TreeRow, []envelope.RootRow, error) {
		return s.Store.Tree(ctx, tree)
	})
}

func (s *faultyStore) Pages(ctx context.Context, tree envelope.TreeID, ids []envelope.PageID) ([]envelope.PageRow, error) {
	return one(ctx, s, func(ctx context.Context) ([]envelope.PageRow, error) { return s.Store.Pages(ctx, tree, ids) })
}

func (s *faultyStore) ChildPages(ctx context.Context, tree envelope.TreeID, parent envelope.PageID) ([]envelope.PageRow, error) {
	return one(ctx, s, func(ctx context.Context) ([]envelope.PageRow, error) { return s.Store.ChildPages(ctx, tree, parent) })
}

func (s *faultyStore) DirtyPages(ctx context.Context, tree envelope.TreeID) ([]envelope.PageRow, error) {
	return one(ctx, s, func(ctx context.Context) ([]envelope.PageRow, error) { return s.Store.DirtyPages(ctx, tree) })
}

func (s *faultyStore) OpenPages(ctx context.Context, tree envelope.TreeID, level uint8, limit int) ([]envelope.PageRow, error) {
	return one(ctx, s, func(ctx context.Context) ([]envelope.PageRow, error) {
		return s.Store.OpenPages(ctx, tree, level, limit)
	})
}

func (s *faultyStore) CountRootPages(ctx context.Context, tree envelope.TreeID, level uint8) (int, error) {
	return one(ctx, s, func(ctx context.Context) (int, error) { return s.Store.CountRootPages(ctx, tree, level) })
}

func (s *faultyStore) Keys(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef) ([]envelope.KeyRow, []envelope.PageRow, error) {
	return two(ctx, s, func(ctx context.Context) ([]envelope.KeyRow, []envelope.PageRow, error) {
		return s.Store.Keys(ctx, tree, refVer, srefs)
	})
}

func (s *faultyStore) KeysOfPage(ctx context.Context, tree envelope.TreeID, page envelope.PageID) ([]envelope.KeyRow, error) {
	return one(ctx, s, func(ctx context.Context) ([]envelope.KeyRow, error) { return s.Store.KeysOfPage(ctx, tree, page) })
}

func (s *faultyStore) SystemKeys(ctx context.Context, tree envelope.TreeID, kind envelope.KeyKind) ([]envelope.KeyRow, []envelope.PageRow, error) {
	return two(ctx, s, func(ctx context.Context) ([]envelope.KeyRow, []envelope.PageRow, error) {
		return s.Store.SystemKeys(ctx, tree, kind)
	})
}

func (s *faultyStore) Evidence(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef, kids []envelope.KeyID) ([]envelope.Tomb, []envelope.KeyID, error) {
	return two(ctx, s, func(ctx context.Context) ([]envelope.Tomb, []envelope.KeyID, error) {
		return s.Store.Evidence(ctx, tree, refVer, srefs, kids)
	})
}

func (s *faultyStore) Insert(ctx context.Context, in envelope.Insert) (envelope.Inserted, error) {
	return one(ctx, s, func(ctx context.Context) (envelope.Inserted, error) { return s.Store.Insert(ctx, in) })
}

func (s *faultyStore) Purposes(ctx context.Context) ([]envelope.PurposeRow, error) {
	return one(ctx, s, s.Store.Purposes)
}

func (s *faultyStore) AddPurpose(ctx context.Context, name string) (envelope.PID, error) {
	return one(ctx, s, func(ctx context.Context) (envelope.PID, error) { return s.Store.AddPurpose(ctx, name) })
}

func (s *faultyStore) Forget(ctx context.Context, f envelope.Forgetting) ([]envelope.KeyRow, error) {
	return one(ctx, s, func(ctx context.Context) ([]envelope.KeyRow, error) { return s.Store.Forget(ctx, f) })
}

func (s *faultyStore) Readmit(ctx context.Context, r envelope.Readmission) error {
	return s.call(ctx, func(ctx context.Context) error { return s.Store.Readmit(ctx, r) })
}

func (s *faultyStore) Rekey(ctx context.Context, r envelope.Rekey) error {
	return s.call(ctx, func(ctx context.Context) error { return s.Store.Rekey(ctx, r) })
}

func (s *faultyStore) RekeyPages(ctx context.Context, r envelope.RekeyPages) error {
	return s.call(ctx, func(ctx context.Context) error { return s.Store.RekeyPages(ctx, r) })
}

func (s *faultyStore) PagesAfter(ctx context.Context, tree envelope.TreeID, after envelope.PageID, limit int) ([]envelope.PageRow, error) {
	return one(ctx, s, func(ctx context.Context) ([]envelope.PageRow, error) {
		return s.Store.PagesAfter(ctx, tree, after, limit)
	})
}

func (s *faultyStore) Roots(ctx context.Context, tree envelope.TreeID) ([]envelope.RootRow, error) {
	return one(ctx, s, func(ctx context.Context) ([]envelope.RootRow, error) { return s.Store.Roots(ctx, tree) })
}

func (s *faultyStore) UpdateRoots(ctx context.Context, roots []envelope.RootRow) error {
	return s.call(ctx, func(ctx context.Context) error { return s.Store.UpdateRoots(ctx, roots) })
}

func (s *faultyStore) Reincarnate(ctx context.Context, old, next uint64) error {
	return s.call(ctx, func(ctx context.Context) error { return s.Store.Reincarnate(ctx, old, next) })
}

func (s *faultyStore) Claim(ctx context.Context, l envelope.Lease, now time.Time) error {
	return s.call(ctx, func(ctx context.Context) error { return s.Store.Claim(ctx, l, now) })
}

func (s *faultyStore) LeaseOf(ctx context.Context, tree envelope.TreeID) (envelope.Lease, error) {
	return one(ctx, s, func(ctx context.Context) (envelope.Lease, error) { return s.Store.LeaseOf(ctx, tree) })
}
