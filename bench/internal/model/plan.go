package model

import (
	"fmt"
	"math"
	"time"
)

// Granularity is how much one data key seals.
type Granularity string

// The granularities. In all but the first a data key is wrapped by the KMS itself,
// kept in a table, and cached in memory as long as Lethe caches a subject's key;
// PerRecordKMS has no cache, since no data key is used twice.
const (
	PerRecord    Granularity = "record"  // Lethe: under a subject key, in a key tree
	PerSubject   Granularity = "subject" // one data key per person
	PerTenant    Granularity = "tenant"
	PerColumn    Granularity = "column"
	PerRecordKMS Granularity = "kms" // one data key per record, wrapped by a KMS call each
)

// Granularities are all of them, in the order of the tables.
var Granularities = []Granularity{PerRecord, PerSubject, PerTenant, PerColumn, PerRecordKMS}

// State is what of the keys is in memory when a record is sealed or opened.
type State string

// The states.
const (
	Warm        State = "warm"
	KeyCold     State = "key cold"     // Lethe: the subject's key is read, its page is in memory
	PageCold    State = "page cold"    // Lethe only: its page of the key tree is read, too
	ProcessCold State = "process cold" // the first record of a process
)

// States are all of them, from the warmest.
var States = []State{Warm, KeyCold, PageCold, ProcessCold}

// Blast is what one leaked key opens.
type Blast struct {
	Key     string  `json:"key"`
	Records float64 `json:"records"`
	People  float64 `json:"people"`
}

// Forgotten is when a person is out of reach of every copy.
type Forgotten struct {
	Never bool          `json:"never"`
	After time.Duration `json:"after"`
	How   string        `json:"how"`
}

// Plan is what a granularity costs a service.
type Plan struct {
	Granularity Granularity `json:"granularity"`

	KMSMean  float64 `json:"kms_mean"`  // calls a second
	KMSPeak  float64 `json:"kms_peak"`  // at the peak rate
	KMSCold  float64 `json:"kms_cold"`  // in the first second after all processes started at the peak rate
	KMSWarm  float64 `json:"kms_warm"`  // calls until their caches are full
	HeadRoom float64 `json:"head_room"` // quota over the larger of KMSPeak and KMSCold; -1: there is no quota
	Reads    float64 `json:"reads"`     // of wrapped keys from the database a second, at the mean rate
	Hits     float64 `json:"hits"`      // of the key cache, 0 to 1
	USD      float64 `json:"usd"`       // a month, for the KMS

	Seal    map[State]Dist `json:"seal"`
	Open    map[State]Dist `json:"open"`
	SealAll Dist           `json:"seal_all"` // of all operations, by the share of hits
	OpenAll Dist           `json:"open_all"`

	Keys      float64 `json:"keys"`       // in the memory of a process, on average
	KeyMemory float64 `json:"key_memory"` // bytes of them
	Blast     []Blast `json:"blast"`      // the data key first
	Dump      float64 `json:"dump"`       // people whose keys a dump of one process's memory holds

	RevokeSubject time.Duration `json:"revoke_subject"` // until no process opens a person forgotten by one; -1: never
	RevokeAll     time.Duration `json:"revoke_all"`     // until nothing opens once the KMS refuses
	GCM           Margin        `json:"gcm"`

	KeyBytes    float64 `json:"key_bytes"`    // at rest: table of wrapped keys
	HeaderBytes float64 `json:"header_bytes"` // at rest: wrapped keys in the records
	CellBytes   float64 `json:"cell_bytes"`   // at rest: nonces and tags
	Overhead    float64 `json:"overhead"`     // their sum over the bytes of plaintext

	Forgotten Forgotten  `json:"forgotten"`
	Rotations []Rotation `json:"rotations"`
}

// Plans computes what every granularity costs the service, in the order of Granularities.
func Plans(s *Service, c *Costs) []Plan {
	plans := make([]Plan, 0, len(Granularities))
	for _, g := range Granularities {
		plans = append(plans, NewPlan(s, c, g))
	}
	return plans
}

