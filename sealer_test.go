package lethe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

type address struct {
	Street lethe.Secret[string] `lethe:"street"`
	City   string
}

type person struct {
	Keys     lethe.Keys              `lethe:"people"`
	ID       string                  `lethe:"subject=person,id"`
	Email    lethe.Secret[string]    `lethe:"email,mask=email"`
	EmailIdx lethe.BlindIndex        `lethe:"email_idx,of=email,norm=email/1,bits=64"`
	Born     lethe.Secret[time.Time] `lethe:"born,mask=year"`
	News     lethe.Secret[bool]      `lethe:"news,purpose=marketing"`
	Home     address                 `lethe:"home"`
	Work     *address                `lethe:"work"`
	Friend   string                  `lethe:"subject=person,group=friend"`
	Told     lethe.Secret[string]    `lethe:"told,group=friend"`
}

func newPerson(i int) person {
	return person{
		ID: fmt.Sprint("p", i), Email: lethe.Of(fmt.Sprintf("P%d@Example.com", i)),
		Born: lethe.Of(time.Date(1980+i%30, 2, 3, 0, 0, 0, 0, time.UTC)), News: lethe.Of(true),
		Home: address{Street: lethe.Of("Home Street"), City: "Home"}, Work: &address{Street: lethe.Of("Work Street")},
	}
}

func people(t *testing.T, opts ...lethe.Options) (*lethe.Sealer[person], *envelope.Keyring) {
	t.Helper()
	ring := envelopetest.NewKeyring(t)
	s, err := lethe.For[person](ring, opts...)
	require.NoError(t, err)
	return s, ring
}

func reveal[T any](t *testing.T, s lethe.Secret[T]) T {
	t.Helper()
	v, err := s.Reveal()
	require.NoError(t, err)
	return v
}

// stored is what comes back from a database: everything sealed.
func stored(t *testing.T, p person) person {
	t.Helper()
	out := person{ID: p.ID, Friend: p.Friend, Home: address{City: p.Home.City}, Work: &address{}}
	carry := func(to interface{ Scan(any) error }, from interface {
		MarshalBinary() ([]byte, error)
	}) {
		b, err := from.MarshalBinary()
		require.NoError(t, err)
		if len(b) == 0 {
			require.NoError(t, to.Scan(nil))
			return
		}
		require.NoError(t, to.Scan(b))
	}
	carry(&out.Keys, p.Keys)
	carry(&out.Email, p.Email)
	carry(&out.EmailIdx, p.EmailIdx)
	carry(&out.Born, p.Born)
	carry(&out.News, p.News)
	carry(&out.Home.Street, p.Home.Street)
	if p.Work != nil {
		carry(&out.Work.Street, p.Work.Street)
	}
	carry(&out.Told, p.Told)
	return out
}

func TestSealThenOpen(t *testing.T) {
	s, _ := people(t)
	p := newPerson(1)
	require.NoError(t, s.Seal(t.Context(), &p))
	require.Len(t, p.Keys.Bytes(), 3+2*107, "no scope for the friend who is not named")
	require.Equal(t, lethe.StatusSealed, p.Email.Status())
	require.Equal(t, lethe.StatusNull, p.Told.Status())
	email, err := p.Email.MarshalBinary()
	require.NoError(t, err)
	require.Len(t, email, len("P1@Example.com")+29)

	row := stored(t, p)
	_, err = row.Email.Reveal()
	require.ErrorIs(t, err, lethe.ErrSealed)
	require.NoError(t, s.Open(t.Context(), &row))
	require.Equal(t, "P1@Example.com", reveal(t, row.Email))
	require.Equal(t, 1981, reveal(t, row.Born).Year())
	require.True(t, reveal(t, row.News))
	require.Equal(t, "Home Street", reveal(t, row.Home.Street))
	require.Equal(t, "Work Street", reveal(t, row.Work.Street))
	_, err = row.Told.Reveal()
	require.ErrorIs(t, err, lethe.ErrNull)
	require.Equal(t, "P***@Example.com", row.Email.Masked())
	require.Equal(t, "1981-••-••", row.Born.Masked())
	require.Equal(t, lethe.StatusSealed, p.Email.Status(), "opening a row read back does not touch the first")
}

func TestHeaderOfOneScopeIs110Bytes(t *testing.T) {
	type one struct {
		Keys lethe.Keys           `lethe:"one"`
		ID   int64                `lethe:"subject=one"`
		V    lethe.Secret[string] `lethe:"v"`
	}
	s, err := lethe.For[one](envelopetest.NewKeyring(t))
	require.NoError(t, err)
	row := one{ID: 7, V: lethe.Of("")}
	require.NoError(t, s.Seal(t.Context(), &row))
	require.Len(t, row.Keys.Bytes(), 110)
	b, err := row.V.MarshalBinary()
	require.NoError(t, err)
	require.Len(t, b, 29)
	require.NoError(t, s.Open(t.Context(), &row))
	require.Empty(t, reveal(t, row.V), "an empty string is a value, not NULL")
}

