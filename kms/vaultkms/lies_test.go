package vaultkms_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
	"github.com/lethe-go/lethe/kms/vaultkms"
)

var (
	plaintext = []byte("PLAINTEXT do not print")
	row       = []byte("CONTEXT do not print")
)

func clientOf(t *testing.T, f *fakeVault) *api.Client {
	t.Helper()
	config := api.DefaultConfig()
	config.Address = f.URL
	config.HttpClient = f.Client()
	client, err := api.NewClient(config)
	require.NoError(t, err)
	client.SetToken(goodToken)
	return client
}

func fake(t *testing.T, opts vaultkms.Options) (*fakeVault, *vaultkms.Key) {
	t.Helper()
	f := newFakeVault()
	t.Cleanup(f.Close)
	k, err := vaultkms.New(t.Context(), clientOf(t, f), "k", opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = k.Close() })
	return f, k
}

// silent wants an error that shows nothing it must not.
func silent(t *testing.T, err error) {
	t.Helper()
	var text strings.Builder
	for next := []error{err}; len(next) > 0; {
		e := next[0]
		next = next[1:]
		_, _ = fmt.Fprintf(&text, "%v %+v %#v\n", e, e, e)
		switch u := e.(type) { //nolint:errorlint // every layer is looked at
		case interface{ Unwrap() []error }:
			next = append(next, u.Unwrap()...)
		case interface{ Unwrap() error }:
			if inner := u.Unwrap(); inner != nil {
				next = append(next, inner)
			}
		}
	}
	for _, secret := range []string{"do not print", "do-not-print", "UExBSU5URVhU" /* base64 of PLAINTEXT */, "Q09OVEVYV" /* of CONTEXT */} {
		require.NotContains(t, text.String(), secret)
	}
}

func TestSuite(t *testing.T) {
	kmstest.Run(t, kmstest.Factory{
		New: func(t *testing.T) kms.Key {
			_, k := fake(t, vaultkms.Options{})
			return k
		},
		Away: func(t *testing.T) (kms.Key, func(), func()) {
			f, k := fake(t, vaultkms.Options{})
			return k, func() { f.lie("", func(w http.ResponseWriter, _ *http.Request) { fail(w, 503, "Vault is sealed") }) }, f.honest
		},
	})
}

// Whatever the other side answers is an error that is retryable and says nothing, never a panic or bytes.
func TestLies(t *testing.T) {
	f, k := fake(t, vaultkms.Options{Timeout: 2 * time.Second})
	good, err := k.EncryptWithContext(t.Context(), plaintext, row)
	require.NoError(t, err)
	text := string(good)
	payload := strings.TrimPrefix(text, "vault:v1:")
	ok := `{"data":{"ciphertext":"` + text + `","key_version":1}}`
	for name, answer := range map[string]string{
		"empty":                  ``,
		"not JSON":               `<html>log in</html>`,
		"half JSON":              ok[:len(ok)-4],
		"trailing JSON":          ok + ok,
		"array":                  `[]`,
		"null":                   `null`,
		"no data":                `{}`,
		"null data":              `{"data":null}`,
		"data a string":          `{"data":"vault:v1:AAAA"}`,
		"data a list":            `{"data":[]}`,
		"empty data":             `{"data":{}}`,
		"wrapped":                `{"wrap_info":{"token":"s.x","ttl":5},"data":null}`,
		"ciphertext a number":    `{"data":{"ciphertext":1,"key_version":1}}`,
		"ciphertext a list":      `{"data":{"ciphertext":["` + text + `"],"key_version":1}}`,
		"ciphertext null":        `{"data":{"ciphertext":null,"key_version":1}}`,
		"ciphertext empty":       `{"data":{"ciphertext":"","key_version":1}}`,
		"no prefix":              `{"data":{"ciphertext":"` + payload + `","key_version":1}}`,
		"other prefix":           `{"data":{"ciphertext":"bao:v1:` + payload + `","key_version":1}}`,
		"version 0":              `{"data":{"ciphertext":"vault:v0:` + payload + `","key_version":0}}`,
		"version -1":             `{"data":{"ciphertext":"vault:v-1:` + payload + `","key_version":-1}}`,
		"version 01":             `{"data":{"ciphertext":"vault:v01:` + payload + `","key_version":1}}`,
		"version huge":           `{"data":{"ciphertext":"vault:v99999999999:` + payload + `","key_version":99999999999}}`,
		"another version":        `{"data":{"ciphertext":"` + text + `","key_version":2}}`,
		"no version":             `{"data":{"ciphertext":"` + text + `"}}`,
		"version a string":       `{"data":{"ciphertext":"` + text + `","key_version":"1"}}`,
		"version a fraction":     `{"data":{"ciphertext":"` + text + `","key_version":1.5}}`,
		"not base64":             `{"data":{"ciphertext":"vault:v1:!!!!","key_version":1}}`,
		"base64 with a line end": `{"data":{"ciphertext":"vault:v1:` + payload[:8] + `\n` + payload[8:] + `","key_version":1}}`,
		"too short":              `{"data":{"ciphertext":"vault:v1:AAAA","key_version":1}}`,
		"too long":               `{"data":{"ciphertext":"vault:v1:` + strings.Repeat("AAAA", 100) + `","key_version":1}}`,
		"the plaintext itself":   `{"data":{"ciphertext":"UExBSU5URVhUIGRvIG5vdCBwcmludA==","key_version":1}}`,
		"a plaintext":            `{"data":{"plaintext":"UExBSU5URVhUIGRvIG5vdCBwcmludA=="}}`,
		"plaintext a number":     `{"data":{"plaintext":7}}`,
		"plaintext not base64":   `{"data":{"plaintext":"PLAINTEXT do not print"}}`,
		"plaintext too long":     `{"data":{"plaintext":"` + strings.Repeat("AAAA", 100) + `"}}`,
		"plaintext too short":    `{"data":{"plaintext":""}}`,
		"huge":                   `{"data":{"x":"` + strings.Repeat("A", 4<<20) + `"}}`,
		"deep":                   `{"data":` + strings.Repeat("[", 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			f.lie("crypt/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
			defer f.honest()
			check := func(out []byte, err error) {
				t.Helper()
				require.ErrorIs(t, err, kms.ErrUnavailable)
				require.NotErrorIs(t, err, kms.ErrRejected)
				require.Empty(t, out)
				silent(t, err)
			}
			check(k.EncryptWithContext(t.Context(), plaintext, row))
			if name != "a plaintext" {
				check(k.DecryptWithContext(t.Context(), good, row))
			}
			items := []vaultkms.BatchItem{{Data: plaintext, AssociatedData: row}}
			results, err := k.EncryptBatch(t.Context(), items)
			require.Empty(t, results)
			check(nil, err)
		})
	}
}

