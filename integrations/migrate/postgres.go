package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// lookPostgres reads the catalogue.
func (l *layout) lookPostgres(ctx context.Context) (*found, error) {
	var kind string
	err := l.DB.QueryRowContext(ctx, `SELECT relkind::text FROM pg_catalog.pg_class WHERE oid = to_regclass($1)`, l.name).Scan(&kind)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, fmt.Errorf("migrate: there is no table %q, or this user does not see it", l.Name)
	case err != nil:
		return nil, fmt.Errorf("migrate: table %q: %w", l.Name, err)
	case kind != "r" && kind != "p":
		return nil, fmt.Errorf("migrate: %q is not a table", l.Name)
	}
	out := &found{columns: map[string]foundColumn{}}
	rows, err := l.DB.QueryContext(ctx, `
		WITH RECURSIVE base(id, oid, typbasetype) AS (
			SELECT t.oid, t.oid AS of, typbasetype FROM pg_catalog.pg_type t
			UNION ALL SELECT b.id, t.oid, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype
		)
		SELECT a.attname, format_type(t.oid, -1), format_type(t.oid, NULL), a.attnotnull
		FROM pg_catalog.pg_attribute a JOIN base t ON t.id = a.atttypid AND t.typbasetype = 0
		WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`, l.name)
	if err != nil {
		return nil, fmt.Errorf("migrate: table %q: %w", l.Name, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name, base string
		var c foundColumn
		if err := rows.Scan(&name, &c.sqlTyp, &base, &c.notNull); err != nil {
			return nil, err
		}
		switch base {
		case "bytea":
			c.form, c.sealed = asBytes, true
		case "text", "character varying":
			c.sealed = true
		case "smallint", "integer", "bigint":
			c.form = asInt
		}
		out.columns[name] = c
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	indexes, err := l.DB.QueryContext(ctx, `
		SELECT i.indexrelid::bigint, a.attname
		FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])
		WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
		ORDER BY 1`, l.name)
	if err != nil {
		return nil, fmt.Errorf("migrate: table %q: %w", l.Name, err)
	}
	defer func() { _ = indexes.Close() }()
	last := int64(-1)
	for indexes.Next() {
		var id int64
		var name string
		if err := indexes.Scan(&id, &name); err != nil {
			return nil, err
		}
		if id != last {
			out.unique, last = append(out.unique, nil), id
		}
		out.unique[len(out.unique)-1] = append(out.unique[len(out.unique)-1], name)
	}
	return out, indexes.Err()
}

// pgOut is how a column is selected so that its exact value can be handed back.
func (c *column) pgOut(of string) string {
	if c.form == asText {
		return of + c.name + "::text"
	}
	return of + c.name
}

// pgExact is pgOut to be compared byte by byte, whatever the column's collation.
func (c *column) pgExact(of string) string {
	if c.form == asText {
		return c.pgOut(of) + ` COLLATE "C"`
	}
	return c.pgOut(of)
}

// pgArray is the type of an array of the column's values.
func (c *column) pgArray() string {
	switch c.form {
	case asBytes:
		return "bytea[]"
	case asInt:
		return "bigint[]"
	default:
		return "text[]"
	}
}

// pgIn casts what was handed over to the column's type, without its length and not
// to a domain: a cast to varchar(20) would cut a value off, which only the
// assignment refuses.
func (c *column) pgIn(expr string) string { return expr + "::" + c.sqlTyp }

// writes is how many columns a job writes.
func (l *layout) writes() (n int) {
	for i := range l.columns {
		if l.columns[i].use&writes != 0 {
			n++
		}
	}
	return n
}

// pgUpdate is the statement that writes a batch: one array per parameter, of the
// ordinals, the key columns, the guards and the columns to write, then the tenant. It
// returns the ordinals of the rows that were written.
//
// Rows that another transaction has locked are skipped, as if they had changed: the
// job never waits for a row, so no transaction of the service can be in a deadlock
// with it. A row that was locked passed all guards, and is found again by where it
// lies, which cannot change any more.
func (l *layout) pgUpdate() string {
	var arrays, names, match, set []string
	n := 0
	add := func(typ, name string) {
		n++
		arrays = append(arrays, "$"+strconv.Itoa(n)+"::"+typ)
		names = append(names, name)
	}
	add("bigint[]", "i")
	for i := range l.keys {
		c, name := &l.keys[i], "k"+strconv.Itoa(i)
		add(c.pgArray(), name)
		match = append(match, "r."+c.name+" = "+c.pgIn("v."+name))
	}
	for i := range l.columns {
		if c := &l.columns[i]; c.use&guards != 0 {
			name := "g" + strconv.Itoa(i)
			add(c.pgArray(), name)
			match = append(match, c.pgExact("r.")+" IS NOT DISTINCT FROM v."+name)
		}
	}
	if l.tenant != "" {
		match = append(match, l.tenantIs(n+l.writes()+1))
	}
	for i := range l.columns {
		if c := &l.columns[i]; c.use&writes != 0 {
			name := "w" + strconv.Itoa(i)
			add(c.pgArray(), name)
			set = append(set, c.name+" = "+c.pgIn("v."+name))
		}
	}
	lock := "NO KEY UPDATE"
	if l.unique {
		lock = "UPDATE" // which the update takes then, and would wait for
	}
	return "UPDATE " + l.name + " AS t SET " + strings.Join(set, ", ") +
		" FROM (SELECT r.tableoid AS lethe_rel, r.ctid AS lethe_at, v.* FROM unnest(" + strings.Join(arrays, ", ") + ") AS v(" + strings.Join(names, ", ") + ")" +
		" JOIN " + l.name + " AS r ON " + strings.Join(match, " AND ") + " FOR " + lock + " OF r SKIP LOCKED) AS v" +
		" WHERE t.ctid = v.lethe_at AND t.tableoid = v.lethe_rel RETURNING v.i"
}

// pgColumns is what is selected of a row, in the order readRow takes it.
func (l *layout) pgColumns() string {
	var out []string
	for i := range l.keys {
		out = append(out, l.keys[i].pgOut("r."))
	}
	for i := range l.columns {
		c := &l.columns[i]
		out = append(out, "r."+c.name)
		if c.use&guards != 0 && !c.own {
			out = append(out, c.pgOut("r."))
		}
	}
	return strings.Join(out, ", ")
}

// pgParam is a parameter for one value of a column.
func (c *column) pgParam(n int) string {
	typ := "text"
	if c.form != asText {
		typ = strings.TrimSuffix(c.pgArray(), "[]")
	}
	return c.pgIn("$" + strconv.Itoa(n) + "::" + typ)
}

// pgPage selects the next page: from is the keys after, if any, then those of the
// last row of the pass, then the tenant, then the limit.
func (l *layout) pgPage(after bool) string {
	var names []string
	for i := range l.keys {
		names = append(names, "r."+l.keys[i].name)
	}
	n := 0
	tuple := func() string {
		var out []string
		for i := range l.keys {
			n++
			out = append(out, l.keys[i].pgParam(n))
		}
		return "(" + strings.Join(out, ", ") + ")"
	}
	key := "(" + strings.Join(names, ", ") + ")"
	var where []string
	if after {
		where = append(where, key+" > "+tuple())
	}
	where = append(where, key+" <= "+tuple())
	if l.tenant != "" {
		n++
		where = append(where, l.tenantIs(n))
	}
	n++
	return "SELECT " + l.pgColumns() + " FROM " + l.name + " AS r WHERE " + strings.Join(where, " AND ") +
		" ORDER BY " + strings.Join(names, ", ") + " LIMIT $" + strconv.Itoa(n)
}

// pgAgain selects rows by their keys, one array per key column, then the tenant.
func (l *layout) pgAgain() string {
	var arrays, names, match []string
	for i := range l.keys {
		c, name := &l.keys[i], "k"+strconv.Itoa(i)
		arrays = append(arrays, "$"+strconv.Itoa(i+1)+"::"+c.pgArray())
		names = append(names, name)
		match = append(match, "r."+c.name+" = "+c.pgIn("v."+name))
	}
	if l.tenant != "" {
		match = append(match, l.tenantIs(len(l.keys)+1))
	}
	return "SELECT " + l.pgColumns() + " FROM unnest(" + strings.Join(arrays, ", ") + ") AS v(" + strings.Join(names, ", ") + ")" +
		" JOIN " + l.name + " AS r ON " + strings.Join(match, " AND ")
}