func TestSealedTwice(t *testing.T) {
	s, _ := people(t)
	p := newPerson(1)
	require.NoError(t, s.Seal(t.Context(), &p))
	keys := p.Keys.Bytes()
	require.ErrorIs(t, s.Seal(t.Context(), &p), lethe.ErrSealed)
	require.Equal(t, keys, p.Keys.Bytes())

	other := newPerson(2)
	other.Email = p.Email
	require.ErrorIs(t, s.Seal(t.Context(), &other), lethe.ErrSealed, "ciphertext of another row")
	require.Equal(t, lethe.StatusPlain, other.Born.Status(), "nothing changed")
	require.True(t, other.Keys.IsZero())
}

func TestUpdateOfOneFieldKeepsTheKeys(t *testing.T) {
	s, _ := people(t)
	p := newPerson(1)
	require.NoError(t, s.Seal(t.Context(), &p))
	row := stored(t, p)
	row.Born = lethe.Secret[time.Time]{} // not selected
	row.Email = lethe.Of("new@example.com")
	before := row.EmailIdx
	require.NoError(t, s.Seal(t.Context(), &row))
	require.True(t, row.Keys.Equal(p.Keys))
	require.False(t, row.EmailIdx.Equal(before))
	require.Equal(t, lethe.StatusUnset, row.Born.Status())
	_, err := row.Born.Value()
	require.ErrorIs(t, err, lethe.ErrNotSealed, "a full save cannot wipe the column")
	require.NoError(t, s.Open(t.Context(), &row))
	require.Equal(t, "new@example.com", reveal(t, row.Email))
	require.Equal(t, "Home Street", reveal(t, row.Home.Street))

	row.Email = lethe.Null[string]()
	require.NoError(t, s.Seal(t.Context(), &row))
	require.ErrorIs(t, s.Seal(t.Context(), &row), lethe.ErrSealed)
	row.Home.Street = lethe.Null[string]() // no index over it
	require.NoError(t, s.Seal(t.Context(), &row))
	v, err := row.EmailIdx.Value()
	require.NoError(t, err)
	require.Nil(t, v, "the index of NULL is NULL")
}

func TestANewGroupAddsItsKeys(t *testing.T) {
	s, ring := people(t)
	p := newPerson(1)
	require.NoError(t, s.Seal(t.Context(), &p))
	row := stored(t, p)
	row.Friend, row.Told = "p2", lethe.Of("a secret of p2")
	require.NoError(t, s.Seal(t.Context(), &row))
	require.Len(t, row.Keys.Bytes(), 3+3*107)
	require.NoError(t, s.Open(t.Context(), &row))
	require.Equal(t, "a secret of p2", reveal(t, row.Told))
	require.Equal(t, "P1@Example.com", reveal(t, row.Email))

	_, err := ring.Forget(t.Context(), lethe.Subject{Kind: "person", ID: "p2"})
	require.NoError(t, err)
	again := stored(t, row)
	require.NoError(t, s.Open(t.Context(), &again))
	require.Equal(t, lethe.StatusForgotten, again.Told.Status())
	require.Equal(t, "P1@Example.com", reveal(t, again.Email), "the other person's fields stay")
}

func TestForgottenPeopleInAList(t *testing.T) {
	s, ring := people(t)
	rows := make([]person, 50)
	for i := range rows {
		rows[i] = newPerson(i)
	}
	require.NoError(t, s.SealSlice(t.Context(), rows))
	for _, id := range []string{"p3", "p40"} {
		_, err := ring.Forget(t.Context(), lethe.Subject{Kind: "person", ID: id})
		require.NoError(t, err)
	}
	for i := range rows {
		rows[i] = stored(t, rows[i])
	}
	require.NoError(t, s.OpenSlice(t.Context(), rows))
	for i := range rows {
		if i == 3 || i == 40 {
			_, err := rows[i].Email.Reveal()
			require.ErrorIs(t, err, lethe.ErrForgotten)
			require.Equal(t, "[forgotten]", fmt.Sprint(rows[i].Email))
			require.Equal(t, "[forgotten]", rows[i].Email.Masked())
			require.Equal(t, "Home", rows[i].Home.City, "clear fields stay")
			v, err := rows[i].Email.Value()
			require.NoError(t, err)
			require.NotEmpty(t, v, "the row can still be saved as it is")
			continue
		}
		require.Equal(t, fmt.Sprintf("P%d@Example.com", i), reveal(t, rows[i].Email))
	}
	p := newPerson(3)
	require.ErrorIs(t, s.Seal(t.Context(), &p), lethe.ErrForgotten)
	require.Equal(t, lethe.StatusPlain, p.Email.Status())
}

