package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-go/lethe"
)

// Table is a table whose rows are a struct with sealed fields. NewJob checks it
// against the real one.
type Table struct {
	// Name as SQL has it without quotes, with its schema before a dot or not.
	Name string
	// Key has the columns that identify a row and that rows are visited in the
	// order of: the primary key, or a unique index that allows no NULL.
	Key []string
	// DB is where the table is. A job uses as many connections as it has workers,
	// and one.
	DB *sql.DB
	// Dialect is lethe.Postgres (with github.com/jackc/pgx/v5/stdlib) or lethe.SQLite.
	Dialect lethe.Dialect
	// Rows seals and opens them. Its policy, if any, must allow the job to open
	// every field, but for Rewrap, which opens none.
	Rows *lethe.Rows
	// Columns names the columns of fields without a db tag, by the field's name in
	// Go (Home.Street for a nested one), and goes before the tags of others.
	Columns map[string]string
	// Tenant is whose rows they are, if the service uses Sealer.Tenant.
	Tenant string
	// TenantColumn is the column that says whose a row is, where tenants share the
	// table. A job visits the rows of Tenant only.
	TenantColumn string
}

// role of a column in a job.
type use uint8

const (
	reads  use = 1 << iota // into the field
	guards                 // must be as it was read when the row is written
	writes
)

// column is a column of the table that a job works with.
type column struct {
	name   string // quoted
	sqlTyp string // as casts write it; PostgreSQL only
	form   form
	field  lethe.FieldDescription
	use    use
	own    bool // a Keys, Secret, BlindIndex or Token: scans itself, and says what it stores
}

// form is how the values of a column are handed over.
type form uint8

const (
	asText form = iota
	asBytes
	asInt
)

// layout is a Table that was checked: what the statements of a job are made of.
type layout struct {
	Table
	name    string // quoted
	keys    []column
	columns []column
	tenant  string // quoted column, or ""
}

// quote quotes an identifier.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quoteTable quotes a table's name, of up to two parts.
func quoteTable(name string) (string, error) {
	parts := strings.Split(name, ".")
	if len(parts) > 2 || slices.Contains(parts, "") || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("Table.Name %q is not a table, or a schema, a dot and a table", name)
	}
	for i := range parts {
		parts[i] = quote(parts[i])
	}
	return strings.Join(parts, "."), nil
}

// found is what the database says of a table.
type found struct {
	columns map[string]foundColumn
	unique  [][]string // the columns of each index that is unique over all rows
}

type foundColumn struct {
	sqlTyp  string
	form    form
	notNull bool
	sealed  bool // can hold sealed values
}

// check returns the layout of t for a job of a kind, or every mistake at once.
func (t Table) check(ctx context.Context, k Kind) (*layout, error) {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	l := &layout{Table: t}
	if t.DB == nil {
		fail("Table.DB is missing")
	}
	if t.Dialect != lethe.Postgres && t.Dialect != lethe.SQLite {
		fail("Table.Dialect must be lethe.Postgres or lethe.SQLite")
	}
	if t.Rows == nil {
		fail("Table.Rows is missing: Sealer.Rows or lethe.ForType makes it")
	}
	if len(t.Key) == 0 {
		fail("Table.Key has no columns: name the primary key's")
	}
	if t.TenantColumn != "" && t.Tenant == "" {
		fail("Table.TenantColumn needs Table.Tenant")
	}
	var err error
	if l.name, err = quoteTable(t.Name); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, tableErr(t.Name, errs)
	}
	if t.Tenant != "" {
		l.Rows = t.Rows.Tenant(t.Tenant)
	}
	have, err := l.look(ctx)
	if err != nil {
		return nil, err
	}
	l.checkKey(have, fail)
	l.checkColumns(have, k, fail)
	if t.TenantColumn != "" {
		l.tenant = quote(t.TenantColumn)
		if _, ok := have.columns[t.TenantColumn]; !ok {
			fail("Table.TenantColumn: the table has no column %q", t.TenantColumn)
		}
	}
	if len(errs) > 0 {
		return nil, tableErr(t.Name, errs)
	}
	return l, nil
}

