package sqlstore

import (
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/lethe-go/lethe/envelope"
)

// Columns in the order the functions below scan and list them.
const (
	rootColumns = "tree, epoch, wrap_no, kms_uri, kms_handle, semantics, suite, wrapped, root_commit, state, created, destroy_after, destroyed_at"
	pageColumns = "tree, page, parent, parent_gen, level, gen, suite, wrapped, fill, dirty_epoch"
	keyColumns  = "kid, tree, page, page_gen, kind, suite, ref_ver, sref, pid, seq, wrapped, state, created, seal_until, expires"
)

// keyFields is keyColumns as keyScan scans them, of a table or alias such as "k.".
func (s *Store) keyFields(of string) string {
	all := of + strings.ReplaceAll(keyColumns, ", ", ", "+of)
	return strings.Replace(all, of+"sref", s.d.srefOf(of+"sref"), 1)
}

// number is how lethe_key keeps a number of 32 bits: PostgreSQL has no unsigned ones.
func number(v uint32) int64 { return int64(int32(v)) } // wraps around, and back again in keyScan.row

// limit is how lethe_key keeps an instant, of which 0 is none.
func limit(seconds int64) any {
	if seconds == 0 {
		return nil
	}
	return seconds
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromSeconds(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}

func damaged(what string) error {
	return fmt.Errorf("a row has a %s of the wrong size: the tables are damaged", what)
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// nullable is b, or NULL for nil.
func nullable(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

func rootArgs(r *envelope.RootRow) []any {
	return []any{
		int64(r.Tree), int64(r.Epoch), int64(r.WrapNo), r.KMSURI, r.KMSHandle, r.Semantics, int64(r.Suite),
		notNil(r.Wrapped), notNil(r.Commit), int64(r.State), seconds(r.Created), seconds(r.DestroyAfter), seconds(r.DestroyedAt),
	}
}

func pageArgs(p *envelope.PageRow) []any {
	return []any{
		int64(p.Tree), int64(p.Page), int64(p.Parent), int64(p.ParentGen), int64(p.Level), int64(p.Gen), int64(p.Suite),
		notNil(p.Wrapped), int64(p.Fill), int64(p.DirtyEpoch),
	}
}

func (s *Store) keyArgs(k *envelope.KeyRow) []any {
	return []any{
		k.KID[:], int64(k.Tree), int64(k.Page), int64(k.PageGen), s.d.usual(uint8(k.Kind)), s.d.usual(uint8(k.Suite)), number(k.RefVer),
		k.SRef[:], number(uint32(k.PID)), number(k.Seq), notNil(k.Wrapped), s.d.usual(k.State), k.Created, limit(k.SealUntil), limit(k.Expires),
	}
}

// keyScan holds a key row while it is scanned.
type keyScan struct {
	envelope.KeyRow
	kid, sref          sql.RawBytes // copied before the next row
	refVer, pid, seq   int32        // a larger number fails, rather than turning into another
	kind               sql.Null[envelope.KeyKind]
	suite              sql.Null[envelope.Suite]
	state              sql.Null[uint8]
	sealUntil, expires sql.NullInt64
}

func (k *keyScan) dest() []any {
	return []any{
		&k.kid, &k.Tree, &k.Page, &k.PageGen, &k.kind, &k.suite, &k.refVer, &k.sref, &k.pid, &k.seq, &k.Wrapped,
		&k.state, &k.Created, &k.sealUntil, &k.expires,
	}
}

func (k *keyScan) row() (envelope.KeyRow, error) {
	if copy(k.KID[:], k.kid) != len(k.kid) || len(k.kid) != len(k.KID) {
		return envelope.KeyRow{}, damaged("kid")
	}
	if copy(k.SRef[:], k.sref) != len(k.sref) || len(k.sref) != len(k.SRef) {
		return envelope.KeyRow{}, damaged("sref")
	}
	k.RefVer, k.PID, k.Seq = uint32(k.refVer), envelope.PID(k.pid), uint32(k.seq)
	k.Kind, k.Suite, k.State = orUsual(k.kind), orUsual(k.suite), orUsual(k.state)
	k.SealUntil, k.Expires = k.sealUntil.Int64, k.expires.Int64
	return k.KeyRow, nil
}

// orUsual is the value of a column of lethe_key in which NULL stands for 1.
func orUsual[T ~uint8](v sql.Null[T]) T {
	if !v.Valid {
		return 1
	}
	return v.V
}

func pageDest(p *envelope.PageRow) []any {
	return []any{&p.Tree, &p.Page, &p.Parent, &p.ParentGen, &p.Level, &p.Gen, &p.Suite, &p.Wrapped, &p.Fill, &p.DirtyEpoch}
}

func scanPages(out *[]envelope.PageRow) func(*sql.Rows) error {
	return func(rows *sql.Rows) error {
		var p envelope.PageRow
		if err := rows.Scan(pageDest(&p)...); err != nil {
			return err
		}
		*out = append(*out, p)
		return nil
	}
}

func scanKeys(out *[]envelope.KeyRow) func(*sql.Rows) error {
	return func(rows *sql.Rows) error {
		var k keyScan
		if err := rows.Scan(k.dest()...); err != nil {
			return err
		}
		row, err := k.row()
		*out = append(*out, row)
		return err
	}
}

// optionalPage scans the right side of an outer join.
type optionalPage struct {
	tree           sql.Null[envelope.TreeID]
	page, parent   sql.Null[envelope.PageID]
	parentGen, gen sql.Null[uint64]
	level          sql.Null[uint8]
	suite          sql.Null[envelope.Suite]
	wrapped        sql.RawBytes // valid until the next row
	fill           sql.Null[uint32]
	dirtyEpoch     sql.Null[uint64]
}

func (o *optionalPage) dest() []any {
	return []any{&o.tree, &o.page, &o.parent, &o.parentGen, &o.level, &o.gen, &o.suite, &o.wrapped, &o.fill, &o.dirtyEpoch}
}

func (o *optionalPage) row() (envelope.PageRow, bool) {
	return envelope.PageRow{
		Tree: o.tree.V, Page: o.page.V, Parent: o.parent.V, ParentGen: o.parentGen.V, Level: o.level.V,
		Gen: o.gen.V, Suite: o.suite.V, Wrapped: o.wrapped, Fill: o.fill.V, DirtyEpoch: o.dirtyEpoch.V,
	}, o.page.Valid
}

// chunks calls f with parts of at most n elements, once with none for none.
func chunks[T any](all []T, n int, f func(part []T) error) error {
	for len(all) > 0 {
		part := all[:min(n, len(all))]
		if err := f(part); err != nil {
			return err
		}
		all = all[len(part):]
	}
	return nil
}

func blobs[T ~[12]byte | ~[16]byte](ids []T) [][]byte {
	seen := make(map[T]bool, len(ids))
	out := make([][]byte, 0, len(ids))
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		switch v := any(id).(type) {
		case envelope.KeyID:
			out = append(out, v[:])
		case envelope.SRef:
			out = append(out, v[:])
		}
	}
	return out
}
