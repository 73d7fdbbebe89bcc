package lethe_test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// goBlocks returns the Go code blocks of the README.
func goBlocks(t *testing.T) []string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var blocks []string
	for i, part := range strings.Split(string(readme), "```") {
		if code, ok := strings.CutPrefix(part, "go\n"); ok && i%2 == 1 {
			blocks = append(blocks, code)
		}
	}
	require.NotEmpty(t, blocks)
	return blocks
}

// The struct on the README's first screen is the one the tests run against databases.
func TestREADMEShowsTheTestedStruct(t *testing.T) {
	t.Parallel()
	code, _, ok := strings.Cut(goBlocks(t)[0], "\n}\n")
	require.True(t, ok)
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "README.md", "package readme\n"+code+"\n}\n", 0)
	require.NoError(t, err)
	typ, ok := file.Scope.Lookup("Customer").Decl.(*ast.TypeSpec)
	require.True(t, ok)
	shown, ok := typ.Type.(*ast.StructType)
	require.True(t, ok)
	tested := reflect.TypeFor[Customer]()
	require.Len(t, shown.Fields.List, tested.NumField())
	for i, field := range shown.Fields.List {
		want := tested.Field(i)
		require.Len(t, field.Names, 1)
		require.Equal(t, want.Name, field.Names[0].Name)
		var printed bytes.Buffer
		require.NoError(t, format.Node(&printed, files, field.Type))
		require.Equal(t, want.Type.String(), printed.String())
		tag, err := strconv.Unquote(field.Tag.Value)
		require.NoError(t, err)
		for _, key := range []string{"db", "lethe"} {
			require.Equal(t, want.Tag.Get(key), reflect.StructTag(tag).Get(key), want.Name)
		}
	}
}

// The README's Go code is Go.
func TestREADMECodeParses(t *testing.T) {
	t.Parallel()
	for _, block := range goBlocks(t) {
		_, err := format.Source([]byte(block)) // takes declarations and statements, not both
		if err == nil {
			continue
		}
		declarations, statements, ok := strings.Cut(block, "\n}\n")
		require.True(t, ok, "%v in:\n%s", err, block)
		for _, part := range []string{declarations + "\n}\n", statements} {
			_, err := format.Source([]byte(part))
			require.NoError(t, err, part)
		}
	}
}
