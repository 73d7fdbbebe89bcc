package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/willabides/kongplete"
)

// commands are all commands; each group has a file of its own.
type commands struct {
	Config string `name:"config" short:"c" placeholder:"FILE" env:"LETHE_CONFIG" predictor:"file" help:"Configuration, which the environment (LETHE_…) overrides."`
	JSON   bool   `name:"json" help:"Write the result, and errors, as JSON."`
	Yes    bool   `name:"yes" short:"y" help:"Do not ask; needed without a terminal for what cannot be undone."`

	Status    statusCommand    `cmd:"" help:"How forgetting stands: epoch, what waits, what is promised."`
	Init      initCommand      `cmd:"" help:"Make the key store, the ledger and a local key; or bring their tables up to date."`
	Check     configCommands   `cmd:"" name:"config" help:"The configuration."`
	Forget    forgetCommand    `cmd:"" help:"Forget a subject for good, and print the receipt."`
	ForgetDue forgetDueCommand `cmd:"" help:"Carry out forgets whose grace has passed or whose holds have ended."`
	Unforget  unforgetCommand  `cmd:"" help:"Undo a forget whose grace has not passed."`
	Readmit   readmitCommand   `cmd:"" help:"Let a forgotten subject have new data; the old stays unreadable."`
	Suspend   suspendCommand   `cmd:"" help:"Stop all use of a subject's keys, and destroy nothing."`
	Resume    resumeCommand    `cmd:"" help:"End a suspension."`
	Hold      holdCommand      `cmd:"" help:"Keep a subject from being forgotten: a legal hold."`
	Release   releaseCommand   `cmd:"" help:"End a hold, and carry out the forgets it deferred."`
	Epoch     epochCommands    `cmd:"" help:"Epochs, by which backups lose the forgotten."`
	Rotate    rotateCommands   `cmd:"" help:"New versions of keys."`
	Rewrap    rewrapCommand    `cmd:"" help:"Move a table's rows under the newest keys of their subjects."`
	Reseal    resealCommand    `cmd:"" help:"Seal a table's rows anew, under new data keys."`
	Reindex   reindexCommand   `cmd:"" help:"Compute a table's blind indexes with the newest index key."`
	Backfill  backfillCommand  `cmd:"" help:"Seal what a table has in plaintext columns."`
	Unseal    unsealCommand    `cmd:"" help:"The way out: write a table's sealed fields back to plaintext columns."`
	Restore   restoreCommand   `cmd:"" help:"Make a key store that was put back from a backup fit to be served."`
	Receipt   receiptCommands  `cmd:"" help:"Receipts of forgets."`
	Inspect   inspectCommand   `cmd:"" help:"What sealed bytes say without any key."`
	Inventory inventoryCommand `cmd:"" help:"Which personal data is where, from the tables described."`

	Completion completionCommand `cmd:"" help:"Print a script that completes commands in a shell."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin *os.File, stdout io.Writer, stderr *os.File) int {
	var cli commands
	app := &app{stdin: stdin, stderr: stderr, json: slices.Contains(args, "--json")}
	exited := -1
	parser, err := kong.New(&cli,
		kong.Name("lethe"), kong.Description("Seals, rotates and forgets: the operator's tool of Lethe."),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
	)
	if err != nil {
		return app.fail(err)
	}
	kongplete.Complete(parser, kongplete.WithPredictors(predictors()))
	if exited >= 0 { // a shell asked for completions
		return exited
	}
	call, err := parser.Parse(args)
	if exited == 0 { // --help was answered
		return exitOK
	}
	if err != nil {
		return app.fail(callError(err))
	}
	app.configPath, app.yes = cli.Config, cli.Yes
	app.json = cli.JSON
	call.BindTo(ctx, (*context.Context)(nil))
	err = call.Run(app, &output{w: stdout, json: cli.JSON})
	if closing := app.close(); err == nil {
		err = closing
	}
	if err == nil {
		return exitOK
	}
	return app.fail(err)
}

// callError says what is wrong with how the program was called. An argument too many
// may be a subject's id, which no message repeats.
func callError(err error) error {
	if strings.HasPrefix(err.Error(), "unexpected argument ") {
		err = errors.New("there is an argument too many; a subject's id goes to --id or to standard input")
	}
	return fmt.Errorf("%w; see lethe --help", err)
}

// fail says what went wrong, without a secret and without what moves a cursor.
func (a *app) fail(err error) int {
	code := exitCode(err)
	text := strings.Map(harmless, a.hide(err.Error()))
	if a.json {
		_ = writeJSON(a.stderr, failure{Error: text, Exit: code})
		return code
	}
	if code != exitVerdict {
		text = "lethe: " + strings.TrimPrefix(text, "lethe: ")
	}
	_, _ = fmt.Fprintln(a.stderr, text)
	return code
}

// failure is what standard error has of an error, with --json.
type failure struct {
	Error string `json:"error"`
	Exit  int    `json:"exit"`
}
