package vaultkms

import (
	"fmt"
	"strings"
)

// maxName bounds a key's name, a mount path and a namespace, in bytes.
const maxName = 512

// plainSegment reports whether s is letters, digits, '_', '-' and '.' of ASCII,
// begins and ends with none of the last two, and so means the same in a URL's
// path, escaped or not. These are the names transit itself takes.
func plainSegment(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_':
		case (c == '-' || c == '.') && i > 0 && i < len(s)-1:
		default:
			return false
		}
	}
	return s != ""
}

// checkName checks a key's name.
func checkName(name string) error {
	if !plainSegment(name) || len(name) > maxName {
		return fmt.Errorf("vaultkms: %q is no name of a transit key: letters, digits, '_', '-' and '.', the last two not at an end", clip(name))
	}
	return nil
}

// checkPath checks a mount path or namespace, without slashes at its ends.
func checkPath(what, path string) error {
	ok := len(path) <= maxName
	for s := range strings.SplitSeq(path, "/") {
		ok = ok && plainSegment(s)
	}
	if !ok {
		return fmt.Errorf("vaultkms: %q is no %s: names of letters, digits, '_', '-' and '.', joined by '/'", clip(path), what)
	}
	return nil
}

// clip keeps an error's text short.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
