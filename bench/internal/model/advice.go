package model

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Check is one limit, and whether a plan keeps to it.
type Check struct {
	Name string  `json:"name"`
	OK   bool    `json:"ok"`
	Got  float64 `json:"got"` // seconds, calls a second, bytes, USD or a ratio, as Name says
	Most float64 `json:"most"`
}

// The names of checks.
const (
	CheckForgotten = "forgotten (s)"
	CheckQuota     = "share of the KMS's quota"
	CheckStart     = "start of all processes (s)"
	CheckMemory    = "memory for keys (bytes)"
	CheckOpen      = "open p99 (s)"
	CheckOverhead  = "bytes at rest over plaintext"
	CheckCost      = "USD a month"
)

// Candidate is a plan, judged.
type Candidate struct {
	Plan      Plan      `json:"plan"`
	Checks    []Check   `json:"checks"`
	Failed    int       `json:"failed"`
	USD       float64   `json:"usd"`       // a month; with what Rewrapped costs, if it is needed
	Forgotten Forgotten `json:"forgotten"` // likewise
	Rewrapped bool      `json:"rewrapped"` // all keys must be wrapped anew in every epoch to meet the deadline
}

// Advice is what a service should do.
type Advice struct {
	Candidates []Candidate `json:"candidates"` // in the order of Granularities
	Best       int         `json:"best"`       // index of the one to take
	Fits       bool        `json:"fits"`       // it keeps to every limit

	Epochs []EpochChoice `json:"epochs"`
	Epoch  int           `json:"epoch"` // index of the length to take; -1: none meets the deadline

	// KeyPeriod is how long a key that seals may be used: the crypto-period, or half
	// the time in which the hottest reaches GCMLimit, if that is shorter.
	KeyPeriod time.Duration `json:"key_period"`
	Changes   []Change      `json:"changes"`
}

// EpochChoice is an epoch length and what follows.
type EpochChoice struct {
	Every   time.Duration `json:"every"`
	Promise time.Duration `json:"promise"` // T
	Took    time.Duration `json:"took"`    // a close
	Written float64       `json:"written"` // bytes a day
	USD     float64       `json:"usd"`     // a month, for KMS keys and calls
	OK      bool          `json:"ok"`      // T is within the deadline, and a close within CloseTime
}

// EpochLengths are the lengths that are tried.
var EpochLengths = []time.Duration{time.Hour, 6 * time.Hour, day, 7 * day, 30 * day}

// Advise judges every granularity, takes the best, and finds what would change that.
func Advise(s *Service, c *Costs) Advice {
	a := choose(s, c)
	a.Epochs, a.Epoch = epochs(s, c)
	best := &a.Candidates[a.Best].Plan
	a.KeyPeriod = min(s.CryptoPeriod, best.GCM.Limit/2)
	a.Changes = changes(s, c, best.Granularity, a.Fits)
	return a
}

// choose judges the granularities. Of those that keep to every limit it takes the
// one of whose leaked data key the fewest people suffer, then the fewest records,
// then the cheapest, then the smallest. Where none keeps to all, the one that fails the
// fewest; forgetting late counts more than all others together, since that cannot be
// bought later, and never more than late.
func choose(s *Service, c *Costs) Advice {
	var a Advice
	for _, p := range Plans(s, c) {
		a.Candidates = append(a.Candidates, judge(s, p))
	}
	weight := func(x *Candidate) (failed int) {
		for _, ch := range x.Checks {
			switch {
			case ch.OK:
			case ch.Name == CheckForgotten && x.Forgotten.Never:
				failed += 2 * len(x.Checks)
			case ch.Name == CheckForgotten:
				failed += len(x.Checks)
			default:
				failed++
			}
		}
		return failed
	}
	order := func(x, y *Candidate) int {
		bx, by := x.Plan.Blast[0], y.Plan.Blast[0]
		return cmp.Or(cmp.Compare(weight(x), weight(y)), cmp.Compare(bx.People, by.People), cmp.Compare(bx.Records, by.Records), cmp.Compare(x.USD, y.USD), cmp.Compare(x.Plan.Overhead, y.Plan.Overhead))
	}
	for i := range a.Candidates {
		if order(&a.Candidates[i], &a.Candidates[a.Best]) < 0 {
			a.Best = i
		}
	}
	a.Fits = a.Candidates[a.Best].Failed == 0
	return a
}

