package drill

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
)

// Needle is a secret-bearing value, such as a wrapped key, that is looked for.
type Needle struct {
	Group string // what it is counted under
	Bytes []byte // at least 32 bytes, as random as ciphertext is
}

// Scanner finds needles in files, in the forms that stores, logs and dumps give
// them: raw, hexadecimal in either case, base64 in either alphabet and at any
// alignment. A form is found if one half of it is: logs put page headers into the
// middle of what they hold.
type Scanner struct {
	needles []Needle
	first   [1 << 16]bool // the two bytes that a fragment may begin with
	by      map[uint64][]fragment
}

// fragment is half of one form of a needle.
type fragment struct {
	text   []byte
	needle int
}

// NewScanner returns a Scanner, which is safe for concurrent use.
func NewScanner(needles []Needle) *Scanner {
	s := &Scanner{needles: needles, by: map[uint64][]fragment{}}
	for i, n := range needles {
		for _, form := range forms(n.Bytes) {
			half := len(form) / 2
			s.add(fragment{form[:half], i})
			s.add(fragment{form[half:], i})
		}
	}
	return s
}

func (s *Scanner) add(f fragment) {
	s.first[binary.BigEndian.Uint16(f.text)] = true
	at := binary.BigEndian.Uint64(f.text)
	s.by[at] = append(s.by[at], f)
}

func forms(b []byte) [][]byte {
	lower := []byte(hex.EncodeToString(b))
	out := [][]byte{b, lower, bytes.ToUpper(lower)}
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			// What depends on the bytes before and after is left out.
			text := []byte(e.EncodeToString(append(make([]byte, shift, shift+len(b)), b...)))
			from, to := (shift*8+5)/6, (shift+len(b))*8/6
			out = append(out, text[from:to])
		}
	}
	return out
}

// Scan adds the needles that data holds to found, by their index.
func (s *Scanner) Scan(data []byte, found map[int]bool) {
	for i := 0; i+8 <= len(data); i++ {
		if !s.first[uint16(data[i])<<8|uint16(data[i+1])] {
			continue
		}
		for _, f := range s.by[binary.BigEndian.Uint64(data[i:])] {
			if bytes.HasPrefix(data[i:], f.text) {
				found[f.needle] = true
			}
		}
	}
}

// ScanFiles scans files, and all files in folders. What does not exist, or goes
// while it is scanned, holds nothing; files is how many were read.
func (s *Scanner) ScanFiles(paths ...string) (found map[int]bool, files int, err error) {
	found = map[int]bool{}
	for _, path := range paths {
		err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				var data []byte
				if data, err = os.ReadFile(path); err == nil { //nolint:gosec // nobody swaps files of a test
					s.Scan(data, found)
					files++
				}
			}
			if os.IsNotExist(err) {
				return nil
			}
			return err
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return found, files, nil
}

// Count says how many needles of each group were found.
func (s *Scanner) Count(found map[int]bool) map[string]int {
	out := map[string]int{}
	for i := range found {
		out[s.needles[i].Group]++
	}
	return out
}
