package model

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Service is what is planned for. Counts and rates are those at the time that is
// planned for, growth included.
type Service struct {
	Name         string        `json:"name"`
	Records      float64       `json:"records"`
	Subjects     float64       `json:"subjects"`
	Tenants      float64       `json:"tenants"`
	Fields       float64       `json:"fields"`       // sealed, per record
	RecordBytes  float64       `json:"record_bytes"` // plaintext of those
	NewRecords   float64       `json:"new_records"`  // a year
	NewSubjects  float64       `json:"new_subjects"` // a year
	Reads        float64       `json:"reads"`        // of records a second, mean
	Writes       float64       `json:"writes"`       // of records a second, mean
	Peak         float64       `json:"peak"`         // peak rate over mean rate
	Processes    float64       `json:"processes"`
	Cache        Cache         `json:"cache"`
	Access       Access        `json:"access"`
	Forgets      float64       `json:"forgets"`       // people a day
	Workers      float64       `json:"workers"`       // that call the KMS at the same time in a rotation
	Epoch        time.Duration `json:"epoch"`         // E
	EpochAuto    bool          `json:"epoch_auto"`    // E is LongestEpoch, also where another input changes
	CloseTime    time.Duration `json:"close_time"`    // C
	Window       time.Duration `json:"window"`        // W
	ReplicaLag   time.Duration `json:"replica_lag"`   // of the key store
	Retention    time.Duration `json:"retention"`     // until records and their backups are deleted anyway; 0: never
	CryptoPeriod time.Duration `json:"crypto_period"` // how long a key may seal
	KMS          KMS           `json:"kms"`
	Limits       Limits        `json:"limits"`
}

// KMS is what a key management service costs.
type KMS struct {
	Name            string        `json:"name"`
	Encrypt         Dist          `json:"encrypt"`
	Decrypt         Dist          `json:"decrypt"`
	Quota           float64       `json:"quota"`             // calls a second; 0: none
	Price           float64       `json:"price"`             // USD per 10,000 calls
	Free            float64       `json:"free"`              // calls a month that cost nothing
	KeyPrice        float64       `json:"key_price"`         // USD a month for each key or version that can be used
	Destroy         time.Duration `json:"destroy"`           // P: from the order until a key is gone
	Erasable        bool          `json:"erasable"`          // it can destroy a part of itself, so that an epoch can end
	FreeOnceOrdered bool          `json:"free_once_ordered"` // a key whose destruction is ordered costs nothing
}

// Limits are what a plan must keep to. Zero means no limit, but for Deadline.
type Limits struct {
	Deadline   time.Duration `json:"deadline"`    // a person must be forgotten everywhere within; 0: nobody asks for it
	QuotaShare float64       `json:"quota_share"` // of the KMS's quota
	Start      time.Duration `json:"start"`       // how long the KMS may be asked for keys when all processes start
	KeyMemory  float64       `json:"key_memory"`  // bytes of keys per process
	OpenP99    time.Duration `json:"open_p99"`
	Overhead   float64       `json:"overhead"` // bytes at rest for keys and tags, over bytes of plaintext
	Cost       float64       `json:"cost"`     // USD a month
}

// Year and Month are what rates are converted with: 365 days, and a twelfth.
const (
	day   = 24 * time.Hour
	Year  = 365 * day
	Month = Year / 12
)

// Validate says what is wrong with s, all at once.
func (s *Service) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	atLeast := func(name string, v, least float64) {
		check(v >= least && !math.IsInf(v, 0), "%s is %v, and must be %v at least", name, v, least)
	}
	atLeast("records", s.Records, 1)
	atLeast("subjects", s.Subjects, 1)
	atLeast("tenants", s.Tenants, 1)
	atLeast("fields", s.Fields, 1)
	atLeast("record-bytes", s.RecordBytes, 1)
	atLeast("reads", s.Reads, 0)
	atLeast("writes", s.Writes, 0)
	check(s.Reads+s.Writes > 0, "reads and writes are both 0: there is nothing to plan for")
	atLeast("peak", s.Peak, 1)
	atLeast("processes", s.Processes, 1)
	atLeast("cache-size", s.Cache.Size, 1)
	atLeast("zipf", s.Access.Exponent, 0)
	atLeast("forgets", s.Forgets, 0)
	atLeast("workers", s.Workers, 1)
	check(s.Subjects <= s.Records, "there are more subjects (%v) than records (%v)", s.Subjects, s.Records)
	check(s.Tenants <= s.Subjects, "there are more tenants (%v) than subjects (%v)", s.Tenants, s.Subjects)
	check(s.Access.Exponent <= 3, "zipf is %v, and must be 3 at most", s.Access.Exponent)
	within := func(name string, d, least, most time.Duration) {
		check(d >= least && d <= most, "%s is %v, and must be from %v to %v", name, d, least, most)
	}
	// As envelope.Options has them.
	within("cache-ttl", s.Cache.TTL, time.Second, day)
	within("epoch", s.Epoch, time.Minute, 90*day)
	within("close-time", s.CloseTime, time.Second, 7*day)
	within("window", s.Window, 0, 90*day)
	within("replica-lag", s.ReplicaLag, 0, 7*day)
	check(s.Retention >= 0, "retention is negative")
	check(s.CryptoPeriod > 0, "crypto-period must be above 0")
	check(s.Limits.Deadline >= 0, "deadline is negative")
	check(s.Limits.QuotaShare > 0 && s.Limits.QuotaShare <= 1, "quota-share is %v, and must be above 0 and 1 at most", s.Limits.QuotaShare)
	check(s.KMS.Encrypt.P50 > 0 && s.KMS.Decrypt.P50 > 0, "the KMS's latency is missing")
	return errors.Join(errs...)
}

// Promise is T, the time after which no backup opens what was forgotten:
// max(cache TTL + replica lag, max(E, C) + C + W + P). Source: Promise.Backups of
// package envelope, which computes the same from a keyring's options.
func (s *Service) Promise() time.Duration {
	return max(s.Everywhere(), max(s.Epoch, s.CloseTime)+s.CloseTime+s.Window+s.KMS.Destroy)
}

// Everywhere is the time until every process refuses a person forgotten by one:
// the cache's TTL and the replica's lag. Source: Promise.Everywhere of package envelope.
func (s *Service) Everywhere() time.Duration { return s.Cache.TTL + s.ReplicaLag }

// operations a second at mean times factor.
func (s *Service) rate(factor float64) float64 { return (s.Reads + s.Writes) * factor }

// plainBytes is the plaintext of all records.
func (s *Service) plainBytes() float64 { return s.Records * s.RecordBytes }