func TestForgettingOnePurpose(t *testing.T) {
	s, ring := people(t)
	p := newPerson(1)
	require.NoError(t, s.Seal(t.Context(), &p))
	_, err := ring.ForgetPurpose(t.Context(), lethe.Subject{Kind: "person", ID: "p1"}, "marketing")
	require.NoError(t, err)
	row := stored(t, p)
	require.NoError(t, s.Open(t.Context(), &row))
	require.Equal(t, lethe.StatusForgotten, row.News.Status())
	require.Equal(t, "P1@Example.com", reveal(t, row.Email))
}

func TestDamageFailsItsFieldOnly(t *testing.T) {
	s, _ := people(t)
	rows := []person{newPerson(0), newPerson(1), newPerson(2)}
	require.NoError(t, s.SealSlice(t.Context(), rows))
	for i := range rows {
		rows[i] = stored(t, rows[i])
	}
	b, err := rows[1].Email.MarshalBinary()
	require.NoError(t, err)
	b[20] ^= 1
	require.NoError(t, rows[1].Email.Scan(b))
	rows[2].Born, rows[2].Email = lethe.Secret[time.Time]{}, rows[0].Email
	err = s.OpenSlice(t.Context(), rows)
	var damaged *lethe.RowErrors
	require.ErrorAs(t, err, &damaged)
	require.ErrorIs(t, err, lethe.ErrDecrypt)
	require.Len(t, damaged.Errors, 2)
	require.Equal(t, lethe.RowError{Index: 1, Field: "email", Err: lethe.ErrDecrypt}, damaged.Errors[0])
	require.Equal(t, 2, damaged.Errors[1].Index)
	require.Equal(t, lethe.StatusFailed, rows[1].Email.Status())
	_, err = rows[1].Email.Reveal()
	require.ErrorIs(t, err, lethe.ErrDecrypt)
	require.Equal(t, "Home Street", reveal(t, rows[1].Home.Street))
	require.Equal(t, "P0@Example.com", reveal(t, rows[0].Email))
}

// A ciphertext opens in its own place only.
func TestMovedCiphertext(t *testing.T) {
	s, ring := people(t)
	a, b := newPerson(1), newPerson(2)
	require.NoError(t, s.Seal(t.Context(), &a))
	require.NoError(t, s.Seal(t.Context(), &b))
	fails := func(name string, row person, sealer *lethe.Sealer[person]) {
		t.Helper()
		row = stored(t, row)
		err := sealer.Open(t.Context(), &row)
		require.Error(t, err, name)
		require.True(t, errors.Is(err, lethe.ErrDecrypt) || errors.Is(err, lethe.ErrKeyMissing), name)
		_, err = row.Email.Reveal()
		require.Error(t, err, name)
	}
	row := a
	row.Email = b.Email
	fails("another row's cell", row, s)
	row = a
	row.Email = row.Home.Street
	fails("another column's cell", row, s)
	row = a
	row.Keys = b.Keys
	fails("another row's keys", row, s)
	row = a
	row.ID = "p2"
	fails("another subject and row id", row, s)
	fails("another tenant", a, s.Tenant("acme"))

	type renamed struct {
		Keys  lethe.Keys           `lethe:"folks"`
		ID    string               `lethe:"subject=person,id"`
		Email lethe.Secret[string] `lethe:"email"`
	}
	other, err := lethe.For[renamed](ring)
	require.NoError(t, err)
	moved := renamed{Keys: a.Keys, ID: a.ID, Email: a.Email}
	require.ErrorIs(t, other.Open(t.Context(), &moved), lethe.ErrDecrypt, "another record")
	type purposeful struct {
		Keys  lethe.Keys           `lethe:"people"`
		ID    string               `lethe:"subject=person,id"`
		Email lethe.Secret[string] `lethe:"email,purpose=marketing"`
	}
	third, err := lethe.For[purposeful](ring)
	require.NoError(t, err)
	wrong := purposeful{Keys: a.Keys, ID: a.ID, Email: a.Email}
	require.ErrorIs(t, third.Open(t.Context(), &wrong), lethe.ErrDecrypt, "another purpose")
}

