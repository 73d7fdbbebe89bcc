package input

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{"30d": 720 * time.Hour, "1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, "5m": 5 * time.Minute, "0s": 0} {
		var s Span
		require.NoError(t, s.UnmarshalText([]byte(text)))
		require.Equal(t, want, time.Duration(s))
	}
	for _, text := range []string{"", "d", "-1d", "-3h", "5", "99999999d", "1d-2h", "soon"} {
		require.Error(t, new(Span).UnmarshalText([]byte(text)), text)
	}
}
