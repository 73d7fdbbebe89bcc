package sqlstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/lethe-go/lethe/internal/sqlopen"
)

type postgres struct{ *sqlopen.Postgres }

func (*postgres) table(first int, columns []column) (string, []any) {
	var arrays, names []string
	var args []any
	for i, c := range columns {
		kind, arg := "text", any(c.texts)
		switch {
		case c.numbers != nil:
			kind, arg = "bigint", c.numbers
		case c.blobs != nil:
			kind, arg = "bytea", c.blobs
		}
		arrays = append(arrays, fmt.Sprintf("$%d::%s[]", first+i, kind))
		names = append(names, c.name)
		args = append(args, arg)
	}
	return "unnest(" + strings.Join(arrays, ", ") + ") AS given(" + strings.Join(names, ", ") + ")", args
}

func (d *postgres) single(_ context.Context, fn func(q querier) error) error {
	return d.Retry(func() error { return fn(d.DB) })
}
