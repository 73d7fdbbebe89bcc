package lethe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

// upper has a way to JSON of its own, by pointer.
type upper string

func (u *upper) MarshalJSON() ([]byte, error) { return json.Marshal(strings.ToUpper(string(*u))) }

func (u *upper) UnmarshalJSON(b []byte) error {
	var s string
	err := json.Unmarshal(b, &s)
	*u = upper(strings.ToLower(s))
	return err
}

// parcel has a clear field of every kind, and parcelTwin is how encoding/json
// sees the same document: members in the same order, sealed ones as they come.
type parcel struct {
	_ lethe.Document `lethe:"parcels"`
	parcelClear
	Sealed string        `json:"sealed&co" lethe:"sealed"`
	Omit   *int          `json:"omit,omitempty" lethe:"omit"`
	Null   *int          `json:"null" lethe:"null"`
	Value  parcelPart    `json:"value" lethe:"value"`
	Zero   parcelPart    `json:"zero,omitzero" lethe:"zero"`
	Ptr    *parcelPart   `json:"ptr" lethe:"ptr"`
	Nil    *parcelPart   `json:"nil" lethe:"nil"`
	NoPtr  *parcelPart   `json:"noptr,omitempty" lethe:"noptr"`
	Rest   []parcelTwin2 `json:"rest"`
}

type parcelTwin struct {
	parcelClear
	Sealed json.RawMessage `json:"sealed&co"`
	Omit   json.RawMessage `json:"omit,omitempty"`
	Null   json.RawMessage `json:"null"`
	Value  parcelTwin2     `json:"value"`
	Zero   parcelTwin2     `json:"zero,omitzero"`
	Ptr    *parcelTwin2    `json:"ptr"`
	Nil    *parcelTwin2    `json:"nil"`
	NoPtr  *parcelTwin2    `json:"noptr,omitempty"`
	Rest   []parcelTwin2   `json:"rest"`
	Keys   json.RawMessage `json:"$lethe_keys"`
}

type parcelPart struct {
	Sealed string `json:"sealed,omitempty" lethe:"sealed"`
	Clear  string `json:"clear,omitempty"`
}

type parcelTwin2 struct {
	Sealed json.RawMessage `json:"sealed,omitempty"`
	Clear  string          `json:"clear,omitempty"`
}

type parcelClear struct {
	User     string            `json:"user" lethe:"subject=customer"`
	Text     string            `json:"text"`
	Empty    string            `json:"empty,omitempty"`
	Int      int               `json:"int"`
	Small    int8              `json:"small,omitempty"`
	Uint     uint64            `json:"uint"`
	Bool     bool              `json:"bool"`
	Float    float64           `json:"float"`
	Quoted   int               `json:"quoted,string"`
	Time     time.Time         `json:"time"`
	NoTime   time.Time         `json:"no_time,omitzero"`
	Wait     time.Duration     `json:"wait"`
	Number   json.Number       `json:"number"`
	Upper    upper             `json:"upper"`
	Raw      json.RawMessage   `json:"raw"`
	Map      map[string]string `json:"map"`
	List     []string          `json:"list,omitempty"`
	Pointer  *string           `json:"pointer"`
	Any      any               `json:"any"`
	Bytes    []byte            `json:"bytes"`
	Unsigned uint8             `json:"unsigned"`
}

func parcels(t testing.TB) *lethe.Sealer[parcel] {
	t.Helper()
	s, err := lethe.For[parcel](envelopetest.NewKeyring(t))
	require.NoError(t, err)
	return s
}

func newParcel(text string, n int64) parcel {
	p := parcel{
		parcelClear: parcelClear{
			User: "cus_1", Text: text, Int: int(n), Small: int8(n), Uint: uint64(n), Bool: n%2 == 0, Float: float64(n) / 3, Quoted: int(n),
			Time: birthday.UTC(), Wait: time.Duration(n), Number: "1.50", Upper: "upper", Raw: json.RawMessage(`{"a": [1,"}"] }`),
			Map: map[string]string{text: text}, Any: []any{text, float64(n)}, Bytes: []byte(text), Unsigned: uint8(n),
		},
		Sealed: "secret", Value: parcelPart{Sealed: "secret", Clear: text}, Ptr: &parcelPart{Clear: text}, Rest: []parcelTwin2{{Clear: text}},
	}
	if n%3 == 0 {
		p.Pointer, p.Zero.Clear, p.List = &text, text, []string{text}
	}
	return p
}

var parcelTexts = []string{
	"", "plain", `quote " and \ backslash`, "<b>&amp;</b>", "tab\tand\x00nul\x7f", "é, 世界, \u2028 \u2029 \U0001f600", "not UTF-8: \xff\xfe", `{"$lethe":"x"}`, `,"user":"cus_2"`, "]}",
}

// What Marshal writes is what encoding/json would write.
func TestMarshalWritesAsEncodingJSON(t *testing.T) {
	t.Parallel()
	s := parcels(t)
	for i, text := range parcelTexts {
		for _, n := range []int64{0, 1, -3, 127, -1 << 63, 1<<63 - 1} {
			p := newParcel(text, n)
			data, err := lethe.Marshal(t.Context(), s, &p)
			require.NoError(t, err)
			var twin parcelTwin
			require.NoError(t, json.Unmarshal(data, &twin))
			twin.parcelClear = p.parcelClear // bytes that are not UTF-8 were replaced
			if !strings.Contains(text, "\xff") {
				again, err := json.Marshal(&twin)
				require.NoError(t, err)
				require.Equal(t, string(again), string(data), "text %d, number %d", i, n)
			}
			requireSameReadings(t, s, data)
		}
	}
}

