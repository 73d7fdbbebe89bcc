package lethe

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Stored bytes have one spelling in each form.
func TestStoredFormsAreStrict(t *testing.T) {
	cell := append([]byte{0x11}, bytes.Repeat([]byte{7}, 40)...)
	text, err := textForm(cell, false, nil)
	require.NoError(t, err)
	object, err := jsonForm(cell, false, nil)
	require.NoError(t, err)
	got, _, err := parseText(text, isCell)
	require.NoError(t, err)
	require.Equal(t, cell, got)
	got, _, err = parseJSON(object, isCell)
	require.NoError(t, err)
	require.Equal(t, cell, got)
	got, _, err = scanSealed(`\x11`+strings.Repeat("07", 40), isCell)
	require.NoError(t, err, "what PostgreSQL makes of bytes in a text column")
	require.Equal(t, cell, got)

	s := string(text)
	for _, bad := range []string{s + "=", s + "\n", s[:8] + "\r\n" + s[8:], " " + s, strings.ReplaceAll(s, "B", "+")} {
		_, _, err := parseText([]byte(bad), isCell)
		require.ErrorIs(t, err, ErrNotSealed, "%q", bad)
	}
	for _, bad := range []string{
		`{"$lethe":"` + s + `","$lethe":"` + s + `"}`, `{"$lethe":"` + s + `","more":1}`, `{"$Lethe":"` + s + `"}`,
		`{"$lethe":["` + s + `"]}`, `{"$lethe":{}}`, `{"$lethe":null}`, `{"$lethe":""}`, `{}`, `[]`, `"` + s + `"`, ``, `nul`,
		string(object) + `1`, string(object) + string(object), `{"$lethe":"` + s + `"`,
	} {
		_, _, err := parseJSON([]byte(bad), isCell)
		require.ErrorIs(t, err, ErrNotSealed, "%s", bad)
	}
}

// The forms that envelope/FORMAT.md defines, and no others, are read.
func TestStoredFormVectors(t *testing.T) {
	data, err := os.ReadFile("envelope/testdata/vectors/stored_forms.json")
	require.NoError(t, err)
	var v struct {
		Forms []struct {
			About, Of, In, Value, Bytes, Error string
		}
	}
	require.NoError(t, json.Unmarshal(data, &v))
	require.NotEmpty(t, v.Forms)
	for _, f := range v.Forms {
		ok := map[string]check{"header": isHeader, "cell": isCell, "index": isIndex}[f.Of]
		value, err := hex.DecodeString(f.Value)
		require.NoError(t, err)
		parsers := map[string]func() ([]byte, bool, error){
			"bytes of a column": func() ([]byte, bool, error) { return scanSealed(value, ok) },
			"text of a column":  func() ([]byte, bool, error) { return scanSealed(string(value), ok) },
		}
		if f.In == "json" {
			parsers = map[string]func() ([]byte, bool, error){"JSON": func() ([]byte, bool, error) { return parseJSON(value, ok) }}
		}
		for name, parse := range parsers {
			got, null, err := parse()
			what := name + ": " + f.Of + ", " + f.About
			if f.Error != "" {
				require.ErrorIs(t, err, ErrNotSealed, what)
				continue
			}
			require.NoError(t, err, what)
			require.Equal(t, f.Bytes == "", null, what)
			require.Equal(t, f.Bytes, hex.EncodeToString(got), what)
		}
	}
}
