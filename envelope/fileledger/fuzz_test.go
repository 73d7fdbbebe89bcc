package fileledger

import (
	"bytes"
	"testing"

	"github.com/lethe-go/lethe/envelope"
)

// What parses is written back in a form that parses to the same entry.
func FuzzLine(f *testing.F) {
	e := envelope.LedgerEntry{Seq: 1, Prev: make([]byte, 32), Kind: envelope.LedgerInit, MAC: make([]byte, 32), KMSHandle: "h", KIDs: []envelope.KeyID{{1}}}
	line, err := appendLine(nil, &e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte("{}\n"))
	f.Add([]byte(header))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parseLine(line)
		if err != nil {
			return
		}
		out, err := appendLine(nil, &e)
		if err != nil {
			t.Skip("text that JSON cannot carry")
		}
		again, err := parseLine(out)
		if err != nil {
			t.Fatal(err)
		}
		out2, err := appendLine(nil, &again)
		if err != nil || !bytes.Equal(out, out2) {
			t.Fatal("not stable")
		}
	})
}
