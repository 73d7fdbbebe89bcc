package envelope

import (
	"context"
	"strings"
)

// CheckScopes answers, for data that is not sealed yet, what OpenRecords would
// say of sealed data: Err of each scope becomes ErrForgotten or ErrSuspended, what
// Subject.Validate says, why a key row does not open, or nil, as for a subject
// that has no keys yet. Groups are not looked at. All scopes are asked for in one
// batch, and no key is made; of subjects without keys nothing is cached, so each
// call asks the store for them.
//
// The error is for the call as a whole: ErrUnavailable, or the context's. Then
// nothing is known.
func (k *Keyring) CheckScopes(ctx context.Context, scopes []Scope) error {
	var few fewKeys
	refs, sets := few.refs[:0], few.sets[:0]
	for i := range scopes {
		s := &scopes[i]
		ref := keyRef{}
		switch s.Err = s.Subject.Validate(); {
		case s.Err != nil:
		case strings.HasPrefix(s.Purpose, "\x00"):
			s.Err = errReserved
		default:
			ref = keyRef{s.Subject.Tenant, s.Subject.Kind, s.Subject.ID, s.Purpose}
		}
		refs, sets = append(refs, ref), append(sets, nil)
	}
	if err := k.acquire(ctx, refs, sets, false); err != nil {
		return err
	}
	for i, set := range sets {
		switch {
		case scopes[i].Err != nil || set == nil:
		case set.forgotten:
			scopes[i].Err = forgottenOrMissing(set)
		default:
			scopes[i].Err = set.damage()
		}
	}
	return nil
}