// The wrapped keys of a row belong together, and nothing that is not of their format passes for them.
func TestTamperedKeys(t *testing.T) {
	t.Parallel()
	s, _ := people(t)
	a, b := newPerson(1), newPerson(1)
	require.NoError(t, s.Seal(t.Context(), &a))
	require.NoError(t, s.Seal(t.Context(), &b))
	const prelude, scope = 3, 107
	header, other := a.Keys.Bytes(), b.Keys.Bytes()
	require.Len(t, header, prelude+2*scope)
	second := append([]byte{header[0], header[1], header[2] - 1}, header[prelude+scope:]...)
	for name, keys := range map[string][]byte{
		"second scope dropped":   append([]byte{header[0], header[1], header[2] - 1}, header[prelude:prelude+scope]...),
		"first scope dropped":    second,
		"scopes of two records":  append(bytes.Clone(header[:prelude+scope]), other[prelude+scope:]...),
		"scopes in other order":  append(append(bytes.Clone(header[:prelude]), header[prelude+scope:]...), header[prelude:prelude+scope]...),
		"a scope twice":          append(bytes.Clone(header[:prelude+scope]), header[prelude:prelude+scope]...),
		"one byte short":         header[:len(header)-1],
		"one byte more":          append(bytes.Clone(header), 0),
		"unknown suite":          append([]byte{header[0], 9}, header[2:]...),
		"other suite":            append([]byte{header[0], 2}, header[2:]...),
		"row id no longer bound": append([]byte{header[0], header[1], header[2] & 15}, header[3:]...),
	} {
		row := stored(t, a)
		require.NoError(t, row.Keys.Scan(keys), name)
		err := s.Open(t.Context(), &row)
		require.ErrorIs(t, err, lethe.ErrDecrypt, name)
		for _, status := range []lethe.Status{row.Email.Status(), row.News.Status(), row.Home.Street.Status()} {
			require.Equal(t, lethe.StatusFailed, status, name)
		}
		row = stored(t, a)
		require.NoError(t, row.Keys.Scan(keys), name)
		row.Email = lethe.Of("new@example.com")
		require.ErrorIs(t, s.Seal(t.Context(), &row), lethe.ErrDecrypt, "%s: nothing is sealed under keys that are not the row's", name)
		require.Equal(t, lethe.StatusPlain, row.Email.Status(), name)
	}
	cell := binaryOf(t, a.Email)
	row := stored(t, a)
	require.ErrorIs(t, row.Keys.Scan(append([]byte{2}, header[1:]...)), lethe.ErrNotSealed, "unknown format")
	require.ErrorIs(t, row.Email.Scan(append([]byte{0x20 | cell[0]&15}, cell[1:]...)), lethe.ErrNotSealed, "unknown kind of cell")
	require.ErrorIs(t, row.Email.Scan(cell[:28]), lethe.ErrNotSealed, "too short for any cell")
	require.ErrorIs(t, row.Email.Scan(header), lethe.ErrNotSealed, "keys where a field belongs")
	require.NoError(t, s.Open(t.Context(), &row), "and nothing of it was taken")
}

func TestMissingKeysAndSubjects(t *testing.T) {
	s, _ := people(t)
	p := newPerson(1)
	p.ID = ""
	require.ErrorIs(t, s.Seal(t.Context(), &p), lethe.ErrNoSubject)
	p = newPerson(1)
	p.Told = lethe.Of("whose?")
	require.ErrorIs(t, s.Seal(t.Context(), &p), lethe.ErrNoSubject)
	require.Equal(t, lethe.StatusPlain, p.Email.Status())

	p = newPerson(1)
	require.NoError(t, s.Seal(t.Context(), &p))
	row := stored(t, p)
	row.Keys = lethe.Keys{}
	require.ErrorContains(t, s.Open(t.Context(), &row), "select their column")
	rows := []person{stored(t, p), stored(t, p)}
	rows[0].ID = ""
	err := s.OpenSlice(t.Context(), rows)
	require.ErrorIs(t, err, lethe.ErrNoSubject)
	require.Equal(t, lethe.StatusFailed, rows[0].Email.Status())
	require.Equal(t, "P1@Example.com", reveal(t, rows[1].Email), "one bad row does not hide the others")
}

func TestFieldsPolicyAndMasks(t *testing.T) {
	var asked []lethe.Access
	s, ring := people(t, lethe.Options{Policy: func(_ context.Context, a lethe.Access) lethe.Decision {
		asked = append(asked, a)
		switch a.Field {
		case "email":
			return lethe.MaskOnly
		case "born":
			return lethe.Deny
		}
		return lethe.Allow
	}})
	p := newPerson(1)
	require.NoError(t, s.Seal(t.Context(), &p))
	require.NoError(t, s.Open(t.Context(), &p, lethe.Fields("email", "born")))
	require.Len(t, asked, 2)
	require.Equal(t, lethe.Access{Record: "people", Field: "email", Rows: 1}, asked[0])
	require.Equal(t, lethe.StatusDenied, p.Email.Status())
	require.Equal(t, "P***@Example.com", p.Email.Masked())
	require.Equal(t, "[denied]", p.Born.Masked())
	_, err := p.Email.Reveal()
	require.ErrorIs(t, err, lethe.ErrDenied)
	require.Equal(t, lethe.StatusSealed, p.Home.Street.Status(), "not asked for")
	require.Equal(t, "[sealed]", fmt.Sprint(p.Email))
	require.ErrorContains(t, s.Open(t.Context(), &p, lethe.Fields("phone")), "phone")
	require.NoError(t, s.Open(t.Context(), &p, lethe.Fields([]string{}...)))
	require.Len(t, asked, 2, "an empty list opens nothing and asks nothing")
	require.Equal(t, lethe.StatusSealed, p.Home.Street.Status())

	free, err := lethe.For[person](ring)
	require.NoError(t, err)
	require.NoError(t, free.Open(t.Context(), &p, lethe.Masks()))
	require.Equal(t, "1981-••-••", p.Born.Masked())
	require.NoError(t, free.Open(t.Context(), &p))
	require.Equal(t, "P1@Example.com", reveal(t, p.Email), "who may, opens what was denied to others")
}

