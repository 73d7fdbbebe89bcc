package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/tokenize"
)

// show is what every step needs.
type show struct {
	dir           string
	n             int
	keys          tokenize.Keys
	ring          *envelope.Keyring
	out, progress io.Writer
}

const (
	batchSize = 1000
	tenant    = "acme"
)

func (s *show) run(ctx context.Context) error {
	cards, err := newCards(s.keys)
	if err != nil {
		return err
	}
	if err := s.timed("cards.csv written", s.generate); err != nil {
		return err
	}
	refused := tally{}
	if err := s.timed("tokenized to tokens.csv", func() (int, error) { return s.tokenizeFile(ctx, cards, refused) }); err != nil {
		return err
	}
	s.print("  refused", refused)
	if err := s.timed("turned back and compared", func() (int, error) { return s.compare(ctx, cards) }); err != nil {
		return err
	}
	if err := s.join(); err != nil {
		return err
	}
	return s.mistreat(ctx)
}

// classes are the errors an item can have, most specific first.
var classes = []struct {
	err  error
	name string
}{
	{tokenize.ErrDomain, "too few values are possible"},
	{tokenize.ErrValue, "value does not fit the format"},
	{tokenize.ErrToken, "not a token of this tokenizer"},
	{tokenize.ErrOtherTokenizer, "token of another tokenizer"},
	{tokenize.ErrOtherTenant, "token of another tenant"},
	{tokenize.ErrOtherPurpose, "token of another purpose"},
	{tokenize.ErrBinding, "other subject or associated data"},
	{tokenize.ErrExpired, "expired"},
	{tokenize.ErrUsedUp, "used up"},
	{tokenize.ErrForgotten, "subject forgotten"},
	{tokenize.ErrNoSubject, "no subject"},
	{tokenize.ErrKeyMissing, "no such key"},
	{tokenize.ErrKeyVersion, "key version needed"},
}

// tally counts errors by class.
type tally map[string]int

func (t tally) add(err error) {
	for _, c := range classes {
		if errors.Is(err, c.err) {
			t[c.name]++
			return
		}
	}
	t["another error"]++
}

func (s *show) print(title string, t tally) {
	for _, c := range classes {
		if t[c.name] > 0 {
			s.printf("%s: %s: %s\n", title, c.name, count(t[c.name]))
		}
	}
	if n := t["another error"]; n > 0 {
		s.printf("%s: another error: %s\n", title, count(n))
	}
}

// tokenizeFile reads cards.csv (shop,order,card) and writes tokens.csv
// (shop,order,token,key_version) and refused.csv (line,class), batch by batch.
func (s *show) tokenizeFile(ctx context.Context, cards tokenize.Tokenizer, refused tally) (_ int, err error) {
	in, err := openCSV(s.path("cards.csv"))
	if err != nil {
		return 0, err
	}
	defer in.close(&err)
	out, err := createCSV(s.path("tokens.csv"), "shop", "order", "token", "key_version")
	if err != nil {
		return 0, err
	}
	defer out.close(&err)
	bad, err := createCSV(s.path("refused.csv"), "line", "reason")
	if err != nil {
		return 0, err
	}
	defer bad.close(&err)
	p := newProgress(s.progress, "tokenizing", s.n)
	line := 1
	err = in.batches(func(rows [][]string) error {
		items := make([]tokenize.Item, len(rows))
		for i, row := range rows {
			items[i] = tokenize.Item{Subject: tokenize.Subject{Tenant: tenant}, Value: row[2]}
		}
		if err := cards.Tokenize(ctx, items); err != nil {
			return err
		}
		for i, row := range rows {
			line++
			if items[i].Err != nil {
				refused.add(items[i].Err)
				if err := bad.Write([]string{strconv.Itoa(line), items[i].Err.Error()}); err != nil {
					return err
				}
				continue
			}
			// The version of the key stands beside the token, which has no room for it.
			if err := out.Write([]string{row[0], row[1], items[i].Token, strconv.Itoa(int(items[i].KeyVersion))}); err != nil {
				return err
			}
		}
		p.add(len(rows))
		return nil
	})
	return line - 1, err
}

