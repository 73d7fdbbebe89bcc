package lethe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

// profile is a row that also travels as JSON.
type profile struct {
	Keys  lethe.Keys              `json:"keys" lethe:"profiles"`
	ID    string                  `json:"id" lethe:"subject=customer"`
	Email lethe.Secret[string]    `json:"email" lethe:"email"`
	Born  lethe.Secret[time.Time] `json:"born,omitzero" lethe:"born"`
	Home  *place                  `json:"home,omitempty" lethe:"home"`
	Plan  string                  `json:"plan"`
}

type place struct {
	Street lethe.Secret[string] `json:"street" lethe:"street"`
	City   string               `json:"city"`
}

var birthday = time.Date(1815, 12, 10, 6, 30, 0, 123456789, time.FixedZone("", 3600))

func newProfile() profile {
	return profile{ID: "cus_1", Email: lethe.Of("ada@example.com"), Born: lethe.Of(birthday), Home: &place{Street: lethe.Of("Secret Street"), City: "London"}, Plan: "pro"}
}

func profiles(t testing.TB, opts ...lethe.Options) (*lethe.Sealer[profile], *envelope.Keyring) {
	t.Helper()
	ring := envelopetest.NewKeyring(t)
	s, err := lethe.For[profile](ring, opts...)
	require.NoError(t, err)
	return s, ring
}

// members decodes the top level of a JSON object.
func members(t testing.TB, data []byte) map[string]json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(data, &m))
	return m
}

// with returns data with one top-level member replaced, or removed if value is "".
func with(t testing.TB, data []byte, member, value string) []byte {
	t.Helper()
	m := members(t, data)
	if value == "" {
		delete(m, member)
	} else {
		m[member] = json.RawMessage(value)
	}
	out, err := json.Marshal(m)
	require.NoError(t, err)
	return out
}

const sealedJSON = `^\{"\$lethe":"[A-Za-z0-9_-]+"\}$`

func TestJSONOfASealedRow(t *testing.T) {
	t.Parallel()
	s, _ := profiles(t)
	p := newProfile()
	_, err := json.Marshal(p)
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	require.NotContains(t, err.Error(), "ada@")
	require.NoError(t, s.Seal(t.Context(), &p))
	data, err := json.Marshal([]profile{p})
	require.NoError(t, err)
	for _, plain := range []string{"ada@", "Secret Street", "1815"} {
		require.NotContains(t, string(data), plain)
	}
	var back []profile
	require.NoError(t, json.Unmarshal(data, &back))
	for _, name := range []string{"keys", "email", "born"} {
		var list []map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(data, &list))
		require.Regexp(t, sealedJSON, string(list[0][name]))
	}
	require.NoError(t, s.OpenSlice(t.Context(), back))
	require.Equal(t, "ada@example.com", reveal(t, back[0].Email))
	require.True(t, birthday.Equal(reveal(t, back[0].Born)))
	require.Equal(t, "Secret Street", reveal(t, back[0].Home.Street))
	require.Equal(t, "London", back[0].Home.City)

	// An opened row is encoded as ciphertext, the same as before.
	again, err := json.Marshal(back)
	require.NoError(t, err)
	require.JSONEq(t, string(data), string(again))
}

func TestJSONOmitzeroAndNull(t *testing.T) {
	t.Parallel()
	s, _ := profiles(t)
	p := newProfile()
	require.NoError(t, s.Seal(t.Context(), &p))
	p.Born = lethe.Secret[time.Time]{}
	data, err := json.Marshal(p)
	require.NoError(t, err)
	require.NotContains(t, members(t, data), "born", "omitzero leaves out what was not selected")
	p.Email = lethe.Secret[string]{}
	_, err = json.Marshal(p)
	require.ErrorIs(t, err, lethe.ErrNotSealed, "without omitzero an unset Secret cannot be encoded")
	p.Email, p.Born = lethe.Null[string](), lethe.Null[time.Time]()
	data, err = json.Marshal(p)
	require.NoError(t, err)
	require.Equal(t, "null", string(members(t, data)["email"]))
	require.Equal(t, "null", string(members(t, data)["born"]), "NULL is not Unset")
	var back profile
	require.NoError(t, json.Unmarshal(data, &back))
	require.Equal(t, lethe.StatusNull, back.Email.Status())
	require.Equal(t, lethe.StatusNull, back.Born.Status())
}

func TestJSONRefusesPlaintext(t *testing.T) {
	t.Parallel()
	s, _ := profiles(t)
	p := newProfile()
	require.NoError(t, s.Seal(t.Context(), &p))
	data, err := json.Marshal(p)
	require.NoError(t, err)
	for _, value := range []string{`"plain@example.com"`, `7`, `true`, `[]`, `{}`, `{"$lethe":""}`, `{"$lethe":7}`, `{"$lethe":null}`, `{"$lethe":"cGxhaW4"}`,
		`{"$lethe":"plain@example.com"}`, strings.Replace(string(members(t, data)["email"]), `}`, `,"x":1}`, 1), string(members(t, data)["keys"][:40]) + `"}`} {
		var back profile
		err := json.Unmarshal(with(t, data, "email", value), &back)
		require.ErrorIs(t, err, lethe.ErrNotSealed, value)
		require.NotContains(t, err.Error(), "plain@")
		require.ErrorIs(t, lethe.Unmarshal(t.Context(), s, with(t, data, "email", value), &back), lethe.ErrNotSealed, value)
	}
}

