package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/lethe-go/lethe/envelope"
)

type epochCommands struct {
	Close         epochClose         `cmd:"" help:"Close the epoch: what was forgotten in it goes out of reach of backups."`
	EraseDue      epochEraseDue      `cmd:"" help:"Have the KMS destroy the handles whose time has come."`
	ConfirmErased epochConfirmErased `cmd:"" help:"Record that the handle of an epoch is gone, where the KMS cannot say so."`
}

type epochClose struct {
	Immediate    bool `help:"Destroy the handles of all earlier epochs at once: no earlier backup of the key store can be restored from then on."`
	All          bool `help:"Give every page a fresh key: now and then, and after an intrusion."`
	LeaveDamaged bool `help:"Give up rows that do not open. Without, they are an error while a backup still has good copies."`
}

// closedResult is the answer of epoch close.
type closedResult struct {
	Epoch       uint64          `json:"epoch"` // the active one afterwards
	NoOp        bool            `json:"no_op"` // nothing had been forgotten
	Pages       int             `json:"pages"`
	Keys        int             `json:"keys"`
	Checked     int             `json:"checked"`
	Dropped     int             `json:"dropped"`
	Damaged     []uint64        `json:"damaged_pages"`
	DamagedKeys []string        `json:"damaged_keys"`
	Erasures    []erasureResult `json:"erasures"`
	Seconds     float64         `json:"seconds"`
}

func closedResultOf(a *app, c envelope.Closed) *closedResult {
	res := &closedResult{
		Epoch: c.Epoch, NoOp: c.NoOp, Pages: c.Pages, Keys: c.Keys, Checked: c.Checked, Dropped: c.Dropped,
		Damaged: []uint64{}, DamagedKeys: []string{}, Erasures: erasureResults(a, c.Erasures), Seconds: seconds(c.Took),
	}
	for _, p := range c.Damaged {
		res.Damaged = append(res.Damaged, uint64(p))
	}
	for _, k := range c.DamagedKeys {
		res.DamagedKeys = append(res.DamagedKeys, hex.EncodeToString(k[:]))
	}
	return res
}

func (c *closedResult) text() string {
	if c.NoOp {
		return fmt.Sprintf("epoch %d: nothing was forgotten in it, so there was nothing to close\n", c.Epoch)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "closed: epoch %d is active; %d pages re-keyed, %d keys wrapped anew, in %.1f s\n", c.Epoch, c.Pages, c.Keys, c.Seconds)
	if c.Dropped > 0 {
		fmt.Fprintf(&b, "%d rows of forgotten keys had been put back and were dropped\n", c.Dropped)
	}
	if n := len(c.Damaged) + len(c.DamagedKeys); n > 0 {
		fmt.Fprintf(&b, "given up as damaged: %d pages, %d keys\n", len(c.Damaged), len(c.DamagedKeys))
	}
	b.WriteString(erasuresText(c.Erasures))
	return b.String()
}

func erasuresText(list []erasureResult) string {
	var b strings.Builder
	const day = "2006-01-02 15:04 MST"
	for _, e := range list {
		switch {
		case !e.Destroyed.IsZero():
			fmt.Fprintf(&b, "epoch %d: %q is destroyed\n", e.Epoch, e.Handle)
		case e.Error != "":
			fmt.Fprintf(&b, "epoch %d: %q could not be destroyed: %s\n", e.Epoch, e.Handle, e.Error)
		case !e.Erasable:
			fmt.Fprintf(&b, "epoch %d: the KMS key %q cannot be destroyed in part; see lethe epoch confirm-erased\n", e.Epoch, e.Handle)
		case !e.Ordered.IsZero():
			fmt.Fprintf(&b, "epoch %d: the destruction of %q is ordered\n", e.Epoch, e.Handle)
		default:
			fmt.Fprintf(&b, "epoch %d: %q is to be destroyed from %s\n", e.Epoch, e.Handle, e.Due.UTC().Format(day))
		}
	}
	return b.String()
}

// closeEpoch closes with its progress shown.
func closeEpoch(ctx context.Context, a *app, k *envelope.Keyring, opts envelope.CloseOptions) (envelope.Closed, error) {
	p := newProgress(a)
	defer p.finish()
	opts.Progress = p.closing
	return k.CloseEpoch(ctx, opts)
}

