package lethe_test

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
	"github.com/lethe-go/lethe/tokenize"
)

const testPAN = "4111111111111111"

// payer has a token of each kind beside a sealed field.
type payer struct {
	Keys    lethe.Keys           `lethe:"payers"`
	ID      string               `lethe:"subject=customer"`
	Name    lethe.Secret[string] `lethe:"name"`
	Card    lethe.Token          `lethe:"card,token=pan,mask=last4"`
	CardKey int64                `lethe:"version=card"`
	Shared  lethe.Token          `lethe:"shared,token=joinable"`
	SharedV uint32               `lethe:"version=shared"`
	IBAN    lethe.Token          `lethe:"iban,token=random"`
	Home    *payerHome           `lethe:"home"`
}

type payerHome struct {
	Card  lethe.Token `lethe:"card,token=pan"`
	CardV int32       `lethe:"version=card"`
}

func payers(t testing.TB, opts lethe.Options) (*lethe.Sealer[payer], *envelope.Keyring) {
	t.Helper()
	ring := envelopetest.NewKeyring(t)
	all := tokenizersOf(t, ring)
	opts.Tokenizers = map[string]tokenize.Tokenizer{"pan": all["format-preserving"], "joinable": all["joinable"], "random": all["random"]}
	s, err := lethe.For[payer](ring, opts)
	require.NoError(t, err)
	return s, ring
}

func newPayer() payer {
	return payer{
		ID: "cus_1", Name: lethe.Of("Ada"), Card: lethe.TokenOf(testPAN), Shared: lethe.TokenOf(testPAN), IBAN: lethe.TokenOf("GB82WEST12345698765432"),
		Home: &payerHome{Card: lethe.TokenOf(testPAN)},
	}
}

func tokenText(t testing.TB, tok lethe.Token) string {
	t.Helper()
	text, err := tok.Token()
	require.NoError(t, err)
	return text
}

func revealed(t testing.TB, tok lethe.Token) string {
	t.Helper()
	text, err := tok.Reveal()
	require.NoError(t, err)
	return text
}

func TestTokensInARow(t *testing.T) {
	s, ring := payers(t, lethe.Options{})
	p := newPayer()
	_, err := p.Card.Token()
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	require.NoError(t, s.Seal(t.Context(), &p))
	card := tokenText(t, p.Card)
	require.Equal(t, testPAN[:6]+testPAN[12:], card[:6]+card[12:])
	require.NotEqual(t, testPAN, card)
	require.EqualValues(t, 1, p.CardKey)
	require.EqualValues(t, 1, p.SharedV)
	require.EqualValues(t, 1, p.Home.CardV)
	require.NotEqual(t, card, tokenText(t, p.Home.Card), "another field")
	_, err = p.Card.Reveal()
	require.ErrorIs(t, err, lethe.ErrSealed)
	require.ErrorIs(t, s.Seal(t.Context(), &p), lethe.ErrSealed, "nothing to seal")

	other := newPayer()
	other.ID = "cus_2"
	require.NoError(t, s.Seal(t.Context(), &other))
	require.Equal(t, tokenText(t, p.Shared), tokenText(t, other.Shared), "to be joined on")
	require.NotEqual(t, card, tokenText(t, other.Card))

	require.NoError(t, s.Open(t.Context(), &p))
	require.Equal(t, testPAN, revealed(t, p.Card))
	require.Equal(t, testPAN, revealed(t, p.Shared))
	require.Equal(t, testPAN, revealed(t, p.Home.Card))
	require.Equal(t, "GB82WEST12345698765432", revealed(t, p.IBAN))
	require.Equal(t, "•••• 1111", p.Card.Masked())
	require.Equal(t, card, tokenText(t, p.Card), "open, and still that token")

	// A new value for one token; everything else stays.
	p.Card = lethe.TokenOf("5555555555554444")
	require.NoError(t, s.Seal(t.Context(), &p))
	require.NotEqual(t, card, tokenText(t, p.Card))
	p.Home.Card = lethe.NullToken()
	require.NoError(t, s.Seal(t.Context(), &p))

	// After a rotation the version beside a token still finds its key.
	_, err = ring.Rotate(t.Context(), envelope.Subject{Kind: "customer", ID: "cus_1"})
	require.NoError(t, err)
	require.NoError(t, s.Open(t.Context(), &p))
	require.Equal(t, "5555555555554444", revealed(t, p.Card))
	require.EqualValues(t, 1, p.CardKey)
	require.NoError(t, s.Reseal(t.Context(), &p))
	require.EqualValues(t, 2, p.CardKey)
	require.NoError(t, s.Open(t.Context(), &p))
	require.Equal(t, "5555555555554444", revealed(t, p.Card))
	_, err = p.Home.Card.Reveal()
	require.ErrorIs(t, err, lethe.ErrNull)

	_, err = ring.Forget(t.Context(), envelope.Subject{Kind: "customer", ID: "cus_1"})
	require.NoError(t, err)
	rows := []payer{loadedPayer(t, &p), loadedPayer(t, &other)}
	require.NoError(t, s.OpenSlice(t.Context(), rows))
	require.Equal(t, lethe.StatusForgotten, rows[0].Card.Status())
	require.Equal(t, lethe.StatusForgotten, rows[0].IBAN.Status())
	require.Equal(t, testPAN, revealed(t, rows[0].Shared), "acknowledged when it was configured")
	require.Equal(t, testPAN, revealed(t, rows[1].Card))
	p = newPayer()
	require.ErrorIs(t, s.Seal(t.Context(), &p), lethe.ErrForgotten)
	require.Equal(t, lethe.StatusPlain, p.Card.Status(), "nothing changed")
}

