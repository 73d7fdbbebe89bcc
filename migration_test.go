package lethe_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/envelope/memledger"
	"github.com/lethe-go/lethe/envelope/memstore"
)

// mover is a row on its way from plaintext columns to sealed ones.
type mover struct {
	Keys     lethe.Keys              `lethe:"movers"`
	ID       string                  `lethe:"subject=mover"`
	Email    lethe.Secret[string]    `lethe:"email,mask=email"`
	EmailIdx lethe.BlindIndex        `lethe:"email_idx,of=email,norm=email/1"`
	Born     lethe.Secret[time.Time] `lethe:"born,purpose=age"`
	Note     lethe.Secret[string]    `lethe:"note"` // has always been sealed
	OldEmail *string                 `lethe:"plain=email"`
	OldBorn  sql.Null[time.Time]     `lethe:"plain=born"`
}

// moverColumns are a row of the table.
type moverColumns struct {
	keys, email, idx, born, note any
	oldEmail                     *string
	oldBorn                      sql.Null[time.Time]
}

// clockAt is a clock to be moved.
type clockAt struct{ nanos atomic.Int64 }

func (c *clockAt) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clockAt) advance(d time.Duration) { c.nanos.Add(int64(d)) }

func newClock() *clockAt {
	c := &clockAt{}
	c.nanos.Store(time.Now().UnixNano())
	return c
}

func moving(clock *clockAt, keep bool) lethe.Options {
	m := lethe.Migration{Until: clock.now().Add(24 * time.Hour), Keep: keep}
	return lethe.Options{Now: clock.now, Migrations: map[string]lethe.Migration{"email": m, "born": m}}
}

func movers(t *testing.T, ring *envelope.Keyring, opts lethe.Options) *lethe.Sealer[mover] {
	t.Helper()
	s, err := lethe.For[mover](ring, opts)
	require.NoError(t, err)
	return s
}

func save(t *testing.T, m *mover) moverColumns {
	t.Helper()
	value := func(v interface{ MarshalBinary() ([]byte, error) }) any {
		b, err := v.MarshalBinary()
		require.NoError(t, err)
		if len(b) == 0 {
			return nil
		}
		return b
	}
	return moverColumns{value(m.Keys), value(m.Email), value(m.EmailIdx), value(m.Born), value(m.Note), m.OldEmail, m.OldBorn}
}

func load(t *testing.T, id string, c moverColumns) mover {
	t.Helper()
	m := mover{ID: id, OldEmail: c.oldEmail, OldBorn: c.oldBorn}
	require.NoError(t, m.Keys.Scan(c.keys))
	require.NoError(t, m.Email.Scan(c.email))
	require.NoError(t, m.EmailIdx.Scan(c.idx))
	require.NoError(t, m.Born.Scan(c.born))
	require.NoError(t, m.Note.Scan(c.note))
	return m
}

func unsealedRow(t *testing.T, id, email string) mover {
	t.Helper()
	return load(t, id, moverColumns{oldEmail: &email, oldBorn: sql.Null[time.Time]{V: leakWhen, Valid: true}})
}

func requireStat(t *testing.T, s *lethe.Sealer[mover], field string, plain, sealed, backfilled int) {
	t.Helper()
	all := s.MigrationStats()
	i := slices.IndexFunc(all, func(m lethe.MigrationStat) bool { return m.Field == field })
	require.GreaterOrEqual(t, i, 0)
	require.Equal(t, [3]int{plain, sealed, backfilled}, [3]int{int(all[i].PlainReads), int(all[i].SealedReads), int(all[i].Backfilled)}, field)
}

func TestAPlaintextColumnIsReadWhileRowsMove(t *testing.T) {
	t.Parallel()
	clock := newClock()
	ring := envelopetest.NewKeyring(t)
	s := movers(t, ring, moving(clock, false))
	row := unsealedRow(t, "m1", "Ada@Example.com")
	require.NoError(t, s.Open(t.Context(), &row))
	require.Equal(t, "Ada@Example.com", reveal(t, row.Email))
	require.Equal(t, "A***@Example.com", row.Email.Masked())
	require.True(t, leakWhen.Equal(reveal(t, row.Born)))
	require.Equal(t, lethe.StatusNull, row.Note.Status())
	require.Equal(t, "[sealed]", fmt.Sprint(row.Email))
	_, err := row.Email.Value()
	require.ErrorIs(t, err, lethe.ErrNotSealed, "what was read as plaintext is not saved as if it were sealed")
	requireStat(t, s, "email", 1, 0, 0)
	q, err := s.Query(t.Context(), "email_idx", "ada@example.com")
	require.NoError(t, err)
	found, err := q.Match(&row)
	require.NoError(t, err)
	require.True(t, found)

	// A program that changes something else and saves the row moves it.
	require.NoError(t, s.Seal(t.Context(), &row))
	require.Nil(t, row.OldEmail)
	require.False(t, row.OldBorn.Valid)
	requireStat(t, s, "email", 1, 0, 1)
	requireStat(t, s, "born", 1, 0, 1)
	again := load(t, "m1", save(t, &row))
	stale := "stale@example.com"
	again.OldEmail = &stale
	require.NoError(t, s.Open(t.Context(), &again))
	require.Equal(t, "Ada@Example.com", reveal(t, again.Email), "what is sealed counts")
	require.True(t, leakWhen.Equal(reveal(t, again.Born)))
	requireStat(t, s, "email", 1, 1, 1)
	q, err = s.Query(t.Context(), "email_idx", "ada@example.com")
	require.NoError(t, err)
	require.Contains(t, q.Terms(), again.EmailIdx.Bytes())
}

