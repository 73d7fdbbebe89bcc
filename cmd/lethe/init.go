package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/integrations/config"
	"github.com/lethe-go/lethe/kms/localkms"
)

type initCommand struct{}

// initResult is the answer of init.
type initResult struct {
	Store   string `json:"store"`
	Ledger  string `json:"ledger"`
	KMS     string `json:"kms"`
	Already bool   `json:"already"` // the store was in use; its tables are up to date now
	NewKey  string `json:"new_key,omitempty"`
}

// Run makes a key store.
func (c *initCommand) Run(ctx context.Context, a *app, out *output) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	mux, err := a.mux()
	if err != nil {
		return err
	}
	res := initResult{Store: cfg.Store.String(), Ledger: cfg.Ledger.String(), KMS: cfg.KMS.String()}
	err = cfg.Init(ctx, mux, config.InitOptions{NewKey: func(_ context.Context, uri string) error {
		made, err := newLocalKey(cfg, uri)
		if made {
			res.NewKey = strings.TrimPrefix(uri, "local://")
		}
		return err
	}})
	switch {
	case errors.Is(err, envelope.ErrStoreExists):
		res.Already = true
		return out.result(res, fmt.Sprintf("key store %s is in use; its tables are up to date\n", res.Store))
	case err != nil:
		return err
	}
	text := fmt.Sprintf("key store %s\nledger    %s\nKMS key   %s\n", res.Store, res.Ledger, res.KMS)
	if res.NewKey != "" {
		text += "made the key file " + res.NewKey + ": without it nothing opens; back it up, apart from the data\n"
	}
	return out.result(res, text+"ready\n")
}

// newLocalKey makes the key file that a local:// URI names, unless it is there.
func newLocalKey(cfg *config.Config, uri string) (made bool, err error) {
	path, ok := strings.CutPrefix(uri, "local://")
	if !ok {
		return false, nil
	}
	_, err = localkms.Create(path, localkms.Options{Passphrase: cfg.KMSPassphrase()})
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

type configCommands struct {
	Check configCheck `cmd:"" help:"Check the configuration, and with --open whether everything it names opens."`
}

type configCheck struct {
	Open bool `help:"Open the key store, the KMS key, the ledger and the database too."`
}

// configResult is the answer of config check. No value of it shows a credential.
type configResult struct {
	File     string            `json:"file,omitempty"`
	Store    string            `json:"store,omitempty"`
	KMS      string            `json:"kms,omitempty"`
	Ledger   string            `json:"ledger,omitempty"`
	Database string            `json:"database,omitempty"`
	Signed   bool              `json:"receipts_signed"`
	Tables   map[string]string `json:"tables"` // name in the file to name in SQL
	Warnings []string          `json:"warnings"`
	Opened   bool              `json:"opened"`
}

// Run checks.
func (c *configCheck) Run(ctx context.Context, a *app, out *output) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	res := configResult{
		File: cfg.Path, Store: cfg.Store.String(), KMS: cfg.KMS.String(), Ledger: cfg.Ledger.String(), Database: cfg.Database.String(),
		Signed: cfg.ReceiptKey != "", Tables: map[string]string{}, Warnings: append([]string{}, cfg.Warnings()...),
	}
	if _, err := cfg.Signer(); err != nil {
		return err
	}
	errs := []error{cfg.Check()}
	for _, t := range cfg.Tables {
		res.Tables[t.Name] = t.SQL
		if _, err := describe(t); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if c.Open {
		if _, err := a.open(ctx); err != nil {
			return err
		}
		res.Opened = true
	}
	var b strings.Builder
	for _, line := range [][2]string{{"file", res.File}, {"store", res.Store}, {"kms", res.KMS}, {"ledger", res.Ledger}, {"database", res.Database}, {"receipts", cfg.ReceiptKey}} {
		if line[1] != "" {
			fmt.Fprintf(&b, "%-9s %s\n", line[0], line[1])
		}
	}
	for _, t := range cfg.Tables {
		fmt.Fprintf(&b, "table     %s (%s), %d columns\n", t.Name, t.SQL, len(t.Columns))
	}
	for _, w := range res.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	if res.Opened {
		b.WriteString("everything opens\n")
	} else {
		b.WriteString("no mistakes; --open tries whether everything opens\n")
	}
	return out.result(res, b.String())
}

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints the script. The shell calls the program itself for completions.
func (c *completionCommand) Run(out *output) error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	script := map[string]string{
		"bash": "complete -C %[1]s lethe\n",
		"zsh":  "autoload -U +X bashcompinit && bashcompinit\ncomplete -o nospace -C %[1]s lethe\n",
		"fish": "function __complete_lethe\n    set -lx COMP_LINE (commandline -cp)\n    test -z (commandline -ct)\n    and set COMP_LINE \"$COMP_LINE \"\n    %[1]s\nend\ncomplete -f -c lethe -a \"(__complete_lethe)\"\n",
	}[c.Shell]
	text := fmt.Sprintf(script, quoteShell(path))
	return out.result(map[string]string{"shell": c.Shell, "script": text}, text)
}

// quoteShell quotes a word for a POSIX shell and for fish.
func quoteShell(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("/._-+", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