// loadedPayer is a row as it comes from the database.
func loadedPayer(t testing.TB, p *payer) payer {
	t.Helper()
	out := payer{ID: p.ID, CardKey: p.CardKey, SharedV: p.SharedV}
	move := func(from driver.Valuer, to sql.Scanner) {
		v, err := from.Value()
		require.NoError(t, err)
		require.NoError(t, to.Scan(v))
	}
	move(p.Keys, &out.Keys)
	move(p.Name, &out.Name)
	move(p.Card, &out.Card)
	move(p.Shared, &out.Shared)
	move(p.IBAN, &out.IBAN)
	return out
}

func TestTokensAreAllOrNothing(t *testing.T) {
	s, _ := payers(t, lethe.Options{})
	rows := []payer{newPayer(), newPayer()}
	rows[1].Card = lethe.TokenOf("4111111111111112")
	err := s.SealSlice(t.Context(), rows)
	require.ErrorIs(t, err, tokenize.ErrValue)
	require.ErrorContains(t, err, "row 1 of 2")
	require.ErrorContains(t, err, `"card"`)
	require.NotContains(t, err.Error(), "4111")
	require.Equal(t, lethe.StatusPlain, rows[0].Card.Status())
	require.Equal(t, lethe.StatusPlain, rows[0].Name.Status())
	rows[1].Card = lethe.TokenOf("")
	require.Error(t, s.SealSlice(t.Context(), rows))
	rows[1].Card, rows[1].ID = lethe.TokenOf(testPAN), ""
	require.ErrorIs(t, s.SealSlice(t.Context(), rows), lethe.ErrNoSubject)
	rows[1].ID = "cus_2"
	require.NoError(t, s.SealSlice(t.Context(), rows))

	rows[0].CardKey = 7
	require.NoError(t, rows[1].IBAN.Scan("tok_00000000000000000000000000"))
	err = s.OpenSlice(t.Context(), rows)
	var failed *lethe.RowErrors
	require.ErrorAs(t, err, &failed)
	require.ErrorIs(t, err, tokenize.ErrKeyMissing)
	require.ErrorIs(t, err, tokenize.ErrToken)
	require.Equal(t, lethe.StatusFailed, rows[0].Card.Status())
	require.Equal(t, testPAN, revealed(t, rows[1].Card))
	require.Equal(t, lethe.StatusOpen, rows[0].Name.Status())
	for _, v := range []int64{-1, 1 << 40} {
		rows[0].CardKey = v
		require.ErrorIs(t, s.Open(t.Context(), &rows[0]), tokenize.ErrKeyMissing)
	}
	rows[0].CardKey = 1
	require.NoError(t, s.Open(t.Context(), &rows[0]))
	require.Equal(t, testPAN, revealed(t, rows[0].Card))
}

type away struct{ tokenize.Tokenizer }

var errKeysAway = errors.New("away")

func (away) Tokenize(context.Context, []tokenize.Item) error   { return errKeysAway }
func (away) Detokenize(context.Context, []tokenize.Item) error { return errKeysAway }

