package envelope_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/kms"
)

// delayed destroys a week after the order, unless somebody cancels it.
type delayed struct {
	*versions
	now  *time.Time
	done map[string]time.Time
	deaf bool // takes orders and does nothing
}

func (d *delayed) EraseSemantics(context.Context) (kms.EraseSemantics, error) {
	return kms.EraseSemantics{MinDelay: 7 * 24 * time.Hour, Cancelable: true}, nil
}

func (d *delayed) Destroy(ctx context.Context, handle string) (kms.Erasure, error) {
	if d.deaf {
		return kms.Erasure{State: kms.HandleLive}, nil
	}
	if _, ok := d.done[handle]; !ok {
		d.done[handle] = d.now.Add(7 * 24 * time.Hour)
	}
	return d.Erasure(ctx, handle)
}

func (d *delayed) Erasure(ctx context.Context, handle string) (kms.Erasure, error) {
	at, ok := d.done[handle]
	switch {
	case !ok:
		return kms.Erasure{State: kms.HandleLive}, nil
	case d.now.Before(at):
		return kms.Erasure{State: kms.HandleScheduled, At: at}, nil
	}
	return d.versions.Destroy(ctx, handle)
}

// A destruction that the KMS delays is asked after, one that was cancelled is
// ordered again, and one that is never done stays on the list.
func TestDelayedErasure(t *testing.T) {
	s := newFaultScene(t, "close")
	now := time.Now()
	key := &delayed{s.key, &now, map[string]time.Time{}, false}
	k, err := envelope.NewKeyring(t.Context(), s.store, key, s.opts())
	require.NoError(t, err)
	defer k.Close()
	k.SetNow(func() time.Time { return now })
	closed, err := k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	require.Len(t, closed.Erasures, 2)
	for _, e := range closed.Erasures {
		require.WithinDuration(t, now.Add(7*24*time.Hour), e.Until, time.Second)
		require.True(t, e.Destroyed.IsZero())
	}
	now = now.Add(6 * 24 * time.Hour)
	clear(key.done) // cancelled
	key.deaf = true
	_, err = k.EraseDue(t.Context())
	require.ErrorContains(t, err, "still live")
	key.deaf = false
	erasures, err := k.EraseDue(t.Context())
	require.NoError(t, err)
	require.Len(t, erasures, 2)
	for _, e := range erasures {
		require.WithinDuration(t, now.Add(7*24*time.Hour), e.Until, time.Second, "ordered again")
	}
	now = now.Add(2 * 24 * time.Hour) // when it would have been done
	erasures, err = k.EraseDue(t.Context())
	require.NoError(t, err)
	require.True(t, erasures[0].Destroyed.IsZero())
	now = now.Add(6 * 24 * time.Hour)
	erasures, err = k.EraseDue(t.Context())
	require.NoError(t, err)
	for _, e := range erasures {
		require.False(t, e.Destroyed.IsZero())
	}
	st, err := k.Status(t.Context())
	require.NoError(t, err)
	require.Empty(t, st.Pending)
	s.settle(t)
}

