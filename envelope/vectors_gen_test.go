package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var writeVectors = flag.Bool("write-vectors", false, "write the vectors that do not exist yet; those that do are never touched")

// A scenario makes one vector with the independent writer of FORMAT.md, from
// bytes that depend on its name alone.
type scenario struct {
	name string
	make func(g *gen) any
}

// gen holds what a scenario starts from.
type gen struct {
	testing.TB
	vectorSource
	suite byte
	store []byte
}

// owner draws a subject key for a scope.
func (g *gen) owner(s vectorScope, suite byte) vectorKey {
	return vectorKey{s.Tenant, s.Kind, s.ID, s.Purpose, g.bytes(12), suite, g.bytes(32)}
}

var ada = vectorScope{Kind: "customer", ID: "ada"}

// sealSpec is a record to be written.
type sealSpec struct {
	about  string
	scopes []vectorScope
	keys   []vectorKey // by scope; drawn if nil
	rowID  string      // bound unless empty
	deks   map[int][]byte
	cells  []vectorCell // Plain, Codec, Field and Scope set; one if nil
}

func (g *gen) seal(s sealSpec) *recordVector {
	g.Helper()
	v := &recordVector{About: s.about, Store: g.store, Record: "customers", Scopes: s.scopes, deks: map[int][]byte{}}
	if v.Scopes == nil {
		v.Scopes = []vectorScope{ada}
	}
	if s.rowID != "" {
		v.RowID = &s.rowID
	}
	v.Keys = s.keys
	if v.Keys == nil {
		for _, scope := range v.Scopes {
			v.Keys = append(v.Keys, g.owner(scope, g.suite))
		}
	}
	var in []refSealScope
	for i := range v.Scopes {
		in = append(in, refSealScope{v.names(i), v.refKeys()[i], s.deks[i]})
	}
	header, deks, err := refSealHeader(g, v.Store, g.suite, s.rowID != "", in)
	require.NoError(g, err)
	v.Header = header
	for i := range deks {
		v.deks[i] = deks[i]
	}
	v.Cells = s.cells
	if v.Cells == nil {
		v.Cells = []vectorCell{{Field: "email", Codec: 1, Plain: []byte("ada@example.com")}}
	}
	for i := range v.Cells {
		c := &v.Cells[i]
		c.Sealed, err = refSealCell(g, g.suite, deks[c.Scope], v.Record, c.Field, c.Codec, c.Plain)
		require.NoError(g, err)
	}
	v.explain(g)
	return v
}

// explain fills in the steps of a vector that opens.
func (v *recordVector) explain(g *gen) {
	h, err := refParseHeader(v.Header)
	require.NoError(g, err)
	v.RD, v.Steps = h.digest(), nil
	for i, s := range v.Scopes {
		tag := refTag(s.Group, s.Purpose)
		at := slices.IndexFunc(h.scopes, func(s refScope) bool { return bytes.Equal(s.tag, tag) })
		require.GreaterOrEqual(g, at, 0)
		v.Steps = append(v.Steps, vectorStep{tag, refDEKContext(v.Store, h.scopes[at].wrapSuite, h.scopes[at].kid, v.names(i), h.bound, v.RD), v.deks[i], h.scopes[at].commit})
	}
	for i := range v.Cells {
		v.Cells[i].Context = refCellContext(v.Cells[i].Sealed[0], h.cellSuite, v.Record, v.Cells[i].Field)
	}
}

// fails turns a vector that opens into one where no cell does.
func (v *recordVector) fails(about, class string) *recordVector {
	v.About, v.RD, v.Steps = about, nil, nil
	for i := range v.Cells {
		c := &v.Cells[i]
		c.Error, c.Codec, c.Plain, c.Context = class, 0, nil, nil
	}
	return v
}