func TestATokenizerThatIsAway(t *testing.T) {
	type row struct {
		Keys lethe.Keys           `lethe:"rows"`
		ID   string               `lethe:"subject=customer"`
		Name lethe.Secret[string] `lethe:"name"`
		Card lethe.Token          `lethe:"card,token=pan"`
	}
	s, err := lethe.For[row](envelopetest.NewKeyring(t), lethe.Options{Tokenizers: map[string]tokenize.Tokenizer{"pan": away{}}})
	require.NoError(t, err)
	r := row{ID: "1", Name: lethe.Of("Ada"), Card: lethe.TokenOf("x")}
	require.ErrorIs(t, s.Seal(t.Context(), &r), errKeysAway)
	require.Equal(t, lethe.StatusPlain, r.Name.Status())
	r.Card = lethe.NullToken()
	require.NoError(t, s.Seal(t.Context(), &r))
	require.NoError(t, r.Card.Scan("token"))
	require.ErrorIs(t, s.Open(t.Context(), &r), errKeysAway)
	require.Equal(t, lethe.StatusSealed, r.Name.Status(), "no field changed")
}

func TestTokensAndPolicies(t *testing.T) {
	decision := lethe.Allow
	var asked []lethe.Access
	s, _ := payers(t, lethe.Options{Policy: func(_ context.Context, a lethe.Access) lethe.Decision {
		if a.Field == "card" {
			asked = append(asked, a)
			return decision
		}
		return lethe.Allow
	}})
	p := newPayer()
	require.NoError(t, s.Seal(t.Context(), &p))
	decision = lethe.Deny
	require.NoError(t, s.Open(t.Context(), &p))
	_, err := p.Card.Reveal()
	require.ErrorIs(t, err, lethe.ErrDenied)
	require.Equal(t, "[denied]", p.Card.Masked())
	require.Equal(t, testPAN, revealed(t, p.Shared))
	decision = lethe.MaskOnly
	require.NoError(t, s.Open(t.Context(), &p))
	require.Equal(t, "•••• 1111", p.Card.Masked())
	_, err = p.Card.Reveal()
	require.ErrorIs(t, err, lethe.ErrDenied)
	decision = lethe.Allow
	require.NoError(t, s.Open(t.Context(), &p, lethe.Masks()))
	require.Equal(t, lethe.StatusDenied, p.Card.Status())
	require.NoError(t, s.Open(t.Context(), &p, lethe.Fields("card")))
	require.Equal(t, testPAN, revealed(t, p.Card))
	require.Len(t, asked, 4)
	require.Equal(t, "billing", asked[0].Purpose)
}

func TestTokenTenants(t *testing.T) {
	s, _ := payers(t, lethe.Options{})
	p := newPayer()
	require.NoError(t, s.Tenant("acme").Seal(t.Context(), &p))
	q := loadedPayer(t, &p)
	require.Error(t, s.Tenant("globex").Open(t.Context(), &q))
	require.NotEqual(t, lethe.StatusOpen, q.Card.Status())
	require.NotEqual(t, lethe.StatusOpen, q.IBAN.Status())
	require.NoError(t, s.Tenant("acme").Open(t.Context(), &q))
}

func TestTokenCodecs(t *testing.T) {
	plain := lethe.TokenOf(testPAN)
	var sealed lethe.Token
	require.NoError(t, sealed.Scan([]byte("token <1>")))
	for _, encode := range []func(v any) ([]byte, error){
		json.Marshal, xml.Marshal, func(v any) ([]byte, error) {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(v)
			return b.Bytes(), err
		},
	} {
		_, err := encode(plain)
		require.ErrorIs(t, err, lethe.ErrNotSealed)
		_, err = encode(lethe.Token{})
		require.ErrorIs(t, err, lethe.ErrNotSealed)
		_, err = encode(sealed)
		require.NoError(t, err)
	}
	_, err := plain.Value()
	require.ErrorIs(t, err, lethe.ErrNotSealed)
	data, err := json.Marshal(struct{ A, B lethe.Token }{sealed, lethe.NullToken()})
	require.NoError(t, err)
	var back struct{ A, B lethe.Token }
	require.NoError(t, json.Unmarshal(data, &back))
	require.True(t, back.A.Equal(sealed))
	require.False(t, back.A.Equal(plain))
	require.True(t, lethe.TokenOf("a").Equal(lethe.TokenOf("a")))
	require.False(t, lethe.TokenOf("a").Equal(lethe.TokenOf("b")))
	require.False(t, back.A.Equal(lethe.Token{}))
	require.Equal(t, lethe.StatusNull, back.B.Status())
	for _, bad := range []string{`"4111111111111111"`, `4111111111111111`, `{"$token":""}`, `{"$token":1}`, `{"$lethe":"x"}`, `{"$token":"a","$token":"b"}`, `{}`, `[]`} {
		require.ErrorIs(t, json.Unmarshal([]byte(bad), &back.A), lethe.ErrNotSealed, bad)
	}
	require.Error(t, sealed.Scan(7))
	require.ErrorIs(t, sealed.Scan(""), lethe.ErrNotSealed)
	require.NoError(t, sealed.Scan(nil))
	require.Equal(t, lethe.StatusNull, sealed.Status())
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		require.NotContains(t, fmt.Sprintf(format, plain), "4111")
		require.NotContains(t, fmt.Sprintf(format, &newTokenRow().Card), "4111")
		require.NotContains(t, fmt.Sprintf(format, *newTokenRow()), "4111")
	}
}

