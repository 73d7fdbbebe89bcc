package ledgerline

import (
	"bytes"
	"testing"

	"github.com/lethe-go/lethe/envelope"
)

// What parses is written back in a form that parses to the same entry.
func FuzzLine(f *testing.F) {
	e := envelope.LedgerEntry{Seq: 1, Prev: make([]byte, 32), Kind: envelope.LedgerInit, MAC: make([]byte, 32), KMSHandle: "h", KIDs: []envelope.KeyID{{1}}}
	line, err := Append(nil, &e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"format":"lethe-ledger","version":1}` + "\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := Parse(line)
		if err != nil {
			return
		}
		out, err := Append(nil, &e)
		if err != nil {
			t.Skip("text that JSON cannot carry")
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatal(err)
		}
		out2, err := Append(nil, &again)
		if err != nil || !bytes.Equal(out, out2) {
			t.Fatal("not stable")
		}
	})
}
