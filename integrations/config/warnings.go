package config

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
)

// Warnings says what is not wrong, and not safe either: a ledger that a backup of the
// key store takes along, files of secrets that others may read. It looks at files'
// modes, and opens nothing.
func (c *Config) Warnings() []string {
	var out []string
	store, ledger := c.Store.place(), c.Ledger.place()
	if store != "" && store == ledger {
		out = append(out, fmt.Sprintf("store and ledger are both at %s: a restore that takes both back brings forgotten people back; keep them in different backups", store))
	}
	for _, path := range append([]string{c.ReceiptKey}, c.secretFiles...) {
		if path == "" || runtime.GOOS == "windows" {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			out = append(out, fmt.Sprintf("%s holds a secret, and its mode %#o lets others at it: chmod 600", path, info.Mode().Perm()))
		}
	}
	return out
}

// place is what is backed up together: the folder of a file, a database of a server.
func (a Address) place() string {
	switch a.Scheme() {
	case "":
		return ""
	case "sqlite", "file":
		return filepath.Dir(a.path())
	}
	u, err := url.Parse(a.url)
	if err != nil {
		return ""
	}
	return u.Host + u.Path
}