// A clock that is wrong destroys nothing that the live store needs. One that is
// ahead destroys handles before their window is over: backups are lost with it. One
// that went back destroys nothing early, and dates no entry before an earlier one.
func TestClockJumps(t *testing.T) {
	w, k := newEpochWorld(t)
	recs := w.seal(k, "a", 20)
	forget := func(i int) {
		_, err := k.Forget(t.Context(), recs[i].Scopes[0].Subject)
		require.NoError(t, err)
	}
	look := func(n int) {
		open, forgotten, _ := w.opened(w.ring("live.db"), recs)
		require.Equal(t, [2]int{20 - n, n}, [2]int{open, forgotten})
	}
	forget(0)
	_, err := k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	w.now = w.now.Add(-300 * 24 * time.Hour)
	st, err := k.Status(t.Context())
	require.NoError(t, err)
	require.InDelta(t, 300*24*time.Hour, st.LedgerAhead, float64(time.Minute))
	erasures, err := k.EraseDue(t.Context())
	require.NoError(t, err)
	require.True(t, erasures[0].Ordered.IsZero())
	forget(1)
	closed, err := k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	for _, e := range closed.Erasures {
		require.True(t, e.Ordered.IsZero())
		require.False(t, e.Due.Before(e.Retired.Add(7*24*time.Hour)))
	}
	look(2)
	w.now = w.now.Add(2 * 365 * 24 * time.Hour)
	erasures, err = k.EraseDue(t.Context())
	require.NoError(t, err)
	require.Len(t, erasures, 2)
	for _, e := range erasures {
		require.False(t, e.Destroyed.IsZero())
	}
	look(2)
	forget(2)
	// The clock is right again, and the ledger's last entry is dated ahead of it: an
	// urgent close waits for nothing.
	w.now = time.Now()
	st, err = k.Status(t.Context())
	require.NoError(t, err)
	require.InDelta(t, (2*365-300)*24*time.Hour, st.LedgerAhead, float64(time.Minute))
	require.Contains(t, st.String(), "WARNING: the ledger's newest entry is dated 103")
	closed, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: true})
	require.NoError(t, err)
	require.Len(t, closed.Erasures, 1)
	require.False(t, closed.Erasures[0].Destroyed.IsZero())
	look(3)
	entries, err := w.ledger.Read(t.Context(), 0)
	require.NoError(t, err)
	for i := 1; i < len(entries); i++ {
		require.GreaterOrEqual(t, entries[i].Time, entries[i-1].Time)
	}
}

// changedLedger is a ledger that somebody replaces.
type changedLedger struct{ envelope.Ledger }

func ledgerOf(t *testing.T, entries []envelope.LedgerEntry) *memledger.Ledger {
	l := &memledger.Ledger{}
	for i := range entries {
		require.NoError(t, l.Append(t.Context(), entries[i]))
	}
	return l
}

// A ledger that is away, cut off, or another store's stops a start, a close and a
// restore; with the right one back everything goes on.
func TestWrongLedger(t *testing.T) {
	for _, op := range []string{"close", "immediate", "restore"} {
		s := newFaultScene(t, op)
		right := s.ledger
		entries, err := right.Read(t.Context(), 0)
		require.NoError(t, err)
		other, err := newFaultScene(t, "close").ledger.Read(t.Context(), 0)
		require.NoError(t, err)
		forked := slices.Concat(entries[:len(entries)-1], other[len(entries)-1:])
		for name, l := range map[string]*memledger.Ledger{"none": {}, "cut off": ledgerOf(t, entries[:len(entries)-1]), "another's": ledgerOf(t, other), "forked": ledgerOf(t, forked)} {
			run := func(ledger envelope.Ledger) error {
				opts := s.opts()
				opts.Ledger = ledger
				if op == "restore" {
					_, err := envelope.Restore(t.Context(), s.store, s.key, opts, envelope.RestoreOptions{})
					return err
				}
				changed := &changedLedger{right}
				opts.Ledger = changed
				k, err := envelope.NewKeyring(t.Context(), s.store, s.key, opts)
				require.NoError(t, err)
				defer k.Close()
				changed.Ledger = ledger // under a process that runs
				_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{Immediate: op == "immediate"})
				if err == nil {
					return err
				}
				opts.Ledger = ledger // and under one that starts
				_, starts := envelope.NewKeyring(t.Context(), s.store, s.key, opts)
				require.ErrorIs(t, starts, envelope.ErrLedger, name)
				return err
			}
			err := run(l)
			t.Logf("%s, %s: %v", op, name, err)
			if op == "restore" && name == "cut off" {
				// The backup is older than the cut: nobody can tell, as with any log that
				// lost its end. The store's own mark tells where it is newer.
				continue
			}
			require.Error(t, err, "%s %s", op, name)
			require.True(t, errors.Is(err, envelope.ErrLedger) || errors.Is(err, envelope.ErrUnavailable), "%v", err)
		}
		if op != "restore" {
			s.settle(t)
		}
	}
}

