// Package chart draws the results as SVG files that are legible on a light and on
// a dark page: they bring their own background and follow the reader's preference.
package chart

import (
	"bytes"
	"fmt"
	"image/color"
	"os"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// shade is a colour on a light background and its counterpart on a dark one.
type shade struct{ light, dark string }

// None of the light ones is black, which the SVG would leave out.
var (
	background = shade{"#FFFFFE", "#0D1117"}
	text       = shade{"#1F2328", "#E6EDF3"}
	grid       = shade{"#D0D7DE", "#30363D"}
	series     = []shade{{"#0969DA", "#58A6FF"}, {"#BC4C00", "#F0883E"}, {"#1A7F37", "#3FB950"}, {"#8250DF", "#BC8CFF"}, {"#9A6700", "#D29922"}}
)

func (s shade) color() color.RGBA {
	var c color.RGBA
	_, _ = fmt.Sscanf(s.light, "#%02X%02X%02X", &c.R, &c.G, &c.B)
	c.A = 255
	return c
}

// New returns an empty plot in the colours and the font of all charts.
func New(title, x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = background.color()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.Padding = vg.Points(8)
	for _, style := range []*draw.TextStyle{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Color = text.color()
		style.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 11}
	}
	p.Title.TextStyle.Font.Size = 13
	for _, line := range []*draw.LineStyle{&p.X.LineStyle, &p.Y.LineStyle, &p.X.Tick.LineStyle, &p.Y.Tick.LineStyle} {
		line.Color = text.color()
	}
	p.Legend.Top = true
	p.Legend.Padding = vg.Points(2)
	return p
}

// AddGrid draws lines at the ticks, behind what is added later.
func AddGrid(p *plot.Plot) {
	g := plotter.NewGrid()
	g.Vertical.Color, g.Horizontal.Color = grid.color(), grid.color()
	p.Add(g)
}

// AddLine draws points joined by a line. n counts the series from 0: it has that
// colour and shape.
func AddLine(p *plot.Plot, name string, n int, points plotter.XYs) error {
	line, dots, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	line.Color, line.Width = series[n%len(series)].color(), vg.Points(1.6)
	setGlyph(dots, n)
	p.Add(line, dots)
	if name != "" {
		p.Legend.Add(name, line, dots)
	}
	return nil
}

// AddDots draws points.
func AddDots(p *plot.Plot, name string, n int, points plotter.XYs) error {
	dots, err := plotter.NewScatter(points)
	if err != nil {
		return err
	}
	setGlyph(dots, n)
	p.Add(dots)
	p.Legend.Add(name, dots)
	return nil
}

func setGlyph(dots *plotter.Scatter, n int) {
	shapes := []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.SquareGlyph{}}
	dots.GlyphStyle = draw.GlyphStyle{Color: series[n%len(series)].color(), Radius: vg.Points(4), Shape: shapes[n%len(shapes)]}
}

// AddLabels writes texts to the right of points.
func AddLabels(p *plot.Plot, labels plotter.XYLabels) error {
	l, err := plotter.NewLabels(labels)
	if err != nil {
		return err
	}
	for i := range l.TextStyle {
		l.TextStyle[i].Color = text.color()
		l.TextStyle[i].Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 10}
		l.TextStyle[i].YAlign = draw.YCenter
	}
	l.Offset = vg.Point{X: vg.Points(8), Y: vg.Points(2)}
	p.Add(l)
	return nil
}

// Save writes the plot to an SVG file, of a size in points.
func Save(p *plot.Plot, width, height float64, path string) error {
	canvas := vgsvg.New(vg.Length(width), vg.Length(height))
	whole := draw.New(canvas)
	whole.SetColor(background.color())
	whole.Fill(whole.Path())
	const margin = 10
	p.Draw(draw.Crop(whole, margin, -margin, margin, -margin))
	var buf bytes.Buffer
	if _, err := canvas.WriteTo(&buf); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(adapt(buf.String())), 0o644) //nolint:gosec // a chart is for everybody
}

// adapt gives every colour its counterpart for readers who prefer dark pages, and
// names fonts that readers have.
func adapt(svg string) string {
	var css strings.Builder
	css.WriteString("<style>@media (prefers-color-scheme: dark){")
	for _, s := range append([]shade{background, text, grid}, series...) {
		for _, property := range []string{"fill", "stroke"} {
			fmt.Fprintf(&css, "[style*=\"%s:%s\"]{%s:%s !important}", property, s.light, property, s.dark)
		}
	}
	css.WriteString("}</style>")
	start := strings.Index(svg, "<svg")
	if start < 0 {
		return svg
	}
	end := start + strings.Index(svg[start:], ">") + 1
	return svg[:end] + "\n" + css.String() + strings.ReplaceAll(svg[end:], "Liberation Sans", "Liberation Sans,Arial,Helvetica,sans-serif")
}
