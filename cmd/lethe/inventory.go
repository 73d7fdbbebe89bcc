package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/posener/complete"

	"github.com/lethe-go/lethe/integrations/config"
)

type inventoryCommand struct {
	Table []string `arg:"" optional:"" predictor:"table" help:"Tables, by their names in the configuration; all of them without."`
}

// inventoryResult is the answer of inventory.
type inventoryResult struct {
	Tables []*description `json:"tables"`
}

// Run lists the sealed columns.
func (c *inventoryCommand) Run(a *app, out *output) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	tables := cfg.Tables
	if len(c.Table) > 0 {
		tables = nil
		for _, name := range c.Table {
			t, err := cfg.Table(name)
			if err != nil {
				return err
			}
			tables = append(tables, t)
		}
	}
	if len(tables) == 0 {
		return errors.New("the configuration describes no table: see the key tables")
	}
	res := inventoryResult{Tables: []*description{}}
	for _, t := range tables {
		d, err := describe(t)
		if err != nil {
			return err
		}
		res.Tables = append(res.Tables, d)
	}
	return out.result(res, res.markdown())
}

// markdown is a table for a record of processing.
func (r *inventoryResult) markdown() string {
	rows := [][]string{{"table", "column", "record", "field", "type", "subject", "group", "purpose", "mask", "index"}}
	for _, d := range r.Tables {
		for _, c := range d.Columns {
			index := c.Index
			if index != "" {
				index += fmt.Sprintf(" (%s, %d bits)", c.Norm, c.Bits)
			}
			rows = append(rows, []string{d.SQL, c.Column, d.Record, c.Field, c.Type, c.Subject, c.Group, c.Purpose, c.Mask, index})
		}
	}
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	line := func(row []string) {
		for i, cell := range row {
			cell = strings.ReplaceAll(cell, "|", `\|`)
			fmt.Fprintf(&b, "| %s%s ", cell, strings.Repeat(" ", max(0, width[i]-len([]rune(cell)))))
		}
		b.WriteString("|\n")
	}
	line(rows[0])
	for _, w := range width {
		b.WriteString("|" + strings.Repeat("-", w+2))
	}
	b.WriteString("|\n")
	for _, row := range rows[1:] {
		line(row)
	}
	return b.String()
}

// predictors complete the arguments of commands in a shell.
func predictors() map[string]complete.Predictor {
	return map[string]complete.Predictor{
		"file": complete.PredictFiles("*"),
		"table": complete.PredictFunc(func(complete.Args) []string {
			cfg, err := config.Load(os.Getenv("LETHE_CONFIG"))
			if err != nil {
				return nil
			}
			var out []string
			for _, t := range cfg.Tables {
				out = append(out, t.Name)
			}
			return out
		}),
	}
}
