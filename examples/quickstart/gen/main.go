// Command gen writes the sample customers of the quickstart: made-up people
// with names in seven scripts, card numbers that pass Luhn's check and IBANs
// with correct check digits. The same people every time.
//
//	go run ./examples/quickstart/gen -n 500 -out mine.csv
package main

import (
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	n := flag.Int("n", 10_000, "number of customers")
	out := flag.String("out", "customers.csv", "file to write; compressed if it ends in .gz")
	flag.Parse()
	if err := writeFile(*out, *n); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func writeFile(path string, n int) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if !strings.HasSuffix(path, ".gz") {
		return write(f, n)
	}
	return compress(f, n)
}

func compress(w io.Writer, n int) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	return errors.Join(write(z, n), z.Close())
}
