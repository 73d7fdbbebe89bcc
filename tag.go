package lethe

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// fieldTag is a parsed `lethe:"…"` tag of a Keys, Secret or BlindIndex field, or
// of a tagged plain field of a document.
type fieldTag struct {
	name    string
	group   string
	purpose string
	mask    string
	of      string
	norm    string
	bits    int
	json    bool
	token   string
}

// roleTag is a parsed tag of a plain field.
type roleTag struct {
	subject string // kind; "" if the field is no subject
	group   string
	id      bool
}

// option is one part of a tag: key, or key=value.
type option struct {
	key, value string
	hasValue   bool
}

func splitTag(tag string) []option {
	var out []option
	for part := range strings.SplitSeq(tag, ",") {
		key, value, has := strings.Cut(part, "=")
		out = append(out, option{strings.TrimSpace(key), strings.TrimSpace(value), has})
	}
	return out
}

// notYet are options whose names are reserved.
var notYet = map[string]bool{"retain": true}

// isRoleTag tells a plain field's role from a name with options.
func isRoleTag(tag string) bool {
	o := splitTag(tag)[0]
	return o.key == "subject" && o.hasValue || o.key == "id" && !o.hasValue
}

func checkOption(o option, seen map[string]bool, allowed []string) error {
	switch {
	case seen[o.key]:
		return fmt.Errorf("option %q is given twice", o.key)
	case notYet[o.key]:
		return fmt.Errorf("option %q does nothing yet, so it is refused", o.key)
	case o.key == "token" && !slices.Contains(allowed, "token"):
		return errors.New("option \"token\" belongs on a field of type lethe.Token, whose column holds the token")
	case !slices.Contains(allowed, o.key):
		return fmt.Errorf("unknown option %q here; known: %s", o.key, strings.Join(allowed, ", "))
	}
	seen[o.key] = true
	return nil
}

// parseFieldTag parses a name and the options that are allowed on it.
func parseFieldTag(tag string, allowed ...string) (fieldTag, error) {
	opts := splitTag(tag)
	t := fieldTag{name: opts[0].key}
	var errs []error
	if opts[0].hasValue {
		return t, fmt.Errorf("the tag starts with %q; a stable name comes first", opts[0].key+"="+opts[0].value)
	}
	if err := checkName(t.name); err != nil {
		return t, err
	}
	seen := map[string]bool{}
	for _, o := range opts[1:] {
		if err := checkOption(o, seen, allowed); err != nil {
			errs = append(errs, err)
			continue
		}
		if o.hasValue == (o.key == "json") || o.hasValue && o.value == "" {
			errs = append(errs, fmt.Errorf("option %q is not written as key=value, or json alone", o.key))
			continue
		}
		switch o.key {
		case "group":
			t.group = o.value
		case "purpose":
			t.purpose = o.value
		case "mask":
			t.mask = o.value
			if _, ok := masks[o.value]; !ok {
				errs = append(errs, fmt.Errorf("unknown mask %q; known: %s", o.value, known(masks)))
			}
		case "of":
			t.of = o.value
		case "norm":
			t.norm = o.value
			if _, ok := normalisers[o.value]; !ok {
				errs = append(errs, fmt.Errorf("unknown normaliser %q; known: %s", o.value, known(normalisers)))
			}
		case "bits":
			n, err := strconv.Atoi(o.value)
			if err != nil || n < 8 || n > 256 {
				errs = append(errs, fmt.Errorf("bits=%s is not a number from 8 to 256", o.value))
			}
			t.bits = n
		case "json":
			t.json = true
		case "token":
			t.token = o.value
		}
	}
	return t, errors.Join(errs...)
}

// parseRoleTag parses subject=kind, group=g and id.
func parseRoleTag(tag string) (roleTag, error) {
	var t roleTag
	seen := map[string]bool{}
	for _, o := range splitTag(tag) {
		if err := checkOption(o, seen, []string{"subject", "group", "id"}); err != nil {
			return t, fmt.Errorf("%w; a plain field carries a role only: seal it by making it a lethe.Secret", err)
		}
		if o.hasValue == (o.key == "id") || o.hasValue && o.value == "" {
			return t, fmt.Errorf("option %q: write subject=KIND, group=NAME or id", o.key)
		}
		switch o.key {
		case "subject":
			t.subject = o.value
			if err := checkName(o.value); err != nil {
				return t, err
			}
		case "group":
			t.group = o.value
		case "id":
			t.id = true
		}
	}
	if t.group != "" && t.subject == "" {
		return t, errors.New("group= needs subject= beside it")
	}
	return t, nil
}

func checkName(name string) error {
	if name == "" {
		return errors.New("the stable name is empty")
	}
	if len(name) > 256 {
		return fmt.Errorf("the name is %d bytes, at most 256 are allowed", len(name))
	}
	for _, r := range name {
		if r <= ' ' || r == 0x7f || r == '"' || r == '=' {
			return fmt.Errorf("name %q has a character that names may not have", name)
		}
	}
	return nil
}

func known[V any](m map[string]V) string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
