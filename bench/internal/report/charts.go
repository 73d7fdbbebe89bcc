package report

import (
	"math"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"github.com/lethe-go/lethe/bench/internal/model"
)

// charts draws what the tables have.
func (r *Report) charts() (out []chart, err error) {
	draws := []func() (chart, error){r.chartKMS, r.chartBlast, r.chartForgotten, r.chartOpen, r.chartStates, r.chartRotation, r.chartRest, r.chartHits, r.chartEpochs}
	if r.Service.KMS.Price > 0 || r.Service.KMS.KeyPrice > 0 {
		draws = slices.Insert(draws, 2, r.chartMoney)
	}
	for _, draw := range draws {
		c, err := draw()
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// whole writes whole numbers only.
func whole(v float64) string {
	if v < 1 {
		return ""
	}
	return count(v)
}

// each makes a row of every granularity.
func (r *Report) each(bars func(*model.Candidate) []bar) (rows []barRow) {
	for i := range r.Advice.Candidates {
		x := &r.Advice.Candidates[i]
		rows = append(rows, barRow{short(x.Plan.Granularity), bars(x)})
	}
	return rows
}

func inSeconds(d time.Duration) float64 { return d.Seconds() }

func spanTick(v float64) string {
	if v >= 365*86400 {
		return digits(v/(365*86400)) + " y"
	}
	return span(time.Duration(math.Round(v * 1e9)))
}

func (r *Report) bars(c chart, label string, rows []barRow, ticks plot.Ticker, mark float64) (chart, error) {
	var err error
	c.SVG, err = barChart(c.Title, label, rows, ticks, mark)
	return c, err
}

func (r *Report) chartKMS() (chart, error) {
	rows := r.each(func(x *model.Candidate) []bar {
		p := &x.Plan
		return []bar{{p.KMSMean, digits(p.KMSMean)}, {p.KMSPeak, digits(p.KMSPeak)}, {p.KMSCold, digits(p.KMSCold)}}
	})
	c := chart{Title: "Calls to the KMS a second", Legend: []string{"mean", "peak", "first second after a start of all processes"}}
	limit := r.Service.KMS.Quota * r.Service.Limits.QuotaShare
	if limit > 0 {
		c.Mark = "share of the quota you allow: " + digits(limit)
	}
	return r.bars(c, "calls a second", rows, decades(digits), limit)
}

func (r *Report) chartBlast() (chart, error) {
	rows := r.each(func(x *model.Candidate) []bar {
		b := x.Plan.Blast[0]
		return []bar{{b.People, count(b.People)}, {b.Records, count(b.Records)}}
	})
	return r.bars(chart{Title: "What one leaked data key opens", Legend: []string{"people", "records"}}, "", rows, decades(whole), 0)
}

func (r *Report) chartMoney() (chart, error) {
	rows := r.each(func(x *model.Candidate) []bar { return []bar{{x.Plan.USD, usd(x.Plan.USD)}} })
	c := chart{Title: "The KMS's bill, USD a month"}
	if r.Service.Limits.Cost > 0 {
		c.Mark = "your limit: " + usd(r.Service.Limits.Cost)
	}
	return r.bars(c, "USD a month", rows, decades(func(v float64) string { return "$" + digits(v) }), r.Service.Limits.Cost)
}

func (r *Report) chartForgotten() (chart, error) {
	rows := r.each(func(x *model.Candidate) []bar {
		f := x.Plan.Forgotten
		if f.Never {
			return []bar{{0, "never"}}
		}
		return []bar{{f.After.Seconds() / 86400, span(f.After)}}
	})
	c := chart{Title: "Until a forgotten person is out of every backup"}
	if r.Service.Limits.Deadline > 0 {
		c.Mark = "your deadline: " + span(r.Service.Limits.Deadline)
	}
	return r.bars(c, "days", rows, decades(digits), r.Service.Limits.Deadline.Hours()/24)
}

func (r *Report) chartOpen() (chart, error) {
	rows := r.each(func(x *model.Candidate) []bar {
		d := x.Plan.OpenAll
		return []bar{{inSeconds(d.P50), span(d.P50)}, {inSeconds(d.P99), span(d.P99)}}
	})
	c := chart{Title: "Opening a record, all operations", Legend: []string{"p50", "p99"}}
	if r.Service.Limits.OpenP99 > 0 {
		c.Mark = "your limit for p99: " + span(r.Service.Limits.OpenP99)
	}
	return r.bars(c, "", rows, spans{}, r.Service.Limits.OpenP99.Seconds())
}

func (r *Report) chartStates() (chart, error) {
	p := &r.candidate(model.PerRecord).Plan
	var rows []barRow
	for _, s := range model.States {
		rows = append(rows, barRow{string(s), []bar{
			{inSeconds(p.Open[s].P50), "open " + span(p.Open[s].P50)}, {inSeconds(p.Open[s].P99), "open " + span(p.Open[s].P99)},
			{inSeconds(p.Seal[s].P50), "seal " + span(p.Seal[s].P50)}, {inSeconds(p.Seal[s].P99), "seal " + span(p.Seal[s].P99)},
		}})
	}
	return r.bars(chart{Title: "Lethe, by what is in memory", Legend: []string{"open p50", "open p99", "seal p50", "seal p99"}}, "", rows, spans{}, 0)
}

func (r *Report) chartRotation() (chart, error) {
	rows := r.each(func(x *model.Candidate) (bars []bar) {
		for _, choice := range model.Choices {
			rot := x.Plan.Rotation(choice)
			if !rot.Possible {
				bars = append(bars, bar{0, "–"})
				continue
			}
			bars = append(bars, bar{inSeconds(rot.Time), span(rot.Time)})
		}
		return bars
	})
	var names []string
	for _, choice := range model.Choices {
		names = append(names, choiceName(choice))
	}
	return r.bars(chart{Title: "How long one rotation takes", Legend: names, Note: "–: there is no such rotation."}, "", rows, spans{}, 0)
}

func (r *Report) chartRest() (chart, error) {
	rows := r.each(func(x *model.Candidate) []bar {
		p := &x.Plan
		return []bar{{p.KeyBytes, size(p.KeyBytes)}, {p.HeaderBytes, size(p.HeaderBytes)}, {p.CellBytes, size(p.CellBytes)}}
	})
	return r.bars(chart{Title: "At rest, beside " + size(r.Service.Records*r.Service.RecordBytes) + " of plaintext", Legend: []string{"table of keys", "keys in records", "nonces and tags"}}, "", rows, decades(size), 0)
}

func (r *Report) chartHits() (chart, error) {
	s := r.Service
	points := func(n float64) (out plotter.XYs) {
		for e := 0.0; e <= 4.95; e += 0.11 {
			ttl := math.Pow(10, e)
			cache := model.Cache{TTL: time.Duration(ttl * 1e9), Size: s.Cache.Size}
			out = append(out, plotter.XY{X: ttl, Y: cache.Use(s.Access, n, (s.Reads+s.Writes)/s.Processes).Hits})
		}
		return out
	}
	c := chart{Title: "Key in memory when it is needed, by cache TTL", Legend: []string{"key per person", "key per tenant"}, Mark: "your TTL: " + span(s.Cache.TTL), Note: "A longer TTL also is how long a person forgotten elsewhere still opens."}
	var err error
	c.SVG, err = lineChart(c.Title, "cache TTL", "", []curve{{"", points(s.Subjects)}, {"", points(s.Tenants)}}, spans{}, percent, 0, 1, s.Cache.TTL.Seconds())
	return c, err
}

func (r *Report) chartEpochs() (chart, error) {
	s := r.Service
	var t plotter.XYs
	most := s.Limits.Deadline.Hours() / 24
	for e := 3.56; e <= 6.45; e += 0.05 {
		v := *s
		v.Epoch = time.Duration(math.Pow(10, e) * 1e9)
		days := v.Promise().Hours() / 24
		most = math.Max(most, days)
		t = append(t, plotter.XY{X: v.Epoch.Seconds(), Y: days})
	}
	curves := []curve{{"", t}}
	c := chart{Title: "Lethe: T in days, by the length of an epoch", Legend: []string{"T"}, Mark: "the tables' epoch: " + span(s.Epoch)}
	if d := s.Limits.Deadline; d > 0 {
		days := d.Hours() / 24
		curves = append(curves, curve{"", plotter.XYs{{X: t[0].X, Y: days}, {X: t[len(t)-1].X, Y: days}}})
		c.Legend = append(c.Legend, "your deadline")
	}
	var err error
	c.SVG, err = lineChart(c.Title, "an epoch", "", curves, spans{}, digits, 0, most*1.1, s.Epoch.Seconds())
	return c, err
}
