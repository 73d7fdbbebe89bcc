package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

const (
	maxFile = 1 << 20
	// maxParts of a file that are read, those of an alias each time that it is used:
	// few bytes could stand for more than memory holds.
	maxParts = 1 << 17
)

// reader walks a configuration file and collects every mistake, with its line.
type reader struct {
	c    *Config
	name string // of the file, as errors have it
	base string // its folder, from which relative paths start
	keys map[string]*setting
	errs []error
	left int // of maxParts
}

func (r *reader) failf(n *yaml.Node, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s:%d: %w", r.name, n.Line, fmt.Errorf(format, args...)))
}

// file reads the settings and tables of a configuration file.
func (c *Config) file(path string, data []byte) []error {
	r := &reader{c: c, name: filepath.Base(path), base: filepath.Dir(path), keys: map[string]*setting{}, left: maxParts}
	if len(data) > maxFile {
		return []error{fmt.Errorf("%s has more than %d KiB", path, maxFile>>10)}
	}
	all := settings()
	for i := range all {
		r.keys[all[i].key] = &all[i]
	}
	var doc, more yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return []error{fmt.Errorf("%s: %w", r.name, plain(err))}
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return []error{fmt.Errorf("%s has more than one document", r.name)}
	}
	r.settings(doc.Content[0], "")
	if r.left < 0 { // and half of it was not read: no other error means anything
		return []error{fmt.Errorf("%s has too much in it, with what its aliases repeat", r.name)}
	}
	return r.errs
}

// plain keeps the line of an error of package yaml. Its text may quote the file.
func plain(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if line, _, ok := strings.Cut(text, ":"); ok && strings.HasPrefix(line, "line ") {
		return fmt.Errorf("%s: not YAML that parses", line)
	}
	return errors.New("not YAML that parses")
}

// parts reports whether what a node has in it may be read too.
func (r *reader) parts(n *yaml.Node) bool {
	if r.left >= 0 {
		r.left -= len(n.Content)
	}
	return r.left >= 0
}

// members calls do for each key of a mapping, in the order of the file.
func (r *reader) members(n *yaml.Node, what string, do func(key string, k, v *yaml.Node)) {
	n = resolve(n)
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.failf(n, "%s is to be a mapping of keys to values", what)
		return
	}
	if !r.parts(n) {
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], resolve(n.Content[i+1])
		if line, ok := seen[k.Value]; ok {
			r.failf(k, "%q stands in line %d already", k.Value, line)
			continue
		}
		seen[k.Value] = k.Line
		do(k.Value, k, v)
	}
}

// resolve follows an alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// settings reads a mapping of settings; prefix is that of its keys, "epochs.".
func (r *reader) settings(n *yaml.Node, prefix string) {
	what := "the file"
	if prefix != "" {
		what = strings.TrimSuffix(prefix, ".")
	}
	r.members(n, what, func(key string, k, v *yaml.Node) {
		full := prefix + key
		switch s := r.keys[full]; {
		case full == "tables":
			r.tables(v)
		case s != nil:
			r.setting(s, v)
		case r.group(full):
			r.settings(v, full+".")
		default:
			r.unknown(k, prefix, full)
		}
	})
}

func (r *reader) group(key string) bool {
	for full := range r.keys {
		if strings.HasPrefix(full, key+".") {
			return true
		}
	}
	return false
}

func (r *reader) unknown(k *yaml.Node, prefix, full string) {
	var known []string
	for key := range r.keys {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			first, _, _ := strings.Cut(rest, ".")
			known = append(known, first)
		}
	}
	if prefix == "" {
		known = append(known, "tables")
	}
	slices.Sort(known)
	r.failf(k, "%q is no key; there are %s", full, strings.Join(slices.Compact(known), ", "))
}

func (r *reader) setting(s *setting, n *yaml.Node) {
	v := value{from: fmt.Sprintf("%s:%d", r.name, n.Line), base: r.base}
	switch {
	case n.Kind == yaml.MappingNode && s.secret:
		r.reference(s, n, v)
		return
	case n.Kind == yaml.SequenceNode && s.key == "more_kms":
		var texts []string
		for _, item := range n.Content {
			item = resolve(item)
			if item.Kind != yaml.ScalarNode {
				r.failf(item, "more_kms is to be a list of URIs, or {file: PATH} for all of them")
				return
			}
			texts = append(texts, item.Value)
		}
		v.text = strings.Join(texts, ",")
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		v.text = n.Value
	default:
		r.failf(n, "%s is to be one value", s.key)
		return
	}
	if !s.clear || s.secret && slices.ContainsFunc(strings.Split(v.text, ","), hasCredential) {
		r.failf(n, "%s holds a secret, which does not belong in this file: write %s: {file: PATH}, or set %s", s.key, s.key, s.env())
		return
	}
	if err := r.c.apply(s, v); err != nil {
		r.errs = append(r.errs, err)
	}
}

// reference reads {file: PATH}, the form of a secret.
func (r *reader) reference(s *setting, n *yaml.Node, v value) {
	found := false
	r.members(n, s.key, func(key string, k, at *yaml.Node) {
		if key != "file" || at.Kind != yaml.ScalarNode {
			r.failf(k, "%s is to be a value or {file: PATH}", s.key)
			return
		}
		found = true
		text, err := r.c.readSecret(at.Value, r.base)
		if err != nil {
			r.failf(at, "%s: %w", s.key, err)
			return
		}
		v.text = text
		if err := r.c.apply(s, v); err != nil {
			r.errs = append(r.errs, err)
		}
	})
	if !found && len(n.Content) == 0 {
		r.failf(n, "%s is to be a value or {file: PATH}", s.key)
	}
}

// hasCredential reports whether a URL carries a password or another secret. One
// that does not parse may.
func hasCredential(text string) bool {
	u, err := url.Parse(strings.TrimSpace(text))
	return err != nil || len(Address{url: u.String()}.credentials()) > 0
}
