package soak

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver
	"go.uber.org/goleak"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/fileledger"
	"github.com/lethe-go/lethe/envelope/sqlstore"
	"github.com/lethe-go/lethe/internal/testdb"
	"github.com/lethe-go/lethe/kms"
	"github.com/lethe-go/lethe/kms/kmstest"
)

var (
	duration = flag.Duration("soak", 8*time.Second, "how long each soak runs, checks included")
	seedFlag = flag.Uint64("seed", 0, "of the soak's choices; 0 draws one")
)

const (
	processes = 3
	workers   = 6
	slots     = 48
	timeout   = 500 * time.Millisecond // of one exchange with the store or the KMS
	longest   = 20 * time.Second       // a call that takes longer hangs
)

// process is one incarnation of a program that uses the key store.
type process struct {
	id     int
	store  *faultyStore
	close  func() error
	ledger *fileledger.Ledger
	ring   *envelope.Keyring
	sealer *lethe.Sealer[person]
	ended  atomic.Bool
}

// soak is the world, and the model of it.
type soak struct {
	t         *testing.T
	seed      uint64
	begun     time.Time
	openStore func() (envelope.Store, func() error, error)
	ledger    string
	fakes     [2]*kmstest.Fake
	inUse     atomic.Int32 // index of the KMS key that wrapped last
	lied      atomic.Int64 // when the KMS lied last

	running   sync.RWMutex // held by every call; a check stops the world
	faults    atomic.Bool
	processes [processes]atomic.Pointer[process]
	ids       atomic.Int64
	slots     [slots]atomic.Pointer[slot]
	subjects  atomic.Int64
	stop      atomic.Bool
	fail      sync.Once

	mu      sync.Mutex
	counts  map[string]int
	injured int64 // store faults of processes that ended
}

func (w *soak) now() moment { return moment(time.Since(w.begun)) }

func (w *soak) count(what string) {
	w.mu.Lock()
	w.counts[what]++
	w.mu.Unlock()
}

// violated ends the soak.
func (w *soak) violatedf(s *slot, format string, args ...any) {
	w.fail.Do(func() {
		about := ""
		if s != nil {
			about = "\n" + s.String()
		}
		w.t.Errorf("seed %d: at %v: %s%s", w.seed, time.Duration(w.now()), fmt.Sprintf(format, args...), about)
	})
	w.stop.Store(true)
}

func (w *soak) options(ledger envelope.Ledger) envelope.Options {
	return envelope.Options{Ledger: ledger, CacheTTL: ttl, CacheSize: 64, Timeout: timeout}
}

// start opens a process; under faults it may fail.
func (w *soak) start(ctx context.Context) (*process, error) {
	p := &process{id: int(w.ids.Add(1))}
	inner, closeStore, err := w.openStore()
	if err != nil {
		return nil, fmt.Errorf("the store cannot be opened: %w", err)
	}
	p.close = closeStore
	p.store = &faultyStore{Store: inner, rng: rand.New(rand.NewPCG(w.seed, uint64(1000+p.id)))}
	p.store.on.Store(w.faults.Load())
	if p.ledger, err = fileledger.Open(ctx, w.ledger); err != nil {
		return nil, errors.Join(err, p.end())
	}
	opts := w.options(p.ledger)
	cur := w.inUse.Load()
	opts.MoreKeys = []kms.Key{resilient(w.fakes[1-cur])}
	if p.ring, err = envelope.NewKeyring(ctx, p.store, resilient(w.fakes[cur]), opts); err != nil {
		return nil, errors.Join(err, p.end())
	}
	p.sealer, err = lethe.For[person](p.ring)
	return p, err
}

// end closes all, also under calls that still run.
func (p *process) end() error {
	p.ended.Store(true)
	if p.ring != nil {
		p.ring.Close()
	}
	var err error
	if p.ledger != nil {
		err = p.ledger.Close()
	}
	return errors.Join(err, p.close())
}

func resilient(f *kmstest.Fake) kms.Key {
	r, err := kms.NewResilient(f, kms.ResilientOptions{
		AttemptTimeout: timeout / 4, TotalTimeout: timeout, BackoffBase: 5 * time.Millisecond, BreakerCooldown: 50 * time.Millisecond,
	})
	if err != nil {
		panic(err)
	}
	return r
}

func (w *soak) newSlot() *slot { return &slot{subject: fmt.Sprint("subject-", w.subjects.Add(1))} }

