package input

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// Load is a kong.ConfigurationLoader for YAML: a map from the names of flags,
// without dashes before them, to values. What begins alike may be nested
// ("kms: {preset: aws}" is kms-preset). A flag on the command line wins.
func Load(r io.Reader) (kong.Resolver, error) {
	tree := map[string]any{}
	if err := yaml.NewDecoder(r).Decode(&tree); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the file is not YAML: %w", err)
	}
	f := file{}
	if err := f.flatten("", tree); err != nil {
		return nil, err
	}
	return f, nil
}

// file has the values of a file by flag.
type file map[string]string

func (f file) flatten(prefix string, tree map[string]any) error {
	for name, value := range tree {
		switch v := value.(type) {
		case map[string]any:
			if err := f.flatten(prefix+name+"-", v); err != nil {
				return err
			}
		case nil, []any:
			return fmt.Errorf("the file's %q has no single value", prefix+name)
		default:
			f[prefix+name] = fmt.Sprint(v)
		}
	}
	return nil
}

// Validate refuses names that are no flag's: a mistyped one would silently mean the default.
func (f file) Validate(app *kong.Application) error {
	var known, unknown []string
	for _, flag := range app.Flags {
		known = append(known, flag.Name)
	}
	for name := range f {
		if !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("the file has names that are no flag's: %s; see --help", strings.Join(unknown, ", "))
	}
	return nil
}

// Resolve returns the file's value of a flag.
func (f file) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if v, ok := f[flag.Name]; ok {
		return v, nil
	}
	return nil, nil
}
