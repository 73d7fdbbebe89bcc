package main

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/integrations/config"
)

type forgetCommand struct {
	subjectFlags
	Purpose *string       `placeholder:"NAME" help:"Forget this purpose only; an empty one is the default purpose."`
	After   time.Duration `placeholder:"DURATION" help:"Suspend now, and forget when this has passed: until then lethe unforget undoes it."`
	Now     bool          `help:"Close the epoch at once too: no earlier backup of the key store can be restored from then on."`
	receiptFlags
}

// receiptFlags say where a signed receipt goes.
type receiptFlags struct {
	Out string `name:"receipt" placeholder:"FILE" help:"Write the signed receipt (receipt_key) to a new file too."`
}

// forgetResult is the answer of forget.
type forgetResult struct {
	Receipt envelope.Receipt        `json:"receipt"`
	Signed  *envelope.SignedReceipt `json:"signed,omitempty"`
	Closed  *closedResult           `json:"closed,omitempty"`
}

// signer is read before anything is destroyed.
func (f *receiptFlags) signer(a *app) (crypto.Signer, error) {
	signer, err := a.cfg.Signer()
	if err == nil && signer == nil && f.Out != "" {
		err = errors.New("--receipt needs a key to sign with: set receipt_key in the configuration; lethe receipt keygen makes one")
	}
	if err == nil && f.Out != "" {
		if _, there := os.Lstat(f.Out); there == nil {
			err = fmt.Errorf("--receipt: %s is there already, and is not overwritten", f.Out)
		} else if err = writeNew(f.Out, nil, 0o600); err == nil { // it can be written
			err = os.Remove(f.Out)
		}
	}
	return signer, err
}

// sign signs a receipt if there is a key, and writes it where the flag says.
func (f *receiptFlags) sign(signer crypto.Signer, r envelope.Receipt) (*envelope.SignedReceipt, error) {
	if signer == nil {
		return nil, nil
	}
	signed, err := envelope.SignReceipt(r, signer)
	if err != nil {
		return nil, err
	}
	if f.Out == "" {
		return &signed, nil
	}
	data, err := json.MarshalIndent(signed, "", "  ")
	if err != nil {
		return nil, err
	}
	return &signed, writeNew(f.Out, append(data, '\n'), 0o600)
}

// Run forgets.
func (c *forgetCommand) Run(ctx context.Context, a *app, out *output) error {
	if c.After != 0 && (c.Now || c.Purpose != nil) {
		return errors.New("--after goes with neither --now nor --purpose")
	}
	subject, err := c.read(a)
	if err != nil {
		return err
	}
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	signer, err := c.signer(a)
	if err != nil {
		return err
	}
	if err := c.ask(a); err != nil {
		return err
	}
	var r envelope.Receipt
	switch {
	case c.After != 0:
		r, err = s.Keyring.ForgetAfter(ctx, subject, c.After)
	case c.Purpose != nil:
		r, err = s.Keyring.ForgetPurpose(ctx, subject, *c.Purpose)
	default:
		r, err = s.Keyring.Forget(ctx, subject)
	}
	if err != nil {
		return err
	}
	res := forgetResult{}
	text := ""
	var closing error
	if c.Now && !r.Deferred {
		var closed envelope.Closed
		closed, closing = closeEpoch(ctx, a, s.Keyring, envelope.CloseOptions{Immediate: true})
		if closing == nil || len(closed.Erasures) > 0 {
			res.Closed = closedResultOf(a, closed)
			text = res.Closed.text()
			closing = notDestroyed(closing)
			again, err := s.Keyring.Receipt(ctx, r.Seq)
			if err != nil {
				closing = errors.Join(closing, fmt.Errorf("the receipt is that from before the close; get the newer with lethe receipt issue %d: %w", r.Seq, err))
			} else {
				again.Residuals = r.Residuals // only Forget knows them
				again.Already = r.Already
				r = again
			}
		}
	}
	res.Receipt = r
	signed, err := c.sign(signer, r)
	res.Signed = signed
	if err != nil {
		closing = errors.Join(closing, fmt.Errorf("its receipt could not be signed or written, get it with lethe receipt issue %d: %w", r.Seq, err))
	}
	if r.Unknown {
		a.notef("There was no key: nothing was sealed for this subject, or its id is another. It is recorded as forgotten.")
	}
	for _, name := range plainTables(a.cfg, c.Kind) {
		a.notef("Table %s is described with plaintext columns: what they hold of the %s is not erased. Set it NULL, or delete the row.", name, c.Kind)
	}
	if r.Deferred && c.Now {
		a.notef("The forget is deferred by a hold: the epoch was not closed.")
	}
	if err := out.result(res, r.String()+text); err != nil {
		closing = errors.Join(closing, fmt.Errorf("its receipt could not be printed, get it with lethe receipt issue %d: %w", r.Seq, err))
	}
	if closing != nil {
		return partlyError{fmt.Errorf("the subject is forgotten, ledger entry %d: %w", r.Seq, closing)}
	}
	return nil
}

