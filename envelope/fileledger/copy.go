package fileledger

import (
	"bytes"
	"fmt"
	"os"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/internal/ledgerline"
)

// ReadCopy reads all entries of a copy of a ledger file, which may be read-only: to
// verify a receipt with, away from the service. It takes no lock; a last line
// without an end is no entry. Neither MACs nor the chain are checked. A file that
// is no ledger, or a damaged line, is an error.
func ReadCopy(path string) ([]envelope.LedgerEntry, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("fileledger: %w", err)
	}
	rest, ok := bytes.CutPrefix(data, []byte(header))
	if !ok {
		return nil, fmt.Errorf("fileledger: %s is not a ledger of version 1", path)
	}
	var entries []envelope.LedgerEntry
	for {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			return entries, nil
		}
		e, err := ledgerline.Parse(rest[:end])
		if err != nil {
			return nil, fmt.Errorf("fileledger: %s: line %d is damaged: %w", path, len(entries)+2, err)
		}
		entries, rest = append(entries, e), rest[end:]
	}
}
