package report

import (
	_ "embed"
	"html/template"
	"io"

	"github.com/lethe-go/lethe/bench/internal/presets"
)

//go:embed report.tmpl.html
var page string

// figure is a figure of a preset, for the page.
type figure struct {
	Name string
	*presets.Figure
}

// HTML writes the report as one file that needs nothing else: no script, no network.
func (r *Report) HTML(w io.Writer) error {
	charts, err := r.charts()
	if err != nil {
		return err
	}
	t, err := template.New("report").Parse(page)
	if err != nil {
		return err
	}
	p := r.Preset
	var figures []figure
	for _, f := range []figure{{"calls a second", p.Quota}, {"USD for 10,000 calls", p.Price}, {"free calls a month", p.Free}, {"USD a month for a key", p.KeyPrice}, {"seconds until a key is destroyed", p.Destroy}} {
		if f.Figure != nil {
			figures = append(figures, f)
		}
	}
	return t.Execute(w, map[string]any{
		"R": r, "Words": r.Words(), "Tables": r.tables(), "Charts": charts, "Figures": figures,
		"Date": r.Costs.Taken.Format("2006-01-02"),
	})
}

// Figures formats a figure's value.
func (f figure) Number() string { return digits(f.Value) }
