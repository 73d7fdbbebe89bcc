package lethe_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"log"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

// The plaintexts, and what their masks show.
const (
	leakText   = "qzjx-vault.Kpw9@leak-domain.example"
	leakBlob   = "Wvkq7731-blob-Zrhy"
	leakNumber = int64(7301846925183746123)
	leakWord   = "Xylo9041phone-in-json"
	leakStreet = "Umbrageous Lane 88417"
	leakInput  = "Jqvx-input-550913"

	leakTextMask   = "q***@leak-domain.example"
	leakBlobMask   = "•••• Zrhy"
	leakNumberMask = "•••• 6123"
	leakWhenMask   = "1871-••-••"
)

var leakWhen = time.Date(1871, 10, 26, 5, 43, 21, 987654321, time.UTC)

type leakDoc struct {
	Phone string
	Codes []int64
}

type leakHome struct {
	Street lethe.Secret[string] `lethe:"street"`
}

type leakRow struct {
	Keys   lethe.Keys              `lethe:"leaks"`
	ID     string                  `lethe:"subject=leaker"`
	Text   lethe.Secret[string]    `lethe:"text,mask=email"`
	TextX  lethe.BlindIndex        `lethe:"text_idx,of=text,norm=email/1,bits=64"`
	Blob   lethe.Secret[[]byte]    `lethe:"blob,mask=last4"`
	Number lethe.Secret[int64]     `lethe:"number,mask=last4"`
	When   lethe.Secret[time.Time] `lethe:"when,mask=year"`
	Doc    lethe.Secret[leakDoc]   `lethe:"doc,json"`
	Home   leakHome                `lethe:"home"`
	Away   *leakHome               `lethe:"away"`
}

// leakBag holds secrets wherever a Go value can hold something.
type leakBag struct {
	Row      leakRow
	Ptr      *leakRow
	PtrPtr   **leakRow
	Map      map[string]lethe.Secret[string]
	PtrMap   map[int]*lethe.Secret[[]byte]
	Slice    []lethe.Secret[int64]
	Rows     []leakRow
	Array    [2]lethe.Secret[time.Time]
	Any      any
	Anys     []any
	Err      error
	Stringer fmt.Stringer
	In       lethe.Input[string]
	Query    *lethe.Query[leakRow]
	Sealer   *lethe.Sealer[leakRow]
	Keys     lethe.Keys
	Index    lethe.BlindIndex
	hidden   leakHidden
	pointed  *leakHidden
}

type leakHidden struct {
	row    leakRow
	ptr    *leakRow
	m      map[string]lethe.Secret[string]
	slice  []lethe.Secret[[]byte]
	array  [1]lethe.Secret[int64]
	any    any
	err    error
	in     lethe.Input[string]
	query  lethe.Query[leakRow]
	sealer *lethe.Sealer[leakRow]
	keys   lethe.Keys
	index  lethe.BlindIndex
}

// leakError is an error that carries a row.
type leakError struct {
	Row   leakRow
	cause lethe.Secret[string]
}

func (e leakError) Error() string { return fmt.Sprintf("row %v with %s", e.Row, e.cause) }

func plainLeak() leakRow {
	return leakRow{
		ID: "id-1", Text: lethe.Of(leakText), Blob: lethe.Of([]byte(leakBlob)), Number: lethe.Of(leakNumber), When: lethe.Of(leakWhen),
		Doc:  lethe.Of(leakDoc{Phone: leakWord, Codes: []int64{leakNumber}}),
		Home: leakHome{lethe.Of(leakStreet)}, Away: &leakHome{lethe.Of(leakStreet)},
	}
}

