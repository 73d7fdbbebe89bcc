package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/bench/peers/internal/machine"
)

// The report of rounds whose medians and ratios are known.
func TestReportOfKnownRounds(t *testing.T) {
	results := t.TempDir()
	dir := filepath.Join(results, "day-cpu")
	require.NoError(t, os.Mkdir(dir, 0o700))
	var text strings.Builder
	for round := range 7 {
		fmt.Fprintln(&text, "cpu: A CPU")
		for peer, ns := range map[string]int{"lethe": 4000, "floor": 2000} {
			ns += 10 * round // the median is 30 more
			fmt.Fprintf(&text, "BenchmarkSeal/peer=%s-2 100 %d ns/op %d cpu-ns/op 255.0 B-added/record 1000 KMS-calls/1000 64 B/op 3 allocs/op\n", peer, 3*ns, ns)
			fmt.Fprintf(&text, "BenchmarkOpen/peer=%s-2 100 %d ns/op %d cpu-ns/op 0 KMS-calls/1000 64 B/op 3 allocs/op\n", peer, ns, ns/2)
		}
		fmt.Fprintln(&text, "BenchmarkFF1/digits=16/peer=capitalone-2 100 2000 ns/op 1999 cpu-ns/op 64 B/op 43 allocs/op")
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "peers.txt"), []byte(text.String()), 0o600))
	require.NoError(t, report(dir, results, Setup{Machine: machine.Machine{StartedAt: "2026-01-02T03:04:05Z", Loads: []float64{1, 2}}, Rounds: 7}))

	var r Report
	got, err := os.ReadFile(filepath.Join(dir, "peers.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(got, &r))
	require.Len(t, r.Peers, 2)
	require.Equal(t, Median{Median: 4030, Lo: 4000, Hi: 4060, Rounds: 7}, r.Peers[0].Seal["cpu-ns/op"])
	require.InDelta(t, 0.50, r.Peers[1].SealRatio, 0.01)
	require.Len(t, r.FF1, 1)
	require.InDelta(t, 1999, r.FF1[0].Encrypt["16"]["cpu-ns/op"].Median, 0)

	table, err := os.ReadFile(filepath.Join(dir, "peers.md"))
	require.NoError(t, err)
	require.Contains(t, string(table), "| `lethe` | 4.0 ±1 % | 1.00 | 3 |")
	chart, err := os.ReadFile(filepath.Join(results, "peers.svg"))
	require.NoError(t, err)
	require.Contains(t, string(chart), "prefers-color-scheme: dark")
	require.NoError(t, redoReport(dir, results))
}
