package envelope_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
)

// copyRows makes a store with the rows that another has, as a backup from before
// its first forget.
func copyRows(t testing.TB, from envelope.Store) *memstore.Store {
	t.Helper()
	var in envelope.InitRows
	var err error
	in.Meta, err = from.Meta(t.Context())
	require.NoError(t, err)
	var roots []envelope.RootRow
	in.Tree, roots, err = from.Tree(t.Context(), 1)
	require.NoError(t, err)
	require.Len(t, roots, 1)
	in.Root = roots[0]
	in.Pages, err = from.PagesAfter(t.Context(), 1, 0, 1<<20)
	require.NoError(t, err)
	for i := range in.Pages {
		rows, err := from.KeysOfPage(t.Context(), 1, in.Pages[i].Page)
		require.NoError(t, err)
		in.Keys = append(in.Keys, rows...)
	}
	in.Purposes, err = from.Purposes(t.Context())
	require.NoError(t, err)
	to := memstore.New()
	require.NoError(t, to.Init(t.Context(), in))
	return to
}

// faultScene is a world in memory in which an operation is about to begin.
type faultScene struct {
	e               *epochWorld
	op              string
	store           envelope.Store
	ledger          *memledger.Ledger
	key             *versions
	live, forgotten []envelope.Record
	victim, lost    []envelope.Record
}

func newFaultScene(t testing.TB, op string) *faultScene {
	t.Helper()
	s := &faultScene{e: &epochWorld{t: t}, op: op, store: memstore.New(), ledger: &memledger.Ledger{}, key: newVersions(t)}
	opts := s.opts()
	opts.Epochs.Window = 0
	require.NoError(t, envelope.Init(t.Context(), s.store, s.key, opts))
	k, err := envelope.NewKeyring(t.Context(), s.store, s.key, opts)
	require.NoError(t, err)
	defer k.Close()
	recs := s.e.seal(k, "a", 100)
	backup := copyRows(t, s.store)
	forget := func(recs []envelope.Record) {
		for i := range recs {
			_, err := k.Forget(t.Context(), recs[i].Scopes[0].Subject)
			require.NoError(t, err)
		}
		s.forgotten = append(s.forgotten, recs...)
	}
	forget(recs[:2])
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	forget(recs[98:])
	s.live = recs[2:98]
	switch op {
	case "forget":
		s.victim, s.live = s.live[:1], s.live[1:]
	case "restore":
		s.lost = s.e.seal(k, "later", 3)
		s.store = backup
	}
	return s
}

func (s *faultScene) opts() envelope.Options {
	return envelope.Options{Ledger: s.ledger, Epochs: envelope.EpochOptions{Window: -1}}
}

// perform does the operation as often as told, the first time with every call a step.
func (s *faultScene) perform(t testing.TB, times int, step stepFunc) (first, last error) {
	on := s.op == "restore"
	when := func(name string, call func() error) error {
		if !on || step == nil {
			return call()
		}
		return step(name, call)
	}
	opts := s.opts()
	opts.Ledger = steppedLedger{s.ledger, when}
	store, key := steppedStore{s.store, when}, steppedKMS{s.key, when}
	var k *envelope.Keyring
	if s.op != "restore" {
		var err error
		k, err = envelope.NewKeyring(t.Context(), store, key, opts)
		require.NoError(t, err)
		defer k.Close()
	}
	on = true
	for i := range times {
		switch s.op {
		case "forget":
			_, last = k.Forget(t.Context(), s.victim[0].Scopes[0].Subject)
		case "close":
			_, last = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
		case "immediate":
			_, last = k.CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true, All: true})
		case "erase":
			_, last = k.EraseDue(t.Context())
		case "restore":
			_, last = envelope.Restore(t.Context(), store, key, opts, envelope.RestoreOptions{})
		}
		on = false
		if i == 0 {
			first = last
		}
		if last != nil {
			releaseLease(t, s.store)
		}
	}
	return first, last
}

