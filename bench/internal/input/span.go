package input

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Span is a time.Duration that may be written in days: 30d, 1d12h, 5m.
type Span time.Duration

// UnmarshalText reads days, then what time.ParseDuration reads.
func (s *Span) UnmarshalText(text []byte) error {
	days, rest, ok := strings.Cut(string(text), "d")
	var total time.Duration
	if ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || n < 0 || n > 36500 {
			return fmt.Errorf("%q is no number of days: write 30d, 12h, 5m or 1d12h", text)
		}
		total = time.Duration(n * 24 * float64(time.Hour))
	} else {
		rest = string(text)
	}
	if rest != "" || !ok {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 {
			return fmt.Errorf("%q is no time: write 30d, 12h, 5m or 1d12h", text)
		}
		total += d
	}
	*s = Span(total)
	return nil
}
