package lethe

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/lethe-go/lethe/tokenize"
)

// tokenWork is the tokens of a call: those of each tokenized field, with the
// rows they are of.
type tokenWork []tokenBatch

type tokenBatch struct {
	field  int // in plan.fields
	plan   *tokenPlan
	items  []tokenize.Item
	slots  []**state
	rows   []int
	at     []unsafe.Pointer
	broken []error // per item: why it has no subject
}

// gatherTokens collects the tokens of all rows that want wants.
func (s *core) gatherTokens(all rows, field int, want func(st *state) bool, fill func(it *tokenize.Item, st *state, row unsafe.Pointer)) tokenBatch {
	f := &s.plan.fields[field]
	b := tokenBatch{field: field, plan: f.token}
	var o owners
	for i := range all.n {
		row := all.at(i)
		slot := f.at.secret(row)
		if slot == nil || !want(*slot) {
			continue
		}
		err := s.plan.readOwners(row, &o)
		var subject Subject
		if err == nil {
			if subject = s.plan.subject(s.tenant, f.scope, &o); subject.ID == "" {
				err = s.plan.emptySubject(f.scope)
			}
		}
		it := tokenize.Item{Subject: tokenize.Subject(subject), AssociatedData: f.token.bound}
		fill(&it, *slot, row)
		b.items, b.slots, b.rows, b.at, b.broken = append(b.items, it), append(b.slots, slot), append(b.rows, i), append(b.at, row), append(b.broken, err)
	}
	return b
}

// makeTokens makes the tokens of all rows, or none; install puts them there.
// Tokens that a tokenizer stored when a later step fails were given to nobody.
func (s *core) makeTokens(ctx context.Context, all rows, anew bool) (tokenWork, error) {
	var out tokenWork
	for _, i := range s.plan.tokens {
		b := s.gatherTokens(all, i, func(st *state) bool {
			return st.statusOf() == StatusPlain || anew && st.statusOf() == StatusOpen
		}, func(it *tokenize.Item, st *state, _ unsafe.Pointer) { it.Value = string(st.value.bytes()) })
		if len(b.items) == 0 {
			continue
		}
		for j, err := range b.broken {
			if err == nil && b.items[j].Value == "" {
				err = errors.New("lethe: an empty value cannot be tokenized: set NullToken")
			}
			if err != nil {
				return nil, s.tokenErr(&b, j, all.n, err)
			}
		}
		if err := b.plan.tokenizer.Tokenize(ctx, b.items); err != nil {
			return nil, err
		}
		for j := range b.items {
			if err := b.items[j].Err; err != nil {
				return nil, s.tokenErr(&b, j, all.n, err)
			}
		}
		out = append(out, b)
	}
	return out, nil
}

func (s *core) tokenErr(b *tokenBatch, item, rows int, err error) error {
	return s.rowErr(b.rows[item], rows, fmt.Errorf("field %q: %w", s.plan.fields[b.field].name, err))
}

// install writes made tokens into their rows.
func (w tokenWork) install() {
	for i := range w {
		b := &w[i]
		states := make([]state, len(b.items))
		for j := range b.items {
			states[j] = state{status: StatusSealed, codec: codecBytes, sealed: []byte(b.items[j].Token)}
			*b.slots[j] = &states[j]
			b.plan.setVersion(b.at[j], b.items[j].KeyVersion)
		}
	}
}

// turnTokens turns the tokens of all rows back, as far as decided; reveal puts
// them there.
func (s *core) turnTokens(ctx context.Context, all rows, decided []Decision) (tokenWork, error) {
	var out tokenWork
	for _, i := range s.plan.tokens {
		if decided[i] == skip || decided[i] == Deny {
			continue
		}
		b := s.gatherTokens(all, i, func(st *state) bool {
			switch st.statusOf() {
			case StatusSealed, StatusFailed, StatusDenied:
				return true
			case StatusUnset, StatusNull, StatusPlain, StatusOpen, StatusForgotten:
			}
			return false
		}, func(it *tokenize.Item, st *state, row unsafe.Pointer) {
			it.Token, it.KeyVersion = string(st.sealed), s.plan.fields[i].token.readVersion(row)
		})
		if len(b.items) == 0 {
			continue
		}
		if err := b.plan.tokenizer.Detokenize(ctx, b.items); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// reveal installs what tokens turned back into.
func (w tokenWork) reveal(p *plan, decided []Decision, failed *RowErrors) *RowErrors {
	for i := range w {
		b := &w[i]
		f := &p.fields[b.field]
		states := make([]state, len(b.items))
		for j := range b.items {
			it, st := &b.items[j], &states[j]
			err := b.broken[j]
			if err == nil {
				err = it.Err
			}
			st.codec, st.sealed = codecBytes, (*b.slots[j]).sealed
			switch {
			case errors.Is(err, ErrForgotten) || errors.Is(err, tokenize.ErrForgotten):
				st.status = StatusForgotten
			case errors.Is(err, ErrSuspended):
				st.status, st.err = StatusDenied, ErrSuspended
			case err != nil:
				st.status, st.err = StatusFailed, err
				failed = failed.add(b.rows[j], f.name, err)
			case decided[b.field] == MaskOnly:
				st.status, st.mask, st.value = StatusDenied, max(f.mask, full), hideString(f.mask.apply(codecBytes, []byte(it.Value)))
			default:
				st.status, st.mask, st.value = StatusOpen, f.mask, hideString(it.Value)
			}
			*b.slots[j] = st
		}
	}
	return failed
}
