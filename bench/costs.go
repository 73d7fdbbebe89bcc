package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/lethe-go/lethe/bench/internal/measure"
	"github.com/lethe-go/lethe/bench/internal/model"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/localkms"
	"github.com/lethe-go/lethe/kms/vaultkms"
)

// costs measures, or reads what an earlier run measured.
func costs(ctx context.Context, f *flags, stderr io.Writer) (*model.Costs, error) {
	if f.Measured != "" {
		if f.DB != "" || f.KMS != "" {
			return nil, errors.New("--measured reads figures, --db and --kms are for taking them: give one or the other")
		}
		return readCosts(f.Measured)
	}
	opts := measure.Options{Postgres: f.DB, Budget: f.Budget}
	if f.KMS != "" {
		key, err := openKMS(ctx, f.KMS)
		if err != nil {
			return nil, err
		}
		if c, ok := key.(io.Closer); ok {
			defer func() { _ = c.Close() }() // it was only measured
		}
		opts.KMS, opts.KMSName = key, scheme(f.KMS)
	}
	p := newProgress(stderr)
	defer p.end()
	opts.Progress = p.show
	return measure.Run(ctx, opts)
}

// openKMS opens the key to be measured.
func openKMS(ctx context.Context, uri string) (kms.Key, error) {
	var mux kms.Mux
	err := errors.Join(mux.Register(vaultkms.Scheme, vaultkms.Opener(vaultkms.OpenerOptions{})), mux.Register("local", localkms.Opener(localkms.Options{})))
	if err != nil {
		return nil, err
	}
	return mux.Open(ctx, uri)
}

// scheme is what of a KMS's address the report may show.
func scheme(uri string) string {
	if u, err := url.Parse(uri); err == nil && u.Scheme != "" {
		return u.Scheme
	}
	return "given"
}

func readCosts(path string) (*model.Costs, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r struct {
		Costs *model.Costs `json:"costs"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s is not a report.json: %w", path, err)
	}
	if r.Costs == nil || r.Costs.OpenWarm.P50 == 0 || r.Costs.Fields == 0 {
		return nil, fmt.Errorf("%s has no measured costs: give a report.json that this program wrote", path)
	}
	return r.Costs, nil
}
