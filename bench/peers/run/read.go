package main

import (
	"bytes"
	"math"
	"os"
	"strings"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
)

// Median is one of the figures of a benchmark over all rounds: the median and the
// bounds of its 95 % confidence interval, as benchstat gives them. Six rounds are
// the fewest that bound it; Lo and Hi are 0 with fewer.
type Median struct {
	Median float64 `json:"median"`
	Lo     float64 `json:"lo,omitempty"`
	Hi     float64 `json:"hi,omitempty"`
	Rounds int     `json:"rounds"`
}

// figures are the samples of all benchmarks: by benchmark without its peer
// ("Seal", "FF1/digits=16"), by peer, by unit.
type figures map[string]map[string]map[string]Median

// read reads what the benchmarks printed.
func read(path string) (figures, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	samples := map[[3]string][]float64{}
	reader := benchfmt.NewReader(bytes.NewReader(text), path)
	for reader.Scan() {
		result, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		base, parts := result.Name.Parts()
		group, peer := string(base), ""
		for _, part := range parts {
			switch p := string(part); {
			case strings.HasPrefix(p, "/peer="):
				peer = strings.TrimPrefix(p, "/peer=")
			case strings.HasPrefix(p, "/"):
				group += p
			}
		}
		for _, v := range result.Values {
			unit, value := v.Unit, v.Value
			if v.OrigUnit != "" {
				unit, value = v.OrigUnit, v.OrigValue
			}
			key := [3]string{group, peer, unit}
			samples[key] = append(samples[key], value)
		}
	}
	if err := reader.Err(); err != nil {
		return nil, err
	}
	all := figures{}
	for key, values := range samples {
		group, peer, unit := key[0], key[1], key[2]
		if all[group] == nil {
			all[group] = map[string]map[string]Median{}
		}
		if all[group][peer] == nil {
			all[group][peer] = map[string]Median{}
		}
		s := benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), 0.95)
		m := Median{Median: s.Center, Rounds: len(values)}
		if !math.IsInf(s.Lo, 0) && !math.IsInf(s.Hi, 0) {
			m.Lo, m.Hi = s.Lo, s.Hi
		}
		all[group][peer][unit] = m
	}
	return all, nil
}
