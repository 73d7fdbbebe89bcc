package report

import (
	"fmt"
	"html/template"
	"image/color"
	"math"
	"regexp"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The colours that charts are drawn in stand for variables of the page's style
// sheet, which has a dark and a light set.
var (
	ink    = color.NRGBA{1, 1, 1, 255}
	grid   = color.NRGBA{1, 2, 1, 255}
	mark   = color.NRGBA{1, 3, 1, 255}
	series = []color.Color{color.NRGBA{1, 4, 1, 255}, color.NRGBA{1, 5, 1, 255}, color.NRGBA{1, 6, 1, 255}, color.NRGBA{1, 7, 1, 255}}

	variables = strings.NewReplacer(
		"#010101", "var(--ink)", "#010201", "var(--grid)", "#010301", "var(--mark)",
		"#010401", "var(--s0)", "#010501", "var(--s1)", "#010601", "var(--s2)", "#010701", "var(--s3)",
	)
	svgHead = regexp.MustCompile(`(?s)^.*?<svg width="[^"]*" height="[^"]*"`)
)

// chartWidth suits a phone; the page puts several side by side where there is room.
const chartWidth = 360

// chart is a picture with what a reader of the page needs to know.
type chart struct {
	Title  string
	Note   string
	Legend []string // names of series, in the order of their colours
	Mark   string   // what the marked line is; "" is none
	SVG    template.HTML
}

// bar is one value; Text is written after it.
type bar struct {
	value float64
	text  string
}

// barRow has the bars of one granularity, one per series.
type barRow struct {
	name string
	bars []bar
}

// barChart draws horizontal bars on a logarithmic scale. A value of 0 or below has
// its text only. mark draws a line at a value; 0 is none.
func barChart(title, label string, rows []barRow, ticks plot.Ticker, markAt float64) (template.HTML, error) {
	low, high := math.Inf(1), 0.0
	take := func(v float64) {
		if v > 0 && !math.IsInf(v, 0) {
			low, high = math.Min(low, v), math.Max(high, v)
		}
	}
	lines := 0
	for _, r := range rows {
		lines += len(r.bars)
		for _, b := range r.bars {
			take(b.value)
		}
	}
	take(markAt)
	if high == 0 {
		low, high = 1, 10
	}
	low = math.Pow(10, math.Floor(math.Log10(low)-0.3))
	// Room on the right for the text of the longest bar.
	high *= math.Pow(high/low, 0.55)

	p := newPlot(label)
	p.X.Scale, p.X.Min, p.X.Max = plot.LogScale{}, low, high
	p.X.Tick.Marker = ticks
	bars := &barPlotter{rows: rows, low: low, mark: markAt}
	p.Y.Min, p.Y.Max = 0, bars.height()
	names := make([]plot.Tick, 0, len(rows))
	for i, r := range rows {
		names = append(names, plot.Tick{Value: bars.middle(i), Label: r.name})
	}
	p.Y.Tick.Marker = plot.ConstantTicks(names)
	p.Y.Tick.Length, p.Y.Width = 0, 0
	p.Add(bars)
	return svg(p, title, float64(lines)*17+float64(len(rows))*10+56)
}

// barPlotter draws barRows from the top down, in units of a bar's height.
type barPlotter struct {
	rows []barRow
	low  float64
	mark float64
}

const rowGap = 0.6

func (b *barPlotter) height() (h float64) {
	for _, r := range b.rows {
		h += float64(len(r.bars)) + rowGap
	}
	return h
}

// top of a row.
func (b *barPlotter) top(row int) float64 {
	h := b.height() - rowGap/2
	for _, r := range b.rows[:row] {
		h -= float64(len(r.bars)) + rowGap
	}
	return h
}

func (b *barPlotter) middle(row int) float64 {
	return b.top(row) - float64(len(b.rows[row].bars))/2
}

// Plot implements plot.Plotter.
func (b *barPlotter) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	if b.mark > 0 {
		at := x(b.mark)
		c.StrokeLine2(draw.LineStyle{Color: mark, Width: 1.2, Dashes: []vg.Length{3, 2}}, at, c.Min.Y, at, c.Max.Y)
	}
	style := textStyle(10.5)
	style.YAlign = draw.YCenter
	for i, r := range b.rows {
		for j, v := range r.bars {
			up, down := y(b.top(i)-float64(j)-0.08), y(b.top(i)-float64(j)-0.92)
			end := x(b.low)
			if v.value > 0 && !math.IsInf(v.value, 0) {
				end = x(v.value)
				c.FillPolygon(series[j%len(series)], []vg.Point{{X: x(b.low), Y: down}, {X: end, Y: down}, {X: end, Y: up}, {X: x(b.low), Y: up}})
			}
			// The text stands beside the mark, not on it.
			if b.mark > 0 {
				if at := x(b.mark); end < at+3 && end+3+style.Width(v.text) > at {
					end = max(end, at)
				}
			}
			c.FillText(style, vg.Point{X: end + 3, Y: (up + down) / 2}, v.text)
		}
	}
}

