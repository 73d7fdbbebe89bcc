package sqlstore

import (
	"context"
	"strconv"
	"strings"

	"github.com/lethe-go/lethe/internal/sqlopen"
)

type postgres struct{ *sqlopen.Postgres }

func (*postgres) bind(query string) string {
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(query, "?") {
		if n > 0 {
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}

func (*postgres) inBlobs(values [][]byte) (string, any) { return "= ANY(?::bytea[])", values }
func (*postgres) inInts(values []int64) (string, any)   { return "= ANY(?::bigint[])", values }

func (*postgres) keysOf() string {
	return `unnest(?::bytea[]) AS want(sref)
		CROSS JOIN LATERAL (SELECT * FROM lethe_key WHERE tree = ? AND ref_ver = ? AND sref = want.sref OFFSET 0) k
		LEFT JOIN LATERAL (SELECT * FROM lethe_page WHERE tree = k.tree AND page = k.page OFFSET 0) p ON true`
}

func (*postgres) wipe(context.Context) {} // only VACUUM FULL and the end of the WAL archive do