func TestStatus(t *testing.T) {
	f, k := fake(t, vaultkms.Options{})
	good, err := k.EncryptWithContext(t.Context(), plaintext, row)
	require.NoError(t, err)
	for code, want := range map[int]error{
		204: kms.ErrUnavailable, 400: kms.ErrRejected, 401: kms.ErrDenied, 403: kms.ErrDenied, 404: kms.ErrRejected, 405: kms.ErrRejected,
		408: kms.ErrUnavailable, 412: kms.ErrUnavailable, 413: kms.ErrRejected, 429: kms.ErrUnavailable, 472: kms.ErrUnavailable,
		473: kms.ErrUnavailable, 500: kms.ErrUnavailable, 502: kms.ErrUnavailable, 503: kms.ErrUnavailable, 504: kms.ErrUnavailable,
		301: kms.ErrUnavailable, 302: kms.ErrUnavailable, 304: kms.ErrUnavailable, 307: kms.ErrUnavailable, 308: kms.ErrUnavailable,
	} {
		for _, echo := range []bool{false, true} {
			f.set(func() {
				f.answer = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
					w.WriteHeader(code)
					switch {
					case code == 204 || code == 304:
					case echo: // a server that says back all that it was sent
						_ = r.Header.Write(w)
						_, _ = w.Write(body)
					default:
						_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{"refused: " + string(body) + r.Header.Get("X-Vault-Token")}})
					}
					return true
				}
			})
			check := func(err error) {
				t.Helper()
				require.ErrorIs(t, err, want, "%d", code)
				for _, other := range []error{kms.ErrUnavailable, kms.ErrRejected, kms.ErrDenied} {
					if !errors.Is(want, other) {
						require.NotErrorIs(t, err, other, "%d", code)
					}
				}
				silent(t, err)
			}
			_, err := k.EncryptWithContext(t.Context(), plaintext, row)
			check(err)
			_, err = k.DecryptWithContext(t.Context(), good, row)
			check(err)
			check(k.Ping(t.Context()))
			_, err = k.Info(t.Context())
			check(err)
			_, err = k.DecryptBatch(t.Context(), []vaultkms.BatchItem{{Data: good, AssociatedData: row}})
			check(err)
			_, err = vaultkms.New(t.Context(), clientOf(t, f), "k", vaultkms.Options{})
			if code != 401 && code != 403 { // then the key may be hidden, and the set-up is not seen
				check(err)
			}
			require.Error(t, err)
			silent(t, err)
		}
	}
}