func TestSealOfPlaintextColumns(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	clock := newClock()
	drop, keep := movers(t, ring, moving(clock, false)), movers(t, ring, moving(clock, true))
	ctx := t.Context()

	row := mover{ID: "n1", Email: lethe.Of("new@example.com")}
	require.NoError(t, keep.Seal(ctx, &row))
	require.Equal(t, "new@example.com", *row.OldEmail, "for readers of the plaintext column")
	require.False(t, row.OldBorn.Valid)
	row = load(t, "n1", save(t, &row))
	row.Email = lethe.Of("newer@example.com")
	require.NoError(t, keep.Seal(ctx, &row))
	require.Equal(t, "newer@example.com", *row.OldEmail)
	requireStat(t, keep, "email", 0, 0, 0)

	row = load(t, "n1", save(t, &row))
	row.Note = lethe.Of("a note")
	require.NoError(t, drop.Seal(ctx, &row))
	require.NotNil(t, row.OldEmail, "not compared: SealPlain drops it")
	row = load(t, "n1", save(t, &row))
	row.Email = lethe.Of("newest@example.com")
	require.NoError(t, drop.Seal(ctx, &row))
	require.Nil(t, row.OldEmail)

	// NULL set by the program is NULL in both.
	for _, s := range []*lethe.Sealer[mover]{drop, keep} {
		row = unsealedRow(t, "n2", "gone@example.com")
		row.Email = lethe.Null[string]()
		require.NoError(t, s.Seal(ctx, &row))
		require.Nil(t, row.OldEmail)
		row = load(t, "n2", save(t, &row))
		require.NoError(t, s.Open(ctx, &row))
		require.Equal(t, lethe.StatusNull, row.Email.Status())
		require.True(t, leakWhen.Equal(reveal(t, row.Born)))
	}

	// Not opened before, with Keep, in a slice, and by Reseal.
	rows := []mover{unsealedRow(t, "n3", "three@example.com"), {ID: "n4", Email: lethe.Of("four@example.com")}}
	require.NoError(t, keep.SealSlice(ctx, rows))
	require.Equal(t, "three@example.com", *rows[0].OldEmail)
	require.Equal(t, "four@example.com", *rows[1].OldEmail)
	row = load(t, "n3", save(t, &rows[0]))
	require.NoError(t, drop.Open(ctx, &row))
	require.Equal(t, "three@example.com", reveal(t, row.Email))
	require.NoError(t, drop.Reseal(ctx, &row))
	row = unsealedRow(t, "n5", "five@example.com")
	require.NoError(t, drop.Open(ctx, &row))
	require.NoError(t, drop.Reseal(ctx, &row))
	require.Nil(t, row.OldEmail)
	require.NoError(t, drop.Open(ctx, &row))
	require.Equal(t, "five@example.com", reveal(t, row.Email))

	// A column that was not selected stays as it is.
	row = load(t, "n3", save(t, &rows[0]))
	row.Email = lethe.Secret[string]{}
	row.Note = lethe.Of("another")
	require.NoError(t, drop.Seal(ctx, &row))
	require.True(t, row.Email.IsZero())
	require.NotNil(t, row.OldEmail)
}