func TestInputInARequest(t *testing.T) {
	t.Parallel()
	type request struct {
		Email lethe.Input[string]    `json:"email"`
		Born  lethe.Input[time.Time] `json:"born"`
		Plan  string                 `json:"plan"`
	}
	s, _ := profiles(t)
	var r request
	require.NoError(t, json.Unmarshal([]byte(`{"email":"ada@example.com","born":"1815-12-10T06:30:00.123456789+01:00","plan":"pro"}`), &r))
	require.Equal(t, "{[input] [input] pro}", fmt.Sprint(r))
	_, err := json.Marshal(r)
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	p := profile{ID: "cus_1", Email: r.Email.Secret(), Born: r.Born.Secret()}
	require.NoError(t, s.Seal(t.Context(), &p))
	require.NoError(t, s.Open(t.Context(), &p))
	require.Equal(t, "ada@example.com", reveal(t, p.Email))
	require.True(t, birthday.Equal(reveal(t, p.Born)))

	require.NoError(t, json.Unmarshal([]byte(`{"email":null}`), &r))
	require.Equal(t, lethe.StatusNull, r.Email.Secret().Status())
	var absent request
	require.NoError(t, json.Unmarshal([]byte(`{}`), &absent))
	require.Equal(t, lethe.StatusUnset, absent.Email.Secret().Status())
	require.True(t, absent.Email.IsZero())

	// What a client got from us sealed is not plaintext, and a wrong type is not shown.
	sealed, err := json.Marshal(p.Email)
	require.NoError(t, err)
	require.ErrorIs(t, json.Unmarshal([]byte(`{"email":`+string(sealed)+`}`), &r), lethe.ErrSealed)
	err = json.Unmarshal([]byte(`{"born":"ada@example.com"}`), &r)
	require.ErrorContains(t, err, "time.Time")
	require.NotContains(t, err.Error(), "ada@")
}

func TestMarshalARow(t *testing.T) {
	t.Parallel()
	s, ring := profiles(t)
	p := newProfile()
	home := p.Home
	data, err := lethe.Marshal(t.Context(), s, &p)
	require.NoError(t, err)
	for _, plain := range []string{"ada@", "Secret Street", "1815"} {
		require.NotContains(t, string(data), plain)
	}
	require.Equal(t, `"pro"`, string(members(t, data)["plan"]))
	require.Equal(t, `"London"`, string(members(t, members(t, data)["home"])["city"]))
	require.Regexp(t, sealedJSON, string(members(t, data)["email"]))
	require.True(t, p.Keys.IsZero(), "the original is not changed")
	require.Equal(t, lethe.StatusPlain, p.Email.Status())
	require.Same(t, home, p.Home)
	require.Equal(t, lethe.StatusPlain, p.Home.Street.Status(), "not even behind its pointers")

	var back profile
	require.NoError(t, lethe.Unmarshal(t.Context(), s, data, &back))
	require.Equal(t, "ada@example.com", reveal(t, back.Email))
	require.Equal(t, "Secret Street", reveal(t, back.Home.Street))
	require.True(t, birthday.Equal(reveal(t, back.Born)))
	_, err = lethe.Marshal(t.Context(), s, &back)
	require.ErrorIs(t, err, lethe.ErrSealed, "never sealed twice")
	mixed := newProfile()
	mixed.Email = back.Email
	_, err = lethe.Marshal(t.Context(), s, &mixed)
	require.ErrorIs(t, err, lethe.ErrSealed)

	var part profile
	require.NoError(t, lethe.Unmarshal(t.Context(), s, data, &part, lethe.Fields("email")))
	require.Equal(t, "ada@example.com", reveal(t, part.Email))
	require.Equal(t, lethe.StatusSealed, part.Born.Status())

	_, err = ring.Forget(t.Context(), lethe.Subject{Kind: "customer", ID: "cus_1"})
	require.NoError(t, err)
	var gone profile
	require.NoError(t, lethe.Unmarshal(t.Context(), s, data, &gone), "in a row, Forgotten is a status")
	require.Equal(t, lethe.StatusForgotten, gone.Email.Status())
	require.Equal(t, "London", gone.Home.City)
	p = newProfile()
	_, err = lethe.Marshal(t.Context(), s, &p)
	require.ErrorIs(t, err, lethe.ErrForgotten)
	require.Equal(t, lethe.StatusPlain, p.Email.Status())
}

// base is embedded by order; it adds no prefix to names.
type base struct {
	User string    `json:"user" lethe:"subject=customer"`
	At   time.Time `json:"at"`
}

type shipTo struct {
	Name string   `json:"name" lethe:"name"`
	City string   `json:"city"`
	Geo  *geo     `json:"geo" lethe:"geo"`
	Tags []string `json:"tags,omitempty"`
}

type geo struct {
	Lat  float64 `json:"lat" lethe:"lat"`
	Zone int     `json:"zone"`
}

