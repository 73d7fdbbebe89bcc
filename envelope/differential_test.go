package envelope

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope/internal/wire"
)

// nodeOutcomes asks the reader of testdata/reader, in one process, what comes of scenarios.
func nodeOutcomes(t *testing.T, scenarios []any) [][]string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed: THE SECOND READER OF THE FORMAT WAS NOT COMPARED; install nodejs 20 or newer")
	}
	var in bytes.Buffer
	enc := json.NewEncoder(&in)
	for _, s := range scenarios {
		require.NoError(t, enc.Encode(s))
	}
	cmd := exec.CommandContext(t.Context(), node, "testdata/reader/outcomes.mjs")
	cmd.Stdin, cmd.Stderr = &in, os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	var all [][]string
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var o []string
		require.NoError(t, json.Unmarshal(lines.Bytes(), &o))
		all = append(all, o)
	}
	require.NoError(t, lines.Err())
	require.Len(t, all, len(scenarios))
	return all
}

// opened is how an outcome names a cell that opens.
func opened(codec uint8, plain []byte) string { return fmt.Sprintf("%d:%x", codec, plain) }

// caseTB runs what a case leaves to clean up when the case is over.
type caseTB struct {
	testing.TB
	done []func()
}

func (c *caseTB) Cleanup(f func()) { c.done = append(c.done, f) }

func (c *caseTB) end() {
	for _, f := range c.done {
		f()
	}
}

// outcomes opens a record with production and names the class of each failure.
func (v *recordVector) outcomes(t testing.TB) []string {
	t.Helper()
	c := &caseTB{TB: t}
	defer c.end()
	// A key row that is dead is taken for absent when it is loaded.
	live := slices.DeleteFunc(v.refKeys(), func(k refKey) bool { return v.dead(k.kid) })
	k := vectorRing(c, v.Store, live)
	for _, kid := range v.Dead {
		k.led.addDead([]KeyID{KeyID(kid)})
	}
	recs := []Record{v.production()}
	require.NoError(t, k.OpenRecords(t.Context(), recs))
	var h wire.Header
	parsed := wire.ParseHeader(v.Header, &h) == nil
	out := make([]string, len(v.Cells))
	for i, cell := range recs[0].Cells {
		switch {
		case cell.Err == nil:
			out[i] = opened(cell.Codec, cell.Plain)
		case errors.Is(cell.Err, ErrForgotten):
			out[i] = "forgotten"
		case errors.Is(cell.Err, ErrKeyMissing):
			out[i] = "key-missing"
		case !errors.Is(cell.Err, ErrDecrypt):
			t.Fatalf("an error of no class: %v", cell.Err)
		default:
			out[i] = "decrypt"
			// The header is parsed before a key is looked for, a cell after its scope was opened.
			_, _, err := wire.ParseCell(cell.Sealed, h.CellSuite)
			if !parsed || err != nil && recs[0].Scopes[cell.Scope].Err == nil {
				out[i] = "malformed"
			}
		}
	}
	return out
}

// damage changes a scenario in one place, or splices in what another one has.
type damage struct{ caseSource }

func (d damage) oneOf(names ...string) string { return names[d.n(len(names))] }

func (d damage) bytes2(b, other []byte) hexBytes {
	b = bytes.Clone(b)
	at := 0
	if len(b) > 0 {
		if at = d.n(len(b)); d.n(3) == 0 { // where the structure is
			at = d.n(min(len(b), 20))
		}
	}
	switch d.n(9) {
	case 0, 1, 2:
		if len(b) > 0 {
			b[at] ^= 1 << d.n(8)
		}
	case 3:
		if len(b) > 0 {
			b[at] = []byte{0, 1, 2, 3, 0x0f, 0x10, 0x11, 0x12, 0x1f, 0x7f, 0x80, 0xff}[d.n(12)]
		}
	case 4:
		b = b[:at]
	case 5:
		b = append(b, d.bytes(1+d.n(30))...)
	case 6:
		b = slices.Insert(b, at, d.bytes(1+d.n(3))...)
	case 7: // the front of one, the back of the other
		if len(other) > 0 {
			b = append(b[:at], other[min(at, len(other)-1):]...)
		}
	case 8:
		b = slices.Delete(b, at, min(len(b), at+1+d.n(3)))
	}
	return b
}

