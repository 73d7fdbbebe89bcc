package main

import (
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far long work is: a bar where standard error is a terminal,
// elsewhere a line now and then.
type progress struct {
	app  *app
	what string
	bar  *progressbar.ProgressBar
	next time.Time // of a line
}

const lineEvery = 5 * time.Second

func newProgress(a *app) *progress { return &progress{app: a, next: time.Now().Add(lineEvery)} }

// show says that done of total are done; a total of 0 or less is unknown. A
// terminal that went away does not stop the work.
func (p *progress) show(what string, done, total int64) {
	if what != p.what {
		p.finish()
		p.what = what
	}
	if !term.IsTerminal(int(p.app.stderr.Fd())) {
		if now := time.Now(); now.After(p.next) {
			p.next = now.Add(lineEvery)
			if total > 0 {
				p.app.notef("%s: %d of %d", what, done, total)
			} else {
				p.app.notef("%s: %d", what, done)
			}
		}
		return
	}
	if total <= 0 {
		total = -1
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(p.app.stderr), progressbar.OptionSetDescription(what),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	if p.bar.GetMax64() != total {
		p.bar.ChangeMax64(total)
	}
	_ = p.bar.Set64(done)
}

// finish removes the bar.
func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Clear()
		_, _ = fmt.Fprint(p.app.stderr, "\r")
		p.bar = nil
	}
}
