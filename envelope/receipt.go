package envelope

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lethe-go/lethe/kms"
)

// Receipt says what a forget did, what can still undo it and until when. It holds
// no personal data: no pseudonym of the subject either. All times are UTC, of
// whole seconds; zero times are unknown.
//
// Everything but Already, Asked, Residuals, Everywhere, Forgotten, None and Issued
// follows from the ledger alone, and [VerifyAgainstLedger] checks it, unless the
// receipt is Deferred.
type Receipt struct {
	Store   StoreID   `json:"store"`
	Tree    TreeID    `json:"tree"`
	Seq     uint64    `json:"seq"` // the ledger entry that commits the forget
	Time    time.Time `json:"time"`
	Entries []uint64  `json:"entries"`           // Seq, and the later entries that list further keys of it
	KeyIDs  []KeyID   `json:"kids,omitempty"`    // the keys that died
	Unknown bool      `json:"unknown,omitempty"` // there was no key: the subject has no sealed data here, or the id was mistyped
	Already bool      `json:"already,omitempty"` // it was forgotten before; nothing was changed now
	// Deferred: nothing was destroyed yet, and nothing opens. The forget is carried
	// out by ForgetDue, at Due or, if that is zero, when the subject's holds are
	// released; Seq is the entry that asks for it.
	Deferred bool      `json:"deferred,omitempty"`
	Due      time.Time `json:"due,omitzero"`
	Asked    uint64    `json:"asked,omitempty"` // the entry that asked for a forget that had been deferred
	Epoch    uint64    `json:"epoch"`           // in which the keys died
	// ClosedEpoch is the first epoch whose root reaches none of the keys: it was
	// begun after the last of Entries, and switched to. 0: none yet.
	ClosedEpoch uint64 `json:"closed_epoch,omitempty"`
	// Handles are what wraps the roots in backups that reach the keys: of every epoch
	// before ClosedEpoch that was ever active, but for those destroyed before Time.
	Handles   []ReceiptHandle `json:"handles,omitempty"`
	Residuals []Residual      `json:"residuals,omitempty"` // what is left, or went besides the keys
	// Everywhere is when every process refuses; the one that forgot does at once.
	Everywhere time.Time `json:"everywhere,omitzero"`
	// Forgotten is when no backup of the key store or the data opens any more what
	// was forgotten: as promised while ClosedEpoch is 0, then by what became of the
	// handles. Zero: there is no such time, and None says why.
	Forgotten  time.Time `json:"forgotten,omitzero"`
	None       string    `json:"none,omitempty"`
	LedgerSeq  uint64    `json:"ledger_seq"`  // the last entry that was known
	LedgerHead string    `json:"ledger_head"` // its hash, in lower-case hexadecimal
	// Complete: ClosedEpoch is set and every one of Handles is destroyed, as the KMS
	// confirmed, or an operator for one without Semantics. Nothing is left to wait for.
	Complete bool      `json:"complete,omitempty"`
	Issued   time.Time `json:"issued"`
}

// ReceiptHandle is a KMS handle that reaches keys of a forget.
type ReceiptHandle struct {
	Epoch     uint64      `json:"epoch"`
	URI       string      `json:"uri,omitempty"` // of the KMS key it belongs to
	Handle    string      `json:"handle,omitempty"`
	Semantics string      `json:"semantics,omitempty"` // as [kms.ParseEraseSemantics] reads it; "": it cannot be erased
	State     HandleState `json:"state"`
	Due       time.Time   `json:"due,omitzero"`       // when its destruction is to be ordered
	Until     time.Time   `json:"until,omitzero"`     // when the KMS will have done it
	Destroyed time.Time   `json:"destroyed,omitzero"` // when that was confirmed
}

// HandleState is how far the destruction of a handle has come.
type HandleState string

// The states of a handle on a receipt.
const (
	ReceiptLive        HandleState = "live"         // no later root has taken its place
	ReceiptDue         HandleState = "due"          // one has; its destruction is ordered at Due
	ReceiptOrdered     HandleState = "ordered"      // the KMS has the order
	ReceiptDestroyed   HandleState = "destroyed"    // the KMS confirmed it; without Semantics: an operator did, see ConfirmErased
	ReceiptNotErasable HandleState = "not erasable" // it lives as long as its KMS key
)