func (p *progress) closing(c envelope.CloseProgress) {
	p.show(fmt.Sprintf("epoch %d, %s", c.Epoch, c.Step), int64(c.Done), int64(c.Total))
}

// Run closes.
func (c *epochClose) Run(ctx context.Context, a *app, out *output) error {
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	if c.Immediate || c.LeaveDamaged {
		what := "This makes every backup of the key store there is now useless"
		if !c.Immediate {
			what = "This gives up keys that do not open, for good"
		}
		if err := a.confirm("%s", what); err != nil {
			return err
		}
	}
	closed, err := closeEpoch(ctx, a, s.Keyring, envelope.CloseOptions{Immediate: c.Immediate, All: c.All, LeaveDamaged: c.LeaveDamaged})
	if err != nil && len(closed.Erasures) == 0 {
		return err
	}
	res := closedResultOf(a, closed)
	return errors.Join(out.result(res, res.text()), notDestroyed(err))
}

// notDestroyed is the error of a close that was done, but for handles that were due
// and are still there; nil if err is.
func notDestroyed(err error) error {
	if err == nil {
		return nil
	}
	return partlyError{fmt.Errorf("a handle could not be destroyed: what it wraps can still be opened; when that is mended, run lethe epoch erase-due: %w", err)}
}

type epochEraseDue struct{}

// Run destroys what is due.
func (c *epochEraseDue) Run(ctx context.Context, a *app, out *output) error {
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	list, err := s.Keyring.EraseDue(ctx)
	if err != nil && len(list) == 0 {
		return err
	}
	res := struct {
		Erasures []erasureResult `json:"erasures"`
	}{erasureResults(a, list)}
	text := erasuresText(res.Erasures)
	if text == "" {
		text = "no handle of an earlier epoch is left\n"
	}
	return errors.Join(out.result(res, text), notDestroyed(err))
}

type epochConfirmErased struct {
	Epoch uint64 `arg:"" help:"Number of the epoch, as lethe status has it."`
}

// Run records what an operator saw.
func (c *epochConfirmErased) Run(ctx context.Context, a *app, out *output) error {
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	if err := a.confirm("This records that the KMS key of epoch %d can unwrap nothing any more, on your word", c.Epoch); err != nil {
		return err
	}
	if err := s.Keyring.ConfirmErased(ctx, c.Epoch); err != nil {
		return err
	}
	return out.result(done{true}, "recorded\n")
}

type restoreCommand struct {
	Quick        bool `help:"Re-key only what was forgotten since the backup: for a store too large to read whole, whose backup nobody could write to."`
	LeaveDamaged bool `help:"Give up rows that do not open."`
}

// restoreResult is the answer of restore.
type restoreResult struct {
	Behind      uint64        `json:"behind"` // entries of the ledger that the backup had not seen
	FromEpoch   uint64        `json:"from_epoch"`
	Incarnation uint64        `json:"incarnation"`
	Closed      *closedResult `json:"closed"`
}

// Run restores.
func (c *restoreCommand) Run(ctx context.Context, a *app, out *output) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	mux, err := a.mux()
	if err != nil {
		return err
	}
	if err := a.confirm("Every process that uses the key store %s must be stopped. This gives all its pages fresh keys, as after a backup was put back", cfg.Store); err != nil {
		return err
	}
	p := newProgress(a)
	restored, err := cfg.Restore(ctx, mux, envelope.RestoreOptions{Quick: c.Quick, LeaveDamaged: c.LeaveDamaged, Progress: p.closing})
	p.finish()
	if err != nil && len(restored.Closed.Erasures) == 0 {
		return err
	}
	res := restoreResult{Behind: restored.Behind, FromEpoch: restored.FromEpoch, Incarnation: restored.Incarnation, Closed: closedResultOf(a, restored.Closed)}
	written := out.result(res, fmt.Sprintf("restored from a backup of epoch %d, which was %d ledger entries behind\n", res.FromEpoch, res.Behind)+res.Closed.text())
	return errors.Join(written, notDestroyed(err))
}
