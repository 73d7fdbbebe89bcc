package model

import "time"

// Choice is what a rotation renews.
type Choice string

// The choices.
const (
	RotateKEK      Choice = "kek"    // what the KMS holds, and what it wraps
	RotateSubjects Choice = "keys"   // Lethe: subject keys, with data keys wrapped anew; else: data keys
	Reseal         Choice = "reseal" // every cell under a fresh data key
	CloseEpoch     Choice = "epoch"  // makes what was deleted since the last unreachable from backups
)

// Choices are all of them, in the order of the tables.
var Choices = []Choice{RotateKEK, RotateSubjects, Reseal, CloseEpoch}

// Rotation is what one run of a choice costs.
type Rotation struct {
	Choice   Choice        `json:"choice"`
	Possible bool          `json:"possible"`
	Time     time.Duration `json:"time"`    // one worker on the database, Service.Workers calling the KMS
	Written  float64       `json:"written"` // bytes of rows, without the database's log
	KMSCalls float64       `json:"kms_calls"`
	USD      float64       `json:"usd"` // of the calls
	Ends     string        `json:"ends"`
}

// Rotation returns a granularity's rotation of a choice.
func (p *Plan) Rotation(c Choice) Rotation {
	for _, r := range p.Rotations {
		if r.Choice == c {
			return r
		}
	}
	return Rotation{Choice: c}
}

// rotations computes what each choice costs a granularity.
func (s *Service) rotations(c *Costs, g Granularity) []Rotation {
	out := make([]Rotation, 0, len(Choices))
	for _, choice := range Choices {
		r := Rotation{Choice: choice, Possible: true}
		if g == PerRecord {
			s.rotateLethe(c, &r)
		} else {
			s.rotateWrapped(c, g, &r)
		}
		r.USD = s.KMS.CallsUSD(r.KMSCalls)
		out = append(out, r)
	}
	return out
}

// forgetsPerEpoch is how many people are forgotten in an epoch.
func (s *Service) forgetsPerEpoch() float64 { return s.Forgets * s.Epoch.Hours() / 24 }

// rotateLethe: what the library does, at the rates that were measured.
func (s *Service) rotateLethe(c *Costs, r *Rotation) {
	each := func(n float64, d time.Duration) time.Duration { return toDuration(n * d.Seconds()) }
	kms := func(calls float64) time.Duration {
		return max(0, toDuration(calls*(s.KMS.Encrypt.P50.Seconds()-c.KMSEncrypt.P50.Seconds())))
	}
	switch r.Choice {
	case RotateKEK:
		// A close that also draws a fresh root where nobody was forgotten.
		took, written := s.close(c, s.forgetsPerEpoch())
		r.KMSCalls = float64(c.KMSCallsClose)
		r.Time, r.Written = took+kms(r.KMSCalls), written
		r.Ends = "what a copy of the old KMS key opens, from the destruction of its handle on"
	case CloseEpoch:
		took, written := s.close(c, s.forgetsPerEpoch())
		r.KMSCalls = float64(c.KMSCallsClose)
		r.Time, r.Written = took+kms(r.KMSCalls), written
		r.Ends = "what backups hold of people forgotten since the last close"
		r.Possible = s.KMS.Erasable
	case RotateSubjects:
		r.Time = each(s.Subjects, c.RotateSubject) + each(s.Records, c.Rewrap)
		r.Written = s.Subjects*c.KeyStoreBytes + s.Records*float64(c.HeaderBytes)
		r.Ends = "what a leaked subject key opens of records written or wrapped anew since"
	case Reseal:
		r.Time = each(s.Records, c.Reseal)
		r.Written = s.Records*float64(c.HeaderBytes) + s.Records*s.Fields*float64(c.CellOverhead) + s.plainBytes()
		r.Ends = "what a leaked data key opens, and the old cipher suite"
	}
}

// rotateWrapped: data keys that the KMS wraps one by one. Wrapping a key anew is
// two calls, Decrypt and Encrypt: whatever the KMS keeps of old versions, a copy
// of the old key opens what was not wrapped anew.
func (s *Service) rotateWrapped(c *Costs, g Granularity, r *Rotation) {
	n, each := s.keysOf(g)
	keys := n * each
	rowBytes := c.PlainKeyBytes
	if g == PerRecordKMS {
		rowBytes = float64(c.WrappedDEK)
	}
	bulk := func(calls float64) time.Duration {
		return s.KMS.BulkTime(calls, s.KMS.Decrypt.P50, s.Workers, s.Limits.QuotaShare)
	}
	switch r.Choice {
	case RotateKEK, CloseEpoch:
		r.KMSCalls = 2 * keys
		r.Time, r.Written = bulk(r.KMSCalls), keys*rowBytes
		r.Ends = "what a copy of the old KMS key opens, once it is destroyed"
		if r.Choice == CloseEpoch {
			// The key of one person can be left out only where there is one.
			r.Possible = s.KMS.Erasable && g == PerSubject
			r.Ends = "what backups hold of people whose key was deleted: every other key is wrapped under a new KMS key"
		}
	case RotateSubjects, Reseal:
		// The data key is what seals: rotating it is sealing anew.
		calls := keys
		if g == PerRecordKMS {
			calls = 2 * keys
		}
		r.KMSCalls = calls
		r.Time = max(bulk(calls), toDuration(s.Records*c.Reseal.Seconds()))
		r.Written = keys*rowBytes + s.Records*s.Fields*gcmOverhead + s.plainBytes()
		r.Ends = "what a leaked data key opens"
	}
	if !r.Possible {
		*r = Rotation{Choice: r.Choice, Ends: "no key belongs to one person"}
		if g == PerSubject {
			r.Ends = "this KMS cannot destroy a part of itself"
		}
	}
}

// Rewrapped is PerSubject run as Lethe's epochs are: at the end of every epoch all
// keys but the deleted ones are wrapped under a new KMS key, and the old one is
// destroyed. It returns when a person is forgotten then, and what it adds a month.
// ok is false where a run takes longer than an epoch lasts.
func (s *Service) Rewrapped(p *Plan) (after time.Duration, usd float64, ok bool) {
	r := p.Rotation(CloseEpoch)
	if p.Granularity != PerSubject || !r.Possible || r.Time > s.Epoch {
		return 0, 0, false
	}
	runs := Month.Seconds() / s.Epoch.Seconds()
	return max(s.Everywhere(), s.Epoch+r.Time+s.Window+s.KMS.Destroy), runs*r.USD + (s.handles()-1)*s.KMS.KeyPrice, true
}