// order is a document with every shape of field.
type order struct {
	_ lethe.Document `lethe:"orders"`
	base
	Number   int               `json:"number" lethe:"id"`
	Email    string            `json:"e-mail" lethe:"email"`
	Phone    *string           `json:"phone" lethe:"phone"`
	Note     string            `json:"note,omitempty" lethe:"note"`
	Paid     time.Time         `json:"paid,omitzero" lethe:"paid"`
	Extra    map[string]string `json:"extra" lethe:"extra,json"`
	Advert   bool              `json:"advert" lethe:"advert,purpose=marketing"`
	Cents    int64             `json:"cents,string" lethe:"cents"`
	Raw      []byte            `json:"raw" lethe:"raw"`
	Default  string            `lethe:"default"`
	Ship     shipTo            `json:"ship" lethe:"ship"`
	Bill     *shipTo           `json:"bill,omitempty" lethe:"bill"`
	Seller   string            `json:"seller,omitempty" lethe:"subject=seller,group=seller"`
	Comment  string            `json:"comment,omitempty" lethe:"comment,group=seller"`
	Items    map[string]int    `json:"items"`
	Lines    []place2          `json:"lines,omitempty"`
	Internal string            `json:"-"`
	private  string
}

type place2 struct {
	City string `json:"city"`
}

func newOrder() order {
	phone := "+1 555 0100"
	return order{
		base: base{User: "cus_1", At: birthday.UTC()}, Number: 7, Email: "ada@example.com", Phone: &phone, Note: "a secret note", Paid: birthday,
		Extra: map[string]string{"secret-key": "secret-value"}, Advert: true, Cents: 987654321, Raw: []byte("secret raw bytes"), Default: "secret default",
		Ship:   shipTo{Name: "Ada Lovelace", City: "London", Geo: &geo{Lat: 51.507351, Zone: 3}, Tags: []string{"gift"}},
		Bill:   &shipTo{Name: "William King", City: "Ockham"},
		Seller: "sel_1", Comment: "secret comment",
		Items: map[string]int{"engine": 1}, Lines: []place2{{City: "Paris"}}, Internal: "internal", private: "private",
	}
}

var orderPlaintexts = []string{
	"ada@", "555", "secret note", "secret-key", "secret-value", "987654321", "secret raw", "c2VjcmV0", "secret default", "Lovelace", "51.5", "King", "secret comment", "internal", "private",
}

func orders(t testing.TB, opts ...lethe.Options) (*lethe.Sealer[order], *envelope.Keyring) {
	t.Helper()
	ring := envelopetest.NewKeyring(t)
	s, err := lethe.For[order](ring, opts...)
	require.NoError(t, err)
	return s, ring
}

func marshalOrder(t testing.TB, s *lethe.Sealer[order], o order) []byte {
	t.Helper()
	data, err := lethe.Marshal(t.Context(), s, &o)
	require.NoError(t, err)
	return data
}

func TestMarshalADocument(t *testing.T) {
	t.Parallel()
	s, _ := orders(t)
	o := newOrder()
	data := marshalOrder(t, s, o)
	for _, plain := range orderPlaintexts {
		require.NotContains(t, string(data), plain)
	}
	require.Equal(t, newOrder(), o, "the original is not changed")

	m := members(t, data)
	for name, want := range map[string]string{"user": `"cus_1"`, "at": `"1815-12-10T05:30:00.123456789Z"`, "number": "7", "items": `{"engine":1}`, "lines": `[{"city":"Paris"}]`, "seller": `"sel_1"`} {
		require.Equal(t, want, string(m[name]), "clear members are readable")
	}
	for _, name := range []string{"e-mail", "phone", "note", "paid", "extra", "advert", "cents", "raw", "Default", "comment", "$lethe_keys"} {
		require.Regexp(t, sealedJSON, string(m[name]), name)
	}
	ship := members(t, m["ship"])
	require.Regexp(t, sealedJSON, string(ship["name"]))
	require.Equal(t, `"London"`, string(ship["city"]))
	require.Equal(t, `["gift"]`, string(ship["tags"]))
	require.Equal(t, "3", string(members(t, ship["geo"])["zone"]))
	require.Equal(t, "null", string(members(t, m["bill"])["geo"]))
	require.Len(t, m, 19, "and nothing else")

	var back order
	require.NoError(t, lethe.Unmarshal(t.Context(), s, data, &back))
	want := newOrder()
	want.Internal, want.private = "", ""
	require.True(t, want.Paid.Equal(back.Paid))
	back.Paid = want.Paid
	require.Equal(t, want, back)

	require.NotEqual(t, data, marshalOrder(t, s, o), "each document has data keys of its own")
	require.Equal(t, "london", func() string { // clear members are for anybody who reads JSON
		var plain struct{ Ship struct{ City string } }
		require.NoError(t, json.Unmarshal(data, &plain))
		return strings.ToLower(plain.Ship.City)
	}())
}

func TestMarshalOmitsAndNulls(t *testing.T) {
	t.Parallel()
	s, _ := orders(t)
	data := marshalOrder(t, s, order{base: base{User: "cus_1"}, Number: 1})
	m := members(t, data)
	for _, name := range []string{"note", "paid", "bill", "comment", "seller", "lines"} {
		require.NotContains(t, m, name)
	}
	require.Equal(t, "null", string(m["phone"]), "a nil pointer")
	require.Equal(t, "null", string(m["items"]))
	require.Regexp(t, sealedJSON, string(m["e-mail"]), "an empty string without omitempty is a value")
	back := newOrder()
	require.NoError(t, lethe.Unmarshal(t.Context(), s, data, &back))
	require.Nil(t, back.Phone, "nothing of what *v held is left")
	require.Nil(t, back.Bill)
	require.Empty(t, back.Email)
	require.True(t, back.Paid.IsZero())

	empty := ""
	data = marshalOrder(t, s, order{base: base{User: "cus_1"}, Number: 1, Phone: &empty, Bill: &shipTo{}})
	require.NoError(t, lethe.Unmarshal(t.Context(), s, data, &back))
	require.Equal(t, &empty, back.Phone)
	require.Equal(t, &shipTo{}, back.Bill)
}