// curve is a line of a lineChart.
type curve struct {
	name   string
	points plotter.XYs
}

// lineChart draws curves over a logarithmic x axis. markAt is as for barChart.
func lineChart(title, xLabel, yLabel string, curves []curve, ticks plot.Ticker, tickY func(float64) string, yMin, yMax, markAt float64) (template.HTML, error) {
	p := newPlot(xLabel)
	p.Y.Label.Text, p.Y.Label.TextStyle = yLabel, textStyle(11)
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, ticks
	p.Y.Tick.Marker = labelled{plot.DefaultTicks{}, tickY}
	for i, c := range curves {
		line, err := plotter.NewLine(c.points)
		if err != nil {
			return "", err
		}
		line.Color, line.Width = series[i%len(series)], 2
		p.Add(line)
	}
	p.Y.Min, p.Y.Max = yMin, yMax
	if markAt > 0 {
		p.Add(&verticalMark{markAt})
	}
	return svg(p, title, 236)
}

type verticalMark struct{ at float64 }

// Plot implements plot.Plotter.
func (m *verticalMark) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	c.StrokeLine2(draw.LineStyle{Color: mark, Width: 1.2, Dashes: []vg.Length{3, 2}}, x(m.at), c.Min.Y, x(m.at), c.Max.Y)
}

func textStyle(size float64) draw.TextStyle {
	return draw.TextStyle{Color: ink, Font: font.From(plot.DefaultFont, vg.Length(size)), Handler: plot.DefaultTextHandler}
}

func newPlot(xLabel string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	p.X.Label.Text, p.X.Label.TextStyle, p.X.Label.Padding = xLabel, textStyle(11), 4
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Color, a.Tick.Color = grid, grid
		align := a.Tick.Label
		a.Tick.Label = textStyle(11)
		a.Tick.Label.XAlign, a.Tick.Label.YAlign = align.XAlign, align.YAlign
	}
	g := plotter.NewGrid()
	g.Horizontal.Color, g.Vertical.Color = nil, grid
	g.Vertical.Width = 0.5
	p.Add(g)
	return p
}

// decades marks powers of ten, some five of them, and where there are few also 2 and 5 times these.
type decades func(float64) string

// Ticks implements plot.Ticker.
func (d decades) Ticks(low, high float64) (ticks []plot.Tick) {
	from, to := math.Ceil(math.Log10(low)-1e-9), math.Floor(math.Log10(high)+1e-9)
	every := math.Max(1, math.Ceil((to-from)/4))
	for e := from; e <= to; e += every {
		ticks = append(ticks, plot.Tick{Value: math.Pow(10, e), Label: d(math.Pow(10, e))})
	}
	if len(ticks) < 3 {
		for e := from - 1; e <= to; e++ {
			for _, m := range []float64{2, 5} {
				if v := m * math.Pow(10, e); v >= low && v <= high {
					ticks = append(ticks, plot.Tick{Value: v, Label: d(v)})
				}
			}
		}
	}
	return ticks
}

// spans marks times that have a name, some five of them, on an axis in seconds.
type spans struct{}

var named = []float64{1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 60, 600, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400, 365 * 86400, 3650 * 86400}

// Ticks implements plot.Ticker.
func (spans) Ticks(low, high float64) (ticks []plot.Tick) {
	for _, v := range named {
		if v >= low*(1-1e-9) && v <= high*(1+1e-9) {
			ticks = append(ticks, plot.Tick{Value: v, Label: spanTick(v)})
		}
	}
	every := (len(ticks) + 4) / 5
	for i := range ticks {
		if every > 0 && i%every != 0 {
			ticks[i].Label = ""
		}
	}
	return ticks
}

// labelled writes other text at the ticks of another Ticker.
type labelled struct {
	plot.Ticker
	text func(float64) string
}

// Ticks implements plot.Ticker.
func (l labelled) Ticks(low, high float64) []plot.Tick {
	ticks := l.Ticker.Ticks(low, high)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = l.text(ticks[i].Value)
		}
	}
	return ticks
}

// svg draws p as an element of a page, as wide as the page lets it be.
func svg(p *plot.Plot, title string, height float64) (template.HTML, error) {
	canvas := vgsvg.New(chartWidth, vg.Length(height))
	p.Draw(draw.Crop(draw.New(canvas), 0, -14, 0, 0)) // room for half of the last tick's text
	var out strings.Builder
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", fmt.Errorf("drawing %q: %w", title, err)
	}
	head := fmt.Sprintf(`<svg role="img" aria-label="%s"`, template.HTMLEscapeString(title))
	return template.HTML(variables.Replace(svgHead.ReplaceAllLiteralString(out.String(), head))), nil //nolint:gosec // our own drawing; its texts are escaped by the library
}