// An answer that is not HTTP is quoted by net/http; it may hold what was sent.
func TestNotHTTP(t *testing.T) {
	for _, echo := range []string{"", "PLAINTEXT do not print\r\n\r\n", "HTTP/1.1 200 OK\r\nPLAINTEXT do not print\r\n\r\n", "HTTP/1.1 PLAINTEXT do not print\r\n\r\n"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		go func() {
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 4096))
				_, _ = io.WriteString(c, echo)
				_ = c.Close()
			}
		}()
		config := api.DefaultConfig()
		config.Address = "http://" + listener.Addr().String()
		client, err := api.NewClient(config)
		require.NoError(t, err)
		_, err = vaultkms.New(t.Context(), client, "k", vaultkms.Options{})
		require.ErrorIs(t, err, kms.ErrUnavailable)
		silent(t, err)
		require.NoError(t, listener.Close())
	}
}

func TestBatchLies(t *testing.T) {
	f, k := fake(t, vaultkms.Options{})
	items := []vaultkms.BatchItem{{Data: []byte("one"), AssociatedData: row}, {Data: []byte("two"), AssociatedData: row}, {Data: []byte("three"), AssociatedData: row}}
	wrapped, err := k.EncryptBatch(t.Context(), items)
	require.NoError(t, err)
	item := func(i int) map[string]any {
		return map[string]any{"ciphertext": string(wrapped[i].Data), "key_version": 1, "reference": strconv.Itoa(i)}
	}
	for name, results := range map[string]any{
		"short":              []any{item(0), item(1)},
		"long":               []any{item(0), item(1), item(2), item(2)},
		"reordered":          []any{item(1), item(0), item(2)},
		"repeated":           []any{item(0), item(0), item(2)},
		"no references":      []any{map[string]any{"ciphertext": string(wrapped[0].Data), "key_version": 1}, item(1), item(2)},
		"null":               nil,
		"null items":         []any{nil, nil, nil},
		"an object":          map[string]any{"0": item(0)},
		"items are strings":  []any{"a", "b", "c"},
		"an item is empty":   []any{item(0), map[string]any{"reference": "1"}, item(2)},
		"another length":     []any{item(0), item(1), map[string]any{"ciphertext": string(wrapped[0].Data) + "AAAA", "key_version": 1, "reference": "2"}},
		"error not a string": []any{item(0), item(1), map[string]any{"error": 1, "reference": "2"}},
	} {
		for _, code := range []int{200, 400, 500} {
			f.lie("/encrypt/", func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(code)
				data(w, map[string]any{"batch_results": results})
			})
			out, err := k.EncryptBatch(t.Context(), items)
			require.Error(t, err, "%s %d", name, code)
			require.Nil(t, out)
			silent(t, err)
		}
	}

	// An item's failure whose kind the batch does not say is asked for alone.
	f.set(func() {
		f.answer = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			if !strings.Contains(r.URL.Path, "/encrypt/") {
				return false
			}
			if !bytes.Contains(body, []byte("batch_input")) {
				fail(w, 500, "internal PLAINTEXT do not print")
				return true
			}
			w.WriteHeader(http.StatusBadRequest)
			data(w, map[string]any{"batch_results": []any{item(0), map[string]any{"error": "internal PLAINTEXT do not print", "reference": "1"}, item(2)}})
			return true
		}
	})
	out, err := k.EncryptBatch(t.Context(), items)
	require.NoError(t, err)
	require.NoError(t, out[0].Err)
	require.ErrorIs(t, out[1].Err, kms.ErrUnavailable)
	require.Empty(t, out[1].Data)
	silent(t, out[1].Err)
}

// Redirects lead nowhere: not to another host, not to the same.
func TestRedirects(t *testing.T) {
	f, k := fake(t, vaultkms.Options{})
	var stolen []string
	thief := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stolen = append(stolen, r.Header.Get("X-Vault-Token"))
		data(w, map[string]any{})
	}))
	defer thief.Close()
	client := clientOf(t, f)
	transport, ok := f.Client().Transport.(*http.Transport)
	require.True(t, ok)
	transport.TLSClientConfig.InsecureSkipVerify = false
	transport.TLSClientConfig.RootCAs.AddCert(thief.Certificate())

	for _, to := range []string{thief.URL + "/v1/transit/encrypt/k", f.URL + "/v1/transit/keys/k", "http://127.0.0.1:1/", "/v1/x", "", "::"} {
		for _, code := range []int{301, 302, 303, 307, 308} {
			f.lie("", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", to)
				w.WriteHeader(code)
			})
			_, err := k.EncryptWithContext(t.Context(), plaintext, row)
			require.ErrorIs(t, err, kms.ErrUnavailable)
			require.ErrorContains(t, err, "active node")
			silent(t, err)
			_, err = vaultkms.New(t.Context(), client, "k", vaultkms.Options{Auth: appRole(t)})
			require.ErrorIs(t, err, kms.ErrUnavailable)
			require.Empty(t, stolen)
		}
	}
	// The caller's own client still follows them: it was not changed.
	f.lie("", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", thief.URL+"/v1/x")
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	_, err := client.Logical().Read("x")
	require.NoError(t, err)
	require.NotEmpty(t, stolen)
}

