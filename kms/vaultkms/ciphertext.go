package vaultkms

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	ciphertextPrefix = "vault:v"
	// minOverhead is what the AEADs of transit add at least: a 12-byte nonce and a 16-byte tag.
	minOverhead = 12 + 16
	// maxOverhead is what they add at most: XChaCha20-Poly1305 has a 24-byte nonce.
	maxOverhead = 24 + 16
)

var (
	errNotCiphertext = errors.New("not a transit ciphertext")
	// Strict, so that one ciphertext has one spelling.
	b64 = base64.StdEncoding.Strict()
)

// ciphertext is a parsed "vault:vN:BASE64".
type ciphertext struct {
	version int // of the transit key, from 1
	size    int // of nonce, ciphertext proper and tag, in bytes
}

// parseCiphertext reads transit's text form. Only the canonical spelling is taken.
func parseCiphertext(text string) (ciphertext, error) {
	rest, ok := strings.CutPrefix(text, ciphertextPrefix)
	if !ok {
		return ciphertext{}, errNotCiphertext
	}
	digits, payload, ok := strings.Cut(rest, ":")
	if !ok {
		return ciphertext{}, errNotCiphertext
	}
	version, err := parseVersion(digits)
	if err != nil {
		return ciphertext{}, err
	}
	if len(payload) > base64.StdEncoding.EncodedLen(MaxPlaintext+maxOverhead) || strings.ContainsAny(payload, "\r\n") {
		return ciphertext{}, errNotCiphertext
	}
	raw, err := b64.DecodeString(payload)
	if err != nil || len(raw) < minOverhead {
		return ciphertext{}, errNotCiphertext
	}
	return ciphertext{version: version, size: len(raw)}, nil
}

func parseVersion(digits string) (int, error) {
	version, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || version < 1 || strconv.FormatInt(version, 10) != digits {
		return 0, errNotCiphertext
	}
	return int(version), nil
}

// CiphertextVersion returns the version, from 1, of the transit key that made a
// ciphertext of [Key.EncryptWithContext]. It says nothing on whether it opens.
func CiphertextVersion(wrapped []byte) (int, error) {
	c, err := parseCiphertext(string(wrapped))
	if err != nil {
		return 0, fmt.Errorf("vaultkms: %w", err)
	}
	return c.version, nil
}
