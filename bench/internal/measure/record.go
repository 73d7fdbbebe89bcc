package measure

import (
	"fmt"

	"github.com/lethe-go/lethe"
)

// record is what is sealed: 265 bytes in 5 fields, as in the library's benchmarks.
type record struct {
	Keys  lethe.Keys           `lethe:"planned"`
	ID    string               `lethe:"subject=customer"`
	Name  lethe.Secret[string] `lethe:"name"`
	Email lethe.Secret[string] `lethe:"email"`
	Phone lethe.Secret[string] `lethe:"phone"`
	IBAN  lethe.Secret[string] `lethe:"iban"`
	Note  lethe.Secret[string] `lethe:"note"`
}

const (
	fields     = 5
	plainBytes = 265
)

var values = [fields]string{
	"Ada Lovelace-Byron, Countess of Lovelace", "ada.lovelace@analytical-engine.example.com",
	"+44 20 7946 0958 ext 1815", "GB33BUKB20201555555555 / DE89370400440532013000",
	"Met at the Royal Society; asked to be called after four, prefers letters to calls, has a twin brother, no post.",
}

func id(i int) string { return fmt.Sprintf("cus_%09d", i) }

func newRecord(i int) record {
	return record{
		ID: id(i), Name: lethe.Of(values[0]), Email: lethe.Of(values[1]), Phone: lethe.Of(values[2]),
		IBAN: lethe.Of(values[3]), Note: lethe.Of(values[4]),
	}
}

// secrets are the sealed fields, to be scanned or written.
func (r *record) secrets() [fields]*lethe.Secret[string] {
	return [fields]*lethe.Secret[string]{&r.Name, &r.Email, &r.Phone, &r.IBAN, &r.Note}
}

// bytes returns what a row has in its columns: the header, and each cell.
func (r *record) bytes() (header []byte, cells [fields][]byte, err error) {
	header = r.Keys.Bytes()
	for i, s := range r.secrets() {
		v, err := s.Value()
		if err != nil {
			return nil, cells, err
		}
		cell, ok := v.([]byte)
		if !ok {
			return nil, cells, fmt.Errorf("a sealed field is a %T, not bytes", v)
		}
		cells[i] = cell
	}
	return header, cells, nil
}