// leakBags returns a bag of every status a Secret with a value can have.
func leakBags(t *testing.T) map[lethe.Status]*leakBag {
	t.Helper()
	ring := envelopetest.NewKeyring(t)
	s, err := lethe.For[leakRow](ring)
	require.NoError(t, err)
	ctx := t.Context()
	sealed := func() leakRow {
		row := plainLeak()
		require.NoError(t, s.Seal(ctx, &row))
		return row
	}
	rows := map[lethe.Status]leakRow{lethe.StatusPlain: plainLeak(), lethe.StatusSealed: sealed()}

	opened := sealed()
	require.NoError(t, s.Open(ctx, &opened))
	rows[lethe.StatusOpen] = opened

	denied := sealed()
	require.NoError(t, s.Open(ctx, &denied, lethe.Masks()))
	require.Equal(t, leakTextMask, denied.Text.Masked())
	require.Equal(t, leakBlobMask, denied.Blob.Masked())
	require.Equal(t, leakNumberMask, denied.Number.Masked())
	require.Equal(t, leakWhenMask, denied.When.Masked())
	rows[lethe.StatusDenied] = denied

	failed := sealed()
	damage := func(v interface {
		MarshalBinary() ([]byte, error)
		UnmarshalBinary(data []byte) error
	}, to interface{ UnmarshalBinary(data []byte) error }) {
		b := binaryOf(t, v)
		b[len(b)-1] ^= 1
		require.NoError(t, to.UnmarshalBinary(b))
	}
	damage(&failed.Text, &failed.Text)
	damage(&failed.Blob, &failed.Blob)
	damage(&failed.Number, &failed.Number)
	damage(&failed.When, &failed.When)
	damage(&failed.Doc, &failed.Doc)
	damage(&failed.Home.Street, &failed.Home.Street)
	damage(&failed.Away.Street, &failed.Away.Street)
	require.ErrorIs(t, s.Open(ctx, &failed), lethe.ErrDecrypt)
	rows[lethe.StatusFailed] = failed

	query, err := s.Query(ctx, "text_idx", leakText)
	require.NoError(t, err)
	gone := sealed()
	_, err = ring.Forget(ctx, lethe.Subject{Kind: "leaker", ID: "id-1"})
	require.NoError(t, err)
	require.NoError(t, s.Open(ctx, &gone))
	rows[lethe.StatusForgotten] = gone

	bags := map[lethe.Status]*leakBag{}
	for status, row := range rows {
		for _, got := range []lethe.Status{row.Text.Status(), row.Blob.Status(), row.Number.Status(), row.When.Status(), row.Doc.Status(), row.Home.Street.Status(), row.Away.Street.Status()} {
			require.Equal(t, status, got)
		}
		bags[status] = newLeakBag(t, row, query, s)
	}
	return bags
}

func newLeakBag(t *testing.T, row leakRow, query *lethe.Query[leakRow], s *lethe.Sealer[leakRow]) *leakBag {
	t.Helper()
	var in lethe.Input[string]
	require.NoError(t, json.Unmarshal([]byte(strconv.Quote(leakInput)), &in))
	ptr := &row
	wrapped := fmt.Errorf("outer: %w", leakError{row, row.Text})
	printed := fmt.Errorf("%v %+v %#v %s: %w", row, &row, row.Text, row.Blob, wrapped)
	hidden := leakHidden{
		row: row, ptr: ptr, m: map[string]lethe.Secret[string]{"k": row.Text}, slice: []lethe.Secret[[]byte]{row.Blob},
		array: [1]lethe.Secret[int64]{row.Number}, any: row.Doc, err: printed, in: in, query: *query, sealer: s, keys: row.Keys, index: row.TextX,
	}
	return &leakBag{
		Row: row, Ptr: ptr, PtrPtr: &ptr, Map: map[string]lethe.Secret[string]{"a": row.Text, "b": row.Home.Street},
		PtrMap: map[int]*lethe.Secret[[]byte]{1: &row.Blob}, Slice: []lethe.Secret[int64]{row.Number}, Rows: []leakRow{row},
		Array: [2]lethe.Secret[time.Time]{row.When, row.When}, Any: row.Doc, Anys: []any{row, &row, row.Text, &row.Number, in, query},
		Err: printed, Stringer: row.Text, In: in, Query: query, Sealer: s, Keys: row.Keys, Index: row.TextX, hidden: hidden, pointed: &hidden,
	}
}

// binaryOf returns the bytes any of our types stores.
func binaryOf(t testing.TB, v interface{ MarshalBinary() ([]byte, error) }) []byte {
	t.Helper()
	b, err := v.MarshalBinary()
	require.NoError(t, err)
	return b
}