// scopes rearranges the scopes of a header that parses, so that it may parse again.
func (d damage) scopes(header, other []byte) hexBytes {
	var h, o wire.Header
	if wire.ParseHeader(bytes.Clone(header), &h) != nil {
		return d.bytes2(header, other)
	}
	foreign := h.Scopes
	if wire.ParseHeader(bytes.Clone(other), &o) == nil {
		foreign = o.Scopes
	}
	i, j := d.n(len(h.Scopes)), d.n(len(foreign))
	switch d.n(8) {
	case 0:
		h.Scopes = slices.Delete(h.Scopes, i, i+1)
	case 1:
		h.Scopes = slices.Insert(h.Scopes, i, foreign[j])
	case 2:
		h.Scopes[i] = foreign[j]
	case 3:
		h.Scopes[i].Commit = foreign[j].Commit
	case 4:
		h.Scopes[i].KID = foreign[j].KID
	case 5:
		h.Scopes[i].Tag = scopeTag(d.oneOf("", "buyer", "seller"), d.oneOf("", "billing", "research"))
	case 6:
		h.Flags ^= 1 << d.n(4)
	case 7:
		h.CellSuite = byte(d.n(4))
	}
	if d.n(2) == 0 {
		slices.SortFunc(h.Scopes, func(a, b wire.Scope) int { return int(a.Tag) - int(b.Tag) })
	}
	return h.Append(nil)
}

func (d damage) record(v, other *recordVector) {
	names := []string{"ada", "customer", "acme", "Ada", "e\u0301", "\u00e9", "a\u200b", "\u65e5\u672c", "a\x00b", strings.Repeat("n", 1024)}
	name := names[d.n(len(names))]
	scope := &v.Scopes[d.n(len(v.Scopes))]
	cell := &v.Cells[d.n(len(v.Cells))]
	keys := func(change func(k *vectorKey)) { // all rows of one kid: it names one key
		if len(v.Keys) > 0 {
			kid := v.Keys[d.n(len(v.Keys))].KID
			for i := range v.Keys {
				if bytes.Equal(v.Keys[i].KID, kid) {
					change(&v.Keys[i])
				}
			}
		}
	}
	switch d.n(16) {
	case 0, 1, 2:
		v.Header = d.bytes2(v.Header, other.Header)
	case 3, 4:
		v.Header = d.scopes(v.Header, other.Header)
	case 5, 6:
		cell.Sealed = d.bytes2(cell.Sealed, other.Cells[0].Sealed)
	case 7:
		cell.Sealed = v.Cells[d.n(len(v.Cells))].Sealed
	case 8:
		v.RowID = []*string{nil, &name, other.RowID}[d.n(3)]
	case 9:
		if len(v.Scopes) == 1 { // two scopes with one tag are the caller's fault
			scope.Group, scope.Purpose = d.oneOf("", "buyer", name), d.oneOf("", "billing", name)
		}
	case 10:
		switch d.n(3) {
		case 0:
			scope.Tenant = d.oneOf("", "acme", name)
		case 1:
			scope.Kind = d.oneOf("customer", "user", "\u043a\u043b\u0438\u0435\u043d\u0442")
		case 2:
			scope.ID = name
		}
	case 11:
		v.Record, cell.Field = d.oneOf(v.Record, name), d.oneOf(cell.Field, name)
	case 12:
		v.Store = d.bytes2(v.Store, v.Store)
		v.Store = append(v.Store, make([]byte, 16)...)[:16]
	case 13:
		keys(func(k *vectorKey) { k.Suite = 3 - k.Suite })
	case 14:
		keys(func(k *vectorKey) { k.Key = append(d.bytes2(k.Key, k.Key), make([]byte, 32)...)[:32] })
	case 15:
		if len(v.Keys) > 0 {
			i := d.n(len(v.Keys))
			if d.n(2) == 0 {
				v.Dead = append(v.Dead, v.Keys[i].KID)
			} else {
				v.Keys = slices.Delete(v.Keys, i, i+1)
			}
		}
	}
}

// clone copies a scenario by way of JSON, without what the vector says of it.
func clone[T any](t testing.TB, v *T) *T {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	out := new(T)
	require.NoError(t, json.Unmarshal(data, out))
	return out
}

