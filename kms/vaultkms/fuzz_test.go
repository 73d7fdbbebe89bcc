package vaultkms

import (
	"net/url"
	"strings"
	"testing"
)

const fuzzText = "vault:v3:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// FuzzAnswer reads hostile answers: each may be refused and must not panic, and
// what is accepted is what was asked for.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"data":{"ciphertext":"` + fuzzText + `","key_version":3}}`,
		`{"data":{"plaintext":"AAA="}}`,
		`{"data":{"batch_results":[{"ciphertext":"` + fuzzText + `","key_version":3,"reference":"0"},{"error":"no","reference":"1"}]}}`,
		`{"data":{"name":"k","type":"aes256-gcm96","derived":false,"latest_version":3,"min_decryption_version":1,"deletion_allowed":false,"exportable":false,"allow_plaintext_backup":false}}`,
		`{"data":{"disable_upsert":true}}`,
		`{"data":{"transit/encrypt/k":["update"],"capabilities":["root"]}}`,
		`{"errors":["permission denied"]}`,
		`{"data":null}`, `[]`, ``,
	} {
		f.Add([]byte(seed), 2)
	}
	f.Fuzz(func(t *testing.T, body []byte, size int) {
		size = min(max(size, 0), MaxPlaintext)
		if wrapped, err := parseWrapped(body, size, 0); err == nil {
			c, err := parseCiphertext(string(wrapped))
			if err != nil || c.version < 1 || c.size < size+minOverhead || c.size > size+maxOverhead {
				t.Fatalf("accepted %q for %d bytes", wrapped, size)
			}
		}
		c := ciphertext{version: 1, size: size + minOverhead}
		if plaintext, err := parseOpened(body, c); err == nil && (len(plaintext) > size || len(plaintext)+maxOverhead < c.size) {
			t.Fatalf("%d bytes out of a ciphertext of %d", len(plaintext), c.size)
		}
		if items, err := parseBatch(body, []string{"0", "1"}); err == nil {
			if len(items) != 2 || items[0].Reference != "0" || items[1].Reference != "1" {
				t.Fatal("a batch out of order")
			}
			for _, item := range items {
				_, _ = item.wrappedItem.check(size)
				_, _ = item.openedItem.check(c)
			}
		}
		if info, _, err := parseInfo(body, "k"); err == nil && (info.LatestVersion < 1 || info.MinDecryptionVersion > info.LatestVersion) {
			t.Fatalf("accepted %+v", info)
		}
		_, _ = parseUpsertDisabled(body)
		if mayUpdate, mayCreate, err := parseCapabilities(body, "transit/encrypt/k"); err != nil && (mayUpdate || mayCreate) {
			t.Fatal("capabilities beside an error")
		}
		if e := newStatusError(403, body); strings.Contains(e.Error(), "\n") || len(e.Error()) > 200 {
			t.Fatalf("the error repeats the answer: %q", e)
		}
	})
}

// FuzzCiphertext: one ciphertext has one spelling.
func FuzzCiphertext(f *testing.F) {
	f.Add(fuzzText)
	f.Add("vault:v1:")
	f.Add(strings.Replace(fuzzText, "A", "\n", 1))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCiphertext(text)
		if err != nil {
			return
		}
		_, payload, _ := strings.Cut(text[len(ciphertextPrefix):], ":")
		raw, err := b64.DecodeString(payload)
		if err != nil || len(raw) != c.size || b64.EncodeToString(raw) != payload || !strings.HasPrefix(text, ciphertextPrefix) {
			t.Fatalf("accepted %q", text)
		}
	})
}

// FuzzURI: what is accepted has a clean path, goes to the host it names, and
// survives being written and read again.
func FuzzURI(f *testing.F) {
	for _, seed := range []string{
		"hcvault://vault.example.com:8200/transit/keys/customers?namespace=a/b", "hcvault://127.0.0.1/transit/keys/k?tls=off",
		"hcvault://user:pw@h/t/keys/k", "hcvault://h/../keys/%2e%2e", "hcvault://[::1%25eth0]/t/keys/k",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		l, err := parseURI(uri)
		if err != nil {
			return
		}
		path := l.mount + "/encrypt/" + l.name
		u, err := url.Parse(l.address + "/v1/" + path)
		if err != nil || u.EscapedPath() != "/v1/"+path || u.RawQuery != "" || u.User != nil || strings.Contains("/"+path+"/", "/../") {
			t.Fatalf("%q leads to %q", uri, path)
		}
		if u.Scheme == "http" && !loopback(u.Hostname()) {
			t.Fatalf("%q goes over plain http", uri)
		}
		again, err := keyURI(l.address, l.mount, l.name, l.namespace)
		if err != nil {
			t.Fatal(err)
		}
		if u.Scheme == "http" {
			return
		}
		l2, err := parseURI(again)
		if err != nil || l2.mount != l.mount || l2.name != l.name || l2.namespace != l.namespace {
			t.Fatalf("%q became %q: %v", uri, again, err)
		}
	})
}
