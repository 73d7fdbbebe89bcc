package lethe_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

// cellRow has one Secret, and the least that one needs.
type cellRow struct {
	Keys lethe.Keys           `lethe:"cells"`
	ID   string               `lethe:"subject=owner"`
	V    lethe.Secret[string] `lethe:"v,mask=last4"`
	X    lethe.BlindIndex     `lethe:"x,of=v,norm=exact/1"`
}

func cellRows(t testing.TB) *lethe.Sealer[cellRow] {
	t.Helper()
	s, err := lethe.For[cellRow](envelopetest.NewKeyring(t))
	require.NoError(t, err)
	return s
}

func sealedCell(t testing.TB, s *lethe.Sealer[cellRow], value string) cellRow {
	t.Helper()
	row := cellRow{ID: "1", V: lethe.Of(value)}
	require.NoError(t, s.Seal(t.Context(), &row))
	return row
}

func TestTypesDoNotCompareWithEquals(t *testing.T) {
	t.Parallel()
	for _, typ := range []reflect.Type{
		reflect.TypeFor[lethe.Secret[string]](), reflect.TypeFor[lethe.Secret[int]](), reflect.TypeFor[lethe.Input[string]](),
		reflect.TypeFor[lethe.Keys](), reflect.TypeFor[lethe.BlindIndex](),
	} {
		require.False(t, typ.Comparable(), typ)
	}
}

func TestZeroSecret(t *testing.T) {
	t.Parallel()
	var s lethe.Secret[string]
	require.Equal(t, lethe.StatusUnset, s.Status())
	require.True(t, s.IsZero())
	require.Equal(t, "[sealed]", s.Masked())
	v, err := s.Reveal()
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	require.Empty(t, v)
	requireNoCodecWorks(t, s)
	require.True(t, s.Equal(lethe.Secret[string]{}))
	require.False(t, s.Equal(lethe.Null[string]()))
	require.False(t, s.Equal(lethe.Of("")))
}

func TestNullSecret(t *testing.T) {
	t.Parallel()
	s := lethe.Null[string]()
	require.Equal(t, lethe.StatusNull, s.Status())
	require.False(t, s.IsZero())
	require.Empty(t, s.Masked())
	_, err := s.Reveal()
	require.ErrorIs(t, err, lethe.ErrNull)
	v, err := s.Value()
	require.NoError(t, err)
	require.Nil(t, v)
	v, err = lethe.Text(s).Value()
	require.NoError(t, err)
	require.Nil(t, v)
	require.True(t, s.Equal(lethe.Null[string]()))
	require.False(t, s.Equal(lethe.Of("")))

	var scanned lethe.Secret[string]
	require.NoError(t, scanned.Scan(nil))
	require.Equal(t, lethe.StatusNull, scanned.Status())
	require.True(t, scanned.Equal(s))
}

func TestPlainSecret(t *testing.T) {
	t.Parallel()
	s := lethe.Of("plain value")
	require.Equal(t, lethe.StatusPlain, s.Status())
	require.False(t, s.IsZero())
	require.Equal(t, "plain value", reveal(t, s))
	require.Equal(t, "••••", s.Masked(), "the mask is known once the row was sealed")
	requireNoCodecWorks(t, s)
	empty := lethe.Of("")
	require.Equal(t, lethe.StatusPlain, empty.Status(), "an empty string is a value")
	require.Empty(t, reveal(t, empty))
	requireNoCodecWorks(t, empty)
}

// requireNoCodecWorks checks that a Secret that was not sealed cannot be encoded.
func requireNoCodecWorks[T any](t *testing.T, s lethe.Secret[T]) {
	t.Helper()
	_, err := s.Value()
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	_, err = lethe.Text(s).Value()
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	_, err = s.MarshalText()
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	_, err = s.MarshalBinary()
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	_, err = s.MarshalJSON()
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	_, err = json.Marshal(struct{ V lethe.Secret[T] }{s})
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	_, err = xml.Marshal(struct {
		XMLName xml.Name `xml:"r"`
		V       lethe.Secret[T]
	}{V: s})
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	_, err = xml.Marshal(struct {
		XMLName xml.Name        `xml:"r"`
		V       lethe.Secret[T] `xml:"v,attr"`
	}{V: s})
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	var buf bytes.Buffer
	require.ErrorIs(t, gob.NewEncoder(&buf).Encode(s), lethe.ErrNotSealed)
}

