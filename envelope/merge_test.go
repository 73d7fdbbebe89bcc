package envelope_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/envelope"
)

// ownedBy is r with another subject in its scopes.
func ownedBy(r envelope.Record, id string) envelope.Record {
	r = sealedOnly(r)
	for i := range r.Scopes {
		r.Scopes[i].Subject = person(id)
	}
	return r
}

func TestMoveRecords(t *testing.T) {
	w := newWorld(t)
	k, other := w.ring(t), w.ring(t)
	first := seal(t, k, record("ada", "a"))
	likes := seal(t, k, withPurpose(record("ada", "l"), "marketing"))
	_, err := other.Rotate(t.Context(), person("ada")) // which k has not seen
	require.NoError(t, err)
	second := seal(t, other, record("ada", "b"))
	recs := []envelope.Record{ownedBy(first, "eve"), ownedBy(second, "eve"), ownedBy(likes, "eve")}
	require.NoError(t, k.MoveRecords(t.Context(), person("ada"), recs))
	for i, want := range []string{"a", "b", "l"} {
		require.Equal(t, want, string(open(t, other, recs[i]).Cells[0].Plain))
		require.Error(t, openErr(t, k, ownedBy(recs[i], "ada")))
	}
	require.NoError(t, openErr(t, k, first), "the old header opens until ada is forgotten")
	headers := [][]byte{bytes.Clone(recs[0].Header), bytes.Clone(recs[1].Header)}
	require.NoError(t, other.MoveRecords(t.Context(), person("ada"), recs), "again: nothing to do")
	require.Equal(t, headers[0], recs[0].Header)
	require.Equal(t, headers[1], recs[1].Header)
	_, err = k.Forget(t.Context(), person("ada"))
	require.NoError(t, err)
	require.ErrorIs(t, openErr(t, k, first), envelope.ErrForgotten)
	require.Equal(t, "a", string(open(t, w.ring(t), recs[0]).Cells[0].Plain))
	require.Equal(t, []envelope.LedgerKind{envelope.LedgerMove, envelope.LedgerForget}, kinds(t, w, 1), "once for all records")
	require.NoError(t, k.MoveRecords(t.Context(), person("ada"), recs), "moved before")
	err = k.MoveRecords(t.Context(), person("ada"), []envelope.Record{ownedBy(first, "eve")})
	require.ErrorIs(t, err, envelope.ErrForgotten)
}

func TestMoveRefusals(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	ada, bob := seal(t, k, record("ada", "a")), seal(t, k, record("bob", "b"))
	move := func(to string, more ...envelope.Record) error {
		recs := append([]envelope.Record{ownedBy(ada, to)}, more...)
		before := bytes.Clone(recs[0].Header)
		err := k.MoveRecords(t.Context(), person("ada"), recs)
		require.Equal(t, before, recs[0].Header, "all or nothing")
		return err
	}
	_, err := k.Forget(t.Context(), person("gone"))
	require.NoError(t, err)
	require.ErrorIs(t, move("gone"), envelope.ErrForgotten)
	for _, id := range []string{"ada", "eve"} {
		require.NoError(t, k.Suspend(t.Context(), person(id)))
		require.ErrorIs(t, move("eve"), envelope.ErrSuspended, id)
		require.NoError(t, k.Resume(t.Context(), person(id)))
	}
	require.ErrorIs(t, move("eve", ownedBy(bob, "eve")), envelope.ErrKeyMissing, "bob's row")
	other := w.ring(t)
	forged := sealedOnly(ada)
	forged.Header = bytes.Clone(forged.Header)
	forged.Header[len(forged.Header)-1] ^= 1
	require.ErrorIs(t, move("eve", ownedBy(forged, "eve")), envelope.ErrDecrypt)
	forged.Header = forged.Header[:20]
	require.ErrorIs(t, move("eve", ownedBy(forged, "eve")), envelope.ErrDecrypt)
	require.Error(t, move("eve", record("eve")), "never sealed")
	elsewhere := ownedBy(ada, "eve")
	elsewhere.Scopes[0].Subject.Tenant = "acme"
	require.ErrorContains(t, move("eve", elsewhere), "another tenant")

	hour := time.Now().Add(time.Hour)
	require.NoError(t, other.Hold(t.Context(), person("ada"), hour, "x"))
	require.ErrorContains(t, move("eve"), "held")
	require.NoError(t, k.Hold(t.Context(), person("eve"), hour.Add(-time.Minute), "x"))
	require.ErrorContains(t, move("eve"), "not as long")
	require.Equal(t, 0, countKind(kinds(t, w, 0), envelope.LedgerMove), "nothing moved")
	require.NoError(t, k.Hold(t.Context(), person("eve"), time.Time{}, "y"))
	require.NoError(t, k.MoveRecords(t.Context(), person("ada"), []envelope.Record{ownedBy(ada, "eve")}))
	k.Close()
	require.ErrorIs(t, k.MoveRecords(t.Context(), person("ada"), nil), envelope.ErrClosed)
}

