package lethe

import (
	"context"
	"fmt"
)

// Decision is what a Policy allows.
type Decision uint8

// The decisions. The zero value denies.
const (
	Deny     Decision = iota // the field becomes Denied
	MaskOnly                 // the field becomes Denied, and Masked shows its mask
	Allow                    // the field opens
)

// Access is what a caller asks to open: one field of some rows.
type Access struct {
	Record  string // stable names
	Field   string
	Purpose string
	Tenant  string
	Rows    int // how many rows the call covers
}

// Policy decides whether a caller, known from ctx, may open a field. It is asked
// once per field and call, before any key is used, and is the place to write an
// audit trail. It must be safe for concurrent use.
type Policy func(ctx context.Context, a Access) Decision

// OpenOption narrows what Open opens.
type OpenOption func(*openConfig)

type openConfig struct {
	fields []string
	some   bool // only those in fields
	masks  bool
}

// Fields opens only the fields with these stable names; the others stay sealed.
// Without a name it opens none.
func Fields(names ...string) OpenOption {
	return func(c *openConfig) { c.fields, c.some = append(c.fields, names...), true }
}

// Masks opens for masks only: sealed fields become Denied and Masked shows their
// masks, whatever more the policy would allow. Fields that are open stay open.
func Masks() OpenOption { return func(c *openConfig) { c.masks = true } }

// skip leaves a field sealed.
const skip = ^Decision(0)

// decide returns a Decision or skip per field.
func (s *core) decide(ctx context.Context, rows int, opts []OpenOption) ([]Decision, error) {
	if len(opts) == 0 && s.opts.Policy == nil {
		return s.plan.allowed, nil
	}
	var c openConfig
	for _, o := range opts {
		o(&c)
	}
	out := make([]Decision, len(s.plan.fields))
	if c.some {
		for i := range out {
			out[i] = skip
		}
		for _, name := range c.fields {
			at, ok := s.plan.names[name]
			if !ok || at >= len(out) {
				return nil, fmt.Errorf("lethe: record %q has no sealed field %q", s.plan.record, name)
			}
			out[at] = Deny
		}
	}
	for i := range out {
		if out[i] == skip {
			continue
		}
		out[i] = Allow
		if s.opts.Policy != nil {
			f := &s.plan.fields[i]
			out[i] = s.opts.Policy(ctx, Access{Record: s.plan.record, Field: f.name, Purpose: f.tag.purpose, Tenant: s.tenant, Rows: rows})
		}
		if out[i] != Allow && out[i] != MaskOnly {
			out[i] = Deny
		}
		if c.masks && out[i] == Allow {
			out[i] = MaskOnly
		}
	}
	return out, nil
}
