package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/lethe-go/lethe/bench/internal/model"
)

// Part is a paragraph of the advice.
type Part struct {
	Title string   `json:"title"`
	Lines []string `json:"lines"`
}

// Words is the advice in plain words: what to do, the figures that led to it, how
// often to rotate, and what would change it.
func (r *Report) Words() []Part {
	return []Part{{"Advice", r.verdict()}, {"Why", r.why()}, {"How often to rotate", r.often()}, {"What each rotation ends", r.ends()}, {"What would change it", r.change()}}
}

// inWords says what a granularity is.
func inWords(g model.Granularity) string {
	switch g {
	case model.PerRecord:
		return "Lethe's keys: a data key per record, under a key per person"
	case model.PerSubject:
		return "one data key per person"
	case model.PerTenant:
		return "one data key per tenant"
	case model.PerColumn:
		return "one data key per column"
	default:
		return "a data key per record, wrapped by a KMS call each"
	}
}

func (r *Report) verdict() []string {
	best := r.best()
	line := "Take " + inWords(best.Plan.Granularity) + "."
	if r.Advice.Fits {
		line += " It keeps to every limit given"
		if others := r.fitting(); len(others) > 0 {
			line += fmt.Sprintf("; so does: %s. Of those that fit, it is the one of whose leaked data key the fewest people and records suffer.", strings.Join(others, ", "))
		} else {
			line += ", and is the only one that does."
		}
	} else {
		line += " Nothing keeps to every limit given; this comes nearest."
	}
	lines := []string{line}
	if best.Rewrapped {
		lines = append(lines, "All its keys must be wrapped anew in every epoch, or backups never forget anybody.")
	}
	return append(lines, r.over()...)
}