// row is a base with two scopes of two subjects, a tenant and a bound row id.
func (g *gen) row() *recordVector {
	return g.seal(sealSpec{
		scopes: []vectorScope{{Tenant: "acme", Kind: "customer", ID: "ada"}, {Group: "buyer", Purpose: "billing", Tenant: "acme", Kind: "customer", ID: "bob"}},
		rowID:  "row 7",
		cells: []vectorCell{
			{Field: "email", Codec: 1, Plain: []byte("ada@example.com")},
			{Scope: 1, Field: "iban", Codec: 8, Plain: []byte("DE89370400440532013000")},
		},
	})
}

// change is a failure that comes from changing a row that opens.
func change(name, class, about string, f func(g *gen, v *recordVector)) scenario {
	return scenario{name, func(g *gen) any {
		v := g.row().fails(about, class)
		f(g, v)
		return v
	}}
}

func flip(b []byte, at int, mask byte) []byte {
	out := bytes.Clone(b)
	out[at] ^= mask
	return out
}

func set(b []byte, at int, value byte) []byte {
	out := bytes.Clone(b)
	out[at] = value
	return out
}

// scopeLen is the size of a scope of a wrap suite.
func scopeLen(suite byte) int { return 1 + 2 + 12 + refNonceLen(suite) + 48 + 32 }

func recordScenarios() []scenario {
	out := slices.Concat(goodScenarios(), wrongContextScenarios(), damagedScenarios())
	var both []scenario
	for _, s := range out {
		for _, suite := range []byte{1, 2} {
			both = append(both, scenario{"record_s" + strconv.Itoa(int(suite)) + "_" + s.name, func(g *gen) any {
				g.suite = suite
				return s.make(g)
			}})
		}
	}
	return both
}

