package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lethe-go/lethe/bench/internal/model"
)

// table is rows of cells; the first of each is its name.
type table struct {
	Title string
	Note  string
	Head  []string
	Rows  [][]string
}

// tables are all of them, in order.
func (r *Report) tables() []table {
	return []table{r.granularities(), r.latencies(), r.rotations(), r.epochs(), r.measured()}
}

func (r *Report) head() []string {
	head := []string{""}
	for _, x := range r.Advice.Candidates {
		head = append(head, short(x.Plan.Granularity))
	}
	return head
}

// row computes a cell of every granularity.
func (r *Report) row(name string, cell func(*model.Candidate) string) []string {
	row := []string{name}
	for i := range r.Advice.Candidates {
		row = append(row, cell(&r.Advice.Candidates[i]))
	}
	return row
}

func (r *Report) granularities() table {
	t := table{Title: "One data key per …", Head: r.head(), Note: fmt.Sprintf(
		"Lethe: one data key per record under a key per person in a key tree. The others: data keys that the KMS wraps one by one, in memory as long as Lethe's. Planned for %s records of %s people; %s reads and %s writes a second, at the peak %s times as many; %s processes.",
		count(r.Service.Records), count(r.Service.Subjects), digits(r.Service.Reads), digits(r.Service.Writes), digits(r.Service.Peak), count(r.Service.Processes))}
	add := func(name string, cell func(p *model.Plan) string) {
		t.Rows = append(t.Rows, r.row(name, func(x *model.Candidate) string { return cell(&x.Plan) }))
	}
	add("KMS calls a second, mean", func(p *model.Plan) string { return digits(p.KMSMean) })
	add("… at the peak", func(p *model.Plan) string { return digits(p.KMSPeak) })
	add("… in the first second after a start of all", func(p *model.Plan) string { return digits(p.KMSCold) })
	add("the quota over the larger of these", func(p *model.Plan) string { return times(p.HeadRoom) })
	add("USD a month for the KMS", func(p *model.Plan) string { return usd(p.USD) })
	add("wrapped keys read a second", func(p *model.Plan) string { return digits(p.Reads) })
	add("key in memory when it is needed", func(p *model.Plan) string { return percent(p.Hits) })
	add("memory for keys, per process", func(p *model.Plan) string { return size(p.KeyMemory) })
	add("leaked data key: records", func(p *model.Plan) string { return count(p.Blast[0].Records) })
	add("leaked data key: people", func(p *model.Plan) string { return count(p.Blast[0].People) })
	add("memory dump of a process: people", func(p *model.Plan) string { return count(p.Dump) })
	add("a forgotten person opens elsewhere for", func(p *model.Plan) string {
		if p.RevokeSubject < 0 {
			return "for ever"
		}
		return span(p.RevokeSubject)
	})
	add("data opens without the KMS for", func(p *model.Plan) string { return span(p.RevokeAll) })
	add("2^32 AES-GCM messages under one key after", func(p *model.Plan) string { return span(p.GCM.Limit) })
	add("at rest: table of keys", func(p *model.Plan) string { return size(p.KeyBytes) })
	add("at rest: keys in records", func(p *model.Plan) string { return size(p.HeaderBytes) })
	add("at rest: nonces and tags", func(p *model.Plan) string { return size(p.CellBytes) })
	add("at rest: these over plaintext", func(p *model.Plan) string { return percent(p.Overhead) })
	add("out of every backup after", func(p *model.Plan) string { return forgotten(p.Forgotten) })
	t.Rows = append(t.Rows, r.row("keeps to your limits", func(x *model.Candidate) string {
		if x.Failed == 0 {
			return "yes"
		}
		return "no"
	}))
	return t
}

func (r *Report) latencies() table {
	t := table{Title: "Time for a record, p50 / p99", Head: r.head(), Note: "Lethe's are measured, the others composed of what was measured (MODEL.md). Page cold: the key's page of the key tree is read, too. All: by the share of keys in memory."}
	add := func(name string, by func(*model.Plan) map[model.State]model.Dist, state model.State) {
		t.Rows = append(t.Rows, r.row(name+", "+string(state), func(x *model.Candidate) string {
			if d, ok := by(&x.Plan)[state]; ok {
				return dist(d)
			}
			return "–"
		}))
	}
	for _, state := range model.States {
		add("seal", func(p *model.Plan) map[model.State]model.Dist { return p.Seal }, state)
	}
	t.Rows = append(t.Rows, r.row("seal, all", func(x *model.Candidate) string { return dist(x.Plan.SealAll) }))
	for _, state := range model.States {
		add("open", func(p *model.Plan) map[model.State]model.Dist { return p.Open }, state)
	}
	t.Rows = append(t.Rows, r.row("open, all", func(x *model.Candidate) string { return dist(x.Plan.OpenAll) }))
	return t
}