func newTokenRow() *struct{ Card lethe.Token } {
	return &struct{ Card lethe.Token }{lethe.TokenOf(testPAN)}
}

func TestTokenTagsThatAreRefused(t *testing.T) {
	ring := envelopetest.NewKeyring(t)
	type wrong struct {
		Keys    lethe.Keys           `lethe:"wrong"`
		ID      string               `lethe:"subject=customer"`
		Name    lethe.Secret[string] `lethe:"name,token=pan"`
		Bare    lethe.Token
		NoToken lethe.Token      `lethe:"no_token"`
		Purpose lethe.Token      `lethe:"purpose,token=pan,purpose=x"`
		Empty   lethe.Token      `lethe:"empty,token="`
		Pointer *lethe.Token     `lethe:"pointer,token=pan"`
		Nowhere int64            `lethe:"version=nowhere"`
		Float   float64          `lethe:"version=no_token"`
		More    int64            `lethe:"version=name,mask=full"`
		Good    lethe.Token      `lethe:"good,token=pan"`
		V       int64            `lethe:"version=good"`
		W       int64            `lethe:"version=good"`
		Index   lethe.BlindIndex `lethe:"index,of=good,norm=exact/1"`
		hidden  lethe.Token      `lethe:"hidden,token=pan"`
	}
	_, err := lethe.For[wrong](ring)
	for _, says := range []string{
		"wrong.Name: option \"token\" belongs", "wrong.Bare: Token needs a tag", "wrong.NoToken: Token needs token=", `wrong.Purpose: unknown option "purpose"`,
		"wrong.Empty:", "wrong.Pointer: a pointer to lethe.Token", "wrong.Nowhere: version=nowhere names no Token", "wrong.Float: float64 cannot hold",
		"wrong.More: write version=FIELD", "wrong.W: \"good\" has a version field already", "wrong.Index: of=good is a Token", "wrong.hidden: the field is not exported",
	} {
		require.ErrorContains(t, err, says)
	}
	_ = wrong{}.hidden

	type unbound struct {
		Keys lethe.Keys  `lethe:"unbound"`
		ID   string      `lethe:"subject=customer"`
		A    lethe.Token `lethe:"a,token=none"`
		B    lethe.Token `lethe:"b,token=pan"`
		C    lethe.Token `lethe:"c,token=oneway"`
	}
	oneway, err := tokenize.NewOneWay(tokenize.OneWayOptions{Domain: "d", Keys: lethe.TokenKeys(ring)})
	require.NoError(t, err)
	_, err = lethe.For[unbound](ring, lethe.Options{Tokenizers: map[string]tokenize.Tokenizer{"pan": tokenizersOf(t, ring)["joinable"], "oneway": oneway}})
	require.ErrorContains(t, err, "unbound.A: token=none: Options.Tokenizers has no such tokenizer")
	require.ErrorContains(t, err, "unbound.B: the tokens of token=pan need the version")
	require.ErrorContains(t, err, "unbound.C: token=oneway makes one-way")

	type document struct {
		_  lethe.Document `lethe:"doc"`
		ID string         `lethe:"subject=customer"`
		A  lethe.Token    `lethe:"a,token=pan"`
	}
	_, err = lethe.For[document](ring)
	require.ErrorContains(t, err, "a document cannot have a Token")
}

// A row with tokens in SQLite.
func TestTokensInSQL(t *testing.T) {
	s, _ := payers(t, lethe.Options{})
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "t.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	_, err = db.ExecContext(t.Context(), "CREATE TABLE payers (keys BLOB, id TEXT, name BLOB, card TEXT, card_key INT, shared TEXT, shared_v INT, iban TEXT)")
	require.NoError(t, err)
	p := newPayer()
	p.Home, p.IBAN = nil, lethe.NullToken()
	insert := "INSERT INTO payers VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
	_, err = db.ExecContext(t.Context(), insert, p.Keys, p.ID, p.Name, p.Card, p.CardKey, p.Shared, p.SharedV, p.IBAN)
	require.ErrorIs(t, err, lethe.ErrNotSealed, "not sealed, not written")
	require.NoError(t, s.Seal(t.Context(), &p))
	_, err = db.ExecContext(t.Context(), insert, p.Keys, p.ID, p.Name, p.Card, p.CardKey, p.Shared, p.SharedV, p.IBAN)
	require.NoError(t, err)
	var q payer
	err = db.QueryRowContext(t.Context(), "SELECT keys, id, name, card, card_key, shared, shared_v, iban FROM payers WHERE card = ?", p.Card).Scan(&q.Keys, &q.ID, &q.Name, &q.Card, &q.CardKey, &q.Shared, &q.SharedV, &q.IBAN)
	require.NoError(t, err)
	require.NoError(t, s.Open(t.Context(), &q))
	require.Equal(t, testPAN, revealed(t, q.Card))
	require.Equal(t, lethe.StatusNull, q.IBAN.Status())
}