func TestStatusNames(t *testing.T) {
	t.Parallel()
	want := map[lethe.Status]string{
		lethe.StatusUnset: "unset", lethe.StatusNull: "null", lethe.StatusPlain: "plain", lethe.StatusSealed: "sealed",
		lethe.StatusOpen: "open", lethe.StatusDenied: "denied", lethe.StatusForgotten: "forgotten", lethe.StatusFailed: "failed",
		lethe.StatusFailed + 1: "unknown", 255: "unknown",
	}
	for status, name := range want {
		require.Equal(t, name, status.String())
	}
}

func TestStatusesAfterOpen(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	s, err := lethe.For[cellRow](ring)
	require.NoError(t, err)
	row := sealedCell(t, s, "status 12345678")
	sealed := row.V
	_, err = sealed.Reveal()
	require.ErrorIs(t, err, lethe.ErrSealed)
	require.Equal(t, "[sealed]", sealed.Masked())

	require.NoError(t, s.Open(t.Context(), &row, lethe.Masks()))
	denied := row.V
	require.Equal(t, lethe.StatusDenied, denied.Status())
	_, err = denied.Reveal()
	require.ErrorIs(t, err, lethe.ErrDenied)
	require.Equal(t, "•••• 5678", denied.Masked())
	require.NoError(t, s.Open(t.Context(), &row), "a denied field opens once it may")
	require.Equal(t, lethe.StatusOpen, row.V.Status())
	require.Equal(t, "status 12345678", reveal(t, row.V))
	require.Equal(t, "•••• 5678", row.V.Masked())

	deny, err := lethe.For[cellRow](ring, lethe.Options{Policy: func(context.Context, lethe.Access) lethe.Decision { return lethe.Deny }})
	require.NoError(t, err)
	closed := cellRow{Keys: row.Keys, ID: row.ID, V: sealed}
	require.NoError(t, deny.Open(t.Context(), &closed))
	require.Equal(t, lethe.StatusDenied, closed.V.Status())
	require.Equal(t, "[denied]", closed.V.Masked())

	damaged := binaryOf(t, sealed)
	damaged[len(damaged)-1] ^= 1
	broken := cellRow{Keys: row.Keys, ID: row.ID}
	require.NoError(t, broken.V.Scan(damaged))
	require.ErrorIs(t, s.Open(t.Context(), &broken), lethe.ErrDecrypt)
	require.Equal(t, lethe.StatusFailed, broken.V.Status())
	_, err = broken.V.Reveal()
	require.ErrorIs(t, err, lethe.ErrDecrypt)
	require.Equal(t, "[sealed]", broken.V.Masked())

	_, err = ring.Forget(t.Context(), lethe.Subject{Kind: "owner", ID: "1"})
	require.NoError(t, err)
	gone := cellRow{Keys: row.Keys, ID: row.ID, V: sealed}
	require.NoError(t, s.Open(t.Context(), &gone))
	require.Equal(t, lethe.StatusForgotten, gone.V.Status())
	_, err = gone.V.Reveal()
	require.ErrorIs(t, err, lethe.ErrForgotten)
	require.Equal(t, "[forgotten]", gone.V.Masked())

	for _, v := range []lethe.Secret[string]{sealed, denied, closed.V, row.V, gone.V} {
		require.Equal(t, binaryOf(t, sealed), binaryOf(t, v), "every status keeps the ciphertext for the next save")
		require.True(t, v.Equal(sealed))
	}
	require.Equal(t, damaged, binaryOf(t, broken.V))
	require.False(t, broken.V.Equal(sealed))
}