func TestPlaintextOfForgottenAndSuspendedPeople(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	s := movers(t, ring, moving(newClock(), false))
	ctx := t.Context()
	who := func(id string) lethe.Subject { return lethe.Subject{Kind: "mover", ID: id} }
	sealed := []mover{{ID: "m2", Note: lethe.Of("x"), Born: lethe.Of(leakWhen)}, {ID: "m4", Note: lethe.Of("x"), Born: lethe.Of(leakWhen)}}
	require.NoError(t, s.SealSlice(ctx, sealed))
	for _, id := range []string{"m1", "m2"} { // one that never had keys, and one that has
		_, err := ring.Forget(ctx, who(id))
		require.NoError(t, err)
	}
	require.NoError(t, ring.Suspend(ctx, who("m3")))
	require.NoError(t, ring.SuspendPurpose(ctx, who("m4"), "age"))
	rows := make([]mover, 6)
	for i := range rows {
		rows[i] = unsealedRow(t, fmt.Sprintf("m%d", i), fmt.Sprintf("p%d@example.com", i))
	}
	rows[5].ID = ""
	err := s.OpenSlice(ctx, rows)
	var partly *lethe.RowErrors
	require.ErrorAs(t, err, &partly)
	require.Len(t, partly.Errors, 2, "the row that is nobody's")
	require.ErrorIs(t, err, lethe.ErrNoSubject)
	check := func() {
		t.Helper()
		require.Equal(t, "p0@example.com", reveal(t, rows[0].Email))
		for _, i := range []int{1, 2} {
			require.Equal(t, lethe.StatusForgotten, rows[i].Email.Status())
			_, err = rows[i].Email.Reveal()
			require.ErrorIs(t, err, lethe.ErrForgotten)
			require.Equal(t, "[forgotten]", rows[i].Email.Masked())
		}
		for _, denied := range []lethe.Secret[time.Time]{rows[3].Born, rows[4].Born} {
			require.Equal(t, lethe.StatusDenied, denied.Status())
			_, err = denied.Reveal()
			require.ErrorIs(t, err, lethe.ErrSuspended)
		}
		require.Equal(t, lethe.StatusDenied, rows[3].Email.Status())
		require.Equal(t, "p4@example.com", reveal(t, rows[4].Email), "another purpose")
		require.Equal(t, lethe.StatusFailed, rows[5].Email.Status())
	}
	check()
	require.Error(t, s.OpenSlice(ctx, rows), "again, from the states they have now")
	check()
	requireStat(t, s, "email", 2, 0, 0)
	require.ErrorIs(t, s.Seal(ctx, &rows[1]), lethe.ErrForgotten)
	require.ErrorIs(t, s.Seal(ctx, &rows[3]), lethe.ErrSuspended)
	require.NotNil(t, rows[3].OldEmail)
	require.Equal(t, lethe.StatusDenied, rows[3].Email.Status())

	loaded := make([]mover, 5)
	for i := range loaded {
		loaded[i] = unsealedRow(t, fmt.Sprintf("m%d", i), fmt.Sprintf("p%d@example.com", i))
	}
	changed, err := s.SealPlain(ctx, loaded)
	require.Equal(t, []int{0}, changed)
	require.ErrorAs(t, err, &partly)
	for i, want := range []error{nil, lethe.ErrForgotten, lethe.ErrForgotten, lethe.ErrSuspended, lethe.ErrSuspended} {
		of := slices.IndexFunc(partly.Errors, func(e lethe.RowError) bool { return e.Index == i })
		require.Equal(t, want != nil, of >= 0, i)
		if want != nil {
			require.ErrorIs(t, partly.Errors[of].Err, want)
			require.NotNil(t, loaded[i].OldEmail)
			require.True(t, loaded[i].OldBorn.Valid)
			require.True(t, loaded[i].Keys.IsZero())
			require.Equal(t, lethe.StatusNull, loaded[i].Email.Status())
		}
	}
	require.NoError(t, ring.Resume(ctx, who("m3")))
	require.NoError(t, s.Open(ctx, &rows[3]))
	require.Equal(t, "p3@example.com", reveal(t, rows[3].Email))
}

func TestThePolicyHoldsForPlaintextColumns(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	opts := moving(newClock(), false)
	var asked atomic.Int64
	decision := map[string]lethe.Decision{"email": lethe.MaskOnly, "born": lethe.Deny, "note": lethe.Allow}
	opts.Policy = func(_ context.Context, a lethe.Access) lethe.Decision {
		asked.Add(1)
		return decision[a.Field]
	}
	s := movers(t, ring, opts)
	row := unsealedRow(t, "m1", "ada@example.com")
	for range 2 {
		require.NoError(t, s.Open(t.Context(), &row))
		require.Equal(t, lethe.StatusDenied, row.Email.Status())
		require.Equal(t, "a***@example.com", row.Email.Masked())
		_, err := row.Email.Reveal()
		require.ErrorIs(t, err, lethe.ErrDenied)
		require.Equal(t, lethe.StatusDenied, row.Born.Status())
		require.Equal(t, "[denied]", row.Born.Masked())
	}
	require.EqualValues(t, 6, asked.Load(), "once per field and call")
	requireStat(t, s, "born", 0, 0, 0)
	decision["email"] = lethe.Allow
	require.NoError(t, s.Open(t.Context(), &row, lethe.Masks()))
	require.Equal(t, lethe.StatusDenied, row.Email.Status())
	row = unsealedRow(t, "m1", "ada@example.com")
	require.NoError(t, s.Open(t.Context(), &row, lethe.Fields("note")))
	require.Equal(t, lethe.StatusNull, row.Email.Status())
	require.NoError(t, s.Open(t.Context(), &row, lethe.Fields("email")))
	require.Equal(t, "ada@example.com", reveal(t, row.Email))
	require.Equal(t, lethe.StatusNull, row.Born.Status())

	// Who may not read a field may save the row.
	row = unsealedRow(t, "m2", "bob@example.com")
	require.NoError(t, s.Open(t.Context(), &row))
	require.NoError(t, s.Seal(t.Context(), &row))
	require.False(t, row.OldBorn.Valid)
	row = load(t, "m2", save(t, &row))
	decision["born"] = lethe.Allow
	require.NoError(t, s.Open(t.Context(), &row))
	require.True(t, leakWhen.Equal(reveal(t, row.Born)))
}