// Two readers in two languages say the same of records damaged at random.
func TestDifferentialRecords(t *testing.T) {
	needsSuite2(t)
	t.Parallel()
	const cases = 20_000
	all := recordVectors(t)
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(name string) bool { return len(all[name].Cells[0].Sealed) > 4096 })
	good := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.Contains(name, "_ok_") })
	d := damage{caseSource{newVectorSource("differential records")}}
	scenarios := make([]any, 0, cases)
	want := make([][]string, 0, cases)
	classes := map[string]int{}
	for range cases {
		from := [][]string{names, good}[d.n(2)]
		v, other := clone(t, all[from[d.n(len(from))]]), all[names[d.n(len(names))]]
		v.RD, v.Steps = nil, nil
		for range 1 + d.n(3) {
			d.record(v, other)
		}
		scenarios, want = append(scenarios, v), append(want, v.outcomes(t))
		for _, o := range want[len(want)-1] {
			if strings.Contains(o, ":") {
				o = "opened"
			}
			classes[o]++
		}
	}
	got := nodeOutcomes(t, scenarios)
	for i := range scenarios {
		if !slices.Equal(want[i], got[i]) {
			data, err := json.Marshal(scenarios[i])
			t.Fatalf("case %d: this package says %q, the second reader %q, of\n%s %v", i, want[i], got[i], data, err)
		}
	}
	t.Logf("%d records: %v", cases, classes)
	for _, class := range []string{"opened", "malformed", "decrypt", "key-missing", "forgotten"} {
		require.Greater(t, classes[class], 200, class)
	}
	require.Len(t, classes, 5)
}

// storeCase serves a damaged storeVector, and takes what a start may write.
type storeCase struct{ vectorStore }

func (s storeCase) Advance(_ context.Context, _, seq uint64, head []byte) error {
	s.v.Applied, s.v.Head = seq, head
	return nil
}

func (s storeCase) Forget(_ context.Context, f Forgetting) ([]KeyRow, error) {
	s.v.Applied, s.v.Head = f.Seq, f.Head
	return nil, nil
}

func (s storeCase) Readmit(_ context.Context, r Readmission) error {
	s.v.Applied, s.v.Head = r.Seq, r.Head
	return nil
}

type ledgerCase struct{ vectorLedger }

func (l ledgerCase) Append(_ context.Context, e LedgerEntry) error {
	l.v.Ledger = append(l.v.Ledger, vectorEntry{
		Seq: e.Seq, Prev: e.Prev, Time: e.Time, Store: e.Store[:], Kind: string(e.Kind), Tree: uint32(e.Tree), Epoch: e.Epoch, RefVer: e.RefVer,
		SRef: e.SRef[:], PID: uint32(e.PID), KMSHandle: e.KMSHandle, RootCommit: e.RootCommit, MAC: e.MAC,
	})
	return nil
}

// outcomes opens a key store, its record and an index key with production.
// A key row that was changed fails the cells of its scope, with a reason of its own.
func (v *storeVector) outcomes(t testing.TB) []string {
	t.Helper()
	v = clone(t, v)
	k, err := NewKeyring(t.Context(), storeCase{vectorStore{v: v}}, vectorKMS{v.KEK, v.Roots[len(v.Roots)-1].KMSURI}, Options{Ledger: ledgerCase{vectorLedger{v: v}}})
	if err != nil {
		return []string{"refused"}
	}
	defer k.Close()
	out := make([]string, len(v.Record.Cells)+1)
	recs := []Record{v.Record.production()}
	err = k.OpenRecords(t.Context(), recs)
	for i, c := range recs[0].Cells {
		switch {
		case err != nil:
			out[i] = "refused"
		case c.Err == nil:
			out[i] = opened(c.Codec, c.Plain)
		case c.Err == ErrForgotten: //nolint:errorlint // with a reason it is damage of the store
			out[i] = "forgotten"
		case c.Err == ErrKeyMissing: //nolint:errorlint // see above
			out[i] = "key-missing"
		case c.Err == ErrDecrypt: //nolint:errorlint // see above
			out[i] = "decrypt"
		default:
			out[i] = "refused"
		}
	}
	keys, err := k.IndexKeys(t.Context(), v.Index.Tenant, v.Index.Record, v.Index.Index, false)
	switch last := len(out) - 1; {
	case err != nil:
		out[last] = "refused"
	case len(keys) == 0:
		out[last] = "key-missing"
	default:
		out[last] = hex.EncodeToString(keys[0].Append(nil, v.Index.Normaliser, v.Index.Value, v.Index.Bits))
	}
	return out
}