func TestMarshalRefuses(t *testing.T) {
	t.Parallel()
	s, ring := orders(t)
	_, err := lethe.Marshal[order](t.Context(), s, nil)
	require.Error(t, err)
	for name, broken := range map[string]func(*order){
		"no subject":    func(o *order) { o.User = "" },
		"no row id":     func(o *order) { o.Number = 0 },
		"no seller":     func(o *order) { o.Seller = "" },
		"sealed string": func(o *order) { o.Email = string(members(t, marshalOrder(t, s, newOrder()))["e-mail"]) },
		"sealed map": func(o *order) {
			o.Extra = nil
			require.NoError(t, json.Unmarshal(members(t, marshalOrder(t, s, newOrder()))["extra"], &o.Extra))
		},
		"sealed bytes": func(o *order) { o.Raw = members(t, marshalOrder(t, s, newOrder()))["raw"] },
	} {
		o := newOrder()
		broken(&o)
		data, err := lethe.Marshal(t.Context(), s, &o)
		require.Nil(t, data, name)
		if strings.HasPrefix(name, "sealed ") {
			require.ErrorIs(t, err, lethe.ErrSealed, name)
			require.Regexp(t, `^field "(email|extra|raw)": `, err.Error())
		} else {
			require.ErrorIs(t, err, lethe.ErrNoSubject, name)
		}
		for _, plain := range orderPlaintexts {
			require.NotContains(t, err.Error(), plain, name)
		}
	}
	o := newOrder()
	require.ErrorContains(t, s.Seal(t.Context(), &o), "Marshal", "a document has its own two functions")
	require.ErrorContains(t, s.Open(t.Context(), &o), "Unmarshal")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = lethe.Marshal(ctx, s, &o)
	require.ErrorIs(t, err, context.Canceled)
	_, err = ring.Forget(t.Context(), lethe.Subject{Kind: "customer", ID: "cus_1"})
	require.NoError(t, err)
	_, err = lethe.Marshal(t.Context(), s, &o)
	require.ErrorIs(t, err, lethe.ErrForgotten)
}

func fieldsOf(t *testing.T, err error, want error) []string {
	t.Helper()
	var failed *lethe.RowErrors
	require.ErrorAs(t, err, &failed)
	var out []string
	for _, e := range failed.Errors {
		require.ErrorIs(t, e.Err, want, e.Field)
		out = append(out, e.Field)
	}
	return out
}

func TestUnmarshalForgotten(t *testing.T) {
	t.Parallel()
	s, ring := orders(t)
	data := marshalOrder(t, s, newOrder())
	_, err := ring.ForgetPurpose(t.Context(), lethe.Subject{Kind: "customer", ID: "cus_1"}, "marketing")
	require.NoError(t, err)
	var back order
	require.Equal(t, []string{"advert"}, fieldsOf(t, lethe.Unmarshal(t.Context(), s, data, &back), lethe.ErrForgotten))
	require.Equal(t, "ada@example.com", back.Email)
	require.False(t, back.Advert)

	_, err = ring.Forget(t.Context(), lethe.Subject{Kind: "customer", ID: "cus_1"})
	require.NoError(t, err)
	back = order{}
	gone := fieldsOf(t, lethe.Unmarshal(t.Context(), s, data, &back), lethe.ErrForgotten)
	require.Equal(t, []string{"email", "phone", "note", "paid", "extra", "advert", "cents", "raw", "default", "ship.name", "ship.geo.lat", "bill.name"}, gone)
	require.Equal(t, "secret comment", back.Comment, "the other subject's field opens")
	require.Equal(t, "London", back.Ship.City)
	require.Equal(t, 7, back.Number)
	require.Equal(t, map[string]int{"engine": 1}, back.Items)
	require.Empty(t, back.Email)
	require.Nil(t, back.Phone)
}