func TestEqual(t *testing.T) {
	t.Parallel()
	s := cellRows(t)
	a, b := sealedCell(t, s, "same"), sealedCell(t, s, "same")
	require.False(t, a.V.Equal(b.V), "two ciphertexts of one value differ while they are sealed")
	sealed := a.V
	require.NoError(t, s.Open(t.Context(), &a))
	require.NoError(t, s.Open(t.Context(), &b))
	require.True(t, a.V.Equal(b.V))
	require.True(t, a.V.Equal(sealed), "the same ciphertext")
	require.True(t, a.V.Equal(lethe.Of("same")))
	require.True(t, lethe.Of("same").Equal(a.V))
	require.False(t, a.V.Equal(lethe.Of("other")))
	require.False(t, a.V.Equal(lethe.Of("same ")))
	require.False(t, sealed.Equal(lethe.Of("same")), "what is sealed cannot be compared with a value")
	require.False(t, sealed.Equal(lethe.Secret[string]{}))
	require.False(t, lethe.Secret[string]{}.Equal(sealed))
	require.False(t, a.V.Equal(lethe.Null[string]()))
	require.Equal(t, lethe.StatusPlain, lethe.Of(failsWith{}).Status())
	require.False(t, lethe.Of(failsWith{}).Equal(lethe.Of(failsWith{})), "values that cannot be encoded cannot be compared")
	keys := a.Keys
	require.True(t, a.Keys.Equal(keys))
	require.False(t, a.Keys.Equal(b.Keys))
	require.True(t, a.X.Equal(b.X), "equal values have equal indexes")
}

func TestACopyOfAPlainSecretStaysPlain(t *testing.T) {
	t.Parallel()
	s := cellRows(t)
	row := cellRow{ID: "1", V: lethe.Of("copied")}
	before, input := row, row.V
	require.NoError(t, s.Seal(t.Context(), &row))
	require.Equal(t, lethe.StatusSealed, row.V.Status())
	require.Equal(t, lethe.StatusPlain, input.Status())
	require.Equal(t, lethe.StatusPlain, before.V.Status())
	require.True(t, before.Keys.IsZero())
	require.True(t, before.X.IsZero())

	sealed := row
	require.NoError(t, s.Open(t.Context(), &row))
	require.Equal(t, lethe.StatusSealed, sealed.V.Status())
	opened := row
	opened.V = lethe.Of("changed")
	require.NoError(t, s.Seal(t.Context(), &opened))
	require.Equal(t, "copied", reveal(t, row.V))
	require.False(t, opened.X.Equal(row.X))

	require.NoError(t, before.V.Scan(binaryOf(t, sealed.V)))
	require.Equal(t, lethe.StatusPlain, input.Status(), "Scan installs a state of its own")
}