// requireSameReadings reads a document as it is and with a member more, which
// leaves it to encoding/json: both must give the same.
func requireSameReadings[T any](t *testing.T, s *lethe.Sealer[T], data []byte) {
	t.Helper()
	if object := bytes.TrimSpace(data); !json.Valid(data) || object[0] != '{' {
		return // the errors of the two differ in the byte they name
	}
	end := bytes.LastIndexByte(data, '}')
	more := append(bytes.Clone(data[:end]), `,"nobody knows":1`...)
	if len(bytes.TrimSpace(data[:end])) <= 1 {
		more = append(bytes.Clone(data[:end]), `"nobody knows":1`...)
	}
	more = append(more, data[end:]...)
	var one, other T
	err, otherErr := lethe.Unmarshal(t.Context(), s, data, &one), lethe.Unmarshal(t.Context(), s, more, &other)
	require.Equal(t, fmt.Sprint(otherErr), fmt.Sprint(err), "%q", data)
	require.Equal(t, other, one, "%q", data)
}

// Documents that differ from what Marshal writes by a little.
func TestUnmarshalReadsAsEncodingJSON(t *testing.T) {
	t.Parallel()
	s := parcels(t)
	p := newParcel("plain", 3)
	data, err := lethe.Marshal(t.Context(), s, &p)
	require.NoError(t, err)
	text := string(data)
	_, sealed, _ := strings.Cut(text, `{"$lethe":"`)
	inside, _, _ := strings.Cut(sealed, `"`)
	sealed = `{"$lethe":"` + inside + `"}`
	for _, change := range []struct{ from, to string }{
		{"", ""},
		{`,`, ` , `},
		{`:`, " :\n\t"},
		{`"user"`, `"USER"`},
		{`"user"`, `"us\u0065r"`},
		{`"user":"cus_1"`, `"user":"cus_1","user":"cus_1"`},
		{`"user":"cus_1"`, `"user":"cus_2","user":"cus_1"`},
		{`"user":"cus_1"`, `"user":"cus_1","User":"cus_2"`},
		{`"user":"cus_1"`, `"user":"c\u0075s_1"`},
		{`"user":"cus_1"`, `"user":"cus_2"`},
		{`"user":"cus_1"`, `"user":null`},
		{`"user":"cus_1"`, `"user":1`},
		{`"int":3`, `"int":3.0`}, {`"int":3`, `"int":03`}, {`"int":3`, `"int":+3`}, {`"int":3`, `"int":-0`}, {`"int":3`, `"int":3e0`}, {`"int":3`, `"int":"3"`}, {`"int":3`, `"int":null`}, {`"int":3`, `"int":99999999999999999999`},
		{`"small":3`, `"small":300`}, {`"small":3`, `"small":3 `}, {`"small":3`, `"small":`}, {`"small":3`, `"small":3}`},
		{`"bool":false`, `"bool":true`}, {`"bool":false`, `"bool":True`}, {`"bool":false`, `"bool":falsefalse`},
		{`"quoted":"3"`, `"quoted":3`},
		{`"text":"plain"`, "\"text\":\"pl\tain\""}, {`"text":"plain"`, "\"text\":\"pl\xffain\""}, {`"text":"plain"`, `"text":"pl\ud800ain"`}, {`"text":"plain"`, `"text":{}`},
		{`"any":[`, `"any":[[}`},
		{sealed, "null"}, {sealed, `"secret"`}, {sealed, `{}`}, {sealed, ` { "$lethe" : "` + inside + `" } `},
		{sealed, `{"$lethe":"` + inside + `","$lethe":"` + inside + `"}`},
		{sealed, `{"\u0024lethe":"` + inside + `"}`},
		{sealed, `{"$lethe":"` + inside + `\n"}`}, {sealed, "{\"$lethe\":\"" + inside + "\n\"}"}, {sealed, `{"$lethe":"` + inside + `="}`}, {sealed, `{"$lethe":"` + inside[1:] + `"}`},
		{sealed, `[` + sealed + `]`}, {sealed, sealed + `}`}, {sealed, sealed[:len(sealed)-1]},
		{`"ptr":{`, `"ptr":null,"later":{`}, {`"ptr":{`, `"ptr":[{`}, {`"nil":null`, `"nil":{}`}, {`"nil":null`, `"nil":{"clear":"x"}`},
		{`"$lethe_keys":`, `"$Lethe_keys":`}, {`"$lethe_keys":`, `"$lethe_keys":null,"$lethe_keys":`}, {`"$lethe_keys":`, `"$lethe_keys":"x","later":`},
		{`{"user"`, `{,"user"`}, {`{"user"`, `[{"user"`}, {text, "null"}, {text, "{}"}, {text, ""}, {text, text + text}, {text, text + " x"}, {text, "\t" + text + "\n"},
	} {
		changed := []byte(strings.ReplaceAll(text, change.from, change.to))
		if change.from == "" {
			changed = data
		}
		var one parcel
		err := lethe.Unmarshal(t.Context(), s, changed, &one)
		if !json.Valid(changed) {
			require.Error(t, err, "%s: %s", change.from, change.to)
		}
		requireSameReadings(t, s, changed)
	}
}

func TestMarshalReportsWhatEncodingJSONDoes(t *testing.T) {
	t.Parallel()
	s := parcels(t)
	p := newParcel("plain", 3)
	p.Any = make(chan int)
	_, err := lethe.Marshal(context.Background(), s, &p)
	var unsupported *json.UnsupportedTypeError
	require.ErrorAs(t, err, &unsupported)
}