func TestUnmarshalMovedMembers(t *testing.T) {
	t.Parallel()
	all, _ := orders(t, lethe.Options{RequireTenant: true})
	s := all.Tenant("acme")
	data := marshalOrder(t, s, newOrder())
	m := members(t, data)
	other := newOrder()
	other.Number, other.Email = 8, "other@example.com"
	second := members(t, marshalOrder(t, s, other))
	everything := []string{"email", "phone", "note", "paid", "extra", "advert", "cents", "raw", "default", "ship.name", "ship.geo.lat", "bill.name", "comment"}
	for name, test := range map[string]struct {
		data []byte
		want []string
		err  error
	}{
		"field of the same document":    {with(t, data, "e-mail", string(m["note"])), []string{"email"}, lethe.ErrDecrypt},
		"field of another document":     {with(t, data, "e-mail", string(second["e-mail"])), []string{"email"}, lethe.ErrDecrypt},
		"nested field":                  {with(t, data, "ship", string(m["bill"])), []string{"ship.name"}, lethe.ErrDecrypt},
		"another group":                 {with(t, data, "comment", string(m["note"])), []string{"comment"}, lethe.ErrDecrypt},
		"another purpose":               {with(t, data, "e-mail", string(m["advert"])), []string{"email"}, lethe.ErrDecrypt},
		"row id":                        {with(t, data, "number", "8"), everything, lethe.ErrDecrypt},
		"keys of another document":      {with(t, data, "$lethe_keys", string(second["$lethe_keys"])), everything, lethe.ErrDecrypt},
		"subject without keys":          {with(t, data, "user", `"cus_2"`), everything[:12], lethe.ErrKeyMissing},
		"subject of another group only": {with(t, data, "seller", `"sel_2"`), []string{"comment"}, lethe.ErrKeyMissing},
	} {
		var back order
		require.Equal(t, test.want, fieldsOf(t, lethe.Unmarshal(t.Context(), s, test.data, &back), test.err), name)
		if name == "field of the same document" {
			require.Equal(t, "a secret note", back.Note)
			require.Empty(t, back.Email)
		}
	}
	var back order
	require.Equal(t, everything, fieldsOf(t, lethe.Unmarshal(t.Context(), all.Tenant("umbrella"), data, &back), lethe.ErrKeyMissing), "another tenant")
	require.ErrorContains(t, lethe.Unmarshal(t.Context(), all, data, &back), "tenant")
	_ = marshalOrder(t, all.Tenant("umbrella"), newOrder())
	require.Error(t, lethe.Unmarshal(t.Context(), all.Tenant("umbrella"), data, &back), "the same person of another tenant")
	require.Empty(t, back.Email)

	// The same person and field under another record name.
	type letter struct {
		_     lethe.Document `lethe:"letters"`
		User  string         `json:"user" lethe:"subject=customer"`
		Email string         `json:"e-mail" lethe:"email"`
	}
	type note struct {
		_     lethe.Document `lethe:"notes"`
		User  string         `json:"user" lethe:"subject=customer"`
		Email string         `json:"e-mail" lethe:"email"`
	}
	ring := envelopetest.NewKeyring(t)
	letters, err := lethe.For[letter](ring)
	require.NoError(t, err)
	notes, err := lethe.For[note](ring)
	require.NoError(t, err)
	moved, err := lethe.Marshal(t.Context(), letters, &letter{User: "cus_1", Email: "ada@example.com"})
	require.NoError(t, err)
	var n note
	require.Equal(t, []string{"email"}, fieldsOf(t, lethe.Unmarshal(t.Context(), notes, moved, &n), lethe.ErrDecrypt))
	require.Equal(t, note{User: "cus_1"}, n)
}

// After an error of the whole call *v is as it was.
type spelled struct {
	_     lethe.Document `lethe:"spelled"`
	User  string         `json:"user" lethe:"subject=customer"`
	Email string         `json:"email" lethe:"email"`
	Plan  string         `json:"plan"`
}

// To encoding/json EMAIL is email and the last of two members counts. Whatever
// counts must be sealed, for the subject that counts, and be opened by the keys that count.
func TestMembersSpelledOtherwise(t *testing.T) {
	t.Parallel()
	s, err := lethe.For[spelled](envelopetest.NewKeyring(t))
	require.NoError(t, err)
	doc, err := lethe.Marshal(t.Context(), s, &spelled{User: "u", Email: "ada@example.com"})
	require.NoError(t, err)
	other, err := lethe.Marshal(t.Context(), s, &spelled{User: "v", Email: "bob@example.com"})
	require.NoError(t, err)
	keys := string(other[strings.Index(string(other), `"$lethe_keys"`):])
	for tail, want := range map[string]error{
		`,"EMAIL":"smuggled@x"}`: lethe.ErrNotSealed,
		`,"email":"smuggled@x"}`: lethe.ErrNotSealed,
		`,"Email":{}}`:           lethe.ErrNotSealed,
		`,"$LETHE_KEYS":null}`:   lethe.ErrNotSealed,
		`,"$lethe_keys":"AQE"}`:  lethe.ErrNotSealed,
		`,` + keys:               lethe.ErrKeyMissing,
		`,"USER":"v"}`:           lethe.ErrKeyMissing,
		`,"user":""}`:            lethe.ErrNoSubject,
	} {
		got := spelled{Plan: "before"}
		err := lethe.Unmarshal(t.Context(), s, []byte(strings.TrimSuffix(string(doc), "}")+tail), &got)
		require.ErrorIs(t, err, want, tail)
		require.Empty(t, got.Email, tail)
		require.NotContains(t, err.Error(), "smuggled", tail)
	}
}