func (c *forgetCommand) ask(a *app) error {
	switch {
	case c.After != 0:
		return a.confirm("This suspends the %s now and destroys its keys in %v", c.Kind, c.After)
	case c.Now:
		return a.confirm("This destroys the keys of this %s for good, and makes every backup of the key store there is now useless", c.Kind)
	}
	return a.confirm("This destroys the keys of this %s for good", c.Kind)
}

// plainTables are the tables with plaintext columns that a kind's sealed data is in too.
func plainTables(cfg *config.Config, kind string) (out []string) {
	for _, t := range cfg.Tables {
		d, err := describe(t)
		if err == nil && len(t.PlainOf()) > 0 && slices.ContainsFunc(d.Columns, func(c columnDescribed) bool { return c.Subject == kind }) {
			out = append(out, t.Name)
		}
	}
	return out
}

type forgetDueCommand struct{}

// receiptsResult is the answer of commands that may forget several.
type receiptsResult struct {
	Receipts []envelope.Receipt `json:"receipts"`
}

// Run carries out what waited.
func (c *forgetDueCommand) Run(ctx context.Context, a *app, out *output) error {
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	receipts, err := s.Keyring.ForgetDue(ctx)
	if printed := printReceipts(out, receipts, "nothing was due\n"); printed != nil {
		return printed
	}
	return err
}

func printReceipts(out *output, receipts []envelope.Receipt, none string) error {
	var text strings.Builder
	for _, r := range receipts {
		text.WriteString(r.String())
	}
	if len(receipts) == 0 {
		text.WriteString(none)
	}
	return out.result(receiptsResult{append([]envelope.Receipt{}, receipts...)}, text.String())
}

// done is the answer of commands that have none but their success.
type done struct {
	Done bool `json:"done"`
}

type unforgetCommand struct{ subjectFlags }

// Run undoes a forget that waits.
func (c *unforgetCommand) Run(ctx context.Context, a *app, out *output) error {
	return c.with(ctx, a, out, "not to be forgotten any more\n", func(k *envelope.Keyring, s envelope.Subject) error { return k.Unforget(ctx, s) })
}

type readmitCommand struct {
	subjectFlags
	Purpose *string `placeholder:"NAME" help:"This purpose only."`
}

// Run readmits.
func (c *readmitCommand) Run(ctx context.Context, a *app, out *output) error {
	return c.with(ctx, a, out, "readmitted: new data can be sealed; the old stays unreadable\n", func(k *envelope.Keyring, s envelope.Subject) error {
		if c.Purpose != nil {
			return k.ReadmitPurpose(ctx, s, *c.Purpose)
		}
		return k.Readmit(ctx, s)
	})
}

// with does something to the subject.
func (f *subjectFlags) with(ctx context.Context, a *app, out *output, text string, do func(*envelope.Keyring, envelope.Subject) error) error {
	subject, err := f.read(a)
	if err != nil {
		return err
	}
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	if err := do(s.Keyring, subject); err != nil {
		return err
	}
	return out.result(done{true}, text)
}