// parts are the values a program is likely to print.
func (b *leakBag) parts() map[string]any {
	return map[string]any{
		"bag": *b, "bag pointer": b, "row": b.Row, "row pointer": b.Ptr, "rows": b.Rows, "map": b.Map, "slice": b.Slice, "array": b.Array,
		"anys": b.Anys, "text": b.Row.Text, "text pointer": &b.Row.Text, "blob": b.Row.Blob, "number": b.Row.Number, "when": b.Row.When,
		"doc": b.Row.Doc, "home": b.Row.Home, "home pointer": b.Row.Away, "error": b.Err, "error value": leakError{b.Row, b.Row.Text},
		"input": b.In, "input pointer": &b.In, "query": b.Query, "query value": *b.Query, "sealer": b.Sealer, "keys": b.Keys, "index": b.Index,
		"hidden": b.hidden, "hidden pointer": b.pointed,
	}
}

var fmtVerbs = func() []string {
	var out []string
	for _, verb := range "vsqxXdtTpeEfFgGUcbow" {
		for _, flags := range []string{"", "+", "#", " ", "-040.30"} {
			out = append(out, "%"+flags+string(verb))
		}
	}
	return append(out, "%+#v", "%# x", "%200.100s", "%", "%!", "%z", "%[2]v", "%*d", "%[1]*v", "%.*s")
}()

// needles are the spellings of the plaintexts, and of the masks, that must not
// turn up: as they are, and as fmt, hex, base64 and JSON write unprotected values.
var needles = func() map[string]string {
	out := map[string]string{}
	add := func(what, s string) {
		s = strings.Trim(strings.TrimSpace(s), "[](){}\"`' ")
		if len(s) >= 6 {
			out[s] = what
		}
	}
	words := map[string]string{
		"text": leakText, "blob": leakBlob, "word": leakWord, "street": leakStreet, "input": leakInput, "normalised text": strings.ToLower(leakText),
		"text mask": leakTextMask, "blob mask": leakBlobMask, "number mask": leakNumberMask, "when mask": leakWhenMask,
	}
	for what, word := range words {
		for _, format := range []string{"%s", "%q", "%+q", "%x", "%X", "% x", "% X", "%# x", "%#v", "%d", "%o", "%b", "%c", "%U", "%e"} {
			text, raw := fmt.Sprintf(format, word), fmt.Sprintf(format, []byte(word))
			if !strings.Contains(text, "%!") {
				add(what, text)
			}
			if !strings.Contains(raw, "%!") {
				add(what, strings.TrimPrefix(raw, "[]byte"))
			}
		}
		decimals := strings.Fields(strings.Trim(fmt.Sprintf("%d", []byte(word)), "[]"))
		add(what, strings.Join(decimals, ","))
		add(what, strings.Join(decimals, ", "))
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			add(what, enc.EncodeToString([]byte(word)))
		}
		var escaped strings.Builder
		_ = xml.EscapeText(&escaped, []byte(word))
		add(what, escaped.String())
		add(what, htmltemplate.HTMLEscapeString(word))
	}
	for _, format := range []string{"%d", "%x", "%X", "%o", "%b", "%#x"} {
		add("number", fmt.Sprintf(format, leakNumber))
	}
	number := binary.BigEndian.AppendUint64(nil, uint64(leakNumber))
	add("number", string(number))
	add("number", hex.EncodeToString(number))
	add("number", fmt.Sprintf("%d", number))
	add("number", base64.RawURLEncoding.EncodeToString(number))
	for _, layout := range []string{time.DateOnly, time.RFC3339, time.RFC3339Nano, time.RFC822, time.ANSIC, time.TimeOnly, time.Kitchen} {
		add("when", leakWhen.Format(layout))
	}
	add("when", strconv.FormatInt(leakWhen.Unix(), 10))
	add("when", strconv.FormatInt(leakWhen.Unix()+62135596800, 10)) // how time.Time counts
	add("when", strconv.FormatInt(leakWhen.Unix(), 16))
	return out
}()

func requireNoLeak(t *testing.T, where, output string) {
	t.Helper()
	for needle, what := range needles {
		if strings.Contains(output, needle) {
			t.Errorf("%s shows the %s as %q", where, what, needle)
		}
	}
}