func TestSlicesAreCopiedInAndOut(t *testing.T) {
	t.Parallel()
	in := []byte("mutable")
	plain := lethe.Of(in)
	clear(in)
	require.Equal(t, "mutable", string(reveal(t, plain)))
	clear(reveal(t, plain))
	require.Equal(t, "mutable", string(reveal(t, plain)))

	type raw []byte
	named := raw("mutable")
	alike := lethe.Of(named)
	clear(named)
	clear(reveal(t, alike))
	require.Equal(t, "mutable", string(reveal(t, alike)))

	list := []string{"a", "b"}
	asJSON := lethe.Of(list)
	list[0] = "changed"
	reveal(t, asJSON)[1] = "changed"
	require.Equal(t, []string{"a", "b"}, reveal(t, asJSON))

	row := sealedCell(t, cellRows(t), "mutable")
	for name, codec := range map[string]struct {
		out func() ([]byte, error)
		in  func([]byte) error
	}{
		"secret value":  {func() ([]byte, error) { v, err := row.V.Value(); b, _ := v.([]byte); return b, err }, func(b []byte) error { return row.V.Scan(b) }},
		"secret binary": {row.V.MarshalBinary, func(b []byte) error { return row.V.UnmarshalBinary(b) }},
		"secret text":   {row.V.MarshalText, func(b []byte) error { return row.V.UnmarshalText(b) }},
		"secret json":   {row.V.MarshalJSON, func(b []byte) error { return row.V.UnmarshalJSON(b) }},
		"keys value":    {func() ([]byte, error) { v, err := row.Keys.Value(); b, _ := v.([]byte); return b, err }, func(b []byte) error { return row.Keys.Scan(b) }},
		"keys binary":   {row.Keys.MarshalBinary, func(b []byte) error { return row.Keys.UnmarshalBinary(b) }},
		"index value":   {func() ([]byte, error) { v, err := row.X.Value(); b, _ := v.([]byte); return b, err }, func(b []byte) error { return row.X.Scan(b) }},
		"index binary":  {row.X.MarshalBinary, func(b []byte) error { return row.X.UnmarshalBinary(b) }},
	} {
		first, err := codec.out()
		require.NoError(t, err, name)
		want := bytes.Clone(first)
		require.NoError(t, codec.in(first), name)
		clear(first)
		second, err := codec.out()
		require.NoError(t, err, name)
		require.Equal(t, want, second, "%s: what was scanned was kept without a copy", name)
		clear(second)
		third, err := codec.out()
		require.NoError(t, err, name)
		require.Equal(t, want, third, "%s: what was handed out was the state itself", name)
	}
	require.NoError(t, row.Keys.Scan(row.Keys.Bytes()))
	clear(row.Keys.Bytes())
	require.False(t, bytes.Equal(row.Keys.Bytes(), make([]byte, len(row.Keys.Bytes()))))
	clear(row.X.Bytes())
	require.False(t, bytes.Equal(row.X.Bytes(), make([]byte, len(row.X.Bytes()))))
}

// form is one form a stored value travels in.
type form struct {
	name string
	out  func(t *testing.T, v formed) any
	in   func(into formedInto, v any) error
}

type formed interface {
	driver.Valuer
	MarshalText() ([]byte, error)
	MarshalBinary() ([]byte, error)
	MarshalJSON() ([]byte, error)
}

type formedInto interface {
	Scan(src any) error
	UnmarshalText(text []byte) error
	UnmarshalBinary(data []byte) error
	UnmarshalJSON(data []byte) error
}

var forms = []form{
	{"bytes column", func(t *testing.T, v formed) any {
		b, err := v.Value()
		require.NoError(t, err)
		return b
	}, func(into formedInto, v any) error { return into.Scan(v) }},
	{"text column", func(t *testing.T, v formed) any {
		b, err := lethe.Text(v).Value()
		require.NoError(t, err)
		return b
	}, func(into formedInto, v any) error { return into.Scan(v) }},
	{"text column read as bytes", func(t *testing.T, v formed) any {
		b, err := v.MarshalText()
		require.NoError(t, err)
		if len(b) == 0 {
			return nil
		}
		return b
	}, func(into formedInto, v any) error { return into.Scan(v) }},
	{"bytes read as a string", func(t *testing.T, v formed) any {
		b, err := v.MarshalBinary()
		require.NoError(t, err)
		return string(b)
	}, func(into formedInto, v any) error { return into.Scan(v) }},
	{"bytea written as text", func(t *testing.T, v formed) any {
		b, err := v.MarshalBinary()
		require.NoError(t, err)
		if len(b) == 0 {
			return nil
		}
		return `\x` + hex.EncodeToString(b)
	}, func(into formedInto, v any) error { return into.Scan(v) }},
	{"text", func(t *testing.T, v formed) any {
		b, err := v.MarshalText()
		require.NoError(t, err)
		return b
	}, func(into formedInto, v any) error { b, _ := v.([]byte); return into.UnmarshalText(b) }},
	{"binary", func(t *testing.T, v formed) any {
		b, err := v.MarshalBinary()
		require.NoError(t, err)
		return b
	}, func(into formedInto, v any) error { b, _ := v.([]byte); return into.UnmarshalBinary(b) }},
	{"json", func(t *testing.T, v formed) any {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		return b
	}, func(into formedInto, v any) error { b, _ := v.([]byte); return json.Unmarshal(b, into) }},
	{"gob", func(t *testing.T, v formed) any {
		var buf bytes.Buffer
		require.NoError(t, gob.NewEncoder(&buf).Encode(v))
		return buf.Bytes()
	}, func(into formedInto, v any) error {
		b, _ := v.([]byte)
		return gob.NewDecoder(bytes.NewReader(b)).Decode(into)
	}},
}

