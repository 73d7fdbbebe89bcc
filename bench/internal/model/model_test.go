package model

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// theCosts are round numbers, to compute with by hand.
func theCosts() *Costs {
	us := func(n int) Dist {
		return Dist{P50: time.Duration(n) * time.Microsecond, P99: 2 * time.Duration(n) * time.Microsecond, Count: 1000}
	}
	return &Costs{
		Fields: 5, PlainBytes: 265,
		SealWarm: us(3), SealSubjectCold: us(100), SealPageCold: us(150), SealProcessCold: us(1000), SealNewSubject: us(500),
		OpenWarm: us(2), OpenSubjectCold: us(90), OpenPageCold: us(140), OpenProcessCold: us(1000),
		CellsSeal: us(1), CellsOpen: us(1), CellsSealKey: us(2), CellsOpenKey: us(2), KeyRead: us(50), KMSEncrypt: us(1), KMSDecrypt: us(1),
		WrappedDEK: 65, KMSCallsStart: 1, KMSCallsClose: 5,
		Rewrap: 20 * time.Microsecond, Reseal: 30 * time.Microsecond, RotateSubject: time.Millisecond, Forget: us(3000),
		RewrapKEK: 50 * time.Millisecond, CloseFixed: 60 * time.Millisecond, CloseDirty: 2 * time.Millisecond, CloseCheck: 4 * time.Microsecond,
		KeysPerPage: 64, KeyStoreBytes: 200, PlainKeyBytes: 100, HeaderBytes: 110, CellOverhead: 29, KeyMemory: 1000,
	}
}

func theService() *Service {
	ms := Dist{P50: 10 * time.Millisecond, P99: 50 * time.Millisecond, Count: 100}
	return &Service{
		Name: "test", Records: 1e6, Subjects: 1e5, Tenants: 10, Fields: 5, RecordBytes: 250, NewRecords: 365 * 86400, NewSubjects: 0,
		Reads: 90, Writes: 10, Peak: 4, Processes: 5, Cache: Cache{TTL: 5 * time.Minute, Size: 100_000},
		Forgets: 10, Workers: 16, Epoch: day, CloseTime: time.Hour, Window: 7 * day, CryptoPeriod: 2 * Year,
		KMS:    KMS{Name: "k", Encrypt: ms, Decrypt: ms, Quota: 1000, Price: 0.03, Free: 20_000, KeyPrice: 1, Destroy: 7 * day, Erasable: true, FreeOnceOrdered: true},
		Limits: Limits{Deadline: 30 * day, QuotaShare: 0.5, Start: 30 * time.Second, KeyMemory: 1e9},
	}
}

func TestMoneyByHand(t *testing.T) {
	k := KMS{Price: 0.03, Free: 20_000, KeyPrice: 1}
	// 100 a second for 2,628,000 s less 20,000, at 3 cents for 10,000: 788.34, and two keys.
	require.InDelta(t, 790.34, k.MonthUSD(100, 2), 1e-9)
	require.InDelta(t, 1, k.MonthUSD(0.001, 1), 1e-9) // within what is free
	require.InDelta(t, 0.06, k.CallsUSD(20_000), 1e-12)
}

func TestBulkTimeByHand(t *testing.T) {
	k := KMS{Quota: 1000}
	require.Equal(t, 100*time.Second, k.BulkTime(100_000, 10*time.Millisecond, 10, 1)) // latency and quota say the same
	require.Equal(t, 200*time.Second, k.BulkTime(100_000, 10*time.Millisecond, 10, 0.5))
	require.Equal(t, 1000*time.Second, k.BulkTime(100_000, 10*time.Millisecond, 1, 1))
	require.Equal(t, 10*time.Millisecond, k.BulkTime(1, 10*time.Millisecond, 16, 1)) // one call is no shorter
	require.Zero(t, k.BulkTime(0, time.Second, 1, 1))
	require.Equal(t, time.Duration(math.MaxInt64), KMS{}.BulkTime(1e20, time.Second, 1, 1))
	require.True(t, math.IsInf(KMS{}.HeadRoom(5), 1))
	require.InDelta(t, 4, k.HeadRoom(250), 1e-12)
}

func TestMarginByHand(t *testing.T) {
	// 3000 messages a second reach 2^32 in 16.57 days.
	m := margin("k", 3000, 30*day)
	require.InDelta(t, 16.57, m.Limit.Hours()/24, 0.01)
	require.InDelta(t, 3000.0*30*86400/(1<<32), m.AtPeriod, 1e-9)
	require.Equal(t, time.Duration(math.MaxInt64), margin("k", 0, day).Limit)
}