func countKind(all []envelope.LedgerKind, kind envelope.LedgerKind) (n int) {
	for _, k := range all {
		if k == kind {
			n++
		}
	}
	return n
}

// twoPeople is a record about two, bound to its row.
func twoPeople(row, id, friend string) envelope.Record {
	return envelope.Record{
		Name: "people", RowID: row, Bound: true,
		Scopes: []envelope.Scope{{Subject: person(id)}, {Group: "friend", Subject: person(friend)}},
		Cells:  []envelope.Cell{{Field: "email", Plain: []byte("e")}, {Field: "told", Scope: 1, Plain: []byte("t")}},
	}
}

func TestMoveOneOfTwoPeople(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	r := seal(t, k, twoPeople("row", "ada", "bob"))
	r.Scopes[0].Subject = person("eve")
	recs := []envelope.Record{r}
	require.NoError(t, k.MoveRecords(t.Context(), person("ada"), recs))
	got := open(t, w.ring(t), recs[0])
	require.Equal(t, "e", string(got.Cells[0].Plain))
	require.Equal(t, "t", string(got.Cells[1].Plain))
	require.Equal(t, 1, countKind(kinds(t, w, 0), envelope.LedgerMove), "bob took nothing over")

	_, err := k.Forget(t.Context(), person("bob")) // a third who is forgotten is in nobody's way
	require.NoError(t, err)
	recs[0].Scopes[0].Subject = person("fay")
	require.NoError(t, k.MoveRecords(t.Context(), person("eve"), recs))
	got = open(t, w.ring(t), recs[0])
	require.NoError(t, got.Cells[0].Err)
	require.ErrorIs(t, got.Cells[1].Err, envelope.ErrForgotten)
}

// A subject's own row, whose row id is the subject's id, is renamed with it.
func TestRenameOfASubjectsOwnRow(t *testing.T) {
	w := newWorld(t)
	k := w.ring(t)
	own := seal(t, k, twoPeople("ada", "ada", "bob"))
	kept := seal(t, k, twoPeople("eve", "ada", "bob")) // had that row id before
	rename := func(r envelope.Record) envelope.Record {
		r = sealedOnly(r)
		r.RowID, r.Scopes[0].Subject = "eve", person("eve")
		return r
	}
	require.NoError(t, k.Suspend(t.Context(), person("bob")))
	require.ErrorIs(t, k.MoveRecords(t.Context(), person("ada"), []envelope.Record{rename(own)}), envelope.ErrSuspended,
		"the other key could not be bound to the new row id")
	require.NoError(t, k.Resume(t.Context(), person("bob")))
	partly := rename(own)
	partly.Scopes, partly.Cells = partly.Scopes[:1], partly.Cells[:1]
	require.ErrorIs(t, k.MoveRecords(t.Context(), person("ada"), []envelope.Record{partly}), envelope.ErrScopes)
	recs := []envelope.Record{rename(own), rename(kept)}
	require.NoError(t, k.MoveRecords(t.Context(), person("ada"), recs))
	for _, r := range recs {
		got := open(t, w.ring(t), r)
		require.NoError(t, got.Cells[0].Err)
		require.NoError(t, got.Cells[1].Err)
	}
	foreign := sealedOnly(seal(t, k, twoPeople("ada2", "ada", "bob"))) // another row is no rename
	foreign.RowID, foreign.Scopes[0].Subject = "eve", person("eve")
	require.ErrorIs(t, k.MoveRecords(t.Context(), person("ada"), []envelope.Record{foreign}), envelope.ErrDecrypt)
}

