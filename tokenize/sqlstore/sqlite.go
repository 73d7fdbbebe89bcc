package sqlstore

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/lethe-go/lethe/internal/sqlopen"
)

type sqlite struct{ *sqlopen.SQLite }

// table passes all rows as one JSON array of arrays, blobs in hexadecimal.
func (*sqlite) table(first int, columns []column) (string, []any) {
	n := 0
	var selected []string
	for i, c := range columns {
		value := fmt.Sprintf("value ->> %d", i)
		if c.blobs != nil {
			value = "unhex(" + value + ")"
		}
		selected = append(selected, value+" AS "+c.name)
		n = max(n, len(c.texts), len(c.numbers), len(c.blobs))
	}
	rows := make([][]any, n)
	for i := range rows {
		for _, c := range columns {
			switch {
			case c.numbers != nil:
				rows[i] = append(rows[i], c.numbers[i])
			case c.blobs != nil && c.blobs[i] == nil:
				rows[i] = append(rows[i], nil)
			case c.blobs != nil:
				rows[i] = append(rows[i], hex.EncodeToString(c.blobs[i]))
			default:
				rows[i] = append(rows[i], c.texts[i])
			}
		}
	}
	text, _ := json.Marshal(rows) //nolint:errchkjson // strings and integers always encode
	return fmt.Sprintf("(SELECT %s FROM json_each($%d)) AS given", strings.Join(selected, ", "), first), []any{string(text)}
}

func (d *sqlite) single(ctx context.Context, fn func(q querier) error) error { return d.Write(ctx, fn) }
