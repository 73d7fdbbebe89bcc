package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lethe-go/lethe/envelope"
)

type statusCommand struct {
	Check bool `help:"Exit with 1 if the close of the epoch is overdue, or a destruction is: for a monitor."`
}

// statusResult is the answer of status.
type statusResult struct {
	StoreID      string          `json:"store_id"`
	Store        string          `json:"store"`
	KMS          string          `json:"kms"`
	Ledger       string          `json:"ledger"`
	Epoch        uint64          `json:"epoch"`
	Since        time.Time       `json:"since,omitzero"`
	Overdue      bool            `json:"overdue"`
	DirtyPages   int             `json:"dirty_pages"`
	Pending      []erasureResult `json:"pending"`
	OldestBackup time.Time       `json:"oldest_backup,omitzero"`
	Incarnation  uint64          `json:"incarnation"`
	ClosingUntil time.Time       `json:"closing_until,omitzero"`
	ClosingStep  string          `json:"closing_step,omitempty"`
	Promise      promiseResult   `json:"promise"`
}

// erasureResult is what becomes of the KMS handle of an earlier epoch.
type erasureResult struct {
	Epoch     uint64    `json:"epoch"`
	KMS       string    `json:"kms,omitempty"`
	Handle    string    `json:"handle"`
	Erasable  bool      `json:"erasable"`
	Due       time.Time `json:"due,omitzero"`
	Ordered   time.Time `json:"ordered,omitzero"`
	Until     time.Time `json:"until,omitzero"`
	Destroyed time.Time `json:"destroyed,omitzero"`
	Error     string    `json:"error,omitempty"`
}

type promiseResult struct {
	EverywhereSeconds float64  `json:"everywhere_seconds"`
	BackupsSeconds    float64  `json:"backups_seconds"` // 0: there is no such time
	None              string   `json:"none,omitempty"`
	Caveats           []string `json:"caveats"`
}

func erasureResults(a *app, list []envelope.Erasure) []erasureResult {
	out := make([]erasureResult, len(list))
	for i, e := range list {
		out[i] = erasureResult{Epoch: e.Epoch, KMS: e.URI, Handle: e.Handle, Erasable: e.Semantics != "", Due: e.Due, Ordered: e.Ordered, Until: e.Until, Destroyed: e.Destroyed}
		if e.Err != nil {
			out[i].Error = a.hide(e.Err.Error())
		}
	}
	return out
}

// Run shows how forgetting stands.
func (c *statusCommand) Run(ctx context.Context, a *app, out *output) error {
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	st, err := s.Keyring.Status(ctx)
	if err != nil {
		return err
	}
	id := s.Keyring.StoreID()
	res := statusResult{
		StoreID: hex.EncodeToString(id[:]), Store: a.cfg.Store.String(), KMS: a.cfg.KMS.String(), Ledger: a.cfg.Ledger.String(),
		Epoch: st.Epoch, Since: st.Since, Overdue: st.Overdue, DirtyPages: st.DirtyPages, Pending: erasureResults(a, st.Pending),
		OldestBackup: st.OldestBackup, Incarnation: st.Incarnation,
		Promise: promiseResult{
			EverywhereSeconds: seconds(st.Promise.Everywhere), BackupsSeconds: seconds(st.Promise.Backups),
			None: st.Promise.None, Caveats: append([]string{}, st.Promise.Caveats...),
		},
	}
	if st.Closing.Until.After(time.Now()) {
		res.ClosingUntil, res.ClosingStep = st.Closing.Until, st.Closing.Step
	}
	var b strings.Builder
	fmt.Fprintf(&b, "key store %s, %s\nKMS key   %s\nledger    %s\n", res.StoreID, res.Store, res.KMS, res.Ledger)
	b.WriteString(st.String())
	fmt.Fprintf(&b, "every process refuses a forgotten person within %v\n", st.Promise.Everywhere)
	if !res.ClosingUntil.IsZero() {
		fmt.Fprintf(&b, "a process is closing the epoch now: %s\n", res.ClosingStep)
	}
	for _, caveat := range st.Promise.Caveats {
		fmt.Fprintf(&b, "note: %s\n", caveat)
	}
	if err := out.result(res, b.String()); err != nil || !c.Check {
		return err
	}
	for _, e := range st.Pending {
		if e.Semantics != "" && e.Ordered.IsZero() && !e.Due.IsZero() && time.Since(e.Due) > time.Hour {
			return verdictError{fmt.Errorf("the handle of epoch %d was due to be destroyed: run lethe epoch erase-due", e.Epoch)}
		}
	}
	if st.Overdue {
		return verdictError{errors.New("the close of the epoch is overdue: run lethe epoch close")}
	}
	return nil
}
