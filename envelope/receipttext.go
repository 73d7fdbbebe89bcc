package envelope

import (
	"fmt"
	"strings"
	"time"

	"github.com/lethe-go/lethe/kms"
)

// String returns the receipt for people, several lines. What came from outside
// (names, handles, notes) is quoted where it is not plain text.
func (r Receipt) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("Receipt of a forget")
	line("  key store      %x, tree %d", r.Store, r.Tree)
	line("  ledger entry   %d, of %s", r.Seq, stamp(r.Time))
	if r.Deferred {
		due := "once the subject's holds are released"
		if !r.Due.IsZero() {
			due = "from " + stamp(r.Due)
		}
		line("  DEFERRED       nothing was destroyed yet, and nothing opens; to be forgotten %s", due)
		return b.String()
	}
	switch {
	case r.Unknown:
		line("  keys           none: nothing was sealed for the subject, or its id was mistyped")
	default:
		line("  keys           %d, of epoch %d or before", len(r.KeyIDs), r.Epoch)
	}
	if r.Already {
		line("                 forgotten before; nothing was changed now")
	}
	line("  refused        by every process from %s", stamp(r.Everywhere))
	switch {
	case r.Unknown:
	case r.ClosedEpoch == 0:
		line("  epoch          not closed yet: the present root still reaches the keys in backups")
	default:
		line("  epoch          closed; epoch %d is the first whose root reaches none of the keys", r.ClosedEpoch)
	}
	for i := range r.Handles {
		h := &r.Handles[i]
		line("  handle         epoch %d, %s of %s: %s", h.Epoch, plain(h.Handle), plain(h.URI), h.when())
		for _, caveat := range h.caveats() {
			line("                 %s", caveat)
		}
	}
	for i := range r.Residuals {
		x := &r.Residuals[i]
		text := plain(x.Kind)
		if x.Name != "" {
			text += " " + plain(x.Name)
		}
		if x.Count != 0 {
			text += fmt.Sprintf(", %d rows", x.Count)
		}
		if x.Note != "" {
			text += ": " + plain(x.Note)
		}
		line("  residual       %s", text)
	}
	switch {
	case r.Forgotten.IsZero():
		line("  beyond backups no time can be given: %s", plain(r.None))
	case r.Complete:
		line("  beyond backups since %s, confirmed", stamp(r.Forgotten))
	default:
		line("  beyond backups from %s, not confirmed yet", stamp(r.Forgotten))
	}
	line("  as of          ledger entry %d, %s", r.LedgerSeq, stamp(r.Issued))
	return b.String()
}

func (h *ReceiptHandle) when() string {
	switch h.State {
	case ReceiptDestroyed:
		if h.Semantics == "" {
			return "destroyed by hand, as an operator confirmed " + stamp(h.Destroyed)
		}
		return "destroyed, confirmed " + stamp(h.Destroyed)
	case ReceiptOrdered:
		if h.Until.IsZero() {
			return "destruction ordered"
		}
		return "destruction ordered, done " + stamp(h.Until)
	case ReceiptDue:
		return "to be destroyed from " + stamp(h.Due)
	case ReceiptLive, ReceiptNotErasable:
	}
	return plain(string(h.State))
}

// caveats are what can bring the handle back in spite of its state.
func (h *ReceiptHandle) caveats() (out []string) {
	sem, err := kms.ParseEraseSemantics(h.Semantics)
	if err != nil {
		return nil // none, or one that judge does not know either
	}
	if sem.Cancelable && h.State != ReceiptDestroyed {
		out = append(out, "until then whoever has the rights at the KMS can cancel that")
	}
	if sem.OperatorBackedUp {
		out = append(out, "backups of the KMS itself hold it until they are deleted")
	}
	return out
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// plain quotes a text that could pass for another line, or move the cursor.
func plain(text string) string {
	if text == "" {
		return "-"
	}
	if q := fmt.Sprintf("%q", text); q != `"`+text+`"` && strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return q
	}
	return text
}
