package sqlstore

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/internal/sqlopen"
)

type sqlite struct{ *sqlopen.SQLite }

func (*sqlite) bind(query string) string { return query }

func (*sqlite) inBlobs(values [][]byte) (string, any) {
	texts := make([]string, len(values))
	for i := range values {
		texts[i] = hex.EncodeToString(values[i])
	}
	list, _ := json.Marshal(texts) //nolint:errchkjson // strings always encode
	return "IN (SELECT unhex(value) FROM json_each(?))", string(list)
}

func (*sqlite) inInts(values []int64) (string, any) {
	list, _ := json.Marshal(values) //nolint:errchkjson // integers always encode
	return "IN (SELECT value FROM json_each(?))", string(list)
}

func (*sqlite) byName(envelope.TreeID, uint32) string { return "" }
func (*sqlite) usual(v uint8) any                     { return int64(v) } // 1 takes no room
func (*sqlite) srefOf(column string) string           { return column }

func (*sqlite) keysOf(envelope.TreeID, uint32) string {
	return `json_each(?) AS want
		CROSS JOIN lethe_key k ON k.tree = ? AND k.ref_ver = ? AND k.sref = unhex(want.value)
		LEFT JOIN lethe_page p ON p.tree = k.tree AND p.page = k.page`
}

// wipe empties the write-ahead log, which still has the pages as they were. A
// reader in the way delays that until the next one.
func (d *sqlite) wipe(ctx context.Context) {
	// The write is committed: a caller that left must not keep its traces.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wipeTimeout)
	defer cancel()
	conn, err := d.DB.Conn(ctx)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	var patience int
	if err := conn.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&patience); err != nil {
		return
	}
	restore := "PRAGMA busy_timeout = " + strconv.Itoa(patience)
	for _, pragma := range []string{"PRAGMA busy_timeout = 200", "PRAGMA wal_checkpoint(TRUNCATE)", restore} {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), pragma)
	}
}

const wipeTimeout = 2 * time.Second