func TestUnmarshalWholeCallErrors(t *testing.T) {
	t.Parallel()
	s, _ := orders(t)
	data := marshalOrder(t, s, newOrder())
	m := members(t, data)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx  context.Context
		data []byte
		opts []lethe.OpenOption
		want error
	}{
		"plaintext":         {data: with(t, data, "e-mail", `"plain@example.com"`), want: lethe.ErrNotSealed},
		"plaintext object":  {data: with(t, data, "extra", `{"plain@":"example.com"}`), want: lethe.ErrNotSealed},
		"plaintext number":  {data: with(t, data, "cents", `"12"`), want: lethe.ErrNotSealed},
		"plaintext keys":    {data: with(t, data, "$lethe_keys", `"plain@"`), want: lethe.ErrNotSealed},
		"keys for a cell":   {data: with(t, data, "$lethe_keys", string(m["e-mail"])), want: lethe.ErrNotSealed},
		"missing keys":      {data: with(t, data, "$lethe_keys", ""), want: lethe.ErrNotSealed},
		"null keys":         {data: with(t, data, "$lethe_keys", "null"), want: lethe.ErrNotSealed},
		"missing subject":   {data: with(t, data, "user", ""), want: lethe.ErrNoSubject},
		"missing row id":    {data: with(t, data, "number", ""), want: lethe.ErrNoSubject},
		"missing group":     {data: with(t, data, "seller", ""), want: lethe.ErrNoSubject},
		"not JSON":          {data: data[:len(data)-1]},
		"not an object":     {data: []byte(`"plain@"`)},
		"empty":             {data: nil},
		"wrong clear type":  {data: with(t, data, "number", `"plain@"`)},
		"no such field":     {data: data, opts: []lethe.OpenOption{lethe.Fields("nope")}},
		"cancelled context": {ctx: cancelled, data: data, want: context.Canceled},
	} {
		ctx := test.ctx
		if ctx == nil {
			ctx = t.Context()
		}
		back := newOrder()
		err := lethe.Unmarshal(ctx, s, test.data, &back, test.opts...)
		require.Error(t, err, name)
		if test.want != nil {
			require.ErrorIs(t, err, test.want, name)
		}
		require.NotContains(t, err.Error(), "plain@", name)
		require.Equal(t, newOrder(), back, name)
	}
	require.Error(t, lethe.Unmarshal[order](t.Context(), s, data, nil))

	rows, _ := profiles(t)
	p := newProfile()
	row, err := lethe.Marshal(t.Context(), rows, &p)
	require.NoError(t, err)
	for name, data := range map[string][]byte{"plaintext": with(t, row, "email", `"plain@"`), "not JSON": row[1:], "wrong clear type": with(t, row, "plan", `["plain@"]`)} {
		back := newProfile()
		err := lethe.Unmarshal(t.Context(), rows, data, &back)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "plain@", name)
		require.Equal(t, lethe.StatusPlain, back.Email.Status(), name)
		require.Equal(t, "pro", back.Plan, name)
	}
}

func TestUnmarshalTolerates(t *testing.T) {
	t.Parallel()
	s, _ := orders(t)
	data := marshalOrder(t, s, newOrder())
	var back order
	require.NoError(t, lethe.Unmarshal(t.Context(), s, with(t, data, "later", `{"$lethe":"a newer field"}`), &back), "unknown members")
	require.Equal(t, "ada@example.com", back.Email)
	back = order{}
	require.NoError(t, lethe.Unmarshal(t.Context(), s, with(t, data, "e-mail", ""), &back), "missing members")
	require.Empty(t, back.Email)
	require.Equal(t, "secret default", back.Default)
	require.NoError(t, lethe.Unmarshal(t.Context(), s, with(t, data, "e-mail", "null"), &back), "null members")
	require.Empty(t, back.Email)
	indented := bytes.NewBuffer(nil)
	require.NoError(t, json.Indent(indented, data, "", "\t"))
	require.NoError(t, lethe.Unmarshal(t.Context(), s, indented.Bytes(), &back))
	require.Equal(t, "ada@example.com", back.Email)
}

// What was sealed as another type is an error, and leaves no half of it behind.
func TestUnmarshalIntoAnotherType(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	type before struct {
		_    lethe.Document `lethe:"d"`
		User string         `json:"user" lethe:"subject=u"`
		P    *string        `json:"p" lethe:"p"`
		M    map[string]any `json:"m" lethe:"m,json"`
		N    int64          `json:"n" lethe:"n"`
		Q    string         `json:"q" lethe:"q"`
	}
	type after struct {
		_    lethe.Document `lethe:"d"`
		User string         `json:"user" lethe:"subject=u"`
		P    *int           `json:"p" lethe:"p"`
		M    struct {
			A string
			B int
		} `json:"m" lethe:"m,json"`
		N int8   `json:"n" lethe:"n"`
		Q string `json:"q" lethe:"q"`
	}
	old, err := lethe.For[before](ring)
	require.NoError(t, err)
	text := "plain@"
	data, err := lethe.Marshal(t.Context(), old, &before{User: "1", P: &text, M: map[string]any{"A": "plain@", "B": "plain@"}, N: 1000, Q: "same"})
	require.NoError(t, err)
	now, err := lethe.For[after](ring)
	require.NoError(t, err)
	var back after
	err = lethe.Unmarshal(t.Context(), now, data, &back)
	var failed *lethe.RowErrors
	require.ErrorAs(t, err, &failed)
	require.Len(t, failed.Errors, 3)
	require.NotContains(t, err.Error(), "plain@")
	require.Equal(t, after{User: "1", Q: "same"}, back)
}

func TestUnmarshalDocumentWithAPolicy(t *testing.T) {
	t.Parallel()
	s, _ := orders(t, lethe.Options{Policy: func(_ context.Context, a lethe.Access) lethe.Decision {
		if a.Purpose == "marketing" {
			return lethe.Deny
		}
		return lethe.Allow
	}})
	data := marshalOrder(t, s, newOrder())
	var back order
	require.Equal(t, []string{"advert"}, fieldsOf(t, lethe.Unmarshal(t.Context(), s, data, &back), lethe.ErrDenied))
	require.Equal(t, "ada@example.com", back.Email)
	require.False(t, back.Advert)
	back = order{}
	require.NoError(t, lethe.Unmarshal(t.Context(), s, data, &back, lethe.Fields("email", "ship.name")))
	require.Equal(t, "ada@example.com", back.Email)
	require.Equal(t, "Ada Lovelace", back.Ship.Name)
	require.Empty(t, back.Note, "not asked for")
	require.Nil(t, back.Bill.Geo)
	require.Empty(t, back.Bill.Name)
	back = order{}
	require.ErrorIs(t, lethe.Unmarshal(t.Context(), s, data, &back, lethe.Masks()), lethe.ErrDenied, "a plain field cannot hold a mask")
	require.Empty(t, back.Email)
}