func TestEveryFormRoundTrips(t *testing.T) {
	t.Parallel()
	s := cellRows(t)
	row := sealedCell(t, s, "round trip")
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			var v lethe.Secret[string]
			require.NoError(t, f.in(&v, f.out(t, row.V)))
			require.Equal(t, lethe.StatusSealed, v.Status())
			require.Equal(t, binaryOf(t, row.V), binaryOf(t, v))
			var k lethe.Keys
			require.NoError(t, f.in(&k, f.out(t, row.Keys)))
			require.Equal(t, row.Keys.Bytes(), k.Bytes())
			var x lethe.BlindIndex
			require.NoError(t, f.in(&x, f.out(t, row.X)))
			require.Equal(t, row.X.Bytes(), x.Bytes())
			back := cellRow{Keys: k, ID: "1", V: v, X: x}
			require.NoError(t, s.Open(t.Context(), &back))
			require.Equal(t, "round trip", reveal(t, back.V))

			null := cellRow{ID: "1"}
			require.NoError(t, s.Seal(t.Context(), &null))
			require.NoError(t, f.in(&v, f.out(t, null.V)))
			require.Equal(t, lethe.StatusNull, v.Status(), "NULL stays NULL")
			require.NoError(t, f.in(&x, f.out(t, null.X)))
			require.False(t, x.IsZero())
			require.Nil(t, x.Bytes())
			require.True(t, x.Equal(null.X))
		})
	}
}

func TestXMLRoundTrip(t *testing.T) {
	t.Parallel()
	row := sealedCell(t, cellRows(t), "in xml")
	type doc struct {
		XMLName xml.Name             `xml:"doc"`
		Attr    lethe.Secret[string] `xml:"attr,attr"`
		V       lethe.Secret[string] `xml:"v"`
		Null    lethe.Secret[string] `xml:"null"`
		Keys    lethe.Keys           `xml:"keys"`
		X       lethe.BlindIndex     `xml:"x"`
	}
	data, err := xml.Marshal(doc{Attr: row.V, V: row.V, Null: lethe.Null[string](), Keys: row.Keys, X: row.X})
	require.NoError(t, err)
	var back doc
	require.NoError(t, xml.Unmarshal(data, &back))
	require.True(t, back.Attr.Equal(row.V))
	require.True(t, back.V.Equal(row.V))
	require.Equal(t, lethe.StatusNull, back.Null.Status())
	require.True(t, back.Keys.Equal(row.Keys))
	require.True(t, back.X.Equal(row.X))
	require.ErrorIs(t, xml.Unmarshal([]byte(`<doc><v>plain</v></doc>`), &back), lethe.ErrNotSealed)
	require.ErrorIs(t, xml.Unmarshal([]byte(`<doc attr="plain"></doc>`), &back), lethe.ErrNotSealed)
}

func TestCodecsRefusePlaintext(t *testing.T) {
	t.Parallel()
	row := sealedCell(t, cellRows(t), "")
	cell := binaryOf(t, row.V)
	texts := []string{
		"plain", "ada@example.com", strings.Repeat("a", 200), "42", "2024-01-02", "true", " ", "\x00",
		strings.Repeat("\xff", 64),
		base64.StdEncoding.EncodeToString([]byte(strings.Repeat("plain", 20))),
		base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("plain", 20))),
		`\x` + hex.EncodeToString([]byte(strings.Repeat("plain", 20))),
		string(cell[:28]), // a byte too short
		"\x21" + string(cell[1:]),
		"\x01" + string(cell[1:]),
	}
	for _, into := range []formedInto{&lethe.Secret[string]{}, &lethe.Secret[[]byte]{}, &lethe.Secret[int]{}, &lethe.Secret[time.Time]{}, &lethe.Keys{}} {
		for _, text := range texts {
			require.ErrorIs(t, into.Scan(text), lethe.ErrNotSealed, "%T %q", into, text)
			require.ErrorIs(t, into.Scan([]byte(text)), lethe.ErrNotSealed, "%T %q", into, text)
			require.ErrorIs(t, into.UnmarshalText([]byte(text)), lethe.ErrNotSealed, "%T %q", into, text)
			require.ErrorIs(t, into.UnmarshalBinary([]byte(text)), lethe.ErrNotSealed, "%T %q", into, text)
			quoted, err := json.Marshal(text)
			require.NoError(t, err)
			for _, doc := range []string{string(quoted), `{"$lethe":` + string(quoted) + `}`, `[` + string(quoted) + `]`, `42`, `true`, `{}`, `[]`} {
				require.ErrorIs(t, json.Unmarshal([]byte(doc), into), lethe.ErrNotSealed, "%T %s", into, doc)
			}
		}
		for _, src := range []any{42, int64(42), 4.2, true, time.Now(), struct{}{}, []string{"x"}} {
			require.Error(t, into.Scan(src), "%T", src)
		}
	}
}