// Residual is what a forget leaves behind, or took along besides the keys.
type Residual struct {
	Kind  string `json:"kind"`            // one of the Residual constants, or a kind of the [Residue]'s own
	Name  string `json:"name,omitempty"`  // of the table, the tokenizer, …
	Count int64  `json:"count,omitempty"` // of rows, where that is known
	Note  string `json:"note,omitempty"`  // for people
}

// Kinds of residuals.
const (
	ResidualTombstone = "tombstone" // a keyed pseudonym in the key store and the ledger
	ResidualColumns   = "columns"   // Count rows whose index columns were made NULL
	ResidualTokens    = "tokens"    // tokens that stay where they are and can no longer be turned back
	ResidualSurviving = "surviving" // what this forget could not end
	ResidualFailed    = "failed"    // a Residue that failed: what it would have removed may be there
	ResidualPending   = "pending"   // a Residue that a deferred forget could not run: what it would have removed is there
)

// Receipt returns the receipt of a forget, given its ledger entry, by the ledger
// as it is now. Called again once [Keyring.EraseDue] has seen the handles destroyed
// it returns the second receipt, which is Complete. What Residues reported is only
// on the receipt that Forget returned; whether any is still to run is on this one too.
// It asks the ledger, not the KMS.
//
// It returns ErrLedger if the entry is not a forget, or the ledger was changed.
func (k *Keyring) Receipt(ctx context.Context, seq uint64) (Receipt, error) {
	r, _, err := k.receipt(ctx, seq)
	return r, err
}

func (k *Keyring) receipt(ctx context.Context, seq uint64) (Receipt, SRef, error) {
	if k.closed.Load() {
		return Receipt{}, SRef{}, ErrClosed
	}
	ctx, cancel := k.bound(ctx, 4)
	defer cancel()
	// Nothing is appended or learned between the read and the check of what was read.
	k.led.appendMu.Lock()
	defer k.led.appendMu.Unlock()
	if err := k.syncLocked(ctx); err != nil {
		return Receipt{}, SRef{}, err
	}
	if seq == 0 {
		return Receipt{}, SRef{}, fmt.Errorf("%w: entries are numbered from 1", ErrLedger)
	}
	tail, err := k.opts.Ledger.Read(ctx, seq-1)
	if err != nil {
		return Receipt{}, SRef{}, ledgerErr(err)
	}
	var tokens PID
	if len(tail) > 0 && tail[0].PID != 0 {
		if tokens, err = k.tokensOf(ctx, tail[0].PID); err != nil {
			return Receipt{}, SRef{}, err
		}
	}
	promise := k.Promise()
	k.led.mu.RLock()
	defer k.led.mu.RUnlock()
	if tail, err = k.led.verifyTail(tail, seq, k.id); err != nil {
		return Receipt{}, SRef{}, err
	}
	r, err := k.led.receipt(tail, tokens)
	if err != nil {
		return Receipt{}, SRef{}, err
	}
	r.Issued = unixTime(k.now().Unix())
	r.Everywhere = r.Time.Add(promise.Everywhere)
	r.Residuals = []Residual{{Kind: ResidualTombstone, Note: "a keyed pseudonym of the subject stays in the key store and the ledger, so that nothing is sealed for it again unnoticed"}}
	if owed := k.led.residues[party{tail[0].RefVer, tail[0].SRef}][tail[0].PID]; owed == seq {
		r.Residuals = append(r.Residuals, Residual{Kind: ResidualPending, Note: "this forget was carried out later than it was asked for, and not everything was removed that has to go besides the keys: call Forget again"})
	}
	r.judge(&promise)
	return r, tail[0].SRef, nil
}

// tokensOf returns the number of the purpose that has the token keys of a purpose; 0: none.
func (k *Keyring) tokensOf(ctx context.Context, pid PID) (PID, error) {
	if err := k.readPurposes(ctx); err != nil {
		return 0, err
	}
	name, ok := k.purposeName(pid)
	if !ok || strings.HasPrefix(name, "\x00") {
		return 0, nil
	}
	tokens, _ := k.purposeID(tokenPurpose + name)
	return tokens, nil
}

