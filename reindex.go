package lethe

import (
	"context"
	"fmt"
	"unsafe"

	"github.com/lethe-go/lethe/envelope"
)

// Reindex computes the blind indexes of rows again with the newest index key, and
// opens the fields they are over to do so (a policy that denies one of them fails
// it). Of a forgotten person the index becomes NULL; a value that is still in its
// plaintext column gets none. It is the rebuild of an index epoch:
//
//	err := ring.RotateIndexKey(ctx, tenant, "customers", "email_idx")
//	// for all rows, some at a time: select, Reindex, update the index columns
//	receipt, err := ring.RetireIndexKeys(ctx, tenant, "customers", "email_idx")
//
// Keys and ciphertext do not change. On an error, which may be a *RowErrors, no
// index of the rows was changed.
func (s *Sealer[T]) Reindex(ctx context.Context, rows []T) error {
	return s.reindexAll(ctx, rowsOf(rows))
}

func (s *core) reindexAll(ctx context.Context, all rows) error {
	if len(s.plan.indexes) == 0 {
		return fmt.Errorf("lethe: record %q has no blind index", s.plan.record)
	}
	var names []string
	for i := range s.plan.indexes {
		names = append(names, s.plan.fields[s.plan.indexes[i].of].name)
	}
	if err := s.openAll(ctx, all, []OpenOption{Fields(names...)}); err != nil {
		return err
	}
	keys := make([]envelope.IndexKeys, len(s.plan.indexes))
	for i := range s.plan.indexes {
		var err error
		if keys[i], err = s.ring.IndexKeys(ctx, s.tenant, s.plan.record, s.plan.indexes[i].name, true); err != nil {
			return err
		}
		if len(keys[i]) == 0 {
			return fmt.Errorf("lethe: blind index %q: %w", s.plan.indexes[i].name, ErrKeyMissing)
		}
	}
	for j := range all.n {
		for i := range s.plan.indexes {
			if err := s.checkReindex(all.at(j), &s.plan.indexes[i]); err != nil {
				return fmt.Errorf("lethe: row %d: blind index %q: %w", j, s.plan.indexes[i].name, err)
			}
		}
	}
	for j := range all.n {
		for i := range s.plan.indexes {
			s.reindex(all.at(j), &s.plan.indexes[i], keys[i])
		}
	}
	return nil
}

// checkReindex returns why an index cannot be computed from the row as it is.
func (s *core) checkReindex(row unsafe.Pointer, x *indexPlan) error {
	secret := s.plan.fields[x.of].at.secret(row)
	if secret == nil || x.at.index(row) == nil {
		return nil
	}
	switch (*secret).statusOf() {
	case StatusNull, StatusForgotten:
		return nil
	default:
		return (*secret).readable()
	}
}

func (s *core) reindex(row unsafe.Pointer, x *indexPlan, keys envelope.IndexKeys) {
	secret, index := s.plan.fields[x.of].at.secret(row), x.at.index(row)
	if secret == nil || index == nil {
		return
	}
	if (*secret).fromPlain() && (*secret).status == StatusOpen {
		return // not sealed yet: SealPlain computes its index
	}
	if status := (*secret).statusOf(); status == StatusNull || status == StatusForgotten {
		index.b, index.null = nil, true
		return
	}
	var buf [normalRoom]byte
	index.b = keys[0].Append(nil, x.normName, x.normalised(buf[:], (*secret).value.bytes()), x.bits)
	index.null = false
	clear(buf[:])
}