// number moves an integer a little, or to an edge.
func number[T uint8 | uint32 | uint64 | int64](d damage, p *T) {
	switch d.n(4) {
	case 0:
		*p++
	case 1:
		if *p > 0 {
			*p--
		}
	case 2:
		*p = T(d.n(5))
	case 3:
		*p ^= 1 << d.n(8)
	}
}

func (d damage) keyRow(v *storeVector) {
	k := &v.Keys[d.n(len(v.Keys))]
	from := &v.Keys[d.n(len(v.Keys))]
	switch d.n(18) {
	case 0:
		k.KID = d.bytes2(k.KID, from.KID)
		k.KID = append(k.KID, make([]byte, 12)...)[:12]
	case 1:
		k.KID = from.KID
	case 2:
		number(d, &k.Tree)
	case 3:
		k.Page = v.Pages[d.n(len(v.Pages))].Page
	case 4:
		number(d, &k.PageGen)
	case 5:
		number(d, &k.Kind)
	case 6:
		number(d, &k.Suite)
	case 7:
		number(d, &k.RefVer)
	case 8:
		k.SRef = from.SRef
	case 9, 10:
		number(d, &k.PID)
	case 11:
		number(d, &k.Seq)
	case 12:
		number(d, &k.Created)
	case 13:
		number(d, &k.SealUntil)
	case 14:
		number(d, &k.Expires)
	case 15:
		k.Wrapped = d.bytes2(k.Wrapped, from.Wrapped)
	case 16:
		*k = *from
	case 17:
		v.Keys = slices.DeleteFunc(v.Keys, func(row vectorKeyRow) bool { return bytes.Equal(row.KID, k.KID) })
	}
}

func (d damage) pageRow(v *storeVector) {
	p, from := &v.Pages[d.n(len(v.Pages))], &v.Pages[d.n(len(v.Pages))]
	switch d.n(10) {
	case 0:
		number(d, &p.Tree)
	case 1:
		number(d, &p.Page)
	case 2:
		p.Parent = from.Page
	case 3:
		p.Parent = from.Parent
	case 4:
		number(d, &p.ParentGen)
	case 5:
		number(d, &p.Level)
	case 6:
		number(d, &p.Gen)
	case 7:
		number(d, &p.Suite)
	case 8:
		p.Wrapped = d.bytes2(p.Wrapped, from.Wrapped)
	case 9:
		*p = *from
	}
}

func (d damage) rootRow(v *storeVector) {
	r, from := &v.Roots[d.n(len(v.Roots))], &v.Roots[d.n(len(v.Roots))]
	switch d.n(9) {
	case 0:
		number(d, &r.Tree)
	case 1:
		number(d, &r.Epoch)
	case 2:
		r.KMSURI = from.KMSURI
	case 3:
		number(d, &r.Suite)
	case 4:
		number(d, &r.State)
	case 5:
		r.Wrapped = d.bytes2(r.Wrapped, from.Wrapped)
	case 6:
		r.Commit = d.bytes2(r.Commit, from.Commit)
	case 7:
		number(d, &v.Epoch)
	case 8:
		v.Roots = append(v.Roots, *from)
	}
}

