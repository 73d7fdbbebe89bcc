package envelope

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// formsVector is stored values and what a reader takes them for [8]. The package
// lethe, which reads them, is held to it by its own tests.
type formsVector struct {
	About string       `json:"about"`
	Forms []vectorForm `json:"forms"`
}

// vectorForm is one value of a column or JSON member.
type vectorForm struct {
	About string   `json:"about"`
	Of    string   `json:"of"`              // "header", "cell" or "index"
	In    string   `json:"in"`              // the column, "binary" or "text", or "json"
	Value hexBytes `json:"value"`           // the bytes of the column or of the JSON text
	Bytes hexBytes `json:"bytes,omitempty"` // what is read; NULL if absent
	Error string   `json:"error,omitempty"` // "refused"
}

func formScenarios() []scenario {
	return []scenario{{"stored_forms", func(g *gen) any {
		v := &formsVector{About: "stored forms: binary and text columns, JSON members; what is read, NULL, or refused"}
		stored := map[string][]byte{
			"cell":   append([]byte{0x11}, g.bytes(43)...), // 44 bytes: two bits of its base64url are unused
			"header": append([]byte{1, 1, 1}, g.bytes(107)...),
			"index":  append([]byte{0, 1}, g.bytes(4)...),
		}
		add := func(about, of, in string, value, read []byte) {
			v.Forms = append(v.Forms, vectorForm{About: about, Of: of, In: in, Value: value, Bytes: read})
		}
		refuse := func(about, of, in string, value []byte) {
			v.Forms = append(v.Forms, vectorForm{About: about, Of: of, In: in, Value: value, Error: "refused"})
		}
		enc := base64.RawURLEncoding.EncodeToString
		object := func(text string) []byte { return []byte(`{"$lethe":"` + text + `"}`) }
		all := func(about, of string, b []byte, fine bool) {
			for _, in := range []string{"binary", "text", "json"} {
				value := map[string][]byte{"binary": b, "text": []byte(enc(b)), "json": object(enc(b))}[in]
				if fine {
					add(about, of, in, value, b)
				} else {
					refuse(about, of, in, value)
				}
			}
		}
		for _, of := range []string{"header", "cell", "index"} {
			b := stored[of]
			all("as it is written", of, b, true)
			add("empty is NULL", of, "binary", nil, nil)
			add("empty is NULL", of, "text", nil, nil)
			add("null is NULL", of, "json", []byte("null"), nil)
			refuse("plaintext", of, "binary", []byte(strings.Repeat("ada@example.com ", 8)))
			refuse("plaintext", of, "text", []byte(strings.Repeat("ada@example.com ", 8)))
			refuse("plaintext that is base64url", of, "text", []byte(strings.Repeat("adaexample", 15)))
			refuse("plaintext", of, "json", []byte(`"ada@example.com"`))
			add("a text column may hold the binary form", of, "text", b, b)
			add("a binary column may hold the text form", of, "binary", []byte(enc(b)), b)
		}
		cell := stored["cell"]
		text := enc(cell)
		all("of the least size", "cell", cell[:29], true)
		all("too short", "cell", cell[:28], false)
		all("of another kind", "cell", append([]byte{0x1f}, cell[1:]...), true) // known by its first four bits: opening it is another matter
		all("first byte too low", "cell", append([]byte{0x0f}, cell[1:]...), false)
		all("first byte too high", "cell", append([]byte{0x20}, cell[1:]...), false)
		all("too short", "header", stored["header"][:109], false)
		all("of another format", "header", append([]byte{2}, stored["header"][1:]...), false)
		all("of the least size", "index", stored["index"][:3], true)
		all("too short", "index", stored["index"][:2], false)
		all("of the greatest size", "index", append(stored["index"][:2:2], g.bytes(32)...), true)
		all("too long", "index", append(stored["index"][:2:2], g.bytes(33)...), false)
		all("of the highest version", "index", append([]byte{0x1f, 0xff}, g.bytes(4)...), true)
		all("version too high", "index", append([]byte{0x20, 0}, g.bytes(4)...), false)

		standard := base64.RawStdEncoding.EncodeToString(append([]byte{0x11}, []byte(strings.Repeat("\xfb\xff", 20))...))
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		last := len(text) - 1
		unused := text[:last] + string(alphabet[strings.IndexByte(alphabet, text[last])|1])
		for _, c := range []struct{ about, text string }{
			{"padded", text + "="}, {"the other alphabet", standard}, {"unused bits that are not zero", unused}, {"a character too many", text + "AA"},
			{"a line break at the end", text + "\n"}, {"a line break inside", text[:8] + "\r\n" + text[8:]}, {"a space before", " " + text}, {"a NUL after", text + "\x00"},
		} {
			refuse(c.about, "cell", "text", []byte(c.text))
			refuse(c.about, "cell", "json", object(strings.NewReplacer("\r", `\r`, "\n", `\n`, "\x00", `\u0000`).Replace(c.text)))
		}
		add("as PostgreSQL shows bytes", "cell", "text", []byte(`\x`+hex.EncodeToString(cell)), cell)
		refuse("hexadecimal in JSON", "cell", "json", object(`\\x`+hex.EncodeToString(cell)))
		refuse("hexadecimal without a mark", "cell", "text", []byte(hex.EncodeToString(cell)))
		add("white space around the tokens", "cell", "json", []byte(" {\t\"$lethe\" :\r\n\""+text+"\" } "), cell)
		add("escapes", "cell", "json", []byte(`{"\u0024lethe":"\u0045`+text[1:]+`"}`), cell)
		for _, c := range []struct{ about, json string }{
			{"the member twice", `{"$lethe":"` + text + `","$lethe":"` + text + `"}`},
			{"the member twice, one of them escaped", `{"$lethe":"` + text + `","\u0024lethe":"` + text + `"}`},
			{"another member", `{"$lethe":"` + text + `","more":1}`},
			{"other case", `{"$Lethe":"` + text + `"}`},
			{"another name", `{"$lethe_keys":"` + text + `"}`},
			{"null in the object", `{"$lethe":null}`}, {"the empty string in the object", `{"$lethe":""}`}, {"a number", `{"$lethe":1}`},
			{"an array", `["` + text + `"]`}, {"an array in the object", `{"$lethe":["` + text + `"]}`}, {"an object in the object", `{"$lethe":{"$lethe":"` + text + `"}}`},
			{"the empty object", `{}`}, {"the text form as a JSON string", `"` + text + `"`}, {"cut off", `{"$lethe":"` + text + `"`},
			{"something after it", `{"$lethe":"` + text + `"}1`}, {"two of them", string(object(text)) + string(object(text))}, {"a comma after", `{"$lethe":"` + text + `",}`},
			{"white space that JSON does not know", "null\u00a0"}, {"no JSON", ``}, {"half a null", `nul`}, {"a line break in the string", "{\"$lethe\":\"" + text[:8] + "\n" + text[8:] + "\"}"},
		} {
			refuse(c.about, "cell", "json", []byte(c.json))
		}
		return v
	}}}
}
