package transittest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/sdk/logical"
)

// Tokens the server knows. They differ in what they may do with any key.
const (
	Root       = "token-root"         // everything
	UpdateOnly = "token-update-only"  // encrypt existing keys, decrypt, read keys; no config/keys
	Minimal    = "token-minimal"      // encrypt existing keys and decrypt
	MayCreate  = "token-may-create"   // like UpdateOnly, and encrypting makes keys
	Blind      = "token-blind"        // like MayCreate, and may not see its capabilities
	BlindAll   = "token-blind-to-all" // like Blind, and may not read keys
	Eraser     = "token-eraser"       // like UpdateOnly, and makes, rotates, trims and deletes keys
)

// Server is the transit engine, mounted at "transit", on an HTTP server.
type Server struct {
	*httptest.Server
	backend logical.Backend
	storage logical.Storage

	mu       sync.Mutex
	sealed   bool
	requests int
}

// NewServer starts a server, with TLS if asked to. It ends with the test.
func NewServer(tb testing.TB, withTLS bool) *Server {
	tb.Helper()
	config := logical.TestBackendConfig()
	config.Logger = hclog.NewNullLogger()
	config.StorageView = &logical.InmemStorage{}
	backend, err := transit.Factory(context.Background(), config)
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{backend: backend, storage: config.StorageView}
	s.Server = httptest.NewUnstartedServer(s)
	if withTLS {
		s.StartTLS()
	} else {
		s.Start()
	}
	tb.Cleanup(s.Close)
	return s
}

// Seal makes the server answer as a sealed Vault does, or ends that.
func (s *Server) Seal(sealed bool) { s.mu.Lock(); defer s.mu.Unlock(); s.sealed = sealed }

// Requests returns how many requests there were.
func (s *Server) Requests() int { s.mu.Lock(); defer s.mu.Unlock(); return s.requests }

// Do acts on the engine as an administrator.
func (s *Server) Do(tb testing.TB, op logical.Operation, path string, data map[string]any) *logical.Response {
	tb.Helper()
	resp, err := s.backend.HandleRequest(context.Background(), &logical.Request{Operation: op, Path: path, Data: data, Storage: s.storage})
	if err != nil || resp.IsError() {
		tb.Fatalf("%s %s: %v %v", op, path, err, resp)
	}
	return resp
}

// MakeKey makes a transit key.
func (s *Server) MakeKey(tb testing.TB, name string) {
	tb.Helper()
	s.Do(tb, logical.UpdateOperation, "keys/"+name, nil)
}

// DeleteKey deletes a transit key.
func (s *Server) DeleteKey(tb testing.TB, name string) {
	tb.Helper()
	s.Do(tb, logical.UpdateOperation, "keys/"+name+"/config", map[string]any{"deletion_allowed": true})
	s.Do(tb, logical.DeleteOperation, "keys/"+name, nil)
}

// KeyExists reports whether there is such a transit key.
func (s *Server) KeyExists(tb testing.TB, name string) bool {
	tb.Helper()
	return s.Do(tb, logical.ReadOperation, "keys/"+name, nil) != nil
}

func writeJSON(w http.ResponseWriter, object any) {
	if err := json.NewEncoder(w).Encode(object); err != nil {
		panic(http.ErrAbortHandler) // the client went away
	}
}

func refuse(w http.ResponseWriter, code int, messages ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	writeJSON(w, map[string]any{"errors": messages})
}

// ServeHTTP serves what is below /v1/.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests++
	sealed := s.sealed
	s.mu.Unlock()
	if sealed {
		refuse(w, http.StatusServiceUnavailable, "Vault is sealed")
		return
	}
	req := &logical.Request{ID: "request", Storage: s.storage, Operation: logical.ReadOperation}
	if r.Method == http.MethodDelete {
		req.Operation = logical.DeleteOperation
	} else if r.Method != http.MethodGet {
		req.Operation = logical.UpdateOperation
		decoder := json.NewDecoder(r.Body)
		decoder.UseNumber()
		if decoder.Decode(&req.Data) != nil {
			refuse(w, http.StatusBadRequest, "failed to parse JSON input")
			return
		}
	}
	token := r.Header.Get("X-Vault-Token")
	if r.URL.Path == "/v1/sys/capabilities-self" {
		capabilities(w, token, req.Data)
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/transit/")
	if !ok {
		refuse(w, http.StatusNotFound, "no handler for route")
		return
	}
	req.Path = path
	if req.Operation == logical.UpdateOperation {
		if found, exists, err := s.backend.HandleExistenceCheck(r.Context(), req); err == nil && found && !exists {
			req.Operation = logical.CreateOperation
		}
	}
	if !allowed(token, req.Operation, path) {
		refuse(w, http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
		return
	}
	resp, err := s.backend.HandleRequest(r.Context(), req)
	s.respond(w, req, resp, err)
}

// respond writes a response as Vault's HTTP layer does.
func (s *Server) respond(w http.ResponseWriter, req *logical.Request, resp *logical.Response, err error) {
	if code, err := logical.RespondErrorCommon(req, resp, err); code != 0 || err != nil {
		if code == 0 {
			code = http.StatusInternalServerError
		}
		if err == nil {
			refuse(w, code)
			return
		}
		refuse(w, code, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if resp == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if code, ok := resp.Data[logical.HTTPStatusCode].(int); ok {
		w.WriteHeader(code)
		body, _ := resp.Data[logical.HTTPRawBody].(string)
		_, _ = w.Write([]byte(body))
		return
	}
	writeJSON(w, logical.LogicalResponseToHTTPResponse(resp))
}

// granted lists a token's capabilities on the mount's path.
func granted(token, path string) []string {
	operation, _, _ := strings.Cut(path, "/")
	if token == Root {
		return []string{"root"}
	}
	switch operation {
	case "encrypt":
		switch token {
		case UpdateOnly, Minimal, Eraser:
			return []string{"update"}
		case MayCreate, Blind, BlindAll:
			return []string{"create", "update"}
		}
	case "decrypt":
		switch token {
		case UpdateOnly, Minimal, Eraser, MayCreate, Blind, BlindAll:
			return []string{"update"}
		}
	case "keys":
		switch token {
		case Eraser:
			return []string{"create", "read", "update", "delete"}
		case UpdateOnly, MayCreate, Blind:
			return []string{"read"}
		}
	}
	return []string{"deny"}
}

func allowed(token string, op logical.Operation, path string) bool {
	for _, capability := range granted(token, path) {
		if capability == "root" || capability == string(op) {
			return true
		}
	}
	return false
}

func capabilities(w http.ResponseWriter, token string, data map[string]any) {
	if token == Blind || token == BlindAll {
		refuse(w, http.StatusForbidden, "permission denied")
		return
	}
	answer := map[string]any{}
	paths, _ := data["paths"].([]any)
	for _, p := range paths {
		path, _ := p.(string)
		list := granted(token, strings.TrimPrefix(path, "transit/"))
		answer[path] = list
		answer["capabilities"] = list
	}
	writeJSON(w, map[string]any{"data": answer})
}