// entries changes the ledger, and mostly authenticates it again: what is left
// to refuse are the rules of its content.
func (d damage) entries(v *storeVector) {
	at := d.n(len(v.Ledger))
	e, from := &v.Ledger[at], v.Ledger[d.n(len(v.Ledger))]
	switch d.n(14) {
	case 0:
		e.Kind = d.oneOf("init", "forget", "forget-more", "readmit", "root-begin", "root-switch", "Init", "", "root-destroy")
	case 1, 2:
		number(d, &e.Epoch)
	case 3:
		e.RootCommit = d.bytes2(e.RootCommit, from.RootCommit)
	case 4:
		e.Store = append(d.bytes2(e.Store, e.Store), make([]byte, 16)...)[:16]
	case 5:
		number(d, &e.Seq)
	case 6:
		e.Prev = d.bytes2(e.Prev, from.Prev)
	case 7:
		v.Ledger = slices.Delete(v.Ledger, at, at+1)
	case 8:
		v.Ledger = slices.Insert(v.Ledger, at, from)
	case 9:
		v.Ledger[at] = from
	case 10:
		v.Ledger = v.Ledger[:at]
	case 11: // the keys of the record, or any other, are forgotten
		e.Kind, e.Epoch, e.RootCommit = "forget", v.Epoch, nil
		k := v.Keys[d.n(len(v.Keys))]
		e.RefVer, e.SRef, e.PID, e.KIDs, e.Pages = 1, k.SRef, k.PID, []hexBytes{k.KID}, []vectorPgID{vectorPgID(k.Page)}
	case 12:
		e.MAC = d.bytes2(e.MAC, from.MAC)
		return
	case 13:
		e.PID, e.Time, e.KMSHandle = d.u32(), int64(d.n(1<<30)), d.oneOf("", "elsewhere")
	}
	chain, mac := d.n(4) > 0, d.n(8) > 0
	prev := make([]byte, 32)
	for i := range v.Ledger {
		e := &v.Ledger[i]
		if chain {
			e.Seq, e.Prev = uint64(i+1), prev
		}
		if e.Canonical = refLedgerBytes(e); mac {
			e.MAC = refMAC(v.key(KindLedger), e.Canonical)
		}
		e.Hash = refHash(e.Canonical, e.MAC)
		prev = e.Hash
	}
	switch n := len(v.Ledger); {
	case n > 0 && d.n(4) > 0:
		v.Applied, v.Head = uint64(n), prev
	case n > 0:
		at := d.n(n)
		v.Applied, v.Head = v.Ledger[at].Seq, v.Ledger[at].Hash
	}
}

func (d damage) store(v *storeVector) {
	switch d.n(12) {
	case 0, 1, 2:
		d.keyRow(v)
	case 3, 4:
		d.pageRow(v)
	case 5, 6:
		d.rootRow(v)
	case 7, 8, 9:
		d.entries(v)
	case 10:
		switch d.n(4) {
		case 0:
			number(d, &v.Applied)
		case 1:
			v.Head = d.bytes2(v.Head, v.Ledger[0].Hash)
		case 2:
			v.Store[d.n(16)] ^= 1
		case 3:
			v.KEK[d.n(32)] ^= 1
		}
	case 11:
		p := &v.Purposes[d.n(len(v.Purposes))]
		p.Name = d.oneOf("", "billing", "marketing", "other")
	}
}

// The two say the same of damaged key stores and ledgers.
func TestDifferentialStores(t *testing.T) {
	needsSuite2(t)
	t.Parallel()
	const cases = 2000
	var bases []*storeVector
	for _, path := range storeVectors(t) {
		v := readVector[storeVector](t, path)
		v.Record.RD, v.Record.Steps = nil, nil
		bases = append(bases, v)
	}
	d := damage{caseSource{newVectorSource("differential stores")}}
	scenarios := make([]any, 0, cases)
	want := make([][]string, 0, cases)
	served := 0
	for range cases {
		v := clone(t, bases[d.n(len(bases))])
		for range 1 + d.n(2) {
			if len(v.Ledger) > 0 && len(v.Keys) > 0 {
				d.store(v)
			}
		}
		scenarios, want = append(scenarios, v), append(want, v.outcomes(t))
		if !slices.Contains(want[len(want)-1], "refused") {
			served++
		}
	}
	got := nodeOutcomes(t, scenarios)
	for i := range scenarios {
		// One row that was changed fails a whole call here, and one cell there.
		bothRefuse := want[i][0] == "refused" && slices.Contains(got[i], "refused")
		if !bothRefuse && !slices.Equal(want[i], got[i]) {
			data, err := json.Marshal(scenarios[i])
			t.Fatalf("case %d: this package says %q, the second reader %q, of\n%s %v", i, want[i], got[i], data, err)
		}
	}
	t.Logf("%d key stores, %d served", cases, served)
	require.Greater(t, served, cases/10)
	require.Less(t, served, cases/2)
}
