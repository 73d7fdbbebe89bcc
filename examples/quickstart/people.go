package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lethe-go/lethe"
)

//go:generate go run ./gen -out customers.csv.gz

//go:embed customers.csv.gz
var sample []byte

// person is one line of the file, in the clear.
type person struct {
	id, name, email, phone, card, iban string
	born                               time.Time // zero: not known
	note, plan                         string
}

var header = []string{"id", "name", "email", "phone", "card", "iban", "born", "note", "plan"}

// readFile reads people from path, or the built-in sample if path is empty.
func readFile(path string) ([]person, error) {
	if path == "" {
		z, err := gzip.NewReader(bytes.NewReader(sample))
		if err != nil {
			return nil, err
		}
		return readPeople(z)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	people, err := readPeople(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return people, nil
}

// readPeople reads a CSV file with the columns of header, in any order. Nothing
// is taken from a file with mistakes: the error lists the first ten of them by
// line, without repeating what people wrote there.
func readPeople(r io.Reader) ([]person, error) {
	in := bufio.NewReader(r)
	if bom, err := in.Peek(3); err == nil && string(bom) == "\ufeff" {
		_, _ = in.Discard(3)
	}
	file := csv.NewReader(in)
	titles, err := file.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the file is empty; its first line must be %s", strings.Join(header, ","))
	}
	if err != nil {
		return nil, err
	}
	column, err := columns(titles)
	if err != nil {
		return nil, err
	}
	var people []person
	var bad mistakes
	lines := map[string]int{}
	for {
		fields, err := file.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, csv.ErrFieldCount) {
			bad.addf("%w", err) // from here on quotes and lines cannot be told apart
			break
		}
		line, _ := file.FieldPos(0)
		if err != nil {
			bad.addf("line %d: %d fields, the header has %d", line, len(fields), len(titles))
			continue
		}
		p, err := parse(fields, column)
		if err != nil {
			bad.addf("line %d: %w", line, err)
			continue
		}
		if first, twice := lines[p.id]; twice {
			bad.addf("line %d: the same id as line %d", line, first)
			continue
		}
		lines[p.id] = line
		people = append(people, p)
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	if len(people) == 0 {
		return nil, errors.New("the file has no customers after its header")
	}
	return people, nil
}

// columns finds where each column of header stands. An unknown column is an
// error: dropping it would lose data silently.
func columns(titles []string) (map[string]int, error) {
	column := map[string]int{}
	for i, title := range titles {
		title = strings.ToLower(strings.TrimSpace(title))
		if _, twice := column[title]; twice || !slices.Contains(header, title) {
			return nil, fmt.Errorf("line 1: column %d is unknown or there twice; the file must be UTF-8, with commas between the columns %s", i+1, strings.Join(header, ","))
		}
		column[title] = i
	}
	var missing []string
	for _, want := range header {
		if _, there := column[want]; !there {
			missing = append(missing, want)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("line 1: missing columns: %s", strings.Join(missing, ", "))
	}
	return column, nil
}

func parse(fields []string, column map[string]int) (person, error) {
	for _, name := range header {
		if !utf8.ValidString(fields[column[name]]) {
			return person{}, fmt.Errorf("column %s is not UTF-8; save the file as UTF-8", name)
		}
	}
	get := func(name string) string { return fields[column[name]] }
	p := person{
		id: get("id"), name: get("name"), email: get("email"), phone: get("phone"),
		card: get("card"), iban: get("iban"), note: get("note"), plan: get("plan"),
	}
	if err := (lethe.Subject{Kind: "customer", ID: p.id}).Validate(); err != nil {
		return p, fmt.Errorf("column id: %w", err)
	}
	if name, domain, ok := strings.Cut(p.email, "@"); !ok || name == "" || domain == "" {
		return p, errors.New("column email: not an e-mail address")
	}
	if born := get("born"); born != "" {
		var err error
		if p.born, err = time.Parse(time.DateOnly, born); err != nil {
			return p, errors.New("column born: not a date like 1815-12-10")
		}
	}
	return p, nil
}

// mistakes collects what is wrong with a file.
type mistakes struct {
	first []error
	count int
}

func (m *mistakes) addf(format string, args ...any) {
	if m.count++; m.count <= 10 {
		m.first = append(m.first, fmt.Errorf(format, args...))
	}
}

func (m *mistakes) err() error {
	if more := m.count - len(m.first); more > 0 {
		return errors.Join(append(m.first, fmt.Errorf("and %d more", more))...)
	}
	return errors.Join(m.first...)
}