// verifyTail checks entries from seq on by their MACs and by the chain up to the
// head that is known, and drops what came later. l.mu is held.
func (l *ledgerState) verifyTail(tail []LedgerEntry, seq uint64, id StoreID) ([]LedgerEntry, error) {
	if seq > l.seq || uint64(len(tail)) < l.seq-seq+1 {
		return nil, fmt.Errorf("%w: it has no entry %d", ErrLedger, seq)
	}
	tail = tail[:l.seq-seq+1]
	for i := range tail {
		e := &tail[i]
		mac := l.key.sum(e.appendCanonical)
		if e.Store != id || e.Seq != seq+uint64(i) || !hmac.Equal(mac[:], e.MAC) {
			return nil, fmt.Errorf("%w: entry %d was changed", ErrLedger, seq+uint64(i))
		}
		if i == 0 {
			continue
		}
		if head := tail[i-1].hash(); !bytes.Equal(e.Prev, head[:]) {
			return nil, fmt.Errorf("%w: entry %d does not follow entry %d", ErrLedger, e.Seq, e.Seq-1)
		}
	}
	if tail[len(tail)-1].hash() != l.head {
		return nil, fmt.Errorf("%w: it is not the one that was read before", ErrLedger)
	}
	return tail, nil
}

// receipt says what the ledger alone has of the forget that tail begins with; tail
// ends with the last entry known. l.mu is held.
func (l *ledgerState) receipt(tail []LedgerEntry, tokens PID) (Receipt, error) {
	e := &tail[0]
	if e.Kind != LedgerForget {
		return Receipt{}, fmt.Errorf("%w: entry %d is no forget: a receipt has the entry of its forget", ErrLedger, e.Seq)
	}
	r := Receipt{Store: e.Store, Tree: e.Tree, Seq: e.Seq, Time: unixTime(e.Time), LedgerSeq: l.seq, LedgerHead: hex.EncodeToString(l.head[:])}
	last := r.addEntries(tail, tokens)
	r.Unknown = len(r.KeyIDs) == 0
	var handles []*epochState
	for _, s := range l.epochs {
		if s.beginSeq < e.Seq {
			r.Epoch = max(r.Epoch, s.epoch)
		}
		if s.active != 0 && s.beginSeq > last && (r.ClosedEpoch == 0 || s.epoch < r.ClosedEpoch) {
			r.ClosedEpoch = s.epoch
		}
		if s.active != 0 && (s.erased == 0 || s.erased >= e.Time) {
			handles = append(handles, s)
		}
	}
	slices.SortFunc(handles, func(a, b *epochState) int { return int(int64(a.epoch) - int64(b.epoch)) })
	r.Complete = r.ClosedEpoch != 0
	for _, s := range handles {
		if r.ClosedEpoch != 0 && s.epoch >= r.ClosedEpoch {
			break
		}
		h := s.receiptHandle()
		r.Handles = append(r.Handles, h)
		r.Complete = r.Complete && h.State == ReceiptDestroyed
	}
	return r, nil
}

// addEntries collects the entries of a forget and their keys, and returns the
// last of them. Keys found late are the forget's before them; those that a restore
// removes once more are of every forget that lists them.
func (r *Receipt) addEntries(tail []LedgerEntry, tokens PID) (last uint64) {
	first := &tail[0]
	known := map[KeyID]bool{}
	newest := true // no later forget of the same
	for i := range tail {
		e := &tail[i]
		if e.Kind != LedgerForget && e.Kind != LedgerForgetMore || e.Tree != first.Tree || e.RefVer != first.RefVer || e.SRef != first.SRef {
			continue
		}
		again := slices.ContainsFunc(e.KIDs, func(kid KeyID) bool { return known[kid] })
		switch {
		case i == 0:
		case e.PID == first.PID && e.Kind == LedgerForget:
			newest = false
			continue
		case e.PID == first.PID || tokens != 0 && e.PID == tokens:
			if !newest && !again {
				continue
			}
		default:
			continue
		}
		r.Entries, last = append(r.Entries, e.Seq), e.Seq
		for _, kid := range e.KIDs {
			if !known[kid] {
				known[kid] = true
				r.KeyIDs = append(r.KeyIDs, kid)
			}
		}
	}
	return last
}