func TestNeedlesAreFound(t *testing.T) {
	t.Parallel()
	require.Greater(t, len(needles), 150)
	unprotected := struct {
		Text   string
		Blob   []byte
		Number int64
		When   time.Time
	}{leakText, []byte(leakBlob), leakNumber, leakWhen}
	found := func(output string) map[string]bool {
		out := map[string]bool{}
		for needle, what := range needles {
			if strings.Contains(output, needle) {
				out[what] = true
			}
		}
		return out
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d"} {
		got := found(fmt.Sprintf(format, unprotected))
		for _, what := range []string{"blob", "number"} {
			require.True(t, got[what], "%s: %s in %s", format, what, fmt.Sprintf(format, unprotected))
		}
		if format != "%d" {
			require.True(t, got["text"], format)
		}
	}
	data, err := json.Marshal(unprotected)
	require.NoError(t, err)
	require.Equal(t, map[string]bool{"text": true, "blob": true, "number": true, "when": true}, found(string(data)))
}

// eachLeak runs a check on every part of the bag of every status.
func eachLeak(t *testing.T, check func(t *testing.T, where string, v any)) {
	t.Helper()
	for status, bag := range leakBags(t) {
		for name, v := range bag.parts() {
			check(t, status.String()+" "+name, v)
		}
	}
}

func TestFmtShowsNothing(t *testing.T) {
	t.Parallel()
	looked := map[string]bool{}
	eachLeak(t, func(t *testing.T, where string, v any) {
		for _, verb := range fmtVerbs {
			output := strings.TrimSpace(fmt.Sprintf(verb, v))
			if !looked[output] {
				looked[output] = true
				requireNoLeak(t, verb+" of "+where, output)
			}
		}
		requireNoLeak(t, "Sprint of "+where, fmt.Sprint(v))
		requireNoLeak(t, "Sprintln of "+where, fmt.Sprintln("x", v, v))
		requireNoLeak(t, "Append of "+where, string(fmt.Append(nil, v)))
		requireNoLeak(t, "an error with "+where, fmt.Errorf("%w", errors.Join(fmt.Errorf("a %v", v), fmt.Errorf("b %#v", v))).Error())
	})
}

func TestPrintedSecretsAreRedacted(t *testing.T) {
	t.Parallel()
	for status, bag := range leakBags(t) {
		want := "[sealed]"
		if status == lethe.StatusForgotten {
			want = "[forgotten]"
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%e", "%U", "%c", "%b", "%o", "%20s", "%-5d", "%.2v"} {
			for _, v := range []any{bag.Row.Text, bag.Row.Blob, bag.Row.Number, bag.Row.When, bag.Row.Doc, &bag.Row.Text} {
				require.Equal(t, want, fmt.Sprintf(verb, v), "%s of %s %T", verb, status, v)
			}
			require.Equal(t, "[input]", fmt.Sprintf(verb, bag.In))
			require.Equal(t, "[keys]", fmt.Sprintf(verb, bag.Row.Keys))
			require.Equal(t, "[index]", fmt.Sprintf(verb, bag.Row.TextX))
			require.Equal(t, "[sealer]", fmt.Sprintf(verb, bag.Sealer))
		}
		require.Equal(t, want, bag.Row.Text.String())
		require.Equal(t, want, bag.Row.Text.GoString())
		require.Equal(t, want, bag.Row.Text.LogValue().String())
		require.Equal(t, "{"+want+"}", fmt.Sprint(bag.Row.Home))
		require.Equal(t, "query of text_idx", fmt.Sprint(bag.Query))
	}
}