// settle holds what must be so in the end, and returns how many handles are alive
// that no ledger knows.
func (s *faultScene) settle(t testing.TB) (orphans int) {
	t.Helper()
	releaseLease(t, s.store)
	k, err := envelope.NewKeyring(t.Context(), s.store, s.key, s.opts())
	require.NoError(t, err)
	defer func() { k.Close() }()
	look := func() {
		t.Helper()
		open, forgotten, missing := s.e.opened(k, append(slices.Clone(s.live), s.forgotten...))
		require.Equal(t, [3]int{len(s.live), len(s.forgotten), 0}, [3]int{open, forgotten, missing})
	}
	look()
	// Life goes on in what was left behind.
	s.live = append(slices.Clone(s.live), s.e.seal(k, "between", 2)...)
	late := s.live[len(s.live)-3 : len(s.live)-1]
	s.forgotten, s.live = append(slices.Clone(s.forgotten), late...), append(slices.Clone(s.live[:len(s.live)-3]), s.live[len(s.live)-1])
	for i := range late {
		_, err := k.Forget(t.Context(), late[i].Scopes[0].Subject)
		require.NoError(t, err)
	}
	look()
	for i := range s.victim {
		_, err := k.Forget(t.Context(), s.victim[i].Scopes[0].Subject)
		require.NoError(t, err)
	}
	_, forgotten, _ := s.e.opened(k, s.victim)
	require.Len(t, s.victim, forgotten)
	_, _, missing := s.e.opened(k, s.lost)
	require.Len(t, s.lost, missing)
	for _, o := range []envelope.CloseOptions{{}, {Immediate: true}} {
		_, err = k.CloseEpoch(t.Context(), o)
		require.NoError(t, err)
	}
	st, err := k.Status(t.Context())
	require.NoError(t, err)
	require.Zero(t, st.DirtyPages)
	require.Empty(t, st.Pending)
	look()
	k.Close()
	k, err = envelope.NewKeyring(t.Context(), s.store, s.key, s.opts())
	require.NoError(t, err)
	look()
	entries, err := s.ledger.Read(t.Context(), 0)
	require.NoError(t, err)
	known, active, at := map[string]bool{}, "", int64(0)
	dead := map[envelope.KeyID]bool{}
	for i := range entries {
		require.GreaterOrEqual(t, entries[i].Time, at)
		at = entries[i].Time
		for _, kid := range entries[i].KIDs {
			dead[kid] = true
		}
		if entries[i].KMSHandle != "" {
			known[entries[i].KMSHandle] = true
		}
		if entries[i].Kind == envelope.LedgerRootSwitch {
			active = entries[i].KMSHandle
		}
	}
	pages, err := s.store.PagesAfter(t.Context(), 1, 0, 1<<20)
	require.NoError(t, err)
	for i := range pages {
		rows, err := s.store.KeysOfPage(t.Context(), 1, pages[i].Page)
		require.NoError(t, err)
		for _, row := range rows {
			require.False(t, dead[row.KID], "a dead key is in the store")
		}
	}
	for n, key := range s.key.keys {
		h := fmt.Sprint("v", n)
		switch {
		case n == 0 || key == nil:
		case !known[h]:
			orphans++
		default:
			require.Equal(t, active, h, "a handle of an earlier epoch is alive")
		}
	}
	return orphans
}

var errStep = errors.New("injected fault")

// Every call that an operation makes fails once: without having done anything, and
// having done everything.
func TestFaultMatrix(t *testing.T) {
	for _, op := range []string{"forget", "close", "immediate", "restore"} {
		var steps []string
		s := newFaultScene(t, op)
		_, err := s.perform(t, 1, func(name string, call func() error) error {
			steps = append(steps, name)
			return call()
		})
		require.NoError(t, err)
		require.Zero(t, s.settle(t))
		t.Logf("%s: %d calls", op, len(steps))
		for i, name := range steps {
			for _, done := range []bool{false, true} {
				for _, again := range []bool{false, true} { // by the same process, or a later one
					t.Run(fmt.Sprintf("%s/%d-%s,done=%t,again=%t", op, i+1, name, done, again), func(t *testing.T) {
						s := newFaultScene(t, op)
						times := 1
						if again || op == "restore" {
							times = 2
						}
						n := 0
						first, last := s.perform(t, times, func(_ string, call func() error) error {
							if n++; n != i+1 {
								return call()
							}
							if done {
								_ = call()
							}
							return errStep
						})
						if times == 2 {
							require.NoError(t, last)
						}
						if first != nil {
							require.True(t, errors.Is(first, envelope.ErrUnavailable) || errors.Is(first, envelope.ErrLedger) || errors.Is(first, envelope.ErrWrongKey), "%v", first)
							require.ErrorIs(t, first, errStep)
						}
						if o := s.settle(t); o > 0 {
							require.Equal(t, 1, o)
							require.Contains(t, []string{"NewHandle", "Read", "Append root-begin"}, name)
						}
					})
				}
			}
		}
	}
}

// A close that ended after it had re-keyed every page is still due: RunEpochs goes by that.
func TestUnfinishedCloseIsStillDue(t *testing.T) {
	s := newFaultScene(t, "close")
	first, _ := s.perform(t, 1, func(name string, call func() error) error {
		if name == "Rekey" {
			return errStep
		}
		return call()
	})
	require.ErrorIs(t, first, errStep)
	k, err := envelope.NewKeyring(t.Context(), s.store, s.key, s.opts())
	require.NoError(t, err)
	defer k.Close()
	st, err := k.Status(t.Context())
	require.NoError(t, err)
	require.NotZero(t, st.DirtyPages)
	require.Zero(t, s.settle(t))
}