func TestHang(t *testing.T) {
	f, k := fake(t, vaultkms.Options{Timeout: 100 * time.Millisecond})
	release := make(chan struct{})
	defer close(release)
	for name, hang := range map[string]http.HandlerFunc{
		"no answer": func(http.ResponseWriter, *http.Request) { <-release },
		"headers, then nothing": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-release
		},
		"half a body": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"data":{`)
			_ = http.NewResponseController(w).Flush()
			<-release
		},
		"an error without end": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_ = http.NewResponseController(w).Flush()
			<-release
		},
	} {
		f.lie("", hang)
		start := time.Now()
		_, err := k.EncryptWithContext(t.Context(), plaintext, row)
		require.ErrorIs(t, err, kms.ErrUnavailable, name)
		require.NotErrorIs(t, err, context.DeadlineExceeded, name)
		require.Less(t, time.Since(start), 5*time.Second)

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		_, err = k.EncryptWithContext(ctx, plaintext, row)
		require.Equal(t, context.Canceled, err, name)
		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err = k.EncryptWithContext(ctx, plaintext, row)
		require.Equal(t, context.DeadlineExceeded, err, name)
		cancel()
	}
}

// A huge answer is not read to its end.
func TestHugeAnswers(t *testing.T) {
	f, k := fake(t, vaultkms.Options{})
	for _, code := range []int{200, 400, 503} {
		written := 0
		done := make(chan struct{})
		f.lie("", func(w http.ResponseWriter, _ *http.Request) {
			defer close(done)
			w.WriteHeader(code)
			block := bytes.Repeat([]byte(" "), 1<<16)
			for range 1 << 14 { // 1 GiB
				n, err := w.Write(block)
				if err != nil {
					return
				}
				written += n
			}
		})
		_, err := k.EncryptWithContext(t.Context(), plaintext, row)
		require.Error(t, err)
		<-done
		require.Less(t, written, 64<<20)
	}
}

func TestTooLong(t *testing.T) {
	_, k := fake(t, vaultkms.Options{})
	_, err := k.EncryptWithContext(t.Context(), make([]byte, vaultkms.MaxPlaintext+1), nil)
	require.ErrorIs(t, err, kms.ErrRejected)
	_, err = k.EncryptWithContext(t.Context(), nil, make([]byte, 64<<10+1))
	require.ErrorIs(t, err, kms.ErrRejected)
	wrapped, err := k.EncryptWithContext(t.Context(), make([]byte, vaultkms.MaxPlaintext), make([]byte, 64<<10))
	require.NoError(t, err)
	_, err = k.DecryptWithContext(t.Context(), append(wrapped, wrapped...), nil)
	require.ErrorIs(t, err, kms.ErrRejected)
	out, err := k.EncryptBatch(t.Context(), []vaultkms.BatchItem{{Data: make([]byte, vaultkms.MaxPlaintext+1)}, {Data: plaintext}})
	require.NoError(t, err)
	require.ErrorIs(t, out[0].Err, kms.ErrRejected)
	require.NoError(t, out[1].Err)
}

// A server that ignores associated data is found out.
func TestAssociatedDataDropped(t *testing.T) {
	f := newFakeVault()
	defer f.Close()
	f.set(func() {
		f.answer = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			var item fakeItem
			_ = json.Unmarshal(body, &item)
			item.AssociatedData = ""
			switch {
			case strings.Contains(r.URL.Path, "/encrypt/"):
				data(w, f.encrypt(item))
			case strings.Contains(r.URL.Path, "/decrypt/"):
				data(w, f.decrypt(item))
			default:
				return false
			}
			return true
		}
	})
	_, err := vaultkms.New(t.Context(), clientOf(t, f), "k", vaultkms.Options{})
	require.ErrorIs(t, err, vaultkms.ErrUnsuitable)
}

// Every request carries associated_data, be it empty.
func TestAssociatedDataIsAlwaysSent(t *testing.T) {
	f, k := fake(t, vaultkms.Options{})
	wrapped, err := k.EncryptWithContext(t.Context(), plaintext, nil)
	require.NoError(t, err)
	_, err = k.DecryptWithContext(t.Context(), wrapped, nil)
	require.NoError(t, err)
	_, err = k.EncryptBatch(t.Context(), []vaultkms.BatchItem{{Data: plaintext}})
	require.NoError(t, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := 0
	for i, path := range f.paths {
		if strings.Contains(path, "crypt/") {
			require.Contains(t, f.bodies[i], `"associated_data":"`)
			seen++
		}
		require.NotContains(t, path, "rewrap")
	}
	require.GreaterOrEqual(t, seen, 6)
}
