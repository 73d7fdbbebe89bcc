package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lethe-go/lethe/bench/peers"
	"github.com/lethe-go/lethe/bench/peers/internal/machine"
)

// Setup says how the benchmarks were run.
type Setup struct {
	Machine   machine.Machine `json:"machine"`
	Rounds    int             `json:"rounds"`
	Benchtime string          `json:"benchtime"`
}

// Report is peers.json.
type Report struct {
	Setup

	// About says what the figures are.
	About string `json:"about"`
	// Modules are the versions of the modules measured.
	Modules map[string]string `json:"modules"`
	Peers   []PeerReport      `json:"peers"`
	FF1     []FF1Report       `json:"ff1"`
}

// PeerReport is a peer and its figures, by unit; all are for one record.
type PeerReport struct {
	Peer        string            `json:"peer"`
	Module      string            `json:"module,omitempty"`
	Version     string            `json:"version,omitempty"`
	Use         string            `json:"use"`
	SubjectKeys bool              `json:"key_per_subject"`
	Bound       bool              `json:"bound_to_subject"`
	Seal        map[string]Median `json:"seal"`
	Open        map[string]Median `json:"open"`
	SealRatio   float64           `json:"seal_ratio"` // of Lethe's time, one row a call
	OpenRatio   float64           `json:"open_ratio"`
}

// FF1Report is an implementation of FF1 and its figures by number of digits and
// unit; all are for one value.
type FF1Report struct {
	Peer    string                       `json:"peer"`
	Module  string                       `json:"module,omitempty"`
	Version string                       `json:"version,omitempty"`
	Use     string                       `json:"use"`
	Encrypt map[string]map[string]Median `json:"encrypt"`
}

const about = "A record of 265 bytes in 5 string fields, 10,000 subjects in random order, keys warm, the KMS in memory. " +
	"From five plain strings to the bytes that are stored, and back. cpu-ns/op is the time the process had a processor for one record, " +
	"the garbage collector's share included; ns/op is the time on the wall. Medians over the rounds, with 95 % confidence intervals."

const clock, wall = "cpu-ns/op", "ns/op"