func TestAMigrationEnds(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	clock := newClock()
	opts := moving(clock, false)
	opts.Migrations["born"] = lethe.Migration{Until: clock.now().Add(48 * time.Hour)}
	s := movers(t, ring, opts)
	ctx := t.Context()
	row := unsealedRow(t, "m1", "ada@example.com")
	clock.advance(24*time.Hour - 1)
	require.NoError(t, s.Open(ctx, &row))
	clock.advance(1)
	calls := map[string]func() error{
		"Open":        func() error { return s.Open(ctx, &row) },
		"OpenSlice":   func() error { return s.OpenSlice(ctx, nil) },
		"Open email":  func() error { return s.Open(ctx, &row, lethe.Fields("email")) },
		"Seal":        func() error { return s.Seal(ctx, &row) },
		"SealSlice":   func() error { return s.Tenant("t").SealSlice(ctx, []mover{row}) },
		"Reseal":      func() error { return s.Reseal(ctx, &row) },
		"Reindex":     func() error { return s.Reindex(ctx, []mover{row}) },
		"SealPlain":   func() error { _, err := s.SealPlain(ctx, []mover{row}); return err },
		"Unseal":      func() error { _, err := s.Unseal(ctx, []mover{row}); return err },
		"Open a view": func() error { return s.Tenant("t").Open(ctx, &row) },
	}
	for name, call := range calls {
		err := call()
		require.ErrorIs(t, err, lethe.ErrMigrationOver, name)
		require.ErrorContains(t, err, "later Until", name)
	}
	require.Equal(t, "ada@example.com", reveal(t, row.Email), "nothing was changed")
	require.NotNil(t, row.OldEmail)
	require.NoError(t, s.Open(ctx, &row, lethe.Fields("born")), "its own has not ended")
	clock.advance(24 * time.Hour)
	require.ErrorIs(t, s.Open(ctx, &row, lethe.Fields("born")), lethe.ErrMigrationOver)
	require.NoError(t, s.Open(ctx, &row, lethe.Fields("note")))
}

func TestForWantsMigrationsThatEnd(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	clock := newClock()
	good := lethe.Migration{Until: clock.now().Add(lethe.MaxMigration)}
	for name, c := range map[string]struct {
		all   map[string]lethe.Migration
		words []string
	}{
		"none":     {nil, []string{".OldEmail:", "plain=email needs an entry in Options.Migrations", ".OldBorn:"}},
		"no until": {map[string]lethe.Migration{"email": {}, "born": good}, []string{"needs Until"}},
		"over":     {map[string]lethe.Migration{"email": {Until: clock.now()}, "born": good}, []string{"ended at", "SealPlain"}},
		"too long": {map[string]lethe.Migration{"email": good, "born": {Until: good.Until.Add(1)}}, []string{"90 days"}},
		"too many": {map[string]lethe.Migration{"email": good, "born": good, "note": good}, []string{`"note"`, "no field tagged plain= names"}},
	} {
		_, err := lethe.For[mover](ring, lethe.Options{Now: clock.now, Migrations: c.all})
		require.Error(t, err, name)
		for _, word := range c.words {
			require.ErrorContains(t, err, word, name)
		}
	}
	s, err := lethe.For[mover](ring, lethe.Options{Now: clock.now, Migrations: map[string]lethe.Migration{"email": good, "born": good}})
	require.NoError(t, err)
	require.Len(t, s.MigrationStats(), 2)
	_, err = lethe.For[person](ring, lethe.Options{Migrations: map[string]lethe.Migration{"email": good}})
	require.ErrorContains(t, err, `"email"`)
	p, err := lethe.For[person](ring)
	require.NoError(t, err)
	require.Empty(t, p.MigrationStats())
	_, err = p.SealPlain(t.Context(), []person{newPerson(1)})
	require.ErrorContains(t, err, "plain=")
	_, err = p.Unseal(t.Context(), []person{newPerson(1)})
	require.ErrorContains(t, err, "plain=")
	_, err = lethe.Marshal(t.Context(), s, &mover{ID: "1"})
	require.ErrorContains(t, err, "plaintext column")
	require.ErrorContains(t, lethe.Unmarshal(t.Context(), s, []byte(`{}`), &mover{}), "plaintext column")
}

