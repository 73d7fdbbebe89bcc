package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"
)

// Exit codes, which scripts rely on.
const (
	exitOK       = 0
	exitVerdict  = 1 // it ran, and the answer is no
	exitTrouble  = 2 // it could not run
	maxInputSize = 16 << 20
)

// commands are all commands; a further group is a further member, in a file of its own.
type commands struct {
	JSON    bool            `name:"json" help:"Write the result as JSON."`
	Receipt receiptCommands `cmd:"" help:"Receipts of forgets."`
}

// output is where results go.
type output struct {
	w    io.Writer
	json bool
}

// result writes v as JSON, or text.
func (o *output) result(v any, text string) error {
	if o.json {
		enc := json.NewEncoder(o.w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	_, err := io.WriteString(o.w, text)
	return err
}

// verdictError is an answer, not a failure of the program.
type verdictError struct{ error }

func (e verdictError) Unwrap() error { return e.error }

// harmless replaces what could move the cursor of a terminal: an error may repeat
// what a file says.
func harmless(r rune) rune {
	if r == '\n' || unicode.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	say := func(format string, args ...any) {
		_, _ = fmt.Fprintln(stderr, strings.Map(harmless, fmt.Sprintf(format, args...)))
	}
	var cli commands
	exited := -1
	parser, err := kong.New(&cli,
		kong.Name("lethe"), kong.Description("Lethe's tools for the command line."),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: false}),
	)
	if err != nil {
		say("lethe: %v", err)
		return exitTrouble
	}
	call, err := parser.Parse(args)
	if exited == 0 { // --help was answered
		return exitOK
	}
	if err != nil {
		say("lethe: %v; see lethe --help", err)
		return exitTrouble
	}
	out := &output{w: stdout, json: cli.JSON}
	err = call.Run(out)
	var verdict verdictError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &verdict):
		say("%v", verdict)
		return exitVerdict
	}
	say("lethe: %v", err)
	return exitTrouble
}
