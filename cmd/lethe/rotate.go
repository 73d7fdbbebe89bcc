package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/integrations/config"
)

type rotateCommands struct {
	Kek     rotateKEK     `cmd:"" name:"kek" help:"Wrap the key store under a new version of its KMS key, or under another KMS key."`
	Subject rotateSubject `cmd:"" help:"Make new versions of a subject's keys; lethe rewrap moves its rows to them."`
	Index   rotateIndex   `cmd:"" help:"Make a new version of the key of a blind index; lethe reindex computes it anew."`
}

type rotateKEK struct {
	To     string `placeholder:"URI" help:"KMS key to move to. Without, the one of the configuration, in its newest version."`
	Create bool   `help:"Make the key file of --to local://FILE first."`
}

// rotateKEKResult is the answer of rotate kek.
type rotateKEKResult struct {
	KMS   string `json:"kms"`
	Epoch uint64 `json:"epoch"`
	Moved bool   `json:"moved"` // to another key: the configuration must follow
}

// Run rotates.
func (c *rotateKEK) Run(ctx context.Context, a *app, out *output) error {
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	if c.Create && c.To == "" {
		return errors.New("--create needs --to")
	}
	what := "key " + a.cfg.KMS.String()
	if c.To != "" {
		what = "key that --to names"
	}
	if err := a.confirm("This closes the epoch and wraps the key store's root under the KMS %s; processes that do not know that key stop", what); err != nil {
		return err
	}
	key, res := s.Key, rotateKEKResult{KMS: a.cfg.KMS.String()}
	if c.To != "" {
		to, err := c.target(ctx, a, s)
		if err != nil {
			return err
		}
		key, res.KMS, res.Moved = to.Key, to.Address.String(), true
	}
	before, err := s.Keyring.Status(ctx)
	if err != nil {
		return err
	}
	failed := s.Keyring.RewrapKEK(ctx, key)
	st, err := s.Keyring.Status(ctx)
	switch {
	case failed != nil && (err != nil || st.Epoch == before.Epoch):
		return failed
	case err != nil:
		return partlyError{fmt.Errorf("the root is wrapped under %s now, and the configuration must have it; how it stands is not known: %w", res.KMS, err)}
	}
	res.Epoch = st.Epoch
	text := fmt.Sprintf("the root of epoch %d is wrapped under %s\n", res.Epoch, res.KMS)
	if res.Moved {
		text += fmt.Sprintf("now set kms: %s in the configuration, and put the old one under more_kms until lethe status has no handle of it\n", res.KMS)
	}
	return errors.Join(out.result(res, text), notDestroyed(failed))
}

// target opens the key to move to.
func (c *rotateKEK) target(ctx context.Context, a *app, s *config.Stack) (config.NamedKey, error) {
	mux, err := a.mux()
	if err != nil {
		return config.NamedKey{}, err
	}
	if c.Create {
		made, err := newLocalKey(a.cfg, c.To)
		if err != nil {
			return config.NamedKey{}, err
		}
		if !made && !strings.HasPrefix(c.To, "local://") {
			return config.NamedKey{}, errors.New("--create makes the file of a local:// URI, and --to is none")
		}
		if !made {
			return config.NamedKey{}, errors.New("--create makes a new file, and the one that --to names is there: leave --create out to use it")
		}
	}
	return s.OpenKey(ctx, mux, c.To)
}

type rotateSubject struct{ subjectFlags }

// rotatedResult is the answer of rotate subject.
type rotatedResult struct {
	Versions int `json:"versions"` // new ones that were made, one for each purpose
}

// Run rotates.
func (c *rotateSubject) Run(ctx context.Context, a *app, out *output) error {
	subject, err := c.read(a)
	if err != nil {
		return err
	}
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	n, err := s.Keyring.Rotate(ctx, subject)
	if errors.Is(err, envelope.ErrKeyMissing) {
		return verdictError{errors.New("there is no key: nothing was sealed for this subject, or its id is another")}
	}
	if err != nil {
		return err
	}
	return out.result(rotatedResult{n}, fmt.Sprintf("%d new key versions; lethe rewrap moves the rows sealed before\n", n))
}

type rotateIndex struct {
	Table  string `arg:"" predictor:"table" help:"Table, by its name in the configuration."`
	Index  string `arg:"" help:"Name of the blind index, the first word of its tag."`
	Tenant string `placeholder:"TENANT" help:"Tenant, where there are any."`
}

// Run rotates.
func (c *rotateIndex) Run(ctx context.Context, a *app, out *output) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	t, err := cfg.Table(c.Table)
	if err != nil {
		return err
	}
	d, err := describe(t)
	if err != nil {
		return err
	}
	if err := d.hasIndex(c.Index); err != nil {
		return err
	}
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	err = s.Keyring.RotateIndexKey(ctx, c.Tenant, d.Record, c.Index)
	if errors.Is(err, envelope.ErrKeyMissing) {
		return verdictError{errors.New("there is no index key: nothing was indexed yet")}
	}
	if err != nil {
		return err
	}
	return out.result(done{true}, fmt.Sprintf("a new key version of %s; searches look for all versions until lethe reindex %s has computed it anew\n", c.Index, c.Table))
}