// NewPlan computes what one granularity costs the service.
func NewPlan(s *Service, c *Costs, g Granularity) Plan {
	p := Plan{Granularity: g, Blast: blast(s, c, g)}
	s.load(&p, c)
	s.latency(&p, c)
	s.atRest(&p, c)
	p.GCM = s.gcm(g)
	p.Forgotten = s.forgotten(g)
	p.RevokeSubject, p.RevokeAll = s.revocation(g)
	p.Rotations = s.rotations(c, g)
	return p
}

// keysOf is how many data keys are wrapped one by one, and how many an operation needs.
func (s *Service) keysOf(g Granularity) (keys, each float64) {
	switch g {
	case PerRecord, PerSubject:
		return s.Subjects, 1
	case PerTenant:
		return s.Tenants, 1
	case PerColumn:
		return 1, s.Fields // they are used, and so loaded, together
	default:
		return s.Records, 1
	}
}

// load computes the calls to the KMS and what the cache holds.
func (s *Service) load(p *Plan, c *Costs) {
	keys := 1.0 // that the KMS charges for
	switch p.Granularity {
	case PerRecordKMS: // a call for every record sealed or opened
		p.KMSMean, p.KMSPeak, p.KMSCold = s.rate(1), s.rate(s.Peak), s.rate(s.Peak)
	case PerRecord:
		s.cached(p, c)
		s.loadRoot(p, c)
		keys = s.handles()
	default:
		s.cached(p, c)
		s.loadWrapped(p)
	}
	p.USD = s.KMS.MonthUSD(p.KMSMean, keys)
	if p.HeadRoom = s.KMS.HeadRoom(math.Max(p.KMSPeak, p.KMSCold)); math.IsInf(p.HeadRoom, 1) {
		p.HeadRoom = -1
	}
	p.Dump = p.Keys
	switch p.Granularity {
	case PerTenant:
		p.Dump = math.Min(s.Subjects, p.Keys*s.Subjects/s.Tenants)
	case PerColumn:
		p.Dump = s.Subjects
	default: // a key is one person's
	}
}

// cached computes what the processes' caches of keys do.
func (s *Service) cached(p *Plan, c *Costs) {
	n, each := s.keysOf(p.Granularity)
	use := s.Cache.Use(s.Access, n, s.rate(1)/s.Processes)
	p.Hits, p.Keys, p.KeyMemory = use.Hits, use.Entries*each, use.Entries*each*c.KeyMemory
	p.Reads = s.Processes * use.Misses * each
}

// loadRoot: the KMS unwraps the root key, one key for every process and TTL, and
// works at every close of an epoch.
func (s *Service) loadRoot(p *Plan, c *Costs) {
	root, perProcess := Cache{TTL: s.Cache.TTL}, s.rate(1)/s.Processes
	closes := float64(c.KMSCallsClose) / s.Epoch.Seconds()
	p.KMSMean = s.Processes*root.Use(Access{}, 1, perProcess).Misses + closes
	p.KMSPeak = s.Processes*root.Use(Access{}, 1, perProcess*s.Peak).Misses + closes
	p.KMSCold = s.Processes * float64(c.KMSCallsStart)
	p.KMSWarm = p.KMSCold
}

// loadWrapped: the KMS unwraps every key that a cache misses, and wraps new ones.
func (s *Service) loadWrapped(p *Plan) {
	n, each := s.keysOf(p.Granularity)
	minted := 0.0
	if p.Granularity == PerSubject {
		minted = s.NewSubjects / Year.Seconds()
	}
	perProcess := s.rate(s.Peak) / s.Processes
	p.KMSMean = p.Reads + minted
	p.KMSPeak = s.Processes*s.Cache.Use(s.Access, n, perProcess).Misses*each + minted*s.Peak
	p.KMSCold = s.Processes * s.Access.Distinct(n, perProcess, time.Second) * each
	p.KMSWarm = s.Processes * math.Min(s.Cache.Size, s.Access.Distinct(n, perProcess, s.Cache.TTL)*each)
}

