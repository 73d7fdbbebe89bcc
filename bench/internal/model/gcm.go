package model

import (
	"math"
	"time"
)

// GCMLimit is how many messages one AES-GCM key may seal with random 96-bit
// nonces. Source: NIST SP 800-38D (2007), section 8.3.
const GCMLimit = 1 << 32

// Margin is how near a key comes to GCMLimit.
type Margin struct {
	Key      string        `json:"key"`      // which key is meant: the one that seals most
	PerYear  float64       `json:"per_year"` // messages it seals
	Limit    time.Duration `json:"limit"`    // until it has sealed GCMLimit
	AtPeriod float64       `json:"at_period"`
}

// margin computes how near to the limit a key comes that seals perSecond messages
// for a crypto-period.
func margin(key string, perSecond float64, period time.Duration) Margin {
	m := Margin{Key: key, PerYear: perSecond * Year.Seconds(), Limit: math.MaxInt64}
	if perSecond > 0 {
		m.Limit = toDuration(GCMLimit / perSecond)
	}
	m.AtPeriod = perSecond * period.Seconds() / GCMLimit
	return m
}