func TestTenants(t *testing.T) {
	s, _ := people(t, lethe.Options{RequireTenant: true})
	p := newPerson(1)
	require.ErrorContains(t, s.Seal(t.Context(), &p), "tenant")
	acme, umbrella := s.Tenant("acme"), s.Tenant("umbrella")
	require.NoError(t, acme.Seal(t.Context(), &p))
	q := newPerson(1)
	require.NoError(t, umbrella.Seal(t.Context(), &q))
	require.False(t, p.EmailIdx.Equal(q.EmailIdx), "each tenant has index keys of its own")
	row := stored(t, p)
	require.Error(t, umbrella.Open(t.Context(), &row))
	require.NoError(t, acme.Open(t.Context(), &row))
	require.ErrorContains(t, s.Tenant("").Seal(t.Context(), &q), "tenant")
	require.Error(t, s.Tenant(" acme").Open(t.Context(), &q))
}

func TestQueryFindsAndMatches(t *testing.T) {
	s, _ := people(t)
	q, err := s.Query(t.Context(), "email_idx", "p1@example.com")
	require.NoError(t, err)
	require.Empty(t, q.Terms(), "nothing was ever indexed")
	cond, args := q.In(lethe.Postgres, "email_idx", 1)
	require.Equal(t, "1 = 0", cond)
	require.Empty(t, args)

	rows := []person{newPerson(1), newPerson(2), {ID: "p3"}}
	require.NoError(t, s.SealSlice(t.Context(), rows))
	q, err = s.Query(t.Context(), "email_idx", "  p1@EXAMPLE.com ")
	require.NoError(t, err)
	require.Len(t, q.Terms(), 1)
	require.Len(t, q.Terms()[0], 2+8)
	require.Equal(t, rows[0].EmailIdx.Bytes(), q.Terms()[0])
	_, err = q.Match(&rows[0])
	require.ErrorIs(t, err, lethe.ErrSealed, "a sealed row cannot be compared")
	require.NoError(t, s.OpenSlice(t.Context(), rows))
	for i, want := range []bool{true, false, false} {
		ok, err := q.Match(&rows[i])
		require.NoError(t, err)
		require.Equal(t, want, ok)
	}
	text, err := rows[0].EmailIdx.MarshalText()
	require.NoError(t, err)
	require.Equal(t, []string{string(text)}, q.TextTerms())
	cond, args = q.In(lethe.SQLite, "email_idx", 3)
	require.Equal(t, "email_idx IN (?3)", cond)
	require.Len(t, args, 1)
	cond, _ = q.In(lethe.MySQL, "a`; DROP TABLE x; --", 1)
	require.Equal(t, "`a``; DROP TABLE x; --` IN (?)", cond)
	_, err = s.Query(t.Context(), "email", "x")
	require.Error(t, err)
	_, err = s.Query(t.Context(), "email_idx", 7)
	require.Error(t, err)
}

func TestRewrapAndReseal(t *testing.T) {
	s, ring := people(t)
	rows := []person{newPerson(1), newPerson(2)}
	require.NoError(t, s.SealSlice(t.Context(), rows))
	changed, err := s.RewrapSlice(t.Context(), rows)
	require.NoError(t, err)
	require.Empty(t, changed)
	_, err = ring.Rotate(t.Context(), lethe.Subject{Kind: "person", ID: "p2"})
	require.NoError(t, err)
	cell, _ := rows[1].Email.MarshalBinary()
	before := rows[1].Keys
	changed, err = s.RewrapSlice(t.Context(), rows)
	require.NoError(t, err)
	require.Equal(t, []int{1}, changed)
	require.False(t, before.Equal(rows[1].Keys))
	after, _ := rows[1].Email.MarshalBinary()
	require.Equal(t, cell, after, "fields are not touched")
	row := stored(t, rows[1])
	require.ErrorIs(t, s.Reseal(t.Context(), &row), lethe.ErrSealed)
	require.NoError(t, s.Open(t.Context(), &row))
	require.NoError(t, s.Reseal(t.Context(), &row))
	require.False(t, row.Keys.Equal(rows[1].Keys))
	again := stored(t, row)
	require.NoError(t, s.Open(t.Context(), &again))
	require.Equal(t, "P2@Example.com", reveal(t, again.Email))
	mixed := again
	mixed.Email = rows[1].Email
	require.Error(t, s.Open(t.Context(), func() *person { m := stored(t, mixed); return &m }()), "cells of two versions do not mix")
}

