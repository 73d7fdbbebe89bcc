package chart_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/plot/plotter"

	"github.com/lethe-go/lethe/bench/peers/internal/chart"
)

// Every colour of a chart has another one for dark pages, and none is the SVG's
// default, which a style could not change.
func TestEveryColourHasADarkOne(t *testing.T) {
	p := chart.New("title", "x", "y")
	chart.AddGrid(p)
	for n := range 5 {
		require.NoError(t, chart.AddLine(p, "series", n, plotter.XYs{{X: 1, Y: 1}, {X: 2, Y: 3}}))
	}
	require.NoError(t, chart.AddLabels(p, plotter.XYLabels{XYs: plotter.XYs{{X: 1, Y: 1}}, Labels: []string{"label"}}))
	path := filepath.Join(t.TempDir(), "c.svg")
	require.NoError(t, chart.Save(p, 300, 200, path))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	style, drawing, found := strings.Cut(string(text), "</style>")
	require.True(t, found)
	colours := regexp.MustCompile(`(?:fill|stroke):#[0-9A-F]{6}`).FindAllString(drawing, -1)
	require.NotEmpty(t, colours)
	for _, c := range colours {
		require.Contains(t, style, c)
	}
	for _, element := range regexp.MustCompile(`<text[^>]*>`).FindAllString(drawing, -1) {
		require.Contains(t, element, "fill:#")
	}
}
