package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-go/lethe/integrations/config"
)

// description is what the tags of a table say.
type description struct {
	Table   string            `json:"table"` // its name in the configuration
	SQL     string            `json:"sql"`
	Record  string            `json:"record"`
	Columns []columnDescribed `json:"columns"`
	Indexes []string          `json:"-"`
}

type columnDescribed struct {
	Column  string `json:"column"`
	Field   string `json:"field"`
	Type    string `json:"type"`
	Subject string `json:"subject"` // kind of the person whose data it is
	Group   string `json:"group,omitempty"`
	Purpose string `json:"purpose,omitempty"`
	Mask    string `json:"mask,omitempty"`
	Index   string `json:"index,omitempty"` // column of the blind index over it
	Bits    string `json:"index_bits,omitempty"`
}

// tagged is a lethe tag: its first word, and its options.
func tagged(tag string) (name string, options map[string]string) {
	parts := strings.Split(tag, ",")
	options = map[string]string{}
	for _, p := range parts[1:] {
		key, value, _ := strings.Cut(p, "=")
		options[key] = value
	}
	return parts[0], options
}

// describe reads the tags of a table.
func describe(t config.Table) (*description, error) {
	if err := checkTags(t); err != nil {
		return nil, fmt.Errorf("table %s: %w", t.Name, err)
	}
	d := &description{Table: t.Name, SQL: t.SQL, Columns: []columnDescribed{}}
	kinds := map[string]string{} // by group
	over := map[string]config.Column{}
	for _, c := range t.Columns {
		name, options := tagged(c.Lethe)
		switch {
		case c.Type == "keys":
			d.Record = name
		case c.Type == "index":
			d.Indexes = append(d.Indexes, name)
			over[options["of"]] = c
		case strings.HasPrefix(c.Lethe, "subject="):
			_, kind, _ := strings.Cut(name, "=")
			kinds[options["group"]] = kind
		}
	}
	for _, c := range t.Columns {
		if !strings.HasPrefix(c.Type, "secret ") {
			continue
		}
		name, options := tagged(c.Lethe)
		row := columnDescribed{
			Column: c.Name, Field: name, Type: strings.TrimPrefix(c.Type, "secret "), Subject: kinds[options["group"]],
			Group: options["group"], Purpose: options["purpose"], Mask: options["mask"],
		}
		if index, ok := over[name]; ok {
			_, options := tagged(index.Lethe)
			row.Index, row.Bits = index.Name, options["bits"]
			if row.Bits == "" {
				row.Bits = "32"
			}
		}
		d.Columns = append(d.Columns, row)
	}
	return d, nil
}

func (d *description) hasIndex(name string) error {
	if slices.Contains(d.Indexes, name) {
		return nil
	}
	if len(d.Indexes) == 0 {
		return fmt.Errorf("table %s has no blind index", d.Table)
	}
	return fmt.Errorf("table %s has no blind index %q; there are %s", d.Table, name, strings.Join(d.Indexes, ", "))
}

// checkTags has the library check the tags.
func checkTags(t config.Table) error {
	_, err := t.Type()
	return err
}