type tagged struct {
	Email string `json:"email" lethe:"email"`
}

type ownJSON struct {
	Email string `lethe:"email"`
}

func (ownJSON) MarshalJSON() ([]byte, error) { return []byte(`"own"`), nil }

// A document encoding/json would encode in another way than its shadow is refused by For.
func TestDocumentsThatCannotBeEncodedAreRefused(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	type dash struct {
		_    lethe.Document `lethe:"d"`
		User string         `lethe:"subject=u"`
		E    string         `json:"-" lethe:"e"`
	}
	_, err := lethe.For[dash](ring)
	require.ErrorContains(t, err, `json:"-"`)
	type dashNested struct {
		_    lethe.Document `lethe:"d"`
		User string         `lethe:"subject=u"`
		E    string         `lethe:"e"`
		In   *tagged        `json:"-" lethe:"in"`
	}
	_, err = lethe.For[dashNested](ring)
	require.ErrorContains(t, err, `json:"-"`)
	type dashSubject struct {
		_    lethe.Document `lethe:"d"`
		User string         `json:"-" lethe:"subject=u"`
		E    string         `lethe:"e"`
	}
	_, err = lethe.For[dashSubject](ring)
	require.ErrorContains(t, err, `json:"-"`, "it could never be opened")
	type twice struct {
		_    lethe.Document `lethe:"d"`
		User string         `lethe:"subject=u"`
		E    string         `json:"User" lethe:"e"`
	}
	_, err = lethe.For[twice](ring)
	require.ErrorContains(t, err, "taken")
	type taken struct {
		_    lethe.Document `lethe:"d"`
		User string         `lethe:"subject=u"`
		E    string         `json:"$lethe_keys" lethe:"e"`
	}
	_, err = lethe.For[taken](ring)
	require.ErrorContains(t, err, "taken")
	type embedsPointer struct {
		_ lethe.Document `lethe:"d"`
		*tagged
		User string `lethe:"subject=u"`
	}
	_, err = lethe.For[embedsPointer](ring)
	require.Error(t, err)
	type hidden struct {
		_      lethe.Document `lethe:"d"`
		tagged `json:"nested" lethe:"nested"`
		User   string `lethe:"subject=u"`
	}
	_, err = lethe.For[hidden](ring)
	require.ErrorContains(t, err, "export", "encoding/json could not decode it, and Marshal would lose it")
	type nestedOwn struct {
		_    lethe.Document `lethe:"d"`
		User string         `lethe:"subject=u"`
		In   ownJSON        `json:"in" lethe:"in"`
	}
	_, err = lethe.For[nestedOwn](ring)
	require.ErrorContains(t, err, "MarshalJSON")
	type list struct {
		_    lethe.Document `lethe:"d"`
		User string         `lethe:"subject=u"`
		E    string         `lethe:"e"`
		In   []tagged       `json:"in"`
	}
	_, err = lethe.For[list](ring)
	require.ErrorContains(t, err, "list.In", "the tags of elements would do nothing, and leave plaintext")
	type table struct {
		_    lethe.Document `lethe:"d"`
		User string         `lethe:"subject=u"`
		E    string         `lethe:"e"`
		In   struct{ M map[string]*[2]tagged }
	}
	_, err = lethe.For[table](ring)
	require.ErrorContains(t, err, "table.In")
}

// A row whose JSON lacks what opens it is not written as a document.
func TestRowsThatCannotBeDecodedAreRefused(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	type noKeys struct {
		Keys lethe.Keys           `json:"-" lethe:"rows"`
		ID   string               `lethe:"subject=u"`
		E    lethe.Secret[string] `lethe:"e"`
	}
	keys, err := lethe.For[noKeys](ring)
	require.NoError(t, err)
	_, err = lethe.Marshal(t.Context(), keys, &noKeys{ID: "1", E: lethe.Of("e")})
	require.ErrorContains(t, err, "noKeys.Keys")
	type noID struct {
		Keys lethe.Keys           `lethe:"rows"`
		ID   string               `json:"-" lethe:"subject=u"`
		E    lethe.Secret[string] `lethe:"e"`
	}
	ids, err := lethe.For[noID](ring)
	require.NoError(t, err)
	_, err = lethe.Marshal(t.Context(), ids, &noID{ID: "1", E: lethe.Of("e")})
	require.ErrorContains(t, err, "noID.ID")

	// What is not needed may be left out.
	type less struct {
		Keys lethe.Keys           `lethe:"rows"`
		ID   string               `lethe:"subject=u"`
		E    lethe.Secret[string] `json:"-" lethe:"e"`
		F    lethe.Secret[string] `lethe:"f"`
	}
	s, err := lethe.For[less](ring)
	require.NoError(t, err)
	data, err := lethe.Marshal(t.Context(), s, &less{ID: "1", E: lethe.Of("left out"), F: lethe.Of("f")})
	require.NoError(t, err)
	require.Len(t, members(t, data), 3)
	var back less
	require.NoError(t, lethe.Unmarshal(t.Context(), s, data, &back))
	require.Equal(t, "f", reveal(t, back.F))
	require.Equal(t, lethe.StatusUnset, back.E.Status())
}

