package config

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// SettingNames are the keys of the file and the variables of the environment.
func SettingNames() []string {
	var out []string
	for _, s := range settings() {
		key := s.key
		if _, inner, ok := strings.Cut(key, "."); ok {
			key = inner
		}
		out = append(out, key, s.env())
	}
	return out
}

// KMSAddress is the address of the KMS key.
func (c *Config) KMSAddress() *Address { return &c.KMS }

// OpenDatabase opens the application's database alone.
func OpenDatabase(t *testing.T, c *Config) *sql.DB {
	t.Helper()
	s := &Stack{}
	require.NoError(t, c.openDatabase(t.Context(), s))
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s.DB
}