func TestLogsShowNothing(t *testing.T) {
	t.Parallel()
	eachLeak(t, func(t *testing.T, where string, v any) {
		var out bytes.Buffer
		plain := log.New(&out, "", log.LstdFlags|log.Lshortfile)
		plain.Print(v)
		plain.Println("with", v)
		plain.Printf("%v %+v %#v", v, v, v)
		requireNoLeak(t, "log of "+where, out.String())
		for _, opts := range []*slog.HandlerOptions{nil, {AddSource: true}} {
			for name, handler := range map[string]slog.Handler{"text": slog.NewTextHandler(&out, opts), "JSON": slog.NewJSONHandler(&out, opts)} {
				out.Reset()
				logger := slog.New(handler)
				logger.Info("as a value", "v", v)
				logger.Info("in a group", slog.Group("g", "v", v, slog.Group("h", slog.Any("w", v))))
				logger.With("v", v).WithGroup("g").Info("kept", "v", &v)
				logger.Info("inside", "v", struct{ V any }{v}, "s", []any{v}, "m", map[string]any{"k": v})
				logger.Info("a value of a value", "v", slog.AnyValue(v), "lazy", leakLazy{v})
				logger.Error(fmt.Sprint(v), "err", fmt.Errorf("wrapped: %v", v))
				requireNoLeak(t, "slog "+name+" of "+where, out.String())
				require.Contains(t, out.String(), "as a value")
			}
		}
	})
}

type leakLazy struct{ v any }

func (l leakLazy) LogValue() slog.Value { return slog.AnyValue(l.v) }

func TestEncodersShowNothing(t *testing.T) {
	t.Parallel()
	eachLeak(t, func(t *testing.T, where string, v any) {
		said := func(what string, out []byte, err error) {
			requireNoLeak(t, what+" of "+where, string(out))
			if err != nil {
				requireNoLeak(t, what+" error of "+where, err.Error())
				requireNoLeak(t, what+" error of "+where, fmt.Sprintf("%+v %#v", err, err))
			}
		}
		for _, value := range []any{v, &v, []any{v}, map[string]any{"k": v}} {
			out, err := json.Marshal(value)
			said("json", out, err)
			out, err = json.MarshalIndent(value, "", " ")
			said("json", out, err)
			out, err = xml.Marshal(value)
			said("xml", out, err)
			var buf bytes.Buffer
			err = gob.NewEncoder(&buf).Encode(value)
			said("gob", buf.Bytes(), err)
		}
	})
}

func TestEncodersWriteCiphertextOrFail(t *testing.T) {
	t.Parallel()
	for status, bag := range leakBags(t) {
		for _, v := range []any{bag.Row.Text, bag.Row, bag.Ptr, bag.Rows, bag.Map, bag.Slice, bag.Array} {
			_, err := json.Marshal(v)
			if status == lethe.StatusPlain {
				require.ErrorIs(t, err, lethe.ErrNotSealed, "%T", v)
			} else {
				require.NoError(t, err, "%s %T", status, v)
			}
		}
		var buf bytes.Buffer
		if err := gob.NewEncoder(&buf).Encode(bag.Row); status == lethe.StatusPlain {
			require.ErrorIs(t, err, lethe.ErrNotSealed)
		} else {
			require.NoError(t, err)
		}
		if _, err := xml.Marshal(bag.Row); status == lethe.StatusPlain {
			require.ErrorIs(t, err, lethe.ErrNotSealed)
		} else {
			require.NoError(t, err)
		}
	}
}

func TestTemplatesShowNothing(t *testing.T) {
	t.Parallel()
	const source = `{{.}} {{printf "%v %+v %#v %s %q %x %d" . . . . . . .}} {{print .}} {{println .}} {{html .}} {{js .}} {{urlquery .}} {{with .}}{{.}}{{end}}`
	const page = `<p title="{{.}}" onclick="f({{.}})" style="color: {{.}}"><a href="/x?q={{.}}">{{.}}</a><script>var v = {{.}}; var s = "{{.}}";</script>{{printf "%#v" .}}</p>`
	text := template.Must(template.New("text").Parse(source))
	html := htmltemplate.Must(htmltemplate.New("html").Parse(page))
	rows := template.Must(template.New("rows").Parse(`{{range .}}{{.Text}} {{.Blob}} {{.Number}} {{.When}} {{.Doc}} {{.Home}} {{.Home.Street}} {{.Away.Street}} {{.Text.Status}}{{end}}`))
	eachLeak(t, func(t *testing.T, where string, v any) {
		for name, execute := range map[string]func(b *bytes.Buffer) error{
			"text/template": func(b *bytes.Buffer) error { return text.Execute(b, v) },
			"html/template": func(b *bytes.Buffer) error { return html.Execute(b, v) },
		} {
			var out bytes.Buffer
			if err := execute(&out); err != nil {
				requireNoLeak(t, name+" error of "+where, err.Error())
			}
			require.NotEmpty(t, out.String())
			requireNoLeak(t, name+" of "+where, out.String())
		}
		if list, ok := v.([]leakRow); ok {
			var out bytes.Buffer
			require.NoError(t, rows.Execute(&out, list))
			requireNoLeak(t, "fields of "+where, out.String())
		}
	})
}