// afflict sets faults of the KMS, and ends them, until the soak stops.
func (w *soak) afflict(ctx context.Context, rng *rand.Rand) {
	heal := func() {
		for _, f := range w.fakes {
			f.SetOutage(false)
			f.SetLying(false)
			f.SetLatency(0)
			f.Release()
		}
	}
	defer heal()
	for ctx.Err() == nil {
		if w.faults.Load() {
			f := w.fakes[rng.IntN(2)]
			switch rng.IntN(6) {
			case 0:
				f.SetOutage(true)
				w.count("KMS outage")
			case 1:
				w.lied.Store(int64(never))
				f.SetLying(true)
				w.count("KMS lies")
			case 2:
				f.SetLatency(time.Duration(rng.IntN(80)) * time.Millisecond)
				w.count("KMS slow")
			case 3:
				f.Hang(rng.IntN(2) == 0)
				w.count("KMS hangs")
			case 4:
				f.FailNext(kms.Unavailable("any", f.KeyURI(), nil), nil, kms.Unavailable("any", f.KeyURI(), nil))
				w.count("KMS stutters")
			}
		}
		pause(ctx, time.Duration(50+rng.IntN(250))*time.Millisecond)
		heal()
		w.lied.CompareAndSwap(int64(never), int64(w.now()))
		pause(ctx, time.Duration(100+rng.IntN(1000))*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (w *soak) run(total time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { w.afflict(ctx, rand.New(rand.NewPCG(w.seed, 1))) })
	for i := range workers {
		all.Go(func() { w.work(rand.New(rand.NewPCG(w.seed, uint64(100+i)))) })
	}
	var quarter, last usage
	turn := min(total/5, 15*time.Second)
	for !w.stop.Load() {
		w.faults.Store(true)
		w.setStores(true)
		pause(ctx, turn)
		last = w.check()
		if quarter.heap == 0 && w.now() > moment(total/4) {
			quarter = last
		}
		if w.now().after(turn) > moment(total) {
			break
		}
	}
	w.stop.Store(true)
	cancel()
	all.Wait()
	if !w.t.Failed() {
		w.compare(quarter, last)
	}
	for i := range w.processes {
		if err := w.processes[i].Load().end(); err != nil {
			w.t.Errorf("closing: %v", err)
		}
	}
}

func (w *soak) setStores(on bool) {
	for i := range w.processes {
		w.processes[i].Load().store.on.Store(on)
	}
}

// usage is what the program holds when nothing happens.
type usage struct {
	heap       uint64
	goroutines int
	entries    int // of the ledger
}

func (w *soak) measure() usage {
	runtime.GC()
	runtime.GC() // finalizers, and what pools kept
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	entries, err := w.processes[0].Load().ledger.Read(context.Background(), 0)
	if err != nil {
		w.violatedf(nil, "the ledger: %v", err)
	}
	return usage{m.HeapAlloc, runtime.NumGoroutine(), len(entries)}
}

// compare bounds what may have been added since a quarter of the time: every
// process holds the ledger and the kids it lists, by plan (350 to 450 bytes an
// entry, measured); and 2 MiB for caches, pools and connections not full at first.
func (w *soak) compare(quarter, last usage) {
	added := uint64(last.entries-quarter.entries) * processes * 640
	w.t.Logf("heap %d KiB at a quarter, %d KiB at the end, %d and %d ledger entries; goroutines %d and %d",
		quarter.heap>>10, last.heap>>10, quarter.entries, last.entries, quarter.goroutines, last.goroutines)
	if last.heap > quarter.heap+added+2<<20 {
		w.t.Errorf("seed %d: the heap grew from %d to %d bytes", w.seed, quarter.heap, last.heap)
	}
	if last.goroutines > quarter.goroutines+10 { // idle database connections
		w.t.Errorf("seed %d: goroutines grew from %d to %d", w.seed, quarter.goroutines, last.goroutines)
	}
}

func (w *soak) test(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	w.t, w.seed, w.counts = t, *seedFlag, map[string]int{}
	if w.seed == 0 {
		w.seed = rand.Uint64()
	}
	t.Logf("seed %d", w.seed)
	w.begun = time.Now()
	w.fakes = [2]*kmstest.Fake{kmstest.NewFake(), kmstest.NewFake()}
	w.ledger = filepath.Join(t.TempDir(), "forgets.ledger")
	led, err := fileledger.Create(t.Context(), w.ledger)
	if err != nil {
		t.Fatal(err)
	}
	store, closeStore, err := w.openStore()
	if err != nil {
		t.Fatal(err)
	}
	if err := envelope.Init(t.Context(), store, w.fakes[0], w.options(led)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(closeStore(), led.Close()); err != nil {
		t.Fatal(err)
	}
	for i := range w.processes {
		p, err := w.start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.processes[i].Store(p)
	}
	for i := range w.slots {
		w.slots[i].Store(w.newSlot())
	}
	w.run(*duration)
	var names strings.Builder
	for _, name := range sortedKeys(w.counts) {
		fmt.Fprintf(&names, "\n%8d %s", w.counts[name], name)
	}
	t.Logf("%d store faults injected%s", w.injured, names.String())
	goleak.VerifyNone(t, ignore)
}

func TestSoak(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys.db")
		w := &soak{openStore: func() (envelope.Store, func() error, error) {
			s, err := sqlstore.OpenSQLite(context.Background(), path)
			if err != nil {
				return nil, nil, err
			}
			return s, s.Close, s.Migrate(context.Background())
		}}
		w.test(t)
	})
	t.Run("postgres", func(t *testing.T) {
		dsn := testdb.Postgres(t)
		w := &soak{openStore: func() (envelope.Store, func() error, error) {
			s, err := sqlstore.OpenPostgres(context.Background(), dsn)
			if err != nil {
				return nil, nil, err
			}
			return s, s.Close, s.Migrate(context.Background())
		}}
		w.test(t)
	})
}
