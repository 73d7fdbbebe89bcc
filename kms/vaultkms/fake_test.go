package vaultkms_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

const goodToken = "hvs.good-token-do-not-print"

// fakeVault stands in for Vault where a test needs it to misbehave, or to let
// tokens die quickly; what Vault really does is tested against Vault's code in
// transittest and clustertest. All its transit keys are
// one, of the server's own.
type fakeVault struct {
	*httptest.Server
	aead cipher.AEAD

	mu       sync.Mutex
	tokens   map[string]time.Time // when each ends; zero is never
	lease    time.Duration        // of tokens that are given out; 0 is for ever
	maxLease time.Duration        // renewal beyond this after login is refused; 0 is no limit
	born     map[string]time.Time
	logins   int
	renewals int
	denied   bool // whether encrypt and decrypt are refused to any token
	noLogin  int  // an HTTP status with which logins fail
	// answer, if it returns true, has answered in place of the fake.
	answer func(w http.ResponseWriter, r *http.Request, body []byte) bool
	heads  []http.Header // of all requests
	paths  []string
	bodies []string
}

func newFakeVault() *fakeVault {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	f := &fakeVault{aead: aead, tokens: map[string]time.Time{goodToken: {}}, born: map[string]time.Time{}}
	f.Server = httptest.NewTLSServer(f)
	return f
}

func (f *fakeVault) set(change func()) { f.mu.Lock(); defer f.mu.Unlock(); change() }

// lie makes answer answer the paths that contain part.
func (f *fakeVault) lie(part string, answer http.HandlerFunc) {
	f.set(func() {
		f.answer = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			if !strings.Contains(r.URL.Path, part) {
				return false
			}
			answer(w, r)
			return true
		}
	})
}

func (f *fakeVault) honest() { f.set(func() { f.answer = nil }) }

func (f *fakeVault) counts() (logins, renewals int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logins, f.renewals
}

func writeJSON(w http.ResponseWriter, object any) {
	if err := json.NewEncoder(w).Encode(object); err != nil {
		panic(http.ErrAbortHandler) // the client went away
	}
}

func data(w http.ResponseWriter, object any) { writeJSON(w, map[string]any{"data": object}) }

func fail(w http.ResponseWriter, code int, messages ...string) {
	w.WriteHeader(code)
	writeJSON(w, map[string]any{"errors": messages})
}

type fakeItem struct {
	Plaintext      string `json:"plaintext"`
	Ciphertext     string `json:"ciphertext"`
	AssociatedData string `json:"associated_data"`
	Reference      string `json:"reference"`
}

func (f *fakeVault) encrypt(item fakeItem) map[string]any {
	plaintext, _ := base64.StdEncoding.DecodeString(item.Plaintext)
	ad, _ := base64.StdEncoding.DecodeString(item.AssociatedData)
	return map[string]any{
		"ciphertext":  "vault:v1:" + base64.StdEncoding.EncodeToString(f.aead.Seal(nil, nil, plaintext, ad)),
		"key_version": 1, "reference": item.Reference,
	}
}

func (f *fakeVault) decrypt(item fakeItem) map[string]any {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(item.Ciphertext, "vault:v1:"))
	ad, _ := base64.StdEncoding.DecodeString(item.AssociatedData)
	var plaintext []byte
	if err == nil && len(raw) >= 12 {
		plaintext, err = f.aead.Open(nil, nil, raw, ad)
	}
	if err != nil {
		return map[string]any{"error": "cipher: message authentication failed", "reference": item.Reference}
	}
	return map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plaintext), "reference": item.Reference}
}

func (f *fakeVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	answer := f.answer
	f.heads, f.paths, f.bodies = append(f.heads, r.Header.Clone()), append(f.paths, r.URL.Path), append(f.bodies, string(body))
	f.mu.Unlock()
	if answer != nil && answer(w, r, body) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	if strings.HasPrefix(path, "auth/") && strings.HasSuffix(path, "/login") {
		if f.noLogin != 0 {
			fail(w, f.noLogin, "invalid role or secret ID "+string(body))
			return
		}
		f.logins++
		token := fmt.Sprintf("hvs.login-%d-do-not-print", f.logins)
		f.tokens[token], f.born[token] = time.Time{}, time.Now()
		if f.lease > 0 {
			f.tokens[token] = time.Now().Add(f.lease)
		}
		f.auth(w, token)
		return
	}
	token := r.Header.Get("X-Vault-Token")
	end, known := f.tokens[token]
	if !known || !end.IsZero() && time.Now().After(end) {
		fail(w, http.StatusForbidden, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
		return
	}
	f.serve(w, path, token, body)
}

func (f *fakeVault) auth(w http.ResponseWriter, token string) {
	writeJSON(w, map[string]any{"auth": map[string]any{
		"client_token": token, "renewable": f.lease > 0, "lease_duration": int(f.lease / time.Second),
	}})
}

func (f *fakeVault) serve(w http.ResponseWriter, path, token string, body []byte) {
	switch {
	case path == "auth/token/renew-self":
		if f.maxLease > 0 && time.Since(f.born[token])+f.lease > f.maxLease {
			fail(w, http.StatusForbidden, "permission denied")
			return
		}
		f.renewals++
		f.tokens[token] = time.Now().Add(f.lease)
		f.auth(w, token)
	case path == "auth/token/lookup-self":
		data(w, map[string]any{"id": token, "ttl": int(f.lease / time.Second), "renewable": f.lease > 0})
	case path == "sys/capabilities-self":
		var in struct{ Paths []string }
		_ = json.Unmarshal(body, &in)
		out := map[string]any{}
		for _, p := range in.Paths {
			out[p] = []string{"update"}
		}
		data(w, out)
	case strings.Contains(path, "/config/keys"):
		data(w, map[string]any{"disable_upsert": true})
	case strings.Contains(path, "/keys/"):
		data(w, map[string]any{
			"name": path[strings.LastIndex(path, "/")+1:], "type": "aes256-gcm96", "derived": false, "latest_version": 1,
			"min_decryption_version": 1, "deletion_allowed": false, "exportable": false, "allow_plaintext_backup": false,
		})
	case f.denied:
		fail(w, http.StatusForbidden, "permission denied")
	case strings.Contains(path, "/encrypt/"):
		f.items(w, body, f.encrypt)
	case strings.Contains(path, "/decrypt/"):
		f.items(w, body, f.decrypt)
	default:
		fail(w, http.StatusNotFound, "no handler for route")
	}
}

func (f *fakeVault) items(w http.ResponseWriter, body []byte, do func(fakeItem) map[string]any) {
	var in struct {
		fakeItem
		Batch []fakeItem `json:"batch_input"`
	}
	_ = json.Unmarshal(body, &in)
	if in.Batch == nil {
		out := do(in.fakeItem)
		if text, bad := out["error"].(string); bad {
			fail(w, http.StatusBadRequest, text)
			return
		}
		data(w, out)
		return
	}
	var results []map[string]any
	code := http.StatusOK
	for _, item := range in.Batch {
		out := do(item)
		if out["error"] != nil {
			code = http.StatusBadRequest
		}
		results = append(results, out)
	}
	w.WriteHeader(code)
	data(w, map[string]any{"batch_results": results})
}