func TestCancelledCallsChangeNothing(t *testing.T) {
	s, _ := people(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := newPerson(1)
	require.ErrorIs(t, s.Seal(ctx, &p), context.Canceled)
	require.Equal(t, lethe.StatusPlain, p.Email.Status())
	require.True(t, p.Keys.IsZero())
	require.NoError(t, s.Seal(t.Context(), &p))
	require.ErrorIs(t, s.Open(ctx, &p), context.Canceled)
	require.Equal(t, lethe.StatusSealed, p.Email.Status())
	q := newPerson(1)
	require.ErrorIs(t, s.Seal(ctx, &q), context.Canceled, "with the keys in memory too")
	_, err := s.Rewrap(ctx, &p)
	require.ErrorIs(t, err, context.Canceled)
}

func TestCopiesAreIndependent(t *testing.T) {
	s, _ := people(t)
	p := newPerson(1)
	q := p
	require.NoError(t, s.Seal(t.Context(), &p))
	require.Equal(t, lethe.StatusPlain, q.Email.Status())
	require.Equal(t, "P1@Example.com", reveal(t, q.Email))
	require.True(t, q.Keys.IsZero())
}

func TestBytesGivenAndTakenAreCopies(t *testing.T) {
	type blob struct {
		Keys lethe.Keys           `lethe:"blobs"`
		ID   string               `lethe:"subject=blob"`
		B    lethe.Secret[[]byte] `lethe:"b"`
	}
	s, err := lethe.For[blob](envelopetest.NewKeyring(t))
	require.NoError(t, err)
	in := []byte("abc")
	row := blob{ID: "1", B: lethe.Of(in)}
	in[0] = 'x'
	require.NoError(t, s.Seal(t.Context(), &row))
	v, err := row.B.Value()
	require.NoError(t, err)
	clear(v.([]byte))
	keys := row.Keys.Bytes()
	clear(keys)
	require.NoError(t, s.Open(t.Context(), &row))
	out := reveal(t, row.B)
	require.Equal(t, []byte("abc"), out)
	clear(out)
	require.Equal(t, []byte("abc"), reveal(t, row.B))
}

func TestLargeAndOversizedValues(t *testing.T) {
	s, _ := people(t)
	p := newPerson(1)
	p.Email = lethe.Of(strings.Repeat("x", envelope.MaxCell+1))
	require.ErrorContains(t, s.Seal(t.Context(), &p), "email")
	require.Equal(t, lethe.StatusPlain, p.Email.Status())
	p.Email = lethe.Of(strings.Repeat("x", 1<<20))
	require.NoError(t, s.Seal(t.Context(), &p))
	require.NoError(t, s.Open(t.Context(), &p))
	require.Len(t, reveal(t, p.Email), 1<<20)
}

func TestConcurrentUseOfASealer(t *testing.T) {
	s, _ := people(t)
	done := make(chan error)
	for g := range 8 {
		go func() {
			done <- func() error {
				for i := range 50 {
					p := newPerson(i % 10)
					if err := s.Seal(t.Context(), &p); err != nil {
						return err
					}
					if err := s.Open(t.Context(), &p); err != nil {
						return err
					}
					if v, err := p.Email.Reveal(); err != nil || v != fmt.Sprintf("P%d@Example.com", i%10) {
						return fmt.Errorf("goroutine %d: wrong value or %w", g, err)
					}
				}
				return nil
			}()
		}()
	}
	for range 8 {
		require.NoError(t, <-done)
	}
}

func TestNothingPlainIsStored(t *testing.T) {
	s, _ := people(t)
	p := newPerson(1)
	require.NoError(t, s.Seal(t.Context(), &p))
	for _, m := range []interface{ MarshalBinary() ([]byte, error) }{p.Keys, p.Email, p.EmailIdx, p.Home.Street} {
		b, err := m.MarshalBinary()
		require.NoError(t, err)
		require.False(t, bytes.Contains(b, []byte("Example")) || bytes.Contains(b, []byte("Street")))
	}
}

// A call that fails in the middle of its rows leaves nothing in the memory that
// later calls reuse.
func TestAFailedCallLeavesNothingForTheNext(t *testing.T) {
	t.Parallel()
	s, _ := people(t)
	for i := range 50 {
		bad := []person{newPerson(1), newPerson(2), newPerson(3)}
		bad[i%3].ID = ""
		require.ErrorIs(t, s.SealSlice(t.Context(), bad), lethe.ErrNoSubject)
		for j := range bad {
			require.Equal(t, lethe.StatusPlain, bad[j].Email.Status())
			require.True(t, bad[j].Keys.IsZero())
		}
		p := newPerson(9)
		require.NoError(t, s.Seal(t.Context(), &p))
		require.NoError(t, s.Open(t.Context(), &p))
		require.Equal(t, "P9@Example.com", reveal(t, p.Email))
		p.Keys = lethe.Keys{}
		p.Born = lethe.Null[time.Time]()
		require.ErrorIs(t, s.Seal(t.Context(), &p), lethe.ErrSealed)
	}
}

// Values live behind unsafe pointers: the collector must see them.
func TestValuesOutliveCollections(t *testing.T) {
	t.Parallel()
	s, _ := people(t)
	var wg sync.WaitGroup
	for worker := range 4 {
		view := s.Tenant(fmt.Sprint("tenant", worker%2))
		wg.Go(func() {
			for i := range 30 {
				rows := []person{newPerson(i), newPerson(i + 1)}
				runtime.GC()
				if err := view.SealSlice(t.Context(), rows); err != nil {
					t.Error(err)
					return
				}
				runtime.GC()
				if err := view.OpenSlice(t.Context(), rows); err != nil {
					t.Error(err)
					return
				}
				runtime.GC()
				for j := range rows {
					if v, err := rows[j].Email.Reveal(); err != nil || v != fmt.Sprintf("P%d@Example.com", i+j) {
						t.Error(v, err)
					}
					if v, err := rows[j].Work.Street.Reveal(); err != nil || v != "Work Street" {
						t.Error(v, err)
					}
				}
			}
		})
	}
	wg.Wait()
}

// Equal values of two tenants have unrelated indexes.
func TestIndexesOfTenantsDiffer(t *testing.T) {
	t.Parallel()
	s, _ := people(t)
	var terms []string
	for _, tenant := range []string{"a", "b"} {
		view := s.Tenant(tenant)
		p := newPerson(1)
		require.NoError(t, view.Seal(t.Context(), &p))
		q, err := view.Query(t.Context(), "email_idx", " p1@example.COM")
		require.NoError(t, err)
		require.Equal(t, [][]byte{p.EmailIdx.Bytes()}, q.Terms())
		terms = append(terms, q.TextTerms()...)
	}
	none, err := s.Query(t.Context(), "email_idx", "p1@example.com")
	require.NoError(t, err)
	require.Empty(t, none.Terms(), "no tenant is a tenant of its own")
	require.NotEqual(t, terms[0], terms[1])
}

// Of two cells in one place only the last would be kept.
func TestRowsThatShareAStructAreRefused(t *testing.T) {
	t.Parallel()
	s, _ := people(t)
	rows := []person{newPerson(1), newPerson(2), newPerson(3)}
	rows[2].Work = rows[1].Work
	err := s.SealSlice(t.Context(), rows)
	require.ErrorContains(t, err, `field "work.street" of row 1 and field "work.street" of row 2`)
	for i := range rows {
		require.True(t, rows[i].Keys.IsZero())
		require.Equal(t, lethe.StatusPlain, rows[i].Email.Status())
		require.Equal(t, lethe.StatusPlain, rows[i].Work.Street.Status())
	}
	rows[2].Work = &address{Street: rows[1].Work.Street}
	require.NoError(t, s.SealSlice(t.Context(), rows), "a copy of the Secret is enough")
	require.NoError(t, s.OpenSlice(t.Context(), rows))
	require.Equal(t, "Work Street", reveal(t, rows[1].Work.Street))
	require.Equal(t, "Work Street", reveal(t, rows[2].Work.Street))

	type pair struct {
		Keys lethe.Keys `lethe:"pairs"`
		ID   string     `lethe:"subject=person"`
		Home *address   `lethe:"home"`
		Work *address   `lethe:"work"`
	}
	pairs, err := lethe.For[pair](envelopetest.NewKeyring(t))
	require.NoError(t, err)
	p := pair{ID: "1", Home: &address{Street: lethe.Of("both")}}
	p.Work = p.Home
	require.ErrorContains(t, pairs.Seal(t.Context(), &p), `"home.street" of row 0 and field "work.street" of row 0`)
	require.Equal(t, lethe.StatusPlain, p.Home.Street.Status())
	data, err := lethe.Marshal(t.Context(), pairs, &p)
	require.NoError(t, err, "Marshal works on a copy, whose structs are its own")
	var back pair
	require.NoError(t, lethe.Unmarshal(t.Context(), pairs, data, &back))
	require.Equal(t, "both", reveal(t, back.Home.Street))
	require.Equal(t, "both", reveal(t, back.Work.Street))
}

type (
	octet byte
	// flagged has a Secret's methods and not its layout.
	flagged struct {
		Verified             bool
		lethe.Secret[string] `lethe:"value"`
	}
)

func TestAStructThatEmbedsASecret(t *testing.T) {
	t.Parallel()
	type row struct {
		Keys  lethe.Keys `lethe:"rows"`
		ID    string     `lethe:"subject=person"`
		Email flagged    `lethe:"email"`
		Plan  string
	}
	s, err := lethe.For[row](envelopetest.NewKeyring(t))
	require.NoError(t, err)
	r := row{ID: "1", Email: flagged{true, lethe.Of("ada@example.com")}, Plan: "pro"}
	require.NoError(t, s.Seal(t.Context(), &r))
	require.True(t, r.Email.Verified)
	require.Equal(t, "pro", r.Plan)
	require.NoError(t, s.Open(t.Context(), &r, lethe.Fields("email.value")))
	require.Equal(t, "ada@example.com", reveal(t, r.Email.Secret))
}

func TestIdentities(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	requireIdentity(t, ring, "plain text", "plain text")
	requireIdentity(t, ring, 7, "7")
	requireIdentity(t, ring, int8(-128), "-128")
	requireIdentity(t, ring, ^uint64(0), "18446744073709551615")
	requireIdentity(t, ring, [16]byte{0: 0xAB, 15: 1}, "ab000000-0000-0000-0000-000000000001")
	requireIdentity(t, ring, [16]octet{0: 0xAB, 15: 1}, "ab000000-0000-0000-0000-000000000001")
	requireIdentity(t, ring, time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC), "2024-02-29T00:00:00Z")
}