// Tags where no plan reaches would leave plaintext; recursive types are no trap.
type (
	twoNames struct {
		Keys  lethe.Keys           `lethe:"rows"`
		ID    string               `json:"id"    lethe:"subject=person"`
		Email lethe.Secret[string] `json:"email" lethe:"email"`
		Other string               `json:"Keys"`
	}
	twoIDs struct {
		Keys  lethe.Keys           `json:"keys"  lethe:"rows"`
		ID    string               `lethe:"subject=person"`
		Email lethe.Secret[string] `json:"email" lethe:"email"`
		Other int                  `json:"ID"`
	}
)

// To encoding/json a tagged field hides one that has its name, and two that are both tagged hide each other.
func TestRowsWhoseJSONLosesTheKeysAreRefused(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	keys, err := lethe.For[twoNames](ring)
	require.NoError(t, err)
	ids, err := lethe.For[twoIDs](ring)
	require.NoError(t, err)
	for range 2 {
		data, err := lethe.Marshal(t.Context(), keys, &twoNames{ID: "1", Email: lethe.Of("ada@example.com"), Other: "o"})
		require.ErrorContains(t, err, "lethe_test.twoNames does not carry its Keys")
		require.Nil(t, data)
		data, err = lethe.Marshal(t.Context(), ids, &twoIDs{ID: "1", Email: lethe.Of("ada@example.com"), Other: 1})
		require.ErrorContains(t, err, "lethe_test.twoIDs does not carry its Keys")
		require.Nil(t, data)
	}
}

func TestTagsOutOfReachAreRefused(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	type row struct {
		Keys lethe.Keys           `lethe:"rows"`
		ID   string               `lethe:"subject=u"`
		E    lethe.Secret[string] `lethe:"e"`
		In   tagged
	}
	_, err := lethe.For[row](ring)
	require.ErrorContains(t, err, "row.In")
	type tree map[string]tree
	type node struct{ Next []*node }
	type document struct {
		_    lethe.Document `lethe:"d"`
		User string         `lethe:"subject=u"`
		E    string         `lethe:"e"`
		Tree tree
		Node node
	}
	s, err := lethe.For[document](ring)
	require.NoError(t, err)
	d := document{User: "1", E: "e", Tree: tree{"a": {"b": nil}}, Node: node{Next: []*node{{}}}}
	data, err := lethe.Marshal(t.Context(), s, &d)
	require.NoError(t, err)
	var back document
	require.NoError(t, lethe.Unmarshal(t.Context(), s, data, &back))
	require.Equal(t, d, back)
}

// No mutation of a document panics, and none yields a value that was not sealed
// there. Keys are random in each process, so the target splices the input into a
// document of its own; alone, the input is a document without our keys.
func FuzzUnmarshalDocument(f *testing.F) {
	s, _ := orders(f)
	data := marshalOrder(f, s, newOrder())
	second := newOrder()
	second.Number, second.Email, second.Comment = 8, "other@example.com", "other comment"
	_ = marshalOrder(f, s, second)
	f.Add([]byte(`{"$lethe_keys":{"$lethe":"AQ"},"user":"cus_1","number":7,"e-mail":{"$lethe":"EA"}}`), uint16(0), uint16(0))
	f.Add([]byte(`{"user":"cus_1","number":7}`), uint16(0), uint16(0))
	f.Add([]byte(`null`), uint16(0), uint16(0))
	for _, name := range []string{`"e-mail"`, `"note"`, `"$lethe_keys"`, `"user"`, `"ship"`, `"bill"`, `"number"`} {
		at := uint16(bytes.Index(data, []byte(name)))
		f.Add([]byte(`"comment"`), at, uint16(len(name)))
		f.Add([]byte{}, at, uint16(2))
		f.Add([]byte("A"), at+uint16(len(name))+20, uint16(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, at, cut uint16) {
		from := int(at) % len(data)
		to := min(from+int(cut)%64, len(data))
		requireNothingForged(t, s, in)
		requireNothingForged(t, s, slices.Concat(data[:from], in, data[to:]))
	})
}

// requireNothingForged decodes a document and compares what opened with newOrder.
func requireNothingForged(t *testing.T, s *lethe.Sealer[order], in []byte) {
	t.Helper()
	requireSameReadings(t, s, in)
	var back order
	if err := lethe.Unmarshal(t.Context(), s, in, &back); err != nil {
		for _, plain := range orderPlaintexts {
			if len(plain) > 8 && strings.Contains(err.Error(), plain) {
				t.Errorf("the error shows a plaintext: %v", err)
			}
		}
	}
	want := newOrder()
	check := func(field string, zero, same bool) {
		if !zero && !same {
			t.Errorf("%s has a value nobody sealed there", field)
		}
	}
	check("email", back.Email == "", back.Email == want.Email)
	check("phone", back.Phone == nil, back.Phone != nil && *back.Phone == *want.Phone)
	check("note", back.Note == "", back.Note == want.Note)
	check("paid", back.Paid.IsZero(), back.Paid.Equal(want.Paid))
	check("extra", back.Extra == nil, len(back.Extra) == 1 && back.Extra["secret-key"] == "secret-value")
	check("cents", back.Cents == 0, back.Cents == want.Cents)
	check("raw", back.Raw == nil, bytes.Equal(back.Raw, want.Raw))
	check("default", back.Default == "", back.Default == want.Default)
	check("comment", back.Comment == "", back.Comment == want.Comment)
	check("ship.name", back.Ship.Name == "", back.Ship.Name == want.Ship.Name)
	if back.Bill != nil {
		check("bill.name", back.Bill.Name == "", back.Bill.Name == want.Bill.Name)
	}
}