// latency computes how long a record takes by what is in memory.
func (s *Service) latency(p *Plan, c *Costs) {
	// A record of another number of fields than was measured: its cells cost more or less.
	more := s.Fields/float64(c.Fields) - 1
	sized := func(d, cells Dist) Dist { return d.plus(cells.times(more)) }
	sealCells, openCells := sized(c.CellsSeal, c.CellsSeal), sized(c.CellsOpen, c.CellsOpen)
	sealKey, openKey := sized(c.CellsSealKey, c.CellsSeal), sized(c.CellsOpenKey, c.CellsOpen)
	miss := KeyCold
	switch p.Granularity {
	case PerRecord:
		// The KMS that was measured is taken out, the service's put in.
		calls := float64(c.KMSCallsStart)
		start := func(d Dist) Dist {
			return d.minus(c.KMSDecrypt.times(calls)).plus(s.KMS.Decrypt.times(calls))
		}
		p.Seal = map[State]Dist{
			Warm: sized(c.SealWarm, c.CellsSeal), KeyCold: sized(c.SealSubjectCold, c.CellsSeal),
			PageCold: sized(c.SealPageCold, c.CellsSeal), ProcessCold: start(sized(c.SealProcessCold, c.CellsSeal)),
		}
		p.Open = map[State]Dist{
			Warm: sized(c.OpenWarm, c.CellsOpen), KeyCold: sized(c.OpenSubjectCold, c.CellsOpen),
			PageCold: sized(c.OpenPageCold, c.CellsOpen), ProcessCold: start(sized(c.OpenProcessCold, c.CellsOpen)),
		}
		miss = PageCold
	case PerRecordKMS:
		seal, open := s.KMS.Encrypt.plus(sealKey), s.KMS.Decrypt.plus(openKey)
		p.Seal = map[State]Dist{Warm: seal, KeyCold: seal, ProcessCold: seal}
		p.Open = map[State]Dist{Warm: open, KeyCold: open, ProcessCold: open}
	default:
		_, each := s.keysOf(p.Granularity)
		load := c.KeyRead.plus(s.KMS.Decrypt).times(each)
		seal, open := load.plus(sealKey), load.plus(openKey)
		p.Seal = map[State]Dist{Warm: sealCells, KeyCold: seal, ProcessCold: seal}
		p.Open = map[State]Dist{Warm: openCells, KeyCold: open, ProcessCold: open}
	}
	p.SealAll, p.OpenAll = mixed(p.Seal, miss, p.Hits), mixed(p.Open, miss, p.Hits)
}

// mixed are the percentiles over hits and misses: that of the misses where more
// than the rest of the operations misses, else that of the hits. Source: quantiles
// of a mixture of two distributions that hardly overlap.
func mixed(by map[State]Dist, miss State, hits float64) Dist {
	d := by[Warm]
	if 1-hits > 0.5 {
		d.P50 = by[miss].P50
	}
	if 1-hits > 0.01 {
		d.P99 = by[miss].P99
	}
	return d
}

// gcmOverhead is a nonce and a tag. Source: NIST SP 800-38D with 96-bit nonces and 128-bit tags.
const gcmOverhead = 12 + 16

// atRest computes what keys, nonces and tags take beside the plaintext.
func (s *Service) atRest(p *Plan, c *Costs) {
	cells := float64(gcmOverhead)
	switch p.Granularity {
	case PerRecord:
		p.KeyBytes = s.Subjects * c.KeyStoreBytes
		p.HeaderBytes = s.Records * float64(c.HeaderBytes)
		cells = float64(c.CellOverhead)
	case PerRecordKMS:
		p.HeaderBytes = s.Records * float64(c.WrappedDEK)
	default:
		n, each := s.keysOf(p.Granularity)
		p.KeyBytes = n * each * c.PlainKeyBytes
	}
	p.CellBytes = s.Records * s.Fields * cells
	p.Overhead = (p.KeyBytes + p.HeaderBytes + p.CellBytes) / s.plainBytes()
}