func goodScenarios() []scenario {
	one := func(name string, spec func(g *gen) sealSpec) scenario {
		return scenario{"ok_" + name, func(g *gen) any { return g.seal(spec(g)) }}
	}
	return []scenario{
		one("one_scope", func(*gen) sealSpec { return sealSpec{about: "one scope, one cell"} }),
		one("empty_value", func(*gen) sealSpec {
			return sealSpec{about: "the empty string", cells: []vectorCell{{Field: "note", Codec: 1, Plain: []byte{}}}}
		}),
		one("value_16k", func(g *gen) sealSpec {
			return sealSpec{about: "16 KiB of plaintext", cells: []vectorCell{{Field: "photo", Codec: 1, Plain: g.bytes(16 << 10)}}}
		}),
		one("rowid_bound", func(*gen) sealSpec { return sealSpec{about: "the row id is bound", rowID: "42"} }),
		one("tenant", func(*gen) sealSpec {
			return sealSpec{about: "a tenant", scopes: []vectorScope{{Tenant: "acme", Kind: "customer", ID: "ada"}}}
		}),
		one("purposes", func(*gen) sealSpec {
			return sealSpec{about: "three purposes of one subject", scopes: []vectorScope{ada, {Purpose: "billing", Kind: "customer", ID: "ada"}, {Purpose: "marketing", Kind: "customer", ID: "ada"}},
				cells: []vectorCell{{Field: "email", Codec: 1, Plain: []byte("a")}, {Scope: 1, Field: "iban", Codec: 1, Plain: []byte("b")}, {Scope: 2, Field: "tastes", Codec: 9, Plain: []byte(`["tea"]`)}}}
		}),
		one("fifteen_scopes", func(*gen) sealSpec {
			s := sealSpec{about: "as many scopes as there may be, each of its own subject"}
			for i := range 15 {
				n := strconv.Itoa(i)
				s.scopes = append(s.scopes, vectorScope{Group: "g" + n, Kind: "customer", ID: n})
				s.cells = append(s.cells, vectorCell{Scope: i, Field: "f" + n, Codec: 1, Plain: []byte(n)})
			}
			return s
		}),
		one("unicode", func(*gen) sealSpec {
			return sealSpec{about: "names are bytes: a decomposed letter, an inner space, four-byte characters", scopes: []vectorScope{{Group: "größe", Purpose: "купить", Tenant: "日本", Kind: "клиент", ID: "e\u0301 😀"}}, rowID: "строка 1"}
		}),
		one("codecs", func(*gen) sealSpec {
			s := sealSpec{about: "every codec, and every number the codec may have"}
			for codec, plain := range map[uint8]string{
				0: "unassigned", 1: "text", 2: "\xff\xff\xff\xff\xff\xff\xff\xfe", 3: "\xff\xff\xff\xff\xff\xff\xff\xff", 4: "\x40\x09\x21\xfb\x54\x44\x2d\x18", 5: "\x01",
				6: "\x00\x00\x00\x00\x66\x8f\x3c\x00\x3b\x9a\xc9\xff\xff\xff\xf1\xf0", 7: "\x00\x01", 8: "2001:db8::1", 9: `{"a":[1,null]}`, 15: "unassigned",
			} {
				s.cells = append(s.cells, vectorCell{Field: "codec " + strconv.Itoa(int(codec)), Codec: codec, Plain: []byte(plain)})
			}
			slices.SortFunc(s.cells, func(a, b vectorCell) int { return int(a.Codec) - int(b.Codec) })
			return s
		}),
		one("wrap_suites_mixed", func(g *gen) sealSpec {
			scopes := []vectorScope{ada, {Group: "buyer", Kind: "customer", ID: "bob"}}
			return sealSpec{about: "the wraps have one suite each", scopes: scopes, keys: []vectorKey{g.owner(scopes[0], 1), g.owner(scopes[1], 2)},
				cells: []vectorCell{{Field: "email", Codec: 1, Plain: []byte("a")}, {Scope: 1, Field: "email2", Codec: 1, Plain: []byte("b")}}}
		}),
		{"ok_rowid_given_not_bound", func(g *gen) any {
			v := g.seal(sealSpec{about: "the caller gives a row id that is not bound yet"})
			id := "42"
			v.RowID = &id
			return v
		}},
		{"ok_older_key", func(g *gen) any {
			v := g.seal(sealSpec{about: "sealed under the first of two versions of the subject key"})
			v.Keys = append(v.Keys, g.owner(ada, g.suite))
			return v
		}},
		{"ok_rewrapped", func(g *gen) any {
			// Only the second scope gets a new wrap, of the other suite; cells, RD and the first wrap stay.
			v := g.row()
			v.About = "one of two scopes was wrapped again under a newer key of the other suite"
			h, err := refParseHeader(v.Header)
			require.NoError(g, err)
			newer := g.owner(v.Scopes[1], 3-g.suite)
			tag := refTag(v.Scopes[1].Group, v.Scopes[1].Purpose)
			for i := range h.scopes {
				if s := &h.scopes[i]; bytes.Equal(s.tag, tag) {
					s.wrapSuite, s.kid = newer.Suite, newer.KID
					s.wrap, err = refSeal(newer.Suite, newer.Key, g.bytes(refNonceLen(newer.Suite)), v.deks[1], refDEKContext(v.Store, newer.Suite, newer.KID, v.names(1), true, h.digest()))
					require.NoError(g, err)
				}
			}
			v.Header, v.Keys = h.bytes(), append(v.Keys, newer)
			v.explain(g)
			return v
		}},
		{"ok_scope_added", func(g *gen) any {
			first := g.seal(sealSpec{})
			scopes := []vectorScope{ada, {Group: "buyer", Kind: "customer", ID: "bob"}}
			v := g.seal(sealSpec{about: "a scope was added to a stored record: its first cell was sealed before", scopes: scopes, keys: []vectorKey{first.Keys[0], g.owner(scopes[1], g.suite)},
				deks: first.deks, cells: []vectorCell{{Field: "email", Codec: 1, Plain: []byte("ada@example.com")}, {Scope: 1, Field: "note", Codec: 1, Plain: []byte("b")}}})
			v.Cells[0].Sealed = first.Cells[0].Sealed
			return v
		}},
	}
}

