package migrate

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// lookSQLite reads the schema.
func (l *layout) lookSQLite(ctx context.Context) (*found, error) {
	schema, table := "main", l.Name
	if before, after, ok := strings.Cut(l.Name, "."); ok {
		schema, table = before, after
	}
	out := &found{columns: map[string]foundColumn{}}
	var primary []string
	rows, err := l.DB.QueryContext(ctx, `SELECT name, type, "notnull", pk FROM pragma_table_info(?1, ?2) ORDER BY pk`, table, schema)
	if err != nil {
		return nil, fmt.Errorf("migrate: table %q: %w", l.Name, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name, typ string
		var notNull bool
		var pk int
		if err := rows.Scan(&name, &typ, &notNull, &pk); err != nil {
			return nil, err
		}
		upper := strings.ToUpper(typ)
		c := foundColumn{sqlTyp: typ, form: asBytes, notNull: notNull, sealed: true}
		if strings.Contains(upper, "CHAR") || strings.Contains(upper, "CLOB") || strings.Contains(upper, "TEXT") {
			c.form = asText
		}
		if pk > 0 {
			primary = append(primary, name)
		}
		out.columns[name] = c
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(out.columns) == 0 {
		return nil, fmt.Errorf("migrate: there is no table %q", l.Name)
	}
	if len(primary) > 0 {
		out.unique = append(out.unique, primary)
	}
	indexes, err := l.DB.QueryContext(ctx, `
		SELECT l.name, coalesce(i.name, '') FROM pragma_index_list(?1, ?2) AS l, pragma_index_info(l.name, ?2) AS i
		WHERE l."unique" AND NOT l.partial ORDER BY 1`, table, schema)
	if err != nil {
		return nil, fmt.Errorf("migrate: table %q: %w", l.Name, err)
	}
	defer func() { _ = indexes.Close() }()
	last := ""
	for indexes.Next() {
		var index, name string
		if err := indexes.Scan(&index, &name); err != nil {
			return nil, err
		}
		if index != last {
			out.unique, last = append(out.unique, nil), index
		}
		out.unique[len(out.unique)-1] = append(out.unique[len(out.unique)-1], name)
	}
	if err := indexes.Err(); err != nil {
		return nil, err
	}
	return out, l.nullsSQLite(ctx, out)
}

// nullsSQLite marks the key columns that hold no NULL: SQLite allows it in most
// primary keys, for old times' sake.
func (l *layout) nullsSQLite(ctx context.Context, out *found) error {
	for _, name := range l.Key {
		c, ok := out.columns[name]
		if !ok || c.notNull {
			continue
		}
		var null bool
		if err := l.DB.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+l.name+" WHERE "+quote(name)+" IS NULL)").Scan(&null); err != nil {
			return fmt.Errorf("migrate: table %q: %w", l.Name, err)
		}
		c.notNull = !null
		out.columns[name] = c
	}
	return nil
}

// sqliteColumns is what is selected of a row, in the order readRow takes it. The
// plus hides a declared type from the driver, which would make a time of a date.
func (l *layout) sqliteColumns() string {
	var out []string
	for i := range l.keys {
		out = append(out, "+"+l.keys[i].name)
	}
	for i := range l.columns {
		c := &l.columns[i]
		out = append(out, c.name)
		if c.use&guards != 0 && !c.own {
			out = append(out, "+"+c.name)
		}
	}
	return strings.Join(out, ", ")
}

// sqlitePage is pgPage.
func (l *layout) sqlitePage(after bool) string {
	var names []string
	for i := range l.keys {
		names = append(names, l.keys[i].name)
	}
	key := strings.Join(names, ", ")
	n := 0
	tuple := func() string {
		var out []string
		for range l.keys {
			n++
			out = append(out, "?"+strconv.Itoa(n))
		}
		return "(" + strings.Join(out, ", ") + ")"
	}
	var where []string
	if after {
		where = append(where, "("+key+") > "+tuple())
	}
	where = append(where, "("+key+") <= "+tuple())
	if l.tenant != "" {
		n++
		where = append(where, l.tenantIs(n))
	}
	n++
	return "SELECT " + l.sqliteColumns() + " FROM " + l.name + " WHERE " + strings.Join(where, " AND ") + " ORDER BY " + key + " LIMIT ?" + strconv.Itoa(n)
}

// sqliteAgain selects one row by its key.
func (l *layout) sqliteAgain() string {
	match := []string{l.sqliteMatch(1)}
	if l.tenant != "" {
		match = append(match, l.tenantIs(len(l.keys)+1))
	}
	return "SELECT " + l.sqliteColumns() + " FROM " + l.name + whereAll(match)
}

// sqliteMatch compares the key with parameters from n on.
func (l *layout) sqliteMatch(n int) string {
	var out []string
	for i := range l.keys {
		out = append(out, l.keys[i].name+" = ?"+strconv.Itoa(n+i))
	}
	return strings.Join(out, " AND ")
}

// sqliteUpdate writes one row: parameters are the columns to write, the key and
// the guards, then the tenant.
func (l *layout) sqliteUpdate() string {
	var set, match []string
	n := 0
	for i := range l.columns {
		if c := &l.columns[i]; c.use&writes != 0 {
			n++
			set = append(set, c.name+" = ?"+strconv.Itoa(n))
		}
	}
	match = append(match, l.sqliteMatch(n+1))
	n += len(l.keys)
	for i := range l.columns {
		if c := &l.columns[i]; c.use&guards != 0 {
			n++
			match = append(match, c.name+" COLLATE BINARY IS ?"+strconv.Itoa(n))
		}
	}
	if l.tenant != "" {
		match = append(match, l.tenantIs(n+1))
	}
	return "UPDATE " + l.name + " SET " + strings.Join(set, ", ") + " WHERE " + strings.Join(match, " AND ")
}
