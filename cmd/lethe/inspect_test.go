package main

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

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

// Deep in long names a document is still read within its own size, more or less.
func TestInspectDeepDocument(t *testing.T) {
	name := strings.Repeat("k", 2000)
	doc := strings.Repeat(`{"`+name+`":`, 1000) + `[` + strings.Repeat(`{"$lethe":"AAEx"},`, 1000) + `{}]` + strings.Repeat(`}`, 1000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	res, err := inspectDocument([]byte(doc), nil)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Len(t, res.Members, 1000)
	require.Less(t, len(res.Members[0].Path), 300)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(50<<20))
}

// A member's name is one line, whatever is in it.
func TestInspectNamesAreOneLine(t *testing.T) {
	res, err := inspectDocument([]byte(`{"a\nheader, 110 bytes":{"$lethe":"AAEx"}}`), nil)
	require.NoError(t, err)
	require.NotContains(t, res.text(""), "\nheader")
}
