package main

import (
	"context"
	"fmt"
	"time"

	"github.com/lethe-go/lethe/envelope"
)

type suspendCommand struct {
	subjectFlags
	Purpose *string `placeholder:"NAME" help:"This purpose only."`
}

// Run suspends.
func (c *suspendCommand) Run(ctx context.Context, a *app, out *output) error {
	return c.with(ctx, a, out, "suspended\n", func(k *envelope.Keyring, s envelope.Subject) error {
		if c.Purpose != nil {
			return k.SuspendPurpose(ctx, s, *c.Purpose)
		}
		return k.Suspend(ctx, s)
	})
}

type resumeCommand struct {
	subjectFlags
	Purpose *string `placeholder:"NAME" help:"This purpose only."`
}

// Run resumes.
func (c *resumeCommand) Run(ctx context.Context, a *app, out *output) error {
	return c.with(ctx, a, out, "resumed\n", func(k *envelope.Keyring, s envelope.Subject) error {
		if c.Purpose != nil {
			return k.ResumePurpose(ctx, s, *c.Purpose)
		}
		return k.Resume(ctx, s)
	})
}

type holdCommand struct {
	subjectFlags
	Reason string `required:"" placeholder:"CODE" help:"Code of the case: 1 to 64 of A-Z a-z 0-9 . _ - / : and nothing personal, for the ledger shows it."`
	Until  string `placeholder:"TIME" help:"When the hold ends by itself: 2026-12-31 (UTC) or RFC 3339. Without, lethe release ends it."`
}

// Run holds.
func (c *holdCommand) Run(ctx context.Context, a *app, out *output) error {
	until, err := parseTime(c.Until)
	if err != nil {
		return err
	}
	return c.with(ctx, a, out, "held\n", func(k *envelope.Keyring, s envelope.Subject) error { return k.Hold(ctx, s, until, c.Reason) })
}

func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: write 2026-12-31, or 2026-12-31T12:00:00Z", text)
}

type releaseCommand struct {
	subjectFlags
	Reason string `required:"" placeholder:"CODE" help:"Code that the hold was made with."`
}

// Run ends a hold.
func (c *releaseCommand) Run(ctx context.Context, a *app, out *output) error {
	subject, err := c.read(a)
	if err != nil {
		return err
	}
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	receipts, err := s.Keyring.Release(ctx, subject, c.Reason)
	if err != nil && len(receipts) == 0 {
		return err
	}
	if printed := printReceipts(out, receipts, "released\n"); printed != nil {
		return printed
	}
	return err
}