func tableErr(name string, errs []error) error {
	return fmt.Errorf("migrate: table %q does not fit:\n%w", name, errors.Join(errs...))
}

func (l *layout) look(ctx context.Context) (*found, error) {
	if l.Dialect == lethe.Postgres {
		return l.lookPostgres(ctx)
	}
	return l.lookSQLite(ctx)
}

func (l *layout) checkKey(have *found, fail func(string, ...any)) {
	missing := false
	for i, name := range l.Key {
		c, ok := have.columns[name]
		switch {
		case !ok:
			fail("Table.Key: the table has no column %q", name)
			missing = true
		case slices.Contains(l.Key[:i], name):
			fail("Table.Key names %q twice", name)
		case !c.notNull:
			fail("Table.Key: column %q may be NULL, and rows where it is would never be visited: make it NOT NULL", name)
		}
		l.keys = append(l.keys, column{name: quote(name), sqlTyp: c.sqlTyp, form: c.form})
	}
	unique := slices.ContainsFunc(have.unique, func(index []string) bool {
		return !slices.ContainsFunc(index, func(name string) bool { return !slices.Contains(l.Key, name) })
	})
	if !missing && !unique {
		fail("Table.Key: no unique index covers every row with columns of (%s) alone, so they may not identify a row", strings.Join(l.Key, ", "))
	}
}

func (l *layout) checkColumns(have *found, k Kind, fail func(string, ...any)) {
	d := l.Rows.Describe()
	goNames, taken := map[string]bool{}, map[string]string{}
	if !slices.ContainsFunc(d.Fields, func(f lethe.FieldDescription) bool { return f.Role == lethe.RoleKeys }) {
		fail("%s is a document, which has no columns: a job needs a struct with a lethe.Keys field", d.Type)
		return
	}
	for _, f := range d.Fields {
		goNames[f.GoName] = true
		u := k.use(&f, &d)
		if u == 0 {
			continue
		}
		name := f.Column
		if other, ok := l.Columns[f.GoName]; ok {
			name = other
		}
		c, ok := have.columns[name]
		switch {
		case name == "":
			fail("field %s has no column: give it a tag db:\"…\", or an entry in Table.Columns", f.GoName)
			continue
		case !ok:
			fail("field %s: the table has no column %q", f.GoName, name)
			continue
		case taken[name] != "":
			fail("fields %s and %s have one column, %q", taken[name], f.GoName, name)
			continue
		case u&writes != 0 && slices.Contains(l.Key, name):
			fail("field %s: column %q is of Table.Key and would be written", f.GoName, name)
			continue
		}
		taken[name] = f.GoName
		if k == Unseal && c.notNull && u&writes != 0 && isOwn(f.Role) {
			fail("field %s: column %q is NOT NULL, and unseal makes it NULL", f.GoName, name)
		}
		own := isOwn(f.Role)
		if own && f.Role != lethe.RoleToken && !c.sealed {
			fail("field %s: column %q is a %s, which cannot hold sealed values: make it bytea or text", f.GoName, name, c.sqlTyp)
			continue
		}
		l.columns = append(l.columns, column{name: quote(name), sqlTyp: c.sqlTyp, form: c.form, field: f, use: u, own: own})
	}
	for name := range l.Columns {
		if !goNames[name] {
			fail("Table.Columns: %s has no tagged field %q", d.Type, name)
		}
	}
	if !k.possible(&d) {
		fail("%s has nothing to %s: %s", d.Type, k, k.needs())
	}
}

func isOwn(r lethe.Role) bool {
	return r == lethe.RoleKeys || r == lethe.RoleSecret || r == lethe.RoleIndex || r == lethe.RoleToken
}
