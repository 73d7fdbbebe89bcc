package envelope

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Residue is what else must go with a subject, or is left behind by a forget:
// index columns, tokens, copies elsewhere.
type Residue interface {
	// Forgotten removes what is left of the subject, once its keys are gone, or says
	// that it cannot; with all of every purpose, otherwise of the one. What it returns
	// is put on the receipt: it must not say who the subject is.
	//
	// It is called again by every later Forget of the subject, and must be idempotent
	// and safe for concurrent use. Its error, too, goes to the caller of Forget.
	Forgotten(ctx context.Context, s Subject, purpose string, all bool) ([]Residual, error)
}

// residues are those of a Keyring.
type residues struct {
	mu  sync.RWMutex
	all []Residue
}

// AddResidue makes every later Forget, ForgetPurpose and Release in this process
// run r after the keys are gone; ForgetDue cannot. Add residues at the start, in every process that
// forgets. A Residue with a String method is named by it where it fails, and by
// its type otherwise. nil is ignored.
func (k *Keyring) AddResidue(r Residue) {
	if r == nil {
		return
	}
	k.residues.mu.Lock()
	defer k.residues.mu.Unlock()
	k.residues.all = append(k.residues.all, r)
}

// forgotten runs every residue, also after one that failed.
func (x *residues) forgotten(ctx context.Context, s Subject, purpose string, all bool) (out []Residual, err error) {
	x.mu.RLock()
	list := slices.Clone(x.all)
	x.mu.RUnlock()
	var errs []error
	for _, r := range list {
		found, err := r.Forgotten(ctx, s, purpose, all)
		out = append(out, found...)
		if err == nil {
			continue
		}
		name := residueName(r)
		// Not the error's text: a driver's may repeat the subject's id.
		out = append(out, Residual{Kind: ResidualFailed, Name: name, Note: "not done: call Forget again"})
		errs = append(errs, fmt.Errorf("lethe: the keys are gone, and what else must go with them in %s is not yet: call Forget again: %w", name, err))
	}
	return out, errors.Join(errs...)
}

// notRun is for a forget of which nobody knows whose it is.
func (x *residues) notRun() (out []Residual) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, r := range x.all {
		out = append(out, Residual{Kind: ResidualFailed, Name: residueName(r), Note: "not done: the ledger does not say whose keys these were: call Forget for the subject"})
	}
	return out
}

func residueName(r Residue) string {
	if named, ok := r.(fmt.Stringer); ok {
		return named.String()
	}
	return fmt.Sprintf("%T", r)
}