// The column of a card number holds a token of the same form, and the version of
// its key stands beside it.
func ExampleToken() {
	type Payment struct {
		Keys     lethe.Keys  `lethe:"payments"`
		Customer string      `lethe:"subject=customer"`
		Card     lethe.Token `lethe:"card,token=pan,mask=last4"`
		CardKey  int64       `lethe:"version=card"`
	}
	ctx := context.Background()
	ring, closeRing := exampleRing(ctx)
	defer closeRing()
	card, err := tokenize.CardFormat(tokenize.CardOptions{KeepBIN: 6, KeepLast4: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	pan, err := tokenize.NewFormatPreserving(tokenize.FormatPreservingOptions{Name: "pan", Format: card, Keys: lethe.TokenKeys(ring)})
	if err != nil {
		fmt.Println(err)
		return
	}
	payments, err := lethe.For[Payment](ring, lethe.Options{Tokenizers: map[string]tokenize.Tokenizer{"pan": pan}})
	if err != nil {
		fmt.Println(err)
		return
	}
	p := Payment{Customer: "cus_1", Card: lethe.TokenOf("4111111111111111")}
	if err := payments.Seal(ctx, &p); err != nil {
		fmt.Println(err)
		return
	}
	token, err := p.Card.Token()
	fmt.Println(len(token), token[12:], p.CardKey, err)
	fmt.Println(p.Card)
	if err := payments.Open(ctx, &p); err != nil {
		fmt.Println(err)
		return
	}
	number, err := p.Card.Reveal()
	fmt.Println(number, p.Card.Masked(), err)
	// Output:
	// 16 1111 1 <nil>
	// [sealed]
	// 4111111111111111 •••• 1111 <nil>
}

// counted is a tokenizer that counts what cannot be taken back.
type counted struct{ made, turned *int }

func (c counted) Tokenize(_ context.Context, items []tokenize.Item) error {
	*c.made += len(items)
	for i := range items {
		items[i].Token = "token"
	}
	return nil
}

func (c counted) Detokenize(_ context.Context, items []tokenize.Item) error {
	*c.turned += len(items)
	for i := range items {
		items[i].Value = "value"
	}
	return nil
}

// A call that fails for another reason stores no token and takes no use.
func TestFailedCallsTakeNoUse(t *testing.T) {
	type row struct {
		Keys lethe.Keys           `lethe:"rows"`
		ID   string               `lethe:"subject=customer"`
		Name lethe.Secret[string] `lethe:"name"`
		Card lethe.Token          `lethe:"card,token=pan"`
	}
	c := counted{new(int), new(int)}
	ring := envelopetest.NewKeyring(t)
	s, err := lethe.For[row](ring, lethe.Options{Tokenizers: map[string]tokenize.Tokenizer{"pan": c}})
	require.NoError(t, err)
	fresh := func() row { return row{ID: "1", Name: lethe.Of("Ada"), Card: lethe.TokenOf("x")} }
	sealed := fresh()
	require.NoError(t, s.Seal(t.Context(), &sealed))
	require.Equal(t, 1, *c.made)
	ring.Close()
	require.Error(t, s.Open(t.Context(), &sealed))
	require.Error(t, s.OpenSlice(t.Context(), []row{sealed, sealed}))
	require.Zero(t, *c.turned)
	r, all := fresh(), []row{fresh(), fresh()}
	require.Error(t, s.Seal(t.Context(), &r))
	require.Error(t, s.SealSlice(t.Context(), all))
	require.Equal(t, 1, *c.made)
	require.Equal(t, lethe.StatusPlain, r.Card.Status())
	require.Equal(t, lethe.StatusPlain, all[0].Name.Status())
}

func TestTokenKeysOfNoKeyring(t *testing.T) {
	_, err := tokenize.NewDateShift(tokenize.DateShiftOptions{Name: "n", Days: 1, Keys: lethe.TokenKeys(nil)})
	require.ErrorContains(t, err, "Keys is required")
}