// over lists the limits that are not kept, each with who does not.
func (r *Report) over() (lines []string) {
	var order []string
	who := map[string][]string{}
	for i := range r.Advice.Candidates {
		x := &r.Advice.Candidates[i]
		for _, ch := range x.Checks {
			if ch.OK {
				continue
			}
			what := check(ch)
			if who[what] == nil {
				order = append(order, what)
			}
			who[what] = append(who[what], x.Plan.Granularity.String())
		}
	}
	for _, what := range order {
		lines = append(lines, fmt.Sprintf("Over a limit: %s: %s.", strings.Join(who[what], "; "), what))
	}
	return lines
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// fitting lists the others that keep to every limit.
func (r *Report) fitting() (names []string) {
	for i := range r.Advice.Candidates {
		if x := &r.Advice.Candidates[i]; x.Failed == 0 && i != r.Advice.Best {
			name := x.Plan.Granularity.String()
			if x.Rewrapped {
				name += " with every key wrapped anew in every epoch"
			}
			names = append(names, fmt.Sprintf("%s (%s a month)", name, usd(x.USD)))
		}
	}
	return names
}

// check says what a limit is and what was found.
func check(c model.Check) string {
	duration := func(v float64) string { return span(time.Duration(v * float64(time.Second))) }
	switch c.Name {
	case model.CheckForgotten:
		if c.Got < 0 {
			return "a person is never out of every backup, and should be after " + duration(c.Most)
		}
		return fmt.Sprintf("a person is out of every backup after %s, and should be after %s", duration(c.Got), duration(c.Most))
	case model.CheckQuota:
		return fmt.Sprintf("%s of the KMS's quota at the peak, and %s may be used", percent(c.Got), percent(c.Most))
	case model.CheckStart:
		if c.Got < 0 {
			return "the KMS's quota leaves nothing for processes that start at the peak"
		}
		return fmt.Sprintf("processes that start together wait %s for the KMS, and %s is allowed", duration(c.Got), duration(c.Most))
	case model.CheckMemory:
		return fmt.Sprintf("%s of keys in a process's memory, and %s may be", size(c.Got), size(c.Most))
	case model.CheckOpen:
		return fmt.Sprintf("the 99th percentile of opening a record is %s, and %s is allowed", duration(c.Got), duration(c.Most))
	case model.CheckOverhead:
		return fmt.Sprintf("keys, nonces and tags take %s of the plaintext's size, and %s is allowed", percent(c.Got), percent(c.Most))
	}
	return fmt.Sprintf("%s a month, and %s is allowed", usd(c.Got), usd(c.Most))
}

func (r *Report) why() (lines []string) {
	best, s := r.best(), r.Service
	p := &best.Plan
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }

	switch {
	case best.Forgotten.Never:
		add("Forgetting: by keys alone never: %s.", best.Forgotten.How)
	case p.Granularity == model.PerRecord && best.Forgotten.After == s.Promise():
		add("Forgetting: a person is out of every backup after T = %s: E %s + C %s + W %s + P %s (with max(E, C) for E).", span(best.Forgotten.After), span(s.Epoch), span(s.CloseTime), span(s.Window), span(s.KMS.Destroy))
	default:
		add("Forgetting: a person is out of every backup after %s: %s.", span(best.Forgotten.After), best.Forgotten.How)
	}
	var opens []string
	for _, b := range p.Blast {
		opens = append(opens, fmt.Sprintf("a leaked %s opens %s of %s", b.Key, plural(b.Records, "record"), plural(b.People, "person")))
	}
	blast := capital(strings.Join(opens, "; "))
	if t := r.candidate(model.PerTenant); p.Granularity != model.PerTenant {
		blast += fmt.Sprintf(". With a key per tenant it would be %s of %s", plural(t.Plan.Blast[0].Records, "record"), plural(t.Plan.Blast[0].People, "person"))
	}
	add("%s.", blast)
	load := fmt.Sprintf("KMS: %s calls a second on average, %s at the peak, %s in the first second after all processes start", digits(p.KMSMean), digits(p.KMSPeak), digits(p.KMSCold))
	if p.HeadRoom >= 0 {
		load += fmt.Sprintf("; the quota is %s of that", times(p.HeadRoom))
	}
	load += fmt.Sprintf("; %s a month", usd(best.USD))
	if p.Granularity != model.PerRecordKMS {
		k := r.candidate(model.PerRecordKMS)
		load += fmt.Sprintf(". A KMS call per record would be %s calls a second at the peak and %s a month", digits(k.Plan.KMSPeak), usd(k.USD))
	}
	add("%s.", load)
	add("Time: opening a record takes %s (p50) and %s (p99); %s of the operations find their key in memory (%s of keys per process).", span(p.OpenAll.P50), span(p.OpenAll.P99), percent(p.Hits), size(p.KeyMemory))
	add("At rest: %s of keys in a table, %s in the records, %s of nonces and tags: %s of the plaintext's size.", size(p.KeyBytes), size(p.HeaderBytes), size(p.CellBytes), percent(p.Overhead))
	return lines
}

func plural(n float64, what string) string {
	many := map[string]string{"record": "records", "person": "people"}[what]
	if count(n) == "1" {
		return "1 " + what
	}
	return count(n) + " " + many
}

func (r *Report) often() (lines []string) {
	best, s := r.best(), r.Service
	p := &best.Plan
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if p.Granularity == model.PerRecord {
		r.oftenLethe(add)
	} else {
		kek := p.Rotation(model.RotateKEK)
		if best.Rewrapped {
			add("Every %s: wrap all keys under a new KMS key and destroy the old one: %s, %s calls, %s.", span(s.Epoch), span(kek.Time), count(kek.KMSCalls), usd(kek.USD))
		} else {
			add("The KMS key: every %s, your crypto-period: %s to wrap every data key anew, %s calls, %s.", span(s.CryptoPeriod), span(kek.Time), count(kek.KMSCalls), usd(kek.USD))
		}
		keys := p.Rotation(model.RotateSubjects)
		why := "your crypto-period"
		if r.Advice.KeyPeriod < s.CryptoPeriod {
			why = "half the time in which the busiest key seals 2^32 messages, " + span(p.GCM.Limit)
		}
		add("The data keys: a new version for new records every %s: %s. Old records can stay under the old versions; sealing all anew takes %s and writes %s, and is only for a leaked key.", span(r.Advice.KeyPeriod), why, span(keys.Time), size(keys.Written))
	}
	return lines
}

