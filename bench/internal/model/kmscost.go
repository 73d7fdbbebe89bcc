package model

import (
	"math"
	"time"
)

// MonthUSD is what a KMS charges for a month of calls at a mean rate and for keys
// that are there all the time: max(0, calls - free)/10,000 * price + keys * key price.
// Source: the price lists named in package presets all have this form.
func (k KMS) MonthUSD(callsPerSecond, keys float64) float64 {
	calls := math.Max(0, callsPerSecond*Month.Seconds()-k.Free)
	return calls/10_000*k.Price + keys*k.KeyPrice
}

// CallsUSD is what a number of further calls costs.
func (k KMS) CallsUSD(calls float64) float64 { return calls / 10_000 * k.Price }

// BulkTime is how long n calls take from workers that call one after another, of
// which the KMS takes share of its quota at most: the longer of
// n * latency / workers and n / (quota * share). Source: Little's law.
func (k KMS) BulkTime(n float64, latency time.Duration, workers, share float64) time.Duration {
	if n <= 0 {
		return 0
	}
	seconds := math.Max(latency.Seconds(), n*latency.Seconds()/math.Max(1, workers))
	if k.Quota > 0 {
		seconds = math.Max(seconds, n/(k.Quota*share))
	}
	return toDuration(seconds)
}

// HeadRoom is how many times the calls a second fit the quota. It is infinite where there is none.
func (k KMS) HeadRoom(callsPerSecond float64) float64 {
	if k.Quota == 0 || callsPerSecond <= 0 {
		return math.Inf(1)
	}
	return k.Quota / callsPerSecond
}

// handles is how many KMS keys the epochs of a key store have in use: the present
// one, and those that backups within the window hang on. Source: envelope.EpochOptions:
// a handle is destroyed Window after the switch to the next.
func (s *Service) handles() float64 {
	n := 1 + math.Ceil(s.Window.Seconds()/s.Epoch.Seconds())
	if !s.KMS.FreeOnceOrdered {
		n += math.Ceil(s.KMS.Destroy.Seconds() / s.Epoch.Seconds())
	}
	return n
}

// toDuration is seconds, at most 290 years.
func toDuration(seconds float64) time.Duration {
	if seconds >= math.MaxInt64/1e9 {
		return math.MaxInt64
	}
	return time.Duration(seconds * 1e9)
}