func TestDirtyPagesByHand(t *testing.T) {
	require.InDelta(t, 1, DirtyPages(100, 1), 1e-9)
	require.InDelta(t, 1.99, DirtyPages(100, 2), 1e-9) // 100(1-0.99^2)
	require.InDelta(t, 100, DirtyPages(100, 1e6), 1e-9)
	require.InDelta(t, 1, DirtyPages(1, 5), 1e-9)
	require.Zero(t, DirtyPages(100, 0))
}

func TestTreeByHand(t *testing.T) {
	require.Equal(t, tree{1}, newTree(10, 64, 64))
	require.Equal(t, tree{1563, 25, 1}, newTree(1e5, 64, 64)) // 100,000/64, /64, /64
	require.InDelta(t, 1589, newTree(1e5, 64, 64).pages(), 1e-9)
	leaves, all := newTree(1e5, 64, 64).dirty(1)
	require.InDelta(t, 1, leaves, 1e-9)
	require.InDelta(t, 3, all, 1e-9)
}

func TestCloseByHand(t *testing.T) {
	s, c := theService(), theCosts()
	took, written := s.close(c, 1)
	// 60 ms, 3 pages of 2 ms, 1589 checks of 4 µs; 64 keys and 3 pages of 200 bytes.
	require.InDelta(t, 0.060+0.006+1589*4e-6, took.Seconds(), 1e-6)
	require.InDelta(t, (64+3)*200, written, 1e-3)
}

func TestPromiseIsTheLibrarys(t *testing.T) {
	s := theService()
	require.Equal(t, day+time.Hour+7*day+7*day, s.Promise())
	s.Epoch = time.Minute // C for E
	require.Equal(t, 2*time.Hour+14*day, s.Promise())
	s.Window, s.KMS.Destroy, s.CloseTime, s.Cache.TTL = 0, 0, time.Second, 24*time.Hour
	require.Equal(t, 24*time.Hour, s.Promise()) // what is in memory lives longer
}

func TestHandles(t *testing.T) {
	s := theService()
	require.InDelta(t, 8, s.handles(), 0) // today's, and 7 of the window
	s.KMS.FreeOnceOrdered = false
	require.InDelta(t, 15, s.handles(), 0) // and 7 that wait for their destruction
}

func TestLoadByHand(t *testing.T) {
	s, c := theService(), theCosts()
	plans := Plans(s, c)
	by := map[Granularity]Plan{}
	for _, p := range plans {
		by[p.Granularity] = p
	}
	// Five processes unwrap the root every 300.05 s; 5 calls a day for the close.
	lethe := by[PerRecord]
	require.InDelta(t, 5/(300+1.0/20)+5.0/86400, lethe.KMSMean, 1e-9)
	require.InDelta(t, 5, lethe.KMSCold, 0)
	require.InDelta(t, 8.0+0.03*max(0, lethe.KMSMean*2_628_000-20_000)/10_000, lethe.USD, 1e-9)
	require.InDelta(t, 1000/5.0, lethe.HeadRoom, 1e-9)
	require.Equal(t, []Blast{{"data key", 1, 1}, {"subject key", 10, 1}, {"page key", 640, 64}, {"root key", 1e6, 1e5}}, lethe.Blast)
	require.InDelta(t, 1e5*200, lethe.KeyBytes, 0)
	require.InDelta(t, 1e6*110, lethe.HeaderBytes, 0)
	require.InDelta(t, 1e6*5*29, lethe.CellBytes, 0)
	require.InDelta(t, (20e6+110e6+145e6)/250e6, lethe.Overhead, 1e-12)
	require.Equal(t, 15*day+time.Hour, lethe.Forgotten.After)
	// A data key seals 5 cells a write, its record is written once in 10^5 s; a
	// subject key wraps one of 10^5 new data keys, one a second.
	require.Equal(t, "data key", lethe.GCM.Key)
	require.InDelta(t, 5e-5*365*86400, lethe.GCM.PerYear, 1e-6)

	// 20 operations a second and process over 100,000 people alike, for 300 s: 0.06 each.
	subject := by[PerSubject]
	require.InDelta(t, 5*1e5*0.0002/1.06, subject.KMSMean, 1e-6)
	require.InDelta(t, 1-1/1.06, subject.Hits, 1e-9)
	require.InDelta(t, 1e5*0.06/1.06, subject.Keys, 1e-6)
	require.True(t, subject.Forgotten.Never)

	require.InDelta(t, 100, by[PerRecordKMS].KMSMean, 0)
	require.InDelta(t, 400, by[PerRecordKMS].KMSPeak, 0)
	require.InDelta(t, 1e6*65, by[PerRecordKMS].HeaderBytes, 0)
	require.InDelta(t, 5*5/(300+1.0/20), by[PerColumn].KMSMean, 1e-9)
	require.Equal(t, Blast{"data key", 1e5, 1e4}, by[PerTenant].Blast[0])
	// Writes of 10 records a second: 10 cells per column's key.
	require.InDelta(t, (1<<32)/10.0, by[PerColumn].GCM.Limit.Seconds(), 1)
}