// judge checks a plan against the limits.
func judge(s *Service, p Plan) Candidate {
	l := s.Limits
	x := Candidate{Plan: p, USD: p.USD, Forgotten: p.Forgotten}
	late := func(f Forgotten) bool { return l.Deadline > 0 && (f.Never || f.After > l.Deadline) }
	if late(x.Forgotten) {
		if after, usd, ok := s.Rewrapped(&p); ok && after <= l.Deadline {
			x.Rewrapped = true
			x.USD += usd
			x.Forgotten = Forgotten{After: after, How: "every key is wrapped anew in every epoch"}
		}
	}
	add := func(name string, got, most float64, ok bool) {
		x.Checks = append(x.Checks, Check{Name: name, OK: ok, Got: got, Most: most})
		if !ok {
			x.Failed++
		}
	}
	if l.Deadline > 0 {
		got := x.Forgotten.After.Seconds()
		if x.Forgotten.Never {
			got = -1
		}
		add(CheckForgotten, got, l.Deadline.Seconds(), !late(x.Forgotten))
	}
	if s.KMS.Quota > 0 {
		got := p.KMSPeak / s.KMS.Quota
		add(CheckQuota, got, l.QuotaShare, got <= l.QuotaShare)
		if start, ok := s.start(&p); l.Start > 0 {
			add(CheckStart, start.Seconds(), l.Start.Seconds(), ok && start <= l.Start)
		}
	}
	atMost := func(name string, got, most float64) {
		if most > 0 {
			add(name, got, most, got <= most)
		}
	}
	atMost(CheckMemory, p.KeyMemory, l.KeyMemory)
	atMost(CheckOpen, p.OpenAll.P99.Seconds(), l.OpenP99.Seconds())
	atMost(CheckOverhead, p.Overhead, l.Overhead)
	atMost(CheckCost, x.USD, l.Cost)
	return x
}

// start is how long processes that start together, at the peak, ask the KMS for keys:
// the calls that fill their caches, at what the quota's share leaves beside the peak.
// ok is false where it leaves nothing. Source: conservation of flow.
func (s *Service) start(p *Plan) (took time.Duration, ok bool) {
	left := s.KMS.Quota*s.Limits.QuotaShare - p.KMSPeak
	if left <= 0 {
		return -1, false
	}
	return toDuration(p.KMSWarm / left), true
}

// epochs computes what each length of an epoch costs, and takes the longest that
// meets the deadline: a longer one needs fewer closes and fewer KMS keys. Without a
// deadline it takes the longest whose T is the library's limit for one that nobody
// confirmed, 30 days, and the shortest if there is none.
func epochs(s *Service, c *Costs) (out []EpochChoice, best int) {
	best = -1
	deadline := s.Limits.Deadline
	if deadline == 0 {
		deadline = 30 * day
	}
	for i, every := range EpochLengths {
		v := *s
		v.Epoch = every
		took, written := v.close(c, v.forgetsPerEpoch())
		e := EpochChoice{
			Every: every, Promise: v.Promise(), Took: took, Written: written * day.Seconds() / every.Seconds(),
			USD: v.KMS.MonthUSD(float64(c.KMSCallsClose)/every.Seconds(), v.handles()),
		}
		e.OK = s.KMS.Erasable && e.Promise <= deadline && took <= min(s.CloseTime, every)
		if e.OK {
			best = i
		}
		out = append(out, e)
	}
	return out, best
}

// LongestEpoch is the longest of EpochLengths that meets the deadline, or a day if none does.
func LongestEpoch(s *Service, c *Costs) time.Duration {
	all, best := epochs(s, c)
	if best < 0 {
		return day
	}
	return all[best].Every
}

// Change is a change of one input that makes another granularity the best, or the
// best one keep to every limit, or to none.
type Change struct {
	Input  string      `json:"input"`
	From   float64     `json:"from"`
	To     float64     `json:"to"` // where the advice has changed
	Advice Granularity `json:"advice"`
	Fits   bool        `json:"fits"`
}

// knob is an input that can be turned.
type knob struct {
	name string
	get  func(*Service) float64
	set  func(*Service, float64)
}

func seconds(d *time.Duration) func(float64) { return func(v float64) { *d = toDuration(v) } }

// OverheadKnob is the Input of a Change of Limits.Overhead.
const OverheadKnob = "limit of bytes at rest over plaintext"

