package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/integrations/config"
)

// description is what the tags of a table say.
type description struct {
	Table   string            `json:"table"` // its name in the configuration
	SQL     string            `json:"sql"`
	Record  string            `json:"record"`
	Columns []columnDescribed `json:"columns"`
	lethe   lethe.Description
}

// columnDescribed is a sealed column.
type columnDescribed struct {
	Column  string `json:"column"`
	Field   string `json:"field"` // its stable name
	Type    string `json:"type"`
	Subject string `json:"subject"` // kind of the person whose data it is
	Group   string `json:"group,omitempty"`
	Purpose string `json:"purpose,omitempty"`
	Mask    string `json:"mask,omitempty"`
	Index   string `json:"index,omitempty"` // column of the blind index over it
	Norm    string `json:"index_norm,omitempty"`
	Bits    int    `json:"index_bits,omitempty"`
}

// describe checks the tags of a table and says what they say. It needs no keys.
func describe(t config.Table) (*description, error) {
	typ, err := t.Type()
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t.Name, err)
	}
	d := &description{Table: t.Name, SQL: t.SQL, Columns: []columnDescribed{}}
	if d.lethe, err = lethe.DescribeType(typ); err != nil {
		return nil, fmt.Errorf("table %s: %w", t.Name, err)
	}
	d.Record = d.lethe.Record
	types := map[string]string{}
	for _, c := range t.Columns {
		types[c.Name] = strings.TrimPrefix(c.Type, "secret ")
	}
	for _, f := range d.lethe.Fields {
		if f.Role != lethe.RoleSecret {
			continue
		}
		row := columnDescribed{Column: f.Column, Field: f.Name, Type: types[f.Column], Subject: f.Kind, Group: f.Group, Purpose: f.Purpose, Mask: f.Mask}
		for _, x := range d.lethe.Fields {
			if x.Role == lethe.RoleIndex && x.Of == f.Name {
				row.Index, row.Norm, row.Bits = x.Column, x.Norm, x.Bits
			}
		}
		d.Columns = append(d.Columns, row)
	}
	return d, nil
}

// indexes are the stable names of the table's blind indexes.
func (d *description) indexes() []string {
	var out []string
	for _, f := range d.lethe.Fields {
		if f.Role == lethe.RoleIndex {
			out = append(out, f.Name)
		}
	}
	return out
}

func (d *description) hasIndex(name string) error {
	known := d.indexes()
	if slices.Contains(known, name) {
		return nil
	}
	if len(known) == 0 {
		return fmt.Errorf("table %s has no blind index", d.Table)
	}
	return fmt.Errorf("table %s has no blind index %q; there are %s", d.Table, name, strings.Join(known, ", "))
}