// Rows of forgotten keys that somebody puts back are dropped by a close, and counted.
func TestDeadRowsPutBack(t *testing.T) {
	w, k := newEpochWorld(t)
	recs := w.seal(k, "a", 100)
	in := w.intruder()
	in.keep("lethe_key")
	for i := range 10 {
		_, err := k.Forget(t.Context(), recs[i].Scopes[0].Subject)
		require.NoError(t, err)
	}
	in.back("lethe_key", "kid NOT IN (SELECT kid FROM lethe_key)")
	in.exec("DELETE FROM lethe_tomb")
	in.exec("DELETE FROM lethe_dead")
	open, forgotten, _ := w.opened(w.ring("live.db"), recs)
	require.Equal(t, [2]int{90, 10}, [2]int{open, forgotten})
	closed, err := k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	require.Equal(t, 10, closed.Dropped)
	open, forgotten, _ = w.opened(w.ring("live.db"), recs)
	require.Equal(t, [2]int{90, 10}, [2]int{open, forgotten})
	require.EqualValues(t, 92, in.number("SELECT COUNT(*) FROM lethe_key"))
}

// Some rows of a table are put back from a backup under a store in use: who reads them
// is told that this may be it. The others open.
func TestSomeRowsPutBack(t *testing.T) {
	w, k := newEpochWorld(t)
	recs := w.seal(k, "a", 50)
	in := w.intruder()
	in.keep("lethe_key")
	_, err := k.Forget(t.Context(), recs[0].Scopes[0].Subject)
	require.NoError(t, err)
	_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
	require.NoError(t, err)
	in.back("lethe_key", "kid = (SELECT kid FROM lethe_key WHERE kind = 1 ORDER BY kid LIMIT 1)")
	fresh := w.ring("live.db")
	failed := 0
	for _, r := range recs {
		one := []envelope.Record{{Name: r.Name, Header: r.Header, Scopes: []envelope.Scope{{Subject: r.Scopes[0].Subject}}, Cells: []envelope.Cell{r.Cells[0]}}}
		if err := fresh.OpenRecords(t.Context(), one); err != nil {
			failed++
			require.ErrorIs(t, err, envelope.ErrUnavailable)
			require.ErrorContains(t, err, "put all of them back from one backup")
		}
	}
	require.Equal(t, 1, failed)
}

// Only some of the tables are put back from a backup: that is reported, and the
// right ones make everything good.
func TestSomeTablesPutBack(t *testing.T) {
	for _, table := range []string{"lethe_key", "lethe_page", "lethe_root", "lethe_tree", "lethe_meta"} {
		w, k := newEpochWorld(t)
		recs := w.seal(k, "a", 50) // on one leaf with the system's keys
		in := w.intruder()
		in.keep(table)
		_, err := k.Forget(t.Context(), recs[0].Scopes[0].Subject)
		require.NoError(t, err)
		_, err = k.CloseEpoch(t.Context(), envelope.CloseOptions{})
		require.NoError(t, err)
		in.exec("CREATE TABLE right_one AS SELECT * FROM " + table) //nolint:unqueryvet // whatever columns it has
		in.exec("DELETE FROM " + table)
		in.back(table, "1 = 1")
		_, err = w.open("live.db")
		t.Logf("%s: %v", table, err)
		if table != "lethe_meta" { // whose mark says only what is to be applied again
			require.Error(t, err, table)
			_, err = envelope.Restore(t.Context(), w.store("live.db"), w.kms, w.opts, envelope.RestoreOptions{})
			t.Logf("%s, restore: %v", table, err)
			require.Error(t, err, table)
			if table == "lethe_key" || table == "lethe_page" { // the others are told by the epoch
				require.ErrorIs(t, err, envelope.ErrDecrypt)
			}
			require.ErrorContains(t, err, "put all of them back from one backup")
		}
		in.exec("DELETE FROM " + table)
		in.exec("INSERT INTO " + table + " SELECT * FROM right_one") //nolint:unqueryvet // whatever columns it has
		open, forgotten, _ := w.opened(w.ring("live.db"), recs)
		require.Equal(t, [2]int{49, 1}, [2]int{open, forgotten})
	}
}