func TestOtherJSONThanTheSealedFormIsRefused(t *testing.T) {
	t.Parallel()
	row := sealedCell(t, cellRows(t), "json")
	text, err := row.V.MarshalText()
	require.NoError(t, err)
	good := `{"$lethe":"` + string(text) + `"}`
	var v lethe.Secret[string]
	require.NoError(t, json.Unmarshal([]byte(good), &v))
	require.NoError(t, json.Unmarshal([]byte(" { \"$lethe\" : \""+string(text)+"\" } "), &v))
	require.NoError(t, json.Unmarshal([]byte(` null `), &v))
	require.Equal(t, lethe.StatusNull, v.Status())
	for _, bad := range []string{
		`{"$lethe":"` + string(text) + `","x":1}`,
		`{"x":1,"$lethe":"` + string(text) + `"}`,
		`{"$LETHE":"` + string(text) + `"}`,
		`{"lethe":"` + string(text) + `"}`,
		`{"$lethe":["` + string(text) + `"]}`,
		`{"$lethe":{"$lethe":"` + string(text) + `"}}`,
		`{"$lethe":null}`, `{"$lethe":""}`, `{"$lethe":1}`, `{"$lethe":true}`, `{}`, `[]`, `""`, `false`, `0`,
		`"` + string(text) + `"`,
	} {
		require.ErrorIs(t, json.Unmarshal([]byte(bad), &v), lethe.ErrNotSealed, bad)
	}
	require.Equal(t, lethe.StatusNull, v.Status(), "what is refused changes nothing")
}

func TestBase64IsStrict(t *testing.T) {
	t.Parallel()
	// 30 bytes of ciphertext have no padding, 29 need it and have spare bits.
	s := cellRows(t)
	whole, spare := sealedCell(t, s, "a"), sealedCell(t, s, "")
	require.Len(t, binaryOf(t, whole.V), 30)
	require.Len(t, binaryOf(t, spare.V), 29)
	good, err := whole.V.MarshalText()
	require.NoError(t, err)
	short, err := spare.V.MarshalText()
	require.NoError(t, err)
	last := strings.IndexByte(base64URLAlphabet, short[len(short)-1])
	require.Zero(t, last%4, "29 bytes leave 2 spare bits, which are zero")
	var v lethe.Secret[string]
	require.NoError(t, v.Scan(string(good)))
	require.NoError(t, v.Scan(string(short)))
	for name, bad := range map[string]string{
		"spare bits":         string(short[:len(short)-1]) + string(base64URLAlphabet[last+1]),
		"padding":            string(short) + "=",
		"a line break":       string(good[:8]) + "\n" + string(good[8:]),
		"a carriage":         string(good[:8]) + "\r" + string(good[8:]),
		"a final newline":    string(good) + "\n",
		"a leading space":    " " + string(good),
		"the + of base64":    "E" + "+" + string(good[2:]),
		"the / of base64":    "E" + "/" + string(good[2:]),
		"a quote":            `"` + string(good) + `"`,
		"a missing letter":   string(good[:len(good)-3]),
		"hex of half a byte": `\x` + hex.EncodeToString(binaryOf(t, whole.V)) + "0",
	} {
		require.ErrorIs(t, v.Scan(bad), lethe.ErrNotSealed, name)
		require.ErrorIs(t, v.Scan([]byte(bad)), lethe.ErrNotSealed, name)
		require.ErrorIs(t, v.UnmarshalText([]byte(bad)), lethe.ErrNotSealed, name)
		doc, err := json.Marshal(map[string]string{"$lethe": bad})
		require.NoError(t, err)
		require.ErrorIs(t, v.UnmarshalJSON(doc), lethe.ErrNotSealed, name)
	}
}

