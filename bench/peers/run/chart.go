package main

import (
	"fmt"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"github.com/lethe-go/lethe/bench/peers/internal/chart"
)

// draw makes the chart of all peers, the quickest to seal at the top.
func draw(r Report, path string) error {
	all := slices.Clone(r.Peers)
	slices.SortFunc(all, func(a, b PeerReport) int {
		if a.Seal[clock].Median > b.Seal[clock].Median {
			return -1
		}
		return 1
	})
	p := chart.New(fmt.Sprintf("One record of 265 bytes in 5 fields: µs of processor time (%s, %s)", r.Machine.CPU, r.Machine.Go), "µs, logarithmic", "")
	var names []string
	var seal, open plotter.XYs
	var labels plotter.XYLabels
	for i, peer := range all {
		names = append(names, peer.Peer)
		s, o := peer.Seal[clock].Median/1000, peer.Open[clock].Median/1000
		seal, open = append(seal, plotter.XY{X: s, Y: float64(i)}), append(open, plotter.XY{X: o, Y: float64(i)})
		labels.XYs = append(labels.XYs, plotter.XY{X: max(s, o), Y: float64(i)})
		label := fmt.Sprintf("+%.0f bytes", peer.Seal["B-added/record"].Median)
		if calls := peer.Seal["KMS-calls/1000"].Median / 1000; calls > 0 {
			label += fmt.Sprintf(", %.0f KMS calls", calls)
			if calls == 1 {
				label = label[:len(label)-1]
			}
		}
		if peer.SubjectKeys {
			label += ", a key per subject"
		}
		labels.Labels = append(labels.Labels, label)
	}
	p.X.Scale = plot.LogScale{}
	p.X.Tick.Marker = decades(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
	chart.AddGrid(p)
	p.NominalY(names...)
	if err := chart.AddDots(p, "seal", 0, seal); err != nil {
		return err
	}
	if err := chart.AddDots(p, "open", 1, open); err != nil {
		return err
	}
	if err := chart.AddLabels(p, labels); err != nil {
		return err
	}
	p.X.Min, p.X.Max = 1, 2000
	p.Y.Min, p.Y.Max = -0.6, float64(len(all))-0.4
	return chart.Save(p, 760, 430, path)
}

func decades(values ...float64) plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for _, v := range values {
		ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%g", v)})
	}
	return ticks
}
