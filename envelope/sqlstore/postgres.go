package sqlstore

import (
	"context"
	"strconv"
	"strings"

	"github.com/lethe-go/lethe/envelope"
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

// byName repeats the condition of the partial index that has the names of a tree and
// version: in constants, since a plan for any parameters could not use either.
func (*postgres) byName(tree envelope.TreeID, refVer uint32) string {
	if tree == 1 && refVer == 1 {
		return " AND tree = 1 AND ref_ver = 1"
	}
	return " AND (tree <> 1 OR ref_ver <> 1)"
}

func (*postgres) usual(v uint8) any {
	if v == 1 {
		return nil
	}
	return int64(v)
}

func (*postgres) srefOf(column string) string { return "uuid_send(" + column + ")" }

func (d *postgres) keysOf(tree envelope.TreeID, refVer uint32) string {
	key := "SELECT " + keyColumns + " FROM lethe_key WHERE tree = ? AND ref_ver = ? AND sref = want.sref" + d.byName(tree, refVer) + " OFFSET 0"
	page := "SELECT " + pageColumns + " FROM lethe_page WHERE tree = k.tree AND page = k.page OFFSET 0"
	return "unnest(?::uuid[]) AS want(sref) CROSS JOIN LATERAL (" + key + ") k LEFT JOIN LATERAL (" + page + ") p ON true"
}

func (*postgres) wipe(context.Context) {} // only VACUUM FULL and the end of the WAL archive do
