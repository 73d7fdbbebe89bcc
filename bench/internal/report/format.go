package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/lethe-go/lethe/bench/internal/model"
)

// span writes a duration in two units at most.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "never"
	case d == 0:
		return "0"
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d)
	case d < time.Millisecond:
		return digits(float64(d)/1e3) + " µs"
	case d < time.Second:
		return digits(float64(d)/1e6) + " ms"
	case d < time.Minute:
		return digits(d.Seconds()) + " s"
	case d < time.Hour:
		return two(d, time.Minute, "min", time.Second, "s")
	case d < day:
		return two(d, time.Hour, "h", time.Minute, "min")
	case d < 2*model.Year:
		return two(d, day, "d", time.Hour, "h")
	case d > 200*model.Year:
		return "over 200 years"
	}
	return digits(d.Hours()/model.Year.Hours()) + " years"
}

func two(d, big time.Duration, bigName string, small time.Duration, smallName string) string {
	d = d.Round(small)
	n, rest := d/big, (d%big)/small
	if rest == 0 || n >= 20 {
		return fmt.Sprintf("%d %s", int64(math.Round(float64(d)/float64(big))), bigName)
	}
	return fmt.Sprintf("%d %s %d %s", n, bigName, rest, smallName)
}

// digits writes a number with three significant digits, without an exponent.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a == 0:
		return "0"
	case a < 0.001:
		return strconv.FormatFloat(v, 'g', 2, 64)
	case a < 1:
		return trim(strconv.FormatFloat(v, 'f', 4, 64))
	case a < 9.995:
		return trim(strconv.FormatFloat(v, 'f', 2, 64))
	case a < 99.95:
		return trim(strconv.FormatFloat(v, 'f', 1, 64))
	}
	return count(v)
}

func trim(s string) string {
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// count writes a whole number with commas, or with a word from a billion on.
func count(v float64) string {
	switch {
	case v >= 1e15:
		return strconv.FormatFloat(v, 'g', 3, 64)
	case v >= 1e12:
		return trim(strconv.FormatFloat(v/1e12, 'f', 2, 64)) + " trillion"
	case v >= 1e9:
		return trim(strconv.FormatFloat(v/1e9, 'f', 2, 64)) + " billion"
	}
	s := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size writes bytes in powers of 1,000.
func size(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e15, "PB"}, {1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if v >= u.size {
			return digits(v/u.size) + " " + u.name
		}
	}
	return digits(v) + " B"
}

func usd(v float64) string {
	switch {
	case v == 0:
		return "$0"
	case v < 0.01:
		return "under $0.01"
	case v < 1000:
		return fmt.Sprintf("$%.2f", v)
	}
	return "$" + count(v)
}

func percent(v float64) string {
	switch {
	case v > 0 && v < 0.0001:
		return "under 0.01 %"
	case v >= 10:
		return count(100*v) + " %"
	}
	return digits(math.Round(v*10000)/100) + " %"
}

// times writes how many times something fits.
func times(v float64) string {
	if v < 0 {
		return "no quota"
	}
	return digits(v) + "×"
}

func dist(d model.Dist) string { return span(d.P50) + " / " + span(d.P99) }

func forgotten(f model.Forgotten) string {
	if f.Never {
		return "never"
	}
	return span(f.After)
}

// short names a granularity in the head of a column or beside a bar.
func short(g model.Granularity) string {
	switch g {
	case model.PerRecord:
		return "Lethe"
	case model.PerSubject:
		return "subject"
	case model.PerTenant:
		return "tenant"
	case model.PerColumn:
		return "column"
	default:
		return "KMS/record"
	}
}

func choiceName(c model.Choice) string {
	switch c {
	case model.RotateKEK:
		return "KEK only"
	case model.RotateSubjects:
		return "keys, with rewrap"
	case model.Reseal:
		return "full re-seal"
	default:
		return "epoch close"
	}
}