// blast is what a leaked key opens: of every kind there is above the cells, but for
// the KMS key, which opens everything everywhere.
func blast(s *Service, c *Costs, g Granularity) []Blast {
	perSubject := s.Records / s.Subjects
	switch g {
	case PerRecord:
		page := math.Min(s.Subjects, math.Max(1, c.KeysPerPage))
		return []Blast{{"data key", 1, 1}, {"subject key", perSubject, 1}, {"page key", page * perSubject, page}, {"root key", s.Records, s.Subjects}}
	case PerSubject:
		return []Blast{{"data key", perSubject, 1}}
	case PerTenant:
		return []Blast{{"data key", s.Records / s.Tenants, s.Subjects / s.Tenants}}
	case PerColumn:
		return []Blast{{fmt.Sprintf("data key (1 of %v fields)", s.Fields), s.Records, s.Subjects}}
	default:
		return []Blast{{"data key", 1, 1}}
	}
}

// gcm is the margin of the key that seals most: the hottest subject's or tenant's
// by the access distribution.
func (s *Service) gcm(g Granularity) Margin {
	switch g {
	case PerRecord:
		// A subject key wraps one data key per new record. A data key seals the fields
		// of its record, once per write.
		top := s.Access.TopShare(s.Subjects)
		wraps := s.NewRecords / Year.Seconds() * top
		cells := s.Fields * s.Writes / s.Records
		if wraps >= cells {
			return margin("subject key", wraps, s.CryptoPeriod)
		}
		return margin("data key", cells, s.CryptoPeriod)
	case PerSubject:
		return margin("data key", s.Access.TopShare(s.Subjects)*s.Writes*s.Fields, s.CryptoPeriod)
	case PerTenant:
		return margin("data key", s.Access.TopShare(s.Tenants)*s.Writes*s.Fields, s.CryptoPeriod)
	case PerColumn:
		return margin("data key", s.Writes, s.CryptoPeriod)
	default:
		return margin("data key", 0, s.CryptoPeriod) // a fresh one for every write
	}
}

// forgotten is when a forgotten person is out of reach of every backup, as the
// granularity is commonly run. For PerSubject see Plan.Rewrapped.
func (s *Service) forgotten(g Granularity) Forgotten {
	byExpiry := func(why string) Forgotten {
		if s.Retention > 0 {
			return Forgotten{After: s.Retention, How: "when the last backup has expired; " + why}
		}
		return Forgotten{Never: true, How: why}
	}
	switch g {
	case PerRecord:
		if !s.KMS.Erasable {
			return byExpiry("this KMS cannot destroy the handle of an epoch")
		}
		if t := s.Promise(); s.Retention == 0 || t < s.Retention {
			return Forgotten{After: t, How: "an epoch ends and its KMS handle is destroyed"}
		}
		return byExpiry("epochs take longer")
	case PerSubject:
		return byExpiry("backups hold the deleted key under a KMS key that lives on")
	case PerTenant:
		return byExpiry("the tenant's key opens all its people")
	case PerColumn:
		return byExpiry("the column's key opens all people")
	default:
		return byExpiry("backups hold the record and its key under a KMS key that lives on")
	}
}

// revocation is how long processes go on opening.
func (s *Service) revocation(g Granularity) (subject, key time.Duration) {
	switch g {
	case PerRecord:
		return s.Everywhere(), 2 * s.Cache.TTL // as envelope.Options.CacheTTL says
	case PerSubject:
		return s.Everywhere(), s.Cache.TTL
	case PerTenant, PerColumn:
		return -1, s.Cache.TTL
	default:
		return -1, 0
	}
}