func (r *Report) rotations() table {
	t := table{Title: "One rotation", Head: r.head(), Note: "Time of one worker on the database, with " + digits(r.Service.Workers) + " calls to the KMS at a time; bytes of rows written, without the database's log. Per subject, tenant, column and KMS/record a data key seals records itself, so rotating it is a full re-seal. –: there is no such rotation; too slow: it takes longer than an epoch lasts."}
	for _, choice := range model.Choices {
		add := func(name string, cell func(model.Rotation) string) {
			t.Rows = append(t.Rows, r.row(choiceName(choice)+": "+name, func(x *model.Candidate) string {
				rot := x.Plan.Rotation(choice)
				if !rot.Possible {
					return "–"
				}
				return cell(rot)
			}))
		}
		add("time", func(x model.Rotation) string { return span(x.Time) })
		add("written", func(x model.Rotation) string { return size(x.Written) })
		add("KMS calls", func(x model.Rotation) string { return count(x.KMSCalls) })
		add("USD", func(x model.Rotation) string { return usd(x.USD) })
	}
	t.Rows = append(t.Rows, r.row(choiceName(model.CloseEpoch)+": out of every backup after", func(x *model.Candidate) string {
		switch x.Plan.Granularity {
		case model.PerRecord:
			if r.Service.KMS.Erasable {
				return span(r.Service.Promise())
			}
		case model.PerSubject:
			if after, _, ok := r.Service.Rewrapped(&x.Plan); ok {
				return span(after)
			}
			if x.Plan.Rotation(model.CloseEpoch).Possible {
				return "too slow"
			}
		default: // no key belongs to one person
		}
		return "–"
	}))
	return t
}

func (r *Report) epochs() table {
	t := table{Title: "Lethe: how often to close an epoch", Head: []string{"every", "T", "a close takes", "written a day", "USD a month", "fits"}, Note: "T is when a person forgotten now is out of reach of every backup: max(E, C) + C + W + P. USD: the KMS keys that backups within the window hang on, and the calls of the closes."}
	for _, e := range r.Advice.Epochs {
		fits := "no"
		if e.OK {
			fits = "yes"
		}
		t.Rows = append(t.Rows, []string{span(e.Every), span(e.Promise), span(e.Took), size(e.Written), usd(e.USD), fits})
	}
	return t
}

// measured is what was measured, as it was: for records of the size that was measured.
func (r *Report) measured() table {
	c := r.Costs
	t := table{
		Title: "Measured on this machine", Head: []string{"", "p50 or mean", "p99", "samples"},
		Note: fmt.Sprintf("Lethe itself, one goroutine, %d fields and %d bytes a record, %s subjects; p99 has in it what else the machine did. MODEL.md says how.", c.Fields, c.PlainBytes, count(float64(c.Subjects))),
	}
	add := func(name string, d model.Dist) {
		t.Rows = append(t.Rows, []string{name, span(d.P50), span(d.P99), count(float64(d.Count))})
	}
	one := func(name, value string) { t.Rows = append(t.Rows, []string{name, value, "", ""}) }
	add("seal, keys in memory", c.SealWarm)
	add("seal, subject key cold", c.SealSubjectCold)
	add("seal, page cold", c.SealPageCold)
	add("seal, process cold", c.SealProcessCold)
	add("seal for a new subject", c.SealNewSubject)
	add("open, keys in memory", c.OpenWarm)
	add("open, subject key cold", c.OpenSubjectCold)
	add("open, page cold", c.OpenPageCold)
	add("open, process cold", c.OpenProcessCold)
	add("read a wrapped key", c.KeyRead)
	add("KMS encrypt", c.KMSEncrypt)
	add("KMS decrypt", c.KMSDecrypt)
	add("forget a subject", c.Forget)
	one("rewrap, records a second", perSecond(c.Rewrap))
	one("re-seal, records a second", perSecond(c.Reseal))
	one("rotate, subjects a second", perSecond(c.RotateSubject))
	one("RewrapKEK", span(c.RewrapKEK))
	one("epoch close, by itself", span(c.CloseFixed))
	one("… for a page that lost a key", span(c.CloseDirty))
	one("… for a page that is checked", span(c.CloseCheck))
	one("key store, bytes a subject", digits(c.KeyStoreBytes))
	one("header, bytes a record", digits(float64(c.HeaderBytes)))
	one("cell, bytes beyond the plaintext", digits(float64(c.CellOverhead)))
	one("memory, bytes a subject in the cache", digits(c.KeyMemory))
	return t
}

func perSecond(d time.Duration) string {
	if d <= 0 {
		return "–"
	}
	return count(float64(time.Second) / float64(d))
}

// Text writes everything for a terminal.
func (r *Report) Text(w io.Writer) error {
	out := &strings.Builder{}
	c := r.Costs
	_, _ = fmt.Fprintf(out, "%s\n%s\n", r.Service.Name, strings.Repeat("=", len([]rune(r.Service.Name))))
	_, _ = fmt.Fprintf(out, "measured %s on %s, %d × %s, %s, with %s, %s\nKMS: %s\n", c.Taken.Format("2006-01-02"), c.Machine.OS+"/"+c.Machine.Arch, c.Machine.CPUs, c.Machine.CPU, c.Machine.Go, c.Database, c.KMS, r.Service.KMS.Name)
	for _, t := range r.tables() {
		_, _ = fmt.Fprintf(out, "\n%s\n", t.Title)
		tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, row := range append([][]string{t.Head}, t.Rows...) {
			_, _ = fmt.Fprintln(tw, strings.Join(row, "\t"))
		}
		_ = tw.Flush() // to memory
		for _, line := range wrap(t.Note, 110) {
			_, _ = fmt.Fprintln(out, line)
		}
	}
	for _, part := range r.Words() {
		_, _ = fmt.Fprintf(out, "\n%s\n", part.Title)
		for _, line := range part.Lines {
			for i, l := range wrap(line, 108) {
				mark := "- "
				if i > 0 {
					mark = "  "
				}
				_, _ = fmt.Fprintln(out, mark+l)
			}
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// wrap breaks text into lines of at most width runes where words allow it.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
