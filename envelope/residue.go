package envelope

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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

// PseudonymResidue is a Residue that can do without the subject's name: of a forget
// that was deferred, by a hold or with a grace period, no more than the pseudonym is
// known when it comes due.
type PseudonymResidue interface {
	Residue
	// ForgottenPseudonym is Forgotten for the subject with the pseudonym ref, which
	// [Keyring.Pseudonym] returns. errors.ErrUnsupported: it needs the subject after all.
	ForgottenPseudonym(ctx context.Context, ref SRef, purpose string, all bool) ([]Residual, error)
}

// Pseudonym returns the name under which the key store and the ledger know the
// subject: 16 bytes of an HMAC whose key is in the key store, so nobody else can
// compute it. It never changes and outlasts a forget. Kept in a table it says which of
// its rows belong together, and to which entries of the ledger: treat it as personal
// data. It costs no I/O. It returns what Subject.Validate says, or ErrClosed.
func (k *Keyring) Pseudonym(s Subject) (SRef, error) {
	if err := s.Validate(); err != nil {
		return SRef{}, err
	}
	if k.closed.Load() {
		return SRef{}, ErrClosed
	}
	return k.sref(s.Tenant, s.Kind, s.ID), nil
}

// residueScope is the Scope of a forget whose Residues were still to run when it was
// committed.
const residueScope = "residue"

// residues are those of a Keyring.
type residues struct {
	mu  sync.RWMutex
	all []Residue
	// unable are forgets that some of them cannot serve by the pseudonym.
	unable map[forgotten]struct{}
}

// AddResidue makes every later Forget and ForgetPurpose in this process run r
// after the keys are gone. Add residues at the start, in every process that
// forgets, carries out deferred forgets (ForgetDue, RunEpochs) or readmits. A Residue
// with a String method is named by it where it fails, and by its type otherwise. nil is
// ignored.
func (k *Keyring) AddResidue(r Residue) {
	if r == nil {
		return
	}
	k.residues.mu.Lock()
	defer k.residues.mu.Unlock()
	k.residues.all = append(k.residues.all, r)
	k.residues.unable = nil
}

func (x *residues) list() []Residue {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Clone(x.all)
}

// cannot notes that a forget needs somebody who knows the subject.
func (x *residues) cannot(f forgotten) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.unable == nil {
		x.unable = map[forgotten]struct{}{}
	}
	x.unable[f] = struct{}{}
}

// able returns those of the forgets that owe residues which do not need that.
func (x *residues) able(owed map[forgotten]uint64) (out []forgotten) {
	x.mu.Lock()
	defer x.mu.Unlock()
	maps.DeleteFunc(x.unable, func(f forgotten, _ struct{}) bool { _, still := owed[f]; return !still })
	for f := range owed {
		if _, not := x.unable[f]; !not {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b forgotten) int { return cmp.Compare(owed[a], owed[b]) })
	return out
}

// owesResidues reports whether a forget of the purpose leaves something to residues.
// Token keys go with their purpose, whose forget does.
func (k *Keyring) owesResidues(pid PID) bool {
	name, _ := k.purposeName(pid)
	return !strings.HasPrefix(name, "\x00") && len(k.residues.list()) > 0
}

// settleResidues runs every residue, also after one that failed, and records it where
// the ledger waits for that. s is nil where only the pseudonym is known.
func (k *Keyring) settleResidues(ctx context.Context, f forgotten, purpose string, s *Subject) (out []Residual, err error) {
	var errs []error
	able := true
	upTo := k.led.lastOwed(f)
	list := k.residues.list()
	for _, r := range list {
		var found []Residual
		var err error
		switch byName, ok := r.(PseudonymResidue); {
		case s != nil:
			found, err = r.Forgotten(ctx, *s, purpose, f.pid == 0)
		case ok:
			found, err = byName.ForgottenPseudonym(ctx, f.sref, purpose, f.pid == 0)
		default:
			err = errors.ErrUnsupported
		}
		out = append(out, found...)
		if err == nil {
			continue
		}
		name := fmt.Sprintf("%T", r)
		if named, ok := r.(fmt.Stringer); ok {
			name = named.String()
		}
		if s == nil && errors.Is(err, errors.ErrUnsupported) {
			able = false
			out = append(out, Residual{Kind: ResidualPending, Name: name, Note: "not done, since only a pseudonym is known when a deferred forget comes due: call Forget again"})
			continue
		}
		// Not the error's text: a driver's may repeat the subject's id.
		out = append(out, Residual{Kind: ResidualFailed, Name: name, Note: "not done: call Forget again"})
		errs = append(errs, fmt.Errorf("lethe: the keys are gone, and what else must go with them in %s is not yet: call Forget again: %w", name, err))
	}
	if !able {
		k.residues.cannot(f)
		return out, errors.Join(errs...)
	}
	if len(errs) > 0 || len(list) == 0 {
		return out, errors.Join(errs...)
	}
	return out, k.noteResidueDone(ctx, f, upTo)
}

