// Package input turns flags and a YAML file into the service that is planned for.
package input

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lethe-go/lethe/bench/internal/model"
	"github.com/lethe-go/lethe/bench/internal/presets"
)

// Service are the flags that describe a service; a YAML file has the same names.
// Pointers are those that a preset or a measurement may give.
type Service struct {
	Name        string  `help:"Name of the service, for the report." default:"your service"`
	Records     float64 `help:"Sealed records today." default:"1e6"`
	Subjects    float64 `help:"People whose data they are, today." default:"1e5"`
	Tenants     float64 `help:"Tenants." default:"1"`
	Fields      float64 `help:"Sealed fields of a record." default:"5"`
	RecordBytes float64 `help:"Bytes of plaintext in the sealed fields of a record." default:"265"`
	Growth      float64 `help:"Growth of records and people a year: 0.2 is 20 %." default:"0.2"`
	Ahead       Span    `help:"Plan for the size it will have by then." default:"365d"`
	Reads       float64 `help:"Records opened a second, on average." default:"50"`
	Writes      float64 `help:"Records sealed a second, on average." default:"5"`
	Peak        float64 `help:"Peak rate over the average." default:"4"`

	Processes  float64 `help:"Processes that open and seal." default:"4"`
	CacheTTL   Span    `name:"cache-ttl" help:"How long a key stays in memory (Options.CacheTTL)." default:"5m"`
	CacheSize  float64 `help:"Keys in memory at most, per process (Options.CacheSize)." default:"100000"`
	Access     string  `help:"How operations spread over people: ${enum}." enum:"zipf,uniform" default:"zipf"`
	Zipf       float64 `help:"Exponent of the Zipf distribution. Breslau et al., INFOCOM 1999, saw 0.64 to 0.83 for pages of the web; measure yours." default:"0.8"`
	Forgets    float64 `help:"People forgotten a day." default:"10"`
	Epoch      Span    `help:"E, an epoch's length (Options.Epochs.Every); 0s: the longest of 1h, 6h, 1d, 7d, 30d that meets the deadline." default:"0s"`
	CloseTime  Span    `help:"C, what a close may take (Options.Epochs.CloseTime)." default:"1h"`
	Window     Span    `help:"W, the recovery window: how old a backup of the key store may be when it is restored (Options.Epochs.Window)." default:"7d"`
	ReplicaLag Span    `help:"How far a replica of the key store may be behind." default:"0s"`
	Retention  Span    `help:"How long records and all their backups are kept; 0s is for ever." default:"0s"`

	CryptoPeriod Span    `help:"How long a key may seal. NIST SP 800-57 part 1 rev. 5, table 1: 2 years at most for symmetric keys that encrypt data or wrap keys." default:"730d"`
	Workers      float64 `help:"Calls to the KMS at the same time while keys are rotated." default:"16"`

	Deadline   Span    `help:"A person must be forgotten in every backup within; 0s: nobody asks for it. GDPR article 12(3) has one month for the answer to a request." default:"30d"`
	QuotaShare float64 `help:"Share of the KMS's quota that may be used." default:"0.5"`
	Start      Span    `help:"How long the KMS may be asked for keys after all processes started together; 0s is no limit." default:"30s"`
	KeyMemory  float64 `help:"Bytes of keys in a process's memory at most; 0 is no limit." default:"1e9"`
	OpenP99    Span    `name:"open-p99" help:"99th percentile of opening a record, at most; 0s is no limit." default:"0s"`
	Overhead   float64 `help:"Bytes at rest for keys, nonces and tags over bytes of plaintext, at most; 0 is no limit." default:"0"`
	Cost       float64 `help:"USD a month for the KMS at most; 0 is no limit." default:"0"`

	KMSPreset     string   `name:"kms-preset" help:"Figures for the KMS: ${enum}." enum:"local,aws,gcp,azure,vault" default:"local"`
	KMSLatency    *Span    `name:"kms-latency" help:"Median of a call to the KMS. No service publishes it: measure it with --kms, or give it."`
	KMSLatencyP99 *Span    `name:"kms-latency-p99" help:"99th percentile of a call to the KMS."`
	KMSQuota      *float64 `name:"kms-quota" help:"Calls a second that the KMS allows; 0 is no quota."`
	KMSPrice      *float64 `name:"kms-price" help:"USD for 10,000 calls."`
	KMSFree       *float64 `name:"kms-free" help:"Calls a month that cost nothing."`
	KMSKeyPrice   *float64 `name:"kms-key-price" help:"USD a month for a key, or a key version."`
	KMSDestroy    *Span    `name:"kms-destroy" help:"P, how long the KMS takes to destroy a key once it is told to."`
}

// Check says whether Resolve will find everything, before anything was measured.
func (in *Service) Check(kmsMeasured bool) error {
	some := model.Dist{P50: 1, P99: 1}
	_, err := in.Resolve(&model.Costs{KMSEncrypt: some, KMSDecrypt: some}, kmsMeasured)
	return err
}

