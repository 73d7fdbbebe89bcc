package deps

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/lethe-go/lethe"

// pkg is what go list says of a package.
type pkg struct {
	ImportPath string
	Name       string
	Standard   bool
	Imports    []string
	Module     *struct{ Path string }
}

// rooms are the packages with rules of their own, and what of this module each may
// import. A room's subpackages under internal/ belong to it.
var rooms = map[string][]string{
	"":         {"envelope", "tokenize"},
	"envelope": {"kms"},
	"tokenize": {"fpe"},
	"kms":      {},
	"fpe":      {},
	"internal": {},
}

// drivers are the packages only programs, tests and testkits may import.
var drivers = []string{
	"envelope/memstore", "envelope/memledger", "envelope/fileledger", "envelope/sqlstore", "envelope/storetest",
	"envelope/sqlledger", "envelope/ledgertest", "envelope/sqlresidue",
	"envelope/envelopetest", "kms/kmstest", "kms/localkms", "kms/vaultkms",
	"tokenize/memstore", "tokenize/sqlstore", "tokenize/storetest", "tokenize/tokenizetest",
}

// driverParts are what drivers share. Like a driver they may need an SDK, and
// nothing but a driver may import them.
var driverParts = []string{"internal/sqlopen"}

// testkits are drivers that bring others along, for users' tests.
var testkits = []string{"envelope/storetest", "envelope/ledgertest", "envelope/envelopetest", "kms/kmstest", "tokenize/storetest", "tokenize/tokenizetest"}

// xModules is all the core may need outside the standard library.
var xModules = []string{"golang.org/x/crypto", "golang.org/x/text", "golang.org/x/sync", "golang.org/x/sys"}

// room returns the room of a package of this module, whether it is a driver, and
// whether it is of this module at all.
func room(path string) (name string, driver, ours bool) {
	if path != module && !strings.HasPrefix(path, module+"/") {
		return "", false, false
	}
	rel := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
	if slices.Contains(drivers, rel) || slices.Contains(driverParts, rel) {
		return rel, true, true
	}
	first, _, _ := strings.Cut(rel, "/")
	return first, false, true
}