// A move that dies around its ledger entry is taken up again.
func TestCrashesOfAMove(t *testing.T) {
	w := newWorld(t)
	led := &hookedLedger{Ledger: w.ledger}
	w.ledger = led
	k := w.ring(t)
	ada := seal(t, k, record("ada", "a"))
	recs := []envelope.Record{ownedBy(ada, "eve")}
	led.before = func(envelope.LedgerEntry) error { return errReset }
	require.ErrorIs(t, k.MoveRecords(t.Context(), person("ada"), recs), envelope.ErrLedger)
	require.Equal(t, ada.Header, recs[0].Header)
	require.NoError(t, openErr(t, k, ada))
	led.after = func(envelope.LedgerEntry) error { return errReset }
	require.NoError(t, k.MoveRecords(t.Context(), person("ada"), recs), "the entry was found")
	recs = []envelope.Record{ownedBy(ada, "eve")} // the rows were not written: once more, elsewhere
	require.NoError(t, w.ring(t).MoveRecords(t.Context(), person("ada"), recs))
	require.NoError(t, openErr(t, k, recs[0]))
	require.Equal(t, 1, countKind(kinds(t, w, 0), envelope.LedgerMove))
}

// A forget or a suspension that this process has not seen yet is not got round by
// moving what its cached keys still open.
func TestMoveAfterAForgetElsewhere(t *testing.T) {
	for what, c := range map[string]struct {
		elsewhere func(k *envelope.Keyring) error
		want      error
	}{
		"purpose forgotten": {func(k *envelope.Keyring) error {
			_, err := k.ForgetPurpose(t.Context(), person("ada"), "marketing")
			return err
		}, envelope.ErrForgotten},
		"purpose suspended": {func(k *envelope.Keyring) error {
			return k.SuspendPurpose(t.Context(), person("ada"), "marketing")
		}, envelope.ErrSuspended},
		"forgotten and readmitted": {func(k *envelope.Keyring) error {
			if _, err := k.Forget(t.Context(), person("ada")); err != nil {
				return err
			}
			return k.Readmit(t.Context(), person("ada"))
		}, envelope.ErrForgotten},
		"purpose of the other forgotten": {func(k *envelope.Keyring) error {
			_, err := k.ForgetPurpose(t.Context(), person("eve"), "marketing")
			return err
		}, envelope.ErrForgotten},
	} {
		for _, before := range []bool{false, true} { // whether the ledger has the move already
			w := newWorld(t)
			k, other := w.ring(t), w.ring(t)
			seal(t, k, withPurpose(record("eve", "e"), "marketing"))
			likes := seal(t, k, withPurpose(record("ada", "l"), "marketing"))
			if before {
				require.NoError(t, k.MoveRecords(t.Context(), person("ada"), []envelope.Record{ownedBy(likes, "eve")}))
			}
			require.NoError(t, c.elsewhere(other), what)
			recs := []envelope.Record{ownedBy(likes, "eve")}
			require.ErrorIs(t, k.MoveRecords(t.Context(), person("ada"), recs), c.want, what)
			require.Equal(t, likes.Header, recs[0].Header, what)
			require.Error(t, openErr(t, w.ring(t), recs[0]), what)
		}
	}
}