// noteResidueDone records that what deferred forgets left is gone, of which the ledger
// entry upTo is the last.
func (k *Keyring) noteResidueDone(ctx context.Context, f forgotten, upTo uint64) error {
	if upTo == 0 {
		return nil
	}
	ctx, cancel := k.bound(context.WithoutCancel(ctx), 2)
	defer cancel()
	e := &LedgerEntry{Kind: LedgerResidueDone, Tree: k.tree, RefVer: f.refVer, SRef: f.sref, PID: f.pid}
	err := k.appendLedgerIf(ctx, e, func() error {
		if last := k.led.lastOwed(f); last == 0 || last > upTo { // another process was first, or the subject was forgotten again meanwhile
			return errUnchanged
		}
		return nil
	})
	if err = unlessUnchanged(err); err != nil {
		return fmt.Errorf("lethe: what had to go besides the keys is gone, and the ledger does not know: call Forget again: %w", err)
	}
	return nil
}

// retryResidues runs the residues of forgets that came due earlier and for which one
// failed, unless one needs to know the subject.
func (k *Keyring) retryResidues(ctx context.Context) error {
	if len(k.residues.list()) == 0 {
		return nil
	}
	var errs []error
	for _, f := range k.residues.able(k.led.allOwed()) {
		if ctx.Err() != nil {
			break
		}
		purpose, err := k.nameOf(ctx, f.pid)
		switch {
		case !k.led.forbids(f.sref, f.pid): // readmitted meanwhile
		case err == nil:
			_, err = k.settleResidues(ctx, f, purpose, nil)
		case errors.Is(err, ErrKeyMissing):
			k.residues.cannot(f)
			err = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// settleBefore runs what a deferred forget left to residues before it is lifted.
func (k *Keyring) settleBefore(ctx context.Context, s Subject, pid PID) error {
	within, cancel := k.bound(ctx, 2)
	defer cancel()
	if err := k.syncLedger(within); err != nil {
		return err
	}
	f := forgotten{refVersion, k.sref(s.Tenant, s.Kind, s.ID), pid}
	for _, owed := range k.led.owedBy(f) {
		purpose, err := k.nameOf(ctx, owed.pid)
		if err != nil {
			return err
		}
		if _, err := k.settleResidues(ctx, owed, purpose, &s); err != nil {
			return fmt.Errorf("lethe: the subject is not readmitted: %w", err)
		}
	}
	return nil
}

// nameOf returns the name of a purpose, which another process may have made.
func (k *Keyring) nameOf(ctx context.Context, pid PID) (string, error) {
	name, known := k.purposeName(pid)
	if known || pid == 0 {
		return name, nil
	}
	if err := k.readPurposes(ctx); err != nil {
		return "", err
	}
	name, known = k.purposeName(pid)
	if !known {
		return "", fmt.Errorf("%w: the key store does not have the purpose %d, which the ledger names", ErrKeyMissing, pid)
	}
	return name, nil
}

// owesResidue learns that the forget e left something to residues. l.mu is held.
func (l *ledgerState) owesResidue(e *LedgerEntry) {
	if e.Scope != residueScope {
		return
	}
	p := party{e.RefVer, e.SRef}
	if l.residues[p] == nil {
		l.residues[p] = map[PID]uint64{}
	}
	l.residues[p][e.PID] = e.Seq
}

// residueDone takes what e ends out of the forgets that owe residues. l.mu is held.
func (l *ledgerState) residueDone(e *LedgerEntry) {
	p := party{e.RefVer, e.SRef}
	delete(l.residues[p], e.PID)
	if e.PID == 0 || len(l.residues[p]) == 0 {
		delete(l.residues, p)
	}
}

// owedBy lists the forgets that f covers and whose residues have not all run.
func (l *ledgerState) owedBy(f forgotten) (out []forgotten) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for pid := range l.residues[party{f.refVer, f.sref}] {
		if f.pid == 0 || f.pid == pid {
			out = append(out, forgotten{f.refVer, f.sref, pid})
		}
	}
	return out
}

// lastOwed is the last entry of the forgets that owedBy lists; 0: there are none.
func (l *ledgerState) lastOwed(f forgotten) (last uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for pid, seq := range l.residues[party{f.refVer, f.sref}] {
		if f.pid == 0 || f.pid == pid {
			last = max(last, seq)
		}
	}
	return last
}

// allOwed are the forgets whose residues have not all run, with their entries.
func (l *ledgerState) allOwed() map[forgotten]uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	out := map[forgotten]uint64{}
	for p, pids := range l.residues {
		for pid, seq := range pids {
			out[forgotten{p.refVer, p.sref, pid}] = seq
		}
	}
	return out
}
