package main

import (
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far a step is: a bar on a terminal, elsewhere a line for
// every quarter.
type progress struct {
	out         io.Writer
	what        string
	done, total int
	bar         *progressbar.ProgressBar
}

func newProgress(out io.Writer, what string, total int) *progress {
	p := &progress{out: out, what: what, total: total}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(what),
			progressbar.OptionShowCount(), progressbar.OptionSetWidth(40), progressbar.OptionClearOnFinish())
	}
	return p
}

func (p *progress) add(n int) {
	before := p.done
	p.done += n
	if p.bar != nil {
		_ = p.bar.Add(n) // a terminal that went away does not stop the work
	} else if p.total > 0 && before*4/p.total != p.done*4/p.total {
		_, _ = fmt.Fprintf(p.out, "%s: %d of %d\n", p.what, p.done, p.total)
	}
}