// recorder is a testing.T for assertions that fail on purpose.
type recorder struct{ strings.Builder }

func (r *recorder) Errorf(format string, args ...any) { _, _ = fmt.Fprintf(r, format, args...) }

func TestFailedAssertionsShowNothing(t *testing.T) {
	t.Parallel()
	eachLeak(t, func(t *testing.T, where string, v any) {
		if strings.Contains(where, "sealer") || strings.Contains(where, "bag") || strings.Contains(where, "hidden") {
			return // their dumps of the whole keyring take seconds; dumper below walks it
		}
		var r recorder
		other := reflect.Zero(reflect.TypeOf(v)).Interface()
		assert.Equal(&r, v, other)
		assert.Equal(&r, other, v, "of %v", v)
		assert.EqualValues(&r, 7, v)
		assert.Nil(&r, v)
		assert.Contains(&r, []any{v}, 7)
		assert.Empty(&r, []any{v})
		assert.ElementsMatch(&r, []any{v}, []any{7})
		require.NotEmpty(t, r.String())
		requireNoLeak(t, "an assertion about "+where, r.String())
	})
}

// dumper finds all that reflection can reach, unexported fields included, as
// spew, pp, litter and the like do. Function closures, channels and
// unsafe.Pointer are where all of them stop.
type dumper struct {
	t     *testing.T
	where string
	seen  map[dumped]bool
	found func(path, text string)
	steps int
}

type dumped struct {
	at  unsafe.Pointer
	typ reflect.Type
}

func (d *dumper) walk(path string, v reflect.Value) {
	if !v.IsValid() {
		return
	}
	d.steps++
	switch v.Kind() {
	case reflect.String:
		d.found(path, v.String())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		d.found(path, strconv.FormatInt(v.Int(), 10))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		d.found(path, strconv.FormatUint(v.Uint(), 10))
	case reflect.Pointer:
		if key := (dumped{v.UnsafePointer(), v.Type()}); !v.IsNil() && !d.seen[key] {
			d.seen[key] = true
			d.walk(path+".*", v.Elem())
		}
	case reflect.Interface:
		d.walk(path, addressable(v.Elem()))
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			d.walk(path+" key", addressable(it.Key()))
			d.walk(path+"[]", addressable(it.Value()))
		}
	case reflect.Slice, reflect.Array:
		d.elements(path, v)
	case reflect.Struct:
		if pkg := v.Type().PkgPath(); pkg == "sync" || pkg == "sync/atomic" || v.Type() == reflect.TypeFor[time.Location]() {
			return // written to while we look; they hold no secrets of ours
		}
		for i := range v.NumField() {
			f := v.Field(i)
			d.walk(path+"."+v.Type().Field(i).Name, reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem())
		}
	default: // nothing that could hold one of the needles, or the end of the way
	}
}

// elements also looks at what lies between the length and the capacity.
func (d *dumper) elements(path string, v reflect.Value) {
	if v.Kind() == reflect.Slice {
		if v.IsNil() {
			return
		}
		if key := (dumped{v.UnsafePointer(), v.Type()}); d.seen[key] {
			return
		} else if v.Cap() > 0 {
			d.seen[key] = true
		}
		v = v.Slice(0, v.Cap())
	}
	if v.Type().Elem().Kind() == reflect.Uint8 {
		b := make([]byte, v.Len())
		for i := range b {
			b[i] = byte(v.Index(i).Uint())
		}
		d.found(path, string(b))
		return
	}
	for i := range v.Len() {
		d.walk(path+"[]", v.Index(i))
	}
}

// addressable copies a value, so that its unexported fields can be read.
func addressable(v reflect.Value) reflect.Value {
	if !v.IsValid() {
		return v
	}
	to := reflect.New(v.Type()).Elem()
	to.Set(v)
	return to
}