// ends says what each rotation is good for, and that the others are not.
func (r *Report) ends() (lines []string) {
	for _, rot := range r.best().Plan.Rotations {
		if rot.Possible {
			lines = append(lines, fmt.Sprintf("%s (%s): %s.", capital(choiceName(rot.Choice)), span(rot.Time), rot.Ends))
		} else {
			lines = append(lines, fmt.Sprintf("%s: none: %s.", capital(choiceName(rot.Choice)), rot.Ends))
		}
	}
	return lines
}

func (r *Report) oftenLethe(add func(string, ...any)) {
	s, p := r.Service, &r.best().Plan
	switch e := r.Advice.Epoch; {
	case !s.KMS.Erasable:
		add("Epochs: none: this KMS cannot destroy a part of itself, so backups of the key store keep whom you forget.")
	case e < 0:
		add("Epochs: no length meets the deadline of %s: the window of %s, twice the time of a close and the KMS's %s alone are too long. Shorten the window, or take a KMS that destroys sooner.", span(s.Limits.Deadline), span(s.Window), span(s.KMS.Destroy))
	default:
		c := r.Advice.Epochs[e]
		add("Close an epoch every %s: T is %s then. A close takes %s; %s of rows a day; %s a month for the KMS. It is the longest of %s that meets the deadline: longer ones need fewer KMS keys and writes.", span(c.Every), span(c.Promise), span(c.Took), size(c.Written), usd(c.USD), lengths())
		if c.Every != s.Epoch {
			add("Everything else here is for the epochs of %s that were given; T is %s with them.", span(s.Epoch), span(s.Promise()))
		}
	}
	keys := p.Rotation(model.RotateSubjects)
	add("Subject keys: every %s, your crypto-period (the busiest key is at %s of the 2^32 messages by then). One run, with every record wrapped anew, takes one worker %s and writes %s; it costs no KMS calls. At once where a process's memory may have leaked: %s people's keys are in it.", span(r.Advice.KeyPeriod), percent(p.GCM.AtPeriod), span(keys.Time), size(keys.Written), count(p.Dump))
	kek := p.Rotation(model.RotateKEK)
	add("The KMS key: every close draws a fresh root under a fresh handle, so it rotates with the epochs. By itself: %s and %s calls.", span(kek.Time), count(kek.KMSCalls))
	reseal := p.Rotation(model.Reseal)
	add("A full re-seal: only when the cipher suite changes or data keys leaked: %s with one worker, %s written.", span(reseal.Time), size(reseal.Written))
}

func lengths() string {
	var names []string
	for _, e := range model.EpochLengths {
		names = append(names, span(e))
	}
	return strings.Join(names, ", ")
}

func (r *Report) change() (lines []string) {
	for _, c := range r.Advice.Changes {
		value := func(v float64) string {
			switch {
			case strings.HasSuffix(c.Input, "(s)"):
				return span(time.Duration(v * float64(time.Second)))
			case c.Input == model.OverheadKnob:
				return percent(v)
			}
			return digits(v)
		}
		verb := "up to"
		if c.To < c.From {
			verb = "down to"
		}
		then := inWords(c.Advice)
		switch {
		case !c.Fits && c.Advice == r.best().Plan.Granularity:
			then = "the same, and it no longer keeps to every limit"
		case c.Advice == r.best().Plan.Granularity:
			then = "the same, and it keeps to every limit"
		case !c.Fits:
			then += ", though nothing keeps to every limit then"
		}
		lines = append(lines, fmt.Sprintf("%s %s about %s (now %s): %s.", capital(strings.TrimSuffix(c.Input, " (s)")), verb, value(c.To), value(c.From), then))
	}
	if len(lines) == 0 {
		lines = []string{fmt.Sprintf("No single input, between %s times less and %s times more, changes the granularity.", digits(model.Turned), digits(model.Turned))}
	}
	return lines
}