func wrongContextScenarios() []scenario {
	// moved gives the scopes other owners; withKeys gives the owners the same keys, so that only the context can tell.
	moved := func(withKeys bool, f func(s *vectorScope)) func(*gen, *recordVector) {
		return func(g *gen, v *recordVector) {
			for i := range v.Scopes {
				f(&v.Scopes[i])
				key := g.owner(v.Scopes[i], g.suite)
				if withKeys {
					key.KID, key.Key = v.Keys[i].KID, v.Keys[i].Key
				}
				v.Keys = append(v.Keys, key)
			}
		}
	}
	return []scenario{
		change("wrong_record", "decrypt", "another record name", func(_ *gen, v *recordVector) { v.Record = "orders" }),
		{"wrong_field", func(g *gen) any {
			v := g.row().fails("another field name", "decrypt")
			for i := range v.Cells {
				v.Cells[i].Field += "2"
			}
			return v
		}},
		change("wrong_tenant", "key-missing", "another tenant, which has keys of its own", moved(false, func(s *vectorScope) { s.Tenant = "globex" })),
		change("wrong_tenant_same_key", "decrypt", "another tenant, made to have the same keys", moved(true, func(s *vectorScope) { s.Tenant = "globex" })),
		change("no_tenant_same_key", "decrypt", "the empty tenant, made to have the same keys", moved(true, func(s *vectorScope) { s.Tenant = "" })),
		change("wrong_subject", "key-missing", "another subject, who has keys of its own", moved(false, func(s *vectorScope) { s.ID = "eve" })),
		change("wrong_subject_same_key", "decrypt", "another subject, made to have the same keys", moved(true, func(s *vectorScope) { s.ID += "2" })),
		change("wrong_subject_kind_same_key", "decrypt", "another subject kind, made to have the same keys", moved(true, func(s *vectorScope) { s.Kind = "employee" })),
		change("subject_boundary_moved_same_key", "decrypt", "a letter moved from the subject id to its kind", moved(true, func(s *vectorScope) { s.Kind, s.ID = s.Kind+s.ID[:1], s.ID[1:] })),
		change("wrong_purpose", "decrypt", "a purpose the header has no scope for", moved(true, func(s *vectorScope) { s.Purpose = "research" })),
		change("wrong_group", "decrypt", "a group the header has no scope for", moved(true, func(s *vectorScope) { s.Group = "seller" })),
		{"purpose_relabelled", func(g *gen) any {
			v := g.seal(sealSpec{}).fails("the tag was rewritten to that of another purpose, which was made to have the same key", "decrypt")
			v.Scopes[0].Purpose, v.Keys[0].Purpose = "research", "research"
			copy(v.Header[4:], refTag("", "research"))
			return v
		}},
		change("wrong_rowid", "decrypt", "another row id", func(_ *gen, v *recordVector) { id := "row 8"; v.RowID = &id }),
		change("rowid_missing", "decrypt", "the row id is bound and the caller gives none", func(_ *gen, v *recordVector) { v.RowID = nil }),
		change("wrong_store", "decrypt", "the keys of this store under the id of another", func(g *gen, v *recordVector) { v.Store = g.bytes(16) }),
		change("scope_dropped", "decrypt", "one of two scopes was cut out of the header; the other one's cell is asked for", func(g *gen, v *recordVector) {
			kept := slices.IndexFunc(v.Scopes, func(s vectorScope) bool { return bytes.Equal(refTag(s.Group, s.Purpose), v.Header[4:6]) })
			v.Header = set(v.Header[:3+scopeLen(g.suite)], 2, 0x11)
			v.Cells = slices.DeleteFunc(v.Cells, func(c vectorCell) bool { return c.Scope != kept })
		}),
		{"scopes_mixed", func(g *gen) any {
			a := g.row()
			b := g.seal(sealSpec{scopes: a.Scopes, keys: a.Keys, rowID: "row 7", cells: slices.Clone(a.Cells)})
			a.fails("the first scope of one version of the row, the second of another", "decrypt")
			a.Header = append(bytes.Clone(a.Header[:3+scopeLen(g.suite)]), b.Header[3+scopeLen(g.suite):]...)
			first := slices.IndexFunc(a.Scopes, func(s vectorScope) bool { return bytes.Equal(refTag(s.Group, s.Purpose), a.Header[4:6]) })
			for i := range a.Cells { // each cell belongs to the version its scope is from
				if a.Cells[i].Scope != first {
					a.Cells[i].Sealed = b.Cells[i].Sealed
				}
			}
			return a
		}},
		{"key_missing", func(g *gen) any {
			v := g.row().fails("the store has no such keys and no evidence of a forget", "key-missing")
			v.Keys = nil
			return v
		}},
		{"forgotten", func(g *gen) any {
			v := g.row().fails("the keys are gone and the ledger says why", "forgotten")
			for _, k := range v.Keys {
				v.Dead = append(v.Dead, k.KID)
			}
			v.Keys = nil
			return v
		}},
		change("key_of_another_suite", "decrypt", "the keys are of another suite than the wraps", func(g *gen, v *recordVector) {
			for i := range v.Keys {
				v.Keys[i].Suite = 3 - g.suite
			}
		}),
		change("kid_of_another_version", "decrypt", "the kids were rewritten to those of another version of the keys", func(g *gen, v *recordVector) {
			v.Header = bytes.Clone(v.Header)
			for at := range 2 {
				pos := 3 + at*scopeLen(g.suite)
				owner := slices.IndexFunc(v.Scopes, func(s vectorScope) bool { return bytes.Equal(refTag(s.Group, s.Purpose), v.Header[pos+1:pos+3]) })
				newer := g.owner(v.Scopes[owner], g.suite)
				v.Keys = append(v.Keys, newer)
				copy(v.Header[pos+3:], newer.KID)
			}
		}),
	}
}