const base64URLAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func TestAColumnNotSelectedIsNotWiped(t *testing.T) {
	t.Parallel()
	s := cellRows(t)
	row := sealedCell(t, s, "kept")
	loaded := cellRow{Keys: row.Keys, ID: row.ID}
	requireNoCodecWorks(t, loaded.V)
	_, err := loaded.X.Value()
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	require.NoError(t, s.Open(t.Context(), &loaded))
	requireNoCodecWorks(t, loaded.V)
	require.NoError(t, s.Seal(t.Context(), &loaded))
	requireNoCodecWorks(t, loaded.V)

	loaded.V = lethe.Null[string]()
	require.NoError(t, s.Seal(t.Context(), &loaded), "a NULL that was asked for is written")
	v, err := loaded.V.Value()
	require.NoError(t, err)
	require.Nil(t, v)
}

func TestZeroKeysAndIndex(t *testing.T) {
	t.Parallel()
	var k lethe.Keys
	var x lethe.BlindIndex
	require.True(t, k.IsZero())
	require.True(t, x.IsZero())
	require.Nil(t, k.Bytes())
	require.Nil(t, x.Bytes())
	for _, v := range []formed{k, x} {
		_, err := v.Value()
		require.ErrorIs(t, err, lethe.ErrNotSealed)
		_, err = lethe.Text(v).Value()
		require.ErrorIs(t, err, lethe.ErrNotSealed)
		_, err = v.MarshalText()
		require.ErrorIs(t, err, lethe.ErrNotSealed)
		_, err = v.MarshalBinary()
		require.ErrorIs(t, err, lethe.ErrNotSealed)
		_, err = json.Marshal(v)
		require.ErrorIs(t, err, lethe.ErrNotSealed)
		require.ErrorIs(t, gob.NewEncoder(&bytes.Buffer{}).Encode(v), lethe.ErrNotSealed)
	}
	require.NoError(t, k.Scan(nil))
	require.True(t, k.IsZero(), "NULL Keys are those of a row that was never sealed")
	_, err := k.Value()
	require.ErrorIs(t, err, lethe.ErrNotSealed)
}

func TestInputDecodesPlaintext(t *testing.T) {
	t.Parallel()
	type named string
	type request struct {
		Text  lethe.Input[string]    `json:"text" xml:"text"`
		Named lethe.Input[named]     `json:"named" xml:"named"`
		Bytes lethe.Input[[]byte]    `json:"bytes" xml:"bytes"`
		Count lethe.Input[int]       `json:"count" xml:"count"`
		When  lethe.Input[time.Time] `json:"when" xml:"when"`
		Yes   lethe.Input[bool]      `json:"yes" xml:"yes"`
	}
	when := time.Date(2024, 2, 29, 1, 2, 3, 0, time.UTC)
	var r request
	require.NoError(t, json.Unmarshal([]byte(`{"text":"a","named":"b","bytes":"Yw==","count":42,"when":"2024-02-29T01:02:03Z","yes":true}`), &r))
	require.Equal(t, "a", reveal(t, r.Text.Secret()))
	require.Equal(t, named("b"), reveal(t, r.Named.Secret()))
	require.Equal(t, "c", string(reveal(t, r.Bytes.Secret())))
	require.Equal(t, 42, reveal(t, r.Count.Secret()))
	require.Equal(t, when, reveal(t, r.When.Secret()))
	require.True(t, reveal(t, r.Yes.Secret()))

	var x request
	require.NoError(t, xml.Unmarshal([]byte(`<r><text>a</text><named>b</named><bytes>c</bytes><count>42</count><when>2024-02-29T01:02:03Z</when><yes>true</yes></r>`), &x))
	require.Equal(t, "a", reveal(t, x.Text.Secret()))
	require.Equal(t, named("b"), reveal(t, x.Named.Secret()))
	require.Equal(t, "c", string(reveal(t, x.Bytes.Secret())))
	require.Equal(t, 42, reveal(t, x.Count.Secret()))
	require.Equal(t, when, reveal(t, x.When.Secret()))
	require.True(t, reveal(t, x.Yes.Secret()))

	var none request
	require.NoError(t, json.Unmarshal([]byte(`{"text":null}`), &none))
	require.Equal(t, lethe.StatusNull, none.Text.Secret().Status())
	require.False(t, none.Text.IsZero())
	require.True(t, none.Named.IsZero())
	require.Equal(t, lethe.StatusUnset, none.Named.Secret().Status())
}

