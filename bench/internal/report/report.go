// Package report writes what the planner found: tables for a terminal, one HTML
// file for a browser, JSON for programs.
package report

import (
	"encoding/json"
	"io"

	"github.com/lethe-go/lethe/bench/internal/model"
	"github.com/lethe-go/lethe/bench/internal/presets"
)

// Report is everything that was put in and came out.
type Report struct {
	Service *model.Service `json:"service"`
	Costs   *model.Costs   `json:"costs"`
	Preset  presets.Preset `json:"preset"`
	Given   []string       `json:"given"` // flags of the KMS that the user gave in the place of the preset's
	Advice  model.Advice   `json:"advice"`
}

// New plans for a service.
func New(s *model.Service, c *model.Costs, preset presets.Preset, given []string) *Report {
	return &Report{Service: s, Costs: c, Preset: preset, Given: given, Advice: model.Advise(s, c)}
}

// best is the candidate that the advice takes.
func (r *Report) best() *model.Candidate { return &r.Advice.Candidates[r.Advice.Best] }

// candidate of a granularity.
func (r *Report) candidate(g model.Granularity) *model.Candidate {
	for i := range r.Advice.Candidates {
		if r.Advice.Candidates[i].Plan.Granularity == g {
			return &r.Advice.Candidates[i]
		}
	}
	return nil
}

// JSON writes the report for programs. Times are nanoseconds, sizes bytes, rates a
// second. It holds no address, no key name and no credential.
func (r *Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}