func damagedScenarios() []scenario {
	header := func(name, class, about string, f func(g *gen, h []byte) []byte) scenario {
		return change(name, class, about, func(g *gen, v *recordVector) { v.Header = f(g, v.Header) })
	}
	cells := func(name, class, about string, f func(g *gen, c []byte) []byte) scenario {
		return change(name, class, about, func(g *gen, v *recordVector) {
			for i := range v.Cells {
				v.Cells[i].Sealed = f(g, v.Cells[i].Sealed)
			}
		})
	}
	out := []scenario{
		header("header_empty", "malformed", "no header", func(*gen, []byte) []byte { return []byte{} }),
		header("header_two_bytes", "malformed", "a header shorter than its prelude", func(_ *gen, h []byte) []byte { return h[:2] }),
		header("header_prelude_only", "malformed", "a prelude that announces two scopes, and none", func(_ *gen, h []byte) []byte { return h[:3] }),
		header("header_truncated", "malformed", "the last byte is missing", func(_ *gen, h []byte) []byte { return h[:len(h)-1] }),
		header("header_one_scope_short", "malformed", "one scope fewer than announced", func(g *gen, h []byte) []byte { return h[:3+scopeLen(g.suite)] }),
		header("header_trailing", "malformed", "a byte after the last scope", func(_ *gen, h []byte) []byte { return append(bytes.Clone(h), 0) }),
		header("header_scope_announced_more", "malformed", "one scope more than announced", func(_ *gen, h []byte) []byte { return set(h, 2, 0x11) }),
		header("n_zero", "malformed", "n is 0", func(_ *gen, h []byte) []byte { return set(h, 2, 0x10) }),
		header("n_zero_alone", "malformed", "n is 0 and nothing follows", func(_ *gen, h []byte) []byte { return set(h[:3], 2, 0x10) }),
		header("format_zero", "malformed", "format 0", func(_ *gen, h []byte) []byte { return set(h, 0, 0) }),
		header("format_two", "malformed", "format 2", func(_ *gen, h []byte) []byte { return set(h, 0, 2) }),
		header("cell_suite_zero", "malformed", "cellSuite 0", func(_ *gen, h []byte) []byte { return set(h, 1, 0) }),
		header("cell_suite_three", "malformed", "cellSuite 3", func(_ *gen, h []byte) []byte { return set(h, 1, 3) }),
		header("cell_suite_129", "malformed", "cellSuite 0x81", func(_ *gen, h []byte) []byte { return set(h, 1, 0x81) }),
		header("wrap_suite_zero", "malformed", "wrapSuite 0", func(_ *gen, h []byte) []byte { return set(h, 3, 0) }),
		header("wrap_suite_three", "malformed", "wrapSuite 3", func(_ *gen, h []byte) []byte { return set(h, 3, 3) }),
		header("wrap_suite_128", "malformed", "wrapSuite 0x80, set aside", func(_ *gen, h []byte) []byte { return set(h, 3, 0x80) }),
		header("wrap_suite_255", "malformed", "wrapSuite 0xff", func(_ *gen, h []byte) []byte { return set(h, 3, 0xff) }),
		header("wrap_suite_of_second_scope", "malformed", "wrapSuite 0x81 in the second scope", func(g *gen, h []byte) []byte { return set(h, 3+scopeLen(g.suite), 0x81) }),
		header("wrap_suite_other", "malformed", "wrapSuite changed to the other one, whose wrap has another length", func(g *gen, h []byte) []byte { return set(h, 3, 3-g.suite) }),
		header("flags_2", "malformed", "an unknown flag", func(_ *gen, h []byte) []byte { return flip(h, 2, 0x20) }),
		header("flags_4", "malformed", "an unknown flag", func(_ *gen, h []byte) []byte { return flip(h, 2, 0x40) }),
		header("flags_8", "malformed", "an unknown flag", func(_ *gen, h []byte) []byte { return flip(h, 2, 0x80) }),
		header("flag_rowid_cleared", "decrypt", "the flag that binds the row id was cleared", func(_ *gen, h []byte) []byte { return flip(h, 2, 0x10) }),
		header("scopes_out_of_order", "malformed", "two scopes in descending order of tag", func(g *gen, h []byte) []byte {
			n := scopeLen(g.suite)
			return slices.Concat(h[:3], h[3+n:], h[3:3+n])
		}),
		header("scopes_same_tag", "malformed", "the first scope twice", func(g *gen, h []byte) []byte {
			n := scopeLen(g.suite)
			return slices.Concat(h[:3], h[3:3+n], h[3:3+n])
		}),
		header("foreign_header", "malformed", "another program's bytes as the header", func(*gen, []byte) []byte {
			return []byte("vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM13ok481zoCmHnSeDX")
		}),
		header("json_header", "malformed", "JSON as the header", func(*gen, []byte) []byte { return []byte(`{"$lethe":"AQER"}`) }),
		header("cell_suite_other", "decrypt", "cellSuite changed to the other one", func(g *gen, h []byte) []byte { return set(h, 1, 3-g.suite) }),
		header("commit_flipped", "decrypt", "a bit of the first commit", func(g *gen, h []byte) []byte { return flip(h, 3+scopeLen(g.suite)-1, 1) }),
		header("commits_swapped", "decrypt", "the commits of the two scopes exchanged", func(g *gen, h []byte) []byte {
			n := scopeLen(g.suite)
			out := bytes.Clone(h)
			copy(out[3+n-32:3+n], h[3+2*n-32:])
			copy(out[3+2*n-32:], h[3+n-32:3+n])
			return out
		}),
		cells("cell_empty", "malformed", "no bytes", func(*gen, []byte) []byte { return []byte{} }),
		cells("cell_too_short", "malformed", "a byte fewer than the shortest cell", func(g *gen, c []byte) []byte { return c[:refNonceLen(g.suite)+16] }),
		cells("cell_truncated", "decrypt", "the last byte is missing", func(_ *gen, c []byte) []byte { return c[:len(c)-1] }),
		cells("cell_trailing", "decrypt", "a byte too many", func(_ *gen, c []byte) []byte { return append(bytes.Clone(c), 0) }),
		cells("codec_changed", "decrypt", "another codec", func(_ *gen, c []byte) []byte { return flip(c, 0, 2) }),
		cells("foreign_cell", "malformed", "text as the cell", func(*gen, []byte) []byte { return []byte("ada@example.com, who never was sealed by anyone") }),
		cells("random_cell", "decrypt", "random bytes that look like a cell", func(g *gen, c []byte) []byte { return set(g.bytes(len(c)), 0, 0x11) }),
		change("cells_swapped_scopes", "decrypt", "the cells of two scopes exchanged", func(_ *gen, v *recordVector) {
			v.Cells[0].Sealed, v.Cells[1].Sealed = v.Cells[1].Sealed, v.Cells[0].Sealed
		}),
		{"cells_swapped_fields", func(g *gen) any {
			v := g.seal(sealSpec{cells: []vectorCell{{Field: "home", Codec: 1, Plain: []byte("1")}, {Field: "work", Codec: 1, Plain: []byte("2")}}}).fails("the cells of two fields of one scope exchanged", "decrypt")
			v.Cells[0].Sealed, v.Cells[1].Sealed = v.Cells[1].Sealed, v.Cells[0].Sealed
			return v
		}},
		change("cell_of_another_row", "decrypt", "the cells of another row of the same subjects", func(g *gen, v *recordVector) {
			other := g.seal(sealSpec{scopes: v.Scopes, keys: v.Keys, rowID: "row 8", cells: []vectorCell{{Field: "email", Codec: 1, Plain: []byte("x")}, {Scope: 1, Field: "iban", Codec: 8, Plain: []byte("y")}}})
			v.Cells[0].Sealed, v.Cells[1].Sealed = other.Cells[0].Sealed, other.Cells[1].Sealed
		}),
		{"commit_of_another_key", func(g *gen) any {
			// The wrap is made for this very header, so only the comparison of the commit can tell.
			v := g.seal(sealSpec{}).fails("the writer committed to another data key than it wrapped", "decrypt")
			h, err := refParseHeader(v.Header)
			require.NoError(g, err)
			s := &h.scopes[0]
			s.commit = refCommit(g.suite, g.bytes(32))
			s.wrap, err = refSeal(g.suite, v.Keys[0].Key, g.bytes(refNonceLen(g.suite)), v.deks[0], refDEKContext(v.Store, g.suite, s.kid, v.names(0), false, h.digest()))
			require.NoError(g, err)
			v.Header = h.bytes()
			return v
		}},
		{"one_cell_damaged", func(g *gen) any {
			v := g.row()
			v.About = "one cell is damaged; the other opens all the same"
			c := &v.Cells[1]
			c.Sealed, c.Error, c.Codec, c.Plain = flip(c.Sealed, len(c.Sealed)-1, 1), "decrypt", 0, nil
			return v
		}},
	}
	for _, kind := range []byte{0, 2, 3, 4, 8, 15} {
		out = append(out, cells("kind_"+strconv.Itoa(int(kind)), "malformed", "a cell of kind "+strconv.Itoa(int(kind)), func(_ *gen, c []byte) []byte { return set(c, 0, kind<<4|c[0]&15) }))
	}
	for i, part := range []string{"kid", "nonce", "wrap", "tag"} {
		class := "decrypt"
		if part == "kid" {
			class = "key-missing"
		}
		out = append(out, change("header_"+part+"_flipped", class, "a bit of the "+part+" of every scope", func(g *gen, v *recordVector) {
			at := []int{3, 15, 15 + refNonceLen(g.suite), 15 + refNonceLen(g.suite) + 32}[i]
			v.Header = flip(flip(v.Header, 3+at, 4), 3+scopeLen(g.suite)+at, 4)
		}))
	}
	return out
}