func report(dir, results string, setup Setup) error {
	all, err := read(filepath.Join(dir, "peers.txt"))
	if err != nil {
		return err
	}
	r := Report{Setup: setup, About: about, Modules: map[string]string{}}
	versions := machine.Versions()
	version := func(module string) string {
		v := versions[module]
		if module != "" {
			r.Modules[module] = v
		}
		return v
	}
	ratio := func(group, peer string) float64 {
		return round2(all[group][peer][clock].Median / all[group]["lethe"][clock].Median)
	}
	for _, p := range peers.All() {
		if all["Seal"][p.Name] == nil && all["Open"][p.Name] == nil {
			continue
		}
		r.Peers = append(r.Peers, PeerReport{
			Peer: p.Name, Module: p.Module, Version: version(p.Module), Use: p.Use, SubjectKeys: p.SubjectKeys, Bound: p.Bound,
			Seal: all["Seal"][p.Name], Open: all["Open"][p.Name], SealRatio: ratio("Seal", p.Name), OpenRatio: ratio("Open", p.Name),
		})
	}
	for _, p := range peers.AllFF1() {
		f := FF1Report{Peer: p.Name, Module: p.Module, Version: version(p.Module), Use: p.Use, Encrypt: map[string]map[string]Median{}}
		for group, byPeer := range all {
			if digits, ok := strings.CutPrefix(group, "FF1/digits="); ok && byPeer[p.Name] != nil {
				f.Encrypt[digits] = byPeer[p.Name]
			}
		}
		if len(f.Encrypt) > 0 {
			r.FF1 = append(r.FF1, f)
		}
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := write(filepath.Join(dir, "peers.json"), append(text, '\n')); err != nil {
		return err
	}
	table := r.table()
	fmt.Print(table) //nolint:forbidigo // the program's result
	if err := write(filepath.Join(dir, "peers.md"), []byte(table)); err != nil {
		return err
	}
	if len(r.Peers) == 0 {
		return nil
	}
	return draw(r, filepath.Join(results, "peers.svg"))
}

// redoReport makes everything but peers.txt anew, with the setup that was kept.
func redoReport(dir, results string) error {
	text, err := os.ReadFile(filepath.Join(dir, "peers.json"))
	if err != nil {
		return err
	}
	var old Report
	if err := json.Unmarshal(text, &old); err != nil {
		return err
	}
	return report(dir, results, old.Setup)
}

func write(path string, text []byte) error {
	return os.WriteFile(path, text, 0o644) //nolint:gosec // results are for everybody
}

func round2(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return math.Round(v*100) / 100
}

// table is the report as Markdown.
func (r Report) table() string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "# Peers, %s\n\n%s, %d cores, %s/%s, %s; commit %s; %d rounds of %s", m.StartedAt[:10], m.CPU, m.Cores, m.OS, m.Arch, m.Go, m.Commit, r.Rounds, r.Benchtime)
	if len(m.Loads) > 0 {
		fmt.Fprintf(&b, "; load average %.1f to %.1f", slices.Min(m.Loads), slices.Max(m.Loads))
	}
	b.WriteString(".\n\n" + about + "\n\nRatios are to `lethe`, of the processor's time.\n\n")
	if len(r.Peers) > 0 {
		b.WriteString("| peer | seal µs | ratio | allocs | open µs | ratio | allocs | wall seal, open µs | bytes added | KMS calls per 1,000 sealed, opened | key per subject | bound to subject |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	}
	for _, p := range r.Peers {
		fmt.Fprintf(&b, "| `%s` | %s | %.2f | %.0f | %s | %.2f | %.0f | %s, %s | %.0f | %.0f, %.0f | %s | %s |\n",
			p.Peer, micros(p.Seal[clock]), p.SealRatio, p.Seal["allocs/op"].Median, micros(p.Open[clock]), p.OpenRatio, p.Open["allocs/op"].Median,
			micros(Median{Median: p.Seal[wall].Median}), micros(Median{Median: p.Open[wall].Median}), p.Seal["B-added/record"].Median,
			p.Seal["KMS-calls/1000"].Median, p.Open["KMS-calls/1000"].Median, yes(p.SubjectKeys), yes(p.Bound))
	}
	if len(r.FF1) > 0 {
		b.WriteString("\n## FF1, AES-256, a new tweak of 8 bytes for each value: ns of processor time, allocations\n\n| peer | 9 digits | 16 digits | 100 digits |\n|---|---|---|---|\n")
	}
	for _, p := range r.FF1 {
		fmt.Fprintf(&b, "| `%s` |", p.Peer)
		for _, digits := range []string{"9", "16", "100"} {
			fmt.Fprintf(&b, " %.0f, %.0f |", p.Encrypt[digits][clock].Median, p.Encrypt[digits]["allocs/op"].Median)
		}
		b.WriteByte('\n')
	}
	b.WriteString("\n## What is what\n\n")
	for _, p := range r.Peers {
		fmt.Fprintf(&b, "- `%s`: %s%s.\n", p.Peer, p.Use, named(p.Module, p.Version))
	}
	for _, p := range r.FF1 {
		fmt.Fprintf(&b, "- FF1 `%s`: %s%s.\n", p.Peer, p.Use, named(p.Module, p.Version))
	}
	return b.String()
}

func micros(m Median) string {
	digits := 1
	if m.Median >= 100_000 {
		digits = 0
	}
	text := fmt.Sprintf("%.*f", digits, m.Median/1000)
	if m.Hi > 0 {
		text += fmt.Sprintf(" ±%.0f %%", math.Max(m.Hi-m.Median, m.Median-m.Lo)/m.Median*100)
	}
	return text
}

func yes(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}

func named(module, version string) string {
	if module == "" {
		return ""
	}
	return " (" + module + ", " + version + ")"
}
