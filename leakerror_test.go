package lethe_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

// tattler tells its value in every error and panic.
type tattler struct{ V string }

func (v tattler) MarshalText() ([]byte, error) {
	if strings.HasPrefix(v.V, "Jqvx") {
		panic(v.V)
	}
	return nil, fmt.Errorf("cannot marshal %q", v.V)
}

func (v *tattler) UnmarshalText(text []byte) error {
	if bytes.HasPrefix(text, []byte("Jqvx")) {
		panic(string(text))
	}
	return fmt.Errorf("cannot unmarshal %q", text)
}

// mute encodes well, and fails to decode.
type mute struct{ V string }

func (v mute) MarshalText() ([]byte, error)     { return []byte(v.V), nil }
func (v *mute) UnmarshalText(text []byte) error { return fmt.Errorf("cannot unmarshal %q", text) }

// requireQuiet checks that there is an error, which shows nothing.
func requireQuiet(t *testing.T, where string, err error) {
	t.Helper()
	require.Error(t, err, where)
	for ; err != nil; err = errors.Unwrap(err) {
		requireNoLeak(t, where, fmt.Sprintf("%v %+v %#v %q", err, err, err, err))
	}
}

func TestErrorsOfDecodersShowNothing(t *testing.T) {
	t.Parallel()
	inputs := []string{leakText, leakBlob, leakWord, leakStreet, leakInput, strconv.FormatInt(leakNumber, 10), leakWhen.Format(time.RFC3339)}
	for _, into := range []formedInto{&lethe.Secret[string]{}, &lethe.Secret[int64]{}, &lethe.Secret[tattler]{}, &lethe.Keys{}, &lethe.BlindIndex{}} {
		for _, in := range inputs {
			where := fmt.Sprintf("%T of plaintext", into)
			quoted, err := json.Marshal(in)
			require.NoError(t, err)
			requireQuiet(t, where, into.Scan(in))
			requireQuiet(t, where, into.Scan([]byte(in)))
			requireQuiet(t, where, into.UnmarshalText([]byte(in)))
			requireQuiet(t, where, into.UnmarshalBinary([]byte(in)))
			requireQuiet(t, where, json.Unmarshal(quoted, into))
			requireQuiet(t, where, json.Unmarshal(fmt.Appendf(nil, `{"$lethe":%s}`, quoted), into))
			requireQuiet(t, where, json.Unmarshal(fmt.Appendf(nil, `{"%s":1}`, in), into))
			requireQuiet(t, where, xml.Unmarshal(fmt.Appendf(nil, `<v>%s</v>`, in), into))
			var buf bytes.Buffer
			require.NoError(t, gob.NewEncoder(&buf).Encode(in))
			requireQuiet(t, where, gob.NewDecoder(&buf).Decode(into))
		}
		requireQuiet(t, "Scan of an integer", into.Scan(leakNumber))
		requireQuiet(t, "Scan of a time", into.Scan(leakWhen))
		requireQuiet(t, "JSON of a number", json.Unmarshal(strconv.AppendInt(nil, leakNumber, 10), into))
	}
	for _, in := range inputs {
		quoted, err := json.Marshal(in)
		require.NoError(t, err)
		for _, into := range []interface {
			json.Unmarshaler
			UnmarshalText(text []byte) error
		}{&lethe.Input[tattler]{}, &lethe.Input[bool]{}, &lethe.Input[map[string]int]{}, &lethe.Input[[]uint8]{}} {
			where := fmt.Sprintf("%T", into)
			requireQuiet(t, where, json.Unmarshal(append(quoted, '!'), into))
			if _, ok := into.(*lethe.Input[[]uint8]); !ok {
				requireQuiet(t, where, json.Unmarshal(quoted, into))
				requireQuiet(t, where, into.UnmarshalText([]byte(in)))
			}
		}
	}
	var number lethe.Input[int8]
	requireQuiet(t, "a number too large", json.Unmarshal(strconv.AppendInt(nil, leakNumber, 10), &number))
	requireQuiet(t, "a number too large", number.UnmarshalText(strconv.AppendInt(nil, leakNumber, 10)))
	_, err := json.Marshal(struct{ In lethe.Input[int8] }{number})
	requireQuiet(t, "JSON of an input", err)
}

