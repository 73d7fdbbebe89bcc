package measure

import (
	"slices"
	"time"

	"github.com/lethe-go/lethe/bench/internal/model"
)

// samples are how long each of many calls took.
type samples []time.Duration

func (s *samples) since(start time.Time) { *s = append(*s, time.Since(start)) }

// dist is the percentiles. That of fewer than 100 samples is their largest.
func (s *samples) dist() model.Dist {
	if len(*s) == 0 {
		return model.Dist{}
	}
	slices.Sort(*s)
	n := len(*s)
	return model.Dist{P50: (*s)[n/2], P99: (*s)[min(n-1, n*99/100)], Count: n}
}

// mean of what took total.
func mean(total time.Duration, n int) time.Duration {
	if n == 0 {
		return 0
	}
	return total / time.Duration(n)
}
