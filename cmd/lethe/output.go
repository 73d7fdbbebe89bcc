package main

import (
	"encoding/json"
	"io"
	"time"
	"unicode"
)

// output is where results go.
type output struct {
	w    io.Writer
	json bool
}

// result writes v as JSON, or text.
func (o *output) result(v any, text string) error {
	if o.json {
		return writeJSON(o.w, v)
	}
	_, err := io.WriteString(o.w, text)
	return err
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// harmless replaces what could move the cursor of a terminal: an error may repeat
// what a file says.
func harmless(r rune) rune {
	if r == '\n' || unicode.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}

// seconds is a length of time in JSON.
func seconds(d time.Duration) float64 { return d.Seconds() }
