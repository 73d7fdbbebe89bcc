package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/lethe-go/lethe/envelope"
)

type inspectCommand struct {
	Data string `arg:"" optional:"" help:"Header, cell or index value in base64 or hexadecimal, or a JSON document. Without, or with -, standard input: its bytes, or one of these forms."`
}

// inspected is what sealed bytes say. Nothing of it is authenticated.
type inspected struct {
	What     string         `json:"what"` // "header", "cell", "index" or "document"
	Bytes    int            `json:"bytes"`
	Suite    string         `json:"suite,omitempty"` // of the cells
	RowBound bool           `json:"row_bound,omitempty"`
	Scopes   []scopeResult  `json:"scopes,omitempty"`
	Codec    string         `json:"codec,omitempty"`
	Lengths  map[string]int `json:"plaintext_bytes,omitempty"` // by suite, since a cell does not name its own
	Version  uint16         `json:"key_version,omitempty"`
	Bits     int            `json:"bits,omitempty"` // at most: an index is rounded up to bytes
	Members  []memberResult `json:"members,omitempty"`
}

type scopeResult struct {
	Tag   string `json:"tag"`
	Names string `json:"names,omitempty"` // group and purpose, where the configuration knows them
	Key   string `json:"key"`
	Suite string `json:"suite"`
}

type memberResult struct {
	Path string `json:"path"`
	inspected
}

var suiteNames = map[envelope.Suite]string{envelope.SuiteAES256GCM: "aes-256-gcm", envelope.SuiteXChaCha: "xchacha20-poly1305"}

// codecNames are those of FORMAT.md section 5.
var codecNames = []string{"", "bytes", "int", "uint", "float", "bool", "time", "binary", "text", "json"}

// Run inspects.
func (c *inspectCommand) Run(a *app, out *output) error {
	data := []byte(c.Data)
	if c.Data == "" || c.Data == "-" {
		var err error
		if data, err = readInput("-"); err != nil {
			return err
		}
	}
	known := a.scopeNames()
	if doc := bytes.TrimSpace(data); len(doc) > 0 && doc[0] == '{' {
		res, err := inspectDocument(doc, known)
		if err != nil {
			return verdictError{err}
		}
		return out.result(res, res.text(""))
	}
	raw, ok := decode(data)
	if !ok {
		return verdictError{errors.New("this is neither bytes of Lethe's format, nor base64, hexadecimal or JSON of such")}
	}
	res := inspectBytes(raw, known, 0)
	return out.result(res, res.text(""))
}

// scopeNames are the tags of the scopes that the configuration knows of, if there
// is one: without, inspect does its work all the same.
func (a *app) scopeNames() map[uint16]string {
	names := map[uint16]string{envelope.ScopeTag("", ""): "default"}
	cfg, err := a.config()
	if err != nil {
		return names
	}
	for _, t := range cfg.Tables {
		d, err := describe(t)
		if err != nil {
			continue
		}
		for _, f := range d.lethe.Fields {
			var parts []string
			if f.Group != "" {
				parts = append(parts, "group "+f.Group)
			}
			if f.Purpose != "" {
				parts = append(parts, "purpose "+f.Purpose)
			}
			if len(parts) > 0 {
				names[envelope.ScopeTag(f.Group, f.Purpose)] = strings.Join(parts, ", ")
			}
		}
	}
	return names
}

// decode returns the bytes that data is, or that it is a text form of.
func decode(data []byte) ([]byte, bool) {
	if isFormat(data) {
		return data, true
	}
	text := strings.TrimSpace(string(data))
	text = strings.TrimPrefix(text, `\x`)
	forms := []func(string) ([]byte, error){
		hex.DecodeString, base64.RawURLEncoding.DecodeString, base64.URLEncoding.DecodeString,
		base64.RawStdEncoding.DecodeString, base64.StdEncoding.DecodeString,
	}
	for _, form := range forms {
		if raw, err := form(text); err == nil && isFormat(raw) {
			return raw, true
		}
	}
	return nil, false
}

// isFormat reports whether bytes have the shape of a header, a cell or an index
// value: FORMAT.md section 8.
func isFormat(b []byte) bool {
	switch {
	case len(b) >= 110 && b[0] == 1:
		_, err := envelope.InspectHeader(b)
		return err == nil
	case len(b) >= 29 && b[0]>>4 == 1:
		return true
	}
	return len(b) >= 3 && len(b) <= 34 && b[0] < 0x20
}

