package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rivo/uniseg"
)

const screenWidth = 100

// screen prints the run. Nothing reaches it but what a step hands it on purpose.
type screen struct {
	out  io.Writer
	step int
	err  error // the first failure to write
}

func (s *screen) printf(format string, args ...any) {
	if s.err == nil {
		_, s.err = fmt.Fprintf(s.out, format, args...)
	}
}

// title opens a numbered step. took is how long it took, 0 for not shown.
func (s *screen) title(name, text string, took time.Duration) {
	s.step++
	line := fmt.Sprintf("%d  %s %s", s.step, pad(name, 16), text)
	if took > 0 {
		line = pad(line, screenWidth-10) + fmt.Sprintf("%9s", duration(took))
	}
	s.printf("%s\n", line)
}

// row prints cells in columns of the given widths; the last takes what is left.
func (s *screen) row(widths []int, cells ...string) {
	var line strings.Builder
	line.WriteString("     ")
	for i, cell := range cells {
		if i < len(widths) {
			line.WriteString(pad(clip(cell, widths[i]), widths[i]+2))
		} else {
			line.WriteString(clip(cell, screenWidth-uniseg.StringWidth(line.String())))
		}
	}
	s.printf("%s\n", strings.TrimRight(line.String(), " "))
}

// clip makes text safe for a terminal and cuts it to width columns.
func clip(text string, width int) string {
	text = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c) {
			return ' '
		}
		return c
	}, text)
	if uniseg.StringWidth(text) <= width {
		return text
	}
	var b strings.Builder
	used := 1 // for the ellipsis
	for g := uniseg.NewGraphemes(text); g.Next() && used+g.Width() <= width; {
		b.WriteString(g.Str())
		used += g.Width()
	}
	return b.String() + "…"
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-uniseg.StringWidth(text)))
}

// count writes 10000 as 10,000.
func count[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func duration(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// bytesOf shows stored bytes, which are cut to the column by row.
func bytesOf(b []byte) string { return hex.EncodeToString(b) }