func TestLatencyByHand(t *testing.T) {
	s, c := theService(), theCosts()
	p := NewPlan(s, c, PerSubject)
	require.Equal(t, c.CellsOpen, p.Open[Warm])
	// A key read, a KMS call and cells under a key that is expanded.
	require.Equal(t, 50*time.Microsecond+10*time.Millisecond+2*time.Microsecond, p.Open[KeyCold].P50)
	require.Equal(t, p.Open[KeyCold].P50, p.OpenAll.P50) // 94 % miss

	p = NewPlan(s, c, PerRecord)
	require.Equal(t, c.OpenWarm, p.Open[Warm])
	require.Equal(t, 999*time.Microsecond+10*time.Millisecond, p.Open[ProcessCold].P50) // its own KMS in the place of the measured
	s.Fields = 10
	require.Equal(t, c.OpenWarm.P50+c.CellsOpen.P50, NewPlan(s, c, PerRecord).Open[Warm].P50)

	by := map[State]Dist{Warm: {P50: 1, P99: 2}, KeyCold: {P50: 10, P99: 20}}
	require.Equal(t, Dist{P50: 1, P99: 2}, mixed(by, KeyCold, 0.995))
	require.Equal(t, Dist{P50: 1, P99: 20}, mixed(by, KeyCold, 0.9))
	require.Equal(t, Dist{P50: 10, P99: 20}, mixed(by, KeyCold, 0.2))
}

func TestRotationsByHand(t *testing.T) {
	s, c := theService(), theCosts()
	lethe := NewPlan(s, c, PerRecord)
	keys := lethe.Rotation(RotateSubjects)
	require.Equal(t, 100*time.Second+20*time.Second, keys.Time) // 10^5 of 1 ms, 10^6 of 20 µs
	require.InDelta(t, 1e5*200+1e6*110, keys.Written, 0)
	require.Zero(t, keys.KMSCalls)
	require.Equal(t, 30*time.Second, lethe.Rotation(Reseal).Time)
	require.InDelta(t, 1e6*(110+5*29+250), lethe.Rotation(Reseal).Written, 0)
	require.InDelta(t, 5, lethe.Rotation(CloseEpoch).KMSCalls, 0)

	subject := NewPlan(s, c, PerSubject)
	kek := subject.Rotation(RotateKEK)
	require.InDelta(t, 2e5, kek.KMSCalls, 0)
	require.Equal(t, 400*time.Second, kek.Time) // half of 1000 a second
	require.InDelta(t, 0.6, kek.USD, 1e-9)
	after, usd, ok := s.Rewrapped(&subject)
	require.True(t, ok)
	require.Equal(t, day+400*time.Second+14*day, after)
	require.InDelta(t, 365.0/12*0.6+7, usd, 1e-9)

	for _, g := range []Granularity{PerTenant, PerColumn, PerRecordKMS} {
		require.False(t, new(NewPlan(s, c, g)).Rotation(CloseEpoch).Possible, g)
	}
	s.KMS.Erasable = false
	require.False(t, new(NewPlan(s, c, PerRecord)).Rotation(CloseEpoch).Possible)
	require.True(t, NewPlan(s, c, PerRecord).Forgotten.Never)
}

func TestGrown(t *testing.T) {
	require.InDelta(t, 121, Grown(100, 0.1, 2), 1e-9)
	require.InDelta(t, 100, Grown(100, 0.1, 0), 1e-9)
}