// violations checks a graph, by import path, against the rules.
func violations(graph map[string]pkg) []string {
	var out []string
	for path, p := range graph {
		name, driver, ours := room(path)
		if !ours || p.Name == "main" || strings.HasPrefix(path, module+"/examples") {
			continue
		}
		for _, imp := range p.Imports {
			if problem := check(name, driver, imp); problem != "" {
				out = append(out, fmt.Sprintf("%s imports %s: %s", path, imp, problem))
			}
		}
		if driver {
			continue
		}
		if _, known := rooms[name]; !known {
			out = append(out, path+" is in no room that was drawn")
		}
		for _, dep := range foreign(graph, path, map[string]bool{}) {
			out = append(out, fmt.Sprintf("%s needs %s, and the core needs the standard library and golang.org/x only", path, dep))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func check(name string, driver bool, imp string) string {
	to, toDriver, ours := room(imp)
	switch {
	case !ours:
		return ""
	case to == "examples" || to == "bench":
		return "nothing imports the examples or benchmarks"
	case driver && slices.Contains(driverParts, to):
		return ""
	case toDriver && slices.Contains(testkits, name):
		return ""
	case toDriver:
		return "only programs and tests import a driver"
	case driver:
		served, _, _ := strings.Cut(name, "/")
		if to == served || slices.Contains(testkits, name) || slices.Contains(rooms[served], to) {
			return ""
		}
		return "a driver imports the room it serves"
	case to == name || to == "internal" || slices.Contains(rooms[name], to):
		return ""
	}
	return "imports run downwards only"
}

// foreign lists what a package needs, at any distance, outside the standard
// library, this module and golang.org/x.
func foreign(graph map[string]pkg, path string, seen map[string]bool) []string {
	if seen[path] {
		return nil
	}
	seen[path] = true
	p := graph[path]
	_, _, ours := room(path)
	if p.Standard || path == "C" || path == "unsafe" {
		return nil
	}
	if !ours && (p.Module == nil || !slices.Contains(xModules, p.Module.Path)) {
		return []string{path}
	}
	var out []string
	for _, imp := range p.Imports {
		out = append(out, foreign(graph, imp, seen)...)
	}
	return out
}

// root is the repository.
const root = "../.."

func goList(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Name,Standard,Imports,Module", "./...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	graph := map[string]pkg{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return graph
		} else if err != nil {
			t.Fatal(err)
		}
		graph[p.ImportPath] = p
	}
}

func TestImportsRunDownwards(t *testing.T) {
	graph := goList(t)
	for _, must := range []string{module, module + "/envelope", module + "/kms", module + "/fpe", module + "/tokenize"} {
		if _, ok := graph[must]; !ok {
			t.Errorf("%s is not in the graph", must)
		}
	}
	for _, v := range violations(graph) {
		t.Error(v)
	}
}

// The rules find what they are there to find.
func TestTheRulesBite(t *testing.T) {
	one := func(path string, imports ...string) map[string]pkg {
		return map[string]pkg{
			path:               {ImportPath: path, Name: "p", Imports: imports},
			"example.com/x":    {ImportPath: "example.com/x", Name: "x", Module: &struct{ Path string }{"example.com"}},
			"golang.org/x/net": {ImportPath: "golang.org/x/net", Name: "net", Module: &struct{ Path string }{"golang.org/x/net"}},
		}
	}
	for name, graph := range map[string]map[string]pkg{
		"upwards":                one(module+"/kms", module+"/envelope"),
		"root from a room":       one(module+"/envelope", module),
		"a driver":               one(module+"/envelope", module+"/envelope/memstore"),
		"root and a driver":      one(module, module+"/kms/localkms"),
		"driver to driver":       one(module+"/envelope/sqlstore", module+"/envelope/memstore"),
		"a driver's part":        one(module+"/envelope", module+"/internal/sqlopen"),
		"a part and a room":      one(module+"/internal/sqlopen", module+"/envelope"),
		"driver and the root":    one(module+"/envelope/sqlstore", module),
		"sideways":               one(module+"/fpe", module+"/kms"),
		"tokens and keys":        one(module+"/tokenize", module+"/envelope"),
		"examples":               one(module, module+"/examples/x"),
		"foreign":                one(module+"/kms", "example.com/x"),
		"another golang.org/x":   one(module+"/kms", "golang.org/x/net"),
		"a room nobody drew":     one(module + "/shed"),
		"foreign under internal": one(module+"/envelope/internal/wire", "example.com/x"),
	} {
		if len(violations(graph)) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
	if v := violations(one(module+"/envelope/sqlstore", module+"/envelope", module+"/internal/sqlopen", "example.com/x")); len(v) != 0 {
		t.Errorf("a driver with its room, its SDK and what drivers share is fine: %v", v)
	}
}

// The top of the repository holds the rooms that were drawn and nothing else.
func TestTopLevel(t *testing.T) {
	drawn := []string{
		"tokenize", "envelope", "kms", "fpe", "examples", "bench", "integrations", "cmd", "internal",
		"go.mod", "go.sum", "go.work", "go.work.sum", "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md",
	}
	out, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files").Output()
	if err != nil {
		t.Skip("not a git checkout")
	}
	for file := range strings.Lines(string(out)) {
		first, rest, _ := strings.Cut(strings.TrimSpace(file), "/")
		if strings.HasPrefix(first, ".") || rest == "" && strings.HasSuffix(first, ".go") || slices.Contains(drawn, first) {
			continue
		}
		t.Errorf("%s: not a room", file)
	}
}

// serverOnly are modules under a licence that lets them be tested against and
// not be shipped: only modules outside may need them.
var serverOnly = []string{"github.com/hashicorp/vault", "github.com/hashicorp/vault/sdk"}

type goMod struct {
	Module  struct{ Path string }
	Require []struct {
		Path, Version string
		Indirect      bool
	}
	Replace []struct{ Old, New struct{ Path string } }
}

func editJSON(t *testing.T, into any, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %v: %v", args, err)
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatal(err)
	}
}

// outside are the modules the workspace leaves out: what generates code, and
// tests and comparisons that come with very much or would lift everyone's versions. CI builds and
// runs them one by one.
var outside = []string{"bench/peers", "fpe/_asm", "fpe/wycheprooftest", "kms/vaultkms/clustertest", "kms/vaultkms/transittest"}

func TestModules(t *testing.T) {
	var work struct{ Use []struct{ DiskPath string } }
	editJSON(t, &work, "work", "edit", "-json")
	var used []string
	for _, u := range work.Use {
		used = append(used, filepath.Clean(u.DiskPath))
	}
	var found []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return filepath.SkipDir
		}
		if err == nil && d.Name() == "go.mod" {
			rel, _ := filepath.Rel(root, filepath.Dir(path))
			found = append(found, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range found {
		if slices.Contains(used, dir) == slices.Contains(outside, filepath.ToSlash(dir)) {
			t.Errorf("module %s must be either in go.work or among those outside", dir)
		}
		var m goMod
		editJSON(t, &m, "mod", "edit", "-json", filepath.Join(dir, "go.mod"))
		for _, r := range m.Require {
			if slices.Contains(serverOnly, r.Path) && !slices.Contains(outside, filepath.ToSlash(dir)) {
				t.Errorf("%s requires %s, which only tests outside go.work may", dir, r.Path)
			}
		}
		if dir == "." {
			checkRootModule(t, &m)
			continue
		}
		if want := module + "/" + filepath.ToSlash(dir); m.Module.Path != want {
			t.Errorf("%s has the path %s", dir, m.Module.Path)
		}
		if strings.HasPrefix(dir, "cmd/") {
			checkProgram(t, dir, &m)
		}
		up := strings.TrimSuffix(strings.Repeat("../", strings.Count(filepath.ToSlash(dir), "/")+1), "/")
		for _, r := range m.Replace {
			if strings.HasPrefix(dir, "cmd/") && (!isOurs(r.Old.Path) || m.version(r.Old.Path) != unreleased) {
				t.Errorf("%s: a replace makes go install refuse it", dir)
			} else if r.Old.Path == module && r.New.Path != up {
				t.Errorf("%s replaces the root by %s, not %s", dir, r.New.Path, up)
			}
		}
	}
}

// programs are what the modules under cmd may require besides the root module.
var programs = map[string][]string{
	"cmd/lethe": {
		module + "/integrations/config", module + "/integrations/migrate",
		"github.com/alecthomas/kong", "github.com/willabides/kongplete", "github.com/posener/complete", // commands, and their completion
		"github.com/schollz/progressbar/v3", "golang.org/x/term",
		"github.com/stretchr/testify", "github.com/creack/pty", // tests
	},
}

// unreleased stands for the version of a module of this repository until it has
// one. While a program requires it, it may replace it by the folder it is in.
const unreleased = "v0.0.0"

func isOurs(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

func (m *goMod) version(path string) string {
	for _, r := range m.Require {
		if r.Path == path {
			return r.Version
		}
	}
	return ""
}

func checkProgram(t *testing.T, dir string, m *goMod) {
	t.Helper()
	allowed, known := programs[filepath.ToSlash(dir)]
	if !known {
		t.Errorf("%s is no program that was drawn", dir)
	}
	for _, r := range m.Require {
		if !r.Indirect && r.Path != module && !slices.Contains(allowed, r.Path) {
			t.Errorf("%s requires %s", dir, r.Path)
		}
	}
}

func checkRootModule(t *testing.T, m *goMod) {
	t.Helper()
	allowed := append([]string{
		"github.com/tink-crypto/tink-go/v2", "github.com/hashicorp/vault/api", "github.com/stretchr/testify",
		"modernc.org/sqlite", "github.com/jackc/pgx/v5",
		"github.com/hashicorp/vault/api/auth/approle", "github.com/hashicorp/vault/api/auth/kubernetes", // for examples of vaultkms
	}, xModules...)
	for _, r := range m.Require {
		if !r.Indirect && !slices.Contains(allowed, r.Path) {
			t.Errorf("the root module requires %s; put what needs it into a module of its own", r.Path)
		}
	}
	if len(m.Replace) > 0 {
		t.Error("the root module replaces something")
	}
}