func TestTagsOfPlaintextColumns(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	type old struct {
		Text *string `lethe:"plain=fine"`
	}
	for name, check := range map[string]func(t *testing.T, ring *envelope.Keyring){
		"no NULL": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Old  string     `lethe:"plain=fine"`
		}](".Old:", "NULL", "*string or sql.Null[string]"),
		"another type": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Old  *int       `lethe:"plain=fine"`
		}](".Old:", "*string or sql.Null[string]"),
		"an old null type": refusesTags[struct {
			Keys lethe.Keys     `lethe:"rows"`
			ID   string         `lethe:"subject=user"`
			Fine secretText     `lethe:"fine"`
			Old  sql.NullString `lethe:"plain=fine"`
		}](".Old:", "*string or sql.Null[string]"),
		"nobody's": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Old  *string    `lethe:"plain=find"`
		}](".Old:", "plain=find names no Secret"),
		"of an index": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"fine"`
			Idx  lethe.BlindIndex `lethe:"idx,of=fine,norm=exact/1"`
			Old  *string          `lethe:"plain=idx"`
		}](".Old:", "names no Secret"),
		"twice": refusesTags[struct {
			Keys  lethe.Keys `lethe:"rows"`
			ID    string     `lethe:"subject=user"`
			Fine  secretText `lethe:"fine"`
			Old   *string    `lethe:"plain=fine"`
			Older *string    `lethe:"plain=fine"`
		}](".Older:", "already"),
		"with options": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Old  *string    `lethe:"plain=fine,keep"`
		}](".Old:", "nothing else"),
		"unexported": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			old  *string    `lethe:"plain=fine"`
		}](".old:", "export it"),
		"far from its Secret": reportsTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Old  *old       `lethe:"old"`
		}](".Old:"),
		"in a document": refusesTags[struct {
			_    lethe.Document `lethe:"docs"`
			ID   string         `lethe:"subject=user"`
			Fine string         `lethe:"fine"`
			Old  *string        `lethe:"plain=fine"`
		}](".Old:", "document"),
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); check(t, ring) })
	}

	type home struct {
		Street secretText `lethe:"street"`
		Old    *string    `lethe:"plain=street"`
	}
	type nested struct {
		Keys lethe.Keys                `lethe:"rows"`
		ID   string                    `lethe:"subject=user"`
		Home *home                     `lethe:"home"`
		Raw  lethe.Secret[[]byte]      `lethe:"raw"`
		Old  *[]byte                   `lethe:"plain=raw"`
		JSON lethe.Secret[[]int]       `lethe:"json,json"`
		Was  sql.Null[[]int]           `lethe:"plain=json"`
		N    lethe.Secret[json.Number] `lethe:"n"`
	}
	until := lethe.Migration{Until: time.Now().Add(time.Hour)}
	s, err := lethe.For[nested](ring, lethe.Options{Migrations: map[string]lethe.Migration{"home.street": until, "raw": until, "json": until}})
	require.NoError(t, err)
	street, raw := "Main Street", []byte{}
	rows := []nested{{ID: "1"}, {ID: "2", Home: &home{Old: &street}, Old: &raw, Was: sql.Null[[]int]{V: []int{1, 2}, Valid: true}}}
	changed, err := s.SealPlain(t.Context(), rows)
	require.NoError(t, err)
	require.Equal(t, []int{1}, changed)
	require.True(t, rows[0].Keys.IsZero(), "nothing to do")
	require.Nil(t, rows[1].Home.Old)
	require.NoError(t, s.OpenSlice(t.Context(), rows))
	require.Equal(t, street, reveal(t, rows[1].Home.Street))
	require.Equal(t, raw, reveal(t, rows[1].Raw))
	require.Equal(t, []int{1, 2}, reveal(t, rows[1].JSON))
	changed, err = s.Unseal(t.Context(), rows)
	require.NoError(t, err)
	require.Equal(t, []int{1}, changed)
	require.Equal(t, street, *rows[1].Home.Old)
	require.Equal(t, raw, *rows[1].Old)
	require.Equal(t, []int{1, 2}, rows[1].Was.V)

	// Rows that share a struct are refused as Seal refuses them, and stay as they are.
	shared := &home{Old: &street}
	twice := []nested{{ID: "3", Home: shared}, {ID: "4", Home: shared}}
	require.ErrorContains(t, s.SealSlice(t.Context(), twice), "one struct")
	require.True(t, shared.Street.IsZero())
	require.Equal(t, &street, shared.Old)
}

// memTable is a table that moves, with what each row must read as.
type memTable struct {
	columns []moverColumns
	email   []string // "": NULL
	sealed  []bool   // some of the row was sealed, so that it has Keys
}

// A random mixture of plaintext and sealed rows, whatever is done with it, reads
// back what was written last.
func TestRowsReadBackWhereverTheyAre(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 3, 4} {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 6))
			ring := envelopetest.NewKeyring(t)
			clock := newClock()
			sealers := []*lethe.Sealer[mover]{movers(t, ring, moving(clock, false)), movers(t, ring, moving(clock, true))}
			const n = 24
			id := func(i int) string { return "m" + strconv.Itoa(i%17) }
			table := memTable{make([]moverColumns, n), make([]string, n), make([]bool, n)}
			for i := range n {
				if random.IntN(4) > 0 {
					table.email[i] = fmt.Sprintf("p%d@example.com", i)
					text := table.email[i]
					table.columns[i].oldEmail = &text
				}
			}
			read := func(s *lethe.Sealer[mover], pick []int) []mover {
				rows := make([]mover, len(pick))
				for j, i := range pick {
					rows[j] = load(t, id(i), table.columns[i])
				}
				require.NoError(t, s.OpenSlice(t.Context(), rows))
				for j, i := range pick {
					if table.email[i] == "" {
						require.Equal(t, lethe.StatusNull, rows[j].Email.Status())
						continue
					}
					require.Equal(t, table.email[i], reveal(t, rows[j].Email))
				}
				return rows
			}
			write := func(i int, m *mover) {
				table.columns[i] = save(t, m)
				table.sealed[i] = true
			}
			all := make([]int, n)
			for i := range all {
				all[i] = i
			}
			for step := range 120 {
				s := sealers[random.IntN(2)]
				pick := random.Perm(n)[:1+random.IntN(5)]
				switch random.IntN(6) {
				case 0:
					read(s, pick)
				case 1: // a change, of a row that was read or not
					rows := read(s, pick)
					if random.IntN(2) == 0 {
						for j, i := range pick {
							rows[j] = load(t, id(i), table.columns[i])
						}
					}
					for j, i := range pick {
						table.email[i] = fmt.Sprintf("q%d@example.com", step*100+i)
						rows[j].Email = lethe.Of(table.email[i])
					}
					require.NoError(t, s.SealSlice(t.Context(), rows))
					for j, i := range pick {
						write(i, &rows[j])
					}
				case 2: // of another field
					rows := read(s, pick)
					for j := range rows {
						rows[j].Note = lethe.Of("note")
						require.NoError(t, s.Seal(t.Context(), &rows[j]))
						write(pick[j], &rows[j])
					}
				case 3:
					rows := make([]mover, len(pick))
					for j, i := range pick {
						rows[j] = load(t, id(i), table.columns[i])
					}
					changed, err := s.SealPlain(t.Context(), rows)
					require.NoError(t, err)
					for _, j := range changed {
						write(pick[j], &rows[j])
						require.True(t, s == sealers[1] || rows[j].OldEmail == nil)
					}
					again, err := s.SealPlain(t.Context(), rows)
					require.NoError(t, err)
					require.Empty(t, again)
				case 4: // a new NULL
					rows := read(s, pick)
					for j, i := range pick {
						table.email[i] = ""
						rows[j].Email = lethe.Null[string]()
						require.NoError(t, s.Seal(t.Context(), &rows[j]))
						write(i, &rows[j])
					}
				case 5:
					rows := make([]mover, len(pick))
					for j, i := range pick {
						rows[j] = load(t, id(i), table.columns[i])
					}
					changed, err := s.Unseal(t.Context(), rows)
					require.NoError(t, err)
					for _, j := range changed {
						write(pick[j], &rows[j])
						require.Equal(t, lethe.StatusNull, rows[j].Email.Status())
					}
				}
			}
			read(sealers[0], all)
			rows := make([]mover, n)
			for i := range rows {
				rows[i] = load(t, id(i), table.columns[i])
			}
			_, err := sealers[0].SealPlain(t.Context(), rows)
			require.NoError(t, err)
			for i := range rows {
				require.Nil(t, rows[i].OldEmail)
				if table.email[i] != "" {
					q, err := sealers[0].Query(t.Context(), "email_idx", table.email[i])
					require.NoError(t, err)
					require.Contains(t, q.Terms(), rows[i].EmailIdx.Bytes())
				}
			}
		})
	}
}

func TestSealPlainComparesBeforeItDrops(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	clock := newClock()
	s, keep := movers(t, ring, moving(clock, false)), movers(t, ring, moving(clock, true))
	rows := make([]mover, 5)
	for i := range rows {
		rows[i] = unsealedRow(t, fmt.Sprintf("m%d", i), fmt.Sprintf("p%d@example.com", i))
	}
	changed, err := keep.SealPlain(t.Context(), rows)
	require.NoError(t, err)
	require.Equal(t, []int{0, 1, 2, 3, 4}, changed)
	for i := range rows {
		rows[i] = load(t, rows[i].ID, save(t, &rows[i]))
		require.NotNil(t, rows[i].OldEmail)
	}
	changed, err = keep.SealPlain(t.Context(), rows)
	require.NoError(t, err)
	require.Empty(t, changed, "done already")
	requireStat(t, keep, "email", 0, 0, 5)

	other := "written-by-old-code@example.com"
	rows[1].OldEmail = &other
	rows[2].OldBorn.V = rows[2].OldBorn.V.UTC() // the same instant
	rows[3].Email = lethe.Secret[string]{}      // not selected
	rows[4] = unsealedRow(t, "m4", "p4@example.com")
	changed, err = s.SealPlain(t.Context(), rows)
	require.Equal(t, []int{0, 2, 4}, changed)
	var partly *lethe.RowErrors
	require.ErrorAs(t, err, &partly)
	require.Len(t, partly.Errors, 2)
	require.ErrorIs(t, partly.Errors[0].Err, lethe.ErrPlainDiffers)
	require.Equal(t, 1, partly.Errors[0].Index)
	require.ErrorIs(t, partly.Errors[1].Err, lethe.ErrNotSealed)
	require.NotContains(t, err.Error(), "old-code")
	require.Equal(t, &other, rows[1].OldEmail)
	require.True(t, rows[1].OldBorn.Valid, "the row as a whole stays as it was")
	for _, i := range changed {
		require.Nil(t, rows[i].OldEmail)
		require.False(t, rows[i].OldBorn.Valid)
		require.Equal(t, lethe.StatusSealed, rows[i].Email.Status(), "the comparison opens nothing for the caller")
	}
}

func TestUnsealLeadsBack(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	s := movers(t, ring, moving(newClock(), false))
	ctx := t.Context()
	rows := make([]mover, 4)
	for i := range rows {
		rows[i] = unsealedRow(t, fmt.Sprintf("m%d", i), fmt.Sprintf("p%d@example.com", i))
	}
	rows[1].Note = lethe.Of("stays sealed")
	changed, err := s.Rows().SealPlain(ctx, rows)
	require.NoError(t, err)
	require.Len(t, changed, len(rows))
	require.Contains(t, s.Describe().Fields, lethe.FieldDescription{GoName: "OldBorn", Role: lethe.RolePlain, Of: "born", Kind: "mover", Purpose: "age", Value: "sql.Null[time.Time]", Index: []int{7}})
	_, err = ring.Forget(ctx, lethe.Subject{Kind: "mover", ID: "m2"})
	require.NoError(t, err)
	for i := range rows {
		rows[i] = load(t, rows[i].ID, save(t, &rows[i]))
	}
	before := rows[2].Keys
	changed, err = s.Rows().Unseal(ctx, &rows)
	require.ErrorIs(t, err, lethe.ErrForgotten)
	require.Equal(t, []int{0, 1, 3}, changed)
	for _, i := range changed {
		require.Equal(t, fmt.Sprintf("p%d@example.com", i), *rows[i].OldEmail)
		require.True(t, leakWhen.Equal(rows[i].OldBorn.V))
		require.Equal(t, lethe.StatusNull, rows[i].Email.Status())
		v, err := rows[i].EmailIdx.Value()
		require.NoError(t, err)
		require.Nil(t, v)
	}
	v, err := rows[0].Keys.Value()
	require.NoError(t, err)
	require.Nil(t, v, "NULL is written")
	require.True(t, rows[0].Keys.IsZero())
	require.False(t, rows[1].Keys.IsZero())
	require.True(t, before.Equal(rows[2].Keys))
	require.Equal(t, lethe.StatusSealed, rows[2].Email.Status())
	require.Nil(t, rows[2].OldEmail)
	changed, err = s.Unseal(ctx, rows[:2])
	require.NoError(t, err)
	require.Empty(t, changed)
	again := load(t, "m1", save(t, &rows[1]))
	require.NoError(t, s.Open(ctx, &again))
	require.Equal(t, "p1@example.com", reveal(t, again.Email))
	require.Equal(t, "stays sealed", reveal(t, again.Note))
	require.NoError(t, s.Seal(ctx, &again), "and back again")
	require.Nil(t, again.OldEmail)

	var none lethe.Keys
	_, err = none.Value()
	require.ErrorIs(t, err, lethe.ErrNotSealed, "of a row that nobody unsealed")
}

// With the key store away nothing is read, and no row changes.
func TestAMigrationFailsClosed(t *testing.T) {
	t.Parallel()
	store := &awayStore{Store: memstore.New()}
	key := envelopetest.NewKey(t)
	opts := envelope.Options{Ledger: &memledger.Ledger{}}
	require.NoError(t, envelope.Init(t.Context(), store, key, opts))
	ring, err := envelope.NewKeyring(t.Context(), store, key, opts)
	require.NoError(t, err)
	t.Cleanup(ring.Close)
	s := movers(t, ring, moving(newClock(), false))
	row, sealed := unsealedRow(t, "m1", "ada@example.com"), mover{ID: "m2", Email: lethe.Of("x")}
	require.NoError(t, s.Open(t.Context(), &row))
	require.NoError(t, s.Seal(t.Context(), &sealed))
	sealed = load(t, "m2", save(t, &sealed))
	store.away.Store(true)
	rows := []mover{unsealedRow(t, "m3", "cyd@example.com"), row, sealed}
	for _, call := range []func() error{
		func() error { return s.OpenSlice(t.Context(), rows) },
		func() error { return s.SealSlice(t.Context(), rows[:2]) },
		func() error { return s.Seal(t.Context(), &rows[1]) },
		func() error { _, err := s.SealPlain(t.Context(), rows); return err },
	} {
		require.ErrorIs(t, call(), lethe.ErrUnavailable)
		require.Equal(t, lethe.StatusNull, rows[0].Email.Status())
		require.Equal(t, "cyd@example.com", *rows[0].OldEmail)
		require.Equal(t, lethe.StatusOpen, rows[1].Email.Status())
		require.Equal(t, "ada@example.com", *rows[1].OldEmail)
		require.Equal(t, lethe.StatusSealed, rows[2].Email.Status())
		require.True(t, rows[0].Keys.IsZero())
	}
	require.NoError(t, s.Open(t.Context(), &rows[2]), "its keys are in memory, and nothing is read in plaintext")
	store.away.Store(false)
	require.NoError(t, s.OpenSlice(t.Context(), rows))
}

// A row that cannot be sealed does not keep the others from it, and shows nothing.
func TestErrorsOfMigrationsShowNothing(t *testing.T) {
	t.Parallel()
	type row struct {
		Keys lethe.Keys            `lethe:"rows"`
		ID   string                `lethe:"subject=leaker"`
		V    lethe.Secret[tattler] `lethe:"v"`
		Mute lethe.Secret[mute]    `lethe:"mute"`
		OldV *tattler              `lethe:"plain=v"`
		OldM *mute                 `lethe:"plain=mute"`
	}
	ring := envelopetest.NewKeyring(t)
	m := lethe.Migration{Until: time.Now().Add(time.Hour), Keep: true}
	s, err := lethe.For[row](ring, lethe.Options{Migrations: map[string]lethe.Migration{"v": m, "mute": m}})
	require.NoError(t, err)
	for _, word := range []string{leakText, leakInput} {
		load := func(id string, v *tattler, m *mute) row {
			r := row{ID: id, OldV: v, OldM: m}
			require.NoError(t, r.V.Scan(nil))
			require.NoError(t, r.Mute.Scan(nil))
			return r
		}
		rows := []row{load("1", &tattler{word}, nil), load("2", nil, &mute{word}), load("", nil, &mute{word})}
		err := s.OpenSlice(t.Context(), rows)
		requireQuiet(t, "Open", err)
		_, err = rows[0].V.Reveal()
		requireQuiet(t, "Reveal", err)
		requireQuiet(t, "Seal", s.Seal(t.Context(), &rows[0]))
		rows = []row{load("1", &tattler{word}, nil), load("2", nil, &mute{word}), load("", nil, &mute{word})}
		requireQuiet(t, "SealSlice", s.SealSlice(t.Context(), rows))
		changed, err := s.SealPlain(t.Context(), rows)
		require.Equal(t, []int{1}, changed)
		requireQuiet(t, "SealPlain", err)
		changed, err = s.Unseal(t.Context(), rows)
		require.Empty(t, changed)
		requireQuiet(t, "Unseal of what does not decode", err)
		requireNoLeak(t, "the stats", fmt.Sprintf("%+v %v", s.MigrationStats(), s))
	}
}

func TestMigrationsAreCountedOnce(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	s := movers(t, ring, moving(newClock(), false))
	var wg sync.WaitGroup
	const workers, each = 8, 25
	for w := range workers {
		wg.Go(func() {
			view := s
			if w%2 == 1 {
				view = s.Tenant("t" + strconv.Itoa(w))
			}
			for i := range each {
				row := unsealedRow(t, fmt.Sprintf("m%d", i), strings.Repeat("x", i+1))
				if err := view.Open(t.Context(), &row); err != nil {
					t.Error(err)
				}
				rows := []mover{unsealedRow(t, fmt.Sprintf("m%d", i), "x")}
				if changed, err := view.SealPlain(t.Context(), rows); err != nil || len(changed) != 1 {
					t.Error(changed, err)
				}
				if err := view.OpenSlice(t.Context(), rows); err != nil {
					t.Error(err)
				}
				_ = view.MigrationStats()
			}
		})
	}
	wg.Wait()
	requireStat(t, s, "email", workers*each, workers*each, workers*each)
}

// While an index is rebuilt its rows are found under the old key and the new one.
func TestAQueryFindsRowsOfAHalfDoneReindex(t *testing.T) {
	t.Parallel()
	s, ring := people(t)
	rows := make([]person, 8)
	for i := range rows {
		rows[i] = newPerson(i)
	}
	require.NoError(t, s.SealSlice(t.Context(), rows))
	require.NoError(t, ring.RotateIndexKey(t.Context(), "", "people", "email_idx"))
	find := func(i int) (found []int) {
		q, err := s.Query(t.Context(), "email_idx", fmt.Sprintf("p%d@example.com", i))
		require.NoError(t, err)
		for j := range rows {
			for _, term := range q.Terms() {
				if slices.Equal(term, rows[j].EmailIdx.Bytes()) {
					found = append(found, j)
				}
			}
		}
		return found
	}
	for done := 0; done <= len(rows); done += 4 {
		if done > 0 {
			require.NoError(t, s.Reindex(t.Context(), rows[done-4:done]))
		}
		for i := range rows {
			require.Equal(t, []int{i}, find(i), "%d rows rebuilt", done)
		}
		if done == 4 {
			rows[7] = newPerson(7)
			require.NoError(t, s.Seal(t.Context(), &rows[7]), "a row written meanwhile")
		}
	}
	_, err := ring.RetireIndexKeys(t.Context(), "", "people", "email_idx")
	require.NoError(t, err)
	require.Equal(t, []int{7}, find(7))
}