// compare turns tokens.csv back and compares it with cards.csv.
func (s *show) compare(ctx context.Context, cards tokenize.Tokenizer) (_ int, err error) {
	truth, err := openCSV(s.path("cards.csv"))
	if err != nil {
		return 0, err
	}
	defer truth.close(&err)
	in, err := openCSV(s.path("tokens.csv"))
	if err != nil {
		return 0, err
	}
	defer in.close(&err)
	p := newProgress(s.progress, "turning back", s.n)
	n := 0
	err = in.batches(func(rows [][]string) error {
		items := make([]tokenize.Item, len(rows))
		for i, row := range rows {
			version, err := strconv.ParseUint(row[3], 10, 32)
			if err != nil {
				return err
			}
			items[i] = tokenize.Item{Subject: tokenize.Subject{Tenant: tenant}, Token: row[2], KeyVersion: uint32(version)}
		}
		if err := cards.Detokenize(ctx, items); err != nil {
			return err
		}
		for i, row := range rows {
			if items[i].Err != nil {
				return fmt.Errorf("order %s: %w", row[1], items[i].Err)
			}
			want, err := truth.order(row[1])
			if err != nil {
				return err
			}
			if want != items[i].Value {
				return fmt.Errorf("order %s: the token does not turn back into its card", row[1])
			}
		}
		n += len(rows)
		p.add(len(rows))
		return nil
	})
	return n, err
}

// join is a merchant's question, from tokens alone: which cards were used in both
// shops? It is answered again from cards.csv, which the merchant never sees.
func (s *show) join() error {
	var both [2]int
	for i, file := range []string{"tokens.csv", "cards.csv"} {
		shops, err := s.shops(file)
		if err != nil {
			return err
		}
		for _, seen := range shops {
			if seen == 3 {
				both[i]++
			}
		}
	}
	s.printf("cards used in both shops: %s, joined on tokens; %s, by their numbers\n", count(both[0]), count(both[1]))
	if both[0] != both[1] {
		return errors.New("the join on tokens differs from that on cards")
	}
	return nil
}

// shops says of each token or card of a file in which shops it was seen: bits 1 and 2.
func (s *show) shops(file string) (_ map[string]int, err error) {
	in, err := openCSV(s.path(file))
	if err != nil {
		return nil, err
	}
	defer in.close(&err)
	seen := map[string]int{}
	err = in.batches(func(rows [][]string) error {
		for _, row := range rows {
			if file == "cards.csv" && !passesLuhn(row[2]) {
				continue // refused
			}
			shop := 1
			if row[0] == "web" {
				shop = 2
			}
			seen[row[2]] |= shop
		}
		return nil
	})
	return seen, err
}

// table is a CSV file read in batches.
type table struct {
	*csv.Reader
	file *os.File
}

func openCSV(path string) (*table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	t := &table{csv.NewReader(f), f}
	_, err = t.Read() // the names of the columns
	return t, err
}

func (t *table) close(err *error) { *err = errors.Join(*err, t.file.Close()) }

func (t *table) batches(do func(rows [][]string) error) error {
	for {
		var rows [][]string
		for len(rows) < batchSize {
			row, err := t.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		if len(rows) == 0 {
			return nil
		}
		if err := do(rows); err != nil {
			return err
		}
	}
}

// order reads on to an order and returns its last column.
func (t *table) order(id string) (string, error) {
	for {
		row, err := t.Read()
		if err != nil {
			return "", err
		}
		if row[1] == id {
			return row[2], nil
		}
	}
}

type writer struct {
	*csv.Writer
	file *os.File
}

func createCSV(path string, columns ...string) (*writer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	w := &writer{csv.NewWriter(f), f}
	return w, w.Write(columns)
}

func (w *writer) close(err *error) {
	w.Flush()
	*err = errors.Join(*err, w.Error(), w.file.Close())
}

// count writes a number with commas.
func count(n int) string {
	digits := []byte(strconv.Itoa(n))
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = slices.Insert(digits, i, ',')
	}
	return string(digits)
}

// progress prints a line for every quarter of a step.
type progress struct {
	out         io.Writer
	what        string
	done, total int
}

func newProgress(out io.Writer, what string, total int) *progress {
	return &progress{out: out, what: what, total: total}
}

func (p *progress) add(n int) {
	before := p.done
	p.done += n
	if before*4/p.total != p.done*4/p.total {
		_, _ = fmt.Fprintf(p.out, "%s: %s of %s\n", p.what, count(p.done), count(p.total))
	}
}
