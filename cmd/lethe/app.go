package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/integrations/config"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/localkms"
	"github.com/lethe-go/lethe/kms/vaultkms"
)

// app is one run of the program: what its flags said, and what was opened.
type app struct {
	stdin      *os.File
	stderr     *os.File
	configPath string
	yes        bool
	json       bool

	lines *bufio.Reader // of stdin
	cfg   *config.Config
	stack *config.Stack
}

// notef says something to a person, beside the result.
func (a *app) notef(format string, args ...any) {
	_, _ = fmt.Fprintln(a.stderr, strings.Map(harmless, a.hide(fmt.Sprintf(format, args...))))
}

// hide replaces the secrets that the program knows of.
func (a *app) hide(text string) string {
	if a.cfg != nil {
		text = a.cfg.Hide(text)
	}
	if token := os.Getenv("VAULT_TOKEN"); len(token) > 2 {
		text = strings.ReplaceAll(text, token, "[hidden]")
	}
	return text
}

// config loads the configuration once.
func (a *app) config() (*config.Config, error) {
	if a.cfg != nil {
		return a.cfg, nil
	}
	cfg, err := config.Load(a.configPath)
	if err != nil {
		return nil, err
	}
	a.cfg = cfg
	return cfg, nil
}

// mux has the KMS drivers that this program links.
func (a *app) mux() (*kms.Mux, error) {
	var mux kms.Mux
	err := mux.Register("local", localkms.Opener(localkms.Options{Passphrase: a.cfg.KMSPassphrase()}))
	if err == nil {
		err = mux.Register(vaultkms.Scheme, vaultkms.Opener(vaultkms.OpenerOptions{Options: vaultkms.Options{Warn: func(err error) { a.notef("lethe: %v", err) }}}))
	}
	return &mux, err
}

// open opens all that the configuration names, once.
func (a *app) open(ctx context.Context) (*config.Stack, error) {
	if a.stack != nil {
		return a.stack, nil
	}
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	mux, err := a.mux()
	if err != nil {
		return nil, err
	}
	a.stack, err = cfg.Open(ctx, mux)
	switch {
	case errors.Is(err, envelope.ErrUnavailable): // of a socket that is not there, too
		return nil, err
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, envelope.ErrStoreEmpty):
		return nil, fmt.Errorf("%w; is the configuration the right one? A new key store is made by: lethe init", err)
	case err != nil:
		return nil, err
	}
	return a.stack, nil
}

func (a *app) close() error {
	if a.stack == nil {
		return nil
	}
	return a.stack.Close()
}

// interactive reports whether a person can be asked.
func (a *app) interactive() bool {
	return term.IsTerminal(int(a.stdin.Fd())) && term.IsTerminal(int(a.stderr.Fd()))
}

// line reads a line of standard input, "" at its end.
func (a *app) line() (string, error) {
	if a.lines == nil {
		a.lines = bufio.NewReader(a.stdin)
	}
	text, err := a.lines.ReadString('\n')
	if err != nil && text == "" {
		return "", errors.New("standard input ended")
	}
	return strings.TrimRight(text, "\r\n"), nil
}

// confirm asks whether to go on with what cannot be undone.
func (a *app) confirm(format string, args ...any) error {
	if a.yes {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	if !a.interactive() {
		return fmt.Errorf("%s: without a terminal to ask on, --yes is needed", what)
	}
	_, _ = fmt.Fprintf(a.stderr, "%s.\nType yes to go on: ", strings.Map(harmless, what))
	answer, err := a.line()
	if err != nil {
		return err
	}
	if strings.TrimSpace(answer) != "yes" {
		return verdictError{errors.New("not confirmed: nothing was changed")}
	}
	return nil
}
