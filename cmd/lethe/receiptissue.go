package main

import (
	"context"
)

type receiptIssue struct {
	Seq uint64 `arg:"" help:"Number of the ledger entry of the forget, as its first receipt has it."`
	receiptFlags
}

// Run prints the receipt of a forget as things stand now.
func (c *receiptIssue) Run(ctx context.Context, a *app, out *output) error {
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	signer, err := c.signer(a)
	if err != nil {
		return err
	}
	r, err := s.Keyring.Receipt(ctx, c.Seq)
	if err != nil {
		return err
	}
	signed, err := c.sign(signer, r)
	if err != nil {
		return err
	}
	return out.result(forgetResult{Receipt: r, Signed: signed}, r.String())
}