// inspectBytes reads bytes for which isFormat holds; suite is that of the record,
// 0 if it is not known.
func inspectBytes(b []byte, known map[uint16]string, suite envelope.Suite) inspected {
	res := inspected{Bytes: len(b)}
	if info, err := envelope.InspectHeader(b); err == nil {
		res.What, res.Suite, res.RowBound = "header", suiteNames[info.CellSuite], info.RowBound
		for _, s := range info.Scopes {
			res.Scopes = append(res.Scopes, scopeResult{
				Tag: fmt.Sprintf("%04x", s.Tag), Names: known[s.Tag], Key: hex.EncodeToString(s.Key[:]), Suite: suiteNames[s.WrapSuite],
			})
		}
		return res
	}
	if len(b) >= 29 && b[0]>>4 == 1 {
		res.What, res.Lengths = "cell", map[string]int{}
		for s, name := range suiteNames {
			if info, err := envelope.InspectCell(b, s); err == nil && (suite == 0 || suite == s) {
				res.Lengths[name] = info.Plaintext
				res.Codec = strconv.Itoa(int(info.Codec))
				if int(info.Codec) < len(codecNames) && info.Codec > 0 {
					res.Codec = codecNames[info.Codec]
				}
			}
		}
		return res
	}
	res.What, res.Version, res.Bits = "index", uint16(b[0])<<8|uint16(b[1]), 8*(len(b)-2)
	return res
}

// inspectDocument reads a document of lethe.Marshal, or the JSON of a row.
func inspectDocument(data []byte, known map[uint16]string) (inspected, error) {
	var doc any
	if err := json.Unmarshal(data, &doc); err != nil {
		return inspected{}, errors.New("this begins like JSON and is none")
	}
	res := inspected{What: "document", Bytes: len(data)}
	suite := envelope.Suite(0)
	var found []sealedMember
	walk(doc, nil, func(m sealedMember) { found = append(found, m) })
	slices.SortFunc(found, func(a, b sealedMember) int { return strings.Compare(a.path, b.path) })
	for _, m := range found {
		if info, err := envelope.InspectHeader(m.raw); err == nil {
			suite, res.Suite = info.CellSuite, suiteNames[info.CellSuite]
		}
	}
	for _, m := range found {
		res.Members = append(res.Members, memberResult{Path: m.path, inspected: inspectBytes(m.raw, known, suite)})
	}
	if len(res.Members) == 0 {
		return res, errors.New(`the document has no sealed member {"$lethe": …}`)
	}
	if len(res.Members) == 1 && res.Members[0].Path == "" {
		return res.Members[0].inspected, nil
	}
	return res, nil
}

// sealedMember is a member of a document that has the shape of a sealed one.
type sealedMember struct {
	path string
	raw  []byte
}

// maxPath of a member in bytes. In a document that somebody made for it, the whole
// paths of few members take more than memory.
const maxPath = 256

// walk finds the sealed members of a document; path leads to v.
func walk(v any, path []string, found func(sealedMember)) {
	switch v := v.(type) {
	case map[string]any:
		if text, ok := v["$lethe"].(string); ok && len(v) == 1 {
			if raw, err := base64.RawURLEncoding.DecodeString(text); err == nil && isFormat(raw) {
				found(sealedMember{shortPath(path), raw})
			}
			return
		}
		for key, inner := range v {
			walk(inner, append(path, key), found)
		}
	case []any:
		for i, inner := range v {
			walk(inner, append(path, strconv.Itoa(i)), found)
		}
	}
}

// shortPath joins keys with points, up to maxPath.
func shortPath(keys []string) string {
	var b strings.Builder
	for i, key := range keys {
		if i > 0 {
			b.WriteByte('.')
		}
		if b.Len()+len(key) > maxPath {
			b.WriteString(strings.ToValidUTF8(key[:max(0, maxPath-b.Len())], "") + "…")
			break
		}
		b.WriteString(key)
	}
	return b.String()
}

// text is the answer for people.
func (r *inspected) text(indent string) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(indent + strings.Map(harmless, fmt.Sprintf(format, args...)) + "\n")
	}
	switch r.What {
	case "header":
		bound := "no row id bound"
		if r.RowBound {
			bound = "row id bound"
		}
		line("header, %d bytes: cells %s, %s, %d data keys", r.Bytes, r.Suite, bound, len(r.Scopes))
		for _, s := range r.Scopes {
			names := s.Names
			if names == "" {
				names = "unknown group and purpose"
			}
			line("  scope %s (%s): under key %s, %s", s.Tag, names, s.Key, s.Suite)
		}
	case "cell":
		line("cell, %d bytes: codec %s", r.Bytes, r.Codec)
		for _, name := range sortedKeys(r.Lengths) {
			line("  plaintext of %d bytes with %s", r.Lengths[name], name)
		}
	case "index":
		line("index value, %d bytes: key version %d, up to %d bits", r.Bytes, r.Version, r.Bits)
	case "document":
		line("document, %d bytes", r.Bytes)
		for i := range r.Members {
			line("  %s:", strings.ReplaceAll(r.Members[i].Path, "\n", string(unicode.ReplacementChar)))
			b.WriteString(r.Members[i].text(indent + "    "))
		}
	}
	if indent == "" {
		line("Nothing of this is authenticated: anybody can have written it.")
	}
	return b.String()
}

func sortedKeys(m map[string]int) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
