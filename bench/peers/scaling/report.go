package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"github.com/lethe-go/lethe/bench/peers/internal/chart"
	"github.com/lethe-go/lethe/bench/peers/internal/machine"
)

// Report is scaling.json.
type Report struct {
	Machine machine.Machine `json:"machine"`
	Curves  []Curve         `json:"curves"`
}

// Curve is one chart: cost against something, by series.
type Curve struct {
	Name   string    `json:"name"`
	Title  string    `json:"title"`
	X      string    `json:"x"`
	Y      string    `json:"y"`
	LogX   bool      `json:"log_x"`
	LogY   bool      `json:"log_y"`
	Series []*Series `json:"series"`

	Rounds  int     `json:"rounds"`
	Records int     `json:"records_per_point_and_round"`
	Load    float64 `json:"load_average"` // of the minute before
	Commit  string  `json:"commit,omitempty"`
}

// Series is one line of a chart.
type Series struct {
	Name   string  `json:"name"`
	Points []Point `json:"points"`
}

// Point is the cost of one record at X: medians over the rounds in nanoseconds,
// and the smallest and largest round of CPU.
type Point struct {
	X    float64 `json:"x"`
	CPU  float64 `json:"cpu_ns"`
	Wall float64 `json:"wall_ns"`
	Min  float64 `json:"cpu_ns_min"`
	Max  float64 `json:"cpu_ns_max"`
}

// sample is the cost of one record in one round.
type sample struct{ cpu, wall float64 }

func pointOf(x float64, samples []sample) Point {
	cpu, wall := make([]float64, len(samples)), make([]float64, len(samples))
	for i, s := range samples {
		cpu[i], wall[i] = s.cpu, s.wall
	}
	slices.Sort(cpu)
	slices.Sort(wall)
	return Point{X: x, CPU: cpu[len(cpu)/2], Wall: wall[len(wall)/2], Min: cpu[0], Max: cpu[len(cpu)-1]}
}

// resume reads the report in a folder, so that some curves can be measured anew;
// one of another CPU or Go is left aside.
func resume(dir string, m machine.Machine) (*Report, error) {
	fresh := &Report{Machine: m}
	text, err := os.ReadFile(filepath.Join(dir, "scaling.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return nil, err
	}
	var old Report
	if err := json.Unmarshal(text, &old); err != nil {
		return nil, err
	}
	if old.Machine.CPU == m.CPU && old.Machine.Cores == m.Cores && old.Machine.Go == m.Go {
		fresh.Curves = old.Curves
	}
	return fresh, nil
}

// add puts a curve in the place of one with its name, and writes the report to
// dir and the charts to results.
func (r *Report) add(c Curve, dir, results string) error {
	if i := slices.IndexFunc(r.Curves, func(old Curve) bool { return old.Name == c.Name }); i >= 0 {
		r.Curves[i] = c
	} else {
		r.Curves = append(r.Curves, c)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := write(filepath.Join(dir, "scaling.json"), append(text, '\n')); err != nil {
		return err
	}
	return r.redraw(dir, results)
}

// redraw makes the table and the charts of what the report has.
func (r *Report) redraw(dir, results string) error {
	if err := write(filepath.Join(dir, "scaling.md"), []byte(r.table())); err != nil {
		return err
	}
	for _, c := range r.Curves {
		if err := c.draw(filepath.Join(results, "scaling-"+c.Name+".svg")); err != nil {
			return err
		}
	}
	return nil
}

func write(path string, text []byte) error {
	return os.WriteFile(path, text, 0o644) //nolint:gosec // results are for everybody
}

func (r *Report) table() string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "# Scaling, %s\n\n%s, %d cores, %s/%s, %s.\n\n", m.StartedAt[:10], m.CPU, m.Cores, m.OS, m.Arch, m.Go)
	b.WriteString("Microseconds of processor time for one record (in brackets on the wall), medians over the rounds.\n")
	for _, c := range r.Curves {
		fmt.Fprintf(&b, "\n## %s\n\n%d rounds of about %d records a point, load average %.1f, commit %s.\n\n| %s |", c.Title, c.Rounds, c.Records, c.Load, c.Commit, c.X)
		for _, s := range c.Series {
			fmt.Fprintf(&b, " %s |", s.Name)
		}
		b.WriteString("\n|---|" + strings.Repeat("---|", len(c.Series)) + "\n")
		for i := range c.Series[0].Points {
			fmt.Fprintf(&b, "| %s |", number(c.Series[0].Points[i].X))
			for _, s := range c.Series {
				if i < len(s.Points) {
					fmt.Fprintf(&b, " %.2f (%.2f) |", s.Points[i].CPU/1000, s.Points[i].Wall/1000)
				}
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func (c Curve) draw(path string) error {
	p := chart.New(c.Title, c.X, c.Y)
	if c.LogX {
		p.X.Scale = plot.LogScale{}
	}
	var ticks plot.ConstantTicks
	for _, point := range c.Series[0].Points {
		ticks = append(ticks, plot.Tick{Value: point.X, Label: number(point.X)})
	}
	if n := len(ticks); n > 1 && !c.LogX && ticks[n-1].Value-ticks[n-2].Value < ticks[n-1].Value/50 {
		ticks[n-2].Label = " " // no room
	}
	p.X.Tick.Marker = ticks
	chart.AddGrid(p)
	top := 0.0
	for i, s := range c.Series {
		points := make(plotter.XYs, len(s.Points))
		for j, point := range s.Points {
			points[j] = plotter.XY{X: point.X, Y: point.CPU / 1000}
			top = max(top, points[j].Y)
		}
		if err := chart.AddLine(p, s.Name, i, points); err != nil {
			return err
		}
	}
	if c.LogY {
		p.Y.Scale = plot.LogScale{}
		p.Y.Tick.Marker = powers(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
		p.Y.Min, p.Y.Max = 1, top*math.Pow(1.6, float64(len(c.Series))) // room for the legend
	} else {
		p.Y.Min, p.Y.Max = 0, top*1.35
	}
	p.Legend.Left = true
	return chart.Save(p, 640, 380, path)
}

// number writes a count in the axis's short way: 100k, 1M.
func number(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e5:
		return fmt.Sprintf("%gk", v/1e3)
	default:
		return fmt.Sprintf("%g", v)
	}
}

func powers(values ...float64) plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for _, v := range values {
		ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%g", v)})
	}
	return ticks
}
