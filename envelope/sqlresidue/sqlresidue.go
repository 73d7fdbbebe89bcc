// Package sqlresidue makes the blind index columns of an application's tables NULL
// when their subject is forgotten: whoever holds the index key could confirm
// guesses with them. It needs database/sql only and works with SQLite (3.33 or
// later) and PostgreSQL.
package sqlresidue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lethe-go/lethe/envelope"
)

// Execer is a *sql.DB, or what stands before one.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Table is a table with index columns. Names are taken as they are, quoted: of 1
// to 63 bytes, in the case the database has them.
type Table struct {
	Schema string // optional
	Name   string
	// Kind is that of the subjects whose rows these are.
	Kind string
	// SubjectColumn holds their ids. Index it.
	SubjectColumn string
	// TenantColumn holds the tenant; NULL and '' are none. Where it is empty all rows belong
	// to Tenant, and a forget of another tenant's subject leaves the table alone.
	TenantColumn string
	Tenant       string
	// PseudonymColumn is optional: it holds the 16 bytes of envelope.Keyring.Pseudonym
	// of each row's subject, in a column of bytes (BLOB, BYTEA). Index it. With it the table
	// is also cleaned when a deferred forget comes due, of which nothing else is known.
	// Rows where it is NULL are not found then.
	PseudonymColumn string
	Columns         []Column
}

// Column is a blind index.
type Column struct {
	Name    string // of a column that may be NULL
	Purpose string // of the indexed field, as in the tags of package lethe
}

// Residue is an envelope.Residue for one table. It is safe for concurrent use.
type Residue struct {
	db    Execer
	table Table
	label string
}

var _ envelope.PseudonymResidue = (*Residue)(nil)

// New checks the table's names; [Residue.Check] whether the database has them.
// Statements run on db with a parameter each for the id and the tenant.
//
// A process that seals the subject's row anew from its cached keys within
// Options.CacheTTL of a forget writes the index again: call Forget once more then.
func New(db Execer, t Table) (*Residue, error) {
	var errs []error
	if db == nil {
		errs = append(errs, errors.New("a database is required"))
	}
	check := func(what, name string) {
		if name == "" || len(name) > 63 || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
			errs = append(errs, fmt.Errorf("%s %q is not a name of 1 to 63 bytes without control characters", what, name))
		}
	}
	if t.Schema != "" {
		check("Schema", t.Schema)
	}
	check("Name", t.Name)
	check("SubjectColumn", t.SubjectColumn)
	if t.TenantColumn != "" {
		check("TenantColumn", t.TenantColumn)
		if t.Tenant != "" {
			errs = append(errs, errors.New("Table.Tenant is for a table without a TenantColumn"))
		}
	}
	if t.PseudonymColumn != "" {
		check("PseudonymColumn", t.PseudonymColumn)
	}
	if t.Kind == "" {
		errs = append(errs, errors.New("Table.Kind is required: the subject= of the table's tag"))
	}
	if len(t.Columns) == 0 {
		errs = append(errs, errors.New("Table.Columns are required"))
	}
	seen := map[string]bool{t.SubjectColumn: true, t.TenantColumn: true, t.PseudonymColumn: true}
	for _, c := range t.Columns {
		check("Columns", c.Name)
		if seen[c.Name] {
			errs = append(errs, fmt.Errorf("column %q is named twice", c.Name))
		}
		seen[c.Name] = true
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("sqlresidue: %w", err)
	}
	t.Columns = append([]Column(nil), t.Columns...)
	label := t.Name
	if t.Schema != "" {
		label = t.Schema + "." + label
	}
	return &Residue{db: db, table: t, label: label}, nil
}

// String names the table.
func (r *Residue) String() string { return r.label }

// Forgotten implements envelope.Residue: one UPDATE that makes the columns NULL in
// the rows of the subject where they are not yet. The residual counts those rows.
func (r *Residue) Forgotten(ctx context.Context, s envelope.Subject, purpose string, all bool) ([]envelope.Residual, error) {
	t := &r.table
	if s.Kind != t.Kind || t.TenantColumn == "" && s.Tenant != t.Tenant {
		return nil, nil
	}
	where, args := r.ofSubject(s.Tenant)
	args[0] = s.ID
	if len(args) > 1 {
		args[1] = s.Tenant
	}
	return r.clean(ctx, purpose, all, where, args)
}

// ForgottenPseudonym implements envelope.PseudonymResidue, of a table with a
// PseudonymColumn: the same by that column.
func (r *Residue) ForgottenPseudonym(ctx context.Context, ref envelope.SRef, purpose string, all bool) ([]envelope.Residual, error) {
	if r.table.PseudonymColumn == "" {
		return nil, errors.ErrUnsupported
	}
	return r.clean(ctx, purpose, all, r.ofPseudonym(), []any{ref[:]})
}

