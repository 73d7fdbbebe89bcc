package main

import (
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far measuring is: a bar on a terminal, elsewhere a line for
// every step.
type progress struct {
	out  io.Writer
	bar  *progressbar.ProgressBar
	step string
}

const progressParts = 1000

func newProgress(out io.Writer) *progress {
	p := &progress{out: out}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions(progressParts, progressbar.OptionSetWriter(out), progressbar.OptionSetWidth(30),
			progressbar.OptionSetPredictTime(false), progressbar.OptionClearOnFinish())
	}
	return p
}

func (p *progress) show(step string, done float64) {
	if p.bar != nil {
		p.bar.Describe(step)
		_ = p.bar.Set(int(done * progressParts)) // a terminal that went away does not stop the work
		return
	}
	if step != p.step {
		p.step = step
		_, _ = fmt.Fprintf(p.out, "%3.0f %% %s\n", 100*done, step)
	}
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