func TestInputTextIsTakenLiterally(t *testing.T) {
	t.Parallel()
	type named string
	type blob []byte
	for _, text := range []string{"null", `"quoted"`, "true", "42", "", " x ", `{"a":1}`, "\\", "\xff"} {
		var plain lethe.Input[string]
		require.NoError(t, plain.UnmarshalText([]byte(text)))
		require.Equal(t, text, reveal(t, plain.Secret()))
		var alike lethe.Input[named]
		require.NoError(t, alike.UnmarshalText([]byte(text)), "%q", text)
		require.Equal(t, named(text), reveal(t, alike.Secret()), "%q", text)
		var raw lethe.Input[blob]
		require.NoError(t, raw.UnmarshalText([]byte(text)), "%q", text)
		require.Equal(t, blob(text), reveal(t, raw.Secret()), "%q", text)
	}
	var number lethe.Input[int]
	require.Error(t, number.UnmarshalText([]byte("null")), "null is no number")
	require.Error(t, number.UnmarshalText([]byte("")))
	require.Error(t, number.UnmarshalText([]byte("1.5")))
	require.Error(t, number.UnmarshalText([]byte(`"42"`)))
	require.True(t, number.IsZero())
	var when lethe.Input[time.Time]
	require.Error(t, when.UnmarshalText([]byte("null")))
	require.True(t, when.IsZero())
}

func TestInputRefuses(t *testing.T) {
	t.Parallel()
	row := sealedCell(t, cellRows(t), "sealed already")
	doc, err := json.Marshal(row.V)
	require.NoError(t, err)
	var in lethe.Input[string]
	require.ErrorIs(t, json.Unmarshal(doc, &in), lethe.ErrSealed)
	var m lethe.Input[map[string]string]
	require.ErrorIs(t, json.Unmarshal(doc, &m), lethe.ErrSealed)
	require.Error(t, json.Unmarshal([]byte(`42`), &in))
	require.Error(t, json.Unmarshal([]byte(`{"a":1}`), &in))
	require.True(t, in.IsZero())

	require.NoError(t, json.Unmarshal([]byte(`"set"`), &in))
	_, err = json.Marshal(struct{ In lethe.Input[string] }{in})
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	_, err = in.MarshalText()
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	_, err = xml.Marshal(struct {
		XMLName xml.Name `xml:"r"`
		In      lethe.Input[string]
	}{In: in})
	require.ErrorIs(t, err, lethe.ErrNotSealed)
}

func TestTextParameterKeepsErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	_, err := lethe.Text(brokenText{broken}).Value()
	require.ErrorIs(t, err, broken)
}

type brokenText struct{ err error }

func (b brokenText) MarshalText() ([]byte, error) { return nil, b.err }

// failsWith is a value whose marshaler fails.
type failsWith struct{ Why string }

func (f failsWith) MarshalText() ([]byte, error)  { return nil, errors.New(f.Why) }
func (f *failsWith) UnmarshalText(b []byte) error { return errors.New(f.Why + string(b)) }