// What must go one way goes that way, wherever the service is.
func TestPlansAreMonotonic(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	c := theCosts()
	for range 200 {
		s := theService()
		s.Subjects = math.Pow(10, 2+6*random.Float64())
		s.Records = s.Subjects * (1 + 100*random.Float64())
		s.Tenants = 1 + math.Floor(random.Float64()*math.Min(1000, s.Subjects-1))
		s.Reads, s.Writes = math.Pow(10, 4*random.Float64()), math.Pow(10, 3*random.Float64())
		s.Processes = 1 + math.Floor(100*random.Float64())
		s.Access.Exponent = random.Float64()
		require.NoError(t, s.Validate())
		for _, g := range Granularities {
			p := NewPlan(s, c, g)
			require.GreaterOrEqual(t, p.KMSPeak, p.KMSMean*(1-1e-9), g)
			require.GreaterOrEqual(t, p.USD, 0.0)

			busier := *s
			busier.Reads *= 2
			busier.Writes *= 2
			b := NewPlan(&busier, c, g)
			require.GreaterOrEqual(t, b.KMSMean, p.KMSMean*(1-1e-6), g)
			require.GreaterOrEqual(t, b.USD, p.USD*(1-1e-6), g)
			require.LessOrEqual(t, b.GCM.Limit.Hours(), p.GCM.Limit.Hours()*(1+1e-9), g)
			require.GreaterOrEqual(t, b.Hits, p.Hits-1e-9, g)

			longer := *s
			longer.Cache.TTL *= 3
			require.LessOrEqual(t, NewPlan(&longer, c, g).KMSMean, p.KMSMean*(1+1e-6), g)

			bigger := *s
			bigger.Records *= 2
			bigger.Subjects *= 2
			for _, choice := range Choices {
				require.GreaterOrEqual(t, new(NewPlan(&bigger, c, g)).Rotation(choice).Time, p.Rotation(choice).Time-time.Microsecond, "%s %s", g, choice)
			}
			require.GreaterOrEqual(t, NewPlan(&bigger, c, g).KeyBytes, p.KeyBytes, g)

			wider := *s
			wider.Window += day
			w := NewPlan(&wider, c, g)
			require.True(t, w.Forgotten.Never || w.Forgotten.After >= p.Forgotten.After, g)
		}
	}
}

func TestAdvise(t *testing.T) {
	s, c := theService(), theCosts()
	a := Advise(s, c)
	require.Equal(t, PerRecord, a.Candidates[a.Best].Plan.Granularity)
	require.True(t, a.Fits)
	require.Equal(t, 7*day, a.Epochs[a.Epoch].Every) // 7+7+7 days and an hour: 30 would be too long

	// Nobody asks to be forgotten, one record a minute: a KMS call each is the cheapest.
	s = theService()
	s.Limits.Deadline, s.Reads, s.Writes, s.NewRecords = 0, 1.0/60, 1.0/600, 0
	a = Advise(s, c)
	require.Equal(t, PerRecordKMS, a.Candidates[a.Best].Plan.Granularity)

	// A window that no deadline can be kept with.
	s = theService()
	s.Window = 29 * day
	a = Advise(s, c)
	require.False(t, a.Fits)
	require.Equal(t, -1, a.Epoch)
	require.Equal(t, PerRecord, a.Candidates[a.Best].Plan.Granularity, "late is nearer than never")
}

// A change that is reported is one: on its near side the advice is as it was.
func TestChangesAreChanges(t *testing.T) {
	s, c := theService(), theCosts()
	a := Advise(s, c)
	best := a.Candidates[a.Best].Plan.Granularity
	require.NotEmpty(t, a.Changes)
	for _, ch := range a.Changes {
		for _, k := range knobs {
			if k.name != ch.Input {
				continue
			}
			near, far := *s, *s
			k.set(&near, ch.From+(ch.To-ch.From)*0.9)
			k.set(&far, ch.To)
			n, f := choose(&near, c), choose(&far, c)
			require.Equal(t, best, n.Candidates[n.Best].Plan.Granularity, ch.Input)
			require.Equal(t, a.Fits, n.Fits, ch.Input)
			require.Equal(t, ch.Advice, f.Candidates[f.Best].Plan.Granularity, ch.Input)
			require.Equal(t, ch.Fits, f.Fits, ch.Input)
		}
	}
}

func TestValidateListsAll(t *testing.T) {
	s := theService()
	s.Records, s.Peak, s.Cache.TTL = 0, 0.5, 0
	err := s.Validate()
	require.ErrorContains(t, err, "records is 0")
	require.ErrorContains(t, err, "peak is 0.5")
	require.ErrorContains(t, err, "cache-ttl")
	require.NoError(t, theService().Validate())
}