// knobs are the inputs that are turned one by one. Records and subjects grow
// together with what depends on them.
var knobs = []knob{
	{"records and subjects", func(s *Service) float64 { return s.Subjects }, func(s *Service, v float64) {
		f := v / s.Subjects
		s.Subjects, s.Records, s.NewRecords, s.NewSubjects = v, s.Records*f, s.NewRecords*f, s.NewSubjects*f
	}},
	{"reads and writes a second", func(s *Service) float64 { return s.rate(1) }, func(s *Service, v float64) {
		f := v / s.rate(1)
		s.Reads, s.Writes = s.Reads*f, s.Writes*f
	}},
	{"cache TTL (s)", func(s *Service) float64 { return s.Cache.TTL.Seconds() }, func(s *Service, v float64) { seconds(&s.Cache.TTL)(v) }},
	{"deadline to forget (s)", func(s *Service) float64 { return s.Limits.Deadline.Seconds() }, func(s *Service, v float64) { seconds(&s.Limits.Deadline)(v) }},
	{"recovery window (s)", func(s *Service) float64 { return s.Window.Seconds() }, func(s *Service, v float64) { seconds(&s.Window)(v) }},
	{"retention (s)", func(s *Service) float64 { return s.Retention.Seconds() }, func(s *Service, v float64) { seconds(&s.Retention)(v) }},
	{OverheadKnob, func(s *Service) float64 { return s.Limits.Overhead }, func(s *Service, v float64) { s.Limits.Overhead = v }},
	{"limit of open p99 (s)", func(s *Service) float64 { return s.Limits.OpenP99.Seconds() }, func(s *Service, v float64) { seconds(&s.Limits.OpenP99)(v) }},
	{"limit of USD a month", func(s *Service) float64 { return s.Limits.Cost }, func(s *Service, v float64) { s.Limits.Cost = v }},
	{"KMS quota (calls a second)", func(s *Service) float64 { return s.KMS.Quota }, func(s *Service, v float64) { s.KMS.Quota = v }},
	{"KMS destruction delay (s)", func(s *Service) float64 { return s.KMS.Destroy.Seconds() }, func(s *Service, v float64) { seconds(&s.KMS.Destroy)(v) }},
}

// Turned is as far as a knob is turned: to this many times its value, and to one part in as many.
const Turned = 256

// changes turns every input up and down by factors of 2 until the advice, or whether it keeps to every limit, is
// another, then narrows the turning point down to 5 %. An input that is 0, no
// limit, is not turned.
func changes(s *Service, c *Costs, best Granularity, fits bool) (out []Change) {
	for _, k := range knobs {
		from := k.get(s)
		if from <= 0 {
			continue
		}
		for _, step := range []float64{2, 0.5} {
			ask := func(v float64) (Granularity, bool, bool) {
				w := *s
				k.set(&w, v)
				if w.EpochAuto {
					w.Epoch = LongestEpoch(&w, c)
				}
				if w.Validate() != nil {
					return "", false, false
				}
				a := choose(&w, c)
				return a.Candidates[a.Best].Plan.Granularity, a.Fits, true
			}
			same := from
			for v := from * step; v <= from*Turned && v >= from/Turned; v *= step {
				g, f, ok := ask(v)
				if !ok {
					break
				}
				if g == best && f == fits {
					same = v
					continue
				}
				other := v
				for other/same > 1.05 || same/other > 1.05 {
					mid := math.Sqrt(other * same)
					if gm, fm, _ := ask(mid); gm == best && fm == fits {
						same = mid
					} else {
						other, g, f = mid, gm, fm
					}
				}
				out = append(out, Change{Input: k.name, From: from, To: other, Advice: g, Fits: f})
				break
			}
		}
	}
	slices.SortStableFunc(out, func(x, y Change) int {
		return cmp.Compare(math.Abs(math.Log(x.To/x.From)), math.Abs(math.Log(y.To/y.From)))
	})
	return out
}

// String names the granularity for people.
func (g Granularity) String() string {
	switch g {
	case PerRecord:
		return "per record, under subject keys (Lethe)"
	case PerSubject:
		return "per subject"
	case PerTenant:
		return "per tenant"
	case PerColumn:
		return "per column"
	case PerRecordKMS:
		return "a KMS call per record"
	}
	return fmt.Sprintf("granularity %q", string(g))
}