func macScenarios() []scenario {
	return []scenario{
		{"sref", func(g *gen) any {
			v := &macVector{About: "pseudonyms of subjects, and of index keys (kind 00 'index', id lp record | lp index name)", Key: g.bytes(32)}
			add := func(tenant, kind, id string) {
				v.SRefs = append(v.SRefs, vectorSRef{hexBytes(tenant), hexBytes(kind), hexBytes(id), refSRef(v.Key, tenant, kind, id)})
			}
			add("", "customer", "ada")
			add("acme", "customer", "ada")
			add("", "customera", "da")
			add("日本", "клиент", "e\u0301 😀")
			add("", "customer", strings.Repeat("x", 1024))
			index := string(refCat(refLP("customers"), refLP("email_idx")))
			add("acme", "\x00index", index)
			require.Equal(g, refIndexSRef(v.Key, "acme", "customers", "email_idx"), []byte(v.SRefs[len(v.SRefs)-1].SRef))
			return v
		}},
		{"blind_index", func(g *gen) any {
			v := &macVector{About: "values of a blind index: every size, the empty value, versions", Key: g.bytes(32)}
			add := func(version uint16, norm, value string, bits int) {
				v.Index = append(v.Index, vectorIndex{version, norm, hexBytes(value), bits, refIndexValue(v.Key, version, norm, []byte(value), bits)})
			}
			for bits := 8; bits <= 256; bits++ {
				add(1, "email/1", "ada@example.com", bits)
			}
			add(1, "exact/1", "ada@example.com", 32)
			add(2, "email/1", "ada@example.com", 32)
			add(65535, "email/1", "ada@example.com", 32)
			add(1, "email/1", "", 32)
			add(1, "exact/1", "\x00\x00\x00\x00\x00\x00\x00\x2a", 64)
			return v
		}},
	}
}