func (s *epochState) receiptHandle() ReceiptHandle {
	h := ReceiptHandle{
		Epoch: s.epoch, URI: s.uri, Handle: s.handle, Semantics: s.semantics, State: ReceiptLive,
		Due: unixTime(s.due), Until: unixTime(s.until), Destroyed: unixTime(s.erased),
	}
	switch {
	case s.erased != 0:
		h.State = ReceiptDestroyed
	case s.semantics == "":
		h.State = ReceiptNotErasable
	case s.ordered != 0:
		h.State = ReceiptOrdered
	case s.retired != 0:
		h.State = ReceiptDue
	}
	return h
}

// judge sets Forgotten, or None.
func (r *Receipt) judge(promise *Promise) {
	if r.Unknown {
		r.None = "no key died: nothing was sealed for the subject in this key store"
		return
	}
	for i := range r.Handles {
		if h := &r.Handles[i]; h.State == ReceiptNotErasable {
			r.None = fmt.Sprintf("epoch %d hangs on a KMS key that cannot be destroyed in part: whoever has it and a backup of that time opens what was sealed then, until the key is destroyed by hand and confirmed", h.Epoch)
			return
		}
	}
	switch {
	case r.ClosedEpoch != 0:
		for i := range r.Handles {
			gone, ok := r.Handles[i].gone()
			if !ok {
				r.Forgotten, r.None = time.Time{}, fmt.Sprintf("this version does not know what the destruction of the handle of epoch %d is worth", r.Handles[i].Epoch)
				return
			}
			if gone.After(r.Forgotten) {
				r.Forgotten = gone
			}
		}
	case promise.None != "":
		r.None = promise.None
		return
	default:
		r.Forgotten = unixTime(r.Time.Add(promise.Backups).Unix())
	}
	// A promise that was not kept is not repeated.
	if !r.Complete && !r.Forgotten.After(r.Issued) {
		r.Forgotten = time.Time{}
		r.None = "it is overdue: the KMS has not confirmed the destruction of every handle; see EraseDue"
		if r.ClosedEpoch == 0 {
			r.None = "it is overdue: no epoch was closed in time; see CloseEpoch"
		}
	}
}

// gone is when the handle is destroyed, by what is known; ok is false for unknown semantics.
func (h *ReceiptHandle) gone() (at time.Time, ok bool) {
	switch {
	case h.State == ReceiptDestroyed:
		return h.Destroyed, true
	case h.State == ReceiptOrdered && h.Until.After(h.Due):
		return h.Until, true
	}
	sem, err := kms.ParseEraseSemantics(h.Semantics)
	return h.Due.Add(sem.MinDelay), err == nil
}

// fill makes the receipt of a forget that is done.
func (k *Keyring) fill(ctx context.Context, r Receipt, sref SRef) (Receipt, error) {
	full, of, err := k.receipt(context.WithoutCancel(ctx), r.Seq)
	if err == nil && of != sref {
		err = fmt.Errorf("%w: the key store names entry %d as the subject's forget, and it is not", ErrLedger, r.Seq)
	}
	if err != nil {
		return r, fmt.Errorf("lethe: the forget is recorded as ledger entry %d and done; its receipt could not be made, ask Receipt for it: %w", r.Seq, err)
	}
	full.Already, full.Asked = r.Already, r.Asked
	return full, nil
}

// settle makes the receipt of a forget and runs what else must go with the subject.
func (k *Keyring) settle(ctx context.Context, r Receipt, s Subject, purpose string, pid PID) (Receipt, error) {
	if r.Deferred { // nothing is gone yet, and nothing else may be
		return r, nil
	}
	sref := k.sref(s.Tenant, s.Kind, s.ID)
	found, failed := k.settleResidues(ctx, forgotten{refVersion, sref, pid}, purpose, &s)
	r, err := k.fill(ctx, r, sref)
	r.Residuals = append(r.Residuals, found...)
	return r, errors.Join(err, failed)
}
