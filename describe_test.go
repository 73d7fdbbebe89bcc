package lethe_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

func TestDescribe(t *testing.T) {
	type place struct {
		Street lethe.Secret[string] `db:"street" lethe:"street"`
	}
	type order struct {
		RowID  int64                `db:"order_id,pk" lethe:"id"`
		Keys   lethe.Keys           `db:"keys" lethe:"orders"`
		Buyer  string               `db:"buyer" lethe:"subject=customer"`
		Seller string               `db:"-" lethe:"subject=shop,group=seller"`
		Email  lethe.Secret[string] `db:"email" lethe:"email,mask=email,purpose=news"`
		Index  lethe.BlindIndex     `db:"email_idx" lethe:"email_idx,of=email,norm=email/1,bits=16"`
		Price  lethe.Secret[int64]  `lethe:"price,group=seller"`
		To     *place               `lethe:"to"`
		Note   string               `db:"note"`
	}
	s, err := lethe.For[order](envelopetest.NewKeyring(t))
	require.NoError(t, err)
	d := s.Describe()
	require.Equal(t, d, s.Rows().Describe())
	require.Equal(t, "orders", d.Record)
	require.Equal(t, "lethe_test.order", d.Type)
	require.Equal(t, []lethe.FieldDescription{
		{GoName: "RowID", Column: "order_id", Role: lethe.RoleID, RowID: true, Value: "int64", Index: []int{0}},
		{GoName: "Keys", Name: "orders", Column: "keys", Role: lethe.RoleKeys, Value: "lethe.Keys", Index: []int{1}},
		{GoName: "Buyer", Column: "buyer", Role: lethe.RoleSubject, Kind: "customer", Value: "string", Index: []int{2}},
		{GoName: "Seller", Role: lethe.RoleSubject, Kind: "shop", Group: "seller", Value: "string", Index: []int{3}},
		{GoName: "Email", Name: "email", Column: "email", Role: lethe.RoleSecret, Kind: "customer", Purpose: "news", Mask: "email", Value: "string", Index: []int{4}},
		{GoName: "Index", Name: "email_idx", Column: "email_idx", Role: lethe.RoleIndex, Kind: "customer", Purpose: "news", Of: "email", Norm: "email/1", Bits: 16, Value: "string", Index: []int{5}},
		{GoName: "Price", Name: "price", Role: lethe.RoleSecret, Kind: "shop", Group: "seller", Value: "int64", Index: []int{6}},
		{GoName: "To.Street", Name: "to.street", Column: "street", Role: lethe.RoleSecret, Kind: "customer", Value: "string", Index: []int{7, 0}},
	}, d.Fields)
}

func TestDescribeTokens(t *testing.T) {
	s, _ := payers(t, lethe.Options{})
	var got []string
	for _, f := range s.Describe().Fields {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s%s", f.GoName, f.Role, f.Of, f.Token)))
	}
	require.Equal(t, []string{
		"Keys keys", "ID subject", "Name secret", "Card token pan", "CardKey version card", "Shared token joinable", "SharedV version shared",
		"IBAN token random", "Home.Card token pan", "Home.CardV version home.card",
	}, got)
}

// Of a document the plain fields that Marshal seals are described.
func TestDescribeDocument(t *testing.T) {
	type event struct {
		_     lethe.Document `lethe:"events"`
		ID    string         `lethe:"subject=person,id"`
		Email *string        `lethe:"email"`
	}
	s, err := lethe.For[event](envelopetest.NewKeyring(t))
	require.NoError(t, err)
	require.Equal(t, lethe.Description{Record: "events", Type: "lethe_test.event", Fields: []lethe.FieldDescription{
		{GoName: "ID", Role: lethe.RoleSubject, Kind: "person", RowID: true, Value: "string", Index: []int{1}},
		{GoName: "Email", Name: "email", Role: lethe.RoleSecret, Kind: "person", Value: "string", Index: []int{2}},
	}}, s.Describe())
}

// A type is described without keys as a Sealer describes it.
func TestDescribeType(t *testing.T) {
	type row struct {
		Keys  lethe.Keys           `db:"k" lethe:"r"`
		ID    string               `db:"id" lethe:"subject=customer,id"`
		Email lethe.Secret[string] `db:"email" lethe:"email"`
	}
	s, err := lethe.For[row](envelopetest.NewKeyring(t))
	require.NoError(t, err)
	d, err := lethe.DescribeType(reflect.TypeFor[row]())
	require.NoError(t, err)
	require.Equal(t, s.Describe(), d)
	_, err = lethe.DescribeType(reflect.TypeFor[string]())
	require.Error(t, err)

	// One without a name is not written out in an error.
	_, err = lethe.DescribeType(reflect.TypeFor[struct {
		A lethe.Keys `lethe:"a"`
		B lethe.Keys `lethe:"b"`
	}]())
	require.ErrorContains(t, err, "the tags of the struct are wrong")
}

func TestDescribePlain(t *testing.T) {
	clock := newClock()
	d := movers(t, envelopetest.NewKeyring(t), moving(clock, false)).Describe()
	at := slices.IndexFunc(d.Fields, func(f lethe.FieldDescription) bool { return f.GoName == "OldBorn" })
	require.Equal(t, lethe.FieldDescription{
		GoName: "OldBorn", Role: lethe.RolePlain, Of: "born", Kind: "mover", Purpose: "age", Value: "sql.Null[time.Time]", Index: []int{7},
	}, d.Fields[at])
}