func scenarios() []scenario {
	return slices.Concat(recordScenarios(), macScenarios(), storeScenarios(), formScenarios(), []scenario{{"accumulated", accumulatedScenario}})
}

// TestVectorsAreWhatTheyWere makes every vector again and compares it with its
// file, byte by byte. With -write-vectors it writes the files that are missing;
// one that exists is never written, so a scenario that must change gets a new name.
func TestVectorsAreWhatTheyWere(t *testing.T) {
	needsSuite2(t)
	seen := map[string]bool{}
	for _, s := range scenarios() {
		require.False(t, seen[s.name], "two scenarios are called %s", s.name)
		seen[s.name] = true
		src := newVectorSource(s.name)
		v := s.make(&gen{TB: t, vectorSource: src, store: src.bytes(16)})
		data, err := json.MarshalIndent(v, "", "\t")
		require.NoError(t, err)
		data = append(data, '\n')
		path := filepath.Join(vectorDir, s.name+".json")
		old, err := os.ReadFile(path)
		switch {
		case err == nil:
			require.True(t, bytes.Equal(old, data), "%s: the scenario no longer gives this file. Vectors are never edited: change the scenario back, or give the new one a new name", path)
		case *writeVectors && errors.Is(err, fs.ErrNotExist):
			require.NoError(t, writeNew(path, data))
			t.Logf("wrote %s", path)
		default:
			require.NoError(t, err, "to write a new vector: go test -run %s -write-vectors", t.Name())
		}
	}
	files, err := os.ReadDir(vectorDir)
	require.NoError(t, err)
	for _, f := range files {
		require.True(t, seen[strings.TrimSuffix(f.Name(), ".json")], "%s has no scenario", f.Name())
	}
}

// writeNew refuses to overwrite.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func TestWriteNewNeverOverwrites(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "v.json")
	require.NoError(t, writeNew(path, []byte("first")))
	require.ErrorIs(t, writeNew(path, []byte("second")), fs.ErrExist)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "first", string(got))
}