func TestErrorsOfSealersShowNothing(t *testing.T) {
	t.Parallel()
	type row struct {
		Keys  lethe.Keys             `lethe:"rows"`
		ID    string                 `lethe:"subject=leaker"`
		V     lethe.Secret[tattler]  `lethe:"v"`
		Mute  lethe.Secret[mute]     `lethe:"mute"`
		Text  lethe.Secret[string]   `lethe:"text"`
		Index lethe.BlindIndex       `lethe:"index,of=v,norm=exact/1"`
		JSON  lethe.Secret[tattlers] `lethe:"json,json"`
	}
	ring := envelopetest.NewKeyring(t)
	s, err := lethe.For[row](ring)
	require.NoError(t, err)
	ctx := t.Context()
	for _, word := range []string{leakText, leakInput} {
		bad := lethe.Of(tattler{word})
		_, err = bad.Reveal()
		requireQuiet(t, "Reveal of a value that cannot be encoded", err)
		_, err = bad.Value()
		requireQuiet(t, "Value of it", err)
		_, err = json.Marshal(bad)
		requireQuiet(t, "JSON of it", err)
		requireQuiet(t, "Seal of it", s.Seal(ctx, &row{ID: "1", V: bad}))
		requireQuiet(t, "SealSlice of it", s.SealSlice(ctx, []row{{ID: "1"}, {ID: "2", V: bad}}))
		requireQuiet(t, "Reseal of it", s.Reseal(ctx, &row{ID: "1", V: bad}))
		_, err = lethe.Marshal(ctx, s, &row{ID: "1", V: bad})
		requireQuiet(t, "Marshal of it", err)
		requireQuiet(t, "Seal of JSON", s.Seal(ctx, &row{ID: "1", JSON: lethe.Of(tattlers{{word}})}))

		_, err = s.Query(ctx, "index", word)
		requireQuiet(t, "a query of text", err)
		_, err = s.Query(ctx, "index", tattler{word})
		requireQuiet(t, "a query of a value", err)
		_, err = s.Query(ctx, word, word)
		require.ErrorContains(t, err, word, "the name asked for is no secret")

		good := row{ID: "1", Mute: lethe.Of(mute{word}), Text: lethe.Of(word)}
		require.NoError(t, s.Seal(ctx, &good))
		requireQuiet(t, "sealed twice", s.Seal(ctx, &good))
		_, err = good.Text.Reveal()
		requireQuiet(t, "Reveal of what is sealed", err)
		require.NoError(t, s.Open(ctx, &good))
		_, err = good.Mute.Reveal()
		requireQuiet(t, "Reveal of what does not decode", err)
		moved := row{ID: "1", Keys: good.Keys, Text: good.Text}
		require.NoError(t, moved.Text.Scan(binaryOf(t, good.Mute)))
		requireQuiet(t, "Open of a moved field", s.Open(ctx, &moved))
		requireQuiet(t, "Seal under no keys", s.Seal(ctx, &row{ID: "1", Text: good.Text}))
		large := row{ID: "1", Text: lethe.Of(strings.Repeat(word, envelope.MaxCell/len(word)+1))}
		err = s.Seal(ctx, &large)
		requireQuiet(t, "Seal of too large a value", err)
		require.Less(t, len(err.Error()), 500)
	}
}

type tattlers []tattler

func TestErrorsOfChangedTypesShowNothing(t *testing.T) {
	t.Parallel()
	type before struct {
		Keys lethe.Keys           `lethe:"rows"`
		ID   string               `lethe:"subject=leaker"`
		Word lethe.Secret[string] `lethe:"word"`
		Size lethe.Secret[int64]  `lethe:"size"`
	}
	type after struct {
		Keys lethe.Keys              `lethe:"rows"`
		ID   string                  `lethe:"subject=leaker"`
		Word lethe.Secret[time.Time] `lethe:"word"`
		Size lethe.Secret[int8]      `lethe:"size"`
	}
	ring := envelopetest.NewKeyring(t)
	old, err := lethe.For[before](ring)
	require.NoError(t, err)
	now, err := lethe.For[after](ring)
	require.NoError(t, err)
	was := before{ID: "1", Word: lethe.Of(leakText), Size: lethe.Of(leakNumber)}
	require.NoError(t, old.Seal(t.Context(), &was))
	is := after{ID: "1", Keys: was.Keys}
	require.NoError(t, is.Word.Scan(binaryOf(t, was.Word)))
	require.NoError(t, is.Size.Scan(binaryOf(t, was.Size)))
	err = now.Open(t.Context(), &is)
	requireQuiet(t, "Open into another type", err)
	var rows *lethe.RowErrors
	require.ErrorAs(t, err, &rows)
	require.Equal(t, "word", rows.Errors[0].Field)
	require.ErrorContains(t, err, "as bytes, and the field's type time.Time is time")
	_, err = is.Word.Reveal()
	requireQuiet(t, "Reveal of another type", err)
	require.Equal(t, lethe.StatusFailed, is.Word.Status())
	_, err = is.Size.Reveal()
	requireQuiet(t, "Reveal of a number that does not fit", err)
	requireNoLeak(t, "printing both", fmt.Sprintf("%v %+v %#v %x", is, rows, rows, is))
}

func TestErrorsOfDocumentsShowNothing(t *testing.T) {
	t.Parallel()
	type doc struct {
		_    lethe.Document `lethe:"docs"`
		ID   string         `json:"id" lethe:"subject=leaker"`
		Bad  tattler        `json:"bad,omitzero" lethe:"bad"`
		Text string         `json:"text" lethe:"text"`
		Size int            `json:"size"`
	}
	s, err := lethe.For[doc](envelopetest.NewKeyring(t))
	require.NoError(t, err)
	ctx := t.Context()
	for _, word := range []string{leakText, leakInput} {
		_, err = lethe.Marshal(ctx, s, &doc{ID: "1", Bad: tattler{word}})
		requireQuiet(t, "Marshal of a value that cannot be encoded", err)
		good, err := lethe.Marshal(ctx, s, &doc{ID: "1", Text: word})
		require.NoError(t, err)
		requireNoLeak(t, "a document", string(good))
		for _, bad := range []string{
			`{"id":"1","text":"` + word + `"}`,
			`{"id":"1","text":{"` + word + `":1}}`,
			`{"id":"1","size":"` + word + `"}`,
			`{"id":"1","text":"` + word + `"`,
			`{"id":"1","text":"` + word + `"}` + word,
			word,
			`"` + word + `"`,
			`{"id":"1","$lethe_keys":"` + word + `","text":null}`,
		} {
			var back doc
			requireQuiet(t, "Unmarshal", lethe.Unmarshal(ctx, s, []byte(bad), &back))
			require.Equal(t, doc{}, back)
		}
		requireQuiet(t, "a document in a document", func() error {
			_, err := lethe.Marshal(ctx, s, &doc{ID: "1", Text: string(good[bytes.Index(good, []byte(`{"$lethe":`)) : bytes.Index(good, []byte(`"}`))+2])})
			return err
		}())
	}
}