// clean makes the columns of a purpose, or all, NULL in the rows that where names.
func (r *Residue) clean(ctx context.Context, purpose string, all bool, where string, args []any) ([]envelope.Residual, error) {
	t := &r.table
	var names, set, full []string
	for _, c := range t.Columns {
		if all || c.Purpose == purpose {
			names = append(names, c.Name)
			set = append(set, quote(c.Name)+" = NULL")
			full = append(full, "x."+quote(c.Name)+" IS NOT NULL")
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	res, err := r.db.ExecContext(ctx, r.update(set, full, where), args...)
	if err != nil {
		return nil, fmt.Errorf("sqlresidue: the index columns of %s could not be made NULL: %w", r.label, failure(ctx, err))
	}
	n, err := res.RowsAffected()
	if err != nil {
		return nil, fmt.Errorf("sqlresidue: %s: how many rows is unknown: %w", r.label, failure(ctx, err))
	}
	return []envelope.Residual{{Kind: envelope.ResidualColumns, Name: r.label, Count: n, Note: "made NULL: " + strings.Join(names, ", ")}}, nil
}

// ofSubject returns the condition for the rows of a subject, and room for its
// parameters: the id, and the tenant if there is one.
func (r *Residue) ofSubject(tenant string) (where string, args []any) {
	t := &r.table
	where, args = "x."+quote(t.SubjectColumn)+" = $1", make([]any, 1, 2)
	switch {
	case t.TenantColumn == "":
	case tenant == "":
		// Cast, since '' is no value of a column of UUIDs or numbers.
		column := "x." + quote(t.TenantColumn)
		where += " AND (" + column + " IS NULL OR CAST(" + column + " AS TEXT) = '')"
	default:
		where += " AND x." + quote(t.TenantColumn) + " = $2"
		args = append(args, nil)
	}
	return where, args
}

// ofPseudonym is ofSubject by the PseudonymColumn.
func (r *Residue) ofPseudonym() string { return "x." + quote(r.table.PseudonymColumn) + " = $1" }

// update returns the statement that sets columns in the rows that where names and
// where one is full. Columns are qualified: SQLite takes a quoted name that stands
// alone, and that no column has, for a text.
func (r *Residue) update(set, full []string, where string) string {
	return "UPDATE " + r.from() + " SET " + strings.Join(set, ", ") + " WHERE " + where + " AND (" + strings.Join(full, " OR ") + ")"
}

// from is the table, called x.
func (r *Residue) from() string {
	table := quote(r.table.Name)
	if r.table.Schema != "" {
		table = quote(r.table.Schema) + "." + table
	}
	return table + " AS x"
}

// Check finds out whether the database has the table and its columns, and lets this
// program make them NULL: call it when a service starts, since otherwise the first
// forget would find out. It runs statements that meet no row, and names all that is
// wrong. What it cannot see is an index column that must not be NULL, and a subject
// column whose type does not take the ids.
func (r *Residue) Check(ctx context.Context) error {
	t := &r.table
	try := func(query string, args ...any) error {
		_, err := r.db.ExecContext(ctx, query, args...)
		if err != nil {
			return failure(ctx, err)
		}
		return nil
	}
	if err := try("SELECT 1 FROM " + r.from() + " WHERE 1 = 0"); err != nil {
		return fmt.Errorf("sqlresidue: the table %s cannot be read: create it, grant SELECT on it, or correct Table.Schema and Table.Name: %w", r.label, err)
	}
	var errs []error
	column := func(field, name string) {
		if err := try("SELECT 1 FROM "+r.from()+" WHERE x."+quote(name)+" = $1", nil); err != nil {
			errs = append(errs, fmt.Errorf("the table %s has no column %q that can be read: correct %s: %w", r.label, name, field, err))
		}
	}
	column("Table.SubjectColumn", t.SubjectColumn)
	if t.TenantColumn != "" {
		column("Table.TenantColumn", t.TenantColumn)
	}
	if t.PseudonymColumn != "" {
		column("Table.PseudonymColumn", t.PseudonymColumn)
	}
	var set, full []string
	for _, c := range t.Columns {
		column("Table.Columns", c.Name)
		set, full = append(set, quote(c.Name)+" = NULL"), append(full, "x."+quote(c.Name)+" IS NOT NULL")
	}
	if len(errs) == 0 {
		for _, tenant := range []string{"", "any"} {
			where, none := r.ofSubject(tenant) // no id is NULL
			if err := try(r.update(set, full, where), none...); err != nil {
				errs = append(errs, fmt.Errorf("the columns of %s cannot be made NULL: grant UPDATE on it to the user of this program: %w", r.label, err))
				break
			}
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("sqlresidue: %w", errors.Join(errs...))
	}
	return nil
}

// failure says why a statement failed, without the database's own words: those of
// PostgreSQL repeat the subject's id where it is not of the column's type, and its
// details the whole row where a column must not be NULL.
func failure(ctx context.Context, err error) error {
	var state interface{ SQLState() string } // PostgreSQL
	var code interface{ Code() int }         // SQLite
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &state):
		return fmt.Errorf("the database refused it (SQLSTATE %s)", state.SQLState())
	case errors.As(err, &code):
		return fmt.Errorf("the database refused it (SQLite result code %d)", code.Code())
	}
	return errors.New("the database did not answer, or its driver refused the statement")
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
