package presets

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// No figure without a source; what is on the web has a date or says that it has none.
func TestEveryFigureHasItsSource(t *testing.T) {
	require.Equal(t, []string{"aws", "azure", "gcp", "local", "vault"}, Names())
	for _, name := range Names() {
		p, ok := Get(name)
		require.True(t, ok)
		require.NotEmpty(t, p.Name)
		for what, f := range map[string]*Figure{"quota": p.Quota, "price": p.Price, "free": p.Free, "key price": p.KeyPrice, "destroy": p.Destroy} {
			if f == nil {
				continue
			}
			require.NotEmpty(t, f.Source, "%s: %s", name, what)
			require.GreaterOrEqual(t, f.Value, 0.0)
			if f.Source[:5] == "https" {
				require.NotEmpty(t, f.Date, "%s: %s", name, what)
			}
		}
	}
	_, ok := Get("ibm")
	require.False(t, ok)
}