// dump returns everything reachable from v, a piece a line.
func dump(t *testing.T, where string, v any) (output string, steps int) {
	t.Helper()
	var out strings.Builder
	d := &dumper{t: t, where: where, seen: map[dumped]bool{}, found: func(_, text string) {
		out.WriteString(text)
		out.WriteByte('\n')
	}}
	d.walk("", addressable(reflect.ValueOf(v)))
	return out.String(), d.steps
}

func TestDumperReachesUnexportedFields(t *testing.T) {
	t.Parallel()
	type inner struct {
		m map[string]*[]byte
		a any
	}
	blob := []byte(leakBlob)
	v := struct {
		p **inner
		s []inner
		n [1]int64
	}{n: [1]int64{leakNumber}, s: []inner{{a: struct{ w string }{leakWord}}}}
	p := &inner{m: map[string]*[]byte{leakStreet: &blob}}
	v.p = &p
	output, _ := dump(t, "control", v)
	for _, want := range []string{leakBlob, leakWord, leakStreet, strconv.FormatInt(leakNumber, 10)} {
		require.Contains(t, output, want)
	}
	spare, _ := dump(t, "control", struct{ s []byte }{blob[:0]})
	require.Contains(t, spare, leakBlob)
	require.NotContains(t, output, leakText)
}

func TestReflectionReachesNothing(t *testing.T) {
	t.Parallel()
	eachLeak(t, func(t *testing.T, where string, v any) {
		output, steps := dump(t, where, v)
		requireNoLeak(t, "reflection over "+where, output)
		if strings.HasSuffix(where, "bag") {
			require.Greater(t, steps, 500, "the walk ended early: %s", where)
			require.Contains(t, output, "id-1", "clear fields are there")
		}
	})
}

const leakPanicEnv = "LETHE_TEST_PANIC"

// leakPanics are ways to crash with secrets at hand.
var leakPanics = map[string]func(row leakRow){
	"secret":         func(row leakRow) { panic(row.Text) },
	"secret pointer": func(row leakRow) { panic(&row.Text) },
	"number":         func(row leakRow) { panic(row.Number) },
	"row":            func(row leakRow) { panic(row) },
	"row pointer":    func(row leakRow) { panic(&row) },
	"error":          func(row leakRow) { panic(leakError{row, row.Text}) },
	"wrapped error":  func(row leakRow) { panic(fmt.Errorf("%v: %w", row, leakError{row, row.Text})) },
	"printed":        func(row leakRow) { panic(fmt.Sprintf("%+v %#v", row, row)) },
	"input":          func(row leakRow) { var in lethe.Input[string]; _ = in.UnmarshalText([]byte(leakInput)); panic(in) },
	"in a deferred":  func(row leakRow) { defer func() { panic(recover()) }(); panic(row.Doc) },
	"runtime":        func(row leakRow) { var missing *leakHome; fmt.Println(row.Text, missing.Street) },
	"goexit log":     func(row leakRow) { log.Panicf("%v %v", row, row.Home) },
}

// TestPanicsShowNothing runs itself as a child that panics, and reads what the runtime printed.
func TestPanicsShowNothing(t *testing.T) {
	if name := os.Getenv(leakPanicEnv); name != "" {
		row := plainLeak()
		if status, sealed := strings.CutPrefix(name, "open "); sealed {
			s, err := lethe.For[leakRow](envelopetest.NewKeyring(t))
			require.NoError(t, err)
			require.NoError(t, s.Seal(context.Background(), &row))
			require.NoError(t, s.Open(context.Background(), &row))
			name = status
		}
		leakPanics[name](row)
		return
	}
	t.Parallel()
	names := slices.Sorted(maps.Keys(leakPanics))
	for _, name := range append(names, "open row", "open error", "open secret") {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPanicsShowNothing$")
		cmd.Env = append(os.Environ(), leakPanicEnv+"="+name, "GOTRACEBACK=all")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, name)
		require.Contains(t, string(out), "panic: ", name)
		require.Contains(t, string(out), "goroutine ", name)
		requireNoLeak(t, "a panic with "+name, string(out))
	}
}
