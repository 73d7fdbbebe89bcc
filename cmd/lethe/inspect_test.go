package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/lethe-go/lethe/envelope"
)

// Whatever is inspected, what is printed is text that moves no cursor.
func FuzzInspect(f *testing.F) {
	f.Add([]byte("AQEB"))
	f.Add([]byte(`{"a":{"$lethe":"AAEx"},"\u001b[2J":[{"$lethe":"AAEx"}]}`))
	f.Add([]byte(strings.Repeat("10", 40)))
	f.Fuzz(func(t *testing.T, data []byte) {
		known := map[uint16]string{envelope.ScopeTag("", ""): "default"}
		var res inspected
		if raw, ok := decode(data); ok {
			res = inspectBytes(raw, known, 0)
		} else if doc, err := inspectDocument(data, known); err == nil {
			res = doc
		} else {
			return
		}
		if text := res.text(""); strings.Map(harmless, text) != text {
			t.Fatalf("%q", text)
		}
		if _, err := json.Marshal(res); err != nil {
			t.Fatal(err)
		}
	})
}