// Given lists the flags of the KMS that were given, by a flag or a file, and so
// take the place of the preset's figures.
func (in *Service) Given() (names []string) {
	for name, given := range map[string]bool{
		"kms-latency": in.KMSLatency != nil, "kms-quota": in.KMSQuota != nil, "kms-price": in.KMSPrice != nil,
		"kms-free": in.KMSFree != nil, "kms-key-price": in.KMSKeyPrice != nil, "kms-destroy": in.KMSDestroy != nil,
	} {
		if given {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Resolve gives the service to plan for, with the figures of its preset and the
// KMS's latency as it was measured, if measured says that the service's own was.
// Its error lists everything that is missing or wrong.
func (in *Service) Resolve(c *model.Costs, measured bool) (*model.Service, error) {
	preset, ok := presets.Get(in.KMSPreset)
	if !ok {
		return nil, fmt.Errorf("there is no preset %q for a KMS: take one of %v", in.KMSPreset, presets.Names())
	}
	var errs []error
	figure := func(given *float64, from *presets.Figure, flag, what string) float64 {
		switch {
		case given != nil:
			return *given
		case from != nil:
			return from.Value
		}
		errs = append(errs, fmt.Errorf("give --%s, %s: no source was found for %s", flag, what, preset.Name))
		return 0
	}
	k := model.KMS{Name: preset.Name, Erasable: preset.Erasable, FreeOnceOrdered: preset.FreeOnceOrdered}
	k.Quota = figure(in.KMSQuota, preset.Quota, "kms-quota", "the calls a second that it allows you")
	k.Price = figure(in.KMSPrice, preset.Price, "kms-price", "USD for 10,000 calls (0 if you run it yourself)")
	k.Free = figure(in.KMSFree, orZero(preset.Free), "kms-free", "")
	k.KeyPrice = figure(in.KMSKeyPrice, preset.KeyPrice, "kms-key-price", "USD a month for a key (0 if you run it yourself)")
	var destroy *float64
	if in.KMSDestroy != nil {
		seconds := time.Duration(*in.KMSDestroy).Seconds()
		destroy = &seconds
	}
	k.Destroy = time.Duration(figure(destroy, preset.Destroy, "kms-destroy", "how long it keeps a destroyed key") * float64(time.Second))
	switch {
	case in.KMSLatency != nil:
		d := model.Dist{P50: time.Duration(*in.KMSLatency), P99: time.Duration(*in.KMSLatency)}
		if in.KMSLatencyP99 != nil {
			d.P99 = time.Duration(*in.KMSLatencyP99)
		}
		if d.P99 < d.P50 {
			errs = append(errs, errors.New("--kms-latency-p99 is below --kms-latency"))
		}
		k.Encrypt, k.Decrypt = d, d
	case measured || preset.Local:
		k.Encrypt, k.Decrypt = c.KMSEncrypt, c.KMSDecrypt
	default:
		errs = append(errs, fmt.Errorf("give --kms-latency and --kms-latency-p99, or --kms to measure it: %s publishes no latency", preset.Name))
	}
	s := in.service(k)
	if s.Epoch == 0 {
		s.EpochAuto, s.Epoch = true, model.LongestEpoch(s, c)
	}
	return s, errors.Join(append(errs, s.Validate())...)
}

func orZero(f *presets.Figure) *presets.Figure {
	if f == nil {
		return &presets.Figure{}
	}
	return f
}

// service is the service at the time that is planned for.
func (in *Service) service(k model.KMS) *model.Service {
	years := time.Duration(in.Ahead).Hours() / model.Year.Hours()
	size := model.Grown(1, in.Growth, years)
	s := &model.Service{
		Name: in.Name, Records: in.Records * size, Subjects: in.Subjects * size, Tenants: in.Tenants, Fields: in.Fields,
		RecordBytes: in.RecordBytes, NewRecords: in.Records * size * in.Growth, NewSubjects: in.Subjects * size * in.Growth,
		Reads: in.Reads * size, Writes: in.Writes * size, Peak: in.Peak, Processes: in.Processes,
		Cache:   model.Cache{TTL: time.Duration(in.CacheTTL), Size: in.CacheSize},
		Forgets: in.Forgets, Epoch: time.Duration(in.Epoch), CloseTime: time.Duration(in.CloseTime), Window: time.Duration(in.Window),
		ReplicaLag: time.Duration(in.ReplicaLag), Retention: time.Duration(in.Retention), CryptoPeriod: time.Duration(in.CryptoPeriod),
		Workers: in.Workers, KMS: k,
		Limits: model.Limits{
			Deadline: time.Duration(in.Deadline), QuotaShare: in.QuotaShare, Start: time.Duration(in.Start), KeyMemory: in.KeyMemory,
			OpenP99: time.Duration(in.OpenP99), Overhead: in.Overhead, Cost: in.Cost,
		},
	}
	if in.Retention > 0 { // what expires is replaced
		s.NewRecords += s.Records * model.Year.Hours() / time.Duration(in.Retention).Hours()
	}
	if in.Access == "zipf" {
		s.Access.Exponent = in.Zipf
	}
	return s
}