// requireIdentity checks that id names the subject with this ID, and its zero value none.
func requireIdentity[ID any](t *testing.T, ring *envelope.Keyring, id ID, want string) {
	t.Helper()
	type row struct {
		Keys lethe.Keys           `lethe:"rows"`
		ID   ID                   `lethe:"subject=person,id"`
		V    lethe.Secret[string] `lethe:"v"`
	}
	type text struct {
		Keys lethe.Keys           `lethe:"rows"`
		ID   string               `lethe:"subject=person,id"`
		V    lethe.Secret[string] `lethe:"v"`
	}
	rows, err := lethe.For[row](ring)
	require.NoError(t, err)
	texts, err := lethe.For[text](ring)
	require.NoError(t, err)
	require.ErrorIs(t, rows.Seal(t.Context(), &row{V: lethe.Of("v")}), lethe.ErrNoSubject)
	r := row{ID: id, V: lethe.Of("v")}
	require.NoError(t, rows.Seal(t.Context(), &r))
	same := text{Keys: r.Keys, ID: want, V: r.V}
	require.NoError(t, texts.Open(t.Context(), &same), want)
	require.Equal(t, "v", reveal(t, same.V))
}

func TestQueryByText(t *testing.T) {
	t.Parallel()
	type host struct {
		Keys lethe.Keys            `lethe:"hosts"`
		ID   string                `lethe:"subject=person"`
		Raw  lethe.Secret[[]octet] `lethe:"raw"`
		RawX lethe.BlindIndex      `lethe:"raw_idx,of=raw,norm=exact/1"`
		IP   lethe.Secret[net.IP]  `lethe:"ip"`
		IPX  lethe.BlindIndex      `lethe:"ip_idx,of=ip,norm=exact/1"`
	}
	s, err := lethe.For[host](envelopetest.NewKeyring(t))
	require.NoError(t, err)
	h := host{ID: "1", Raw: lethe.Of([]octet("abc")), IP: lethe.Of(net.IPv4(10, 0, 0, 1))}
	require.NoError(t, s.Seal(t.Context(), &h))
	for name, value := range map[string]any{"string": "10.0.0.1", "bytes": []byte("10.0.0.1"), "other spelling": "::ffff:10.0.0.1", "value": net.ParseIP("10.0.0.1")} {
		q, err := s.Query(t.Context(), "ip_idx", value)
		require.NoError(t, err, name)
		require.Equal(t, [][]byte{h.IPX.Bytes()}, q.Terms(), name)
	}
	_, err = s.Query(t.Context(), "ip_idx", "abcd")
	require.ErrorContains(t, err, "not a net.IP")
	require.NotContains(t, err.Error(), "abcd")
	q, err := s.Query(t.Context(), "raw_idx", []octet("abc"))
	require.NoError(t, err)
	require.Equal(t, [][]byte{h.RawX.Bytes()}, q.Terms())
	for _, value := range []any{"abc", 7, nil, []string{"abc"}, []octet(nil)} {
		_, err = s.Query(t.Context(), "raw_idx", value)
		if _, fits := value.([]octet); !fits {
			require.ErrorContains(t, err, "cannot hold", "%T", value)
		} else {
			require.NoError(t, err)
		}
	}
}
